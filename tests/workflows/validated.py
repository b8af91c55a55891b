"""Objectives for tests of validate(): they cost nothing, leave a line per evaluation, and can be imported by workers."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.model import parameters
from nas_bo.problem import Value


def noted(what: str, arch: Architecture) -> None:
    if "NAS_BO_TEST_LOG" in os.environ:
        with open(os.environ["NAS_BO_TEST_LOG"], "a") as log:
            log.write(f"{what} {arch.id}\n")


def luck(*what: object) -> float:
    return float(np.random.default_rng(zlib.crc32(repr(what).encode())).normal())


@dataclass(frozen=True)
class Truth:
    """Falls with size and with something of the architecture's own; a prefix of the run sees it through more noise."""

    tokens: float = 1000
    seed: int = 0
    fidelity: float = 1.0
    rungs: tuple[float, ...] = ()
    min_rung: float = 0.0
    delay: float = 0.0
    at_most: float | None = None
    at_least: float | None = None
    name: str = "val_loss"
    unit: str = "nats"
    direction: Literal["minimize"] = "minimize"
    cost: Literal["trained"] = "trained"

    def conditions(self) -> dict[str, Any]:
        told = {"sha256": "c0ffee", "tokens": int(self.tokens), "seed": self.seed}
        return told if self.fidelity == 1 else {**told, "fidelity": self.fidelity}

    def larger(self, factor: float) -> Truth:
        return Truth(self.tokens * factor, self.seed + 1, rungs=self.rungs)

    def at(self, arch: Architecture, share: float) -> float:
        own = 5 - 0.2 * np.log(parameters(arch, 256)) + 0.2 * luck(arch.id)
        return float(own + 0.01 * luck(arch.id, self.seed) + 0.3 * (1 - share) * luck(arch.id, self.seed, share))

    def stages(self, arch: Architecture) -> Iterator[tuple[float, Value]]:
        noted(f"{self.name}:{self.tokens:g}:{self.seed}", arch)
        time.sleep(self.delay)
        for share in (*(r for r in self.rungs if r < self.fidelity), self.fidelity):
            yield share / self.fidelity, Value(self.at(arch, share), cpu_seconds=share * self.tokens)

    def __call__(self, arch: Architecture) -> Value:
        return list(self.stages(arch))[-1][1]


@dataclass(frozen=True)
class Tripled(Truth):
    """Re-trained with a rule of its own."""

    def larger(self, factor: float) -> Truth:
        return Truth(self.tokens * 3 * factor, self.seed + 7)


def width(arch: Architecture) -> float:
    noted("width", arch)
    return float(arch.width)


width.cost = "analytic"
width.direction = "maximize"


def broken(arch: Architecture) -> float:
    raise OSError("disk full")


def constant(arch: Architecture) -> float:
    return 1.0
