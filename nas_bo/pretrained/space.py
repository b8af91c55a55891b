"""The space around a trained decoder: every architecture in it is a part of that decoder, with its weights.

Layers keep their place, so a layer without mixer and MLP is one that was left out. What differs between the layers of the trained
model (kinds of blocks, windows) stays what it is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from nas_bo.architecture import Architecture, Node, Primitive
from nas_bo.errors import SpaceError
from nas_bo.model.after_training import BITS
from nas_bo.model.blocks.attention import AttentionSpec
from nas_bo.model.blocks.block import Frame, Prunable
from nas_bo.model.blocks.skip import SKIP, absent
from nas_bo.model.blocks.table import block_of
from nas_bo.model.spec import DecoderSpec, check
from nas_bo.model.vocabulary import skip
from nas_bo.pretrained.operators import (
    DEFAULT_WINDOW,
    KINDS,
    WINDOW,
    check_operators,
    replaceable,
    replacement,
)
from nas_bo.space import Space, choice, option, repeat
from nas_bo.space.domain import Choice, Option
from nas_bo.space.space import built_by
from nas_bo.space.steer import steered
from nas_bo.validated import Check, check_fields, checked, each, one_of, whole_number

SHARES = (1.0, 0.85, 0.7, 0.5, 0.3, 0.15)
"""Of the hidden units of an MLP, by default."""

MULTIPLES = ((512, 64), (128, 32), (32, 8))  # sizes from so many on are multiples of this
_YES = one_of(True, False)
_LAYERS = Check(
    "a tuple of layers by their index, such as (0, -1)",
    lambda value: isinstance(value, (tuple, list)) and all(type(one) is int for one in value),
)
_DEPTH = Check(
    "True, False, or a tuple of layers by their index, such as (0, -1)",
    lambda value: isinstance(value, bool) or _LAYERS.holds(value),
)
_NAMES = Check(
    'a tuple of names, such as ("window", "gated_delta")',
    lambda value: isinstance(value, (tuple, list)) and all(isinstance(one, str) for one in value),
)
_WINDOWS = each(whole_number(1), 0, "a tuple of numbers of tokens, such as (256, 64)")
_SIZES = Check(
    "True, False, or sizes such as (1024, 512)",
    lambda value: isinstance(value, bool) or each(whole_number(1)).holds(value),
)


@dataclass(frozen=True)
class Parts:
    """What of a trained model may be made smaller; True takes sizes that suit it.

    Attributes:
        depth: mixers and MLPs may be left out, each for itself, or those of these layers; a layer without both is gone. True is all but the
            first MLP: without it trained models lose bits (SmolLM2-135M 3.3 bits per byte, the next most costly block .9).
        mlp: hidden units of each dense MLP, or these sizes; those inside experts stay.
        heads: groups of heads that share keys and values, of each attention, or these numbers of groups.
        width: channels of the stream, or these sizes.
        experts: experts of each mixture, or these numbers.
        windows: attention may see only so many tokens back; None, or 0, is the window of the trained model.
        bits: of the weights of each layer, of 32, 16, 8, 4, 3 and 2 (`nas_bo.model.after_training`); embedding and head have the fewest of them, at
            least 8. A part is judged with its weights rounded.
        operators: what may take the place of attention: "linear_attention", "gated_delta", and "window", which is a window of 128 tokens
            where `windows` has no sizes (`nas_bo.pretrained.operators`).
        keep: layers that stay whole, by their index; negative ones count from the end.
        multiple: sizes of MLPs are multiples of it; None is 64 for MLPs of 512 and more, 32 from 128 on, else 8.
    """

    depth: bool | tuple[int, ...] = checked(True, _DEPTH)
    mlp: bool | tuple[int, ...] = checked(True, _SIZES)
    heads: bool | tuple[int, ...] = checked(True, _SIZES)
    width: bool | tuple[int, ...] = checked(False, _SIZES)
    experts: bool | tuple[int, ...] = checked(True, _SIZES)
    windows: tuple[int, ...] = checked((), _WINDOWS)
    keep: tuple[int, ...] = checked((), _LAYERS)
    multiple: int | None = checked(None, whole_number(1).or_none())
    operators: tuple[str, ...] = checked((), _NAMES)
    bits: tuple[int, ...] = checked(
        (), each(one_of(*BITS), 0, f"a tuple of some of {', '.join(map(str, BITS))}, such as (8, 4, 3)")
    )

    def __post_init__(self) -> None:
        check_fields(self, SpaceError)
        for name, value in [*vars(self).items()]:
            if isinstance(value, list):
                object.__setattr__(self, name, tuple(value))
        check_operators(self.operators)
        if WINDOW in self.operators and not self.windows:
            object.__setattr__(self, "windows", (DEFAULT_WINDOW,))

    @property
    def other_blocks(self) -> bool:
        """Whether some of the sub-models have blocks that the trained model has not."""
        return bool(self.windows or self.operators)


@lru_cache(maxsize=8)
def space_around(title: str, arch: Node, parts: Parts) -> type[Space]:
    """The space (raises SpaceError for sizes that the trained model does not have).

    Args:
        title: of the space.
        arch: the trained decoder.
        parts: what of it may be made smaller.
    """
    spec = check(arch)
    kept = _layers(title, "keep", parts.keep, len(spec.layers))
    allowed: dict[str, tuple[Primitive, ...]] = {}
    layer: dict[str, Choice | Option | int] = {}
    for slot in ("mixer", "mlp"):
        blocks, specs = [one[slot] for one in arch.layers], [one.slot(slot) for one in spec.layers]
        kinds = dict.fromkeys(block.kind for block in blocks)
        options = [_option(slot, kind, blocks, specs, spec.frame, parts, allowed, kept) for kind in kinds]
        others = _operators(spec, parts, kept) if slot == "mixer" else {}
        options += [_operator(kind, places, specs, allowed) for kind, places in others.items()]
        go = _may_go(title, slot, len(specs), parts) - kept
        if go and not any(absent(one) for one in specs):
            options.append(skip())
        layer[slot] = choice(*options) if len(options) > 1 else options[0]
        for index, (block, one) in enumerate(zip(blocks, specs, strict=True) if len(options) > 1 else ()):
            may = [block.kind, *(kind for kind, places in others.items() if index in places)]
            may += [SKIP.kind] if index in go and not absent(one) else []
            if len(may) < len(options):
                allowed[f"layers.{index}.{slot}"] = tuple(may)
    top = {name: value for name, value in arch.items() if name not in ("layers", "width")}
    if parts.bits:
        least, *more = sorted(set(parts.bits))
        top["bits"], layer["bits"] = least, choice(least, *more) if more else least
        allowed |= {f"layers.{index}.bits": (more[-1],) for index in kept if more}
    widths = _sizes(f"{title}.width", parts.width, spec.width, _widths(spec.width))
    made = Space.of(
        title,
        width=choice(*widths) if len(widths) > 1 else widths[0],
        **top,
        layers=repeat(len(spec.layers), **layer),
    )
    made = steered(made, allowed)
    built_by(made, space_around, title, arch, parts)
    return made


def _layers(title: str, name: str, given: tuple[int, ...], n: int) -> set[int]:
    if any(not -n <= index < n for index in given):
        raise SpaceError(f"{title}: {name}={given} names a layer that is not there; there are {n}, from 0 on")
    return {index % n for index in given}


def _may_go(title: str, slot: str, n: int, parts: Parts) -> set[int]:
    """The layers whose block in this slot may be left out."""
    if isinstance(parts.depth, tuple):
        return _layers(title, "depth", parts.depth, n)
    return set(range(1 if slot == "mlp" else 0, n)) if parts.depth else set()


def whole(space: type[Space]) -> Architecture:
    """The architecture of the trained model itself, as a point of the space around it: the largest of everything."""

    def largest(path: str, domain: Choice) -> Primitive:
        if domain.ordered:
            return domain.values[-1]
        kept = [value for value in domain.values if value != SKIP.kind]
        return (kept or domain.values)[0]  # of windows the first is that of the trained model, which may be None

    return space.decide(largest)  # type: ignore[arg-type]


def _option(
    slot: str,
    kind: str,
    blocks: Sequence[Node],
    specs: Sequence[object],
    frame: Frame,
    parts: Parts,
    allowed: dict[str, tuple[Primitive, ...]],
    kept: set[int],
) -> Option:
    """The blocks of one kind as an option; a field that differs between layers is settled for each."""
    places = [index for index, block in enumerate(blocks) if block.kind == kind]
    fields: dict[str, object] = {}
    for name in dict.fromkeys(name for index in places for name in blocks[index] if name != "kind"):
        values = [blocks[index].get(name) for index in places]
        fields[name] = _settled(f"{slot}.{kind}.{name}", places, values, allowed)
    first = specs[places[0]]
    block = block_of(first)
    for name, sizes in _smaller([specs[index] for index in places], frame, parts).items():
        fields[name] = choice(*sizes.values) if len(sizes.values) > 1 else sizes.values[0]
        for index, own in zip(places, sizes.own, strict=True):
            may = (own,) if index in kept else tuple(size for size in sizes.values if size <= own)
            if len(may) < len(sizes.values):
                allowed[f"layers.{index}.{slot}.{kind}.{name}"] = may
        for other, value in sizes.beside.items():
            if value != block.fields[other]:
                fields.setdefault(other, value)
    if parts.windows and "window" in block.fields and not isinstance(fields.get("window"), Choice):
        whole_window: Any = fields.get("window")
        most = float("inf") if whole_window is None else float(str(whole_window))
        windows = [whole_window, *(size for size in parts.windows if size < most)]
        fields["window"] = choice(*windows) if len(windows) > 1 else whole_window
        allowed |= {
            f"layers.{index}.{slot}.{kind}.window": (whole_window,)
            for index in places
            if index in kept and len(windows) > 1
        }
    return option(kind, **fields)


def _operators(spec: DecoderSpec, parts: Parts, kept: set[int]) -> dict[str, list[int]]:
    """Kind of another operator -> the layers that may have it.

    Raises:
        SpaceError: no layer may, or the trained model has that kind of block itself.
    """
    kinds = [kind for kind in parts.operators if kind in KINDS]
    places = [index for index in range(len(spec.layers)) if replaceable(spec, index)]
    own = {layer.mixer.kind for layer in spec.layers}
    for kind in kinds:
        if kind in own:
            raise SpaceError(f"operators={parts.operators}: the trained model has {kind} itself; leave it out there")
    if kinds and not places:
        raise SpaceError(
            f"operators={parts.operators}: the trained model has no attention that another operator could take the place of (it must have keys "
            "and values of its own, and layers that share nothing); leave operators out"
        )
    places = [index for index in places if index not in kept]
    return dict.fromkeys(kinds, places) if places else {}


def _operator(
    kind: str, places: Sequence[int], specs: Sequence[AttentionSpec], allowed: dict[str, tuple[Primitive, ...]]
) -> Option:
    """A block of another operator, with the heads of the attention that it replaces."""
    each = [replacement(kind, specs[index]) for index in places]
    fields = {name: _settled(f"mixer.{kind}.{name}", places, [one[name] for one in each], allowed) for name in each[0]}
    return option(kind, **fields)


def _settled(
    name: str, places: Sequence[int], values: Sequence[Primitive], allowed: dict[str, tuple[Primitive, ...]]
) -> Primitive | Choice:
    different = list(dict.fromkeys(values))
    if len(different) == 1:
        return different[0]
    for index, value in zip(places, values, strict=True):
        allowed[f"layers.{index}.{name}"] = (value,)
    return choice(*different)


class _Sizes(NamedTuple):
    """Of one field: the values that it may have, that of each layer, and fields that must be given with it."""

    values: list[Any]
    own: list[Any]
    beside: dict[str, Primitive]


_DEFAULT: Mapping[str, tuple[str, Callable[[int, Parts, int], Sequence[int]]]] = {
    "channels": ("mlp", lambda most, parts, _: _hidden_sizes(most, parts.multiple)),
    "heads": ("heads", lambda most, _, __: _groups(most)),
    "experts": ("experts", lambda most, _, least: _halves(most, least)),
}
"""Unit of a block -> the field of `Parts`, and its sizes by default."""


def _smaller(specs: Sequence[Any], frame: Frame, parts: Parts) -> dict[str, _Sizes]:
    """Field -> its sizes, of blocks of one kind that say which units they can lose."""
    block = block_of(specs[0])
    if not isinstance(block, Prunable):
        return {}
    found: dict[str, _Sizes] = {}
    counts = [block.units(one, frame) for one in specs]
    for unit in [one for one in counts[0] if one in _DEFAULT]:
        name_of_part, default = _DEFAULT[unit]
        most = max(count[unit] for count in counts)
        largest = specs[[count[unit] for count in counts].index(most)]
        said = block.with_units(largest, frame, unit, most)
        fewer = block.with_units(largest, frame, unit, max(1, most - 1))
        changing = [name for name in said if said[name] != fewer[name]]
        if most < 2 or len(changing) != 1:
            found |= {
                name: _Sizes([value], [value] * len(specs), {})
                for name, value in said.items()
                if value != block.fields[name]
            }
            continue
        (name,) = changing
        least = int(said.get("top_k") or 1)
        sizes = _sizes(name_of_part, getattr(parts, name_of_part), most, default(most, parts, least))
        sizes = sorted({*sizes, *(count[unit] for count in counts)})
        values = [block.with_units(largest, frame, unit, size)[name] for size in sizes]
        own = [block.with_units(one, frame, unit, count[unit])[name] for one, count in zip(specs, counts, strict=True)]
        found[name] = _Sizes(values, own, {k: v for k, v in said.items() if k != name})
    return found


def _sizes(name: str, given: bool | tuple[int, ...], most: int, default: Sequence[int]) -> list[int]:
    if given is False:
        return [most]
    if given is True:
        return sorted({*default, most})
    large = [size for size in given if size > most]
    if large:
        raise SpaceError(
            f"{name}={given}: {large[0]} is more than the {most} of the trained model; take sizes up to that"
        )
    return sorted({*given, most})


def _hidden_sizes(most: int, multiple: int | None) -> list[int]:
    step = multiple or next((by for size, by in MULTIPLES if most >= size), 1)
    return sorted(
        {max(step, step * round(most * share / step)) for share in SHARES[1:] if most * share >= step} | {most}
    )


def _widths(width: int) -> list[int]:
    step = next((by for size, by in MULTIPLES if width >= size), 2)
    return [max(step, step * round(width * share / step)) for share in (0.75, 0.875)]


def _groups(most: int) -> list[int]:
    """All of few; of many a handful."""
    return (
        [*range(1, most + 1)] if most <= 4 else sorted({max(1, round(most * share)) for share in (0.25, 0.5, 0.75, 1)})
    )


def _halves(most: int, least: int) -> list[int]:
    return [size for size in (most // 4, most // 2, 3 * most // 4) if size >= max(1, least)]
