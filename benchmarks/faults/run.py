"""What faults cost a search: kills at random moments, clocks that jump, memory that ends, locks that are late.

    python -m benchmarks.faults.run [--moments 50] [--only kills clock memory locks] [--seed 0] [--quick]

Each case is a search of `part.py` (10 trials, a baseline, re-trainings, the report) in a process of its own. It is compared with the
same search without a fault: the same trials with the same values, the same re-trainings, the same baseline. Counted are

* lost: trials, re-trainings or baselines of the other search that are missing, or have other values;
* twice: architectures that have two trials; evaluations, re-trainings and baselines that are made again though a study had their outcome
  when its process was killed (what was running, or had ended a moment before, is evaluated again);
* exceptions: tracebacks on the screen, and ends by anything else than the fault. Not counted is what Python's `multiprocessing` writes
  in a process that was just being started when the one that started it was killed;
* hangs: a search that takes three times as long as that without a fault (that a new process begins included) and 10 s more to come to
  its end: how busy the machine is changes meanwhile. With late locks it is four times and 30 s.

kills: SIGKILL of the process of the search at a random moment between its begin and its end, once to three times, then it continues.
The storages and one and two workers come in turn. clock: the clock of the machine jumps by a day, back and ahead, during the search.
memory: RLIMIT_AS two gigabytes above what the process has, and an objective that takes all of it for a third of the architectures. locks: every lock of a file takes 30 ms on average.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna

from benchmarks.common import RESULTS, ROOT, envelope, write
from benchmarks.faults.part import is_greedy
from nas_bo.errors import NasBoError
from nas_bo.optuna import studies
from tests import fork_server
from tests.doors import postgres
from tests.processes import Python

SECONDS = 0.05  # of an evaluation
LONGER_S = 10.0
STORAGES = ("sqlite", "journal", "postgresql")
UNSTARTED = re.compile(r"in spawn_main\n(?:  .*\n)*EOFError: Ran out of input")
COUNTED = ("lost", "twice", "exceptions", "hangs")
optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass
class Case:
    """One search in a folder of its own."""

    folder: Path
    storage: str
    workers: int
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def start(self) -> Python:
        settings = {
            "log": str(self.log),
            "storage": self.storage,
            "workers": self.workers,
            "seconds": SECONDS,
            **self.more,
        }
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "NAS_BO_CACHE": str(self.folder.parent),
        }
        with (self.folder / "said").open("ab") as said:
            return Python(
                "-m", "benchmarks.faults.part", json.dumps(settings), stdout=said, stderr=said, cwd=self.folder, env=environment
            )  # fmt: skip

    def phase(self) -> str:
        mark = Path(f"{self.log}.phase")
        return (mark.read_text() or "?") if mark.exists() else "start"

    def evaluations(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def found(self) -> dict[str, Any]:
        """What is in the study, as far as it must be the same in every run."""
        record = studies.read(studies.load(self.storage, "faults"))
        trials = {t.number: (t.ended, t.arch_id, dict(t.values)) for t in record.trials}
        again = {key: dict(r["values"]) for key, r in record.retrained.items()}
        return {
            "trials": trials,
            "retrained": again,
            "baselines": {b["id"]: dict(b["values"]) for b in record.baselines},
        }


def outcomes(case: Case) -> Counter[str]:
    """Of every evaluation whose outcome is in the study: how many lines of the log it has."""
    try:
        found = case.found()
    except NasBoError:  # it was killed before it had made a study
        return Counter()
    baselines = set(found["baselines"])
    trials = {arch_id for ended, arch_id, _ in found["trials"].values() if ended}
    lines = Counter(case.evaluations())
    return Counter(
        {
            line: n
            for line, n in lines.items()
            if (arch_id := line.split()[1]) not in baselines
            and arch_id in (trials if line.startswith("1 ") else found["retrained"])
        }
    )


def counts(case: Case, whole: dict[str, Any], kills: list[Counter[str]], code: int, late: bool) -> dict[str, int]:
    """`kills` has the `outcomes` after each."""
    found = case.found()
    missing = sum(found[part].get(key) != value for part in whole for key, value in whole[part].items())
    ids = Counter(arch_id for _, arch_id, _ in found["trials"].values())
    lines = Counter(case.evaluations())
    needed = len(whole["trials"]) + len(whole["retrained"]) + len(whole["baselines"])
    again = (
        sum(lines[line] > n for known in kills for line, n in known.items())
        if kills
        else len(case.evaluations()) - needed
    )
    said = (case.folder / "said").read_text(errors="replace")
    tracebacks = said.count("Traceback (most recent call last)") - min(
        len(kills) * case.workers, len(UNSTARTED.findall(said))
    )
    return {
        "lost": missing + max(0, len(whole["trials"]) - len(found["trials"])),
        "twice": sum(n - 1 for n in ids.values()) + max(0, again),
        "exceptions": tracebacks + (code != 0),
        "hangs": int(late),
    }


def run_whole(case: Case) -> tuple[dict[str, Any], float]:
    begun = time.monotonic()
    code = case.start().wait(300)
    if code:
        raise SystemExit(f"the search without a fault failed: {(case.folder / 'said').read_text()[-2000:]}")
    return case.found(), time.monotonic() - begun


def end(case: Case, takes: float) -> tuple[int, bool]:
    """Let it come to its end: its exit code, and whether it took too long."""
    process = case.start()
    try:
        return process.wait(3 * takes + LONGER_S), False
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait(), True


def killed(case: Case, whole: dict[str, Any], takes: float, rng: random.Random) -> dict[str, Any]:
    phases, known, times = [], [], rng.choice([1, 1, 2, 3])
    for _ in range(times):
        process = case.start()
        moment = rng.uniform(0.0, takes)
        try:
            process.wait(moment)
            break  # it was faster
        except subprocess.TimeoutExpired:
            phases.append(case.phase())
            process.send_signal(signal.SIGKILL)
            process.wait()
            known.append(outcomes(case))
    code, late = end(case, takes)
    return {"phases": phases, **counts(case, whole, known, code, late)}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=50)
    parser.add_argument("--only", nargs="*", default=["kills", "clock", "memory", "locks"])
    parser.add_argument("--storages", nargs="*", default=list(STORAGES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default=str(RESULTS / "faults.json"))
    parser.add_argument("--minutes", type=float, default=600.0, help="begin no further case after so many")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args(arguments)
    begun = time.monotonic()
    forking()
    rng, cases = random.Random(asked.seed), []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        storages = [name for name in asked.storages if name != "postgresql"]
        address = ""
        if "postgresql" in asked.storages:
            try:
                address = stack.enter_context(postgres.serving())
                storages.append("postgresql")
            except postgres.Unavailable as reason:
                print(f"without PostgreSQL: {reason}", flush=True)

        def case(storage: str, workers: int, **more: Any) -> Case:
            own = folder / f"{len(list(folder.iterdir()))}"
            own.mkdir()
            where = {"sqlite": str(own / "s.db"), "journal": str(own / "s.log")}.get(storage) or database(
                address, own.name
            )
            return Case(own, where, workers, more)

        whole: dict[tuple[str, int], tuple[dict[str, Any], float]] = {}
        run_whole(case("journal", 1))  # loads what is loaded once
        for workers in (1, 2):
            found = run_whole(case("journal", workers))
            print(workers, f"{found[1]:.1f} s without a fault", flush=True)
            whole |= {(storage, workers): found for storage in storages}
        kinds = list(whole)
        todo: list[tuple[str, tuple[str, int], dict[str, Any]]] = []
        if "kills" in asked.only:
            todo += [("kills", kinds[k % len(kinds)], {}) for k in range(2 if asked.quick else asked.moments)]
        for name, more in (
            ("clock", {"clock": True}), ("locks", {"locks": 0.03}), ("memory", {"greedy": 2e9}),
        ):  # fmt: skip
            if name in asked.only:
                todo += [(name, kind, more) for kind in kinds]
        for name, kind, more in todo:
            if time.monotonic() - begun > 60 * asked.minutes:
                print(f"{len(todo) - len(cases)} cases are left out: the time is over", flush=True)
                break
            reference, takes = whole[kind]
            one = case(*kind, **more)
            if name == "kills":
                seen = killed(one, reference, takes, rng)
            else:
                takes = (4 * takes + 20) / 3 if name == "locks" else takes
                code, late = end(one, takes)
                if name == "memory":
                    reference = without_greedy(reference, one)
                seen = {"phases": [], **counts(one, reference, [], code, late)}
            seen |= {"fault": name, "storage": kind[0], "workers": kind[1]}
            cases.append(seen)
            print(json.dumps(seen), flush=True)
            if any(seen[what] for what in COUNTED):
                print((one.folder / "said").read_text(errors="replace")[-3000:], flush=True)
    figures: dict[str, Any] = {}
    for name in asked.only:
        own = [seen for seen in cases if seen["fault"] == name]
        sums = {what: sum(seen[what] for seen in own) for what in COUNTED}
        figures[name] = {"searches": len(own), "kills": sum(len(seen["phases"]) for seen in own), **sums}
    there = (
        json.loads(Path(asked.out).read_text()) if Path(asked.out).is_file() else {}
    )  # what was not asked for now stays
    cases += [seen for seen in there.get("cases", ()) if seen["fault"] not in asked.only]
    figures |= {
        name: kept for name, kept in there.get("figures", {}).items() if name not in (*asked.only, "phases_of_kills")
    }
    phases = Counter(phase for seen in cases for phase in seen["phases"])
    document = envelope(
        "faults of searches of 10 trials: what was lost, was there twice, raised or hung", "optuna", "sqlalchemy",
        seed=asked.seed, figures={**figures, "phases_of_kills": dict(sorted(phases.items()))}, cases=cases,
    )  # fmt: skip
    write(document, asked.out, keep=not asked.quick)


def forking() -> None:
    """Processes are forked from one that has the libraries loaded, as in the tests: a kill meets the search, not its imports."""
    place = f"{tempfile.mkdtemp(prefix='nas-bo-fork-')}/server.{os.getpid()}"
    os.environ.setdefault(fork_server.PLACE, place)
    os.environ.setdefault(fork_server.RUN, f"{place}.cpu")


def without_greedy(reference: dict[str, Any], case: Case) -> dict[str, Any]:
    """What must be there where some architectures ask for too much: their trials, failed; all others as ever, the baseline too."""
    trials = {
        number: ("failed", arch_id, {}) if is_greedy(arch_id) else (ended, arch_id, values)
        for number, (ended, arch_id, values) in reference["trials"].items()
    }
    again = case.found()["retrained"]  # of another front, which may have more members
    retrained = {key: reference["retrained"].get(key, values) for key, values in again.items()}
    baselines = {key: values for key, values in reference["baselines"].items() if not is_greedy(key)}
    return {"trials": trials, "retrained": retrained, "baselines": baselines}


def database(address: str, name: str) -> str:
    import psycopg

    with psycopg.connect(f"postgresql://postgres@{address}/postgres", autocommit=True) as connection:
        connection.execute(f'create database "faults{name}"')
    return f"postgresql://postgres@{address}/faults{name}"


if __name__ == "__main__":
    main()
