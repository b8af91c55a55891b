"""The space of the files of version 0.1, with every block of its vocabulary; do not change it."""

from __future__ import annotations

import random
from pathlib import Path

from nas_bo.architecture import Architecture
from nas_bo.model import attention, conv, dense, linear_attention, moe, skip
from nas_bo.space import Space, choice, integer, repeat


class Small(Space):
    depth = integer(1, 3)
    width = choice(8, 16)
    norm = choice("rms", "layer")
    bias = choice(False, True)
    layers = repeat(
        depth,
        mixer=choice(
            attention(heads=choice(1, 2), kv_group=1, window=choice(None, 8)),
            linear_attention(heads=choice(1, 2)),
            conv(kernel=choice(3, 9)),
            skip(),
        ),
        mlp=choice(
            dense(ratio=choice(1, 2), gated=choice(True, False), activation=choice("gelu", "relu2")),
            moe(experts=choice(2, 3), top_k=choice(1, 2)),
            skip(),
        ),
    )


class Smaller(Space):
    """Shared weights of it are small enough for a file here."""

    depth = 2
    width = 8
    layers = repeat(
        depth,
        mixer=choice(
            attention(heads=choice(1, 2), kv_group=1), linear_attention(heads=2), conv(kernel=choice(3, 9)), skip()
        ),
        mlp=choice(dense(ratio=choice(1, 2), gated=True), moe(experts=2, ratio=1), skip()),
    )


def busy(arch: Architecture) -> float:
    """How many blocks are no skips."""
    return float(sum((one.mixer.kind != "skip") + (one.mlp.kind != "skip") for one in arch.layers))


def text(path: Path) -> Path:
    """The same file in every version of Python: 24,000 short words."""
    rng = random.Random(0)
    words = ["".join(chr(97 + int(rng.random() * 26)) for _ in range(2 + int(rng.random() * 5))) for _ in range(200)]
    path.write_text(" ".join(words[int(200 * rng.random() ** 2)] for _ in range(24_000)))
    return path
