"""A dense MLP, plain or gated (Shazeer 2020, arXiv 2002.05202); and what mixtures of such MLPs share with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from nas_bo.architecture import Primitive
from nas_bo.errors import ModelError, near
from nas_bo.model.blocks.block import Call, Drawn, Frame, Row, Slot, StockPart, linear
from nas_bo.model.blocks.cuts import Cut, out, rows
from nas_bo.model.blocks.details import Default

if TYPE_CHECKING:
    from torch import nn

ACTIVATIONS = ("gelu", "silu", "relu2", "gelu_tanh")


class MlpSpec(NamedTuple):
    """A dense MLP (experts == 0) or a mixture of `experts` such MLPs. `hidden` is per expert, in units."""

    kind: str
    hidden: int
    activation: str
    gated: bool
    experts: int
    top_k: int
    renormalise: bool | None = None

    @property
    def wide(self) -> int:
        """Values per token before the activation."""
        return self.hidden * (1 + self.gated)

    @property
    def inside(self) -> int:
        """Values per token that are alive at once around the activation."""
        return self.wide + self.hidden * (2 if self.gated or self.activation == "relu2" else 1)

    @property
    def kept(self) -> int:
        """Values per token that a backward pass needs."""
        before = 2 * self.hidden if self.activation == "relu2" else self.wide
        return before + self.hidden * (2 if self.gated else 1)


def read(fields: Mapping[str, object], frame: Frame, kind: str) -> MlpSpec:
    """The fields that both kinds have (raises ModelError)."""
    ratio, width = fields["ratio"], frame.width
    if ratio.__class__ not in (int, float) or not 0 < ratio < float("inf") or round(ratio * width) < 1:
        raise ModelError(
            f"{kind} has ratio={ratio!r} at width={width}; it must be a number that makes at least one hidden unit"
        )
    if fields["activation"] not in ACTIVATIONS:
        raise ModelError(
            f"{kind} has activation={fields['activation']!r}{near(fields['activation'], ACTIVATIONS)}; "
            f"there are {', '.join(ACTIVATIONS)}"
        )
    if fields["gated"].__class__ is not bool:
        raise ModelError(f"{kind} has gated={fields['gated']!r}; it must be True or False")
    return MlpSpec(kind, round(ratio * width), fields["activation"], fields["gated"], 0, 0)


def one(spec: MlpSpec, frame: Frame) -> int:
    """Parameters of one MLP."""
    return linear(frame.width, spec.wide, frame.bias) + linear(spec.hidden, frame.width, frame.bias)


def passes(spec: MlpSpec, frame: Frame, new: int, each: int, used: int) -> Iterator[Row]:
    """The operations of an MLP whose tokens pass `each` of `used` experts."""
    width, wide, flops = frame.width, spec.wide, 2 * new * each * frame.width
    yield Row("up", flops * wide, used * linear(width, wide, frame.bias), each * new * (width + wide), used)
    yield Row("activation", 0, 0, each * new * (wide + spec.hidden), used * (1 + spec.gated))
    weights = used * linear(spec.hidden, width, frame.bias)
    yield Row("out", flops * spec.hidden, weights, each * new * (spec.hidden + width), used)


def ratio_of(spec: MlpSpec, frame: Frame) -> str:
    return f"x{spec.hidden / frame.width:.3g}{'g' if spec.gated else ''}"


def shape_of(spec: MlpSpec, frame: Frame) -> str:
    return f"{frame.width} → {spec.hidden} → {frame.width}, {spec.activation}{', gated' if spec.gated else ''}"


def values_apart(spec: MlpSpec, frame: Frame) -> Mapping[str, object]:
    return {**spec._asdict(), "ratio": f"{spec.hidden / frame.width:.6g}"}


def fields_of(spec: MlpSpec, frame: Frame) -> dict[str, Primitive]:
    """The fields that both kinds have, of a checked block: the inverse of `read`."""
    whole, rest = divmod(spec.hidden, frame.width)
    ratio = spec.hidden / frame.width if rest else whole
    return {"ratio": ratio, "activation": spec.activation, "gated": spec.gated}


class DenseBlock:
    kind = "dense"
    slots: tuple[Slot, ...] = ("mlp",)
    fields: Mapping[str, Default] = {"ratio": ..., "activation": "gelu", "gated": False}
    Spec = MlpSpec

    def check(self, fields: Mapping[str, object], frame: Frame) -> MlpSpec:
        return read(fields, frame, self.kind)

    def parameters(self, spec: MlpSpec, frame: Frame) -> int:
        return one(spec, frame)

    def operations(self, spec: MlpSpec, frame: Frame, call: Call) -> Iterator[Row]:
        return passes(spec, frame, call.new, 1, 1)

    def peak_values(self, spec: MlpSpec, frame: Frame, call: Call) -> int:
        tokens = call.batch * call.new
        return max(tokens * spec.inside, tokens * spec.hidden + tokens * frame.width)

    def saved_values(self, spec: MlpSpec, frame: Frame, batch: int, length: int) -> int:
        return batch * length * spec.kept

    def undone_values(self, spec: MlpSpec, frame: Frame, batch: int, length: int) -> int:
        return batch * length * (spec.wide + 2 * spec.hidden)

    def slices(self, spec: MlpSpec, frame: Frame, bank: str, prefix: str) -> Iterator[Cut]:
        hidden: dict[str, tuple[int, ...]] = {"gate": (spec.hidden,), "up": (spec.hidden,)}
        parts = hidden if spec.gated else {"up": (spec.hidden,)}
        yield from rows(f"{prefix}up", bank, parts, frame.width, frame.bias)
        yield from out(f"{prefix}out", bank, frame.width, (spec.hidden,), frame.bias)

    def apart(self, spec: MlpSpec, frame: Frame) -> Mapping[str, object]:
        return values_apart(spec, frame)

    def units(self, spec: MlpSpec, frame: Frame) -> Mapping[str, int]:
        return {"channels": spec.hidden}

    def with_units(self, spec: MlpSpec, frame: Frame, kind: str, count: int) -> Mapping[str, Primitive]:
        return fields_of(spec._replace(hidden=count), frame)

    def label(self, spec: MlpSpec, frame: Frame) -> str:
        return ratio_of(spec, frame)

    def drawn(self, spec: MlpSpec, frame: Frame) -> Drawn:
        return Drawn("MLP", shape_of(spec, frame), "#d9480f")

    def stock_part(self, spec: MlpSpec, frame: Frame) -> StockPart:
        return StockPart(mlp=spec)

    def module(self, spec: MlpSpec, frame: Frame) -> nn.Module:
        from nas_bo.model.layers.dense import Dense

        return Dense(spec, frame.width, frame.bias)


def has_channels(block: object) -> bool:
    """Whether it has hidden channels that can be taken out after training: those of dense MLPs, not those inside experts."""
    return isinstance(block, MlpSpec) and not block.experts


BLOCK = DenseBlock()
