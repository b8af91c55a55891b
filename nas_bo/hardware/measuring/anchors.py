"""Anchors: a few fixed decoders whose times on this machine are known, with which every measurement is interleaved.

A shared machine changes its speed by a factor of two for seconds at a time, and the time of one model alone, however often it
is repeated, is that of its moment. The ratio to a model that runs in turn with it is ten times more repeatable; times the
anchor's own time it is milliseconds again. That time is measured once per machine, version and setting and kept in the
user's cache folder, so that measurements of different days are on one scale: the undisturbed speed of the machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.hardware.measuring.scale import UNDISTURBED
from nas_bo.model import attention, conv, dense
from nas_bo.space import Space, choice, integer, repeat

LADDER = ((32, 1), (64, 2), (96, 4), (192, 6), (384, 8), (768, 12), (1536, 16))  # width, layers
SWEEPS = 6


class Anchors(Space):
    """Attention and convolution in turn, each with an MLP: what the models of most spaces are made of."""

    depth = integer(1, LADDER[-1][1])
    width = choice(*(width for width, _ in LADDER))
    layers = repeat(depth, mixer=choice(attention(heads=2), conv(kernel=4)), mlp=dense(ratio=2, gated=True))


@lru_cache
def anchor(rung: int) -> Architecture:
    """The decoder of a rung of the ladder, the smallest first; each takes two to ten times as long as the one before."""
    width, depth = LADDER[rung]
    kinds = {f"layers.{at}.mixer": ("attention", "conv")[at % 2] for at in range(depth)}
    return Anchors.architecture({"depth": depth, "width": width, **kinds})


def levels(visits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What belongs to the models and what to the rounds: (models,) and (rounds,) logarithms, from milliseconds
    (models, rounds). Median polish (Tukey, 1977); the shifts of the rounds have median 0."""
    logs = np.log(visits)
    shift = np.zeros(logs.shape[1])
    level = np.median(logs, axis=1)
    for _ in range(SWEEPS):
        shift = np.median(logs - level[:, None], axis=0)
        shift -= np.median(shift)
        level = np.median(logs - shift, axis=1)
    return level, shift


def references(visits: np.ndarray, known: Sequence[float | None]) -> np.ndarray:
    """(models,) milliseconds at the undisturbed speed, from visits (models, rounds).

    Args:
        known: of each model the time that is kept, if there is one: the scale is theirs then.
    """
    level, shift = levels(visits)
    old = [(at, ms) for at, ms in enumerate(known) if ms is not None]
    if old:
        scale = float(np.median([math.log(ms) - level[at] for at, ms in old]))
    else:
        scale = float(np.quantile(shift, UNDISTURBED))
    found = np.exp(level + scale)
    for at, ms in old:
        found[at] = ms
    return np.asarray(found)
