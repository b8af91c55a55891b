"""The settings of a supernet's training beyond its space, text, budget and seed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nas_bo.architecture import Architecture
from nas_bo.errors import ModelError
from nas_bo.model.schedule import DEFAULTS
from nas_bo.model.training_settings import Place, Schedule
from nas_bo.supernet.sampling import Sampling
from nas_bo.validated import check_fields, checked, number, whole_number

if TYPE_CHECKING:
    import torch

    from nas_bo.model.training_loop import Progress


class SupernetOptions(Schedule, Place, total=False):
    """What `nas_bo.supernet.train_supernet` takes by name, see there."""

    sampling: Sampling | None
    distill: float
    checkpoint: str | Path | None
    save_every_s: float
    validate: Sequence[Architecture]
    validate_at: Collection[float]
    progress: Progress | None


@dataclass(frozen=True)
class SupernetSettings:
    """What `train_supernet` takes by name, as one value; the fields are described there.

    Raises:
        ModelError: a value is out of range. Those from `lr` to `clip` are checked when the training begins.
    """

    sampling: Sampling | None = None
    distill: float = checked(0.0, number(at_least=0, at_most=1).advise("it is a share of the loss"))
    lr: float | None = None
    weight_decay: float | None = None
    batch_size: int | None = None
    sequence: int | None = None
    warmup: float | None = None
    decay: float | None = None
    clip: float | None = None
    checkpoint: str | Path | None = None
    save_every_s: float = checked(60.0, number(at_least=0))
    validate: Sequence[Architecture] = ()
    validate_at: Collection[float] = ()
    device: torch.device | str | None = None
    bf16: bool | None = None
    threads: int | None = checked(1, whole_number(1).or_none())
    ignore: Collection[str] = ()
    progress: Progress | None = None

    def __post_init__(self) -> None:
        check_fields(self, ModelError)

    def recipe(self) -> dict[str, float | None]:
        """Those that `nas_bo.model.train` has as well; None is a default."""
        return {name: value for name, value in vars(self).items() if name in DEFAULTS}
