"""An export is believed once another program has given the same logits from its files as the decoder that was trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nas_bo.errors import ExportError

if TYPE_CHECKING:
    from nas_bo.model import Decoder

BOUND = 1e-3  # of the logits, in float32
POSITIONS, CONTINUED = 64, 24

Logits = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Check:
    """What another program gave.

    Attributes:
        runtime: and its version.
        difference: the largest of any logit; ``scale`` is their standard deviation.
        greedy: whether the most probable tokens, one after another, were the same.
    """

    runtime: str
    difference: float
    scale: float
    greedy: bool

    @property
    def good(self) -> bool:
        return self.difference <= BOUND * max(1.0, self.scale) and self.greedy

    def __str__(self) -> str:
        same = (
            f"the same {CONTINUED} greedy tokens"
            if self.greedy
            else f"other tokens than the decoder among {CONTINUED} greedy ones"
        )
        return f"{self.runtime}: largest difference of {POSITIONS} tokens' logits {self.difference:.2g} (they spread by {self.scale:.2g}), {same}"


def prompt(model: Decoder) -> list[int]:
    """Token ids from all over the vocabulary, as many as the model takes in addition to those to be continued."""
    most = model.spec.details.max_length
    count = POSITIONS if most is None else max(1, min(POSITIONS, most - CONTINUED))
    draws = np.random.default_rng(0)
    return [int(one) for one in draws.integers(0, model.vocab_size, count)]


def compared(model: Decoder, runtime: str, logits: Callable[[list[int]], Logits]) -> Check:
    """The decoder compared with another program.

    Args:
        logits: token ids -> (tokens, vocabulary) logits of that program.
    """
    import torch

    def own(ids: list[int]) -> Logits:
        with torch.inference_mode():
            found: Logits = model(torch.tensor([ids]))[0].float().cpu().numpy()
        return found

    ids = prompt(model)
    expected, got = own(ids), logits(ids)
    if got.shape != expected.shape:
        return Check(runtime, float("inf"), float(expected.std()), False)
    difference = float(np.abs(got - expected).max())
    difference = difference if np.isfinite(got).all() else float("inf")
    ours, theirs = list(ids[:8]), list(ids[:8])
    for _ in range(CONTINUED):
        a, b = own(ours)[-1], logits(theirs)[-1]
        chosen, other = int(a.argmax()), int(b.argmax())
        if a[chosen] - a[other] <= 2 * BOUND:  # a tie, within what may differ
            other = chosen
        ours.append(chosen)
        theirs.append(other)
    return Check(runtime, difference, float(expected.std()), ours == theirs)


def require(check: Check, where: str) -> None:
    """Raise ExportError where the files give something else."""
    if not check.good:
        raise ExportError(
            f"the export does not compute what the trained model computes ({check}), so it is not handed over; what was written is "
            f"kept in {where!r} to be looked at. Please report this, and export to another format"
        )
