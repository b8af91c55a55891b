"""Is the winner of a search faster than the standard design where it is shipped? Time per written token in llama.cpp and ONNX Runtime, at equal loss.

    python -m benchmarks.exports.decode [--trials 16] [--tokens 120000] [--seeds 2] [--rounds 15] [--formats gguf onnx] [--work FOLDER]

The front of a search in `lfm2_tiny` (loss against FLOPs) and plain decoders of several sizes (attention with four heads, gated MLPs of
three times the width, the standard design) are trained alike, on the same batches, and exported as users export. Then all files of one
runtime decode in turn, round after round in another order, one thread, 32 tokens before the first one that is timed.

The standard design's time at the loss of a winner is read from a line through its two sizes next to it, in the logarithm of the time; a
winner whose loss lies beyond all sizes is compared with none. Intervals are over rounds.

Takes some nine minutes of one quiet core, most of them for trainings; with `--work`, study and trained models are kept in that folder, and a run that
was killed continues. Times want a machine that does nothing else. Writes benchmarks/results/exports_decode.json.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy

import argparse
import json
import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import envelope, write
from nas_bo import search
from nas_bo.architecture import Architecture, Node
from nas_bo.export import folder as files
from nas_bo.model import load_corpus, train
from nas_bo.model.counts import flops, parameters
from nas_bo.objectives import Flops, ValidationLoss
from nas_bo.search_spaces import Lfm2Tiny
from nas_bo.workflows.export import export

PLAIN = ((1, 32), (2, 32), (2, 48), (3, 64), (4, 64), (4, 96), (6, 96))  # layers, width
BEFORE, TIMED = 32, 64  # tokens that are there, and tokens that are written
PADDING = 0.5  # zeros that GGUF may need are timed with the others

Decode = Callable[[], float]  # seconds a token


def plain(depth: int, width: int) -> Architecture:
    """The standard design: all layers alike, nothing left out."""
    layer = Node({
        "mixer": Node({"kind": "attention", "heads": 4, "kv_group": 2}),
        "mlp": Node({"kind": "dense", "ratio": 3, "activation": "silu", "gated": True}),
    })  # fmt: skip
    return Architecture(Node({"width": width, "layers": (layer,) * depth}), {})


def in_llama_cpp(to: Path) -> Decode:
    """As shipped: keys and values in float16."""
    from nas_bo.export.llamacpp import Loaded

    model = Loaded(str(to / "model.gguf"), exact=False)
    ids = [int(one) for one in np.random.default_rng(0).integers(0, model.vocab_size, BEFORE + TIMED)]
    first = model.call([ids[:BEFORE]], 0)
    others = [model.call([[one]], BEFORE + at) for at, one in enumerate(ids[BEFORE:])]

    def run() -> float:
        model.forget()
        first()
        began = time.perf_counter()
        for call in others:
            call()
        return (time.perf_counter() - began) / TIMED

    return run


def in_onnxruntime(to: Path) -> Decode:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(to / "model_with_cache.onnx"), options)
    inputs = session.get_inputs()
    names, sizes = [one.name for one in inputs], {"batch": 1, "past": 0}
    empty = [np.zeros([sizes.get(axis, axis) for axis in one.shape], np.float32) for one in inputs[2:]]
    ids = np.random.default_rng(0).integers(0, 256, (1, BEFORE + TIMED))

    def run() -> float:
        states, began = empty, 0.0
        for at in range(BEFORE + TIMED):
            if at == BEFORE:
                began = time.perf_counter()
            given = [ids[:, at : at + 1], np.array([at]), *states]
            _, *states = session.run(None, dict(zip(names, given, strict=True)))
        return (time.perf_counter() - began) / TIMED

    return run


RUNTIMES: dict[str, Callable[[Path], Decode]] = {"gguf": in_llama_cpp, "onnx": in_onnxruntime}


def in_turn(runs: Sequence[Decode], rounds: int) -> list[list[float]]:
    """Seconds a token, by run and round; every round has its own order."""
    order, draws = list(range(len(runs))), random.Random(0)
    found: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run()
    for _ in range(rounds):
        draws.shuffle(order)
        for at in order:
            found[at].append(runs[at]())
    return found


def at_equal_loss(loss: float, controls: Sequence[tuple[float, float]]) -> float | None:
    """The standard design's time at a loss; `controls` are (loss, time) of its sizes. None beyond all of them."""
    front = [one for one in controls if not any(a < one[0] and b <= one[1] for a, b in controls)]
    below = max((one for one in front if one[0] <= loss), default=None)
    above = min((one for one in front if one[0] >= loss), default=None)
    if below is None or above is None:
        return None
    share = 0.0 if above[0] == below[0] else (loss - below[0]) / (above[0] - below[0])
    return math.exp((1 - share) * math.log(below[1]) + share * math.log(above[1]))


