"""Memorisation (MAD, Poli et al. 2024, "Mechanistic design and scaling of hybrid architectures", arXiv 2403.17844,
section 3.1): facts that hold for all sequences, and so belong into the weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from nas_bo.errors import ObjectiveError
from nas_bo.objectives.proxy_task.task import Tokens, shifted
from nas_bo.seeds import settle
from nas_bo.validated import check_fields, checked, whole_number


@dataclass(frozen=True)
class Memorisation:
    """Pairs of key tokens, each followed by its value; the value of every pair is fixed by `table_seed`.

    Args:
        keys, values: vocabularies, which do not overlap. There are keys * keys facts to learn.
        facts: stated and asked in one sequence, drawn with replacement.
        table_seed: of the facts, the same for training and held-out sequences.
    """

    keys: int = checked(12, whole_number(1))
    values: int = checked(16, whole_number(2))
    facts: int = checked(16, whole_number(1))
    table_seed: int = 0
    name: str = "memorisation"

    def __post_init__(self) -> None:
        settle(self, ObjectiveError, "table_seed")
        check_fields(self, ObjectiveError)

    @property
    def vocab_size(self) -> int:
        return self.keys + self.values

    @property
    def options(self) -> int:
        return self.values

    def batch(self, rng: np.random.Generator, rows: int) -> tuple[Tokens, Tokens]:
        table = _facts(self.keys, self.values, self.table_seed)
        key = rng.integers(self.keys, size=(rows, self.facts, 2))
        value = self.keys + table[key[..., 0], key[..., 1]]
        sequence = np.concatenate((key, value[..., None]), 2).reshape(rows, -1)
        return shifted(sequence, np.broadcast_to(np.arange(sequence.shape[1]) % 3 == 2, sequence.shape))


@lru_cache(maxsize=8)
def _facts(keys: int, values: int, seed: int) -> Tokens:
    return np.random.default_rng(seed).integers(values, size=(keys, keys))
