"""What taking units and weights away costs a trained model, by score, with and without repair, and after a little training.

    python -m benchmarks.compression.pruning [--teacher DIR] [--seeds 0 1 2] [--tokens 131072] [--calibration 8192] [--recovery 100352]
    python -m benchmarks.compression.pruning --model SmolLM2-135M.gguf --name smollm2 --tokens 2048 --calibration 1024

As `benchmarks.compression.quantization`: costs are held-out bits per byte more than the trained model, window by window. `--recovery` trains
the models of half the channels on so many bytes of training text (not with `--model`). The scores are all that `nas_bo.compress.importance` has of
published work; `against_best` is the loss that our default leaves, divided by the least of any of them.

Writes benchmarks/results/compression_pruning.json, or compression_pruning_NAME.json, after every model.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy

import argparse
import statistics
import time
from typing import Any

from benchmarks.common import envelope, write
from benchmarks.compression.teacher import SETTINGS, Subject, asked, result_name, subjects
from nas_bo.compress import held_out, prune, sparsify
from nas_bo.compress.calibration import windows
from nas_bo.compress.compression import RECOVERY
from nas_bo.compress.importance import METHODS
from nas_bo.model import Decoder, train

SEQUENCE = 128
CHANNELS = 0.5
OTHERS: dict[str, dict[str, Any]] = {
    "half of the heads": {"heads": 0.5},
    "two of six layers": {"layers": 1 / 3},
    "half of channels and heads": {"channels": 0.5, "heads": 0.5},
}


DEFAULT = "wanda"
"""The score of `nas_bo.compress.prune` where nobody names one."""
NEAR = 1.02


def measured(subject: Subject, tokens: int, calibration: int, recovery: int, whole: bool) -> dict[str, Any]:
    """Name -> figures.

    Args:
        whole: more than the scores of channels.
    """
    model, corpus = subject.model, subject.corpus
    before = held_out(model, corpus, tokens, SEQUENCE)
    subject.about["held_out"] = before.about()
    found: dict[str, Any] = {}
    began = time.process_time()

    def note(name: str, made: Decoder) -> None:
        nonlocal began
        seconds = time.process_time() - began
        now = held_out(made, corpus, tokens, SEQUENCE)
        cost, low, high = now.cost(before)
        size = sum(weight.numel() for weight in made.parameters())
        found[name] = {"cost": round(cost, 5), "low": round(low, 5), "high": round(high, 5), "parameters": size}
        found[name] |= {"loss": round(now.mean, 5), "cpu_seconds": round(seconds, 2)}
        print(subject.name, name, found[name], flush=True)
        began = time.process_time()

    text = windows(model, corpus, "the benchmark", calibration)
    halves = {}
    for method in (*METHODS, "random"):
        for repair in (False, True):
            made = prune(model, CHANNELS, method=method, calibration=text, repair=repair).model  # type: ignore[arg-type]
            note(f"half of the channels, {method}{', repaired' if repair else ''}", made)
            if repair and method == DEFAULT:
                halves[method] = made
    for name, options in OTHERS.items() if whole else ():
        note(name, prune(model, calibration=text, **options).model)
    for sparsity in (0.5, "2:4") if whole else ():
        for how in ("weight", "wanda", "sparsegpt"):
            note(f"zeros {sparsity}, {how}", sparsify(model, sparsity, how, text).model)  # type: ignore[arg-type]
    for method, made in halves.items() if recovery and whole else ():
        settings = {**SETTINGS, "lr": RECOVERY * SETTINGS["lr"]}
        again = train(made, corpus, recovery, settings=None, **settings).model  # type: ignore[arg-type]
        note(f"half of the channels, {method}, repaired, then {recovery:,} bytes", again)
    return found


def against_best(found: dict[str, Any]) -> dict[str, float]:
    """The loss that our default leaves as a multiple of the least that a published score leaves, with and without repair."""
    shares = {}
    for kind in ("", ", repaired"):
        losses = {method: found[f"half of the channels, {method}{kind}"]["loss"] for method in METHODS}
        shares["repaired" if kind else "as it is"] = round(losses[DEFAULT] / min(losses.values()), 4)
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked(parser)
    parser.add_argument("--tokens", type=int, default=131_072)
    parser.add_argument("--calibration", type=int, default=8_192)
    parser.add_argument("--recovery", type=int, default=100_352)
    given = parser.parse_args()
    figures: dict[str, Any] = {}
    about: dict[str, Any] = {}
    for subject in subjects(given):
        figures[subject.name] = measured(subject, given.tokens, given.calibration, given.recovery, given.model is None)
        about[subject.name] = subject.about
        shares = {name: against_best(one) for name, one in figures.items()}
        common = [name for name in figures[subject.name] if all(name in one for one in figures.values())]
        document = envelope(
            f"held-out bits per byte that taking units or weights away costs a decoder of {about[subject.name]['parameters'] / 1e6:.1f} million parameters",
            "torch",
            repeats=len(figures),
            spread="95 % over windows, of each model; least and most over models",
            held_out_tokens=given.tokens,
            calibration_tokens=given.calibration,
            teachers=about,
            figures=figures,
            mean_cost={
                name: round(statistics.fmean(one[name]["cost"] for one in figures.values()), 5) for name in common
            },
            least_cost={name: min(one[name]["cost"] for one in figures.values()) for name in common},
            most_cost={name: max(one[name]["cost"] for one in figures.values()) for name in common},
            against_best=shares,
            within_2_percent_in=sum(max(one.values()) <= NEAR for one in shares.values()),
        )
        write(document, result_name("pruning", given))


if __name__ == "__main__":
    main()
