"""What mixers have in common that are `heads` heads of `head_dim` values each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from nas_bo.architecture import Primitive
from nas_bo.model.blocks.attention import narrow_head, widened_heads
from nas_bo.model.blocks.block import Frame
from nas_bo.model.blocks.details import Default


class HeadsSpec(Protocol):
    @property
    def heads(self) -> int: ...

    def _asdict(self) -> Mapping[str, Primitive]: ...


class OfHeads:
    """A block whose heads are the units that can be removed; all its fields may get weights of their own."""

    fields: Mapping[str, Default]

    def narrowed(self, fields: Mapping[str, object], width: int, narrow: int) -> dict[str, object]:
        return {**fields, "head_dim": narrow_head(fields, width, narrow)}

    def widened(self, fields: Mapping[str, object], width: int, wide: int) -> dict[str, object]:
        return widened_heads(fields, width, wide)

    def apart(self, spec: HeadsSpec, frame: Frame) -> Mapping[str, object]:
        return spec._asdict()

    def units(self, spec: HeadsSpec, frame: Frame) -> Mapping[str, int]:
        return {"heads": spec.heads}

    def with_units(self, spec: HeadsSpec, frame: Frame, kind: str, count: int) -> Mapping[str, Primitive]:
        return {**{name: value for name, value in spec._asdict().items() if name in self.fields}, "heads": count}
