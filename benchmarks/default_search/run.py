"""The default `nas-bo search`, measured as a newcomer runs it, and checked against what it claims to show.

    python -m benchmarks.default_search.run [--quick]

1. Runs the default job in an empty folder: wall time, peak memory of the whole process tree (proportional set size),
   and which share of the processor time goes into anything but training.
2. Trains four architectures of the front with two more seeds: is the spread between architectures larger than that of
   the seeds?
3. Trains attention-only decoders of several sizes with the recipe of the search: does the front beat them at no more
   parameters and no more latency?

Writes benchmarks/results/default_search.json, benchmarks/results/default_search.png (the picture in the README) and docs/gallery/default_search.html
(its report); `python docs/_build/pages.py` then renews what README and documentation say about it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, ROOT, envelope, write

# width, layers of attention: heads of 16 values, MLP ratio 2, gated: the shape that the search space calls A
ATTENTION_ONLY = ((32, 1), (32, 3), (48, 2), (48, 4), (64, 2), (64, 4), (96, 2), (96, 4))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the budget, to see that it runs; writes nothing"
    )
    quick = parser.parse_args().quick
    arguments = ["--budget", "50000", "--trials", "8"] if quick else []
    with tempfile.TemporaryDirectory() as folder:
        run = run_search(Path(folder), arguments)
        told, picture, page = run.pop("told"), run.pop("picture"), run.pop("page")
        figures = {"search": run, **front_figures(told), **overheads(Path(folder), told)}
    tokens = told["facts"]["bits_per_byte: tokens"]
    figures["seeds"] = seeds(told, tokens)
    figures["attention_only"] = attention_only(told, tokens)
    what = "the default nas-bo search, its overheads, seed noise, and attention-only decoders next to its front"
    machine = {"load_before": run["load_before"]}
    more = {
        "repeats": 1,
        "figures": figures,
        "front": told["front"],
        "agreement": told["agreement"],
        "gain": told["gain"],
    }
    write(envelope(what, "torch", "optuna", "mlflow", machine=machine, **more), "default_search.json", keep=not quick)
    if not quick:
        (RESULTS / "default_search.png").write_bytes(picture)
        gallery = ROOT / "docs" / "gallery"
        gallery.mkdir(exist_ok=True)
        (gallery / "default_search.html").write_bytes(page)


def run_search(folder: Path, arguments: list[str]) -> dict[str, Any]:
    """Step 1: the command itself, watched from outside."""
    command = [shutil.which("nas-bo") or "nas-bo", "search", "--json", *arguments]
    load, start = os.getloadavg()[0], time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    peak = [0]
    watcher = threading.Thread(target=_watch, args=(process, peak), daemon=True)
    watcher.start()
    out = process.communicate()[0]
    wall = time.perf_counter() - start
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    told = json.loads(out)
    picture, page = (
        next(folder / f for f in told["files"] if f.endswith(end)).read_bytes() for end in ("front.png", "front.html")
    )
    return {
        "wall_s": round(wall, 1),
        "peak_mib": round(peak[0] / 2**20),
        "trials": told["trials"],
        "load_before": load,
        "told": told,
        "picture": picture,
        "page": page,
    }


def _watch(process: subprocess.Popen[str], peak: list[int]) -> None:
    while process.poll() is None:
        peak[0] = max(peak[0], sum(map(_memory, _tree(process.pid))))
        time.sleep(0.5)


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            text = children.read_text()
        except OSError:
            continue
        for child in text.split():
            yield from _tree(int(child))


def _memory(pid: int) -> int:
    """Bytes of the process, what it shares with others divided among them."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def front_figures(told: dict[str, Any]) -> dict[str, Any]:
    latencies = [point["values"]["latency_ms"] for point in told["front"]]
    return {
        "front": {
            "points": len(latencies),
            "latency_range": round(max(latencies) / min(latencies), 2),
            "retrained": sum(point["retrained"] is not None for point in told["front"]),
        }
    }


