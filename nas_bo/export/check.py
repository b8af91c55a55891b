"""An export is believed once another program has given the same logits from its files as the decoder that was trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nas_bo.errors import ExportError
from nas_bo.export.fits import attentions
from nas_bo.wording import counted

if TYPE_CHECKING:
    from nas_bo.model import Decoder

BOUND = 1e-3  # of the logits, in float32
POSITIONS, CONTINUED = 64, 24  # tokens whose logits are compared, at least; and tokens written after a prompt
WIDEST = 4096  # a window that is filled for the comparison: one more token would be needed to see it
MOST_LOST = 0.5  # bits per token that fewer bits of the weights may cost: what costs more is broken, or of no use

Logits = np.ndarray


@dataclass(frozen=True)
class Check:
    """What another program gave.

    Attributes:
        runtime: and its version.
        difference: the largest of any logit; ``scale`` is their standard deviation.
        greedy: whether the most probable tokens, one after another, were the same.
        cached: whether the difference is also that of tokens that were given one by one, to its cache.
        positions: how many tokens' logits were compared; all windows of attention are shorter, but for those in `unfilled`.
    """

    runtime: str
    difference: float
    scale: float
    greedy: bool
    cached: bool = False
    positions: int = POSITIONS
    unfilled: tuple[int, ...] = ()

    @property
    def good(self) -> bool:
        return self.difference <= BOUND * max(1.0, self.scale) and self.greedy

    def __str__(self) -> str:
        same = (
            f"the same {CONTINUED} greedy tokens"
            if self.greedy
            else f"other tokens than the decoder among {CONTINUED} greedy ones"
        )
        cached = ", with its cache too" if self.cached else ""
        left = "".join(f"; windows of {width} tokens were not filled" for width in self.unfilled)
        return f"{self.runtime}: largest difference of {self.positions} tokens' logits {self.difference:.2g} (they spread by {self.scale:.2g}){cached}, {same}{left}"


@dataclass(frozen=True)
class HeldOut:
    """Text that says what fewer bits of the weights cost.

    Attributes:
        windows: (N, T + 1) token ids, each without a past.
        bytes_per_token: 1 where nobody knows.
        name: whose text it is, for people.
    """

    windows: Logits
    bytes_per_token: float
    name: str


@dataclass(frozen=True)
class Cost:
    """What another program makes of a text with weights of fewer bits, where logits cannot be equal.

    Attributes:
        before: bits per byte of the model in float32; `after` with the file.
        text: what was read, and `tokens` of it.
        agreed: the share of tokens after which both find the same one most probable.
        continued: token ids after a prompt, the most probable ones.
    """

    runtime: str
    before: float
    after: float
    bytes_per_token: float
    tokens: int
    text: str
    agreed: float
    continued: tuple[int, ...]

    @property
    def good(self) -> bool:
        return self.after - self.before <= MOST_LOST / self.bytes_per_token

    def __str__(self) -> str:
        return (
            f"{self.runtime}: {self.after:.4f} bits per byte of {self.text} ({counted(self.tokens, 'token')}), in float32 {self.before:.4f} "
            f"({self.after - self.before:+.4f}); the same token is the most probable after {self.agreed:.1%}"
        )


def windows(model: Decoder) -> set[int]:
    """The different windows of its attentions, in tokens."""
    return {one.window for one in attentions(model.spec) if one.window is not None}


def prompt(model: Decoder) -> list[int]:
    """Token ids from all over the vocabulary: so many that tokens fall out of every window (a wrong one is seen only there), but not
    more than the model takes in addition to those to be continued."""
    most = model.spec.details.max_length
    wanted = max(POSITIONS, *(width + CONTINUED for width in windows(model) if width <= WIDEST), 0)
    count = wanted if most is None else max(1, min(wanted, most - CONTINUED))
    draws = np.random.default_rng(0)
    return [int(one) for one in draws.integers(0, model.vocab_size, count)]


def own(model: Decoder, tokens: Sequence[Sequence[int]] | np.ndarray) -> Logits:
    """(B, T) ids -> (B, T, V) logits of the decoder, in float32."""
    import torch

    with torch.inference_mode():
        found: Logits = model(torch.as_tensor(tokens)).float().cpu().numpy()
    return found


def says_something(model: Decoder, name: str) -> None:
    """Raise ExportError for a model whose logits are not finite, or do not depend on what they are of: any export would seem equal."""
    logits = own(model, [prompt(model)])
    wrong = "are not all finite" if not np.isfinite(logits).all() else "are all equal" if not logits.std() else ""
    if wrong:
        raise ExportError(
            f"the logits of the model in {name!r} {wrong}: its weights are damaged, or its training diverged, so there is nothing to compare an "
            "export with; train it again, or take a copy of its folder that is whole"
        )


def compared(model: Decoder, runtime: str, logits: Callable[[list[int]], Logits]) -> Check:
    """The decoder compared with another program.

    Args:
        logits: token ids -> (tokens, vocabulary) logits of that program.
    """
    ids = prompt(model)
    expected, got = own(model, [ids])[0], logits(ids)
    if got.shape != expected.shape:
        return Check(runtime, float("inf"), float(expected.std()), False)
    unfilled = tuple(sorted(width for width in windows(model) if width >= len(ids)))
    difference = float(np.abs(got - expected).max())
    difference = difference if np.isfinite(got).all() else float("inf")
    ours, theirs = list(ids[:8]), list(ids[:8])
    for _ in range(CONTINUED):
        a, b = own(model, [ours])[0, -1], logits(theirs)[-1]
        chosen, other = int(a.argmax()), int(b.argmax())
        if a[chosen] - a[other] <= 2 * BOUND:  # a tie, within what may differ
            other = chosen
        ours.append(chosen)
        theirs.append(other)
    return Check(runtime, difference, float(expected.std()), ours == theirs, positions=len(ids), unfilled=unfilled)


def weighed(model: Decoder, runtime: str, logits: Callable[[list[int]], Logits], held_out: HeldOut) -> Cost:
    """The loss on a text, of the decoder and of another program; `logits` as of `compared`."""
    sums, same = np.zeros(2), 0
    for window in held_out.windows:
        ids, after = [int(one) for one in window[:-1]], np.asarray(window[1:], np.int64)
        ours = own(model, [ids])[0].astype(np.float64)
        theirs = logits(ids).astype(np.float64)
        sums += [_nats(ours, after), _nats(theirs, after)]
        same += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
    tokens = held_out.windows[:, 1:].size
    before, found = (float(one) / tokens / math.log(2) / held_out.bytes_per_token for one in sums)
    ids = prompt(model)[:8]
    for _ in range(CONTINUED):
        ids.append(int(logits(ids)[-1].argmax()))
    return Cost(runtime, before, found, held_out.bytes_per_token, tokens, held_out.name, same / tokens, tuple(ids[8:]))


def _nats(logits: Logits, after: Logits) -> float:
    """(T, V) logits, (T,) ids -> the sum of negative log-likelihoods; infinite where logits are not finite."""
    if not np.isfinite(logits).all():
        return float("inf")
    top = logits.max(-1, keepdims=True)
    sums = np.log(np.exp(logits - top).sum(-1)) + top[:, 0]
    return float((sums - logits[np.arange(len(after)), after]).sum())


def require(check: Check | Cost, where: str) -> None:
    """Raise ExportError where the files give something else."""
    if isinstance(check, Cost) and not check.good:
        raise ExportError(
            f"with fewer bits the model is of little use any more ({check}), where at most {MOST_LOST:g} bits per token may be lost, so it "
            f"is not handed over; what was written is kept in {where!r}. Take more bits"
        )
    if not check.good:
        raise ExportError(
            f"the export does not compute what the trained model computes ({check}), so it is not handed over; what was written is "
            f"kept in {where!r} to be looked at. Please report this, and export to another format"
        )
