"""What tests of Ax clients evaluate, importable by other processes."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from nas_bo.space import Space, choice, integer, option, repeat, require


class Deep(Space):
    n = integer(1, 4)
    width = integer(1, 8)
    layers = repeat(n, mixer=choice(option("attention", heads=choice(1, 2, 4)), "skip"))

    @require
    def not_all_skip(arch):
        return any(layer.mixer != "skip" for layer in arch.layers)


def loss(arch) -> float:
    if arch.width == 7:
        raise RuntimeError("sevens fail")
    return 8.0 - arch.width + 0.1 * sum(layer.mixer == "skip" for layer in arch.layers)


@dataclass(frozen=True)
class Cost:
    at_most: float | None = 28
    name: str = "cost"
    unit: str = ""
    direction: str = "minimize"
    cost: str = "analytic"

    def __call__(self, arch) -> int:
        return int(arch.width * arch.n)


@dataclass(frozen=True)
class Slow:
    """A loss that takes its time, and notes that it was begun."""

    log: str
    seconds: float = 0.3
    name: str = "loss"
    unit: str = ""
    direction: str = "minimize"
    cost: str = "trained"

    def __call__(self, arch) -> float:
        with open(self.log, "a") as file:
            file.write(f"{arch.id} {os.getpid()}\n")
        time.sleep(self.seconds)
        return 8.0 - arch.width


def depth(arch) -> float:
    return float(arch.n)


depth.at_most = 3.0
depth.cost = "measured"


class Flat(Space):
    """As small as Ax's own model needs to be quick."""

    n = integer(1, 4)
    width = integer(1, 8)


def wide(arch) -> float:
    return 8.0 - arch.width


def begin(storage: str, log: str, trials: int) -> None:
    """What a process does until it is killed: an experiment in a database, evaluated by our objectives."""
    from nas_bo import ax as nas_ax
    from nas_bo.strategies import NSGA2

    objectives = [Slow(log, seconds=0.5), Cost()]
    client = nas_ax.client(Deep, objectives, strategy=NSGA2(seed=0), storage=nas_ax.storage(storage))
    client.run_trials(max_trials=trials, initial_seconds_between_polls=0)
