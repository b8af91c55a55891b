"""Whether one learning rate serves the whole space: the best `lr` of the smallest, the largest, a deep narrow and a
shallow wide model of `tiny_gpt`.

    python -m benchmarks.learning_rates.run [--quick] [--embedding-power 1]

Each model is trained at half, one and two times the default rate, further by factors of 2 until the best lies inside,
and at half octaves on either side of it; two seeds, whole runs of 100,000 tokens. The best rate is the top of a
parabola through the five points in log rate. What must hold: the best rates lie within one octave.
With `--embedding-power 1` the rate of the embedding falls with the width, as those of matrices do
(`Decoder.parameter_groups`). Every run is kept in benchmarks/results/learning_rates_raw.jsonl, so it may be stopped and started again.
Writes benchmarks/results/learning_rates.json, or learning_rates_embedding_1.json.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from typing import Any

import numpy as np

from benchmarks.common import RESULTS, envelope, write
from nas_bo.architecture import Architecture
from nas_bo.errors import TrainingDiverged
from nas_bo.model import Corpus, label, load_corpus, parameters, train
from nas_bo.model.schedule import DEFAULTS
from nas_bo.search_spaces import TinyGPT

RAW = RESULTS / "learning_rates_raw.jsonl"
TOKENS = 100_000
SEEDS = (0, 1)
MOST = 4  # octaves from the default


def model_of(depth: int, width: int, mixer: dict[str, Any], mlp: dict[str, Any]) -> Architecture:
    layer = {**mixer, **mlp}
    flat = {f"layers.{index}.{name}": value for index in range(depth) for name, value in layer.items()}
    return TinyGPT.architecture({"depth": depth, "width": width, **flat})


def models() -> dict[str, Architecture]:
    attention = {"mixer": "attention", "mixer.attention.heads": 4, "mixer.attention.kv_group": 1}
    conv = {"mixer": "conv", "mixer.conv.kernel": 4}
    wide = {"mlp": "dense", "mlp.dense.ratio": 3}
    return {
        "smallest": model_of(1, 32, conv, {"mlp": "skip"}),
        "largest": model_of(5, 96, attention, wide),
        "deep and narrow": model_of(5, 32, attention, {"mlp": "dense", "mlp.dense.ratio": 2}),
        "shallow and wide": model_of(1, 96, attention, wide),
    }


class Sweep:
    """Losses of one model by rate, in octaves from the default: one row of SEEDS each."""

    def __init__(self, arch: Architecture, corpus: Corpus, tokens: int, power: float, keep: bool) -> None:
        self.arch, self.corpus, self.tokens, self.power, self.keep = arch, corpus, tokens, power, keep
        self.losses: dict[float, list[float]] = {}

    def at(self, octave: float) -> float:
        if octave not in self.losses:
            self.losses[octave] = [self._kept(octave, seed) for seed in SEEDS]
        return sum(self.losses[octave]) / len(SEEDS)

    def _kept(self, octave: float, seed: int) -> float:
        key = [self.arch.id, self.tokens, self.power, octave, seed]
        for line in RAW.read_text().splitlines() if self.keep and RAW.exists() else ():
            row = json.loads(line)
            if row["key"] == key:
                return float(row["loss"])
        found = self._run(DEFAULTS["lr"] * 2**octave, seed)
        if self.keep:
            with RAW.open("a") as file:
                file.write(json.dumps({"key": key, "loss": found}) + "\n")
        return found

    def _run(self, lr: float, seed: int) -> float:
        try:
            return train(self.arch, self.corpus, self.tokens, seed, lr=lr, embedding_power=self.power).bits_per_byte
        except TrainingDiverged:
            return math.inf

    def best(self) -> dict[str, Any]:
        for octave in (-1.0, 0.0, 1.0):
            self.at(octave)
        while (top := min(self.losses, key=self.at)) in (min(self.losses), max(self.losses)) and abs(top) < MOST:
            self.at(top + (1 if top == max(self.losses) else -1))
        near = [top + half / 2 for half in (-2, -1, 0, 1, 2)]
        means = [self.at(octave) for octave in near]
        each = [_peak(near, [self.losses[octave][seed] for octave in near]) for seed in range(len(SEEDS))]
        return {
            "best_octave": round(_peak(near, means), 3),
            "best_octave_by_seed": [round(value, 3) for value in each],
            "best_lr": round(DEFAULTS["lr"] * 2 ** _peak(near, means), 6),
            "lost_at_default": round(self.at(0.0) - min(self.at(octave) for octave in self.losses), 4),
            "losses": [[octave, *(round(loss, 4) for loss in self.losses[octave])] for octave in sorted(self.losses)],
        }


def _peak(octaves: list[float], losses: list[float]) -> float:
    """Where a parabola through the points is least, no further than they reach."""
    finite = np.isfinite(losses)
    x, y = np.array(octaves)[finite], np.array(losses)[finite]
    if len(x) < 3:
        return float(x[y.argmin()])
    square, slope, _ = np.polyfit(x, y, 2)
    if square <= 0:
        return float(x[y.argmin()])
    return float(np.clip(-slope / (2 * square), x.min(), x.max()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few steps each, and no file is written")
    parser.add_argument("--embedding-power", type=float, default=0.0)
    options = parser.parse_args()
    quick, power = options.quick, options.embedding_power
    corpus, began = load_corpus(), time.process_time()
    figures = []
    for name, arch in models().items():
        found = Sweep(arch, corpus, 2_000 if quick else TOKENS, power, not quick).best()
        size = {"model": name, "label": label(arch), "parameters": parameters(arch, corpus.vocab_size)}
        figures.append({**size, **found})
        sys.stderr.write(f"{name}: {found['best_octave']:+.2f} octaves {found['best_octave_by_seed']}\n")
    octaves = [figure["best_octave"] for figure in figures]
    report = {
        "embedding_power": power,
        "corpus": {"name": corpus.name, "sha256": corpus.fingerprint},
        "octaves_between_least_and_greatest": round(max(octaves) - min(octaves), 3),
        "octaves_smallest_to_largest": round(octaves[1] - octaves[0], 3),
        "cpu_seconds": round(time.process_time() - began),
        "figures": figures,
    }
    what = (
        f"best learning rate in octaves from the default {DEFAULTS['lr']:g}, runs of {TOKENS:,} tokens; "
        "losses: [octave, bits per byte of seeds 0 and 1]"
    )
    name = "learning_rates.json" if not power else f"learning_rates_embedding_{power:g}.json"
    write(envelope(what, "torch", **report), name, keep=not quick)


if __name__ == "__main__":
    main()
