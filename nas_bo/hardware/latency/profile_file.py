"""The rows of a profile's file: measurements and measured parts, to plain data and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nas_bo.architecture import Architecture
from nas_bo.errors import ProfileError
from nas_bo.hardware.measuring.measurement import Measurement
from nas_bo.hardware.workload import Part, Setting
from nas_bo.model.blocks.details import Details
from nas_bo.model.blocks.table import known, unknown
from nas_bo.model.spec import LayerSpec
from nas_bo.wording import plural


@dataclass(frozen=True)
class Record:
    """One architecture measured in one setting (its number in the profile)."""

    arch: Architecture
    setting: int
    measurement: Measurement

    def to_dict(self) -> dict[str, object]:
        m = self.measurement
        return {
            "architecture": self.arch.id,
            "setting": self.setting,
            "ms": m.median_ms,
            "low": m.low_ms,
            "high": m.high_ms if m.high_ms < math.inf else None,
            "spread": round(m.spread, 5),
            "repeats": m.repeats,
            "settled": m.settled,
            "wall_ratio": round(m.wall_ratio, 4),
            "clock": m.clock,
        }


def read_records(
    rows: Sequence[Mapping[str, Any]], archs: Mapping[str, Architecture], settings: int, where: str
) -> tuple[Record, ...]:
    """Records from plain data (raises ProfileError for a time that is none)."""
    found = []
    for row in rows:
        ms = row["ms"]
        if isinstance(ms, bool) or not isinstance(ms, (int, float)) or not 0 < ms < math.inf:
            raise ProfileError(
                f"{where} says that {row['architecture']} takes {ms!r} ms; every time is a finite number above 0: leave the row "
                "out, or profile again"
            )
        if not 0 <= row["setting"] < settings:
            raise ProfileError(f"{where} has a time for setting {row['setting']}, of {settings}; profile again")
        high = math.inf if row["high"] is None else row["high"]
        measurement = Measurement(
            ms, row["low"], high, row["spread"], row["repeats"], row["settled"], row["wall_ratio"], row["clock"], ""
        )
        found.append(Record(archs[row["architecture"]], row["setting"], measurement))
    return tuple(found)


def blocks_to(table: Mapping[Part, float]) -> list[dict[str, object]]:
    return [
        {
            **{
                name: value
                for name, value in part._asdict().items()
                if name not in ("finer", "after") or value is not None
            },
            "layer": None if part.layer is None else [list(part.layer.mixer), list(part.layer.mlp)],
            "ms": ms,
        }
        for part, ms in table.items()
    ]


def blocks_from(rows: Sequence[Mapping[str, Any]]) -> dict[Part, float]:
    found = {}
    for row in rows:
        fields = {**row}
        ms, layer = float(fields.pop("ms")), fields.pop("layer")
        made = None if layer is None else LayerSpec(*map(_spec_from, layer))
        more = fields.pop("finer", None)
        found[Part(layer=made, finer=None if more is None else Details(*more), **fields)] = ms
    return found


def _spec_from(values: Sequence[Any]) -> object:
    """A block after checking, from its plain values. Fields that it has gained since are at their default."""
    block = known().get(values[0])
    if block is None:
        raise unknown("block", values[0])
    return block.Spec(*values)


def described(setting: Setting) -> str:
    """A setting in words."""
    what = "one token after" if setting.phase == "decode" else "prefill of"
    logits = ", logits of all tokens" if setting.logits == "all" else ""
    return f"{what} {setting.batch} x {setting.context} {plural(setting.context, 'token')}, {setting.dtype}, vocabulary {setting.vocab_size}{logits}"