def trained(archs: Sequence[tuple[str, Architecture]], tokens: float, seeds: int, place: Path) -> list[dict[str, Any]]:
    """Rows with the mean loss of the seeds; the model of the first seed is in a folder. What is there already is not trained again."""
    corpus, rows = load_corpus(), []
    for kind, arch in archs:
        folder = place / f"{arch.id}-{tokens:.0f}-{seeds}"
        said = folder / "row.json"
        if said.exists():
            rows.append({**json.loads(said.read_text()), "kind": kind, "folder": folder})
            continue
        made = [train(arch, corpus, tokens, seed=seed) for seed in range(seeds)]
        files.write(folder, files.files(made[0].model, arch, {"tokenizer": "bytes"}, ()))
        losses = [one.bits_per_byte for one in made]
        rows.append({
            "kind": kind, "architecture": arch.id, "parameters": parameters(arch, corpus.vocab_size),
            "mflops": flops(arch, corpus.vocab_size, 256) / 1e6, "losses": [round(one, 4) for one in losses], "loss": statistics.fmean(losses),
        })  # fmt: skip
        said.write_text(json.dumps(rows[-1]))
        rows[-1]["folder"] = folder
        print(kind, arch.id, rows[-1]["losses"], flush=True)
    return rows


def timed(rows: list[dict[str, Any]], format: str, rounds: int, place: Path) -> list[dict[str, Any]]:
    """Adds the times of a runtime to the rows, and compares each winner with the standard design of its loss, round by round."""
    for at, row in enumerate(rows):
        made = export(row["folder"], place / f"{format}{at}", format, padding=PADDING if format == "gguf" else None)
        row[f"{format}: what"] = made.what
    found = in_turn([RUNTIMES[format](place / f"{format}{at}") for at in range(len(rows))], rounds)
    for row, times in zip(rows, found, strict=True):
        row[f"{format}: microseconds a token"] = [
            round(1e6 * value, 2) for value in (min(times), statistics.median(times), max(times))
        ]
    compared = []
    for at, row in enumerate(rows):
        if row["kind"] == "winner":
            ratios = []
            for k in range(rounds):
                there = [(other["loss"], found[i][k]) for i, other in enumerate(rows) if other["kind"] == "plain"]
                equal = at_equal_loss(row["loss"], there)
                ratios += [] if equal is None else [equal / found[at][k]]
            ends = sorted(ratios)
            compared.append({
                "architecture": row["architecture"], "loss": round(row["loss"], 4), "runtime": format,
                "times as fast as the standard design of equal loss": round(statistics.median(ratios), 3) if ratios else None,
                "90 % of rounds": [round(ends[int(0.05 * len(ends))], 3), round(ends[int(0.95 * (len(ends) - 1))], 3)] if ends else None,
            })  # fmt: skip
    return compared


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--tokens", type=float, default=120_000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--winners", type=int, default=3, help="of the front, spread over its losses")
    parser.add_argument("--plain", type=int, default=5, help="sizes of the standard design")
    parser.add_argument("--formats", nargs="+", choices=[*RUNTIMES], default=[*RUNTIMES])
    parser.add_argument("--work", type=Path, default=None, help="a folder for what is searched and trained")
    parser.add_argument("--quick", action="store_true", help="keep no result")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        work = given.work or Path(place)
        work.mkdir(parents=True, exist_ok=True)
        began = time.process_time()
        objectives = [ValidationLoss(tokens=given.tokens / 3), Flops()]
        storage = str(work / f"search-{given.tokens:.0f}.db")
        found = search(Lfm2Tiny, objectives, trials=given.trials, retrain=0, workers=1, storage=storage)
        front = sorted(found.front, key=lambda trial: trial.values["bits_per_byte"])
        chosen = sorted({round(at) for at in np.linspace(0, len(front) - 1, min(given.winners, len(front)))})
        sizes = [PLAIN[round(at)] for at in np.linspace(0, len(PLAIN) - 1, given.plain)]
        archs = [("winner", front[at].architecture) for at in chosen] + [("plain", plain(*size)) for size in sizes]
        print(f"searched: {time.process_time() - began:.0f} CPU s", flush=True)
        rows = trained(archs, given.tokens, given.seeds, work)
        print(f"trained: {time.process_time() - began:.0f} CPU s", flush=True)
        compared = [one for format in given.formats for one in timed(rows, format, given.rounds, Path(place))]
        print(f"exported and timed: {time.process_time() - began:.0f} CPU s", flush=True)
    for row in rows:
        del row["folder"]
    about = {
        "trials": given.trials, "tokens": given.tokens, "seeds": given.seeds, "rounds": given.rounds, "threads": 1,
        "tokens before": BEFORE, "tokens timed": TIMED, "compared": compared, "rows": rows,
    }  # fmt: skip
    what = "decoding of exported winners and of the standard design of equal loss, side by side: microseconds a token, batch 1"
    packages = [{"gguf": "xllamacpp", "onnx": "onnxruntime"}[format] for format in given.formats]
    write(envelope(what, "torch", *packages, **about), "exports_decode.json", keep=not given.quick)


if __name__ == "__main__":
    main()
