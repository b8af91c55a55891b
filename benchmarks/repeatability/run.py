"""Does the latency of a search repeat? The same default search several times, on a quiet machine and next to a busy process.

    python -m benchmarks.repeatability.run [--quick] [--own-scale] [--apart SECONDS]

Every run is the command itself, in an empty folder, without the re-training, which measures nothing; what is kept of the machine (its anchors and its profile) is shared by
all of them, as it is for a user, and empty before the first. Compared are runs in pairs, over all trials and over what the last
session of each measured again: Kendall's tau, how far values lie apart, and how many of the second run's values lie in the
first one's 90 % intervals. With ``--own-scale`` one more run begins with nothing kept, so that its scale is its own.

Writes benchmarks/results/repeatability.json.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from scipy.stats import kendalltau

from benchmarks.common import envelope, write

RUNS = (("quiet", "shared", 0), ("quiet again", "shared", 0), ("next to a busy process", "shared", 1))
MORE = ("nothing kept", "own", 0)
PAIRS = (("quiet", "quiet again"), ("quiet", "next to a busy process"), ("quiet", "nothing kept"))
BUSY = "while True: sum(range(1_000_000))"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the budget, to see that it runs; writes nothing"
    )
    parser.add_argument("--apart", type=float, default=0.0, help="seconds to wait before each run but the first")
    parser.add_argument("--own-scale", action="store_true", help="one more run, with nothing kept")
    given = parser.parse_args()
    more = ["--retrain", "0", *(["--budget", "20000"] if given.quick else [])]
    planned = (*RUNS, MORE) if given.own_scale else RUNS
    runs: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for at, (name, cache, busy) in enumerate(planned):
            time.sleep(given.apart if at else 0.0)
            runs[name] = run(Path(folder) / str(at), Path(folder) / f"cache-{cache}", busy, more)
            print(name, f"{runs[name]['wall_s']} s", file=sys.stderr, flush=True)
    pairs = [{"first": a, "second": b, **compared(runs[a], runs[b])} for a, b in PAIRS if b in runs]
    more = {
        "seconds_apart": given.apart,
        "runs": {name: {k: r[k] for k in ("wall_s", "load_before", "slower")} for name, r in runs.items()},
        "pairs": pairs,
    }
    what = "the latency of the default search, measured by several runs of it"
    write(envelope(what, "torch", "optuna", **more), "repeatability.json", keep=not given.quick)


def run(folder: Path, cache: Path, busy: int, more: list[str]) -> dict[str, Any]:
    folder.mkdir()
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(busy)]
    load, begun = os.getloadavg()[0], time.perf_counter()
    try:
        command = [shutil.which("nas-bo") or "nas-bo", "search", "--json", "--mlflow", "none", *more]
        subprocess.run(
            command, cwd=folder, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "NAS_BO_CACHE": str(cache)}
        )
    finally:
        for other in others:
            other.kill()
    wall = time.perf_counter() - begun
    from nas_bo.cli.resolve import stored

    result = stored(str(folder / "nas-bo.db"), None)
    trials = {t.architecture.id: (t.values["latency_ms"], t.info["latency_ms"]) for t in result.trials}
    again = {r.id: (r.values["latency_ms"], r.info["latency_ms"]) for r in result.retrained if "latency_ms" in r.values}
    losses = {t.architecture.id: t.values[result.columns[0].name] for t in result.trials}
    slower = statistics.median(info["slower"] for _, info in trials.values())
    return {
        "wall_s": round(wall, 1),
        "load_before": load,
        "slower": slower,
        "trials": trials,
        "last session": again,
        "losses": losses,
    }


def compared(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"same_losses": first["losses"] == second["losses"]}
    for what in ("trials", "last session"):
        both = sorted(set(first[what]) & set(second[what]))
        if len(both) < 3:
            continue
        a, b = ([run[what][arch][0] for arch in both] for run in (first, second))
        apart = [abs(math.log(y / x)) for x, y in zip(a, b, strict=True)]
        common = statistics.median(math.log(y / x) for x, y in zip(a, b, strict=True))
        inside = [first[what][arch][1]["low"] <= second[what][arch][0] <= first[what][arch][1]["high"] for arch in both]
        found[what] = {
            "architectures": len(both),
            "tau": round(float(kendalltau(a, b)[0]), 3),
            "median_apart_percent": round(100 * math.expm1(statistics.median(apart)), 2),
            "largest_apart_percent": round(100 * math.expm1(max(apart)), 1),
            "common_factor": round(math.exp(common), 4),
            "inside_90_percent_interval": round(statistics.mean(inside), 3),
        }
    return found


if __name__ == "__main__":
    main()
