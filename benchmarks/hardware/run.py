"""How well the learned latency model predicts published measurements, and how fast it answers.

    python -m benchmarks.hardware.run --published FOLDER [--draws 10]

FOLDER holds `hwgpt_s_table.parquet` (HW-GPT-Bench gpt-s, Sukthanker et al., 2024, arXiv 2405.10299). Every draw teaches
the model a few architectures chosen at random and asks it for others. Beside it: a straight line on FLOPs, and one on
parameters, both fitted to the same measurements in logarithms. Writes benchmarks/results/hardware.json.

The published batch (8 x 1024 tokens) and data type (bfloat16 on GPUs) are inferred from the published FLOPs, and the
published network is approximated by our blocks (gated MLP, head dimension 64).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import envelope, spread, write
from nas_bo.architecture import Node
from nas_bo.hardware.latency.learned import Learned
from nas_bo.hardware.latency.quality import scored
from nas_bo.hardware.latency.roofline import Roofline
from nas_bo.hardware.workload import Setting, workload
from nas_bo.search_spaces import TinyGPT

ROWS, ASKED = 4_000, 500
# where the model begins, round figures of no particular device: FLOPs and bytes per second, start of a kernel
GPU, CPU = Roofline(300e3, 2e3, 4.0, 2.0), Roofline(1e3, 100.0, 5.0, 4.0)
CASES = {
    "h100": ("lat_h100_ms", GPU, "bfloat16"),
    "a100": ("lat_a100_ms", GPU, "bfloat16"),
    "xeon_gold": ("lat_cpu_xeon_gold_ms", CPU, "float32"),
}


def decoder(row: dict[str, Any]) -> Node:
    layers = tuple(
        Node(
            {
                "mixer": Node({"kind": "attention", "heads": int(row[f"n_head_{i}"]), "head_dim": 64}),
                "mlp": Node({"kind": "dense", "ratio": int(row[f"mlp_ratio_{i}"]), "gated": True}),
            }
        )
        for i in range(int(row["n_layer"]))
    )
    whole = {"norm": "layer", "tied": False, "bias": bool(row["bias"])}
    return Node({"width": int(row["embed_dim"]), "layers": layers, **whole})


def line(taught: np.ndarray, times: np.ndarray, asked: np.ndarray) -> np.ndarray:
    slope, start = np.polyfit(np.log(taught), np.log(times), 1)
    return np.exp(start + slope * np.log(asked))


def published(folder: Path, draws: int) -> list[dict[str, Any]]:
    import pandas as pd

    table = pd.read_parquet(folder / "hwgpt_s_table.parquet").sample(ROWS, random_state=0)
    archs = [decoder(row) for row in table.to_dict("records")]
    found = []
    for name, (column, base, dtype) in CASES.items():
        truth = table[column].to_numpy(float)
        setting = Setting("prefill", 8, 1024, dtype, 50_304)
        for n in (10, 20, 50, 100):
            scores: dict[str, list[tuple[float, float]]] = {"learned": [], "flops": [], "parameters": []}
            inside = []
            for draw in range(draws):
                order = np.random.default_rng(draw).permutation(len(archs))
                taught, asked = order[:n], order[n : n + ASKED]
                model = Learned(base, setting, [archs[i] for i in taught], list(truth[taught]))
                mean, half = model.predict_many([archs[i] for i in asked])
                scores["learned"].append(scored(mean, truth[asked]))
                inside.append(float(np.mean(np.abs(truth[asked] - mean) <= half)))
                for what, column_of in (("flops", "flops"), ("parameters", "params")):
                    size = table[column_of].to_numpy(float)
                    scores[what].append(scored(line(size[taught], truth[taught], size[asked]), truth[asked]))
            row: dict[str, Any] = {"device": name, "measured": n, "draws": draws, "inside_90": spread(inside)}
            for what, pairs in scores.items():
                row[what] = {"mape_percent": spread([p[0] for p in pairs]), "tau": spread([p[1] for p in pairs])}
            found.append(row)
            sys.stderr.write(json.dumps(row) + "\n")
    return found


def speed(repeats: int = 5) -> dict[str, Any]:
    """CPU seconds of answers about `tiny_gpt`, fresh architecture objects; the learned times are a roofline's."""
    archs = [TinyGPT.sample(seed) for seed in range(2_000)]
    times = [Roofline(35.0).operations_ms(workload(arch).operations).sum() for arch in archs[:20]]
    found: dict[str, Any] = {}
    whole, single = [], []
    for _ in range(repeats):
        model = Learned(Roofline(), Setting(), archs[:20], times)
        start = time.process_time()
        model.predict_many(archs)
        first = time.process_time() - start
        many = archs * 5
        start = time.process_time()
        model.predict_many(many)
        whole.append(time.process_time() - start)
        start = time.process_time()
        for arch in archs:
            model.predict(arch)
        single.append((time.process_time() - start) / len(archs))
    found["many_10000_s"] = spread(whole)
    found["one_us"] = spread([1e6 * one for one in single])
    found["first_2000_s"] = round(first, 3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--published", type=Path, required=True, help="folder with hwgpt_s_table.parquet")
    parser.add_argument("--draws", type=int, default=10)
    asked = parser.parse_args()
    what = "learned latency model on published measurements: MAPE in percent, Kendall tau, share inside 90 % intervals"
    found = {"published": published(asked.published, asked.draws), "speed_cpu_time": speed()}
    write(envelope(what, "numpy", repeats=asked.draws, **found), "hardware.json")


if __name__ == "__main__":
    main()
