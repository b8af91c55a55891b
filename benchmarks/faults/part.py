"""One search of `benchmarks/faults/run.py`, in a process of its own: `python -m benchmarks.faults.part SETTINGS`, as JSON."""

from __future__ import annotations

import fcntl
import json
import os
import random
import resource
import sys
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import optuna

from nas_bo import search
from nas_bo.architecture import Architecture
from nas_bo.objective import Value
from nas_bo.strategies import Random
from nas_bo.testing.evaluations import Small
from tests import fork_server

TRIALS = 10


class Slow:
    """A stand-in for a training of `seconds`; leaves a line for each evaluation.

    Args:
        log: the file of the lines.
        greedy: bytes that its process may have in addition to what it has; a third of the architectures (`is_greedy`) ask for memory
            until there is none. 0 sets no limit.
    """

    name, unit, direction, cost = "loss", "nats", "minimize", "trained"

    def __init__(self, log: str, seconds: float, greedy: float = 0.0, factor: float = 1.0) -> None:
        self.log, self.seconds, self.greedy, self.factor = log, seconds, greedy, factor

    def __call__(self, arch: Architecture) -> float:
        with open(self.log, "a") as log:
            log.write(f"{self.factor:g} {arch.id}\n")
        if self.greedy:
            limit(self.greedy)
            if is_greedy(arch.id):
                exhaust()
        time.sleep(self.seconds)
        return Value((1.0 + int(arch.id[:6], 16) / 16**6) / self.factor, parameters=arch.width * arch.depth)

    def larger(self, factor: float) -> Slow:
        return Slow(self.log, self.seconds, self.greedy, factor)


@lru_cache(maxsize=1)
def limit(more: float) -> None:
    """Of this process, once: workers are not children of the process of the search, and inherit no limit."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + int(more), resource.getrlimit(resource.RLIMIT_AS)[1]))


def is_greedy(arch_id: str) -> bool:
    return int(arch_id[:4], 16) % 3 == 0


def exhaust() -> None:
    """Take all the memory that the limit leaves, in smaller and smaller pieces, and then ask for more: whatever else the process
    does at that moment has none either."""
    held = []
    for piece in (2**24, 2**20, 2**16, 2**12):
        with suppress(MemoryError):
            while True:
                held.append(bytes(piece))  # zeros that are not touched: the limit is on addresses
    held.append(bytes(2**24))


def size(arch: Architecture) -> float:
    return float(arch.depth * arch.width)


def delayed(seconds: float) -> None:
    """Locks as on a file system of a network: each takes a random time, some a long one."""
    rng = random.Random(os.getpid())

    def late(call: Any) -> Any:
        def delay(*args: Any, **more: Any) -> Any:
            time.sleep(rng.expovariate(1 / seconds))
            return call(*args, **more)

        return delay

    os.symlink, fcntl.flock = late(os.symlink), late(fcntl.flock)


class Jumping:
    """A clock that is set back or ahead by a day every other time that somebody asks."""

    def __init__(self, real: Any, rng: random.Random) -> None:
        self.real, self.rng = real, rng

    def __call__(self) -> float:
        return float(self.real() + self.rng.choice([-86_400.0, 0.0, 86_400.0]))


def jump() -> None:
    """Clocks of the machine jump; those that only count on (`time.monotonic`) do not, as in the system."""
    import datetime

    import nas_bo.optuna.running as running

    time.time = Jumping(time.time, random.Random(0))  # type: ignore[assignment]
    real = datetime.datetime

    class Late(real):  # type: ignore[misc,valid-type]
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return real.fromtimestamp(time.time(), tz)

    running.datetime = Late  # type: ignore[misc]


def main() -> None:
    asked = json.loads(sys.argv[1])
    if os.environ.get(fork_server.PLACE):
        fork_server.quick_spawn()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if asked.get("clock"):
        jump()
    if asked.get("locks"):
        delayed(asked["locks"])
    marks = Path(asked["log"] + ".phase")

    def mark(progress: Any) -> None:
        marks.write_text(progress.phase)

    objective = Slow(asked["log"], asked["seconds"], asked.get("greedy", 0.0))
    result = search(
        Small, [objective, size], strategy=Random(seed=0), trials=TRIALS, workers=asked["workers"], storage=asked["storage"],
        baseline=[Small.sample(99)], study_name="faults", on_progress=mark,
        track=asked.get("track"),
    )  # fmt: skip
    marks.write_text("report")
    result.save(Path(asked["log"]).parent / "report")
    marks.write_text("end")


if __name__ == "__main__":
    main()
