"""The settings of a training run, and the factor on its learning rate from the first step to the last."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from nas_bo.architecture import Architecture
from nas_bo.errors import ModelError
from nas_bo.validated import number, whole_number

DEFAULTS: dict[str, float] = {
    "lr": 3e-3,
    "weight_decay": 0.1,
    "batch_size": 8,
    "sequence": 64,
    "warmup": 0.05,
    "decay": 0.25,
    "clip": 1.0,
    "embedding_power": 0.0,
}
"""What `train` reads from the top level of an architecture when it is there, and uses when it is not."""

EVALUATION_TOKENS = 65_536
"""Held-out tokens that a trained model is evaluated on."""

SHARE = number(at_least=0, at_most=1)
CHECKS = {
    **dict.fromkeys(("lr", "weight_decay", "clip"), number(at_least=0)),
    **dict.fromkeys(("batch_size", "sequence"), whole_number(1)),
    **dict.fromkeys(("warmup", "decay", "embedding_power"), SHARE),
}


def check_names(given: Mapping[str, float | None]) -> None:
    """Raise ModelError for a setting that does not exist."""
    unknown = sorted(set(given) - set(DEFAULTS))
    if unknown:
        raise ModelError(f"unknown training setting {unknown[0]!r}; there are: {', '.join(DEFAULTS)}")


def settings_of(fields: object, given: Mapping[str, float | None]) -> dict[str, float]:
    """The settings of a run: those given, else the fields of an architecture, else `DEFAULTS`.

    Raises:
        ModelError: a setting is out of range, or there is no such setting.
    """
    check_names(given)
    settings = {}
    for name, default in DEFAULTS.items():
        value = given.get(name)
        if value is None:
            value = fields.get(name, default) if isinstance(fields, (Architecture, Mapping)) else default
        if not CHECKS[name].holds(value):
            raise ModelError(f"{name}={value!r} must be {CHECKS[name].must}")
        settings[name] = value
    if not settings["embedding_power"]:  # not named where it is not used, so that older checkpoints can be continued
        del settings["embedding_power"]
    return settings


@dataclass(frozen=True)
class Schedule:
    """Warm-up, constant, linear decay to zero (Hu et al. 2024, arXiv 2404.06395): a prefix of a run before its decay
    is the same whatever comes after it, so that one run serves several budgets.

    Args:
        steps: of the whole run.
        warmup, decay: shares of the steps.
    """

    steps: int
    warmup: float
    decay: float

    @property
    def warm(self) -> int:
        """Steps of the warm-up."""
        return math.ceil(self.warmup * self.steps)

    @property
    def cool(self) -> int:
        """Steps of the decay."""
        return math.ceil(self.decay * self.steps)

    def rate(self, step: int) -> float:
        """The factor on the learning rate of step 0, 1, ..."""
        up = (step + 1) / (self.warm + 1) if step < self.warm else 1.0
        left = self.steps - step
        return min(up, left / (self.cool + 1)) if left <= self.cool else up

    def after(self, share: float) -> int:
        """The steps after which a share (0 to 1) of the run is done; at least one."""
        return max(1, min(self.steps, round(share * self.steps)))
