"""No block at all: the layer has no mixer, or no MLP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from nas_bo.errors import ModelError
from nas_bo.model.blocks.block import Call, Drawn, Frame, Row, Slot
from nas_bo.model.blocks.cuts import Cut
from nas_bo.model.blocks.details import Default

if TYPE_CHECKING:
    from torch import nn


class SkipSpec(NamedTuple):
    kind: str


SKIP = SkipSpec("skip")


def absent(spec: Any) -> bool:
    """Whether nothing is there: no module, no norm before it."""
    return bool(spec.kind == "skip")


class SkipBlock:
    kind = "skip"
    slots: tuple[Slot, ...] = ("mixer", "mlp")
    fields: Mapping[str, Default] = {}
    Spec = SkipSpec

    def check(self, fields: Mapping[str, object], frame: Frame) -> SkipSpec:
        return SKIP

    def parameters(self, spec: SkipSpec, frame: Frame) -> int:
        return 0

    def operations(self, spec: SkipSpec, frame: Frame, call: Call) -> tuple[Row, ...]:
        return ()

    def state_values(self, spec: SkipSpec, frame: Frame, context: int) -> int:
        return 0

    def peak_values(self, spec: SkipSpec, frame: Frame, call: Call) -> int:
        return 0

    def saved_values(self, spec: SkipSpec, frame: Frame, batch: int, length: int) -> int:
        return 0

    def undone_values(self, spec: SkipSpec, frame: Frame, batch: int, length: int) -> int:
        return 0

    def slices(self, spec: SkipSpec, frame: Frame, bank: str, prefix: str) -> tuple[Cut, ...]:
        return ()

    def apart(self, spec: SkipSpec, frame: Frame) -> Mapping[str, object]:
        return spec._asdict()

    def label(self, spec: SkipSpec, frame: Frame) -> str:
        return "-"

    def drawn(self, spec: SkipSpec, frame: Frame) -> Drawn:
        return Drawn("", "", "#b4bcc7")

    def module(self, spec: SkipSpec, frame: Frame) -> nn.Module:
        raise ModelError("a skip has no module; please report this")


BLOCK = SkipBlock()
