"""What a ladder is asked for, as one value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from nas_bo.errors import SearchError
from nas_bo.execution.executor import Executor
from nas_bo.foreign_recipe import Allow
from nas_bo.model.larger import GrowthRule
from nas_bo.model.parametrization import Parametrization, parametrization_of
from nas_bo.report.ranks import FEWEST
from nas_bo.seeds import Seed, whole_seed
from nas_bo.validated import Check, check_fields, checked, is_number, number, whole_number
from nas_bo.workflows.baselines import STANDARD
from nas_bo.workflows.progress import Progress
from nas_bo.workflows.tracking import Tracking

LEAST_RUNGS, MOST_RUNGS = 3, 12  # two that predict, and one that they are judged on


def _holds(value: object) -> bool:
    if isinstance(value, int) and not isinstance(value, bool):
        return LEAST_RUNGS <= value <= MOST_RUNGS
    if isinstance(value, str) or not isinstance(value, Sequence) or not LEAST_RUNGS <= len(value) <= MOST_RUNGS:
        return False
    return all(is_number(one) and one >= 1 for one in value) and list(value) == sorted(set(value))


RUNGS = Check(
    f"a number of rungs from {LEAST_RUNGS} to {MOST_RUNGS}, or that many sizes as multiples of the searched one, such as [1, 4, 16]: each at least 1 and larger "
    "than the one before",
    _holds,
    "a rung that does not grow decides nothing",
)


class LadderOptions(TypedDict, total=False):
    """What `ladder` takes by name, see there."""

    rungs: int | Sequence[float]
    factor: float
    tokens_per_parameter: float
    seeds: int
    architectures: int
    baseline: object
    parametrization: Parametrization | str | None
    grow: GrowthRule | None
    most_repeats: float
    keep: str | Path | None
    checkpoints: str | Path | None
    workers: int
    executor: Executor | None
    timeout: float | None
    track: Tracking | str | Path | None
    allow: Allow
    seed: Seed
    on_progress: Callable[[Progress], object] | None


@dataclass(frozen=True)
class LadderSettings:
    """What `ladder` was asked for, checked; its fields are described there.

    Raises:
        SearchError: a value that is not what it must be.
    """

    rungs: int | Sequence[float] = checked(3, RUNGS)
    factor: float = checked(4.0, number(at_least=1.2, at_most=1000))
    tokens_per_parameter: float = checked(20.0, number(above=0))
    seeds: int = checked(2, whole_number(1))
    architectures: int = checked(12, whole_number(FEWEST))
    baseline: object = STANDARD
    parametrization: Parametrization | str | None = "completep"
    grow: GrowthRule | None = None
    most_repeats: float = checked(4.0, number(above=0))
    keep: str | Path | None = None
    checkpoints: str | Path | None = None
    workers: int = checked(1, whole_number(1))
    executor: Executor | None = None
    timeout: float | None = checked(None, Check("a number of seconds above 0", number(above=0).holds).or_none())
    track: Tracking | str | Path | None = None
    allow: Allow = ()
    seed: int = 0
    on_progress: Callable[[Progress], object] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", whole_seed(self.seed, "ladder"))
        check_fields(self, SearchError, "ladder")
        parametrization_of(self.parametrization, "ladder")

    @property
    def factors(self) -> tuple[float, ...]:
        """The size of every rung as a multiple of the searched one."""
        if isinstance(self.rungs, int):
            return tuple(self.factor**rung for rung in range(self.rungs))
        return tuple(float(one) for one in self.rungs)

    def notify(self, progress: Progress) -> None:
        if self.on_progress is not None:
            self.on_progress(progress)
