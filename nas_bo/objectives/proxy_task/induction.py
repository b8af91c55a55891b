"""Induction (Olsson et al. 2022, "In-context learning and induction heads", arXiv 2209.11895: random tokens repeated)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas_bo.errors import ObjectiveError
from nas_bo.objectives.proxy_task.task import Tokens, distinct, shifted
from nas_bo.validated import check_fields, checked, whole_number


@dataclass(frozen=True)
class InductionHeads:
    """A random sequence of different tokens, then a stretch of it again from a random place: continue as before.

    Args:
        tokens: vocabulary.
        length: of the random sequence.
        repeated: tokens of the stretch; the first cannot be known and is not scored.
    """

    tokens: int = checked(32, whole_number(2))
    length: int = checked(16, whole_number(2))
    repeated: int = checked(8, whole_number(2))
    name: str = "induction_heads"

    def __post_init__(self) -> None:
        check_fields(self, ObjectiveError)
        if self.length > self.tokens or self.repeated > self.length:
            raise ObjectiveError(
                f"InductionHeads(tokens={self.tokens}, length={self.length}, repeated={self.repeated}): length is at "
                "most tokens, so that they differ, and repeated at most length"
            )

    @property
    def vocab_size(self) -> int:
        return self.tokens

    @property
    def options(self) -> int:
        return self.tokens

    def batch(self, rng: np.random.Generator, rows: int) -> tuple[Tokens, Tokens]:
        first = distinct(rng, rows, self.length, self.tokens)
        start = rng.integers(self.length - self.repeated + 1, size=(rows, 1))
        again = np.take_along_axis(first, start + np.arange(self.repeated), 1)
        scored = np.arange(self.length + self.repeated) > self.length
        return shifted(np.concatenate((first, again), 1), np.broadcast_to(scored, (rows, len(scored))))
