"""Which shared weights an architecture uses: every parameter of its decoder as slices of larger tensors, the *banks*.

A bank belongs to an operation (the second attention from below) and a role (its queries). Operations are counted within
their kind, not by layers: the first convolution of a network has the same work to do whether it is in layer 0 or
after an attention, and has the same weights. (Counting is our own; with "layer" among `apart`, what is in layer 2
has weights of its own, as is usual.) An architecture takes the first heads, the first values of each head, the first channels, hidden units and experts of it: prefixes, as in
once-for-all networks (Cai et al. 2020, arXiv 1908.09791). What a prefix cannot share has banks of its own: gains of
norms for every width, the steps of linear attention for every number of heads, and the fields named in `apart`.

Queries and keys that rotary positions turn are not a prefix: the frequency of pair j of D / 2 is base ** (-2 j / D), so the
first pairs of a large head turn with other frequencies than those of a small one. A small head takes pairs spread evenly
over the large one, whose frequencies are nearly its own.

Notation: C width, H heads, D values per head, F hidden units, E experts, K kernel, V vocabulary. Turned heads store
their D values as (2, D / 2), the pairs along the last of these axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, cast

from nas_bo.errors import ModelError
from nas_bo.model.blocks.block import Sliceable
from nas_bo.model.blocks.cuts import Cut as Cut
from nas_bo.model.blocks.cuts import Piece as Piece
from nas_bo.model.blocks.cuts import plain
from nas_bo.model.blocks.details import Details
from nas_bo.model.blocks.table import apart_fields, block_of
from nas_bo.model.connections import skips
from nas_bo.model.counts import norms_of
from nas_bo.model.spec import DecoderSpec

_OF_DECODERS = ("width", "depth", "norm", "position", "parallel", "tied", "bias", "layer", "mixers", *Details._fields)
APART_FIELDS = frozenset((*_OF_DECODERS, *apart_fields()))
"""The fields whose values can be given weights of their own. "layer" stands for the index of the layer, "mixers" for the
set of kinds of mixers in the network: attention alone learns other things than attention next to convolutions, and has
blocks of its own then (a split of the supernet, as in Zhao et al. 2021, arXiv 2006.06863)."""


def can_be_apart() -> frozenset[str]:
    """As `APART_FIELDS`, with the fields of your own blocks."""
    return APART_FIELDS | apart_fields()


ALWAYS_APART = frozenset(("gated",))  # a gate multiplies, an ungated unit adds: not the same weights


def cuts(spec: DecoderSpec, vocab_size: int, apart: frozenset[str]) -> list[Cut]:
    """Every parameter of the decoder of `spec`, in the order of its names by part."""
    first, last = outer_cuts(spec, vocab_size, apart)
    for number, place in enumerate(places(spec)):
        first += layer_cuts(spec, number * spec.details.tie_layers, place, apart, f"layers.{number}.")
    return first + last


def outer_cuts(spec: DecoderSpec, vocab_size: int, apart: frozenset[str]) -> tuple[list[Cut], list[Cut]]:
    """The parameters before the layers, and those after them."""
    width, own = spec.width, _Own(spec, apart)
    first = [plain("embedding.weight", own("embedding"), (vocab_size, width))]
    if spec.details.max_length is not None:
        first.append(plain("positions.weight", own("positions"), (spec.details.max_length, width)))
    found = list(_norm("norm", f"norm/depth{len(spec.layers)}", spec))
    gates = len(skips(len(spec.layers), spec.details))
    if gates:
        found.append(plain("skip_gates", own(f"skip_gates/depth{len(spec.layers)}"), (gates,)))
    if not spec.tied:
        found.append(plain("head.weight", own("head"), (vocab_size, width)))
    return first, found


class Place(NamedTuple):
    """Where a layer is: how many mixers of its mixer's kind and MLPs of its MLP's kind come before it, and which
    kinds of mixers there are in the network."""

    mixer: int
    mlp: int
    mixers: str


def places(spec: DecoderSpec) -> list[Place]:
    """The place of every layer that has weights of its own."""
    mixers = "+".join(sorted({layer.mixer.kind for layer in spec.layers} - {"skip"}))
    seen: dict[tuple[str, str], int] = {}
    found = []
    for layer in spec.layers[:: spec.details.tie_layers]:
        kinds = ("mixer", layer.mixer.kind), ("mlp", layer.mlp.kind)
        found.append(Place(seen.get(kinds[0], 0), seen.get(kinds[1], 0), mixers))
        for kind in kinds:
            seen[kind] = seen.get(kind, 0) + 1
    return found


def layer_cuts(spec: DecoderSpec, index: int, place: Place, apart: frozenset[str], prefix: str = "") -> list[Cut]:
    """The parameters of layer `index`, which is in `place`; their names begin with `prefix`."""
    mixer, mlp = spec.layers[index]
    own = _Own(spec, apart)
    numbers = (index // spec.details.tie_layers,) * 2 if "layer" in apart else place[:2]
    among = f"/mixers={place.mixers}" if "mixers" in apart else ""
    mixer_at, mlp_at = f"mixer{numbers[0]}/{mixer.kind}{among}", f"mlp{numbers[1]}/{mlp.kind}{among}"
    found: list[Cut] = []
    for part, at in (("mixer", mixer_at), ("mlp", mlp_at)):
        one = mixer if part == "mixer" else mlp
        block = sliceable(one)
        found += block.slices(one, spec.frame, own(at, block.apart(one, spec.frame)), f"{prefix}{part}.")
    for name in norms_of(spec.layers[index], spec.frame):
        part, _, which = name.partition("_")
        found += _norm(f"{prefix}{name}", own(f"{mixer_at if part == 'mixer' else mlp_at}/{which}"), spec)
    return found


def sliceable(spec: Any) -> Sliceable[Any]:
    """The block as one whose weights can be shared (raises ModelError where it does not say how)."""
    block: object = block_of(spec)
    if type(block) in _SLICEABLE:
        return cast("Sliceable[Any]", block)
    if not isinstance(block, Sliceable):
        raise ModelError(
            f"the block {spec.kind!r} has no slices(spec, frame, bank, prefix) and no apart(spec, frame), so nothing says which "
            "part of larger weights a small one takes; leave it out of spaces of supernets, or add both (see "
            "nas_bo.model.blocks.Sliceable)"
        )
    _SLICEABLE.add(type(block))
    return block


_SLICEABLE: set[type] = set()  # to look at a protocol takes as long as to slice


class _Own:
    """Names of banks, with the values of the fields that are apart."""

    def __init__(self, spec: DecoderSpec, apart: frozenset[str]) -> None:
        self.apart = apart | ALWAYS_APART
        values: dict[str, object] = {**spec._asdict(), **spec.details._asdict(), "depth": len(spec.layers)}
        self.suffix = "".join(f"/{name}={values[name]}" for name in sorted(self.apart & values.keys()))

    def __call__(self, bank: str, values: Mapping[str, object] = MappingProxyType({})) -> str:
        return bank + self.suffix + "".join(f"/{name}={values[name]}" for name in sorted(self.apart & values.keys()))


def _norm(name: str, bank: str, spec: DecoderSpec) -> Iterator[Cut]:
    bank = f"{bank}/{spec.norm}/width{spec.width}"
    yield plain(f"{name}.weight", f"{bank}/gain", (spec.width,))
    if spec.frame.norm_bias:
        yield plain(f"{name}.bias", f"{bank}/bias", (spec.width,))
