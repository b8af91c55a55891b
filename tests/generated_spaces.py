"""Hypothesis strategies that write random search spaces of the whole language, and architectures of them.

    @given(spaces(), seeds)
    def test_something(space, seed):
        arch = space.sample(seed)

Spaces stay small (at most `MAX_SLOTS` decisions that can ever be active), but use every word and every odd corner:
constants, single-valued and mixed-type choices, options beside plain values, stepped and log integers, log and
single-valued reals, repeats that are constant, named, shared, in place, stepped, empty, nested in each other and in
options. `spaces(rules=True)` adds linear rules and rules that are functions; those spaces are never empty.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from nas_bo.architecture import Architecture
from nas_bo.space import Space, choice, integer, option, real, repeat, require
from nas_bo.space.domain import Choice, Integer, Real
from nas_bo.space.tree import Decision

MAX_SLOTS = 60
NAMES = ("width", "depth", "heads", "mixer", "mlp", "kernel", "norm_eps", "E", "lambda", "stages", "blocks", "größe")
OPTION_NAMES = ("attention", "conv", "moe", "skip", "conv 3x3", "a=b/c", "None", "7x")
WORDS = ("relu", "gelu", "gelu.new", "True", "None", "1", "", "é", "a,b")

seeds = st.integers(0, 2**32 - 1)
constants = st.one_of(st.none(), st.booleans(), st.integers(-3, 300), st.floats(-1, 1), st.sampled_from(WORDS))


def _choice_of(values: st.SearchStrategy[Any], most: int = 5) -> st.SearchStrategy[Choice]:
    several = st.lists(values, min_size=1, max_size=most, unique=True)
    return st.builds(lambda v, ordered: choice(*v, ordered=ordered), several, st.sampled_from((None, True, False)))


plain_choices = st.one_of(
    _choice_of(st.integers(-4, 1024)),
    _choice_of(st.sampled_from((1, 2, 4, 8, 16, 64, 128, 256))),
    _choice_of(st.floats(-2, 2).map(lambda x: round(x, 3))),
    _choice_of(st.one_of(st.integers(0, 9), st.floats(0, 1).map(lambda x: round(x, 2)))),
    _choice_of(st.sampled_from(WORDS)),
    _choice_of(st.booleans(), most=2),
    _choice_of(st.one_of(st.none(), st.booleans(), st.integers(0, 9), st.sampled_from(WORDS))),
)


@st.composite
def integers(draw: st.DrawFn) -> Integer:
    if draw(st.booleans()):
        low = draw(st.integers(1, 64))
        return integer(low, draw(st.integers(low, 4096)), log=True)
    low = draw(st.integers(-20, 200))
    return integer(low, low + draw(st.integers(0, 60)), step=draw(st.sampled_from((1, 1, 2, 3, 8))))


@st.composite
def reals(draw: st.DrawFn) -> Real:
    if draw(st.booleans()):
        low = draw(st.floats(1e-4, 10))
        return real(low, low * draw(st.sampled_from((1, 1.5, 10, 1000))), log=True)
    low = draw(st.floats(-100, 100))
    return real(low, low + draw(st.sampled_from((0, 0.01, 1, 250))))


@st.composite
def counts(draw: st.DrawFn, most: int = 4) -> Choice | Integer:
    """Domains that can be the count of a repeat."""
    if draw(st.booleans()):
        values = draw(st.lists(st.integers(0, most), min_size=1, max_size=3, unique=True))
        return choice(*values, ordered=draw(st.booleans()))
    low = draw(st.integers(0, most))
    return integer(low, draw(st.integers(low, most)), step=draw(st.sampled_from((1, 1, 2))))


@st.composite
def option_choices(draw: st.DrawFn, depth: int) -> Choice:
    names = draw(st.lists(st.sampled_from(OPTION_NAMES), min_size=1, max_size=3, unique=True))
    values: list[Any] = [option(name, **draw(levels(depth - 1, least=0))) for name in names]
    beside = st.one_of(st.none(), st.integers(0, 3), st.sampled_from(("relu", "gelu", "1")))
    values += draw(st.lists(beside, max_size=2, unique=True))
    order = draw(st.permutations(range(len(values))))
    return choice(*(values[i] for i in order), ordered=draw(st.sampled_from((None, False, True))))


@st.composite
def levels(draw: st.DrawFn, depth: int, least: int = 1, most: int = 4) -> dict[str, Any]:
    """The fields of one record."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=least, max_size=most, unique=True))
    fields: dict[str, Any] = {}
    for name in names:
        kinds = ["constant", "choice", "integer", "real"] + ["options", "fixed", "repeat", "repeat"] * (depth > 0)
        kind = draw(st.sampled_from(kinds))
        if kind == "constant":
            fields[name] = draw(constants)
        elif kind == "choice":
            fields[name] = draw(plain_choices)
        elif kind == "integer":
            fields[name] = draw(integers())
        elif kind == "real":
            fields[name] = draw(reals())
        elif kind == "fixed":
            fields[name] = option(draw(st.sampled_from(OPTION_NAMES)), **draw(levels(depth - 1, least=0)))
        elif kind == "options":
            fields[name] = draw(option_choices(depth))
        else:
            fields |= draw(_repeats(name, depth))
    return fields


