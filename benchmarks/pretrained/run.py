"""A smaller model inside a trained one: the search against what the field does by rule, at equal numbers of parameters.

    python -m benchmarks.pretrained.run --teacher DIR [--quick] [--seeds 3] [--shares 0.75 0.51 0.3] [--evaluations 60] [--recover 100352] [--resume] [--latency]

Every arm knows the same calibration text and the same Wanda-style importance (`nas_bo.compress.importances`), and stays within the same
number of parameters:

* width: MLPs and groups of heads alike in all layers, as large as fits for each number of heads; the best of these
* depth: whole layers left out, those that turn the stream least
* block scores: one block at a time, solved as an integer program (Puzzle's way), once
* random: as many looks as the search has, its best
* search: block scores, then `Knapsack` with what is left of the looks

A look is one evaluation of a model, on calibration or held-out text; those for block scores count. All arms are repaired (`nas_bo.pretrained.repair`)
when they are looked at, and at the end on four times the text; `as_is` is the loss of the same part without. Then each is trained for `--recover` tokens
with the same batches and the trained model as teacher. Losses are on held-out windows, four times as much text as a look sees. Writes
benchmarks/results/pretrained.json after every row; `--resume` keeps the rows that are there. `--latency` instead compares fronts of loss and
measured decode latency (`benchmarks.pretrained.fronts`).
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, envelope, write
from benchmarks.pretrained import fronts
from nas_bo import search
from nas_bo.architecture import Architecture, Node
from nas_bo.model import Decoder, Distillation, train
from nas_bo.model.inference import evaluate
from nas_bo.model.spec import check
from nas_bo.objectives import Parameters
from nas_bo.pretrained import CalibrationText, Pretrained, SubModelLoss
from nas_bo.pretrained.block_scores import changed
from nas_bo.pretrained.slices import compact, sliced
from nas_bo.pretrained.space import whole
from nas_bo.problem import Problem
from nas_bo.strategies import Knapsack
from nas_bo.strategies.strategy import fresh

Space = Any
Row = dict[str, Any]
UNITS = (("mixer", "heads"), ("mlp", "ratio"))
SEQUENCE, LOOKED_AT, HELD_OUT = 128, 8_192, 32_768
ARMS = ("width", "depth", "block_scores", "random", "search")
RESULT = "pretrained.json"


class Arms:
    """One teacher, one seed, one bound; every method returns its architecture and its looks."""

    def __init__(self, loss: SubModelLoss, space: Space, bound: float, looks: int, seed: int) -> None:
        self.loss, self.space, self.bound, self.looks, self.seed = loss, space, bound, looks, seed
        self.size = Parameters(vocab_size=loss.teacher.vocab_size, at_most=bound)
        self.scores = loss.teacher.block_scores(loss)
        self.most = whole(space)

    def fits(self, arch: Architecture) -> bool:
        return float(self.size(arch)) <= self.bound and not self.space.violations(arch)

    def width(self) -> tuple[Architecture, int]:
        """For each number of heads the most hidden units that fit, all layers alike; the best of them."""
        spec = self.loss.teacher.spec
        mixer, mlp = spec.layers[0]
        found = []
        for groups in range(1, mixer.kv_heads + 1):
            heads = groups * mixer.heads // mixer.kv_heads
            for hidden in range(mlp.hidden - mlp.hidden % 8, 0, -8):
                arch = alike(self.loss, heads, hidden / spec.width)
                if float(self.size(arch)) <= self.bound:
                    found.append(arch)
                    break
        return min(found, key=lambda arch: float(self.loss(arch))), len(found)

    def depth(self) -> tuple[Architecture, int]:
        scores = self.loss.ordered().importance["layers", "layers"].scores.tolist()
        influence = dict(enumerate(scores))
        decisions: dict[str, str] = {}
        for index in sorted(influence, key=lambda i: influence[i]):
            decisions |= {f"layers.{index}.mixer": "skip", f"layers.{index}.mlp": "skip"}
            arch = changed(self.space, self.most, decisions)
            if self.fits(arch):
                return arch, 1
        raise SystemExit("no number of layers fits")

    def block_scores(self) -> tuple[Architecture, int]:
        problem = Problem(self.space, [self.loss], [self.size], [self.scores])
        (found,) = Knapsack(seed=self.seed).suggest(problem, [], 1)
        return found, self.measured()

    def measured(self) -> int:
        return self.scores.looks(self.space)

    def random(self) -> tuple[Architecture, int]:
        rng = random.Random(self.seed)
        problem = Problem(self.space, [self.loss], [self.size])
        seen: set[str] = set()
        found = []
        for _ in range(self.looks):
            arch = fresh(problem, seen, rng)
            if arch is None:
                break
            seen.add(arch.id)
            found.append(arch)
        return min(found, key=lambda arch: float(self.loss(arch))), len(found)

    def search(self) -> tuple[Architecture, int]:
        rest = self.looks - self.measured()
        result = search(
            self.space,
            [self.loss],
            limits=[self.size],
            proxies=[self.scores],
            strategy=Knapsack(seed=self.seed),
            trials=rest,
            retrain=0,
        )
        return result.best(self.loss.name).architecture, self.looks


def alike(loss: SubModelLoss, heads: int, ratio: float) -> Architecture:
    """The whole model with so many heads and such MLPs in every layer; its sizes need not be among those of the space."""
    fields = dict(loss.teacher.arch)
    layers = []
    for layer in fields["layers"]:
        mixer = Node({**layer.mixer, "heads": heads, "head_dim": loss.teacher.spec.layers[0].mixer.head_dim})
        layers.append(Node({"mixer": mixer, "mlp": Node({**layer.mlp, "ratio": ratio})}))
    return Architecture(Node({**fields, "layers": tuple(layers)}), {})


def rows(given: argparse.Namespace, done: Sequence[Row]) -> Iterator[Row]:
    """One after another, those that are not among `done`."""
    have = {(row["seed"], row.get("share"), row["arm"]) for row in done}
    for seed in range(given.seeds):
        wanted = [(seed, None, "teacher"), *((seed, share, arm) for share in given.shares for arm in ARMS)]
        if not all(one in have for one in wanted):
            yield from _of_seed(given, seed, [one for one in wanted if one not in have])


def _of_seed(given: argparse.Namespace, seed: int, wanted: Sequence[tuple[int, float | None, str]]) -> Iterator[Row]:
    teacher = Pretrained(given.teacher.format(seed=seed))
    calibration = CalibrationText(batches=1 if given.quick else 4, sequences=8, sequence=SEQUENCE, seed=seed)
    how = {"sequence": SEQUENCE, "held_out_tokens": LOOKED_AT, "device": "cpu", "seed": seed}
    loss = teacher.loss(data=given.data, calibration=calibration, **how)
    corpus, space = loss.corpus(), teacher.space()
    model = loss.ordered().model
    size = float(Parameters(vocab_size=teacher.vocab_size)(whole(space)))
    recovered: dict[str, tuple[float, float]] = {}
    for _, share, name in wanted:
        if share is None:
            full = evaluate(model, corpus, HELD_OUT, SEQUENCE)
            yield {"seed": seed, "arm": "teacher", "parameters": int(size), "before": round(full, 4)}
            continue
        arms = Arms(loss, space, share * size, given.evaluations, seed)
        clock = time.process_time()
        arch, looks = getattr(arms, name)()
        spent = time.process_time() - clock
        as_is = compact(sliced(model, check(arch), copy=True))
        part = compact(loss.sub_model(arch))
        row: Row = {"seed": seed, "share": share, "arm": name, "parameters": int(arms.size(arch)), "looks": looks}
        row |= {"cpu_s": round(spent, 1), "as_is": round(evaluate(as_is, corpus, HELD_OUT, SEQUENCE), 4)}
        row["before"] = round(evaluate(part, corpus, HELD_OUT, SEQUENCE), 4)
        if given.recover:
            if arch.id not in recovered:
                recovered[arch.id] = _recovered(part, loss, given.recover)
            row["after"], row["recovery_cpu_s"] = recovered[arch.id]
        row["part"] = [[getattr(layer, slot).get(unit, 0) for slot, unit in UNITS] for layer in arch.layers]
        yield row


def _recovered(part: Decoder, loss: SubModelLoss, tokens: float) -> tuple[float, float]:
    """The loss after distillation, and its processor seconds."""
    clock = time.process_time()
    how = {"lr": 1e-3, "warmup": 0.05, "decay": 0.95, "batch_size": 8, "sequence": SEQUENCE}
    made = train(part, loss.corpus(), tokens, loss.seed, teacher=Distillation(loss.teacher.path), **how)
    after = evaluate(made.model, loss.corpus(), HELD_OUT, SEQUENCE)
    return round(after, 4), round(time.process_time() - clock, 1)


def summary(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard deviation over seeds of what each arm is above the teacher, and in how many seeds the search leads."""
    teacher = {row["seed"]: row["before"] for row in found if row["arm"] == "teacher"}
    parts = [row for row in found if row["arm"] != "teacher"]
    said = []
    for share in sorted({row["share"] for row in parts}, reverse=True):
        for arm in dict.fromkeys(row["arm"] for row in parts):
            mine = [row for row in parts if row["share"] == share and row["arm"] == arm]
            if not mine:
                continue  # not yet
            one: dict[str, Any] = {
                "share": share,
                "arm": arm,
                "looks": round(statistics.fmean(row["looks"] for row in mine)),
            }
            for when in ("as_is", "before", "after"):
                above = [row[when] - teacher[row["seed"]] for row in mine if when in row]
                if above:
                    one[f"{when}_above_teacher"] = round(statistics.fmean(above), 4)
                    one[f"{when}_sd"] = round(statistics.stdev(above), 4) if len(above) > 1 else None
            said.append(one)
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--teacher", required=True, help="folder of the trained model; {seed} is replaced where there is one for each"
    )
    parser.add_argument("--data", default=None)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.75, 0.51, 0.3])
    parser.add_argument("--evaluations", type=int, default=60)
    parser.add_argument("--recover", type=float, default=100_352)
    parser.add_argument(
        "--quick", action="store_true", help="one seed, one size, few looks, no recovery; writes nothing"
    )
    parser.add_argument("--resume", action="store_true", help="keep the rows of benchmarks/results/pretrained.json")
    parser.add_argument("--latency", action="store_true", help="fronts of loss and measured decode latency instead")
    given = parser.parse_args()
    if given.quick:
        given = replace_given(given)
    if given.latency:
        compare_fronts(given)
        return
    settings = {
        "teacher": Path(given.teacher.format(seed=0)).resolve().parent.name,
        "recover_tokens": given.recover,
        "evaluations": given.evaluations,
    }
    found: list[Row] = []
    if given.resume and (RESULTS / RESULT).is_file():
        before = json.loads((RESULTS / RESULT).read_text())
        found = before["rows"] if all(before.get(name) == value for name, value in settings.items()) else []
    what = "bits per byte of parts of a trained model, before and after recovery; teacher and arms in one run, on the same text"
    for row in rows(given, found):
        print(row, flush=True)
        found.append(row)
        if not given.quick:
            made = envelope(what, "torch", "scipy", **settings, summary=summary(found), rows=found)
            (RESULTS / RESULT).write_text(json.dumps(made, indent=1) + "\n")
    write(
        envelope(what, "torch", "scipy", **settings, summary=summary(found), rows=found), RESULT, keep=not given.quick
    )


