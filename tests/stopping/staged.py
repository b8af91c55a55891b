"""Objectives that are evaluated rung by rung, importable by worker processes."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nas_bo.architecture import Architecture
from nas_bo.problem import Value
from tests.problems import loss


def chance(arch: Architecture, what: str) -> float:
    """Uniform on [-1, 1], the same in every process."""
    return int.from_bytes(hashlib.sha256(f"{arch.id}/{what}".encode()).digest()[:4], "big") / 2**31 - 1.0


@dataclass
class Staged:
    """`loss` of `tests.problems`, preceded by what it is at some rungs.

    Attributes:
        sign: of the relation between the rungs and the whole; 0 makes them useless.
        log: a file that gets a line for every evaluation that was begun and one for every one that ended.
    """

    rungs: tuple[float, ...] = (0.25,)
    sign: float = 1.0
    noise: float = 0.1
    log: str = ""
    name: str = "loss"
    unit: str = "nats"
    direction: str = "minimize"
    cost: str = "trained"

    def __call__(self, arch: Architecture) -> Value:
        return list(self.stages(arch))[-1][1]

    def stages(self, arch: Architecture) -> Iterator[tuple[float, Value]]:
        whole = float(loss(arch))
        ended = False
        try:
            for share in self.rungs:
                cheap = 5.0 + self.sign * (whole - 3.0) - share + self.noise * chance(arch, f"{share}")
                yield share, Value(cheap, tokens=int(1000 * share), how="trained")
            ended = True
            yield 1.0, Value(whole, tokens=1000, how="trained")
        finally:
            if self.log:
                with Path(self.log).open("a") as file:
                    file.write(f"{arch.id} {'whole' if ended else 'stopped'}\n")


class SlowStaged(Staged):
    """Takes longest where the loss is worst."""

    def stages(self, arch: Architecture) -> Iterator[tuple[float, Value]]:
        if path := os.environ.get("NAS_BO_TEST_LOG"):
            with Path(path).open("a") as file:
                file.write(arch.id + "\n")
        for share, value in super().stages(arch):
            time.sleep(0.02 * float(loss(arch)))
            yield share, value