@st.composite
def _repeats(draw: st.DrawFn, name: str, depth: int) -> dict[str, Any]:
    """One list of records, or two that share their count, with the count written in one of the four ways."""
    body = levels(depth - 1, most=3)
    way = draw(st.sampled_from(("constant", "in place", "by object", "by name")))
    if way == "constant":
        return {name: repeat(draw(st.integers(0, 3)), **draw(body))}
    count = draw(counts())
    if way == "in place":
        return {name: repeat(count, **draw(body))}
    said = f"n_{name}" if way == "by name" else count
    lists = {name: repeat(said, **draw(body))}
    if draw(st.booleans()):
        lists[f"{name}_too"] = repeat(said, **draw(body))
    counted: dict[str, Any] = {f"n_{name}": count}
    return counted | lists if draw(st.booleans()) else lists | counted  # the count may be written below its lists


def _some_hash(arch: Architecture) -> bool:
    return int(arch.id[:2], 16) % 4 != 0


@st.composite
def spaces(draw: st.DrawFn, rules: bool = False, depth: int = 2) -> type[Space]:
    """A random space; with `rules`, one that may have a linear rule and a rule that is a function."""
    fields = draw(levels(depth))
    space = Space.of("Generated", **fields)
    assume(len(space.domains()) <= MAX_SLOTS)
    if not rules:
        return space
    written: dict[str, Callable[[Architecture], Any] | Any] = {}
    numbers = [name for name in space.domains() if _is_number(space, name)]
    if numbers and draw(st.booleans()):
        chosen = draw(st.lists(st.sampled_from(numbers), min_size=1, unique=True))
        weights = {name: draw(st.sampled_from((1, 2, -1, 0.5))) for name in chosen}
        seen = [sum(w * space.sample(seed).flat[name] for name, w in weights.items()) for seed in range(8)]
        text = "".join(f" {'-' if w < 0 else '+'} {abs(w)}*{name}" for name, w in weights.items())
        bound = round(max(seen) + 0.01, 2)
        written["budget"] = require(f"{text.removeprefix(' +')} <= {'-' if bound < 0 else ''} {abs(bound)}".strip())
    if draw(st.booleans()):
        written["some_hash"] = _some_hash
        with_rules = Space.of("Generated", rules=written, **fields)
        assume(any(with_rules.contains(space.sample(seed)) for seed in range(20)))
    return Space.of("Generated", rules=written, **fields)


def _is_number(space: type[Space], name: str) -> bool:
    """Whether a linear rule may speak of `name`: a number of the top level."""
    item = dict(space._level.fields).get(name)
    if not isinstance(item, Decision):
        return False
    domain = item.domain
    return not isinstance(domain, Choice) or all(
        isinstance(v, (int, float)) and not isinstance(v, bool) for v in domain.values
    )
