"""A search over the sizes of MLPs and the bits of layers inside SmolLM2-135M: what a look costs, and whether it orders parts as their own GPTQ does.

    python -m benchmarks.pretrained.bits [--model FOLDER_OR_GGUF] [--bits 8 4 3] [--looks 8] [--share 0.5] [--own 3]

Parts are judged on 1,024 held-out tokens of the pages of the documentation, repaired on 1,536 tokens of the rest. A look takes matrices that the
whole model has in few bits already (`nas_bo.pretrained.rounded`); `own` quantizes a part from the start, on its own inputs, as parts that were
trained are. Processor seconds are those of one thread; `first_cpu_s` has what is done once. `Knapsack` proposes under a limit on the bytes of weights, a
share of those of the whole model at the most bits. Writes benchmarks/results/pretrained_bits.json after every look.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import envelope, write
from benchmarks.pretrained.smollm2 import packaged, pages
from nas_bo.model.inference import evaluate
from nas_bo.objectives import WeightBytes
from nas_bo.pretrained import CalibrationText, Parts, Pretrained
from nas_bo.pretrained.space import whole
from nas_bo.problem import Problem
from nas_bo.strategies import Knapsack
from nas_bo.trial import Trial

HELD_OUT, SEQUENCE = 1024, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None)
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 4, 3])
    parser.add_argument("--looks", type=int, default=8)
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--own", type=int, default=3, help="parts that are quantized from the start as well")
    given = parser.parse_args()
    torch.set_num_threads(1)
    clock = time.process_time()

    def spent() -> float:
        nonlocal clock
        before, clock = clock, time.process_time()
        return round(clock - before, 1)

    with tempfile.TemporaryDirectory() as empty:
        text = Path(empty) / "pages.txt"
        text.write_text(pages())
        teacher = Pretrained(given.model or packaged())
        few = CalibrationText(batches=1, sequences=6, sequence=SEQUENCE)
        loss = teacher.loss(data=str(text), calibration=few, held_out_tokens=HELD_OUT, sequence=SEQUENCE, device="cpu")
        loss.ordered()
        first = {"loading, text and importance": spent()}
        parts = Parts(depth=False, heads=False, mlp=(1152, 768), bits=tuple(given.bits))
        space = teacher.space(parts)
        size = WeightBytes(vocab_size=teacher.vocab_size)
        limit = given.share * float(size(whole(space)))
        scores = teacher.block_scores(loss, parts=parts, sizes=0, groups=0, batches=1, evaluations=3)
        base = scores.base(space)
        first["block scores, with matrices in few bits"] = spent()
        problem = Problem(
            space, [loss], [WeightBytes(vocab_size=teacher.vocab_size, at_most=limit, name="size")], [scores]
        )
        rows: list[dict[str, Any]] = []
        trials: list[Trial] = []

        def keep() -> None:
            document = envelope(
                "a search over bits and sizes inside SmolLM2-135M: processor seconds of a look, and its loss next to that of the part's own GPTQ",
                "torch",
                "scipy",
                repeats=len(rows),
                spread="each look is listed",
                bits=given.bits,
                limit_bytes=int(limit),
                whole_bits_per_byte=round(float(base), 4),
                first_cpu_s=first,
                sha256=loss.corpus().fingerprint,
                rows=rows,
            )
            write(document, "pretrained_bits.json")

        strategy = Knapsack()
        for number in range(given.looks):
            (arch,) = strategy.suggest(problem, trials, 1)
            proposed = spent()
            value = float(loss(arch))
            trials.append(Trial(arch, {loss.name: value}, number=number))
            widths = [int(arch.flat[f"layers.{layer}.bits"]) for layer in range(len(teacher.spec.layers))]
            row = {"look": number, "shared": round(value, 4), "estimate": round(float(scores(arch)), 4)}
            row |= {"weight_bytes": int(size(arch)), "bits": widths, "proposal_cpu_s": proposed, "cpu_s": spent()}
            rows.append(row)
            print(row, flush=True)
            keep()
        for row, trial in sorted(zip(rows, trials, strict=True), key=lambda one: one[0]["shared"])[: given.own]:
            part = loss.sub_model(trial.architecture, copy=False, longer=False)
            spent()
            made = loss.as_used(part, trial.architecture)
            row["own_gptq_cpu_s"] = spent()
            row["own"] = round(evaluate(made, loss.corpus(), HELD_OUT, SEQUENCE), 4)
            spent()
            print(row, flush=True)
            keep()


if __name__ == "__main__":
    main()
