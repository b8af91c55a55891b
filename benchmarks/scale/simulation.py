"""What many workers gain and lose: real strategies, published values, simulated time.

    python -m benchmarks.scale.simulation --data FOLDER [--workers 1 4 16 64 256 1000] [--failures 0 0.05 0.1 0.2] [--seeds 3]
                                          [--bayes-seeds 1] [--quick]

Evaluations are those of HW-GPT-Bench (gpt-s, H100: perplexity and latency); how long one takes is drawn from a log-normal distribution with a
median of ten minutes (sigma 0.5). Trials are begun as `search` does it: number n is proposed from the outcomes of all trials before
n - 2 x workers + 1 and from the architectures of the others, so none may begin while one that is so much older still runs; or, with
`search(asynchronous=True)`, from all that has ended when a worker is free. A failure is a
worker that is lost at a random moment of an evaluation, which begins again on another one.

Counted are evaluations and hours until the hypervolume is that of one worker after a given number of evaluations: 500 of `NSGA2`, 200 of `Bayes`.
`requests` are the statements that a database gets a second, at those of one trial that `tests/doors/test_database.py` counts. What a run gave is
kept in a raw file, so that a run that was stopped continues.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, envelope, write
from benchmarks.search_efficiency import problems
from benchmarks.search_efficiency.problems import Case
from nas_bo.strategies import NSGA2, Bayes, Strategy
from nas_bo.trial import State, Trial

MEDIAN_S, SIGMA = 600.0, 0.5
AFTER = {"NSGA2": 500, "Bayes": 200}  # evaluations of one worker, which the others have to equal
MOST = {"NSGA2": {1: 500, 256: 3000, 1000: 5000}, "Bayes": {1: 200}}  # evaluations after which a run ends anyway
ELSE = {"NSGA2": 1500, "Bayes": 400}
STATEMENTS = 26
RAW = RESULTS / "scale_simulation_raw.jsonl"


@dataclass(frozen=True)
class Run:
    """One simulated search."""

    strategy: str
    workers: int
    failures: float
    seed: int
    asynchronous: bool = False

    @property
    def trials(self) -> int:
        return MOST[self.strategy].get(self.workers, ELSE[self.strategy])

    @property
    def key(self) -> str:
        return f"{self.strategy}/{self.workers}/{self.failures:g}/{self.seed}" + "/asynchronous" * self.asynchronous


class Clock:
    """Workers that evaluate what is submitted, in simulated seconds."""

    def __init__(self, run: Run) -> None:
        self.free = [0.0] * run.workers
        self.failures, self.rng = run.failures, random.Random(f"{run.seed}/durations")
        self.wasted = 0.0

    def evaluate(self, now: float) -> float:
        """When an evaluation ends that is submitted now; the worker that is free first takes it."""
        began = max(now, heapq.heappop(self.free))
        lasts = MEDIAN_S * math.exp(SIGMA * self.rng.gauss(0.0, 1.0))
        while self.rng.random() < self.failures:  # the worker is lost; another one begins again
            lost = lasts * self.rng.random()
            self.wasted += lost
            began += lost
        heapq.heappush(self.free, began + lasts)
        return began + lasts


def simulate(run: Run, case: Case, until: float = math.inf) -> dict[str, Any]:
    """Its curve: [evaluations, hours, hypervolume], to the hypervolume `until`."""
    strategy: Strategy = NSGA2(seed=run.seed) if run.strategy == "NSGA2" else Bayes(seed=run.seed)
    problem = case.problem(run.seed)
    ordered = run.workers > 1 and not run.asynchronous
    window = 2 * run.workers if ordered else 1
    most = window if ordered else run.workers
    clock, now = Clock(run), 0.0
    outcomes: list[Trial] = []  # by number
    ends: list[float] = []
    running: list[tuple[float, int]] = []
    ended: list[tuple[float, int]] = []
    oldest: set[int] = set()
    curve: list[list[float]] = []
    rows: list[list[float]] = []
    steps = {round(10 * 1.05**k) for k in range(160)} | {run.trials}
    while len(ended) < run.trials and (not curve or curve[-1][2] < until):
        number = len(outcomes)
        if (
            number < run.trials
            and len(running) < most
            and not (ordered and min(oldest, default=number) <= number - window)
        ):
            late = set(range(max(0, number - window + 1), number)) if ordered else oldest
            seen = [
                Trial(t.architecture, state=State.RUNNING, number=t.number) if t.number in late else t for t in outcomes
            ]
            proposed = strategy.suggest(problem, seen, 1)
            if not proposed:
                break
            found = problem.evaluate(proposed[0])
            told = Trial(proposed[0], found.values, found.violations, found.state, found.reason, {}, number, 1.0)
            outcomes.append(told)
            ends.append(clock.evaluate(now))
            heapq.heappush(running, (ends[-1], number))
            oldest.add(number)
            continue
        now, number = heapq.heappop(running)
        oldest.discard(number)
        ended.append((now, number))
        row = case.row(outcomes[number].architecture)
        rows += [row] if row is not None else []
        if len(ended) in steps:
            curve.append([len(ended), round(now / 3600, 3), round(case.volume(rows), 4)])
    return {"key": run.key, "curve": curve, "wasted_hours": round(clock.wasted / 3600, 2)}


def reached(curve: Sequence[Sequence[float]], volume: float) -> tuple[float, float] | None:
    """(evaluations, hours) at which a curve is first at `volume`, between its points on a line; None where it never is."""
    before = [0.0, 0.0, 0.0]
    for point in curve:
        if point[2] >= volume:
            share = (volume - before[2]) / max(1e-12, point[2] - before[2])
            return before[0] + share * (point[0] - before[0]), before[1] + share * (point[1] - before[1])
        before = list(point)
    return None


def known() -> dict[str, Any]:
    if not RAW.exists():
        return {}
    return {row["key"]: row for row in map(json.loads, RAW.read_text().splitlines())}


def summary(runs: Sequence[Run], done: dict[str, Any], case: Case) -> dict[str, Any]:
    """For each strategy and number of workers: medians over the seeds."""
    figures: dict[str, Any] = {}
    for run in runs:
        one = done.get(Run(run.strategy, 1, 0.0, run.seed).key)
        own = done.get(run.key)
        if one is None or own is None:
            continue
        volume = one["curve"][-1][2]
        found = reached(own["curve"], volume)
        kind = run.strategy + ", asynchronous" * run.asynchronous
        mine = figures.setdefault(kind, {}).setdefault(str(run.workers), {}).setdefault(f"{run.failures:g}", [])
        first = reached(one["curve"], volume)
        mine.append((found, first, own))
    for by_workers in figures.values():
        for by_failures in by_workers.values():
            for failures, some in by_failures.items():
                whole = [(f, o) for f, o, _ in some if f is not None and o is not None]
                last = [own["curve"][-1] for _, _, own in some]
                by_failures[failures] = {
                    "seeds": len(some), "reached": len(whole),
                    "evaluations": round(statistics.median(f[0] for f, _ in whole), 1) if whole else None,
                    "evaluations_ratio": round(statistics.median(f[0] / o[0] for f, o in whole), 3) if whole else None,
                    "hours": round(statistics.median(f[1] for f, _ in whole), 2) if whole else None,
                    "speed_up": round(statistics.median(o[1] / f[1] for f, o in whole), 1) if whole else None,
                    "regret_at_the_end": round(statistics.median(1 - point[2] / case.hv for point in last), 4),
                    "trials_a_second": round(statistics.median(point[0] / point[1] / 3600 for point in last), 4),
                    "requests_a_second": round(STATEMENTS * statistics.median(point[0] / point[1] / 3600 for point in last), 2),
                }  # fmt: skip
    return figures


def picture(done: dict[str, Any], case: Case, path: Path) -> None:
    """Regret against hours, a line for each number of workers (`NSGA2`, without failures, first seed)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.2), dpi=110, layout="constrained", facecolor="white")
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot()
    styles = (
        ("#777777", "x"),
        ("#56B4E9", "v"),
        ("#009E73", "^"),
        ("#0072B2", "s"),
        ("#D55E00", "o"),
        ("#000000", "*"),
    )
    lines = [
        run
        for run in map(parsed, done)
        if run.strategy == "NSGA2" and not run.failures and run.seed == 0 and not run.asynchronous
    ]
    for run, (color, marker) in zip(sorted(lines, key=lambda r: r.workers), styles, strict=False):
        points = [p for p in done[run.key]["curve"] if p[1] > 0]
        axes.plot(
            [p[1] for p in points], [1 - p[2] / case.hv for p in points], color=color, marker=marker, markevery=4, ms=4,
            label=f"{run.workers} worker" + ("s" if run.workers > 1 else ""),
        )  # fmt: skip
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="hours (a median evaluation takes ten minutes)",
        ylabel="regret of the hypervolume",
    )
    axes.set_title("HW-GPT-Bench, perplexity and latency, NSGA2, simulated workers", fontsize=10, loc="left")
    axes.legend(fontsize=8, frameon=False)
    canvas.print_png(path)


