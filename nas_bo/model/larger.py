"""A larger architecture of the same design: width and depth grown to a number of parameters, as a ladder of sizes needs it.

Kept are the kinds of layers in their order (the whole list is repeated), MLP ratios, windows and kernels, the size of a head and the share of
heads with keys and values of their own; heads, and what else a block says (`nas_bo.model.blocks.Widening`), grow with the width. Depth and
width grow by about the same factor, as those of published families do (Kaplan et al. 2020, arXiv 2001.08361, section 3.1: the shape matters
little within a wide range).

A space may have a rule of its own, a static method ``grow(arch, parameters)``, which then counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Protocol, cast, runtime_checkable

from nas_bo.architecture import Architecture, Node, Primitive
from nas_bo.errors import ModelError, NasBoError
from nas_bo.model import counts
from nas_bo.model.blocks.block import Widening
from nas_bo.model.blocks.table import is_ours, known
from nas_bo.model.spec import check
from nas_bo.validated import check_values, number
from nas_bo.wording import counted

MOST_LAYERS = 512
STEPS = ((128, 4), (512, 8), (1024, 16), (math.inf, 64))  # widths below the first number are multiples of the second
MISSED, UNEVEN, ROUNDED = (
    8.0,
    0.5,
    1.0,
)  # what a log unit costs: off the size asked for; between depth and width; of heads
SLACK = 0.1  # by how much the first of the last two may be less than it seems
NEAR = 0.5  # a rule of the user's own may miss what was asked by so many log units

GrowthRule = Callable[[Architecture, float], "Architecture | Mapping[str, object]"]
"""(architecture, number of parameters) -> a larger one of the same design, as an architecture or as its tree."""


@runtime_checkable
class Growing(Protocol):
    """A space with a rule of its own for how its architectures grow."""

    def grow(self, arch: Architecture, parameters: float) -> Architecture | Mapping[str, object]:
        """A larger architecture of the same design with about so many parameters."""


def larger(
    arch: Architecture,
    parameters: float,
    vocab_size: int = 256,
    ignore: Collection[str] = (),
    rule: GrowthRule | None = None,
) -> Architecture:
    """The architecture of the same design that comes nearest to a number of parameters; see above for what grows. It is of no space.

    Args:
        parameters: all of them, at least as many as the architecture has.
        vocab_size: number of token ids.
        ignore: top-level fields that are the caller's own; they stay as they are.
        rule: used in place of the rule above.

    Raises:
        ModelError: the architecture has a field or a block of which nobody says how it grows, it is larger already, or the rule gives
            something else.
    """
    check_values("larger", ModelError, number(at_least=1), parameters=parameters)
    if rule is not None:
        return _by_rule(arch, parameters, vocab_size, ignore, rule)
    has = _understood(arch, vocab_size, ignore)
    if abs(math.log(parameters / has)) < 0.01:
        return arch
    if parameters < has:
        raise ModelError(
            f"the architecture has {counted(has, 'parameter')}, more than the {parameters:,.0f} that it is to grow to; ask for more"
        )
    found = _fitting(arch, parameters, vocab_size, ignore)
    if found is None:
        raise ModelError(
            f"no width and depth of this design come near {counted(round(parameters), 'parameter')} with at most {MOST_LAYERS} layers; ask for fewer"
        )
    return _as_architecture(found, arch.counts)


def grown(
    space: object, arch: Architecture, parameters: float, vocab_size: int = 256, ignore: Collection[str] = ()
) -> Architecture:
    """`larger`, by the rule of the space where it has one (`Growing`)."""
    return larger(arch, parameters, vocab_size, ignore, space.grow if isinstance(space, Growing) else None)


# ---- the default rule ------------------------------------------------------------------------------------------------

_ADVICE = "say how the design grows: a static method grow(arch, parameters) of the space, or grow=, that gives the larger architecture"


def _understood(arch: Architecture, vocab_size: int, ignore: Collection[str]) -> int:
    """The parameters of an architecture whose fields are all understood (raises ModelError)."""
    try:
        spec = check(arch, ignore)
    except NasBoError as error:
        raise ModelError(
            f"the growth rule does not understand the architecture: {error}. Otherwise {_ADVICE}"
        ) from None
    if not spec.layers:
        raise ModelError(f"the architecture has no layers, so there is nothing to repeat; {_ADVICE}")
    for name in arch.counts:
        if name in arch.tree and arch.tree[name] != len(spec.layers):
            raise ModelError(
                f"the growth rule does not understand the field {name!r}: it is {arch.tree[name]!r}, and there are "
                f"{counted(len(spec.layers), 'layer')}; {_ADVICE}"
            )
    for kind, fields in _blocks(arch.tree):
        block = known().get(kind)
        if block is not None and not is_ours(block) and fields and not isinstance(block, Widening):
            raise ModelError(
                f"the growth rule does not understand {' and '.join(map(repr, fields))} of the block {kind!r}: give the block "
                f"widened(fields, width, wide) (nas_bo.model.blocks.Widening), or {_ADVICE}"
            )
    return counts.parameters(spec, vocab_size)


def _blocks(tree: Node) -> Iterator[tuple[str, list[str]]]:
    """The kinds of all blocks, and the names of their fields."""
    for value in tree.values():
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, Node) and "kind" in one:
                yield str(one["kind"]), [name for name in one if name != "kind"]
            elif isinstance(one, Node):
                yield from _blocks(one)


def _fitting(arch: Architecture, parameters: float, vocab_size: int, ignore: Collection[str]) -> Node | None:
    """The tree with the best width of the best depth; None where no depth comes near."""
    width, depth = int(arch.tree["width"]), len(check(arch, ignore).layers)
    factor = parameters / counts.parameters(arch, vocab_size, ignore)

    def apart(times: int) -> float:  # of depth and width, where parameters grow with depth * width^2
        return UNEVEN * abs(math.log(math.sqrt(factor / times) / times))

    best, found = math.inf, None
    for times in sorted(range(1, max(1, MOST_LAYERS // depth) + 1), key=apart):
        if apart(times) - SLACK > best:
            break
        if _count(arch, width, times, vocab_size, ignore) > 1.1 * parameters:
            continue
        low, high = width, max(width, round(width * math.sqrt(factor / times)))
        while _count(arch, high, times, vocab_size, ignore) < parameters:
            low, high = high, 2 * high
        while high - low > 1:  # the least width with as many parameters is `high`
            middle = (low + high) // 2
            low, high = (
                (low, middle) if _count(arch, middle, times, vocab_size, ignore) >= parameters else (middle, high)
            )
        step = next(step for bound, step in STEPS if high < bound)
        for wide in {max(width, high // step * step), max(width, -(-high // step) * step)}:
            tree = _sized(arch.tree, arch.counts, wide, times)
            wrong = MISSED * abs(math.log(counts.parameters(tree, vocab_size, ignore) / parameters))
            wrong += UNEVEN * abs(math.log(wide / width / times)) + ROUNDED * _rounded(arch.tree, tree, wide / width)
            if wrong < best:
                best, found = wrong, tree
    return found


def _count(arch: Architecture, wide: int, times: int, vocab_size: int, ignore: Collection[str]) -> int:
    return counts.parameters(_sized(arch.tree, arch.counts, wide, times), vocab_size, ignore)


def _sized(tree: Node, named: Collection[str], wide: int, times: int) -> Node:
    """The tree at another width, its list of layers repeated."""
    width = int(tree["width"])
    fields = {name: _wide(value, width, wide) for name, value in tree.items()}
    layers = fields.get("layers")
    if isinstance(layers, tuple):
        fields["layers"] = layers * times
        fields |= {name: len(layers) * times for name in named if name in fields}
        if "depth" in fields and "depth" not in named and isinstance(fields["depth"], int):
            fields["depth"] = len(layers) * times
    else:
        fields["depth"] = int(tree["depth"]) * times
    return Node({**fields, "width": wide})


def _wide(value: object, width: int, wide: int) -> object:
    if isinstance(value, tuple):
        return tuple(_wide(one, width, wide) for one in value)
    if not isinstance(value, Node):
        return value
    fields = {name: _wide(one, width, wide) for name, one in value.items()}
    block = known().get(value.get("kind", ""))
    return Node(block.widened(fields, width, wide) if isinstance(block, Widening) else fields)


def _rounded(before: Node, after: Node, factor: float) -> float:
    """By how many log units heads have grown otherwise than the width, the mean over layers."""

    def heads(tree: Node) -> list[int]:
        layers = tree.get("layers")
        mixers = [layer["mixer"] for layer in layers] if isinstance(layers, tuple) else [tree.get("mixer")]
        return [mixer["heads"] for mixer in mixers if isinstance(mixer, Node) and "heads" in mixer]

    pairs = list(zip(heads(before), heads(after), strict=False))  # `after` repeats what `before` has
    return sum(abs(math.log(many / few / factor)) for few, many in pairs) / len(pairs) if pairs else 0.0


# ---- a rule of the user's own ------------------------------------------------------------------------------------------


def _by_rule(
    arch: Architecture, parameters: float, vocab_size: int, ignore: Collection[str], rule: GrowthRule
) -> Architecture:
    called = (
        f"{rule.__module__}.{rule.__qualname__}" if callable(rule) and isinstance(rule, type(larger)) else repr(rule)
    )
    try:
        made = rule(arch, parameters)
    except Exception as error:  # whatever a user's code raises
        said = " ".join(str(error).split())
        raise ModelError(
            f"the growth rule {called} failed with {type(error).__name__}: {said:.300}; it is called with an architecture and a number of "
            "parameters"
        ) from error
    if isinstance(made, Architecture):
        found = made
    elif isinstance(made, Mapping):
        found = _as_architecture(Node({str(name): _node(one) for name, one in made.items()}), arch.counts)
    else:
        raise ModelError(
            f"the growth rule {called} gave {made!r:.80}; it must give an Architecture, or a tree as `Architecture.tree` is one"
        )
    try:
        size = counts.parameters(found, vocab_size, ignore)
    except NasBoError as error:
        raise ModelError(f"the growth rule {called} gave what cannot be built: {error}") from None
    if abs(math.log(size / parameters)) > NEAR:
        raise ModelError(
            f"the growth rule {called} gave {counted(size, 'parameter')} where {parameters:,.0f} were asked for; it must come near them"
        )
    return found


def _node(value: object) -> object:
    if isinstance(value, Mapping):
        return Node({str(name): _node(one) for name, one in value.items()})
    return tuple(_node(one) for one in value) if isinstance(value, (list, tuple)) else value


def _as_architecture(tree: Node, named: Collection[str]) -> Architecture:
    flat: dict[str, Primitive] = {}
    _flatten(tree, "", flat)
    return Architecture(tree, flat, tuple(name for name in named if name in tree))


def _flatten(value: object, path: str, flat: dict[str, Primitive]) -> None:
    """The names that a space would give to these values."""
    if isinstance(value, Node):
        inner = f"{path}." if path else ""
        if "kind" in value:
            flat[path] = value["kind"]
            inner = f"{inner}{value['kind']}."
        for name, one in value.items():
            if name != "kind":
                _flatten(one, f"{inner}{name}", flat)
    elif isinstance(value, tuple):
        for index, one in enumerate(value):
            _flatten(one, f"{path}.{index}", flat)
    else:
        flat[path] = cast("Primitive", value)  # of a tree that is built, which says what else there is
