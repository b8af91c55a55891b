"""nas_bo: find language-model architectures that are good and cheap on a given device.

Importing this package loads no torch, optuna, ax, botorch, mlflow or pandas; names are resolved when first used.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas_bo.architecture import Architecture
    from nas_bo.ask_tell import AskTell
    from nas_bo.errors import NasBoError
    from nas_bo.loop import search
    from nas_bo.problem import Objective, Problem, Reported, Value
    from nas_bo.profiling import profile
    from nas_bo.result import Result
    from nas_bo.space import Space, choice, integer, option, real, repeat, require
    from nas_bo.trial import State, Trial
    from nas_bo.validation import validate

__version__ = "0.1.0"

# In a checkout that is not installed, the named spaces lie beside this folder instead of inside it (pyproject.toml,
# package-dir); this lets `python` and `pytest` in the checkout find them as `nas_bo.search_spaces` all the same.
_here = os.path.dirname(os.path.abspath(__file__))
if not os.path.isdir(os.path.join(_here, "search_spaces")) and os.path.isdir(
    os.path.join(_here, "..", "search_spaces")
):
    __path__.append(os.path.dirname(_here))

_HOME = {
    "Architecture": "architecture",
    "AskTell": "ask_tell",
    "NasBoError": "errors",
    "Objective": "problem",
    "Problem": "problem",
    "Reported": "problem",
    "Result": "result",
    "Space": "space",
    "State": "trial",
    "Trial": "trial",
    "Value": "problem",
    "choice": "space",
    "integer": "space",
    "option": "space",
    "profile": "profiling",
    "real": "space",
    "repeat": "space",
    "require": "space",
    "search": "loop",
    "validate": "validation",
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
