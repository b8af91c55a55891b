"""A source of known entropy (Shannon 1948, "A mathematical theory of communication", section 4: text as a Markov process):
learning it is compressing it. The compression-like task; that of MAD (Poli et al. 2024, arXiv 2403.17844) reads the whole
sequence back from one position and needs a model with a bottleneck, which a decoder has not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from nas_bo.errors import ObjectiveError
from nas_bo.objectives.proxy_task.task import Tokens, shifted
from nas_bo.seeds import settle
from nas_bo.validated import check_fields, checked, whole_number

LARGEST = 1 << 16


@dataclass(frozen=True)
class MarkovSource:
    """Sequences from one fixed Markov chain: the next token depends on the last `order` ones, `far` of them skipped.

    Every context allows `branching` tokens, with probabilities proportional to 1, 1/2, 1/3, ... The chain is fixed by
    `table_seed`, so it is learned in the weights; which tokens came before must be seen in the context.

    Args:
        tokens: vocabulary.
        order: tokens of a context. There are tokens**order contexts.
        branching: successors of a context.
        far: tokens between the context and what depends on it; 0 is the ordinary chain.
        length: of a sequence.
        table_seed: of the chain, the same for training and held-out sequences.
    """

    tokens: int = checked(16, whole_number(2))
    order: int = checked(2, whole_number(1))
    branching: int = checked(4, whole_number(1))
    far: int = checked(0, whole_number(0))
    length: int = checked(32, whole_number(2))
    table_seed: int = 0
    name: str = "markov_source"

    def __post_init__(self) -> None:
        settle(self, ObjectiveError, "table_seed")
        check_fields(self, ObjectiveError)
        if self.tokens**self.order > LARGEST:
            raise ObjectiveError(
                f"MarkovSource(tokens={self.tokens}, order={self.order}): {self.tokens**self.order:,} contexts are "
                f"more than {LARGEST:,}; use fewer tokens or a lower order"
            )
        if self.branching > self.tokens or self.length <= self.order + self.far:
            raise ObjectiveError(
                f"MarkovSource(branching={self.branching}, length={self.length}): branching is at most tokens="
                f"{self.tokens}, and length above order + far = {self.order + self.far}"
            )

    @property
    def vocab_size(self) -> int:
        return self.tokens

    @property
    def options(self) -> int:
        return self.tokens

    @property
    def entropy_bits(self) -> float:
        """Of one token given its context: no model does better on average."""
        p = _chances(self.branching)
        return float(-(p * np.log2(p)).sum())

    def batch(self, rng: np.random.Generator, rows: int) -> tuple[Tokens, Tokens]:
        table = _successors(self.tokens, self.order, self.branching, self.table_seed)
        past = self.order + self.far
        sequence = np.empty((rows, self.length + 1), np.int64)
        sequence[:, :past] = rng.integers(self.tokens, size=(rows, past))
        place = self.tokens ** np.arange(self.order)
        drawn = rng.choice(self.branching, size=sequence.shape, p=_chances(self.branching))
        for at in range(past, self.length + 1):
            context = sequence[:, at - past : at - self.far] @ place
            sequence[:, at] = table[context, drawn[:, at]]
        scored = np.arange(self.length + 1) >= past
        return shifted(sequence, np.broadcast_to(scored, sequence.shape))


def _chances(branching: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    p: np.ndarray[tuple[int], np.dtype[np.float64]] = 1 / np.arange(1, branching + 1)
    p /= p.sum()
    return p


@lru_cache(maxsize=8)
def _successors(tokens: int, order: int, branching: int, seed: int) -> Tokens:
    """(contexts, branching): the allowed tokens of each context, most probable first."""
    rng = np.random.default_rng(seed)
    return rng.random((tokens**order, tokens)).argsort(1)[:, :branching].astype(np.int64)
