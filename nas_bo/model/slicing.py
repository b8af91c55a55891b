"""Which shared weights an architecture uses: every parameter of its decoder as slices of larger tensors, the *banks*.

A bank belongs to an operation (the second attention from below) and a role (its queries). Operations are counted within
their kind, not by layers: the first convolution of a network has the same work to do whether it stands in layer 0 or
after an attention, and has the same weights. (Counting is our own; with "layer" among `apart`, what stands in layer 2
has weights of its own, as is usual.) An architecture takes the first heads, the first values of each head, the first channels, hidden units and experts of it: prefixes, as in
once-for-all networks (Cai et al. 2020, arXiv 1908.09791). What a prefix cannot share has banks of its own: gains of
norms for every width, the steps of linear attention for every number of heads, and the fields named in `apart`.

Queries and keys that rotary positions turn are no prefix: the frequency of pair j of D / 2 is base ** (-2 j / D), so the
first pairs of a large head turn with other frequencies than those of a small one. A small head takes pairs spread evenly
over the large one, whose frequencies are nearly its own.

Notation: C width, H heads, D values per head, F hidden units, E experts, K kernel, V vocabulary. Turned heads store
their D values as (2, D / 2), the pairs along the last of these axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from nas_bo.model.spec import AttentionSpec, ConvSpec, DecoderSpec, LinearAttentionSpec, MlpSpec

APART_FIELDS = frozenset(
    ("width", "depth", "heads", "head_dim", "kv_group", "window", "kernel", "ratio", "activation", "gated", "experts",
     "top_k", "norm", "position", "parallel", "tied", "bias", "layer",
     "mixers")
)  # fmt: skip
"""The fields whose values can be given weights of their own. "layer" stands for the index of the layer, "mixers" for the
set of kinds of mixers in the network: attention alone learns other things than attention beside convolutions, and has
blocks of its own then (a split of the supernet, as in Zhao et al. 2021, arXiv 2006.06863)."""

ALWAYS_APART = frozenset(("gated",))  # a gate multiplies, an ungated unit adds: not the same weights


class Piece(NamedTuple):
    """Part of a bank: the first `sizes[i]` entries along every axis i; the last ones along the axis `last`; entries
    spread evenly along the axis `spread`; every `step`-th along axis 0."""

    bank: str
    sizes: tuple[int, ...]
    last: int | None = None
    spread: int | None = None
    step: int = 1

    @property
    def needs(self) -> tuple[int, ...]:
        """The least shape of a bank that has these entries."""
        first, *rest = self.sizes
        return ((first - 1) * self.step + 1, *rest)


class Cut(NamedTuple):
    """One parameter of a decoder: its pieces, each reshaped to `shapes[i]` and joined along `axis`."""

    name: str
    pieces: tuple[Piece, ...]
    shapes: tuple[tuple[int, ...], ...]
    axis: int = 0


def cuts(spec: DecoderSpec, vocab_size: int, apart: frozenset[str]) -> list[Cut]:
    """Every parameter of the decoder of `spec`, in the order of its names by part."""
    width, own = spec.width, _Own(spec, apart)
    found = [_plain("embedding.weight", own("embedding"), (vocab_size, width))]
    for index, place in enumerate(places(spec)):
        found += layer_cuts(spec, index, place, apart, f"layers.{index}.")
    found += _norm("norm", f"norm/depth{len(spec.layers)}", spec)
    if not spec.tied:
        found.append(_plain("head.weight", own("head"), (vocab_size, width)))
    return found


class Place(NamedTuple):
    """Where a layer stands: how many mixers of its mixer's kind and MLPs of its MLP's kind come before it, and which
    kinds of mixers there are in the network."""

    mixer: int
    mlp: int
    mixers: str


def places(spec: DecoderSpec) -> list[Place]:
    """The place of every layer."""
    mixers = "+".join(sorted({layer.mixer.kind for layer in spec.layers} - {"skip"}))
    seen: dict[tuple[str, str], int] = {}
    found = []
    for layer in spec.layers:
        kinds = ("mixer", layer.mixer.kind), ("mlp", layer.mlp.kind)
        found.append(Place(seen.get(kinds[0], 0), seen.get(kinds[1], 0), mixers))
        for kind in kinds:
            seen[kind] = seen.get(kind, 0) + 1
    return found


def layer_cuts(spec: DecoderSpec, index: int, place: Place, apart: frozenset[str], prefix: str = "") -> list[Cut]:
    """The parameters of layer `index`, which stands in `place`; their names begin with `prefix`."""
    mixer, mlp = spec.layers[index]
    own = _Own(spec, apart)
    numbers = (index, index) if "layer" in apart else place[:2]
    among = f"/mixers={place.mixers}" if "mixers" in apart else ""
    mixer_at, mlp_at = f"mixer{numbers[0]}/{mixer.kind}{among}", f"mlp{numbers[1]}/{mlp.kind}{among}"
    found: list[Cut] = []
    if isinstance(mixer, AttentionSpec):
        found += _attention(mixer, spec, own(mixer_at, mixer), f"{prefix}mixer.")
    elif isinstance(mixer, LinearAttentionSpec):
        found += _linear_attention(mixer, spec, own(mixer_at, mixer), f"{prefix}mixer.")
    elif isinstance(mixer, ConvSpec):
        found += _conv(mixer, spec, own(mixer_at, mixer), f"{prefix}mixer.")
    if isinstance(mlp, MlpSpec):
        make = _mixture if mlp.experts else _dense
        found += make(mlp, spec, own(mlp_at, mlp), f"{prefix}mlp.")
    if mixer.kind != "skip":
        found += _norm(f"{prefix}mixer_norm", own(f"{mixer_at}/norm"), spec)
    if mlp.kind != "skip" and not (spec.parallel and mixer.kind != "skip"):
        found += _norm(f"{prefix}mlp_norm", own(f"{mlp_at}/norm"), spec)
    return found


class _Own:
    """Names of banks, with the values of the fields that stand apart."""

    def __init__(self, spec: DecoderSpec, apart: frozenset[str]) -> None:
        self.apart = apart | ALWAYS_APART
        values: dict[str, Any] = {**spec._asdict(), "depth": len(spec.layers)}
        self.suffix = "".join(f"/{name}={values[name]}" for name in sorted(self.apart & values.keys()))
        self.width = spec.width

    def __call__(self, bank: str, block: Any = None) -> str:
        if block is None:
            return bank + self.suffix
        values = block._asdict()
        if isinstance(block, AttentionSpec):
            values["kv_group"] = block.heads // block.kv_heads
        if isinstance(block, MlpSpec):
            values["ratio"] = f"{block.hidden / self.width:.6g}"
        return bank + self.suffix + "".join(f"/{name}={values[name]}" for name in sorted(self.apart & values.keys()))


def _plain(name: str, bank: str, sizes: tuple[int, ...], last: int | None = None) -> Cut:
    return Cut(name, (Piece(bank, sizes, last),), (sizes,))


def _norm(name: str, bank: str, spec: DecoderSpec) -> Iterator[Cut]:
    bank = f"{bank}/{spec.norm}/width{spec.width}"
    yield _plain(f"{name}.weight", f"{bank}/gain", (spec.width,))
    if spec.norm == "layer" and spec.bias:
        yield _plain(f"{name}.bias", f"{bank}/bias", (spec.width,))


def _rows(
    name: str,
    bank: str,
    parts: dict[str, tuple[int, ...]],
    width: int,
    bias: bool,
    turned: tuple[str, ...] = (),
    steps: Mapping[str, int] = MappingProxyType({}),
) -> Iterator[Cut]:
    """A linear layer into a block whose rows are several parts of different meaning, each with its own bank."""
    flat = [_product(sizes) for sizes in parts.values()]
    yield Cut(
        f"{name}.weight",
        tuple(
            Piece(f"{bank}/{part}", (*sizes, width), None, 2 if part in turned else None, steps.get(part, 1))
            for part, sizes in parts.items()
        ),
        tuple((count, width) for count in flat),
    )
    if bias:
        yield Cut(
            f"{name}.bias",
            tuple(
                Piece(f"{bank}/{part}_bias", sizes, None, 2 if part in turned else None, steps.get(part, 1))
                for part, sizes in parts.items()
            ),
            tuple((count,) for count in flat),
        )


def _out(name: str, bank: str, width: int, sizes: tuple[int, ...], bias: bool) -> Iterator[Cut]:
    """A linear layer out of a block."""
    yield Cut(f"{name}.weight", (Piece(f"{bank}/out", (width, *sizes)),), ((width, _product(sizes)),))
    if bias:
        yield _plain(f"{name}.bias", f"{bank}/out_bias", (width,))


def _attention(mixer: AttentionSpec, spec: DecoderSpec, bank: str, prefix: str) -> Iterator[Cut]:
    rotary = spec.position == "rotary"
    dims = (2, mixer.head_dim // 2) if rotary else (mixer.head_dim,)
    bank = bank if rotary else f"{bank}/unturned"
    parts = {"q": (mixer.heads, *dims), "k": (mixer.kv_heads, *dims), "v": (mixer.kv_heads, *dims)}
    group = mixer.heads // mixer.kv_heads  # a shared key is that of the first query head of its group
    turned = ("q", "k") if rotary else ()
    yield from _rows(f"{prefix}qkv", bank, parts, spec.width, spec.bias, turned, {"k": group, "v": group})
    yield from _out(f"{prefix}out", bank, spec.width, (mixer.heads, *dims), spec.bias)


def _linear_attention(mixer: LinearAttentionSpec, spec: DecoderSpec, bank: str, prefix: str) -> Iterator[Cut]:
    heads, inner = mixer.heads, (mixer.heads, mixer.head_dim)
    parts: dict[str, tuple[int, ...]] = {"q": inner, "k": inner, "v": inner, "g": inner, "step": (heads,)}
    yield from _rows(f"{prefix}qkvg", bank, parts, spec.width, spec.bias)
    yield _plain(f"{prefix}log_decay", f"{bank}/heads{heads}/log_decay", (heads,))
    yield _plain(f"{prefix}step_bias", f"{bank}/heads{heads}/step_bias", (heads,))
    yield from _out(f"{prefix}out", bank, spec.width, inner, spec.bias)


def _conv(mixer: ConvSpec, spec: DecoderSpec, bank: str, prefix: str) -> Iterator[Cut]:
    width = spec.width
    yield from _rows(f"{prefix}proj", bank, {"u": (width,), "gate": (width,)}, width, spec.bias)
    yield _plain(f"{prefix}taps", f"{bank}/taps", (width, mixer.kernel), last=1)  # the last taps see the nearest tokens
    yield from _out(f"{prefix}out", bank, width, (width,), spec.bias)


def _dense(mlp: MlpSpec, spec: DecoderSpec, bank: str, prefix: str) -> Iterator[Cut]:
    parts: dict[str, tuple[int, ...]] = {"gate": (mlp.hidden,), "up": (mlp.hidden,)}
    yield from _rows(f"{prefix}up", bank, parts if mlp.gated else {"up": (mlp.hidden,)}, spec.width, spec.bias)
    yield from _out(f"{prefix}out", bank, spec.width, (mlp.hidden,), spec.bias)


def _mixture(mlp: MlpSpec, spec: DecoderSpec, bank: str, prefix: str) -> Iterator[Cut]:
    experts, hidden, width = mlp.experts, mlp.hidden, spec.width
    names = ("gate", "up") if mlp.gated else ("up",)

    def joined(name: str, end: str, sizes: tuple[int, ...]) -> Cut:
        return Cut(
            f"{prefix}{name}", tuple(Piece(f"{bank}/{one}{end}", sizes) for one in names), (sizes,) * len(names), 1
        )

    yield _plain(f"{prefix}router.weight", f"{bank}/router", (experts, width))
    yield joined("up", "", (experts, hidden, width))
    yield _plain(f"{prefix}out", f"{bank}/out", (experts, width, hidden))
    if spec.bias:
        yield joined("up_bias", "_bias", (experts, hidden))
        yield _plain(f"{prefix}out_bias", f"{bank}/out_bias", (experts, width))


def _product(sizes: tuple[int, ...]) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total
