"""What the faults of a cluster cost a search: a worker, a raylet, the driver or the database is killed at a random moment (SIGKILL), or
the driver is asked to end (SIGTERM), as by a scheduler that takes the machine back.

    python -m benchmarks.scale.faults [--times 10] [--trials 40] [--only worker raylet driver database asked] [--tokens 20000] [--minutes 60]
        [--more] [--replace] [--quick]

`--more` adds to the searches of the results there, which must have had the same trials and tokens; with `--replace` the faults that are asked for
begin at none. Three raylets of this machine, one worker on each. A search of `search_spaces.tiny_gpt` with real trainings of `--tokens` tokens, in a PostgreSQL
server of this machine, in a process of its own; the same search without a fault is what it is compared with. Counted are

* lost: trials of the search without a fault that are missing, failed, or have another architecture or loss;
* twice: evaluations that came to their end a second time;
* begun, resumed: evaluations that were begun, over trials; and how many of them continued a training from its checkpoint;
* ratio: seconds, over those of the search without a fault. A raylet that was killed is started again; a driver too, and the database
  after three seconds.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from benchmarks.common import RESULTS, ROOT, envelope, spread, write
from nas_bo.objectives import ValidationLoss
from nas_bo.optuna import studies
from tests.doors import postgres
from tests.execution.ray_here import Raylets, raylets

KINDS = ("worker", "raylet", "driver", "database", "asked")
NODES = 3
AWAY_S = 3.0  # of the database
optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass(frozen=True)
class Trains:
    """A training that leaves a line when it begins and when it ends."""

    log: str
    tokens: float
    checkpoints: str
    name: str = "loss"
    unit: str = ""
    direction: str = "minimize"
    cost: str = "trained"

    def __call__(self, arch: Any) -> Any:
        self._line("begun", arch.id)
        value = ValidationLoss(tokens=self.tokens, evaluation_tokens=4096, device="cpu", checkpoints=self.checkpoints)(
            arch
        )
        if value.info.get("resumed"):
            self._line("resumed", arch.id)
        self._line("ended", arch.id)
        return value

    def _line(self, what: str, arch_id: str) -> None:
        with open(self.log, "a") as log:
            log.write(f"{what} {arch_id} {os.getpid()}\n")


class Case:
    """One search in a folder of its own."""

    def __init__(self, folder: Path, cluster: Raylets, server: str, trials: int, tokens: float) -> None:
        folder.mkdir()
        self.folder, self.log, self.cluster, self.trials, self.tokens = folder, folder / "log", cluster, trials, tokens
        self.storage = postgres.made(server, folder.name)

    def start(self) -> subprocess.Popen[bytes]:
        words = [self.cluster.address, self.storage, str(self.log), str(self.trials), str(self.tokens)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with (self.folder / "said").open("ab") as said:
            return subprocess.Popen(
                [sys.executable, "-m", "benchmarks.scale.faults", "--part", *words],
                stdout=said,
                stderr=said,
                env=environment,
            )

    def lines(self, what: str) -> list[list[str]]:
        some = [line.split() for line in self.log.read_text().splitlines()] if self.log.exists() else []
        return [line for line in some if line[0] == what]

    def evaluating(self) -> list[int]:
        """The processes that evaluate something now."""
        ended = Counter((arch, pid) for _, arch, pid in self.lines("ended"))
        return [int(pid) for _, arch, pid in self.lines("begun") if not ended[arch, pid] and alive(int(pid))]

    def wait_for(self, ended: int, process: subprocess.Popen[bytes]) -> None:
        while len(self.lines("ended")) < ended or not self.evaluating():
            if process.poll() is not None:
                return
            time.sleep(0.02)

    def trials_found(self) -> dict[int, Any]:
        record = studies.read(studies.load(self.storage, "faults"))
        return {t.number: (t.ended, t.arch_id, dict(t.values)) for t in record.trials}


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def part(address: str, storage: str, log: str, trials: str, tokens: str) -> None:
    """The search, in a process of its own."""
    from nas_bo import search
    from nas_bo.execution import Ray
    from nas_bo.objectives import Parameters
    from nas_bo.search_spaces import TinyGPT
    from nas_bo.strategies import Random

    search(
        TinyGPT, [Trains(log, float(tokens), f"{log}-kept"), Parameters(at_most=300_000)], executor=Ray(address, workers=NODES), strategy=Random(seed=0),
        trials=int(trials), retrain=0, storage=storage, study_name="faults",
    )  # fmt: skip


def run(case: Case, kind: str, moment: int, rng: random.Random, nodes: list[object]) -> float:
    """Let the search come to its end, with one fault after `moment` evaluations; its seconds."""
    begun = time.monotonic()
    process = case.start()
    if kind:
        case.wait_for(moment, process)
        time.sleep(rng.uniform(0.0, 0.5))
    if kind == "worker" and (some := case.evaluating()):
        os.kill(rng.choice(some), signal.SIGKILL)
    elif kind == "raylet":
        node = nodes.pop(rng.randrange(len(nodes)))
        case.cluster.kill(node)
        nodes.append(case.cluster.add(1))
    elif kind == "database":
        postgres.kill()
        time.sleep(AWAY_S)
        postgres.start()
    elif kind in ("driver", "asked"):
        process.send_signal(signal.SIGKILL if kind == "driver" else signal.SIGTERM)
        process.wait()
        process = case.start()
    if process.wait():
        print((case.folder / "said").read_text(errors="replace")[-3000:], flush=True)
    return time.monotonic() - begun


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--tokens", type=float, default=20_000)
    parser.add_argument("--minutes", type=float, default=math.inf, help="after which no further search is begun")
    parser.add_argument("--only", nargs="*", default=list(KINDS), choices=KINDS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--more", action="store_true", help="add to what is in the results")
    parser.add_argument("--replace", action="store_true", help="with --more: forget earlier searches of --only")
    parser.add_argument("--part", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args(arguments)
    if asked.part:
        part(*asked.part)
        return
    if asked.quick:
        asked.times, asked.trials, asked.tokens = 1, 6, 2000
    before, cases, kept = {}, [], RESULTS / "scale_faults.json"
    if asked.more and kept.exists():
        before = json.loads(kept.read_text())
        if (before["trials"], before["tokens"]) != (asked.trials, asked.tokens):
            parser.error(f"the results there have --trials {before['trials']} --tokens {before['tokens']:g}")
        cases = [one for one in before["cases"] if not (asked.replace and one["fault"] in asked.only)]
    rng, until = random.Random(f"{asked.seed} {len(cases)}"), time.monotonic() + 60 * asked.minutes
    with tempfile.TemporaryDirectory() as made, raylets() as cluster, postgres.serving() as server:
        folder = Path(made)
        cluster.add(1)
        nodes = [cluster.add(1) for _ in range(NODES - 1)]
        whole = Case(folder / "whole", cluster, server, asked.trials, asked.tokens)
        takes = run(whole, "", 0, rng, nodes)
        reference = whole.trials_found()
        print(f"{takes:.1f} s without a fault, {len(reference)} trials", flush=True)
        for time_ in range(asked.times):
            for kind in sorted(asked.only, key=lambda kind: sum(one["fault"] == kind for one in cases)):
                if time.monotonic() > until:
                    break
                case = Case(folder / f"{kind}{time_}", cluster, server, asked.trials, asked.tokens)
                seconds = run(case, kind, rng.randrange(1, max(2, asked.trials // 2)), rng, nodes)
                found = case.trials_found()
                again = Counter(arch for _, arch, _ in case.lines("ended"))
                seen = {
                    "fault": kind, "lost": sum(found.get(number) != trial for number, trial in reference.items()),
                    "twice": sum(n - 1 for n in again.values()),
                    "begun": round(len(case.lines("begun")) / len(reference), 3), "resumed": len(case.lines("resumed")), "ratio": round(seconds / takes, 3),
                }  # fmt: skip
                cases.append(seen)
                print(json.dumps(seen), flush=True)
    figures = {}
    for kind in sorted({one["fault"] for one in cases}, key=KINDS.index):
        own = [one for one in cases if one["fault"] == kind]
        sums = {what: sum(int(one[what]) for one in own) for what in ("lost", "twice", "resumed")}
        spreads = {what: spread([float(one[what]) for one in own]) for what in ("begun", "ratio")}
        figures[kind] = {"searches": len(own), **sums, **spreads}
    document = envelope(
        f"faults of a Ray cluster of {NODES} raylets in searches of {asked.trials} trials: lost, evaluated twice, seconds over those without",
        "ray", "torch", "optuna", "psycopg", seed=asked.seed, trials=asked.trials, tokens=asked.tokens, seconds=round(takes, 1), figures=figures, cases=cases,
    )  # fmt: skip
    write(document, kept, keep=not asked.quick)


if __name__ == "__main__":
    main()
