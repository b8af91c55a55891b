"""The settings of `search`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

from nas_bo.architecture import Architecture
from nas_bo.errors import SearchError
from nas_bo.execution.executor import Executor
from nas_bo.objective import Objective
from nas_bo.optuna.storages import Storage
from nas_bo.patience import PATIENCE_S
from nas_bo.seeds import Seed, whole_seed
from nas_bo.stopping import Stopping
from nas_bo.strategies import Strategy
from nas_bo.validated import Check, check_fields, checked, number, whole_number
from nas_bo.workflows.progress import Progress
from nas_bo.workflows.tracking import Tracking

Baseline = Architecture | Mapping[str, object] | str
AnyObjective = Objective | Callable[[Architecture], float]


class SearchOptions(TypedDict, total=False):
    """What `search` takes by name, see there."""

    limits: Sequence[AnyObjective]
    proxies: Sequence[AnyObjective]
    strategy: Strategy | Literal["auto"] | None
    stopping: Stopping | None
    trials: int
    workers: int
    asynchronous: bool
    executor: Executor | None
    storage: Storage | None
    study_name: str | None
    track: Tracking | str | Path | None
    seed: Seed
    baseline: Baseline | Sequence[Baseline] | Mapping[str, Baseline] | None
    retrain: float
    retrain_others: int
    enqueue: Sequence[Architecture | Mapping[str, object]]
    adopt_after: float | None
    timeout: float | None
    hours: float | None
    storage_patience: float
    on_progress: Callable[[Progress], object] | None


def _offers(kind: type, must: str) -> Check:
    """An instance of a protocol, or None."""
    return Check(must, lambda value: isinstance(value, kind) and not isinstance(value, type)).or_none()


def _or_auto(check: Check) -> Check:
    return Check(check.must, lambda value: check.holds(value) or (isinstance(value, str) and value == "auto"))


SECONDS = Check("a number of seconds above 0", number(above=0).holds)
MULTIPLE = number(at_least=0.1, at_most=1000)
TIMES = Check(
    "a multiple of the budget such as 2 (from 0.1 to 1000), or 0 for none",
    lambda value: MULTIPLE.holds(value) or (value == 0 and not isinstance(value, bool)),
)


@dataclass(frozen=True)
class SearchSettings:
    """What `search` was asked for, checked; its fields are described there. The seed is a whole number.

    Raises:
        SearchError: a value that is not what it must be.
    """

    limits: Sequence[AnyObjective] = ()
    proxies: Sequence[AnyObjective] = ()
    strategy: Strategy | Literal["auto"] | None = checked(
        None, _or_auto(_offers(Strategy, 'an object with suggest(problem, trials, n), such as Bayes(), or "auto"'))
    )
    stopping: Stopping | None = checked(
        None, _offers(Stopping, "an object with judge(problem, trials, arch), such as SuccessiveHalving()")
    )
    trials: int = checked(40, whole_number(1))
    workers: int = checked(1, whole_number(1))
    asynchronous: bool = checked(False, Check("True or False", lambda value: isinstance(value, bool)))
    executor: Executor | None = None
    storage: Storage | None = None
    study_name: str | None = None
    track: Tracking | str | Path | None = None
    seed: int = 0
    baseline: Baseline | Sequence[Baseline] | Mapping[str, Baseline] | None = "standard"
    retrain: float = checked(2.0, TIMES)
    retrain_others: int = checked(4, whole_number(0))
    enqueue: Sequence[Architecture | Mapping[str, object]] = ()
    adopt_after: float | None = checked(None, SECONDS.or_none())
    timeout: float | None = checked(None, SECONDS.or_none())
    hours: float | None = checked(None, Check("a number of hours above 0", number(above=0).holds).or_none())
    storage_patience: float = checked(PATIENCE_S, Check("a number of seconds of at least 0", number(at_least=0).holds))
    on_progress: Callable[[Progress], object] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", whole_seed(self.seed, "search"))
        check_fields(self, SearchError, "search")

    def notify(self, progress: Progress) -> None:
        if self.on_progress is not None:
            self.on_progress(progress)
