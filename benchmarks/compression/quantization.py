"""What fewer bits cost a trained model: rounding to nearest and GPTQ, 8 to 2 bits, on held-out text.

    python -m benchmarks.compression.quantization [--teacher DIR] [--seeds 0] [--tokens 131072]

The teachers are those of `benchmarks.compression.teacher`. Costs are held-out bits per byte of the quantized model minus those of the
trained one, window by window, with the 95 % interval over windows of 128 bytes; sizes are computed. Calibration is 16,384 bytes of
training text, 128 windows.

Writes benchmarks/results/compression_quantization.json.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.common import envelope, write
from benchmarks.compression.teacher import cache, described
from nas_bo.compress import held_out, quantize
from nas_bo.export import folder as files
from nas_bo.model import load_corpus

SEQUENCE = 128
CASES: dict[str, dict[str, Any]] = {
    **{f"{bits} bits, rtn": {"bits": bits, "method": "rtn"} for bits in (8, 4, 3, 2)},
    **{f"{bits} bits, gptq": {"bits": bits, "method": "gptq"} for bits in (4, 3, 2)},
    "2 bits, rtn, symmetric": {"bits": 2, "method": "rtn", "symmetric": True},
    "2 bits, gptq, group 16": {"bits": 2, "method": "gptq", "group": 16},
    "MLPs 2 bits, mixers 3, gptq": {"bits": {"mlp": 2, "mixer": 3, "embedding": 8}, "method": "gptq"},
    "8 bits, rtn, activations 8": {"bits": 8, "method": "rtn", "activations": 8},
}


def measured(folder: Path, tokens: int) -> dict[str, Any]:
    corpus, model = load_corpus(), files.load(folder).model
    before = held_out(model, corpus, tokens, SEQUENCE)
    found: dict[str, Any] = {}
    for name, how in CASES.items():
        began = time.process_time()
        small = quantize(model, calibration=corpus, **how)
        seconds = time.process_time() - began
        cost, low, high = held_out(small.model, corpus, tokens, SEQUENCE).cost(before)
        found[name] = {
            "cost": round(cost, 5),
            "low": round(low, 5),
            "high": round(high, 5),
            "bytes": small.nbytes,
            "bits_per_weight": round(small.bits_per_weight, 3),
            "cpu_seconds": round(seconds, 2),
        }
        print(folder.name, name, found[name], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, default=cache())
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--tokens", type=int, default=131_072)
    given = parser.parse_args()
    figures = {f"seed{seed}": measured(given.teacher / f"seed{seed}", given.tokens) for seed in given.seeds}
    mean = {name: round(statistics.fmean(one[name]["cost"] for one in figures.values()), 5) for name in CASES}
    document = envelope(
        "held-out bits per byte that fewer bits cost a decoder of 4.2 million parameters",
        "torch",
        repeats=len(given.seeds),
        spread="95 % over windows, of each seed",
        held_out_tokens=given.tokens,
        teachers={f"seed{seed}": described(given.teacher / f"seed{seed}") for seed in given.seeds},
        figures=figures,
        mean_cost=mean,
        reached={
            "4 bits at most .004": min(mean["4 bits, rtn"], mean["4 bits, gptq"]) <= 0.004,
            "3 bits at most .01": min(mean["3 bits, rtn"], mean["3 bits, gptq"]) <= 0.01,
            "calibrated 2 bits at most half of plain": mean["2 bits, gptq"] <= mean["2 bits, rtn"] / 2,
        },
    )
    write(document, "compression_quantization.json")


if __name__ == "__main__":
    main()
