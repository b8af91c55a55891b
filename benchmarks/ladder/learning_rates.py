"""Whether the best learning rate stays where it is when an architecture grows: the plain decoder of `tiny_gpt` at the sizes of the ladder, with
today's recipe and with CompleteP (arXiv 2505.01618) whose base is the smallest of them.

    python -m benchmarks.ladder.learning_rates [--quick] [--minutes 9]

Every size is trained on 60,000 tokens (as many for all: what is asked is what the size does, not the length of a run) at half, one, two and four
times the default rate, further by factors of 2 until the best lies inside. The best rate is the top of a parabola through three points in log rate. What must hold: with CompleteP it moves by at most one octave
from the smallest to the largest. Every run is kept in benchmarks/results/ladder_learning_rates_raw.jsonl: a run that `--minutes` has ended
continues there. Writes benchmarks/results/ladder_learning_rates.json when all are there.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from typing import Any

from benchmarks.common import RESULTS, envelope, write
from benchmarks.learning_rates.run import _peak, model_of
from nas_bo.architecture import Architecture
from nas_bo.errors import TrainingDiverged
from nas_bo.model import CompleteP, Corpus, load_corpus, parameters, train
from nas_bo.model.larger import larger
from nas_bo.model.schedule import DEFAULTS

RAW = RESULTS / "ladder_learning_rates_raw.jsonl"
SIZES = (60_000, 250_000, 1_000_000)
TOKENS, EVALUATION_TOKENS = 60_000, 32_768
OCTAVES = (-1.0, 0.0, 1.0, 2.0)
MOST = 4.0


class OutOfTime(Exception):
    """The runs that are there are kept; the same command continues."""


class Sweep:
    """Losses of one size by rate, in octaves from the default."""

    def __init__(self, arch: Architecture, corpus: Corpus, name: str, base: CompleteP, until: float) -> None:
        self.arch, self.corpus, self.name, self.until = arch, corpus, name, until
        self.how = base if name == "completep" else None
        self.tokens = TOKENS
        self.losses: dict[float, float] = {}
        self.seconds = 0.0

    def at(self, octave: float) -> float:
        if octave not in self.losses:
            key = [self.arch.id, self.tokens, self.name, octave]
            kept = [json.loads(line) for line in RAW.read_text().splitlines()] if RAW.exists() else []
            row = next((one for one in kept if one["key"] == key), None)
            if row is None:
                row = {"key": key, **self._run(octave)}
                with RAW.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            self.losses[octave] = math.inf if row["loss"] is None else row["loss"]
            self.seconds += row["cpu_seconds"]
        return self.losses[octave]

    def _run(self, octave: float) -> dict[str, Any]:
        if time.monotonic() > self.until:
            raise OutOfTime
        began = time.process_time()
        try:
            found = train(
                self.arch, self.corpus, self.tokens, 0, lr=DEFAULTS["lr"] * 2**octave, parametrization=self.how,
                evaluation_tokens=EVALUATION_TOKENS,
            )  # fmt: skip
            loss = found.bits_per_byte
        except TrainingDiverged:
            loss = None
        return {"loss": loss, "cpu_seconds": round(time.process_time() - began, 1)}

    def best(self) -> dict[str, Any]:
        for octave in OCTAVES:
            self.at(octave)
        while (top := min(self.losses, key=self.at)) in (min(self.losses), max(self.losses)) and abs(top) < MOST:
            self.at(top + (1 if top == max(self.losses) else -1))
        near = [octave for octave in (top - 1, top, top + 1) if octave in self.losses]
        return {
            "parameters": parameters(self.arch, self.corpus.vocab_size),
            "width": self.arch.width,
            "layers": len(self.arch.layers),
            "tokens": self.tokens,
            "best_octave": round(_peak(near, [self.losses[octave] for octave in near]), 2),
            "losses": [[octave, round(self.losses[octave], 4)] for octave in sorted(self.losses)],
            "cpu_seconds": round(self.seconds, 1),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="the smallest size alone, and nothing is written at the end"
    )
    parser.add_argument("--minutes", type=float, default=9.0, help="after which no further run is begun")
    options = parser.parse_args()
    until, corpus = time.monotonic() + 60 * options.minutes, load_corpus()
    attention = {"mixer": "attention", "mixer.attention.heads": 4, "mixer.attention.kv_group": 1}
    first = model_of(2, 48, attention, {"mlp": "dense", "mlp.dense.ratio": 2})
    base = CompleteP(first.width, len(first.layers))
    found: dict[str, list[dict[str, Any]]] = {}
    try:
        for size in SIZES[:1] if options.quick else SIZES:
            arch = larger(first, max(size, parameters(first, corpus.vocab_size)), corpus.vocab_size)
            for name in ("completep", "standard"):
                found.setdefault(name, []).append(Sweep(arch, corpus, name, base, until).best())
    except OutOfTime:
        print("out of time; what was run is kept, the same command continues")
        return
    moved = {name: round(rows[-1]["best_octave"] - rows[0]["best_octave"], 2) for name, rows in found.items()}
    write(
        envelope(
            "best learning rate in octaves from 3e-3 of the plain decoder of tiny_gpt as it grows (depth and width), one seed, 60,000 tokens in "
            "steps of 512; `moved` is from the smallest to the largest size",
            "nas_bo", "torch", asked="at most one octave with completep", moved=moved, sizes=found,
        ),
        "ladder_learning_rates.json",
        keep=not options.quick,
    )  # fmt: skip


if __name__ == "__main__":
    main()
