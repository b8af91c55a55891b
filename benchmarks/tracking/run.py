"""What tracking in MLflow costs a search, and whether it loses anything.

    python -m benchmarks.tracking.run [--only cost server ours dead kills shared backfill] [--quick]

Every part can be run alone; what it finds replaces its own figures in benchmarks/results/tracking.json.

* cost: a trial of 40 parameters, 12 metrics, a curve of 200 points and a 20 kB file, logged into a local SQLite store that
  holds 0, 500, 1,000 and 2,000 runs; between the windows the store is filled by copying rows. A trial lasts 0.3 s. The
  search's own time is what the callback takes; the thread that writes has its own CPU time.
* server: the same through a server on this machine, counted in HTTP requests. ours: trials of `nas_bo.search` there.
* dead: a search of 30 trials of about half a second, without a tracker and with one whose server was killed, in turn.
* kills: a search killed with SIGKILL at 20 random moments while MLflow is being written, then `sync`.
* shared: two processes of four threads on one study. backfill: 1,000 finished trials.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from benchmarks.common import RESULTS, ROOT, envelope
from nas_bo.mlflow import Tracker
from nas_bo.mlflow.server import open_ui
from nas_bo.mlflow.sync import sync, sync_study
from nas_bo.mlflow.tracker import _living
from nas_bo.mlflow.writer import Writer

OUT = RESULTS / "tracking.json"
CLIENT = ("create_run", "search_runs", "log_batch", "set_terminated", "set_tag", "update_run", "get_run")
optuna.logging.set_verbosity(optuna.logging.ERROR)


def a_trial(rng: np.random.Generator) -> optuna.trial.FrozenTrial:
    """40 parameters, 2 objectives, 8 constraints, a curve of 200 points, and 20 kB that no tag can hold."""
    params = {f"p{i:02d}": float(x) for i, x in enumerate(rng.random(40))}
    return optuna.trial.create_trial(
        values=[float(x) for x in rng.random(2)],
        params=params,
        distributions={name: optuna.distributions.FloatDistribution(0, 1) for name in params},
        user_attrs={"log": "x" * 20_000},
        intermediate_values={step: 3.0 / (step + 1) for step in range(200)},
        constraints={f"limit{i}": float(x) for i, x in enumerate(rng.random(8) - 1)},
    )


def a_study(n: int = 0, name: str = "benchmark") -> optuna.Study:
    study = optuna.create_study(study_name=name, directions=["minimize", "minimize"])
    rng = np.random.default_rng(0)
    study.add_trials([a_trial(rng) for _ in range(n)])
    return study


# ---- counting -------------------------------------------------------------------------------------------------------


@contextmanager
def counted(server: bool) -> Iterator[Counter[str]]:
    """What is asked of the store: HTTP requests, or calls of the client and files. "front" is what keeps the front current."""
    import mlflow.utils.rest_utils as rest
    from mlflow import MlflowClient
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository as Files

    calls: Counter[str] = Counter()
    where = threading.local()

    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls[getattr(where, "kind", "trial")] += 1
            return real(*args, **kwargs)

        return call

    real_tell = Writer.tell

    def tell(*args: Any, **kwargs: Any) -> None:
        where.kind = "front"
        try:
            real_tell(*args, **kwargs)
        finally:
            where.kind = "trial"

    places = [(rest, "_get_http_response_with_retries")]
    if not server:
        places = [(MlflowClient, name) for name in CLIENT] + [(Files, "log_artifact")]
    before = [(owner, name, getattr(owner, name)) for owner, name in places]
    for owner, name, real in before:
        setattr(owner, name, wrap(real))
    Writer.tell = tell  # type: ignore[method-assign,assignment]
    try:
        yield calls
    finally:
        Writer.tell = real_tell  # type: ignore[method-assign]
        for owner, name, real in before:
            setattr(owner, name, real)


def window(study: optuna.Study, trials: list[Any], uri: str, pace: float) -> dict[str, Any]:
    """Log finished trials as a search would that lasts `pace` seconds a trial."""
    tracker = Tracker(uri=uri, experiment="cost")
    tracker.log(study, trials[0])  # connects, and reads what is there: once a process
    if not tracker.flush(300):
        raise SystemExit("the store fails")
    wall, own = [], []
    with counted(uri.startswith("http")) as calls:
        cpu, mine = time.process_time(), time.thread_time()
        for trial in trials[1:]:
            at, used = time.perf_counter(), time.thread_time()
            tracker(study, trial)
            wall.append(time.perf_counter() - at)
            own.append(time.thread_time() - used)
            time.sleep(pace)
        if not tracker.flush(300):
            raise SystemExit("the store fails")
        beside = (time.process_time() - cpu) - (time.thread_time() - mine)
    n = len(wall)
    return {
        "trials": n,
        "callback_wall_ms": milliseconds(wall),
        "callback_cpu_ms": milliseconds(own),
        "writer_cpu_ms": round(1000 * beside / n, 1),
        "requests": round(calls["trial"] / n, 2),
        "requests_for_the_front": round(calls["front"] / n, 2),
    }


def milliseconds(seconds: list[float]) -> dict[str, float]:
    return {
        "median": round(1000 * statistics.median(seconds), 2),
        "p95": round(1000 * sorted(seconds)[int(0.95 * len(seconds))], 2),
        "worst": round(1000 * max(seconds), 2),
    }


def fill(database: Path, upto: int) -> None:
    """Copy the rows of one trial's run until there are so many, each under a number of its own."""
    with sqlite3.connect(database, timeout=30) as base:
        rows = base.execute("SELECT run_uuid, value FROM tags WHERE key = 'nas.trial'").fetchall()
        source, first = rows[0][0], 100_000 + len(rows)
        tables = {
            table: [row[1] for row in base.execute(f"PRAGMA table_info({table})")]
            for table in ("runs", "params", "metrics", "latest_metrics", "tags")
        }
        for number in range(first, first + upto - len(rows)):
            new = uuid.uuid4().hex
            for table, columns in tables.items():
                chosen = ", ".join("?" if c == "run_uuid" else c for c in columns)
                base.execute(f"INSERT INTO {table} SELECT {chosen} FROM {table} WHERE run_uuid = ?", (new, source))
            base.execute("UPDATE tags SET value = ? WHERE run_uuid = ? AND key = 'nas.trial'", (str(number), new))
            base.execute(
                "UPDATE tags SET value = ? WHERE run_uuid = ? AND key = 'mlflow.nas.uid'", (f"benchmark/{number}", new)
            )
    base.close()


