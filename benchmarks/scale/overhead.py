"""What a trial costs the process that drives a search on a local Ray, from the 100th trial to the last, next to other ways.

    python -m benchmarks.scale.overhead [--trials 2000] [--seconds 0.05] [--slots 16] [--only ARM ...] [--quick]
    python -m benchmarks.scale.overhead --trials 480 --seconds 1 --only nas_bo --into scale_ratio.json

A trial sleeps, so that nothing but the driving costs anything; Ray is given more slots than the machine has processors. Arms, each in a
process of its own, one after the other:

* nas_bo: `search(executor=Ray())` over `search_spaces.tiny_gpt` with two analytic objectives and one that sleeps, proposed at random;
* ray_tasks: Optuna's ask and tell around Ray tasks, random proposals of six numbers;
* optuna_threads: `Study.optimize(n_jobs=)`, the same study, in threads of one process;
* ray_tune: `Tuner` with `OptunaSearch`, the same numbers. It starts a process for each trial, so it has fewer trials (--tune-trials).

Figures: milliseconds of the driver's processor for each trial, in a window of 100 trials that ends at the 150th and at the last;
its resident memory at both; seconds from the first trial to the last, over what the slots need at least; the same from the moment at which as many
as there are slots have ended, so that all workers are there (`of_least_steady`). Ray Tune publishes 715 s for 10,000 trials of one second in 16
slots, of 625: a ratio of 1.14 (https://docs.ray.io/en/latest/tune/tutorials/tune-scalability.html).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import psutil

from benchmarks.common import RESULTS, ROOT, envelope, write

ARMS = ("nas_bo", "ray_tasks", "optuna_threads", "ray_tune")
EARLY, WINDOW = 150, 100  # trials
NUMBERS = 6  # of the study of Optuna


class Meter:
    """Takes the processor time of this process after every trial."""

    def __init__(self, trials: int, seconds: float, slots: int) -> None:
        self.trials, self.least, self.slots = trials, trials * seconds / slots, slots
        self.times: list[float] = []
        self.cpu, self.began = [time.process_time()], time.monotonic()
        self.memory: dict[int, int] = {}

    def __call__(self, *_: object) -> None:
        self.cpu.append(time.process_time())
        self.times.append(time.monotonic())
        ended = len(self.cpu) - 1
        if ended in (min(EARLY, self.trials), self.trials):
            self.memory[ended] = psutil.Process().memory_info().rss
        self.wall = time.monotonic() - self.began

    def figures(self) -> dict[str, float]:
        early, window = min(EARLY, self.trials), min(WINDOW, self.trials // 2)

        def at(end: int) -> float:
            return round(1e3 * (self.cpu[end] - self.cpu[end - window]) / window, 3)

        last = len(self.cpu) - 1
        return {
            "trials": last, "cpu_ms_early": at(early), "cpu_ms_last": at(last), "memory_mb_early": round(self.memory[early] / 1e6, 1),
            "memory_mb_last": round(self.memory.get(last, 0) / 1e6, 1), "seconds": round(self.wall, 2), "of_least": round(self.wall / self.least, 3),
            "of_least_steady": round((self.times[-1] - self.times[self.slots - 1]) / self.least * self.trials / (self.trials - self.slots), 3),
        }  # fmt: skip


def start_ray(slots: int) -> None:
    import ray

    ray.init(num_cpus=slots, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)


class Sleeps:
    name, unit, direction, cost = "slept", "", "minimize", "trained"

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, arch: Any) -> float:
        time.sleep(self.seconds)
        return int(arch.id[:6], 16) / 16**6


def nas_bo(trials: int, seconds: float, slots: int) -> Meter:
    from nas_bo import search
    from nas_bo.execution import Ray
    from nas_bo.objectives import Flops, Parameters
    from nas_bo.search_spaces import TinyGPT
    from nas_bo.strategies import Random

    meters: list[Meter] = []

    def ended(progress: Any) -> None:
        if not meters:
            meters.append(Meter(trials, seconds, slots))
        if progress.trial is not None:
            meters[0]()

    search(
        TinyGPT, [Sleeps(seconds), Parameters(), Flops()], executor=Ray(workers=slots), strategy=Random(seed=0), trials=trials,
        retrain=0, on_progress=ended,
    )  # fmt: skip
    return meters[0]


def numbers(trial: Any) -> list[float]:
    return [trial.suggest_float(f"x{k}", 0.0, 1.0) for k in range(NUMBERS)]


def drawn(trial: Any) -> None:
    """For Ray Tune, which pickles it."""
    numbers(trial)


def study() -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(directions=["minimize"] * 3, sampler=optuna.samplers.RandomSampler(seed=0))


def ray_tasks(trials: int, seconds: float, slots: int) -> Meter:
    import ray

    @ray.remote(num_cpus=1)
    def evaluate(values: list[float]) -> tuple[float, float, float]:
        time.sleep(seconds)
        return values[0], values[1], values[2]

    ray.get([evaluate.remote([0.0] * 3) for _ in range(slots)])  # processes are there
    made, meter, running, begun = study(), Meter(trials, seconds, slots), {}, 0
    while begun < trials or running:
        while begun < trials and len(running) < slots:
            trial = made.ask()
            running[evaluate.remote(numbers(trial))] = trial
            begun += 1
        (done, *_), _ = ray.wait(list(running))
        made.tell(running.pop(done), ray.get(done))
        meter()
    return meter


def optuna_threads(trials: int, seconds: float, slots: int) -> Meter:
    made, meter = study(), Meter(trials, seconds, slots)

    def evaluate(trial: Any) -> tuple[float, float, float]:
        values = numbers(trial)
        time.sleep(seconds)
        return values[0], values[1], values[2]

    made.optimize(evaluate, n_trials=trials, n_jobs=slots, callbacks=[meter])
    return meter


def ray_tune(trials: int, seconds: float, slots: int) -> Meter:
    import optuna
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def evaluate(config: dict[str, float]) -> dict[str, float]:
        time.sleep(seconds)
        return {"a": config["x0"], "b": config["x1"], "c": config["x2"]}

    class Ended(tune.Callback):
        def on_trial_complete(self, *_: object, **__: object) -> None:
            meter()

    search = OptunaSearch(drawn, metric=["a", "b", "c"], mode=["min"] * 3)
    with tempfile.TemporaryDirectory() as folder:
        settings = tune.TuneConfig(
            search_alg=search, num_samples=trials, max_concurrent_trials=slots, reuse_actors=True
        )
        run = tune.RunConfig(storage_path=folder, verbose=0, callbacks=[Ended()])
        meter = Meter(trials, seconds, slots)
        tune.Tuner(tune.with_resources(evaluate, {"cpu": 1}), tune_config=settings, run_config=run).fit()
    return meter


def run(arm: str, trials: int, seconds: float, slots: int) -> dict[str, float]:
    """In a process of its own, which ends with its Ray."""
    words = [arm, str(trials), str(seconds), str(slots)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale.overhead", "--arm", *words],
        capture_output=True,
        text=True,
        env=environment,
    )
    if done.returncode:
        raise SystemExit(f"{arm} failed: {done.stdout[-1000:]}{done.stderr[-3000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--tune-trials", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=0.05)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--only", nargs="*", default=list(ARMS), choices=ARMS)
    parser.add_argument("--into", default="scale_overhead.json", help="the file of the results")
    parser.add_argument("--arm", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args(arguments)
    if asked.arm:
        arm, trials, seconds, slots = asked.arm
        if arm != "optuna_threads":
            start_ray(int(slots))
        measure: Callable[[int, float, int], Meter] = globals()[arm]
        print(json.dumps(measure(int(trials), float(seconds), int(slots)).figures()), flush=True)
        return
    if asked.quick:
        asked.trials, asked.tune_trials, asked.slots = 40, 6, 2
    figures: dict[str, Any] = {}
    kept = RESULTS / asked.into
    if not asked.quick and kept.exists():
        figures = json.loads(kept.read_text())["figures"]
    for arm in asked.only:
        figures[arm] = run(arm, asked.tune_trials if arm == "ray_tune" else asked.trials, asked.seconds, asked.slots)
        print(arm, json.dumps(figures[arm]), flush=True)
    figures = {arm: figures[arm] for arm in ARMS if arm in figures}
    document = envelope(
        f"driving trials of {asked.seconds:g} s on a local Ray of {asked.slots} slots: ms of the driver's processor, MB, seconds", "ray", "optuna",
        repeats=1, slots=asked.slots, figures=figures,
    )  # fmt: skip
    write(document, kept, keep=not asked.quick)


if __name__ == "__main__":
    main()
