"""Three objectives with limits: loss, latency and parameters; latency and memory must not exceed a bound.

Beside per-layer choices the space has an unordered choice and a real hyperparameter, and the limits cut off the part
of it where the loss is best: five of six random architectures are too slow or too large.
"""

from __future__ import annotations

import math
from itertools import pairwise

from benchmarks.search_efficiency.problems.deep import matmul
from nas_bo.architecture import Architecture
from nas_bo.space import Space, choice, integer, option, real, repeat

VOCABULARY = 16_384
CONTEXT = 8_192  # tokens in the cache
LIMITS = {"latency_ms": 6.0, "memory_mb": 50.0}


class Limits(Space):
    depth = integer(4, 10)
    width = choice(256, 384, 512, 640, 768)
    activation = choice("gelu", "silu", "relu2")
    learning_rate = real(1e-4, 1e-2, log=True)
    layers = repeat(
        depth,
        mixer=choice(
            option("attention", heads=choice(4, 8), kv_group=choice(1, 2, 4), window=choice(256, 1024, 8192)),
            option("linear", heads=choice(4, 8)),
        ),
        mlp=choice(
            option("dense", ratio=choice(1, 2, 3, 4)),
            option("moe", ratio=choice(1, 2), experts=choice(4, 8), top_k=choice(1, 2)),
        ),
    )


def loss(arch: Architecture) -> float:
    """Validation loss in nats after a fixed number of tokens."""
    depth, width = len(arch.layers), arch.width
    gain, reach = 0.0, 0.0
    for i, layer in enumerate(arch.layers):
        at, mixer, mlp = (i + 0.5) / depth, layer.mixer, layer.mlp
        fit = math.log2(width / mixer.heads / 72.0)
        if mixer.kind == "attention":
            seen = math.log2(mixer.window / 256.0) / 5.0  # 0 to 1
            reach += seen * (0.4 + at)
            gain += (0.75 + 0.2 * at - 0.06 * math.log2(mixer.kv_group)) * math.exp(-0.08 * fit * fit)
        else:
            reach += 0.45 * (1.2 - at)
            gain += 0.62 * math.exp(-0.05 * fit * fit)
        if mlp.kind == "dense":
            gain += 0.9 * (1.0 - math.exp(-mlp.ratio / 1.5))
        else:  # experts pay late in the network, not in the first layers
            active = mlp.ratio * mlp.top_k
            gain += 0.9 * (1.0 - math.exp(-active / 1.5)) + 0.13 * math.log2(mlp.experts) * (at - 0.2)
    kinds = [(layer.mixer.kind, layer.mlp.kind) for layer in arch.layers]
    same = sum(a == b for a, b in pairwise(kinds)) / (depth - 1)
    best_rate = 1.6e-3 * (width / 256.0) ** -0.8 * (depth / 4.0) ** -0.4
    rate = math.log10(arch.learning_rate / best_rate)
    bend = {"gelu": 0.02, "silu": 0.0, "relu2": -0.015 + 0.02 * (width < 400)}[arch.activation]
    shape = 0.04 * math.log2(width / (64.0 * depth)) ** 2
    law: float = 1.75 + 1.0 * (width / 256.0) ** -0.5 + 2.2 * (1.0 + gain) ** -0.6 + 0.3 * math.exp(-1.3 * reach)
    law += 0.05 * same + shape + bend + 0.12 * min(rate * rate, 2.0)
    return law


def latency_ms(arch: Architecture) -> float:
    width: int = arch.width
    total = matmul(width, VOCABULARY) / 4
    for layer in arch.layers:
        mixer, mlp = layer.mixer, layer.mlp
        inner = int(mlp.ratio * width)
        if mixer.kind == "attention":
            total += matmul(width, width + 2 * width // mixer.kv_group) + matmul(width, width)
            total += width * min(mixer.window, 2048) / 32000.0 + 0.5 * mixer.heads
        else:
            total += matmul(width, 3 * width) + matmul(width, width) + width * width / mixer.heads / 2600.0
        if mlp.kind == "dense":
            total += matmul(width, inner) + matmul(inner, width)
        else:  # experts are products of their own, and routing costs
            total += mlp.top_k * (matmul(width, inner) + matmul(inner, width)) + 3.0 + 1.5 * mlp.experts
    return total / 100.0


def params_m(arch: Architecture) -> float:
    """Parameters in millions."""
    width: int = arch.width
    total = VOCABULARY * width
    for layer in arch.layers:
        mixer, mlp = layer.mixer, layer.mlp
        groups = mixer.kv_group if mixer.kind == "attention" else 1
        total += 2 * width * width + 2 * width * width // groups
        one = 2 * int(mlp.ratio * width) * width
        total += one if mlp.kind == "dense" else one * mlp.experts + width * mlp.experts
    return total / 1e6


def memory_mb(arch: Architecture) -> float:
    """Weights and cache of one sequence, two bytes each."""
    cached = 0
    for layer in arch.layers:
        mixer = layer.mixer
        if mixer.kind == "attention":
            cached += 2 * min(mixer.window, CONTEXT) * arch.width // mixer.kv_group
        else:
            cached += arch.width * arch.width // mixer.heads
    return (params_m(arch) * 1e6 + cached) * 2 / 1e6
