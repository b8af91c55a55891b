"""Work as a coding agent does it overnight: a fixed training script, fourteen settings, a memory limit, thirty trainings. Who finds the lowest loss?

    python -m benchmarks.agents.run [--seeds 3] [--trials 30] [--flops 4e9] [--limit-mb 40] [--minutes 60] [--out FILE]

Every arm begins with the settings that the script has. Half of all settings need more memory than there is; such a trial ends at once and is lost.

    Bayes, memory known     `nas_bo.AskTell` with `Bayes` and the memory as a limit that is computed before anything is trained
    Bayes, failures reported    the same strategy, which only learns that a trial failed
    TPE, memory reported        Optuna's TPESampler with the excess as a constraint, known after the trial
    TPE, failures reported      the same, which only learns that a trial failed
    random                  Optuna's RandomSampler
    greedy edits            changes one setting of the best, keeps it where the loss is lower: an agent without memory

The script is `script.py`: 4e9 floating-point operations a training, so half a second, and 8,192 held-out bytes. Memory is counted by a formula.
Writes benchmarks/results/agents.json after every run; what is there already is not run again.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import json
import math
import random
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import torch

from benchmarks.agents.script import BASELINE, OutOfMemory, Settings, peak_mb, train
from benchmarks.common import RESULTS, envelope, spread
from nas_bo import AskTell, Space, choice, integer, real
from nas_bo.architecture import Architecture
from nas_bo.objective import Function
from nas_bo.optuna import distributions
from nas_bo.strategies import Bayes

OUT = RESULTS / "agents.json"
AT = (10, 20, 30)  # trials after which the best loss is reported


class Script(Space):
    """The settings of the script."""

    depth = integer(1, 6)
    width = choice(32, 48, 64, 96, 128, 192)
    heads = choice(1, 2, 4, 8)
    ratio = choice(1, 2, 3, 4)
    activation = choice("gelu", "relu2", "silu")
    norm = choice("rms", "layer")
    tied = choice("yes", "no")
    position = choice("rope", "learned")
    sequence = choice(32, 64, 128, 256)
    batch = choice(4, 8, 16, 32, 64)
    lr = real(1e-4, 3e-2, log=True)
    warmup = choice(0.0, 0.05, 0.1, 0.2)
    decay = choice(0.0, 0.01, 0.1)
    beta2 = choice(0.95, 0.99, 0.999)


def memory(arch: Architecture) -> float:
    return peak_mb(dict(arch.flat))


class Arm:
    """Proposes settings, and learns what became of them."""

    def ask(self) -> Settings:
        raise NotImplementedError

    def tell(self, loss: float | None, excess_mb: float) -> None:
        """`loss` is None where the trial was lost."""
        raise NotImplementedError


class Ours(Arm):
    def __init__(self, seed: int, limit_mb: float | None) -> None:
        limits = [] if limit_mb is None else [Function(memory, "peak_mb", "MB", cost="analytic", at_most=limit_mb)]
        self.session = AskTell(Script, ["loss"], limits=limits, strategy=Bayes(seed=seed), seed=seed)
        self.session.study.enqueue_trial(dict(BASELINE))

    def ask(self) -> Settings:
        self.asked = self.session.ask()
        return dict(self.asked.architecture.flat)

    def tell(self, loss: float | None, excess_mb: float) -> None:
        if loss is None or not math.isfinite(loss):
            self.session.tell(self.asked.number, failed="out of memory" if loss is None else "diverged")
        else:
            self.session.tell(self.asked.number, {"loss": loss})


class Optunas(Arm):
    def __init__(self, sampler: optuna.samplers.BaseSampler, told: bool) -> None:
        self.study, self.told = optuna.create_study(sampler=sampler), told
        self.study.enqueue_trial(dict(BASELINE))

    def ask(self) -> Settings:
        self.trial = self.study.ask(distributions(Script))
        return dict(self.trial.params)

    def tell(self, loss: float | None, excess_mb: float) -> None:
        if self.told:
            self.trial.set_constraint("memory", excess_mb)
        if loss is None and self.told:
            self.study.tell(self.trial, 8.0)  # that of guessing, and beyond the constraint
        elif loss is None or not math.isfinite(loss):
            self.study.tell(self.trial, state=optuna.trial.TrialState.FAIL)
        else:
            self.study.tell(self.trial, loss)


class Greedy(Arm):
    def __init__(self, seed: int) -> None:
        self.rng, self.best, self.least = random.Random(seed), dict(BASELINE), math.inf
        self.edits = self._edits()

    def _edits(self) -> Iterator[Settings]:
        yield dict(self.best)
        while True:
            name = self.rng.choice(list(BASELINE))
            value = Script.sample(self.rng).flat[name] if name != "lr" else self.best[name] * self.rng.choice([0.5, 2])
            if value != self.best[name]:
                yield {**self.best, name: min(max(value, 1e-4), 3e-2) if name == "lr" else value}

    def ask(self) -> Settings:
        self.tried = next(self.edits)
        return self.tried

    def tell(self, loss: float | None, excess_mb: float) -> None:
        if loss is not None and loss < self.least:
            self.best, self.least = self.tried, loss


ARMS: dict[str, Callable[[int, float], Arm]] = {
    "Bayes, memory known": lambda seed, limit: Ours(seed, limit),
    "Bayes, failures reported": lambda seed, limit: Ours(seed, None),
    "TPE, memory reported": lambda seed, limit: Optunas(optuna.samplers.TPESampler(seed=seed), told=True),
    "TPE, failures reported": lambda seed, limit: Optunas(optuna.samplers.TPESampler(seed=seed), told=False),
    "random": lambda seed, limit: Optunas(optuna.samplers.RandomSampler(seed=seed), told=False),
    "greedy edits": lambda seed, limit: Greedy(seed),
}


def run(arm: str, seed: int, trials: int, flops: float, limit_mb: float) -> dict[str, Any]:
    """One arm with one seed, which is also that of its trainings."""
    torch.set_num_threads(1)
    made, began, losses, lost, training = ARMS[arm](seed, limit_mb), time.process_time(), [], 0, 0.0
    for _ in range(trials):
        settings = made.ask()
        before = time.process_time()
        try:
            loss: float | None = train(settings, flops, limit_mb, seed)
        except OutOfMemory:
            loss, lost = None, lost + 1
        training += time.process_time() - before
        losses.append(math.inf if loss is None else loss)
        made.tell(loss, peak_mb(settings) - limit_mb)
    best = [round(min(losses[:n]), 4) for n in AT if n <= trials]
    proposing = time.process_time() - began - training
    return {
        "arm": arm, "seed": seed, "trials": trials, "best": dict(zip(map(str, AT), best, strict=False)), "lost": lost,
        "first": round(losses[0], 4), "training_cpu_s": round(training, 1), "proposing_cpu_s": round(proposing, 1),
    }  # fmt: skip


def document(runs: list[dict[str, Any]], given: argparse.Namespace) -> dict[str, Any]:
    figures = {}
    for arm in ARMS:
        own = [one for one in runs if one["arm"] == arm]
        if own:
            best = {at: spread([one["best"][at] for one in own]) for at in own[0]["best"]}
            lost = spread([one["lost"] / one["trials"] for one in own])
            figures[arm] = {"seeds": len(own), "best": best, "lost": lost}
    return envelope(
        "fourteen settings of a fixed training script under a memory limit: lowest loss in bits per byte after 10, 20 and 30 trials, "
        "and the share of trials lost to memory",
        "optuna", "torch",
        flops=given.flops, limit_mb=given.limit_mb, trials=given.trials, figures=figures, runs=runs,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--flops", type=float, default=4e9)
    parser.add_argument("--limit-mb", type=float, default=40.0)
    parser.add_argument("--minutes", type=float, default=math.inf, help="start nothing new after that")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    out = given.out
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    runs = json.loads(out.read_text())["runs"] if out.exists() else []
    done = {(one["arm"], one["seed"]) for one in runs}
    start = time.monotonic()
    for seed in range(given.seeds):
        for arm in ARMS:
            if (arm, seed) in done or time.monotonic() - start > 60 * given.minutes:
                continue
            runs.append(run(arm, seed, given.trials, given.flops, given.limit_mb))
            print(runs[-1], flush=True)
            out.write_text(json.dumps(document(runs, given), indent=1) + "\n")


if __name__ == "__main__":
    main()
