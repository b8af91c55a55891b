"""Multi-query associative recall (Arora et al. 2023, "Zoology: measuring and improving recall in efficient language
models", arXiv 2312.04927, section 3; in-context recall of MAD, Poli et al. 2024, arXiv 2403.17844, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas_bo.errors import ObjectiveError
from nas_bo.objectives.proxy_task.task import Tokens, distinct, shifted
from nas_bo.validated import check_fields, checked, whole_number
from nas_bo.wording import counted


@dataclass(frozen=True)
class AssociativeRecall:
    """`pairs` keys, each followed by its value, then every key again in another order: what was its value?

    Which value belongs to a key is drawn again for every sequence, so it cannot be learned, only looked up.

    Args:
        pairs: to remember.
        keys, values: vocabularies, which do not overlap; keys within a sequence differ.
        key_length: tokens of a key; with more than one this is the fuzzy recall of MAD (with a fixed length).
    """

    pairs: int = checked(6, whole_number(1))
    keys: int = checked(16, whole_number(2))
    values: int = checked(16, whole_number(2))
    key_length: int = checked(1, whole_number(1))
    name: str = "associative_recall"

    def __post_init__(self) -> None:
        check_fields(self, ObjectiveError)
        if self.keys**self.key_length < self.pairs:
            raise ObjectiveError(
                f"AssociativeRecall(pairs={self.pairs}): only {counted(self.keys**self.key_length, 'different key')} can be made "
                f"of {counted(self.keys, 'token')} and key_length={self.key_length}; use fewer pairs or more keys"
            )
        if self.keys**self.key_length > 1 << 16:
            raise ObjectiveError(
                f"AssociativeRecall: {counted(self.keys, 'token')} and key_length={self.key_length} make more than 65,536 keys; "
                "use fewer"
            )

    @property
    def vocab_size(self) -> int:
        return self.keys + self.values

    @property
    def options(self) -> int:
        return self.values

    def batch(self, rng: np.random.Generator, rows: int) -> tuple[Tokens, Tokens]:
        chosen = distinct(rng, rows, self.pairs, self.keys**self.key_length)
        digits = [chosen // self.keys**i % self.keys for i in range(self.key_length)]
        value = self.keys + rng.integers(self.values, size=(rows, self.pairs))
        told = np.stack([*digits, value], 2)  # (rows, pairs, key_length + 1)
        order = distinct(rng, rows, self.pairs, self.pairs)
        asked = np.take_along_axis(told, order[..., None], 1)
        answers = np.zeros(told.shape, bool)
        answers[..., -1] = True
        sequence = np.concatenate((told, asked), 1).reshape(rows, -1)
        return shifted(sequence, np.concatenate((np.zeros_like(answers), answers), 1).reshape(rows, -1))
