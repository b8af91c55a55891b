"""How many evaluations does a strategy need, ours and those that people already have?

    python -m benchmarks.search_efficiency.run --data FOLDER                     # everything that is not in the raw file yet
    python -m benchmarks.search_efficiency.run --data FOLDER --cost              # processor seconds of one question
    python -m benchmarks.search_efficiency.run --report                          # table, picture and figures from the raw file
    python -m benchmarks.search_efficiency.run --reference                       # the reference fronts of deep and limits

Problems: HW-GPT-Bench scale s on h100 and a100, with two and three objectives (FOLDER holds hwgpt.py, hwgpt_s.npz and
reference.json of that benchmark; left out without it), and two synthetic spaces: `deep`, conditional, 4 to 12 layers
(`deep-noisy`: with noise on the loss), and `limits`, three objectives under two limits; `nb201-...`: NAS-Bench-201; `llmforge` and `llmforge-loss`:
1,161 decoders that were trained, of which one is chosen at a time. `pipeline`: a choice among models, conditional on two levels. Arms: the strategies of nas_bo,
each also as NAME:blackbox, which may compute nothing by itself; Optuna's samplers; optuna-integration's BoTorchSampler;
Ax's default; pymoo's NSGA-II; SMAC3, syne-tune and NePS, which need an environment of their own (`arms/automl.py`). Figure: regret = 1 - HV(first n evaluations) / HV(reference front), of feasible points.

Every finished run is one line of the raw file, so it may be stopped at any time and started again; a run cut short
(Ctrl-C, the limit of an arm) is kept as far as it came. `--again ARM` does an arm anew. The complete thing is about
8 hours of one core: 45 minutes for our strategies, 6 hours for Ax and BoTorchSampler (`--arms ours` leaves out all peers).
One process uses one thread; start several with different --arms or --problems and the same raw file.

Needs the extra benchmark. Writes benchmarks/results/search_efficiency.{json,md,png}.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy: one thread, so that processor time can be compared
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import json
import platform
import random
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS
from benchmarks.search_efficiency import arms as search_arms
from benchmarks.search_efficiency import problems as search_problems
from benchmarks.search_efficiency.arms import Arm
from benchmarks.search_efficiency.problems import Case
from nas_bo.architecture import Architecture

CHECKPOINTS = (10, 25, 50, 100, 200)
HISTORIES = (50, 100, 200, 500, 1000)  # lengths at which the cost of a question is measured
COST_PROBLEMS = ("hwgpt-h100", "hwgpt-h100-3", "deep")
ASKS = 21  # questions then asked: the first, which imports and fills caches, and a whole generation of twenty
ASK_SECONDS = 30.0  # of processor time, after which no more are asked
TOO_SLOW = 90.0  # a question that takes longer ends an arm's row


def run(arm: Arm, case: Case, seed: int, trials: int, minutes: float) -> dict[str, Any]:
    """One search, as far as it comes: a line of the raw file."""
    session = arm.make(case, seed)
    rows: list[list[float]] = []
    steps: list[list[float]] = []
    cpu: list[float] = []
    ids: set[str] = set()
    volume, stopped = 0.0, ""
    start = time.process_time()
    try:
        while len(cpu) < trials and not stopped:
            began = time.process_time()
            arch = session.ask()
            asked = time.process_time() - began
            if arch is None:
                stopped = "nothing left to suggest"
                break
            outcome = session.evaluate(arch)
            began = time.process_time()
            session.tell(arch, outcome)
            cpu.append(asked + time.process_time() - began)
            ids.add(arch.id)
            row = case.row(arch)
            if row is not None:
                rows.append(row)
                if (now := case.volume(rows)) > volume * (1 + 1e-9):  # not the rounding of the same front
                    volume = now
                    steps.append([len(cpu), round(volume, 7)])
            if time.process_time() - start > 60 * minutes and len(cpu) < trials:
                stopped = f"after {minutes:g} minutes of processor time"
    except KeyboardInterrupt:
        stopped = "interrupted"
    return {
        "trials": len(cpu),
        "wanted": trials,
        "stopped": stopped,
        "hypervolume": steps,
        "feasible": len(rows),
        "distinct": len(ids),
        "cpu_s": {
            "total": round(sum(cpu), 3),
            "at": {str(n): round(statistics.mean(cpu[max(0, n - 20) : n]), 6) for n in CHECKPOINTS if n <= len(cpu)},
        },
    }


def cost(arm: Arm, case: Case, n: int) -> dict[str, Any]:
    """Processor seconds of a question (and of being told the answer) after `n` random architectures."""
    rng, seen = random.Random(f"history/{n}"), dict[str, Architecture]()
    while len(seen) < n:
        drawn = case.space.sample(rng)
        seen[drawn.id] = drawn
    session = arm.make(case, 0)
    session.load(list(seen.values()))
    cpu: list[float] = []
    while len(cpu) < 2 or (len(cpu) < ASKS and sum(cpu) < ASK_SECONDS):
        began = time.process_time()
        arch = session.ask()
        asked = time.process_time() - began
        if arch is None:
            break
        outcome = session.evaluate(arch)
        began = time.process_time()
        session.tell(arch, outcome)
        cpu.append(asked + time.process_time() - began)
    if not cpu:
        return {"skipped": "nothing left to suggest"}
    return {"cpu_s": round(statistics.mean(cpu[1:] or cpu), 6), "first_cpu_s": round(cpu[0], 4), "asks": len(cpu)}


def read(raw: Path) -> Iterator[dict[str, Any]]:
    if raw.exists():
        for line in raw.read_text().splitlines():
            if line.strip():
                yield json.loads(line)


def append(raw: Path, line: dict[str, Any]) -> None:
    raw.parent.mkdir(parents=True, exist_ok=True)
    with raw.open("a") as file:
        file.write(json.dumps(line) + "\n")


def described(kind: str, arm: Arm, case: Case) -> dict[str, Any]:
    """What every line says of where it comes from."""
    from nas_bo.hardware.measuring.measure import device_name  # imports torch

    return {
        "kind": kind,
        "problem": case.name,
        "arm": arm.name,
        "ours": arm.ours,
        "fingerprint": arm.fingerprint(case),
        "settings": dict(arm.settings),
        "source": search_arms.ours.source() if arm.ours else "",
        "versions": {"python": platform.python_version(), **arm.versions()},
        "machine": device_name("cpu"),
    }


def curves(given: argparse.Namespace, cases: list[Case], arms: list[Arm], over: Callable[[], bool]) -> None:
    done = {}
    for line in read(given.raw):
        if line["kind"] == "curve" and line["stopped"] != "interrupted":
            done[line["problem"], line["arm"], line["seed"]] = line
    for case in cases:
        for seed in range(max(given.seeds or arm.seeds for arm in arms)):
            for arm in arms:
                trials = given.trials or arm.trials
                old = done.get((case.name, arm.name, seed))
                finished = old is not None and (old["wanted"] >= trials and old["fingerprint"] == arm.fingerprint(case))
                if seed >= (given.seeds or arm.seeds) or (finished and arm.name not in given.again):
                    continue
                if over():
                    return
                found = run(arm, case, seed, trials, given.run_minutes or arm.run_minutes)
                best = {str(n): regret for n, regret in case.best.items()}
                where = {
                    "seed": seed,
                    "point": list(case.point),
                    "reference": case.hv if case.hv > 0 else None,
                    "best": best,
                }
                append(given.raw, described("curve", arm, case) | where | found)
                volume = found["hypervolume"][-1][1] if found["hypervolume"] else 0.0
                told = (
                    f"{case.name} {arm.name} seed {seed}: {found['trials']} trials, regret {1 - volume / case.hv:.4f}"
                )
                print(f"{told}, {found['cpu_s']['total']:.1f} CPU s {found['stopped']}", flush=True)
                if found["stopped"] == "interrupted":
                    raise KeyboardInterrupt


def costs(given: argparse.Namespace, cases: list[Case], arms: list[Arm], over: Callable[[], bool]) -> None:
    done = {}
    for line in read(given.raw):
        if line["kind"] == "cost":
            done[line["problem"], line["arm"], line["n"]] = line
    for case in cases:
        for arm in arms:
            slow = ""
            for n in given.histories:
                old = done.get((case.name, arm.name, n))
                if old is None or old["fingerprint"] != arm.fingerprint(case) or arm.name in given.again:
                    if over():
                        return
                    found = {"skipped": slow} if slow else cost(arm, case, n)
                    old = described("cost", arm, case) | {"n": n} | found
                    append(given.raw, old)
                    print(f"{case.name} {arm.name} n={n}: {found}", flush=True)
                if old.get("cpu_s", 0.0) > TOO_SLOW or old.get("first_cpu_s", 0.0) > 2 * TOO_SLOW:
                    slow = f"a question took {old['cpu_s']:.0f} s at n={n}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder of HW-GPT-Bench")
    parser.add_argument("--problems", nargs="+", default=[], metavar="PROBLEM", help="by default all")
    parser.add_argument("--arms", nargs="+", default=[], metavar="ARM", help="names, or ours, or peers")
    parser.add_argument("--seeds", type=int, help="how many; by default 10, fewer for slow arms")
    parser.add_argument("--trials", type=int, help="by default 200, fewer for slow arms")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start nothing new after that (wall time)")
    parser.add_argument("--run-minutes", type=float, help="end a run after that much processor time; it is kept")
    parser.add_argument("--again", nargs="+", default=[], metavar="ARM", help="do these anew")
    parser.add_argument("--raw", type=Path, default=RESULTS / "search_efficiency_raw.jsonl")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder for the report")
    parser.add_argument("--cost", action="store_true", help="measure the cost of a question instead of searching")
    parser.add_argument("--histories", type=int, nargs="+", default=HISTORIES, help="the lengths for --cost")
    parser.add_argument("--report", action="store_true", help="make table, picture and figures, and run nothing")
    parser.add_argument("--reference", type=int, nargs="?", const=200_000, metavar="EVALUATIONS")
    given = parser.parse_args()
    if given.report:
        from benchmarks.search_efficiency.report import report

        print(report(list(read(given.raw)), given.out))
        return
    if given.reference:
        reference(given.reference)
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what runs is kept
    start = time.monotonic()
    try:
        problems = given.problems or (COST_PROBLEMS if given.cost else search_problems.NAMES)
        cases, arms = search_problems.load(problems, given.data), search_arms.named([*given.arms, *given.again])
    except (KeyError, FileNotFoundError) as error:
        parser.error(str(error.args[0]))
    for arm in [a for a in arms if a.missing]:
        print(f"{arm.name} is left out: {arm.missing}", file=sys.stderr)
    arms = [a for a in arms if not a.missing]
    try:
        (costs if given.cost else curves)(given, cases, arms, lambda: time.monotonic() - start > 60 * given.minutes)
    except KeyboardInterrupt:
        sys.exit("interrupted; what had begun is kept, start again to go on")


def reference(evaluations: int) -> None:
    from benchmarks.search_efficiency.problems.reference import reference as front

    for name in ("deep", "limits"):
        path = search_problems.REFERENCE
        stored = json.loads(path.read_text()) if path.exists() else {}
        stored[name] = front(search_problems.synthetic(name), evaluations, seeds=3)
        path.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
