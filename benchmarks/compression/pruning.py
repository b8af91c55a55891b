"""What taking units and weights away costs a trained model, by score, with and without repair, and after a little training.

    python -m benchmarks.compression.pruning [--teacher DIR] [--seeds 0] [--tokens 131072] [--calibration 8192] [--recovery 100352]

As `benchmarks.compression.quantization`: costs are held-out bits per byte more than the trained model, window by window. `--recovery` trains
the models of half the channels on so many bytes of training text.

Writes benchmarks/results/compression_pruning.json.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy

import argparse
from pathlib import Path
from typing import Any

from benchmarks.common import envelope, write
from benchmarks.compression.teacher import SETTINGS, cache, described
from nas_bo.compress import held_out, prune, sparsify
from nas_bo.compress.calibration import windows
from nas_bo.compress.compression import RECOVERY
from nas_bo.compress.held_out_loss import HeldOut
from nas_bo.compress.importance import METHODS
from nas_bo.export import folder as files
from nas_bo.model import Decoder, load_corpus, train

SEQUENCE = 128
CHANNELS = 0.5
OTHERS: dict[str, dict[str, Any]] = {
    "half of the heads": {"heads": 0.5},
    "two of six layers": {"layers": 1 / 3},
    "half of channels and heads": {"channels": 0.5, "heads": 0.5},
}


def measured(folder: Path, tokens: int, calibration: int, recovery: int) -> dict[str, Any]:
    corpus, model = load_corpus(), files.load(folder).model
    before = held_out(model, corpus, tokens, SEQUENCE)
    found: dict[str, Any] = {}

    def note(name: str, made: Decoder) -> HeldOut:
        now = held_out(made, corpus, tokens, SEQUENCE)
        cost, low, high = now.cost(before)
        size = sum(weight.numel() for weight in made.parameters())
        found[name] = {"cost": round(cost, 5), "low": round(low, 5), "high": round(high, 5), "parameters": size}
        print(folder.name, name, found[name], flush=True)
        return now

    text = windows(model, corpus, "prune", calibration)
    halves = {}
    for method in (*METHODS, "random"):
        for repair in (False, True):
            made = prune(model, CHANNELS, method=method, calibration=text, repair=repair).model  # type: ignore[arg-type]
            note(f"half of the channels, {method}{', repaired' if repair else ''}", made)
            if repair and method == "wanda":
                halves[method] = made
    for name, how in OTHERS.items():
        note(name, prune(model, calibration=text, **how).model)
    for sparsity in (0.5, "2:4"):
        for how in ("weight", "wanda", "sparsegpt"):
            note(f"zeros {sparsity}, {how}", sparsify(model, sparsity, how, text).model)  # type: ignore[arg-type]
    for method, made in halves.items() if recovery else ():
        settings = {**SETTINGS, "lr": RECOVERY * SETTINGS["lr"]}
        again = train(made, corpus, recovery, settings=None, **settings).model  # type: ignore[arg-type]
        note(f"half of the channels, {method}, repaired, then {recovery:,} bytes", again)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, default=cache())
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--tokens", type=int, default=131_072)
    parser.add_argument("--calibration", type=int, default=8_192)
    parser.add_argument("--recovery", type=int, default=100_352)
    given = parser.parse_args()
    document = envelope(
        "held-out bits per byte that taking units or weights away costs a decoder of 4.2 million parameters",
        "torch",
        repeats=len(given.seeds),
        spread="95 % over windows, of each seed",
        held_out_tokens=given.tokens,
        teachers={f"seed{seed}": described(given.teacher / f"seed{seed}") for seed in given.seeds},
        figures={f"seed{seed}": measured(given.teacher / f"seed{seed}", given.tokens, given.calibration, given.recovery) for seed in given.seeds},
    )  # fmt: skip
    write(document, "compression_pruning.json")


if __name__ == "__main__":
    main()
