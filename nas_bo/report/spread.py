"""Which architectures to check an estimate on: across the range of sizes and of estimates, not only the winners."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

import numpy as np


def across(
    sizes: Sequence[float],
    scores: Sequence[float],
    n: int,
    *,
    preferred: Collection[int] = (),
    taken: Collection[int] = (),
    seed: int = 0,
) -> list[int]:
    """Places of `n` architectures, spread over size and, within every size, from good to bad estimates.

    The architectures are cut into about n/2 strata of equal numbers by size. The strata take turns: first each gives
    one of its preferred (those that cost nothing, since they are trained), or one at random; then the one that lies
    farthest from what it has given. What is in `taken` counts as given but is not chosen.

    Args:
        sizes: parameter counts, or anything that stands for size; nan counts as the middle.
        scores: estimates, smaller is better; nan where there are none.
    """
    free = [i for i in range(len(sizes)) if i not in set(taken)]
    if n <= 0 or not free:
        return []
    rng = random.Random(seed)
    place = _places(sizes)
    # the estimate as a rank among those of about the same size: what it says beyond size
    beyond = _places(_beyond(place, np.asarray(scores, dtype=float)))
    points = np.stack([place, beyond], 1)
    strata = [list(part) for part in np.array_split(np.argsort(place, kind="stable"), max(1, min(n, (n + 1) // 2)))]
    order = _from_the_ends(len(strata))
    chosen: list[int] = []
    given = list(taken)
    while len(chosen) < min(n, len(free)):
        before = len(chosen)
        for s in order:
            left = [int(i) for i in strata[s] if i in set(free) and i not in chosen]
            if not left or len(chosen) >= n:
                continue
            here = [i for i in given if i in set(strata[s])]
            known = [i for i in left if i in set(preferred)] if not here else []
            if known:
                pick = known[len(known) // 2]
            elif here:
                far = [min(float(np.abs(points[i] - points[j]).sum()) for j in here) for i in left]
                pick = left[int(np.argmax(far))]
            else:
                pick = rng.choice(left)
            chosen.append(pick)
            given.append(pick)
        if len(chosen) == before:
            break
    return sorted(chosen)


def _places(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Ranks scaled to [0, 1]; ties keep their mean rank, nan is in the middle: (n,)."""
    v = np.asarray(values, dtype=float)
    known = np.isfinite(v)
    found = np.full(len(v), 0.5)
    if known.sum() > 1:
        w = v[known]
        below = (w[:, None] > w[None, :]).sum(1) + 0.5 * ((w[:, None] == w[None, :]).sum(1) - 1)
        found[known] = below / (len(w) - 1)
    return found


def _beyond(place: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Scores less a straight line in the place by size; nan stays."""
    known = np.isfinite(scores)
    if known.sum() < 3 or np.ptp(place[known]) < 1e-9:  # no sizes, or all alike: there is nothing to take off
        return scores
    left = np.full(len(scores), np.nan)
    left[known] = scores[known] - np.polyval(np.polyfit(place[known], scores[known], 1), place[known])
    return left


def _from_the_ends(n: int) -> list[int]:
    """0, n-1, then what halves the largest gap: a few of many are spread."""
    order = [0, n - 1] if n > 1 else [0]
    while len(order) < n:
        rest = [i for i in range(n) if i not in order]
        order.append(max(rest, key=lambda i: (min(abs(i - j) for j in order), -i)))
    return order
