"""A conditional space of 4 to 12 layers with an invented law of quality and a model of latency with tile cliffs.

Nothing here was fitted to a benchmark. The law has what makes real per-layer searches hard: returns that diminish in
depth and width, a depth that wants its width, operations that are worth more early or late, options below operations
with optima that depend on where the layer is, and neighbours that do the same thing twice.
"""

from __future__ import annotations

import math
from itertools import pairwise

from nas_bo.architecture import Architecture
from nas_bo.space import Space, choice, integer, option, repeat

TOKENS, TILE, UNITS = 1024, 128, 24  # a small accelerator: a matrix product is tiles of 128 x 128 in waves of 24


class Deep(Space):
    depth = integer(4, 12)
    width = choice(192, 256, 320, 384, 512, 640, 768)
    layers = repeat(
        depth,
        mixer=choice(
            option("attention", heads=choice(4, 8, 16), kv_group=choice(1, 2, 4)),
            option("linear", heads=choice(4, 8, 16)),
            option("conv", kernel=choice(3, 7, 15, 31)),
            option("pool"),
        ),
        mlp_ratio=choice(0.5, 1, 2, 3, 4),
    )


def loss(arch: Architecture) -> float:
    """Validation loss in nats, about 2.5 to 4."""
    depth, width = len(arch.layers), arch.width
    kinds = [layer.mixer.kind for layer in arch.layers]
    gain = 0.0
    for i, layer in enumerate(arch.layers):
        at = (i + 0.5) / depth
        mlp = 0.9 * (1.0 - math.exp(-layer.mlp_ratio / 1.6)) * min(1.0, 0.55 + 0.9 * at)
        gain += mlp + _worth(layer.mixer, at, width) * (1.0 + 0.15 * mlp)  # a mixer needs an MLP to make use of it
    same = sum(a == b for a, b in pairwise(kinds)) / (depth - 1)
    full = kinds.count("attention")
    recall = 0.35 * math.exp(-1.4 * full) + 0.06 * (full > 0 and "attention" not in kinds[depth // 2 :])
    shape = 0.035 * math.log2(width / (52.0 * depth)) ** 2
    law: float = 1.7 + 1.1 * (width / 192.0) ** -0.45 + 2.1 * (1.0 + gain) ** -0.55 + 0.16 * same**1.5 + recall + shape
    return law


def _worth(mixer: Architecture, at: float, width: int) -> float:
    """What a mixer adds at the relative depth `at`."""
    if mixer.kind == "pool":
        return 0.15
    if mixer.kind == "conv":  # short kernels early, long ones late
        fit = math.log2(mixer.kernel / (3.5 + 14.0 * at))
        return (1.05 - 0.75 * at) * math.exp(-0.12 * fit * fit)
    fit = math.log2(width / mixer.heads / 48.0)  # heads of about 48 values
    if mixer.kind == "linear":
        return (0.62 + 0.12 * at) * math.exp(-0.05 * fit * fit)
    kept = 1.0 - (0.03 + 0.09 * at) * math.log2(mixer.kv_group)  # late layers need their keys
    return (0.5 + 0.65 * math.sin(math.pi * min(1.0, 0.15 + 0.8 * at)) ** 2) * math.exp(-0.07 * fit * fit) * kept


def latency_ms(arch: Architecture) -> float:
    """Prefill of `TOKENS` tokens, 0.3 to 12 ms."""
    width, total = arch.width, matmul(arch.width, 8192) / 4
    for layer in arch.layers:
        mixer, inner = layer.mixer, int(layer.mlp_ratio * width)
        total += matmul(width, inner) + matmul(inner, width) + 4.0
        if mixer.kind == "attention":
            size = _up(width // mixer.heads, 32)  # a head is padded to whole registers
            keys = width // mixer.kv_group
            total += matmul(width, width + 2 * keys) + matmul(width, width)
            total += mixer.heads * size * TOKENS / 24000.0 + 0.5 * mixer.heads
        elif mixer.kind == "linear":
            size = _up(width // mixer.heads, 16)
            total += matmul(width, 3 * width) + matmul(width, width) + mixer.heads * size * size / 2600.0
        elif mixer.kind == "conv":
            total += 0.010 * width * _up(mixer.kernel, 8) / 8 + matmul(width, width)
        else:
            total += 2.0
    return total / 100.0


def matmul(k: int, n: int) -> float:
    """Units of time of (TOKENS, k) x (k, n): whole waves of whole tiles, each walking k."""
    tiles = math.ceil(TOKENS / TILE) * math.ceil(n / TILE)
    return math.ceil(tiles / UNITS) * (1.2 + _up(k, 64) / 64.0)


def _up(value: int, step: int) -> int:
    return -(-value // step) * step