def cost(folder: Path, quick: bool, server: bool = False) -> dict[str, Any]:
    n = 6 if quick else 31
    sizes = [0, 50] if quick else [0, 2000] if server else [0, 500, 1000, 2000]
    study, database, found = a_study(n * len(sizes)), folder / "mlflow.db", {}
    ui = open_ui(f"sqlite:///{database}", 0) if server else None
    uri = ui.base if ui else f"sqlite:///{database}"
    try:
        for i, size in enumerate(sizes):
            if size:
                fill(database, size)
            found[str(size)] = window(study, study.trials[i * n : (i + 1) * n], uri, 0.3)
    finally:
        if ui:
            ui.stop()
    return {"runs_in_the_store": found}


def ours(folder: Path, quick: bool) -> dict[str, Any]:
    """Requests of trials with their architecture and its drawing, and of ones that have more to say than MLflow takes."""
    from nas_bo import search
    from nas_bo.objectives import Flops, Parameters
    from nas_bo.search_spaces import TinyGPT

    study = search(TinyGPT, [Parameters(), Flops()], trials=12).study
    longer = optuna.create_study(study_name="longer", directions=study.directions)
    for name, value in study.user_attrs.items():
        longer.set_user_attr(name, value)
    for t in study.trials:
        t.user_attrs["log"] = "x" * 20_000
        longer.add_trial(t)
    with open_ui(f"sqlite:///{folder / 'mlflow.db'}", 0) as ui:
        return {
            name: window(of, of.trials, ui.base, 0.3) for name, of in (("ordinary", study), ("with_trial_json", longer))
        }


# ---- is anything lost? ----------------------------------------------------------------------------------------------


def compare(database: Path, study: optuna.Study, curve: int) -> dict[str, int]:
    """Finished trials against the runs that the database holds."""
    finished = [t for t in study.trials if t.state.name == "COMPLETE"]
    base = sqlite3.connect(database)
    runs = base.execute(
        "SELECT CAST(t.value AS INTEGER), r.run_uuid, r.status FROM runs r JOIN tags t USING (run_uuid) "
        "WHERE t.key = 'nas.trial' AND r.lifecycle_stage = 'active'"
    ).fetchall()
    values = dict(base.execute("SELECT run_uuid, value FROM latest_metrics WHERE key = 'obj/value'").fetchall())
    points: dict[str, list[int]] = {}
    for run, step in base.execute("SELECT run_uuid, step FROM metrics WHERE key = 'train/reported'"):
        points.setdefault(run, []).append(step)
    base.close()
    seen, by = Counter(number for number, _, _ in runs), {number: run for number, run, _ in runs}
    return {
        "finished_trials": len(finished),
        "runs": len(runs),
        "lost": sum(t.number not in seen for t in finished),
        "twice": sum(count > 1 for count in seen.values()),
        "runs_without_a_finished_trial": len(set(seen) - {t.number for t in finished}),
        "other_values": sum(values.get(by.get(t.number, "")) != t.value for t in finished),
        "other_curves": sum(sorted(points.get(by.get(t.number, ""), [])) != list(range(curve)) for t in finished),
        "not_ended": sum(status != "FINISHED" for _, _, status in runs),
    }