def overheads(folder: Path, told: dict[str, Any]) -> dict[str, Any]:
    """Processor time of a trial outside its training, as a share of the training: measured per trial in the workers,
    and for the driver (suggesting, recording, logging) by doing the same trials again without evaluating them."""
    from nas_bo.cli.resolve import stored

    result = stored(str(folder / "nas-bo.db"), None)
    training = [t.info["bits_per_byte"]["cpu_seconds"] for t in result.trials]
    inside = [max(0.0, t.seconds - t.info["bits_per_byte"]["seconds"]) for t in result.trials]
    replay = [
        sys.executable,
        "-c",
        REPLAY,
        str(folder / "replay.db"),
        str(folder / "replay_mlflow.db"),
        str(len(training)),
    ]
    driver = json.loads(subprocess.run(replay, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    mean = statistics.mean(training)
    return {
        "per_trial_cpu_s": {
            "training": round(mean, 3),
            "building_and_measuring_wall": round(statistics.mean(inside), 3),
            "suggesting_recording_logging": round(driver, 3),
            "share_outside_training": round((statistics.mean(inside) + driver) / mean, 4),
        },
        "spread": {"architectures_sd": round(statistics.stdev(t.values["bits_per_byte"] for t in result.trials), 4)},
    }


REPLAY = """
import sys, time
from nas_bo import search
from nas_bo.problem import Function, Value
from nas_bo.search_spaces import TinyGPT

def val_loss(arch):
    return Value(float(int(arch.id[:6], 16)), curve=[[i * 12500, 3.0] for i in range(40)], how="nothing", parameters=1)

def latency_ms(arch):
    return float(int(arch.id[6:12], 16))

times = []
def tick(progress):
    if progress.trial is not None:
        times.append(time.process_time())

search(TinyGPT, [val_loss, latency_ms], trials=int(sys.argv[3]), retrain=0, storage=sys.argv[1], track=sys.argv[2],
       on_progress=tick)
print((times[-1] - times[4]) / (len(times) - 5))
"""


def seeds(told: dict[str, Any], tokens: int) -> dict[str, Any]:
    """Step 2: the standard deviation between three seeds, pooled over four architectures of the front."""
    from nas_bo.objectives import ValidationLoss

    front = told["front"]
    chosen = [front[round(i * (len(front) - 1) / 3)] for i in range(4)]
    variances, values = [], {}
    for point in chosen:
        arch = _architecture(point)
        more = [float(ValidationLoss(tokens=tokens, seed=s)(arch)) for s in (1, 2)]
        values[point["label"]] = [round(v, 4) for v in (point["values"]["bits_per_byte"], *more)]
        variances.append(statistics.variance([point["values"]["bits_per_byte"], *more]))
    return {"pooled_sd": round(statistics.mean(variances) ** 0.5, 4), "values": values}


def attention_only(told: dict[str, Any], tokens: int) -> dict[str, Any]:
    """Step 3: per attention-only decoder, the best of the front with no more parameters and no more latency."""
    from nas_bo.architecture import Node
    from nas_bo.model import label, load_corpus, train
    from nas_bo.objectives import Latency

    corpus, rows = load_corpus(), []
    mlp = Node({"kind": "dense", "ratio": 2, "activation": "gelu", "gated": True})
    archs = []
    for width, depth in ATTENTION_ONLY:
        mixer = Node({"kind": "attention", "heads": width // 16})
        archs.append(Node({"width": width, "depth": depth, "mixer": mixer, "mlp": mlp}))
    # in one session with each other, and on the scale of the search: both are told against the anchors of this machine
    for arch, latency in zip(archs, Latency().remeasure(archs), strict=True):
        trained = train(arch, corpus, tokens=tokens)
        beside = [
            p for p in told["front"] if p["values"]["latency_ms"] <= latency * 1.02 and _size(p) <= trained.parameters
        ]
        best = min(beside, key=lambda p: p["values"]["bits_per_byte"], default=None)
        rows.append(
            {
                "attention_only": label(arch),
                "parameters": trained.parameters,
                "latency_ms": round(latency, 3),
                "val_loss": round(trained.bits_per_byte, 4),
                "front": best and best["label"],
                "front_parameters": best and _size(best),
                "front_latency_ms": best and round(best["values"]["latency_ms"], 3),
                "front_val_loss": best and round(best["values"]["bits_per_byte"], 4),
            }
        )
    compared = [r for r in rows if r["front"]]
    beaten = sum(r["front_val_loss"] < r["val_loss"] for r in compared)
    return {"beaten": beaten, "compared": len(compared), "rows": rows}


def _architecture(point: dict[str, Any]) -> Any:
    from nas_bo.search_spaces import TinyGPT

    return TinyGPT.architecture(point["architecture"])


def _size(point: dict[str, Any]) -> int:
    from nas_bo.model import parameters

    return parameters(_architecture(point), 256)


if __name__ == "__main__":
    main()
