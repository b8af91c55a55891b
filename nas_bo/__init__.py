"""nas_bo: find language-model architectures that are good and cheap on a given device.

Importing this package loads no torch, optuna, ax, botorch, mlflow or pandas; names are resolved when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nas_bo import moved

if TYPE_CHECKING:
    from nas_bo.architecture import Architecture
    from nas_bo.errors import NasBoError
    from nas_bo.problem import Objective, Problem, Reported, Value
    from nas_bo.space import Space, choice, integer, option, real, repeat, require
    from nas_bo.trial import State, Trial
    from nas_bo.workflows.ask_tell import AskTell
    from nas_bo.workflows.profile import profile
    from nas_bo.workflows.result import Result
    from nas_bo.workflows.search import search
    from nas_bo.workflows.validate import validate

__version__ = "0.1.0"

moved.install()

_HOME = {
    "Architecture": "architecture",
    "AskTell": "workflows.ask_tell",
    "NasBoError": "errors",
    "Objective": "problem",
    "Problem": "problem",
    "Reported": "problem",
    "Result": "workflows.result",
    "Space": "space",
    "State": "trial",
    "Trial": "trial",
    "Value": "problem",
    "choice": "space",
    "integer": "space",
    "option": "space",
    "profile": "workflows.profile",
    "real": "space",
    "repeat": "space",
    "require": "space",
    "search": "workflows.search",
    "validate": "workflows.validate",
}

__all__ = [
    "Architecture",
    "AskTell",
    "NasBoError",
    "Objective",
    "Problem",
    "Reported",
    "Result",
    "Space",
    "State",
    "Trial",
    "Value",
    "choice",
    "integer",
    "option",
    "profile",
    "real",
    "repeat",
    "require",
    "search",
    "validate",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        from importlib import import_module

        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
