"""A learning rate for each architecture, from short runs before the real one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nas_bo.architecture import Architecture, Node
from nas_bo.errors import ObjectiveError, TrainingDiverged
from nas_bo.validated import check_fields, checked, each, number

if TYPE_CHECKING:
    from nas_bo.model.data import Corpus


@dataclass(frozen=True)
class LearningRateProbe:
    """Try the learning rate times each of `factors` in runs of `tokens` tokens with their own schedule, and take the
    best. A rate at which training diverges is out. It costs len(factors) * tokens on top of the run itself.

    Args:
        factors: of the architecture's own learning rate, or of the default 3e-3.
        tokens: of each short run.
    """

    factors: tuple[float, ...] = checked(
        (0.5, 1.0, 2.0), each(number(above=0), 2, "at least two different numbers above 0")
    )
    tokens: float = checked(25_000, number(above=0))

    def __post_init__(self) -> None:
        object.__setattr__(self, "factors", tuple(self.factors))
        check_fields(self, ObjectiveError)
        if len(set(self.factors)) < len(self.factors):
            raise ObjectiveError(f"LearningRateProbe(factors={self.factors!r}): factors must be different numbers")

    def conditions(self) -> dict[str, object]:
        """What must not change while a study continues."""
        return {"factors": list(self.factors), "tokens": int(self.tokens)}

    def __call__(
        self, arch: Architecture | Node, corpus: Corpus, seed: int, settings: Mapping[str, float | None], **how: Any
    ) -> tuple[float, list[list[float]]]:
        """The best learning rate, and [rate, bits per byte] of every one that did not diverge.

        Args:
            settings, how: those of `nas_bo.model.Training` that the real run has as well.

        Raises:
            TrainingDiverged: at every rate.
        """
        from nas_bo.model import Training
        from nas_bo.model.schedule import settings_of

        middle = settings_of(arch, settings)["lr"]
        tried = []
        for factor in self.factors:
            try:
                run = Training(arch, corpus, self.tokens, seed, settings={**settings, "lr": middle * factor}, **how)
                tried.append([middle * factor, run.to().bits_per_byte])
            except TrainingDiverged:
                continue
        if not tried:
            raise TrainingDiverged(
                f"training diverged at every learning rate of the probe, {middle:g} times {list(self.factors)}; give it "
                "smaller factors"
            )
        return min(tried, key=lambda pair: pair[1])[0], tried
