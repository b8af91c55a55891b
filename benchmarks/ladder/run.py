"""Does the small winner win at scale? A search in `tiny_gpt`, its front and controls on three rungs: 0.03, 0.1 and 0.33 M parameters.

    python -m benchmarks.ladder.run [--quick] [--work FOLDER] [--minutes 9]

The search takes 24 trials of 20,000 tokens among architectures of 15,000 to 60,000 parameters (so that the largest rung is bounded). The ladder
trains twelve architectures, two seeds, on 0.25 tokens per parameter in steps of 256 tokens: far fewer than the 20 of a real run, chosen so that all
of it takes less than a quarter of an hour of one core. What is asked: decision accuracy of the smallest rung .80 over all pairs and .70 among
architectures of about equal size. Every training is kept in FOLDER, so that a run that `--minutes` has ended continues there. Writes
benchmarks/results/ladder.json and ladder.png.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock

from benchmarks.common import RESULTS, envelope, write
from nas_bo import search
from nas_bo.model import parameters
from nas_bo.objectives import Parameters, ValidationLoss
from nas_bo.search_spaces import TinyGPT
from nas_bo.space import require
from nas_bo.strategies import Bayes
from nas_bo.workflows.ladder import ladder, plan_ladder
from nas_bo.workflows.progress import Progress

SMALLEST, LARGEST = 15_000, 60_000
BUDGET, TRIALS = 20_000, 24
HOW = {"rungs": 3, "factor": 3.5, "tokens_per_parameter": 0.25, "seeds": 2, "architectures": 12}
QUICK = {"rungs": 3, "factor": 1.5, "tokens_per_parameter": 0.04, "seeds": 1, "architectures": 6}


class Small(TinyGPT):
    @require
    def of_the_sizes_wanted(arch):  # type: ignore[no-untyped-def]
        return SMALLEST <= parameters(arch, 256) <= LARGEST


class OutOfTime(Exception):
    """What was trained is kept; the same command continues."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two steps each, and no file is written")
    parser.add_argument("--work", type=Path, help="a folder for the study and the trainings; default a temporary one")
    parser.add_argument("--minutes", type=float, default=1e6, help="after which no further training is begun")
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp(prefix="ladder-"))
    work.mkdir(parents=True, exist_ok=True)
    FileLock(work / "run.lock").acquire()  # until the process ends: two would train the same
    how, until = QUICK if options.quick else HOW, time.monotonic() + 60 * options.minutes

    def shown(progress: Progress) -> None:
        print(f"{progress.phase} {progress.done}/{progress.total} {progress.label}", flush=True)
        if time.monotonic() > until and progress.done < progress.total:
            raise OutOfTime

    loss = ValidationLoss(tokens=1_500 if options.quick else BUDGET, batch_size=4)
    try:
        found = search(
            Small, [loss, Parameters()], trials=8 if options.quick else TRIALS, strategy=Bayes(seed=0), retrain=0, baseline=None,
            storage=str(work / "study.db"), workers=1, on_progress=shown,
        )  # fmt: skip
        if options.quick:
            print(plan_ladder(found, Small, **how))
        made = ladder(found, Small, keep=work / "ladder.jsonl", checkpoints=work, on_progress=shown, **how)
    except OutOfTime:
        print("out of time; what was trained is kept, the same command continues")
        return
    print(made)
    first = made.decisions[0]
    asked = {"overall": 0.8, "equal": 0.7}
    reached = {name: round(one.value, 3) for name, one in (("overall", first.overall), ("equal", first.equal))}
    write(
        envelope(
            "decision accuracy of small rungs about the largest, tiny_gpt, bits per byte on the source of the standard library",
            "nas_bo", "torch", repeats=how["seeds"], asked=asked, reached=reached,
            met={name: reached[name] >= bound for name, bound in asked.items()},
            first_line=made.first_line, noise_sd=round(made.noise, 4), seconds=[round(rung.seconds) for rung in made.rungs],
            ceiling=[asdict(one) for one in made.ceiling], ladder=made.to_dict(),
        ),
        "ladder.json",
        keep=not options.quick,
    )  # fmt: skip
    if not options.quick:
        (RESULTS / "ladder.png").write_bytes(made.files()["ladder.png"])


if __name__ == "__main__":
    main()
