"""Mixture of experts (Shazeer et al. 2017, arXiv 1701.06538): each token goes to the `top_k` best of `experts` MLPs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from nas_bo.architecture import Primitive
from nas_bo.errors import ModelError
from nas_bo.model.blocks.block import Call, Drawn, Frame, Row, Slot, StockPart, size_of
from nas_bo.model.blocks.cuts import Cut, Piece, plain
from nas_bo.model.blocks.dense import MlpSpec, fields_of, one, passes, ratio_of, read, shape_of, values_apart
from nas_bo.model.blocks.details import Default
from nas_bo.wording import counted

if TYPE_CHECKING:
    from torch import nn


class MoeBlock:
    kind = "moe"
    slots: tuple[Slot, ...] = ("mlp",)
    fields: Mapping[str, Default] = {
        "experts": ...,
        "top_k": 1,
        "ratio": 2,
        "activation": "gelu",
        "gated": False,
        "renormalise": None,
    }
    initial: Mapping[str, str] = {"out": "out_each"}
    exact = ("router.weight",)
    Spec = MlpSpec

    def check(self, fields: Mapping[str, object], frame: Frame) -> MlpSpec:
        spec = read(fields, frame, self.kind)
        experts, top_k = size_of(fields, "experts", self.kind), size_of(fields, "top_k", self.kind)
        if top_k > experts:
            raise ModelError(f"moe has top_k={top_k} but only experts={experts}; choose top_k at most experts")
        renormalise = fields["renormalise"]
        if renormalise is not None and renormalise.__class__ is not bool:
            raise ModelError(
                f"moe has renormalise={renormalise!r}; it is True, False or None (True where top_k is above 1)"
            )
        if renormalise == (top_k > 1):
            renormalise = None  # what it is anyway
        return spec._replace(experts=experts, top_k=top_k, renormalise=renormalise)

    def parameters(self, spec: MlpSpec, frame: Frame) -> int:
        return (one(spec, frame) + frame.width) * spec.experts

    def idle_parameters(self, spec: MlpSpec, frame: Frame) -> int:
        return one(spec, frame) * (spec.experts - spec.top_k)

    def operations(self, spec: MlpSpec, frame: Frame, call: Call) -> Iterator[Row]:
        new, width, experts, each = call.new, frame.width, spec.experts, spec.top_k
        used = min(experts, each * new * call.batch)  # experts whose weights the batch reads
        yield Row("router", 2 * new * width * experts, width * experts, new * (width + experts), 12)
        yield Row("route", 0, 0, 4 * each * new * width, 4)
        yield from passes(spec, frame, new, each, used)

    def peak_values(self, spec: MlpSpec, frame: Frame, call: Call) -> int:
        tokens, k = call.batch * call.new, spec.top_k
        flow = tokens * frame.width
        return max(4 * k * flow + flow, 2 * k * flow + tokens * k * spec.inside // spec.experts)

    def saved_values(self, spec: MlpSpec, frame: Frame, batch: int, length: int) -> int:
        return batch * length * (spec.kept * spec.top_k + 2 * spec.top_k * frame.width)

    def undone_values(self, spec: MlpSpec, frame: Frame, batch: int, length: int) -> int:
        return batch * length * (spec.wide + 2 * spec.hidden) * spec.top_k

    def slices(self, spec: MlpSpec, frame: Frame, bank: str, prefix: str) -> Iterator[Cut]:
        experts, hidden, width = spec.experts, spec.hidden, frame.width
        names = ("gate", "up") if spec.gated else ("up",)

        def joined(name: str, end: str, sizes: tuple[int, ...]) -> Cut:
            pieces = tuple(Piece(f"{bank}/{part}{end}", sizes) for part in names)
            return Cut(f"{prefix}{name}", pieces, (sizes,) * len(names), 1)

        yield plain(f"{prefix}router.weight", f"{bank}/router", (experts, width))
        yield joined("up", "", (experts, hidden, width))
        yield plain(f"{prefix}out", f"{bank}/out", (experts, width, hidden))
        if frame.bias:
            yield joined("up_bias", "_bias", (experts, hidden))
            yield plain(f"{prefix}out_bias", f"{bank}/out_bias", (experts, width))

    def apart(self, spec: MlpSpec, frame: Frame) -> Mapping[str, object]:
        return values_apart(spec, frame)

    def units(self, spec: MlpSpec, frame: Frame) -> Mapping[str, int]:
        return {"experts": spec.experts}

    def with_units(self, spec: MlpSpec, frame: Frame, kind: str, count: int) -> Mapping[str, Primitive]:
        divided = spec.top_k > 1 if spec.renormalise is None else spec.renormalise
        more = {"experts": count, "top_k": min(spec.top_k, count), "renormalise": divided}
        return {**fields_of(spec, frame), **more}

    def label(self, spec: MlpSpec, frame: Frame) -> str:
        divided = {None: "", True: "r", False: "p"}[spec.renormalise]
        return f"m{spec.experts}.{spec.top_k}{divided}{ratio_of(spec, frame)}"

    def drawn(self, spec: MlpSpec, frame: Frame) -> Drawn:
        return Drawn(f"{counted(spec.experts, 'expert')}, {spec.top_k} per token", shape_of(spec, frame), "#862e9c")

    def stock_part(self, spec: MlpSpec, frame: Frame) -> StockPart:
        return StockPart(mlp=spec)

    def module(self, spec: MlpSpec, frame: Frame) -> nn.Module:
        from nas_bo.model.layers.moe import Mixture

        return Mixture(spec, frame.width, frame.bias)


BLOCK = MoeBlock()
