"""What a trial costs a search beside its evaluation, as a study grows: processor time and time, by storage.

    python -m benchmarks.rates.run [--only search threads ask_tell door] [--storages memory journal sqlite postgresql proxy]
                                   [--quick] [--postgresql URL]

A study of `search_spaces.tiny_gpt` with analytic objectives, proposed at random, is filled with records of finished trials, and
goes on from there: so what is timed at the 3,000th trial is that trial and nothing before it. Each figure is the median of windows
of 20 trials, each window with a search (or a session) of its own that has read the study before its clock starts; the spread is that
of the windows. `search` is one worker, without a tracker and without a report; `ask_tell` asks and tells in one process; `threads`
asks and tells from 32 threads of one process, each with a session of its own, on a journal, on PostgreSQL and on PostgreSQL behind Optuna's gRPC proxy, a process of its own (`proxy`). `door` is `Study.optimize` in
memory with `nas_bo.optuna.Sampler` and a strategy that costs nothing, next to Optuna's own random sampler. Studies are filled to 3,000 trials for
searches in memory, on a journal and in SQLite and for the door, to 1,000 else. What is measured is written after every part, next to what the file holds already.
PostgreSQL is a server of its own that is started for this (as in the tests, without waiting for the disk), or the empty database that
`--postgresql` names.
"""

from __future__ import annotations

import argparse
import gc
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import optuna

from benchmarks.common import RESULTS, ROOT, envelope, write
from nas_bo import search
from nas_bo.objectives import Flops, Parameters
from nas_bo.optuna import Sampler, patient, suggest
from nas_bo.search_spaces import TinyGPT
from nas_bo.strategies import Random
from nas_bo.workflows.ask_tell import AskTell
from tests.doors import postgres

STORAGES = {"memory": None, "journal": "study.log", "sqlite": "study.db"}
WINDOW, WINDOWS = 20, 3
SIZES = {"memory": (100, 3000), "journal": (100, 3000), "sqlite": (100, 3000), "postgresql": (100, 1000)}
ASKED = (100, 1000)
DOOR = (100, 1000, 3000)
optuna.logging.set_verbosity(optuna.logging.ERROR)


def reported(arch: Any) -> float:
    """An objective that costs nothing and is none of those that are known."""
    return float(arch.depth)


def filled(storage: Any, upto: int, made: list[optuna.trial.FrozenTrial], kind: str) -> optuna.Study:
    """The study of a search (or a session), with `upto` finished trials."""
    first = begin(kind, storage, 1)
    missing = made[len(first.trials) : upto]
    patient.together(first, lambda: first.add_trials(missing))  # one transaction
    return first


def begin(kind: str, storage: Any, trials: int, on_progress: Any = None) -> optuna.Study:
    if kind == "search":
        return search(
            TinyGPT, [Parameters(), Flops(), reported], strategy=Random(seed=0), trials=trials, storage=storage, retrain=0,
            on_progress=on_progress,
        ).study  # fmt: skip
    session = asking(storage)
    for _ in range(trials):
        asked = session.ask()
        session.tell(asked.number, {"reported": reported(asked.architecture)})
    return session.study


def asking(storage: Any) -> AskTell:
    return AskTell(TinyGPT, [Parameters(), Flops(), "reported"], strategy=Random(seed=0), storage=storage)


class Clock:
    """From the first report of a search, when all is read, to the last trial."""

    def __init__(self, trials: int) -> None:
        self.trials, self.began, self.found = trials, (0.0, 0.0), (0.0, 0.0)

    def start(self) -> None:
        self.began = time.process_time(), time.perf_counter()

    def stop(self) -> None:
        cpu, wall = time.process_time(), time.perf_counter()
        self.found = tuple(1e3 * (now - then) / self.trials for now, then in zip((cpu, wall), self.began, strict=True))  # type: ignore[assignment]

    def __call__(self, progress: Any) -> None:
        if progress.phase == "search":
            if progress.trial is None:
                self.start()
            elif progress.done == progress.total:
                self.stop()


def figures(windows: list[tuple[float, float]]) -> dict[str, Any]:
    cpu, wall = zip(*windows, strict=True)
    return {
        "cpu_ms": round(statistics.median(cpu), 2),
        "cpu_ms_spread": [round(min(cpu), 2), round(max(cpu), 2)],
        "wall_ms": round(statistics.median(wall), 2),
        "wall_ms_spread": [round(min(wall), 2), round(max(wall), 2)],
        "trials_per_second": round(1e3 / statistics.median(wall), 1),
    }


def place(storage: str, folder: Path, server: str) -> Any:
    if storage in ("postgresql", "proxy"):
        return server
    name = STORAGES[storage]
    return optuna.storages.InMemoryStorage() if name is None else str(folder / name)


def new_database(address: str) -> str:
    """One of its own for each part, on the same server."""
    import psycopg

    name = f"rates{time.monotonic_ns()}"
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f'create database "{name}"')  # type: ignore[call-overload]
    return f"{address.rpartition('/')[0]}/{name}"


def searching(where: Any, sizes: tuple[int, ...], made: Any) -> dict[str, Any]:
    found = {}
    for size in sizes:
        filled(where, size, made, "search")
        windows = []
        for window in range(WINDOWS):
            clock = Clock(WINDOW)
            begin("search", where, size + WINDOW * (window + 1), clock)
            windows.append(clock.found)
        found[str(size)] = figures(windows)
    return found


