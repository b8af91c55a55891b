"""A small space and objectives that fail on demand, importable by worker processes: what the suites evaluate."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from nas_bo.architecture import Architecture
from nas_bo.objective import Value
from nas_bo.space import Space, choice, integer, option, repeat


class Small(Space):
    """62 architectures with choices in choices and a list."""

    depth = integer(1, 2)
    width = choice(8, 16)
    layers = repeat(
        depth, mixer=choice(option("attention", heads=choice(1, 2, 4)), option("conv", kernel=choice(3, 7)))
    )


def at(depth: int, width: int = 8, heads: int = 1) -> Architecture:
    layer = {"mixer": {"kind": "attention", "heads": heads}}
    return Small.architecture({"depth": depth, "width": width, "layers": [layer] * depth})


def loss(arch: Architecture) -> float:
    """A number that each architecture has for itself, as if it had been trained."""
    return Value(1.0 + int(arch.id[:6], 16) / 16**6, how="computed", seen=arch.depth)


def size(arch: Architecture) -> float:
    return float(arch.depth * arch.width)


def raises(arch: Architecture) -> float:
    raise RuntimeError("no such width today")


def leaves(arch: Architecture) -> float:
    raise SystemExit(3)


def dies(arch: Architecture) -> float:
    """Ends its process where the depth is 2, after the others have begun."""
    if arch.depth == 2:
        time.sleep(0.2)
        os._exit(9)
    time.sleep(0.4)
    return loss(arch)


def sleeps(arch: Architecture) -> float:
    time.sleep(600)
    return 0.0


class Staged:
    """Evaluated in quarters of its budget."""

    name, unit, direction, cost = "loss", "nats", "minimize", "trained"

    def __call__(self, arch: Architecture) -> float:
        return loss(arch)

    def stages(self, arch: Architecture) -> Iterator[tuple[float, float]]:
        for quarter in (1, 2, 3, 4):
            yield quarter / 4, loss(arch) * (5 - quarter)


def half(name: str, share: float, values: object) -> bool:
    """A judge that stops at the half."""
    return share < 0.5
