"""The contract of a synthetic task, and the random streams that keep its training and held-out sequences apart."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

IGNORED = -100
"""The target of a position that is not scored; torch's cross entropy ignores it."""

Tokens = NDArray[np.int64]


@runtime_checkable
class Task(Protocol):
    """A synthetic sequence task. No base class is needed; frozen dataclasses are compared and stored by their fields.

    Attributes:
        name: what its score appears under.
        vocab_size: number of token ids.
        options: how many answers a guess is among; guessing is right in 1 / options of the cases and costs
            log2(options) bits.
    """

    @property
    def name(self) -> str: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def options(self) -> int: ...

    def batch(self, rng: np.random.Generator, rows: int) -> tuple[Tokens, Tokens]:
        """tokens and targets, both (rows, length) of type int64; the target of a position is the token that follows
        it, or `IGNORED`. The same generator state gives the same batch; every row has at least one target."""


def stream(seed: int, part: int, index: int) -> np.random.Generator:
    """The generator of one batch: it depends on (seed, part, index) alone. Part 0 trains, part 1 is held out."""
    return np.random.Generator(np.random.Philox(key=seed % (1 << 64), counter=[0, index, part, 0]))


def shifted(sequence: Tokens, scored: NDArray[np.bool_]) -> tuple[Tokens, Tokens]:
    """sequence (rows, length + 1) and which of its tokens are answers -> tokens and targets (rows, length)."""
    return sequence[:, :-1].copy(), np.where(scored, sequence, IGNORED)[:, 1:]


def distinct(rng: np.random.Generator, rows: int, n: int, below: int) -> Tokens:
    """(rows, n) integers below `below`, different within each row."""
    return rng.random((rows, below)).argsort(1)[:, :n].astype(np.int64)
