"""Where attention stays in a trained model whose other layers get a recurrent operator: placements by block scores against placements by rule.

    python -m benchmarks.pretrained.operators --teacher DIR [--quick] [--seeds 3] [--operators gated_delta linear_attention] [--attention 4 2]
                                              [--learn 32768] [--recover 51200]

Every layer's block is made once and alone (`nas_bo.pretrained.BlockDistillation`, `--learn` tokens each), and all arms put the same blocks together
with the same number of layers that keep their attention, which is the same KV cache:

* chosen: the integer program on the divergence that each block causes alone (`BlockScores`, `Knapsack`), under that limit on the cache; the loss of no
  put-together model is looked at
* even: attention evenly spaced, the middle ones of equal groups of layers
* first, last: the first or the last layers keep it
* best of all: the placement with the least loss of all that there are, by looking at each (only "before")

"before" is with the blocks as they are, "after" trains the whole for `--recover` tokens with the trained model as teacher, the same batches for all.
Losses are in bits per byte on 32,768 held-out tokens. `window` is attention that sees 32 tokens back; `decode_ms` is the measured time of one token after
2,048 (`Latency`). Rows are kept as they come, in benchmarks/results/pretrained_operators.json, those of a run whose first operator is not gated_delta in a file
with its name.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

from scipy.stats import kendalltau

from benchmarks.common import envelope, write
from nas_bo.architecture import Architecture
from nas_bo.model import Distillation, train
from nas_bo.model.inference import evaluate
from nas_bo.objectives import KVCacheBytes, Latency
from nas_bo.pretrained import BlockDistillation, CalibrationText, Parts, Pretrained, SubModelLoss
from nas_bo.pretrained.block_scores import changed
from nas_bo.pretrained.space import whole
from nas_bo.problem import Problem
from nas_bo.strategies import Knapsack

SEQUENCE, LOOKED_AT, HELD_OUT, CONTEXT = 128, 8_192, 32_768, 2048
WINDOW = 32  # tokens
RATE = 1e-3  # of the recovery: repaired parts lose by the 3e-3 with which models begin


class Placements:
    """The ways in which `attention` of the layers of a teacher keep their attention and all others have one other operator."""

    def __init__(self, loss: SubModelLoss, operator: str, attention: int) -> None:
        self.loss, self.operator, self.attention = loss, operator, attention
        windows = (WINDOW,) if operator == "window" else ()
        self.parts = Parts(mlp=False, heads=False, depth=False, operators=(operator,), windows=windows)
        self.space = loss.teacher.space(self.parts)
        self.layers = len(loss.teacher.spec.layers)
        self.scores = loss.teacher.block_scores(loss, parts=self.parts)

    def arch(self, kept: Sequence[int]) -> Architecture:
        """With attention in these layers alone."""
        gone = [i for i in range(self.layers) if i not in kept]
        others: dict[str, Any] = {f"layers.{i}.mixer": self.operator for i in gone}
        if self.operator == "window":
            others = {f"layers.{i}.mixer.attention.window": WINDOW for i in gone}
        return changed(self.space, whole(self.space), others)

    def even(self) -> Architecture:
        return self.arch([int((k + 0.5) * self.layers / self.attention) for k in range(self.attention)])

    def first(self) -> Architecture:
        return self.arch(range(self.attention))

    def last(self) -> Architecture:
        return self.arch(range(self.layers - self.attention, self.layers))

    def chosen(self) -> Architecture:
        most = float(KVCacheBytes(context=CONTEXT)(self.first()))
        problem = Problem(self.space, [self.loss], [KVCacheBytes(context=CONTEXT, at_most=most)], [self.scores])
        (found,) = Knapsack().suggest(problem, [], 1)
        return found

    def all(self) -> Iterator[Architecture]:
        for kept in itertools.combinations(range(self.layers), self.attention):
            yield self.arch(kept)


def kept_by(arch: Architecture) -> list[int]:
    """The layers whose attention sees all of the text."""
    return [
        i for i, layer in enumerate(arch.layers) if layer.mixer.kind == "attention" and not layer.mixer.get("window")
    ]


def rows(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for seed in range(given.seeds):
        teacher = Pretrained(given.teacher.format(seed=seed))
        calibration = CalibrationText(batches=1 if given.quick else 4, sequences=8, sequence=SEQUENCE, seed=seed)
        how = BlockDistillation(tokens=given.learn, seed=seed)
        loss = teacher.loss(
            calibration=calibration,
            sequence=SEQUENCE,
            held_out_tokens=LOOKED_AT,
            device="cpu",
            seed=seed,
            operators=how,
        )
        corpus = loss.corpus()
        model = loss.ordered().model
        long = float(Latency(phase="decode", context=CONTEXT)(whole(teacher.space())))
        head = {"seed": seed, "arm": "teacher", "decode_ms": round(long, 4)}
        yield {**head, "before": round(evaluate(model, corpus, HELD_OUT, SEQUENCE), 4)}
        for operator in given.operators:
            library = loss.library()
            for index in range(len(teacher.spec.layers)):
                clock = time.process_time()
                spec = loss.sub_model(
                    Placements(loss, operator, 1).arch([i for i in range(len(teacher.spec.layers)) if i != index])
                ).spec
                block = library.block(index, spec.layers[index].mixer)
                spent = round(time.process_time() - clock, 1)
                alone = {"layer": index, "kl": round(block.kl, 4), "added": round(block.added, 4), "cpu_s": spent}
                yield {"seed": seed, "arm": "block", "operator": operator, **alone}
            for attention in given.attention:
                yield from placed(given, Placements(loss, operator, attention), seed)


def placed(given: argparse.Namespace, at: Placements, seed: int) -> Iterator[dict[str, Any]]:
    loss, corpus = at.loss, at.loss.corpus()
    head = {"seed": seed, "operator": at.operator, "attention": at.attention}
    if not given.quick:
        looked = [(arch, float(loss(arch)), float(at.scores(arch))) for arch in at.all()]
        best = min(looked, key=lambda one: one[1])[0]
        tau = kendalltau([one[1] for one in looked], [one[2] for one in looked]).statistic
        rank = sorted(one[1] for one in looked)
        chosen = at.chosen()
        place = 1 + rank.index(next(value for arch, value, _ in looked if arch.id == chosen.id))
        before = round(evaluate(loss.sub_model(best), corpus, HELD_OUT, SEQUENCE), 4)
        yield {
            **head, "arm": "best of all", "layers": kept_by(best), "before": before, "placements": len(looked),
            "tau_of_scores": round(float(tau), 3), "rank_of_chosen": place,
        }  # fmt: skip
    known: dict[str, dict[str, Any]] = {}
    for arm in ("chosen", "even", "first", "last"):
        arch: Architecture = getattr(at, arm)()
        if arch.id not in known:
            part = loss.sub_model(arch)
            cache = float(KVCacheBytes(context=CONTEXT)(arch))
            slow = float(Latency(phase="decode", context=CONTEXT)(arch))
            found = {"cache_mb": round(cache / 1e6, 3), "decode_ms": round(slow, 4)}
            found |= {"before": round(evaluate(part, corpus, HELD_OUT, SEQUENCE), 4)}
            if given.recover and at.operator == given.operators[0]:
                clock = time.process_time()
                settings = {"lr": RATE, "warmup": 0.05, "decay": 0.95, "batch_size": 8, "sequence": SEQUENCE}
                made = train(part, corpus, given.recover, seed, teacher=Distillation(loss.ordered().model), **settings)
                found["after"] = round(evaluate(made.model, corpus, HELD_OUT, SEQUENCE), 4)
                found["recovery_cpu_s"] = round(time.process_time() - clock, 1)
            known[arch.id] = found
        yield {**head, "arm": arm, "layers": kept_by(arch), **known[arch.id]}


def summary(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard deviation over seeds of what each arm is above the teacher, and in how many seeds "chosen" is below it."""
    teacher = {row["seed"]: row["before"] for row in found if row["arm"] == "teacher"}
    parts = [row for row in found if "layers" in row]
    said = []
    for key in dict.fromkeys((row["operator"], row["attention"], row["arm"]) for row in parts):
        mine = [row for row in parts if (row["operator"], row["attention"], row["arm"]) == key]
        one: dict[str, Any] = dict(zip(("operator", "attention", "arm"), key, strict=True))
        for when in ("before", "after"):
            above = [row[when] - teacher[row["seed"]] for row in mine if when in row]
            if not above:
                continue
            one[f"{when}_above_teacher"] = round(statistics.fmean(above), 4)
            one[f"{when}_sd"] = round(statistics.stdev(above), 4) if len(above) > 1 else None
            ours = {
                r["seed"]: r[when]
                for r in parts
                if (r["operator"], r["attention"], r["arm"]) == (*key[:2], "chosen") and when in r
            }
            one[f"{when}_chosen_better_in"] = sum(ours.get(row["seed"], 9e9) < row[when] for row in mine)
        said.append(one)
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--teacher", required=True, help="folder of the trained model; {seed} is replaced where there is one for each"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--operators", nargs="+", default=["gated_delta", "linear_attention"], help="of the first also after recovery"
    )
    parser.add_argument("--attention", type=int, nargs="+", default=[4, 2], help="layers that keep theirs")
    parser.add_argument("--learn", type=int, default=32_768, help="tokens for each block")
    parser.add_argument("--recover", type=float, default=51_200)
    parser.add_argument("--quick", action="store_true", help="one seed, one operator, short; writes nothing")
    given = parser.parse_args()
    if given.quick:
        given = argparse.Namespace(
            **{
                **vars(given),
                "seeds": 1,
                "operators": given.operators[:1],
                "learn": 4096,
                "recover": 0,
                "attention": [2],
            }
        )
    found: list[dict[str, Any]] = []
    what = (
        "bits per byte of a trained model in which some layers have another operator than attention; 'kl' and 'added' of one block alone, 'before' and "
        "'after' of placements with equal KV cache"
    )
    first = given.operators[0]
    name = "pretrained_operators.json" if first == "gated_delta" else f"pretrained_operators_{first}.json"
    for row in rows(given):
        print(row, flush=True)
        found.append(row)
        said = {"learn_tokens": given.learn, "recover_tokens": given.recover, "summary": summary(found), "rows": found}
        if not given.quick:
            write(envelope(what, "torch", "scipy", seeds=given.seeds, **said), name)
    print(*summary(found), sep="\n")


if __name__ == "__main__":
    main()
