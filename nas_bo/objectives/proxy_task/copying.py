"""Selective copying (Gu and Dao 2023, "Mamba: linear-time sequence modeling with selective state spaces", arXiv
2312.00752, section 3.1; in MAD, Poli et al. 2024, arXiv 2403.17844, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas_bo.errors import ObjectiveError
from nas_bo.objectives.proxy_task.task import Tokens, shifted
from nas_bo.validated import check_fields, checked, whole_number


@dataclass(frozen=True)
class SelectiveCopying:
    """Tokens scattered among blanks, then a marker: write the tokens in their order.

    Args:
        tokens: vocabulary, blank and marker not counted.
        length: positions among which they are scattered.
        copied: how many there are.
    """

    tokens: int = checked(16, whole_number(2))
    length: int = checked(24, whole_number(1))
    copied: int = checked(8, whole_number(1))
    name: str = "selective_copying"

    def __post_init__(self) -> None:
        check_fields(self, ObjectiveError)
        if self.copied > self.length:
            raise ObjectiveError(f"SelectiveCopying(copied={self.copied}): they do not fit into length={self.length}")

    @property
    def vocab_size(self) -> int:
        return self.tokens + 2

    @property
    def options(self) -> int:
        return self.tokens

    def batch(self, rng: np.random.Generator, rows: int) -> tuple[Tokens, Tokens]:
        blank, marker = self.tokens, self.tokens + 1
        places = np.sort(rng.random((rows, self.length)).argsort(1)[:, : self.copied], 1)
        content = rng.integers(self.tokens, size=(rows, self.copied))
        field = np.full((rows, self.length), blank)
        np.put_along_axis(field, places, content, 1)
        sequence = np.concatenate((field, np.full((rows, 1), marker), content), 1)
        scored = np.arange(sequence.shape[1]) > self.length
        return shifted(sequence, np.broadcast_to(scored, sequence.shape))