def parsed(key: str) -> Run:
    strategy, workers, failures, seed, *more = key.split("/")
    return Run(strategy, int(workers), float(failures), int(seed), bool(more))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder of HW-GPT-Bench")
    parser.add_argument("--workers", nargs="*", type=int, default=[1, 4, 16, 64, 256, 1000])
    parser.add_argument("--failures", nargs="*", type=float, default=[0.0, 0.05, 0.1, 0.2])
    parser.add_argument("--failing-workers", type=int, default=64, help="with how many workers failures are tried")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--bayes-seeds", type=int, default=1)
    parser.add_argument("--bayes-workers", nargs="*", type=int, default=[1, 64])
    parser.add_argument(
        "--asynchronous", nargs="*", type=int, default=[64, 256, 1000], help="workers of asynchronous searches"
    )
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args(arguments)
    if asked.quick:  # the synthetic problem, which needs no data
        case, done = problems.load(["deep"], None)[0], {}
        asked.workers, asked.failures, asked.seeds, asked.bayes_seeds = [1, 4], [0.0, 0.2], 1, 0
        asked.asynchronous = [4]
        MOST["NSGA2"], ELSE["NSGA2"], asked.failing_workers = {1: 40}, 60, 4
    else:
        case, done = problems.load(["hwgpt-h100"], asked.data)[0], known()
    runs = [Run("NSGA2", w, 0.0, s) for s in range(asked.seeds) for w in asked.workers]
    runs += [Run("NSGA2", asked.failing_workers, f, s) for s in range(asked.seeds) for f in asked.failures if f]
    runs += [Run("Bayes", w, 0.0, s) for s in range(asked.bayes_seeds) for w in asked.bayes_workers]
    runs += [Run("NSGA2", w, 0.0, s, True) for s in range(asked.seeds) for w in asked.asynchronous]
    runs += [
        Run("Bayes", w, 0.0, s, True)
        for s in range(asked.bayes_seeds)
        for w in asked.bayes_workers
        if w in asked.asynchronous
    ]
    for run in runs:
        if run.key not in done:
            one = done.get(Run(run.strategy, 1, 0.0, run.seed).key)
            done[run.key] = simulate(run, case, one["curve"][-1][2] if one else math.inf)
            print(run.key, done[run.key]["curve"][-1], flush=True)
            if not asked.quick:
                with RAW.open("a") as raw:
                    raw.write(json.dumps(done[run.key]) + "\n")
    every = runs if asked.quick else [parsed(key) for key in sorted(done)]
    document = envelope(
        "simulated searches with many workers: evaluations and hours to the hypervolume of one worker (500 evaluations of NSGA2, 200 of Bayes); "
        "failures as a share of evaluations", "numpy", "moocore", problem=case.name, median_seconds=MEDIAN_S, sigma=SIGMA,
        statements_a_trial=STATEMENTS, figures=summary(every, done, case),
    )  # fmt: skip
    write(document, RESULTS / "scale_simulation.json", keep=not asked.quick)
    if not asked.quick:
        picture(done, case, RESULTS / "scale_simulation.png")


if __name__ == "__main__":
    main()
