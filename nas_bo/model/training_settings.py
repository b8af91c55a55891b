"""The settings of a training run beyond its architecture, text, budget and seed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from nas_bo.errors import ModelError
from nas_bo.model.schedule import DEFAULTS, EVALUATION_TOKENS, check_names
from nas_bo.settings import settings_of
from nas_bo.validated import check_fields, checked, number, whole_number

if TYPE_CHECKING:
    import torch

    from nas_bo.model.distillation import Teaching
    from nas_bo.model.own_model import Build
    from nas_bo.model.parametrization import Parametrization
    from nas_bo.model.training_loop import Progress


class Schedule(TypedDict, total=False):
    """The part of a recipe that a supernet has as well."""

    lr: float | None
    weight_decay: float | None
    batch_size: int | None
    sequence: int | None
    warmup: float | None
    decay: float | None
    clip: float | None


class Recipe(Schedule, total=False):
    """What may also be a field at the top level of an architecture; see `nas_bo.model.train`."""

    embedding_power: float | None


class Place(TypedDict, total=False):
    """Where and how any run is computed."""

    device: torch.device | str | None
    bf16: bool | None
    threads: int | None
    ignore: Collection[str]


class Machine(Place, total=False):
    """Where and how a run is computed; see `nas_bo.model.train`."""

    evaluation_tokens: int
    gpus_per_trial: int


class TrainingOptions(Recipe, Machine, total=False):
    """What `nas_bo.model.train` takes by name, see there."""

    validate_at: Collection[float]
    progress: Progress | None
    checkpoint: str | Path | None
    build: Build | None
    teacher: Teaching | None
    first_weights: str | None
    parametrization: Parametrization | str | None


@dataclass(frozen=True)
class TrainingSettings:
    """What `train` takes by name, as one value; the fields are described there.

    Raises:
        ModelError: a value is out of range. Those from `lr` to `embedding_power` are checked with the architecture, which may
            have them as well.
    """

    lr: float | None = None
    weight_decay: float | None = None
    batch_size: int | None = None
    sequence: int | None = None
    warmup: float | None = None
    decay: float | None = None
    clip: float | None = None
    embedding_power: float | None = None
    validate_at: Collection[float] = ()
    device: torch.device | str | None = None
    bf16: bool | None = None
    threads: int | None = checked(1, whole_number(1).or_none())
    ignore: Collection[str] = ()
    progress: Progress | None = None
    checkpoint: str | Path | None = None
    evaluation_tokens: int = checked(EVALUATION_TOKENS, number(at_least=0))
    build: Build | None = None
    teacher: Teaching | None = None
    first_weights: str | None = None
    parametrization: Parametrization | str | None = None
    gpus_per_trial: int = checked(1, whole_number(1))

    def __post_init__(self) -> None:
        check_fields(self, ModelError)

    def recipe(self) -> dict[str, float | None]:
        """The fields that an architecture may have as well; None is what it says, else a default."""
        return {name: vars(self)[name] for name in DEFAULTS}


def given(
    who: str, settings: TrainingSettings | Mapping[str, float | None] | None, options: Mapping[str, object]
) -> TrainingSettings:
    """The settings of a call of `who`: given as a whole, or as a mapping of those that an architecture may have, and by name.

    Raises:
        ModelError: a value is out of range, or the mapping has another name.
        TypeError: a name that there is not.
    """
    if isinstance(settings, Mapping):
        check_names(settings)
        return settings_of(TrainingSettings, who, {**settings, **options})
    return settings_of(TrainingSettings, who, options, settings)
