"""What fewer bits cost a trained model: rounding to nearest and GPTQ, 8 to 2 bits, on held-out text.

    python -m benchmarks.compression.quantization [--teacher DIR] [--seeds 0 1 2] [--tokens 131072] [--calibration 16384]
    python -m benchmarks.compression.quantization --model SmolLM2-135M.gguf --name smollm2 --tokens 2048 --calibration 2048

The teachers are those of `benchmarks.compression.teacher`; `--model` takes any model that `nas_bo.pretrained` reads, with text of `--data`
(the documentation). Costs are held-out bits per byte of the quantized model minus those of the trained one, window by window, with the 95 %
interval over windows of 128 tokens; sizes are computed. Calibration is training text.

Writes benchmarks/results/compression_quantization.json, or compression_quantization_NAME.json, after every model.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy

import argparse
import json
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.common import envelope, write
from benchmarks.compression.teacher import Subject, asked, result_name, subjects
from nas_bo.compress import held_out, quantize
from nas_bo.compress.calibration import TOKENS, windows

SEQUENCE = 128
CASES: dict[str, dict[str, Any]] = {
    **{f"{bits} bits, rtn": {"bits": bits, "method": "rtn"} for bits in (8, 4, 3, 2)},
    **{f"{bits} bits, gptq": {"bits": bits, "method": "gptq"} for bits in (4, 3, 2)},
    "2 bits, rtn, symmetric": {"bits": 2, "method": "rtn", "symmetric": True},
    "2 bits, gptq, group 16": {"bits": 2, "method": "gptq", "group": 16},
    "MLPs 2 bits, mixers 3, gptq": {"bits": {"mlp": 2, "mixer": 3, "embedding": 8}, "method": "gptq"},
    "8 bits, rtn, activations 8": {"bits": 8, "method": "rtn", "activations": 8},
}


FEW = ("8 bits, rtn", "4 bits, rtn", "3 bits, rtn", "2 bits, rtn", "4 bits, gptq", "2 bits, gptq", "3 bits, gptq")
"""Of a large model."""


def measured(
    subject: Subject, cases: Iterable[str], tokens: int, calibration: int, kept: Path | None = None
) -> dict[str, Any]:
    """Name -> figures.

    Args:
        kept: a file of what was measured before, and is not measured again.
    """
    model, corpus = subject.model, subject.corpus
    before = held_out(model, corpus, tokens, SEQUENCE)
    subject.about["held_out"] = before.about()
    text = windows(model, corpus, "the benchmark", calibration)
    found: dict[str, Any] = json.loads(kept.read_text()) if kept is not None and kept.is_file() else {}
    for name in (one for one in cases if one not in found):
        began = time.process_time()
        small = quantize(model, calibration=text, **CASES[name])
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
        print(subject.name, name, found[name], flush=True)
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(found))
    return {name: found[name] for name in cases}


def reached(mean: dict[str, float]) -> dict[str, bool]:
    return {
        "4 bits at most .004": min(mean["4 bits, rtn"], mean["4 bits, gptq"]) <= 0.004,
        "3 bits at most .01": min(mean["3 bits, rtn"], mean["3 bits, gptq"]) <= 0.01,
        "calibrated 2 bits at most half of plain": mean["2 bits, gptq"] <= mean["2 bits, rtn"] / 2,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked(parser)
    parser.add_argument("--tokens", type=int, default=131_072)
    parser.add_argument("--calibration", type=int, default=TOKENS)
    parser.add_argument(
        "--work", type=Path, help="a folder that keeps what was measured, so that a run that was ended continues"
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, help="only these, such as a part of them with --work")
    given = parser.parse_args()
    cases = given.cases or (tuple(CASES) if given.model is None else FEW)
    figures: dict[str, Any] = {}
    about: dict[str, Any] = {}
    for subject in subjects(given):
        kept = None if given.work is None else given.work / f"{subject.name}-{given.tokens}-{given.calibration}.json"
        figures[subject.name] = measured(subject, cases, given.tokens, given.calibration, kept)
        about[subject.name] = subject.about
        costs = {name: [one[name]["cost"] for one in figures.values()] for name in cases}
        mean = {name: round(statistics.fmean(each), 5) for name, each in costs.items()}
        document = envelope(
            f"held-out bits per byte that fewer bits cost a decoder of {about[subject.name]['parameters'] / 1e6:.1f} million parameters",
            "torch",
            repeats=len(figures),
            spread="95 % over windows, of each model; least and most over models",
            held_out_tokens=given.tokens,
            calibration_tokens=given.calibration,
            teachers=about,
            figures=figures,
            mean_cost=mean,
            least_cost={name: min(each) for name, each in costs.items()},
            most_cost={name: max(each) for name, each in costs.items()},
        )
        if given.cases is None:
            each = [reached({name: one[name]["cost"] for name in cases}) for one in figures.values()]
            document |= {"reached": reached(mean), "reached_in": sum(all(one.values()) for one in each)}
        write(document, result_name("quantization", given))


if __name__ == "__main__":
    main()
