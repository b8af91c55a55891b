"""What every arm of the benchmark is: something that is asked for architectures and told what became of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

from benchmarks.search_efficiency.problems import Case
from nas_bo.architecture import Architecture


class Session(Protocol):
    """One search. Only `ask` and `tell` are timed."""

    def ask(self) -> Architecture | None:
        """The next architecture; None when there are no more."""
        ...

    def evaluate(self, arch: Architecture) -> Any:
        """What `tell` wants to hear of it."""
        ...

    def tell(self, arch: Architecture, outcome: Any) -> None: ...

    def load(self, archs: Sequence[Architecture]) -> None:
        """Begin with a history of these architectures."""
        ...


@dataclass(frozen=True)
class Arm:
    """A searcher with its settings.

    Attributes:
        make: (case, seed) -> Session.
        settings: what distinguishes it from another of the same name, JSON-safe.
        seeds, trials: the default budget; small for those that think for seconds.
        run_minutes: processor time after which a run ends where it is.
    """

    name: str
    make: Callable[[Case, int], Session]
    settings: Mapping[str, Any]
    ours: bool = False
    packages: tuple[str, ...] = ()
    seeds: int = 10
    trials: int = 200
    run_minutes: float = 60.0
    missing: str = field(default="", compare=False)

    def fingerprint(self, case: Case) -> str:
        """12 hexadecimal digits that differ when the settings of the arm or the problem differ."""
        problem = [case.name, case.described(), case.point, case.known, dict(case.limits), dict(case.noise)]
        text = json.dumps([self.name, dict(self.settings), problem])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def versions(self) -> dict[str, str]:
        found = {}
        for package in self.packages:
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                found[package] = "missing"
        return found
