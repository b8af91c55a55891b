"""Block scores: what it costs to make one block of a trained model smaller, all others left whole; their sum is an estimate of a
whole sub-model (Bercovich et al. 2024, "Puzzle", arXiv 2411.19146, section 4.2, with the loss on a calibration text as score).

An MLP is looked at in a few sizes. Between them the loss is taken to follow the importance that is lost, whose shape is known from
one pass over the text.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from nas_bo.architecture import Architecture, Primitive
from nas_bo.errors import ObjectiveError
from nas_bo.hardware.measuring import machine
from nas_bo.model.spec import check
from nas_bo.objective import Say, Term, Value
from nas_bo.objectives.measuring import silent
from nas_bo.pretrained.loss import SubModelLoss
from nas_bo.pretrained.operators import replacing
from nas_bo.pretrained.slices import sliced
from nas_bo.pretrained.space import Parts, space_around, whole
from nas_bo.space.domain import Choice
from nas_bo.space.space import Space
from nas_bo.trial import Direction
from nas_bo.validated import check_fields, checked, whole_number

if TYPE_CHECKING:
    from torch import Tensor

    from nas_bo.compress.importance import Importance
    from nas_bo.model.spec import DecoderSpec

Assignment: TypeAlias = tuple[tuple[str, Primitive], ...]
"""Decisions of one block: flat names and values."""


@dataclass(frozen=True)
class BlockScores:
    """The loss of the trained model, plus what each smaller block adds by itself. An estimate for `proxies=`, and what
    `nas_bo.strategies.Knapsack` solves exactly; measured once (kept in the user's cache folder).

    Args:
        loss: of which it is an estimate; its teacher, text and calibration are taken.
        parts: what of the trained model may be smaller: those of the space.
        sizes: of each MLP that are evaluated, the whole and the absent one aside; the others are read from importance.
        groups: the same of each attention.
        batches: of the calibration text on which the loss is taken.
    """

    loss: SubModelLoss
    parts: Parts = field(default_factory=Parts)
    sizes: int = checked(2, whole_number(0))
    groups: int = checked(1, whole_number(0))
    batches: int = checked(2, whole_number(1))
    name: str = "block_scores"
    unit: str = "bits/byte"
    direction: Direction = "minimize"
    cost: Literal["measured"] = field(default="measured")

    def __post_init__(self) -> None:
        check_fields(self, ObjectiveError)

    def conditions(self) -> dict[str, object]:
        return {"sizes": self.sizes, "groups": self.groups, "batches": self.batches}

    def ready(self, space: type[Space], profile: object, say: Say = silent, /) -> None:
        """Measure them before the first trial."""
        self.terms(space, say)

    def check_space(self, space: type[Space], /) -> None:
        """Raise ObjectiveError for another space than that of `parts`."""
        if space.fingerprint() != self.space().fingerprint():
            raise ObjectiveError(
                f"block_scores are of the parts {self.parts} of {self.loss.teacher.name}, and {space.title} is another space; give "
                "block_scores(parts=...) those that the space was made with"
            )

    def space(self) -> type[Space]:
        """The space that they are of."""
        return space_around(self.loss.teacher.name, self.loss.teacher.arch, self.parts)

    def __call__(self, arch: Architecture, /) -> Value:
        table, base = _lookup(self, self.space())
        added = 0.0
        for group, decisions in _grouped(arch.flat):
            key = tuple(sorted(decisions.items()))
            if group and key not in table:
                raise ObjectiveError(f"block_scores: {group} is {decisions}, of which nothing was measured")
            added += table.get(key, 0.0)
        return Value(base + added, how="block scores")

    def terms(self, space: type[Space], say: Say = silent) -> Mapping[str, Sequence[Term]]:
        """Block ("layers.3.mlp") -> its terms, the whole block first; under "" the loss of the whole model."""
        found, base = _terms(self, space, say)
        return {"": [Term((), base)], **found}

    def base(self, space: type[Space]) -> float:
        """The loss of the whole model on the calibration text, in bits per byte."""
        return _terms(self, space, silent)[1]


@lru_cache(maxsize=4)
def _lookup(scores: BlockScores, space: type[Space]) -> tuple[Mapping[tuple[tuple[str, Primitive], ...], float], float]:
    found, base = _terms(scores, space, silent)
    return {tuple(sorted(term.choice)): term.added for terms in found.values() for term in terms}, base


def _grouped(flat: Mapping[str, Primitive]) -> Iterator[tuple[str, dict[str, Primitive]]]:
    """("layers.3.mlp", its decisions), for every block; decisions of no block under ""."""
    groups: dict[str, dict[str, Primitive]] = {}
    for path, value in flat.items():
        parts = path.split(".")
        group = ".".join(parts[:3]) if len(parts) > 2 and parts[0] == "layers" else ""
        groups.setdefault(group, {})[path] = value
    yield from groups.items()


_known: dict[tuple[BlockScores, str], tuple[Mapping[str, Sequence[Term]], float]] = {}


def _terms(scores: BlockScores, space: type[Space], say: Say) -> tuple[Mapping[str, Sequence[Term]], float]:
    key = (scores, space.fingerprint())
    if key not in _known:
        facts = {
            "space": space.fingerprint(),
            "settled": repr(sorted(space._settled.items())),
            **scores.conditions(),
            **{k: v for k, v in scores.loss.conditions().items() if k in ("teacher", "sha256", "calibration")},
            **({"operators": scores.loss.operators.conditions()} if scores.parts.other_blocks else {}),
        }
        path = machine.path_of("blocks", facts)
        kept = machine.read(path)
        if kept.get("facts") == facts:
            rows = {
                g: [Term(tuple((p, v) for p, v in c), a, m) for c, a, m in terms] for g, terms in kept["terms"].items()
            }
            _known[key] = rows, float(kept["base"])
        else:
            found, base = _measured(scores, space, say)
            rows = {group: [*terms] for group, terms in found.items()}
            plain = {
                group: [[[*map(list, t.choice)], t.added, t.measured] for t in terms] for group, terms in rows.items()
            }
            machine.write(path, {"facts": json.loads(json.dumps(facts)), "base": base, "terms": plain})
            _known[key] = rows, base
    return _known[key]


# ---- measuring --------------------------------------------------------------------------------------------------------


def options_of(space: type[Space]) -> Mapping[str, list[Assignment]]:
    """Block -> all that it can be, the whole one first."""
    most = whole(space)
    domains = space.domains()
    blocks: dict[str, list[str]] = {}
    for path in domains:
        parts = path.split(".")
        if len(parts) > 2 and parts[0] == "layers":
            blocks.setdefault(".".join(parts[:3]), []).append(path)
    found: dict[str, list[Assignment]] = {}
    for group, paths in blocks.items():
        values = [space._settled.get(path, _values(domains[path])) for path in paths]
        every: dict[Assignment, None] = {_assignment(most, group): None}
        for chosen in itertools.product(*values):
            every.setdefault(_assignment(changed(space, most, dict(zip(paths, chosen, strict=True))), group))
        found[group] = list(every)
    return found


def _values(domain: Any) -> tuple[Primitive, ...]:
    if isinstance(domain, Choice) or domain.size < 1000:
        return tuple(domain.values)
    raise ObjectiveError(
        f"block_scores: a block has a choice with {domain.size:,} values, which cannot be looked at one by one"
    )


def changed(space: type[Space], arch: Architecture, decisions: Mapping[str, Primitive]) -> Architecture:
    """`arch` with other decisions; those that appear by that are as in the whole model."""
    most = whole(space).flat
    flat = {**most, **arch.flat, **decisions}
    return space.decide(lambda path, domain: flat.get(path, domain.values[-1]))


def _assignment(arch: Architecture, group: str) -> Assignment:
    return tuple((path, value) for path, value in arch.flat.items() if path == group or path.startswith(f"{group}."))


def _measured(scores: BlockScores, space: type[Space], say: Say) -> tuple[dict[str, list[Term]], float]:
    import torch

    from nas_bo.model.inference import torch_threads

    loss = scores.loss
    corpus, held = loss.corpus(), loss.ordered()
    calibration = replace(loss.calibration, batches=scores.batches, seed=loss.calibration.seed + 1)
    windows = calibration.windows(corpus)
    device = held.model.embedding.weight.device
    batches = [torch.from_numpy(batch.astype("int64")).to(device) for batch in windows]
    most = whole(space)

    @torch.no_grad()
    def bits(spec: DecoderSpec) -> float:
        model = sliced(held.model, spec, library=loss.library() if scores.parts.other_blocks else None)
        total = sum(float(model.loss(batch[:, :-1], batch[:, 1:])[1]) for batch in batches)
        return total / len(batches) / math.log(2) / corpus.bytes_per_token

    options = options_of(space)
    judged = {group: _scores_of(group, held.importance) for group in options}
    plans = {
        group: _plan(choices, scores.groups if group.endswith(".mixer") else scores.sizes, judged[group])
        for group, choices in options.items()
    }
    number = 1 + sum(len(plan) for plan in plans.values())
    done = 1
    found: dict[str, list[Term]] = {}
    with torch_threads(1):
        base = bits(check(most, loss.ignore))
        for group, choices in options.items():
            say("block scores", done, number)
            known = {choices[0]: 0.0}
            for one in plans[group]:
                spec = check(changed(space, most, dict(one)), loss.ignore)
                kl = _of_another_operator(loss, held.model.spec, spec, group)
                known[one] = bits(spec) - base if kl is None else kl
                done += 1
            found[group] = _between(choices, known, judged[group])
        say("block scores", number, number)
    return found, base


def _of_another_operator(loss: SubModelLoss, whole: DecoderSpec, spec: DecoderSpec, group: str) -> float | None:
    """The score of a block in place of the whole trained attention: the divergence of the predictions, in bits per byte, after it learned
    (KL-guided layer selection, arXiv 2512.20569). None for all else."""
    _, index, part = group.split(".")
    small, trained = spec.layers[int(index)].slot(part), whole.layers[int(index)].slot(part)
    other = replacing(small, trained) if part == "mixer" else None
    return loss.library().block(int(index), other).kl if other is not None and other == small else None


def _scores_of(group: str, found: Mapping[tuple[str, str], Importance]) -> Tensor | None:
    """The importance of the units of a block."""
    one = next((found[group, unit] for unit in ("channels", "heads") if (group, unit) in found), None)
    return None if one is None else one.scores


def _size_of(one: Assignment) -> float | None:
    """What says how large a block is: the ratio of an MLP, the heads of attention; 0 for an absent one."""
    sizes = [value for path, value in one if path.endswith((".ratio", ".heads"))]
    if len(one) == 1 and one[0][1] == "skip":
        return 0.0
    return float(str(sizes[0])) if len(sizes) == 1 else None


def _plan(choices: Sequence[Assignment], sizes: int, scores: Tensor | None) -> list[Assignment]:
    """What is evaluated: the absent block, and so many of the smaller ones, evenly spread; all where sizes alone do not say what they are."""
    others = list(choices[1:])
    by_size = {_size_of(one): one for one in others}
    if scores is None or None in by_size or len(by_size) < len(others):
        return others
    absent = [by_size.pop(0.0)] if 0.0 in by_size else []
    left = [by_size[size] for size in sorted(by_size, key=lambda size: size or 0.0)]
    if sizes >= len(left):
        return [*absent, *left]
    at = sorted({int((k + 0.5) * len(left) / sizes) for k in range(sizes)})
    return [*absent, *(left[k] for k in at)]


def _between(choices: Sequence[Assignment], known: Mapping[Assignment, float], scores: Tensor | None) -> list[Term]:
    """All choices of a block. A size that was not evaluated is read on a line between its neighbours, of the logarithms of what is
    added and of the importance that is lost."""
    if len(known) == len(choices) or scores is None:
        return [Term(one, known[one]) for one in choices]
    most = _size_of(choices[0]) or 1.0
    each = np.sort(scores.double().flatten().cpu().numpy())[::-1] ** 2
    kept = np.concatenate([[0.0], np.cumsum(each)]) / max(float(each.sum()), 1e-300)

    def lost(one: Assignment) -> float:
        return max(1e-6, float(1 - kept[min(len(each), round(len(each) * (_size_of(one) or 0.0) / most))]))

    places = sorted((lost(one), max(added, 1e-6)) for one, added in known.items() if one != choices[0])
    x, y = np.log([a for a, _ in places]), np.log(np.maximum.accumulate([b for _, b in places]))

    def read(one: Assignment) -> float:
        at = math.log(lost(one))
        if at <= x[0]:  # below all that was evaluated: in proportion
            return float(np.exp(y[0] + at - x[0]))
        return float(np.exp(np.interp(at, x, y)))

    return [Term(one, known[one]) if one in known else Term(one, read(one), False) for one in choices]
