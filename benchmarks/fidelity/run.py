"""How far can each cheap estimate of quality be trusted, and what does it save?

    python -m benchmarks.fidelity.run                      # every arm that is not in the raw file yet, then the report
    python -m benchmarks.fidelity.run --arms quarter       # these arms only (a part of the name is enough)
    python -m benchmarks.fidelity.run --report             # table, picture and figures from the raw file

The truth: 32 architectures of the default space drawn at random, each trained for 500,000 tokens with three seeds; held-out bits per
byte, mean of the seeds. Every estimate is compared with it by Kendall's tau, overall and with size removed (log parameters
regressed out of both), with bootstrap intervals over architectures; a prefix of one seed's run is compared with the mean of the
other seeds. Cost: processor seconds as a share of those of the reference runs of the same architectures; what is prepared once for all
(a supernet) is named beside it. Estimates that learn from the truth (predictors) are trained on some of the architectures and
compared on the others.

Every finished evaluation is one line of the raw file, so it may be stopped at any time and started again. All of it takes about an
hour of one core, of which the reference takes 20 minutes. Writes benchmarks/results/fidelity.{json,md,png}.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: one thread, so that processor time can be compared

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS
from benchmarks.fidelity import arms as fidelity_arms
from benchmarks.fidelity import learned
from benchmarks.fidelity.arms import Arm
from benchmarks.fidelity.report import write


def lines(raw: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in raw.read_text().splitlines() if line.strip()] if raw.exists() else []


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="*", default=[""], help="parts of the names of arms")
    parser.add_argument("--part", default="0/1", help="of the work, as in 0/2 and 1/2 for two processes")
    parser.add_argument("--raw", type=Path, default=RESULTS / "fidelity_raw.jsonl")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    options = parser.parse_args(argv)
    archs = fidelity_arms.architectures()
    if not options.report:
        part, parts = map(int, options.part.split("/"))
        for arm in fidelity_arms.ARMS:
            if any(word in arm.name for word in options.arms):
                measure(arm, archs, options.raw, part, parts)
        if any(word in learned.NAME for word in options.arms):
            predict(archs, options.raw)
    before = RESULTS / "fidelity.json"
    machine = json.loads(before.read_text())["machine"] if options.report and before.exists() else None
    write(lines(options.raw), archs, RESULTS, machine)
    return 0


def measure(arm: Arm, archs: list[Any], raw: Path, part: int, parts: int) -> None:
    done = {(line["index"], line["seed"]) for line in lines(raw) if line["arm"] == arm.name}
    first = arm.seeds[:1]  # one seed for fresh ones
    jobs = [(i, s) for s in arm.seeds for i in range(len(archs)) if i < fidelity_arms.FIRST or s in first][part::parts]
    todo = [job for job in jobs if job not in done]
    if not todo:
        return
    prepared = arm.prepare()
    for index, seed in todo:
        began = time.process_time()
        found = arm.evaluate(archs[index], seed)
        spent = time.process_time() - began
        line = {"arm": arm.name, "index": index, "seed": seed, "cpu": round(spent, 4), **found}
        if prepared:
            line["prepared_cpu"] = prepared
        raw.parent.mkdir(parents=True, exist_ok=True)
        with raw.open("a") as file:
            file.write(json.dumps(line) + "\n")
        sys.stderr.write(f"{arm.name} {index} seed {seed}: {found['value']:.4f} in {spent:.2f} CPU s\n")


def predict(archs: list[Any], raw: Path) -> None:
    kept = lines(raw)
    truth = {line["index"]: line["value"] for line in kept if line["arm"] == "reference" and line["seed"] == 0}
    done = {line["seed"] for line in kept if line["arm"] == learned.NAME}
    for number in sorted(set(range(learned.SPLITS)) - done):
        found = learned.split(archs, truth, number)
        with raw.open("a") as file:
            file.write(json.dumps({"arm": learned.NAME, "index": -1, "seed": number, **found}) + "\n")


if __name__ == "__main__":
    sys.exit(main())
