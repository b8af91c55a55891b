"""Block scores: what it costs to make one block of a trained model smaller, all others left whole; their sum is an estimate of a
whole sub-model (Bercovich et al. 2024, "Puzzle", arXiv 2411.19146, section 4.2, with the loss on a calibration text as score).

Only some of them are evaluated. The others are read from how far each smaller block moves the stream in directions that matter to the
loss: the mean of (g . d)^2 over tokens, g being the gradient of the loss there and d what the block gives less than the whole one, which is
twice the second-order term of the loss with the empirical Fisher information as Hessian (Molchanov et al. 2019, arXiv 1906.10771, eq. 8;
Singh and Alistarh 2020, arXiv 2004.14340). One pass forward and back gives it for every block and every size.
"""

from __future__ import annotations

import copy
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
from nas_bo.model.blocks.skip import SKIP
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
    from torch import nn

    from nas_bo.pretrained.ordered import OrderedModel
    from nas_bo.pretrained.replaced import Replaced

Assignment: TypeAlias = tuple[tuple[str, Primitive], ...]
"""Decisions of one block: flat names and values."""
GRADIENT = 3  # evaluations that the pass forward and back costs
LEAST = 1e-7  # bits per byte that anything adds, where logarithms are taken


@dataclass(frozen=True)
class BlockScores:
    """The loss of the trained model, plus what each smaller block adds by itself. An estimate for `proxies=`, and what
    `nas_bo.strategies.Knapsack` solves exactly; measured once (kept in the user's cache folder).

    Args:
        loss: of which it is an estimate; its teacher, text and calibration are taken.
        parts: what of the trained model may be smaller: those of the space.
        sizes: of each MLP that are evaluated, the whole and the absent one aside; the others are read from the gradient.
        groups: the same of each attention.
        batches: of the calibration text on which the loss is taken.
        evaluations: of the whole model, at most; the pass for the gradient counts as three. Where they do not suffice, layers in between are
            read from their neighbours.
    """

    loss: SubModelLoss
    parts: Parts = field(default_factory=Parts)
    sizes: int = checked(2, whole_number(0))
    groups: int = checked(1, whole_number(0))
    batches: int = checked(2, whole_number(1))
    evaluations: int = checked(20, whole_number(GRADIENT))
    name: str = "block_scores"
    unit: str = "bits/byte"
    direction: Direction = "minimize"
    cost: Literal["measured"] = field(default="measured")

    def __post_init__(self) -> None:
        check_fields(self, ObjectiveError)

    def conditions(self) -> dict[str, object]:
        return {"sizes": self.sizes, "groups": self.groups, "batches": self.batches, "evaluations": self.evaluations}

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
        for group, decisions in _grouped(arch.flat, 2 if self.parts.bits else 3):
            key = tuple(sorted(decisions.items()))
            if group and key not in table:
                raise ObjectiveError(f"block_scores: {group} is {decisions}, of which nothing was measured")
            added += table.get(key, 0.0)
        return Value(base + added, how="block scores")

    def terms(self, space: type[Space], say: Say = silent) -> Mapping[str, Sequence[Term]]:
        """Block ("layers.3.mlp"; where layers have bits the layer, "layers.3") -> its terms, the whole block first; under "" the loss of the
        whole model."""
        found, base = _terms(self, space, say)
        return {"": [Term((), base)], **found}

    def looks(self, space: type[Space]) -> int:
        """Evaluations of a model that they cost, the pass for the gradient counted as three."""
        return GRADIENT + sum(term.measured for terms in _terms(self, space, silent)[0].values() for term in terms[1:])

    def base(self, space: type[Space]) -> float:
        """The loss of the whole model on the calibration text, in bits per byte."""
        return _terms(self, space, silent)[1]


@lru_cache(maxsize=4)
def _lookup(scores: BlockScores, space: type[Space]) -> tuple[Mapping[tuple[tuple[str, Primitive], ...], float], float]:
    found, base = _terms(scores, space, silent)
    return {tuple(sorted(term.choice)): term.added for terms in found.values() for term in terms}, base


