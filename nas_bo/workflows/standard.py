"""The standard design of a space: the plain decoder, all layers alike, as somebody would take it without a search.

Every layer has attention and a dense MLP; what is a matter of taste is as most published decoders have it (Llama: Touvron et al. 2023,
arXiv 2302.13971): heads of about 64 values, hidden units of 4 widths, 8/3 where they are gated, every head with keys and values of its own.
Depth and width grow together. Hyperparameters that are searched, and fields that no decoder knows, are those of the knee, so that both train
by one recipe.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from nas_bo.architecture import Architecture, Node, Primitive
from nas_bo.errors import NasBoError, SpaceError
from nas_bo.objective import ChecksArchitecture
from nas_bo.problem import Problem
from nas_bo.space import Space
from nas_bo.space.domain import Choice, Domain
from nas_bo.space.neighbours import counted_lists, middle
from nas_bo.trial import ObjectiveSpec, Trial
from nas_bo.workflows.retraining_check import counted

SIZES = 3
"""Plain decoders that a search trains; in one of fewer than `SHORT` trials two."""
SHORT = 20
MIXERS = ("attention", "latent_attention")  # what counts as plain, the plainest first
MLPS = ("dense", "moe")
HEAD = 64  # values of a head
RATIO, GATED_RATIO = 4.0, 8 / 3  # hidden units of a plain and of a gated MLP, in widths
MOST_VALUES = 8  # of a free size that are tried, evenly spaced
BALANCE = 0.5  # how far from the wanted cost, as a share of the front's range, a decoder that is all depth or all width counts
TASTE: Mapping[str, tuple[object, ...]] = {
    "kv_group": (1,), "window": (None,), "norm": ("rms",), "position": ("rotary",), "parallel": (False,), "bias": (False,),
    "tied": (True,), "gated": (True,), "activation": ("silu", "gelu"), "tie_layers": (1,), "long_skips": (False,),
    "share_kv": (False,), "sparsity": (0, 0.0), "prune": (0, 0.0), "head_dim": (HEAD,), "bits": (16, 8), "kv_bits": (16, 8),
}  # fmt: skip
"""Field -> what a plain decoder has, where the space has it."""


@dataclass(frozen=True)
class Standard:
    """The plain decoders of a space.

    Attributes:
        architectures: the cheapest first; empty where the space has none.
        why: why there is none; "" where there is.
    """

    architectures: Sequence[Architecture] = ()
    why: str = ""


def standard(
    problem: Problem, members: Sequence[Trial], knee: Trial | None, column: ObjectiveSpec | None, n: int = SIZES
) -> Standard:
    """At most `n` plain decoders within the limits that are known beforehand, whose costs span those of the front.

    Args:
        members: the front.
        knee: whose hyperparameters they have; None takes the middle of each.
        column: the cost that they are to span; None takes parameters.
    """
    space = problem.space
    fixed = {} if knee is None else {path: value for path, value in knee.architecture.flat.items() if "." not in path}
    found: list[tuple[Architecture, float]] = []
    why = f"the space {space.title} has no attention"
    try:
        for arch, uneven in _plain(space, fixed):
            if why := _unfit(problem, arch):
                continue
            found.append((arch, uneven))
    except _NothingPlain as stop:
        why = str(stop)
    if not found:
        return Standard((), why)
    return Standard(_spread(found, [t.architecture for t in members], _estimate(problem, column), n))


class _NothingPlain(Exception):
    pass


def _unfit(problem: Problem, arch: Architecture) -> str:
    """Why a plain decoder is not compared with; "" where it can be."""
    broken = problem.space.violations(arch)
    if broken:
        return f"no plain decoder of {problem.space.title} keeps the rule {broken[0]}"
    if not problem.admissible(arch):
        return f"no plain decoder of {problem.space.title} is within the limits"
    for objective in problem.evaluated():
        if isinstance(objective, ChecksArchitecture):
            try:
                objective.check_architecture(arch)
            except NasBoError as error:
                return f"no plain decoder of {problem.space.title} can be built ({error})"
    return ""


# ---- plain decoders ----------------------------------------------------------------------------------------------


def _plain(space: type[Space], fixed: Mapping[str, Primitive]) -> Iterator[tuple[Architecture, float]]:
    """Plain decoders of every depth and width, and how unevenly each has grown: 0 where depth and width are at the same place of
    their ranges, at most 1."""
    domains = space.domains()
    free = [path for path in (*counted_lists(space), "depth", "width") if path in domains]
    free = list(dict.fromkeys(path for path in free if path in domains and domains[path].size != 1))
    values = {path: _some(domains[path]) for path in free}
    for combination in product(*values.values()):
        sizes = dict(zip(free, combination, strict=True))
        arch = _built(space, sizes, fixed)
        places = [values[path].index(value) / max(1, len(values[path]) - 1) for path, value in sizes.items()]
        yield arch, (max(places) - min(places)) if places else 0.0


def _some(domain: Domain) -> list[Primitive]:
    """At most `MOST_VALUES` values of a domain, in their order, evenly spaced."""
    if domain.size is None:
        return [domain.at(0.5)]
    most = min(MOST_VALUES, domain.size)
    places = sorted({round(i * (domain.size - 1) / max(1, most - 1)) for i in range(most)})
    return [domain.values[i] for i in places]


def _built(space: type[Space], sizes: Mapping[str, Primitive], fixed: Mapping[str, Primitive]) -> Architecture:
    """The plain decoder of these sizes: taste first, then what depends on it."""
    first = space.decide(_picker(sizes, fixed, HEAD, RATIO))
    mixers, mlps = _blocks(first.tree, "mixer"), _blocks(first.tree, "mlp")
    if not mixers or not {_kind(one) for one in mixers} <= set(MIXERS):
        odd = sorted({_kind(one) for one in mixers} - set(MIXERS))
        told = f": its mixers are {', '.join(odd)}" if odd else ""
        raise _NothingPlain(f"the space {space.title} has no plain decoder, with attention in every layer{told}")
    head = next((one.get("head_dim") for one in mixers if isinstance(one, Node)), None)
    gated = any(one.get("gated") is True for one in mlps if isinstance(one, Node))
    head = head if isinstance(head, int) and head > 0 else HEAD
    made = [
        space.decide(_picker(sizes, fixed, head, GATED_RATIO if gated else RATIO, place)) for place in range(3)
    ]  # heads that fit the width best come first; where those are against a rule, others
    return next((arch for arch in made if not space.violations(arch)), made[0])


def _picker(
    sizes: Mapping[str, Primitive], fixed: Mapping[str, Primitive], head: int, ratio: float, place: int = 0
) -> Callable[[str, Domain], object]:
    width = sizes.get("width", fixed.get("width"))

    def pick(path: str, domain: Domain) -> object:
        name = path.rpartition(".")[2]
        if path in sizes:
            return sizes[path]
        if domain.size is None:
            return _of(domain, fixed.get(path))
        if isinstance(domain, Choice) and domain.options:
            plain = [kind for kind in (*MIXERS, *MLPS) if kind in domain.values]
            return plain[0] if plain else domain.values[0]
        if name == "heads" and isinstance(width, (int, float)):
            return _nearest(domain, float(width) / head, place)
        if name == "ratio":
            return _nearest(domain, ratio)
        for wanted in TASTE.get(name, ()):
            if any(value == wanted and type(value) is type(wanted) for value in domain.values):
                return wanted
        return _of(domain, fixed.get(path))

    return pick


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _nearest(domain: Domain, wanted: float, place: int = 0) -> Primitive:
    """The value that is nearest by its ratio; with `place` the next ones."""
    values = [v for v in (domain.values if domain.size is not None else ()) if _is_number(v) and float(v) > 0]  # type: ignore[arg-type]
    if not values:
        return middle(domain)
    order = sorted(values, key=lambda v: (round(abs(math.log(float(v) / wanted)), 9), -float(v)))  # type: ignore[arg-type]
    return order[min(place, len(order) - 1)]


def _of(domain: Domain, value: Primitive) -> Primitive:
    if value is not None:
        try:
            return domain.canonical(value)
        except SpaceError:
            pass
    return middle(domain)


def _blocks(tree: object, slot: str) -> list[object]:
    """What is in the slots of that name, wherever they are."""
    found: list[object] = []
    if isinstance(tree, Node):
        for name, value in tree._fields.items():
            found += [value] if name == slot else _blocks(value, slot)
    elif isinstance(tree, (list, tuple)):
        for one in tree:
            found += _blocks(one, slot)
    return found


def _kind(block: object) -> str:
    return str(block.get("kind")) if isinstance(block, Node) else str(block)


# ---- which of them -----------------------------------------------------------------------------------------------


def _estimate(problem: Problem, column: ObjectiveSpec | None) -> Callable[[Architecture], float]:
    """The logarithm of what an architecture costs, without measuring."""

    def cost(arch: Architecture) -> float:
        known = problem.known(arch)
        value = known.get(column.name) if column is not None else None
        if value is None or not math.isfinite(value) or value <= 0:
            value = counted(arch) or float(len(arch.flat))
            return math.log(value)
        return math.log(value) * (1.0 if column is None else column.sign)

    return cost


def _spread(
    found: Sequence[tuple[Architecture, float]],
    members: Sequence[Architecture],
    cost: Callable[[Architecture], float],
    n: int,
) -> list[Architecture]:
    """At most `n` of `found` across the range of the front, those preferred in which depth and width have grown together."""
    at = np.array([cost(arch) for arch, _ in found])
    uneven = np.array([one for _, one in found])
    front = [cost(arch) for arch in members] or at.tolist()
    wide = max(max(front) - min(front), 1e-9)
    low, high = max(min(front), float(at.min())), min(max(front), float(at.max()))
    if low >= high:  # all of them are cheaper, or more expensive, than the front
        low, high = (float(at.min()), min(float(at.max()), float(at.min()) + wide)) if low > max(front) else (
            max(float(at.min()), float(at.max()) - wide), float(at.max())
        )  # fmt: skip
    chosen: list[int] = []
    for goal in np.linspace(low, high, n) if n > 1 else [0.5 * (low + high)]:
        far = np.abs(at - goal) / wide + BALANCE * uneven
        far[chosen] = np.inf
        best = int(np.argmin(far))
        if np.isfinite(far[best]):
            chosen.append(best)
    return [found[i][0] for i in sorted(chosen, key=lambda i: at[i])]
