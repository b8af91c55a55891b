"""What a trained model takes of memory whose weights are on disk, next to all of it in memory, and whether the values are the same.

    python -m benchmarks.pretrained.on_disk --model FOLDER [--repeats 2]
    python -m benchmarks.pretrained.on_disk --model bytes-1.3GB     (random weights: 22 layers of width 1,024, bytes as tokens)

A process of its own loads the folder, scores importance on 1,024 tokens of the pages of the documentation and puts the weights in order, then takes the loss
of a part (every second MLP at half its channels) on 1,024 tokens of the rest, as it is and (but with random weights) repaired. The peak is that of the process less what it was after
imports. With a large vocabulary most of it are the logits and copies of the embedding while it is read. Writes a part of
benchmarks/results/pretrained_on_disk.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, ROOT, envelope, write
from benchmarks.pretrained.smollm2 import pages
from tests.pretrained.models import saved

RESULT = "pretrained_on_disk.json"
RANDOM = "bytes-1.3GB"
SIZES = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 22,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "max_position_embeddings": 512,
}

_CODE = """
import json, sys, time, dataclasses
import torch, transformers, tokenizers, nas_bo.pretrained.loss, nas_bo.pretrained.repair, nas_bo.model.inference
from nas_bo.pretrained import CalibrationText, Pretrained
from nas_bo.pretrained.block_scores import changed
from nas_bo.pretrained.space import whole
def peak():
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
folder, text, where = sys.argv[1:]
teacher = Pretrained(folder, device_map=None if where == "memory" else where)
few = CalibrationText(batches=1, sequences=8, sequence=128)
loss = teacher.loss(data=text, calibration=few, held_out_tokens=1024, sequence=128, device="cpu", repair=False)
space = teacher.space(mlp=True)
small = {f"layers.{i}.mlp.dense.ratio": teacher.spec.layers[i].mlp.hidden / 2 / teacher.spec.width for i in range(0, len(teacher.spec.layers), 2)}
arch = changed(space, whole(space), small)
loss.corpus()
base, clock, found = peak(), time.process_time(), {}
held = loss.ordered()
found["order"] = [peak() - base, time.process_time() - clock, 0.0]
for name, one in (("loss", loss), ("repaired", dataclasses.replace(loss, repair=True)))[: 1 + (teacher.name != "bytes-1.3GB")]:
    clock = time.process_time()
    value = float(one(arch))
    found[name] = [peak() - base, time.process_time() - clock, value]
size = sum(weight.nbytes for weight in held.model.parameters()) / 2**20
print(json.dumps({"weights_mib": size, "imports_mib": base, **found}))
"""


def tell(name: str, rows: dict[str, list[dict[str, Any]]]) -> None:
    """Put one model's figures into the result."""
    repeats = len(rows["memory"])
    first = rows["memory"][0]
    table = {
        step: {
            where: {
                "peak_mib": round(statistics.median(one[step][0] for one in found), 1),
                "share_of_weights": round(statistics.median(one[step][0] / one["weights_mib"] for one in found), 3),
                "cpu_s": [round(one[step][1], 2) for one in found],
                "value": found[0][step][2],
            }
            for where, found in rows.items()
        }
        for step in ("order", "loss", "repaired")
        if step in first
    }
    apart = max(abs(table[step]["memory"]["value"] - table[step]["disk"]["value"]) for step in table)
    there = json.loads((RESULTS / RESULT).read_text())["models"] if (RESULTS / RESULT).is_file() else {}
    there[name] = {
        "repeats": repeats,
        "weights_mib": round(first["weights_mib"], 1),
        "imports_mib": round(first["imports_mib"], 1),
        "steps": table,
        "values_apart": apart,
    }
    what = "memory of a process that judges parts of a trained model, its weights in memory or on disk"
    spread = "each repeat's processor seconds are listed"
    write(envelope(what, "torch", "transformers", repeats=repeats, spread=spread, models=there), RESULT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--repeats", type=int, default=2)
    given = parser.parse_args()
    name = Path(given.model).resolve().name
    rows: dict[str, list[dict[str, Any]]] = {"memory": [], "disk": []}
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "pages.txt"
        text.write_text(pages())
        if given.model == RANDOM:
            given.model = str(saved(Path(folder) / RANDOM, **SIZES))
        alone = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        for _ in range(given.repeats):
            for where, found in rows.items():
                command = [sys.executable, "-c", _CODE, str(Path(given.model).resolve()), str(text), where]
                said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, env=alone).stdout
                found.append(json.loads(said.splitlines()[-1]))
                print(where, found[-1], flush=True)
    tell(name, rows)


if __name__ == "__main__":
    main()