def _grouped(flat: Mapping[str, Primitive], names: int) -> Iterator[tuple[str, dict[str, Primitive]]]:
    """("layers.3.mlp", its decisions), for every block of so many names; decisions of no block under ""."""
    groups: dict[str, dict[str, Primitive]] = {}
    for path, value in flat.items():
        parts = path.split(".")
        group = ".".join(parts[:names]) if len(parts) > 2 and parts[0] == "layers" else ""
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
            **{
                k: v for k, v in scores.loss.conditions().items() if k in ("teacher", "sha256", "calibration", "repair")
            },
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
        if len(parts) > 2 and parts[0] == "layers" and parts[2] in ("mixer", "mlp"):
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
    from nas_bo.pretrained.replaced import Replaced

    loss = scores.loss
    corpus, held = loss.corpus(), loss.ordered()
    calibration = replace(loss.calibration, batches=scores.batches, seed=loss.calibration.seed + 1)
    windows = torch.from_numpy(calibration.windows(corpus)).flatten(0, 1).to(held.model.embedding.weight.device)
    unit = math.log(2) * corpus.bytes_per_token
    most, options = whole(space), options_of(space)
    wanted = {group: scores.groups if group.endswith(".mixer") else scores.sizes for group in options}
    free = _of_other_operators(scores, space, options)
    plan = _plan(
        {group: [one for one in choices if (group, one) not in free] for group, choices in options.items()},
        wanted,
        scores.evaluations - GRADIENT,
    )
    moved: dict[str, dict[Assignment, float]] = {}
    known: dict[str, dict[Assignment, float]] = {}
    with torch_threads(1):
        replaced = Replaced(held.model, windows)
        for done, (group, choices) in enumerate(options.items()):
            say("block scores", done, len(options))
            moved[group], known[group] = {}, {}
            index, part = int(group.split(".")[1]), group.split(".")[2]
            for one in choices[1:]:
                block = _block(held, scores, changed(space, most, dict(one)), index, part)
                moved[group][one] = replaced.moved(index, part, block) / unit
                if (group, one) in free:
                    known[group][one] = free[group, one]
                elif (group, one) in plan:
                    known[group][one] = (replaced.evaluated(index, part, block) - replaced.loss) / unit
        say("block scores", len(options), len(options))
        rounded = _rounded(replaced, held, sorted(set(scores.parts.bits)), unit)
    added = _completed(moved, known)
    terms = {
        group: [Term(one, added[group].get(one, 0.0), one == choices[0] or one in known[group]) for one in choices]
        for group, choices in options.items()
    }
    return _with_bits(terms, rounded, space) if scores.parts.bits else terms, replaced.loss / unit


def _rounded(replaced: Replaced, held: OrderedModel, bits: Sequence[int], unit: float) -> dict[tuple[str, int], float]:
    """(block, bits) -> what the whole block adds with its weights in so many bits: the second-order term, as of smaller blocks."""
    if not bits:
        return {}
    from nas_bo.pretrained.repair import PARTS, layer_of

    found = {}
    names = {id(weight): name for name, weight in held.model.named_parameters()}
    for index in range(len(held.model.layers)):
        for part in PARTS:
            block = layer_of(held.model, index).slot(part)[1]
            if block is None:
                continue
            for width in bits:
                small = copy.deepcopy(block)
                for own, there in zip(small.parameters(), block.parameters(), strict=True):
                    if own.dim() > 1:
                        own.data = held.levels.weight(names[id(there)], width)
                found[f"layers.{index}.{part}", width] = replaced.moved(index, part, small) / unit
    return found


def _with_bits(
    terms: Mapping[str, Sequence[Term]], rounded: Mapping[tuple[str, int], float], space: type[Space]
) -> dict[str, list[Term]]:
    """One block for each layer, since what bits save is a share of what is left of it: its mixer, its MLP and its bits."""
    found: dict[str, list[Term]] = {}
    layers = dict.fromkeys(group.rpartition(".")[0] for group in terms)
    for layer in layers:
        each = [terms.get(f"{layer}.{part}", [Term((), 0.0, True)]) for part in ("mixer", "mlp")]
        path = f"{layer}.bits"
        domain = space.domains().get(path)
        widths = [None] if domain is None else sorted(space._settled.get(path, _values(domain)), reverse=True)
        ways: list[Term] = []
        for ends in itertools.product(*each):
            for number, width in enumerate(widths):
                added = sum(end.added for end in ends)
                for part, end in zip(("mixer", "mlp"), ends, strict=True):
                    if width is not None and not _is_absent(end.choice):
                        added += rounded.get((f"{layer}.{part}", width), 0.0)
                chosen = ends[0].choice + ends[1].choice + (() if width is None else ((path, width),))
                alone = sum(end is not ways_of[0] for end, ways_of in zip(ends, each, strict=True)) < 2
                ways.append(Term(chosen, added, alone and not number and all(end.measured for end in ends)))
        found[layer] = ways
    return found


def _of_other_operators(
    scores: BlockScores, space: type[Space], options: Mapping[str, Sequence[Assignment]]
) -> dict[tuple[str, Assignment], float]:
    """The scores of blocks in place of a whole trained attention: the divergence of the predictions, in bits per byte, after they learned
    (KL-guided layer selection, arXiv 2512.20569)."""
    found: dict[tuple[str, Assignment], float] = {}
    loss, trained = scores.loss, scores.loss.teacher.spec
    for group, choices in options.items() if scores.parts.other_blocks else ():
        _, index, part = group.split(".")
        for one in choices[1:] if part == "mixer" else ():
            small = check(changed(space, whole(space), dict(one)), loss.ignore).layers[int(index)].mixer
            other = replacing(small, trained.layers[int(index)].mixer)
            if other is not None and other == small:
                found[group, one] = loss.library().block(int(index), other).kl
    return found


