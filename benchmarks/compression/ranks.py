"""Do the objectives of compressibility rank architectures by what quantization and pruning really cost them?

    python -m benchmarks.compression.ranks [--architectures 24] [--tokens 30000]

Random architectures of a space like `tiny_gpt`, whose MLPs also differ in activation and gate, are trained on the default corpus. Of each
the objectives are taken, and the real costs on other held-out text than theirs: 3 bits by GPTQ, 2 bits rounded to nearest, half of the
channels of all MLPs taken away. Kendall's tau between objective and cost (the sign turned where more is better), over all, and
with the logarithm of the parameters regressed out of both; 95 % bootstrap intervals over architectures. Next to them the taus of two
numbers that cost nothing: parameters, and the loss itself.

Writes benchmarks/results/compression_ranks.json.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy

import argparse
import math
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.common import envelope, write
from nas_bo.compress import held_out, prune, quantize
from nas_bo.model import Corpus, Decoder, attention, conv, dense, load_corpus, train
from nas_bo.objectives import ActivationSparsity, LayerSensitivity, OutlierScore, QuantizationGap, ValidationLoss
from nas_bo.report.ranks import interval, tau, tau_size_removed
from nas_bo.space import Space, choice, integer, repeat

SEQUENCE = 64
HELD_OUT = 8_192  # tokens, of the objectives and of the costs each
DRAWS = 2000


class Varied(Space):
    """`tiny_gpt`, shallower, with more kinds of MLPs, every layer with one."""

    depth = integer(1, 3)
    width = choice(32, 48, 64)
    layers = repeat(
        depth,
        mixer=choice(attention(heads=choice(2, 4), qk_norm=choice(None, "head")), conv(kernel=4)),
        mlp=dense(ratio=choice(1, 2, 3), activation=choice("gelu", "silu", "relu2"), gated=choice(True, False)),
    )


def halves(corpus: Corpus) -> tuple[Corpus, Corpus]:
    """The corpus with the first and with the second half of its held-out text."""
    cut = len(corpus.validation) // 2
    first, second = corpus.validation[:cut], corpus.validation[cut:]
    return (
        replace(corpus, validation=first, validation_bytes=len(first)),
        replace(corpus, validation=second, validation_bytes=len(second)),
    )


def costs(model: Decoder, corpus: Corpus) -> dict[str, float]:
    before = held_out(model, corpus, HELD_OUT, SEQUENCE)
    made = {
        "3 bits, gptq": quantize(model, 3, method="gptq", calibration=corpus).model,
        "2 bits, rtn": quantize(model, 2).model,
        "half of the channels": prune(model, 0.5, calibration=corpus, repair=False).model,
    }
    return {name: held_out(one, corpus, HELD_OUT, SEQUENCE).cost(before)[0] for name, one in made.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", type=int, default=24)
    parser.add_argument("--tokens", type=float, default=30_000)
    given = parser.parse_args()
    corpus = load_corpus()
    seen, other = halves(corpus)
    quality = ValidationLoss(tokens=given.tokens, sequence=SEQUENCE, evaluation_tokens=HELD_OUT, device="cpu")
    objectives = [
        QuantizationGap(bits=3, quality=quality),
        QuantizationGap(bits=2, quality=quality),
        LayerSensitivity(quality=quality),
        ActivationSparsity(quality=quality),
        OutlierScore(quality=quality),
    ]
    rows: list[dict[str, Any]] = []
    for seed in range(given.architectures):
        arch = Varied.sample(seed)
        made = train(arch, seen, given.tokens, threads=1, sequence=SEQUENCE, batch_size=16, evaluation_tokens=HELD_OUT)
        values = {one.name: float(one.measured(made.model, seen)) for one in objectives}
        row = {"architecture": arch.id, "parameters": made.parameters, "bits_per_byte": made.bits_per_byte}
        rows.append({**row, "values": values, "costs": costs(made.model, other)})
        print(seed, rows[-1], flush=True)
    size = np.array([row["parameters"] for row in rows], float)
    signs = {one.name: -1 if one.direction == "maximize" else 1 for one in objectives}
    guesses = {name: np.array([signs[name] * row["values"][name] for row in rows]) for name in signs}
    guesses |= {"parameters (fewer)": size, "bits_per_byte": np.array([row["bits_per_byte"] for row in rows])}
    figures: dict[str, Any] = {}
    for cost in rows[0]["costs"]:
        truth = np.array([row["costs"][cost] for row in rows])
        figures[cost] = {"median": round(float(np.median(truth)), 4), "least": round(float(truth.min()), 4), "most": round(float(truth.max()), 4)}  # fmt: skip
        for name, guess in guesses.items():
            whole = interval(tau, [(guess, truth)], None, DRAWS, 0)
            left = interval(tau_size_removed, [(guess, truth)], size, DRAWS, 0)
            figures[cost][name] = {
                kind: None if math.isnan(one.value) else [round(one.value, 3), round(one.low, 3), round(one.high, 3)]
                for kind, one in (("tau", whole), ("tau_size_removed", left))
            }
    document = envelope(
        "Kendall's tau between objectives of compressibility and what compression really costs, [value, low, high]",
        "torch",
        repeats=len(rows),
        spread="95 % bootstrap over architectures",
        tokens=given.tokens,
        figures=figures,
        architectures=rows,
    )
    write(document, "compression_ranks.json")


if __name__ == "__main__":
    main()