def objective(work: Callable[[], None], curve: int) -> Callable[[optuna.Trial], float]:
    def run(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        for step in range(curve):
            trial.report(x + step, step)
        work()
        return x

    return run


def half_a_second() -> None:
    """A trial that mostly waits, as for a device: so that the load of others on this machine does not count twice."""
    data = np.random.default_rng(0).random((256, 256))
    for _ in range(20):
        data @ data
    time.sleep(0.45)


def child(*arguments: object, **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", __spec__.name, "--child", *map(str, arguments)]
    one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **one, "MLFLOW_DISABLE_TELEMETRY": "true"},
        **more,
    )


def result(process: subprocess.Popen[str]) -> Any:
    out, _ = process.communicate(timeout=500)
    if process.returncode:
        raise SystemExit(f"a search failed: {out}")
    return json.loads(out)


def dead(folder: Path, quick: bool) -> dict[str, Any]:
    trials, pairs = (6, 1) if quick else (30, 3)
    database = folder / "mlflow.db"
    with open_ui(f"sqlite:///{database}", 0) as ui:
        port = int(ui.base.rsplit(":", 1)[1])
        os.killpg(ui.process.pid, signal.SIGKILL)
    seen: dict[str, list[dict[str, float]]] = {"without": [], "killed_server": []}
    for i in range(pairs):
        for name in ("without", "killed_server") if i % 2 == 0 else ("killed_server", "without"):
            uri = "-" if name == "without" else f"http://127.0.0.1:{port}"
            at = time.perf_counter()
            seen[name].append(result(child("search", folder, f"{name}{i}", uri, trials)))
            seen[name][-1]["process_wall_s"] = round(time.perf_counter() - at, 2)
    ratios = [a["wall_s"] / b["wall_s"] for a, b in zip(seen["killed_server"], seen["without"], strict=True)]
    with open_ui(f"sqlite:///{database}", port) as ui:
        at = time.perf_counter()
        synced = sync(folder)
        took = time.perf_counter() - at
        assert ui.process.poll() is None
    after = Counter[str]()
    for i in range(pairs):
        study = optuna.load_study(study_name=f"killed_server{i}", storage=f"sqlite:///{folder}/study.db")
        after.update(compare_of(database, study, 5))
    return {
        "trials": trials,
        "searches": pairs,
        **seen,
        "ratio": [round(r, 4) for r in ratios],
        "ratio_median": round(statistics.median(ratios), 4),
        "sync_s": round(took, 2),
        "sync_left": len(synced.left),
        "after_sync": dict(after),
    }


def compare_of(database: Path, study: optuna.Study, curve: int) -> dict[str, int]:
    """`compare`, for a store of several studies."""
    own = database.with_name(f"{study.study_name}.db")
    shutil.copy(database, own)
    base = sqlite3.connect(own)
    base.execute(
        "DELETE FROM tags WHERE key = 'nas.trial' AND run_uuid NOT IN "
        "(SELECT run_uuid FROM tags WHERE key = 'nas.study' AND value = ?)",
        (study.study_name,),
    )
    base.commit()
    base.close()
    return compare(own, study, curve)


def kills(folder: Path, quick: bool) -> dict[str, Any]:
    n = 3 if quick else 20
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as memory:
        return _kills(folder, n, f"sqlite:///{memory}/study.db")  # trials end faster than they are logged


def _kills(folder: Path, n: int, storage: str) -> dict[str, Any]:
    study = optuna.create_study(study_name="killed", storage=storage)
    seen = result(child("killed", folder, storage, n))
    at = time.perf_counter()
    synced = sync(folder)
    took = time.perf_counter() - at
    sync_study(Tracker(uri=f"sqlite:///{folder}/mlflow.db"), study)  # trials that ended before their callback began
    return {
        "kills": n,
        "in_the_middle_of_a_run": sum(k["running"] > 0 for k in seen),
        "with_records_waiting": sum(k["waiting"] > 0 for k in seen),
        "each": seen,
        "runs_before_sync": seen[-1]["runs"],
        "sync_logged": synced.logged,
        "sync_left": len(synced.left),
        "sync_s": round(took, 2),
        **compare(folder / "mlflow.db", study, 5),
    }


def shared(folder: Path, quick: bool) -> dict[str, Any]:
    storage, n = f"sqlite:///{folder}/study.db", 8 if quick else 60
    study = optuna.create_study(study_name="shared", storage=storage)
    for process in [child("shared", folder, n) for _ in range(2)]:
        result(process)
    return {"processes": 2, "threads": 4, **compare(folder / "mlflow.db", study, 5)}