def compare_fronts(given: argparse.Namespace) -> None:
    """`--latency`; what is kept with `--resume` are seeds that are whole."""
    path = RESULTS / fronts.RESULT
    settings = {
        "sequence": SEQUENCE,
        "looked_at": LOOKED_AT,
        "held_out": 2 * LOOKED_AT,
        "evaluations": given.evaluations,
    }
    found: list[Row] = []
    if given.resume and path.is_file():
        before = json.loads(path.read_text())
        found = before["rows"] if all(before.get(name) == value for name, value in settings.items()) else []
    given.left = [seed for seed in range(given.seeds) if seed not in {row["seed"] for row in found}]
    what = "fronts of bits per byte and measured decode milliseconds of parts of a trained model, as they are; hypervolume as a share"
    for row in fronts.rows(given, settings, alike):
        print({name: value for name, value in row.items() if name != "points"}, flush=True)
        found.append(row)
        if row["arm"] == fronts.ARMS[-1] and not given.quick:
            made = envelope(what, "torch", "scipy", **settings, summary=fronts.summary(found), rows=found)
            write(made, fronts.RESULT)
    print(*fronts.summary(found), sep="\n")


def replace_given(given: argparse.Namespace) -> argparse.Namespace:
    return argparse.Namespace(
        **{**vars(given), "seeds": 1, "shares": [0.51], "evaluations": 40, "recover": 0, "resume": False}
    )


if __name__ == "__main__":
    main()