def ask_tell(where: Any, sizes: tuple[int, ...], made: Any) -> dict[str, Any]:
    found = {}
    for size in sizes:
        filled(where, size, made, "ask_tell")
        windows = []
        session = asking(where)
        asked = session.ask()
        session.tell(asked.number, {"reported": 1.0})
        for _ in range(WINDOWS):
            clock = Clock(WINDOW)
            clock.start()
            for _ in range(WINDOW):
                asked = session.ask()
                session.tell(asked.number, {"reported": reported(asked.architecture)})
            clock.stop()
            windows.append(clock.found)
        found[str(size)] = figures(windows)
    return found


def threads(where: Any, count: int, each: int) -> dict[str, Any]:
    gc.collect()  # a server admits so many connections, and those of the parts before may be open
    sessions = [asking(where) for _ in range(count)]
    clock = Clock(count * each)

    def work(session: AskTell) -> None:
        for _ in range(each):
            asked = session.ask()
            session.tell(asked.number, {"reported": reported(asked.architecture)})

    running = [threading.Thread(target=work, args=(session,)) for session in sessions]
    clock.start()
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    clock.stop()
    ended = [t.state.name for t in sessions[0].study.trials]
    return {**figures([clock.found]), "threads": count, "trials": len(ended), "complete": ended.count("COMPLETE")}


def door(sizes: tuple[int, ...]) -> dict[str, Any]:
    """`Study.optimize` with our sampler and Optuna's own random one."""
    samplers = {
        "nas_bo": Sampler(TinyGPT, Random(seed=0)),
        "nas_bo_without_space": Sampler(None, Random(seed=0)),
        "optuna_random": optuna.samplers.RandomSampler(seed=0),
    }

    def evaluate(trial: optuna.Trial) -> tuple[float, float]:
        arch = suggest(trial, TinyGPT)
        return float(arch.depth), 1.0 / arch.depth

    found: dict[str, Any] = {}
    for name, sampler in samplers.items():
        study = optuna.create_study(directions=["minimize"] * 2, sampler=optuna.samplers.RandomSampler(seed=1))
        for size in sizes:
            study.optimize(evaluate, n_trials=size - len(study.trials))
            study.sampler = sampler
            study.optimize(evaluate, n_trials=1)
            windows = []
            for _ in range(WINDOWS):
                clock = Clock(WINDOW)
                clock.start()
                study.optimize(evaluate, n_trials=WINDOW)
                clock.stop()
                windows.append(clock.found)
            found.setdefault(name, {})[str(size)] = figures(windows)
    return found


@contextmanager
def proxied(address: str) -> Iterator[str]:
    """The address of a proxy in front of a database."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = f"import optuna; from nas_bo.optuna import storages; optuna.storages.run_grpc_proxy_server(storages.backend({address!r}), host='127.0.0.1', port={port})"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    try:
        optuna.storages.GrpcStorageProxy(host="127.0.0.1", port=port).wait_server_ready(120)
        yield f"grpc://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@contextmanager
def server(named: str, wanted: bool) -> Iterator[str]:
    """The address of an empty database; nothing where none is wanted."""
    if named or not wanted:
        yield named
        return
    with postgres.serving() as address:
        yield f"postgresql://postgres@{address}/postgres"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=["search", "threads", "ask_tell", "door"])
    parser.add_argument("--storages", nargs="*", default=[*STORAGES, "postgresql", "proxy"])
    parser.add_argument("--postgresql", default="", metavar="URL")
    parser.add_argument("--out", default=str(RESULTS / "rates.json"))
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args(arguments)
    with server(asked.postgresql, bool({"postgresql", "proxy"} & {*asked.storages})) as address:
        measure(asked, address)


def measure(asked: argparse.Namespace, address: str) -> None:
    storages = list(asked.storages)
    found: dict[str, Any] = {}
    if not asked.quick and Path(asked.out).exists():
        found = json.loads(Path(asked.out).read_text())["figures"]
    for kind in asked.only:
        sizes = {
            name: (30,) if asked.quick else {"ask_tell": ASKED, "door": DOOR}.get(kind, SIZES[name])
            for name in storages
            if name != "proxy"
        }
        most = max((max(found) for found in sizes.values()), default=0)
        made = [] if kind in ("threads", "door") else begin(kind, None, most + 1).trials
        of_threads = [s for s in storages if s in ("journal", "postgresql", "proxy")]
        others = [s for s in storages if s != "proxy"]
        for storage in {"threads": of_threads, "door": ["memory"]}.get(kind, others):
            with tempfile.TemporaryDirectory(dir="/var/tmp") as folder, ExitStack() as stack:
                of_server = new_database(address) if storage in ("postgresql", "proxy") else ""
                if storage == "proxy":
                    of_server = stack.enter_context(proxied(of_server))
                where = place(storage, Path(folder), of_server)
                if kind == "door":
                    part = door(sizes.get(storage, DOOR))
                elif kind == "threads":
                    part = threads(where, 32, 2 if asked.quick else 10)
                else:
                    part = (searching if kind == "search" else ask_tell)(where, sizes[storage], made)
            found.setdefault(kind, {})[storage] = part
            print(kind, storage, part, flush=True)
            document = envelope(
                "time in addition to the evaluation of a trial, in ms of a processor and of a clock, by the number of trials before it",
                "optuna", "sqlalchemy", repeats=WINDOWS, window=WINDOW, figures=found,
            )  # fmt: skip
            write(document, asked.out, keep=not asked.quick)


if __name__ == "__main__":
    main()