def backfill(folder: Path, quick: bool) -> dict[str, Any]:
    n = 20 if quick else 1000
    study, tracker = a_study(n), Tracker(uri=f"sqlite:///{folder}/mlflow.db")
    tracker.warm().join()
    at, cpu = time.perf_counter(), time.process_time()
    done = tracker.log_study(study)
    wall, used = time.perf_counter() - at, time.process_time() - cpu
    return {
        "trials": n,
        "brought_in": done,
        "again": tracker.log_study(study),
        "wall_s": round(wall, 1),
        "cpu_s": round(used, 1),
        "ms_per_trial": round(1000 * wall / n, 1),
    }


# ---- what runs in other processes -----------------------------------------------------------------------------------


def as_search(folder: str, name: str, uri: str, trials: str) -> dict[str, float]:
    study = optuna.create_study(study_name=name, storage=f"sqlite:///{folder}/study.db")
    tracker = [] if uri == "-" else [Tracker(uri=uri, experiment=name, spool=Path(folder) / "mlflow_spool")]
    at, cpu = time.perf_counter(), time.process_time()
    study.optimize(objective(half_a_second, 5), n_trials=int(trials), callbacks=tracker)
    return {"wall_s": round(time.perf_counter() - at, 3), "cpu_s": round(time.process_time() - cpu, 3)}


def as_killed(folder: str, storage: str, n: str) -> list[dict[str, int]]:
    """Searches, forked from a process that has MLflow at hand, each killed at a random moment while runs are written."""
    import mlflow  # noqa: F401

    database, rng, seen, left = Path(folder) / "mlflow.db", random.Random(0), [], set[str]()
    Tracker(uri=database).warm().join()
    for _ in range(int(n)):
        before = len(runs(database))
        pid = os.fork()
        if pid == 0:
            study = optuna.load_study(study_name="killed", storage=storage)
            study.optimize(objective(lambda: time.sleep(0.03), 5), callbacks=[Tracker(uri=database)])
            os._exit(1)
        while len(runs(database)) == before:  # until it writes
            time.sleep(0.02)
        time.sleep(rng.uniform(0.0, 2.0))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        after = runs(database)
        open_ = {run for run, status in after.items() if status == "RUNNING"}
        waiting = len(list((Path(folder) / "mlflow_spool").glob("*/[0-9]*.json")))
        seen.append({"running": len(open_ - left), "runs": len(after), "waiting": waiting})
        left = open_
    return seen


def runs(database: Path) -> dict[str, str]:
    """Id and status of the runs of trials."""
    base = sqlite3.connect(database, timeout=30)
    found = base.execute(
        "SELECT run_uuid, status FROM runs JOIN tags USING (run_uuid) WHERE key = 'nas.trial'"
    ).fetchall()
    base.close()
    return dict(found)


def as_shared(folder: str, n: str) -> bool:
    study = optuna.load_study(study_name="shared", storage=f"sqlite:///{folder}/study.db")
    tracker = Tracker(uri=f"sqlite:///{folder}/mlflow.db")
    study.optimize(objective(lambda: time.sleep(0.1), 5), n_trials=int(n), n_jobs=4, callbacks=[tracker])
    return tracker.flush(300)


PARTS: dict[str, Callable[[Path, bool], dict[str, Any]]] = {
    "cost": cost,
    "server": lambda folder, quick: cost(folder, quick, server=True),
    "ours": ours,
    "dead": dead,
    "kills": kills,
    "shared": shared,
    "backfill": backfill,
}
CHILDREN: dict[str, Callable[..., Any]] = {"search": as_search, "killed": as_killed, "shared": as_shared}


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        sys.stdout.write(json.dumps(CHILDREN[sys.argv[2]](*sys.argv[3:])))
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--quick", action="store_true", help="small, and no file is written")
    asked = parser.parse_args()
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    if len(asked.only) > 1:
        for name in asked.only:  # each in a process of its own
            subprocess.run(
                [sys.executable, "-m", __spec__.name, "--only", name, *["--quick"] * asked.quick], check=True
            )
        return
    known = json.loads(OUT.read_text()) if OUT.exists() else {}
    figures = known.get("figures", {})
    for name in asked.only:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            at = time.perf_counter()
            load = round(os.getloadavg()[0], 2)
            figures[name] = {**PARTS[name](Path(folder), asked.quick), "load_before": load}
            figures[name]["part_took_s"] = round(time.perf_counter() - at, 1)
            for tracker in list(_living):
                tracker._writer.open.clear()  # nothing is told of a store that is deleted now
        sys.stdout.write(f"{name}: {json.dumps(figures[name], indent=1)}\n")
        sys.stdout.flush()
        if not asked.quick:
            what = "time, requests and losses of tracking in MLflow; load_before is the load of the machine when a part began"
            document = envelope(what, "mlflow", "optuna", "sqlalchemy", figures=figures)
            OUT.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
