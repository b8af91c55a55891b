"""Does the sum of block scores order parts of a trained model as their losses do? Kendall's tau, overall and within 10 % of size.

    python -m benchmarks.pretrained.scores [--teacher DIR] [--seeds 0] [--parts 30] [--evaluations 20 60]
    python -m benchmarks.pretrained.scores --model SmolLM2-135M.gguf --name smollm2 --evaluations 60

Random parts of two spaces: the one that `Pretrained.space` gives, and one in which the first MLP may be left out as well. The losses are on
held-out text, as the parts are cut out (zero-shot) and repaired (`nas_bo.pretrained.repair`); the scores are on calibration text, from so many
evaluations of the model as `--evaluations` says. The teachers are those of `benchmarks.compression.teacher`. Intervals are 95 % over resamples of parts.

Writes benchmarks/results/pretrained_scores.json, or pretrained_scores_NAME.json, after every model.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import envelope, write
from benchmarks.compression.teacher import asked
from benchmarks.pretrained.smollm2 import pages
from nas_bo.model.inference import evaluate
from nas_bo.model.spec import check
from nas_bo.objectives import Parameters
from nas_bo.pretrained import CalibrationText, Parts, Pretrained, SubModelLoss
from nas_bo.pretrained.slices import sliced
from nas_bo.report.ranks import Interval, interval, pairs_within, tau, tau_within

SEQUENCE = 128
DRAWS = 2000


def compared(loss: SubModelLoss, parts: Parts, n: int, evaluations: list[int], seed: int) -> dict[str, Any]:
    teacher = loss.teacher
    space, size = teacher.space(parts), Parameters(vocab_size=teacher.vocab_size)
    archs = [space.sample(1000 * seed + at) for at in range(n)]
    sizes = np.array([float(size(arch)) for arch in archs])
    held, corpus = loss.ordered(), loss.corpus()
    losses = {
        "zero-shot": [
            evaluate(sliced(held.model, check(a)), corpus, loss.held_out_tokens, loss.sequence) for a in archs
        ],
        "repaired": [float(loss(arch)) for arch in archs],
    }
    began = time.process_time()
    scored = {}
    for most in evaluations:
        scores = teacher.block_scores(loss, parts=parts, evaluations=most)
        scored[most] = [float(scores(arch)) for arch in archs], scores.looks(space)
    found: dict[str, Any] = {
        "pairs within 10 %": pairs_within(sizes), "first MLP left out": sum(a.layers[0].mlp.kind == "skip" for a in archs),
        "score_cpu_s": round(time.process_time() - began, 1),
    }  # fmt: skip
    for kind, truth in losses.items():
        found[kind] = {"loss": [round(float(q), 3) for q in np.quantile(truth, (0, 0.5, 1))]}
        for most, (values, looks) in scored.items():
            pair = [(np.array(values), np.array(truth))]
            both = [interval(how, pair, sizes, DRAWS, seed) for how in (tau, tau_within)]
            found[kind][f"{most} evaluations"] = {"looks": looks, "tau": _told(both[0]), "within 10 %": _told(both[1])}
    return found


def _told(found: Interval) -> list[float]:
    return [round(value, 3) for value in (found.value, found.low, found.high)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked(parser)
    parser.add_argument("--parts", type=int, default=30)
    parser.add_argument("--evaluations", type=int, nargs="+", default=[20, 60])
    parser.add_argument("--tokens", type=int, default=8_192, help="held-out tokens")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as empty:
        text = Path(empty) / "pages.txt"
        text.write_text(pages())
        for seed in given.seeds:
            teacher = Pretrained(given.model or str(given.teacher / f"seed{seed}"))
            calibration = CalibrationText(batches=4, sequences=8, sequence=SEQUENCE, seed=seed)
            loss = teacher.loss(
                data=None if given.model is None else given.data or str(text), calibration=calibration,
                held_out_tokens=given.tokens, sequence=SEQUENCE, device="cpu", seed=seed,
            )  # fmt: skip
            every = tuple(range(len(teacher.spec.layers)))
            for name, parts in (("default", Parts()), ("every block may go", Parts(depth=every))):
                row = {"seed": seed, "space": name, "parts": given.parts}
                rows.append(row | compared(loss, parts, given.parts, given.evaluations, seed))
                print(rows[-1], flush=True)
            name = "pretrained_scores" + ("" if given.model is None else f"_{given.name}") + ".json"
            write(
                envelope(
                    "the sum of block scores against losses of random parts of a trained model: Kendall's tau, 95 % over resamples of parts",
                    "torch", held_out_tokens=given.tokens, repeats=len(given.seeds), rows=rows,
                ),
                name,
            )  # fmt: skip


if __name__ == "__main__":
    main()