def _block(held: OrderedModel, scores: BlockScores, arch: Architecture, index: int, part: str) -> nn.Module | None:
    """The block of a part of the trained model, fitted where parts are repaired; None where it was left out."""
    from nas_bo.pretrained.repair import layer_of

    loss = scores.loss
    spec = check(arch, loss.ignore)
    made = sliced(held.model, spec, library=loss.library() if scores.parts.other_blocks else None)
    block = layer_of(made, index).slot(part)[1]
    if block is not None and loss.repair:
        held.repair.alone(block, getattr(spec.layers[index], part), index, part)
    return block


def _is_absent(one: Assignment) -> bool:
    return len(one) == 1 and one[0][1] == SKIP.kind


def _plan(
    options: Mapping[str, Sequence[Assignment]], wanted: Mapping[str, int], most: int
) -> set[tuple[str, Assignment]]:
    """What is evaluated, at most so many: absent blocks first, then so many of the others of each block, evenly spread; of what is one too
    many every so many a layer, of mixers and MLPs alike."""
    rounds: list[list[tuple[str, Assignment]]] = [[]]
    for group, choices in options.items():
        rounds[0] += [(group, one) for one in choices[1:] if _is_absent(one)]
        others = [one for one in choices[1:] if not _is_absent(one)]
        count = min(wanted[group], len(others))
        for number in range(count):
            while len(rounds) < number + 2:
                rounds.append([])
            rounds[number + 1].append((group, others[int((number + 0.5) * len(others) / count)]))
    found: set[tuple[str, Assignment]] = set()
    for each_round in rounds:
        room = most - len(found)
        if len(each_round) <= room:
            found |= set(each_round)
            continue
        for part in ("mixer", "mlp"):
            mine = [one for one in each_round if one[0].endswith(f".{part}")]
            found |= set(_spread(mine, room * len(mine) // len(each_round)))
        break
    return found


def _spread(each: Sequence[tuple[str, Assignment]], count: int) -> list[tuple[str, Assignment]]:
    """So many of them, the first and the last among them."""
    return [each[round(k * (len(each) - 1) / max(1, count - 1))] for k in range(count)]


def _completed(
    moved: Mapping[str, Mapping[Assignment, float]], known: Mapping[str, Mapping[Assignment, float]]
) -> dict[str, dict[Assignment, float]]:
    """Block -> way -> what it adds. One that was not evaluated adds its second-order term, times what evaluated ones of the neighbouring layers
    were times theirs, and never more than the absent block."""
    ratios: dict[tuple[str, bool], list[tuple[int, float]]] = {}
    for group, found in known.items():
        for one, added in found.items():
            ratio = max(added, LEAST) / max(moved[group][one], LEAST)
            ratios.setdefault((group.split(".")[2], _is_absent(one)), []).append(
                (int(group.split(".")[1]), math.log(ratio))
            )
    made: dict[str, dict[Assignment, float]] = {}
    for group, ways in moved.items():
        index, part = int(group.split(".")[1]), group.split(".")[2]
        own = sorted(
            (max(moved[group][one], LEAST), max(added, LEAST))
            for one, added in known[group].items()
            if not _is_absent(one)
        )
        row = {
            one: known[group].get(one, _factor(ratios, part, _is_absent(one), index, own, x) * max(x, LEAST))
            for one, x in ways.items()
        }
        ceiling = max((added for one, added in row.items() if _is_absent(one)), default=math.inf)
        made[group] = {
            one: added if one in known[group] else min(added, max(ceiling, LEAST)) for one, added in row.items()
        }
    return made


def _factor(
    ratios: Mapping[tuple[str, bool], Sequence[tuple[int, float]]],
    part: str,
    absent: bool,
    index: int,
    own: Sequence[tuple[float, float]],
    x: float,
) -> float:
    """What the second-order term `x` is to be multiplied by: as of evaluated sizes of this block, or else of the layers around it."""
    if own and not absent:
        sizes, factors = zip(*[(math.log(at), math.log(added / at)) for at, added in own], strict=True)
        return float(math.exp(np.interp(math.log(max(x, LEAST)), sizes, factors)))
    near = ratios.get((part, absent), ())
    if not near:
        return 1.0
    at, values = zip(*_mean_by_layer(near), strict=True)
    return float(math.exp(np.interp(index, at, values)))


def _mean_by_layer(near: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    layers = sorted({index for index, _ in near})
    return [(layer, float(np.mean([value for index, value in near if index == layer]))) for layer in layers]
