"""Objectives that cost nothing and fail on demand, importable by worker processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from nas_bo.architecture import Architecture
from nas_bo.problem import Value
from nas_bo.space import Space, choice, integer, option, repeat


class Toy(Space):
    depth = integer(1, 4)
    width = choice(8, 16, 32)
    layers = repeat(
        depth,
        mixer=choice(option("attention", heads=choice(1, 2, 4)), option("conv", kernel=choice(3, 7)), option("skip")),
    )


class Few(Space):
    a = choice("x", "y")
    b = choice(1, 2)


def loss(arch: Architecture) -> float:
    """A stand-in for training with a trade-off and interactions between layers."""
    kinds = [layer.mixer.kind for layer in arch.layers]
    gain = len(set(kinds)) * 0.3 + kinds.count("attention") * 0.2 + kinds.count("conv") * 0.15
    return Value(4.0 - gain - 0.1 * arch.width**0.5, how="computed", parameters=arch.width * arch.depth)


def cost(arch: Architecture) -> float:
    return float(
        sum({"attention": 3, "conv": 2, "skip": 0}[layer.mixer.kind] for layer in arch.layers) * arch.width + arch.width
    )


cost.cost = "analytic"
cost.unit = "units"


class Retrainable:
    name, unit, direction, cost = "loss", "nats", "minimize", "trained"

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def __call__(self, arch: Architecture) -> float:
        return Value(float(loss(arch)) / self.factor, parameters=arch.width * arch.depth)

    def larger(self, factor: float) -> Retrainable:
        return Retrainable(factor)


def slow_loss(arch: Architecture) -> float:
    """Takes longest where the loss is worst; leaves a line per evaluation in the file that the test names, and a file per process."""
    with open(os.environ["NAS_BO_TEST_LOG"], "a") as log:
        log.write(arch.id + "\n")
    Path(f"{os.environ['NAS_BO_TEST_LOG']}.{os.getpid()}").touch()
    time.sleep(0.05 * float(loss(arch)))
    return float(loss(arch))


def sometimes(arch: Architecture) -> float:
    if arch.width == 16:
        raise RuntimeError("no such width today")
    return float(loss(arch))


def not_a_number(arch: Architecture) -> float:
    return float("nan")


def kills_its_process_once(arch: Architecture) -> float:
    marker = Path(os.environ["NAS_BO_TEST_LOG"])
    if arch.depth == 2 and not marker.exists():
        marker.touch()
        os._exit(9)
    return float(loss(arch))


def leaves(arch: Architecture) -> float:
    if arch.width == 16:
        sys.exit("out of licences")
    return float(loss(arch))


def waits_to_be_killed(arch: Architecture) -> float:
    """Leaves a line with its process for every evaluation in the file that the test names; the first one of a depth of 2
    waits for its end, which the test brings about."""
    log = Path(os.environ["NAS_BO_TEST_LOG"])
    begun = log.read_text() if log.exists() else ""
    with log.open("a") as file:
        file.write(f"{arch.id} {os.getpid()}\n")
    if arch.depth == 2 and arch.id not in begun:
        time.sleep(600)
    return float(loss(arch))


def gives_what_cannot_be_sent(arch: Architecture) -> float:
    return Value(1.0, made_of=lambda: None)


def sleeps_with_children(arch: Architecture) -> float:
    """Where the depth is 2: starts a process, one that leaves the group of its parent, and one whose parent ends; leaves their
    numbers in the file that the test names, does not end when it is asked to, and waits for ever."""
    if arch.depth == 2:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        nap = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
        lost = [
            sys.executable,
            "-S",
            "-c",
            f"import subprocess; print(subprocess.Popen({nap!r}, stdout=-3, stderr=-3).pid)",
        ]
        found = [os.getpid(), subprocess.Popen(nap).pid, subprocess.Popen(nap, start_new_session=True).pid]
        found.append(int(subprocess.run(lost, capture_output=True, text=True, check=True).stdout))
        Path(os.environ["NAS_BO_TEST_LOG"]).write_text(" ".join(map(str, found)))
        time.sleep(600)
    return float(loss(arch))


def crashes(arch: Architecture) -> float:
    """Ends its process where the depth is 2, by a signal or by a call, as the test says; leaves a line for each evaluation."""
    with open(os.environ["NAS_BO_TEST_LOG"], "a") as log:
        log.write(f"{arch.id} {os.getpid()}\n")
    if arch.depth == 2:
        if (how := os.environ["NAS_BO_TEST_CRASH"]) == "exit":
            os._exit(9)
        os.kill(os.getpid(), int(how))
        time.sleep(600)
    return float(loss(arch))


class CrashesLarger(Retrainable):
    """Ends its process where it is re-trained and the depth is above 1, or where it is a baseline."""

    def __call__(self, arch: Architecture) -> float:
        if self.factor > 1 and arch.depth > 1:
            os._exit(9)
        return super().__call__(arch)

    def larger(self, factor: float) -> Retrainable:
        return CrashesLarger(factor)


def sleeps(arch: Architecture) -> float:
    time.sleep(600)
    return 0.0


def kills_its_process(arch: Architecture) -> float:
    if arch.depth == 2:
        os._exit(9)
    return float(loss(arch))
