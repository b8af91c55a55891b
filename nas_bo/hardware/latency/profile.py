"""A profile: what was measured on one device with one runtime, in a file that answers for that device anywhere.

It is plain JSON: the device, the runtime and its versions, the space, every measurement with its interval, the drift
that was divided out, and how well each latency model did on architectures that it was not fitted to. Models are fitted
again when asked for, which takes a second. Loads no torch.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nas_bo import temporary
from nas_bo.architecture import Architecture
from nas_bo.errors import NasBoError, ProfileError
from nas_bo.foreign_document import reading, text_of
from nas_bo.hardware.devices.device import Device
from nas_bo.hardware.latency.measured import Measured
from nas_bo.hardware.latency.model import LatencyModel
from nas_bo.hardware.latency.profile_file import Record, blocks_from, blocks_to, described, read_records
from nas_bo.hardware.measuring.drift import Drift
from nas_bo.hardware.workload import Part, Setting
from nas_bo.space.space import Space
from nas_bo.wording import counted

if TYPE_CHECKING:
    from nas_bo.hardware.latency.learned import Learned
    from nas_bo.hardware.latency.lookup import Lookup
    from nas_bo.hardware.latency.roofline import Roofline
    from nas_bo.hardware.latency.roofline_model import RooflineModel

SCHEMA = 2  # version of the file
READ = (1, 2)  # in version 1 a prefill made the logits of all tokens
KINDS = ("learned", "roofline", "lookup", "measured")
Kind = Literal["learned", "roofline", "lookup", "measured"]
_log = logging.getLogger(__name__)
_NEEDED = ("device", "runtime", "space", "settings", "architectures", "measured")


@dataclass(frozen=True)
class Quality:
    """How well a model predicts architectures that it was not fitted to (cross-validation over the measured ones).

    Attributes:
        setting: number of the setting in the profile.
        model: "learned", "roofline", "lookup", or what is next to them: "flops", "parameters".
        architectures: how many were predicted.
        mape_percent: mean absolute error.
        tau: Kendall's rank correlation.
        inside: share of measurements inside the model's 90 % intervals; None where it has none.
    """

    setting: int
    model: str
    architectures: int
    mape_percent: float
    tau: float
    inside: float | None = None


@dataclass(frozen=True)
class Profile:
    """What `nas-bo profile` found out. See the module.

    Attributes:
        device: what was measured on.
        runtime: the name of what ran the models; `conditions` are its versions and settings.
        space, fingerprint_of_space: the title of the space, and what its profile is bound to (`space_mark`).
        settings: what was run, in the order in which records refer to them.
        records: measurements, one per architecture and setting.
        unsupported: (id of the architecture, number of the setting, reason) of what the runtime could not run.
        drift: what was divided out.
        quality: of the models, cross-validated.
        tables: by number of the setting, measured times of single parts, for lookup models.
        about: clock, versions, date, seconds that it took.
    """

    device: Device
    runtime: str
    space: str
    fingerprint_of_space: str
    settings: tuple[Setting, ...]
    records: tuple[Record, ...]
    unsupported: tuple[tuple[str, int, str], ...] = ()
    drift: Drift = field(default_factory=lambda: Drift((), ()))
    quality: tuple[Quality, ...] = ()
    tables: Mapping[int, Mapping[Part, float]] = field(default_factory=dict)
    conditions: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    # ---- models ---------------------------------------------------------------------------------------------------

    def model(self, setting: Setting | None = None, kind: Kind = "learned") -> LatencyModel:
        """A latency model of this device, fitted to what was measured.

        Args:
            setting: what is to be predicted; None is the first that was measured.
            kind: "learned" corrects the device's roofline; "roofline" is it with scale and overhead fitted; "lookup" adds
                up measured parts; "measured" answers for what was measured only.

        Raises:
            ProfileError: nothing was measured in that setting, or there is no such model.
            ObjectiveError: too little was measured.
        """
        if kind not in KINDS:
            raise ProfileError(f"model kind {kind!r}: it is one of {', '.join(KINDS)}")
        made = self._made(self._number(setting), kind)
        made.of_space = OfSpace(self.device.name, self.space, self.fingerprint_of_space)
        made.fingerprint = self.fingerprint
        return made

    def _made(self, at: int, kind: Kind) -> Measured | Lookup | RooflineModel | Learned:
        from nas_bo.hardware.latency.learned import Learned
        from nas_bo.hardware.latency.lookup import Lookup
        from nas_bo.hardware.latency.roofline_model import RooflineModel

        has, device, runtime = self.settings[at], self.device.name, self.runtime
        archs, times = self.measured(has)
        if kind == "measured":
            known = {r.arch: r.measurement for r in self.records if r.setting == at}
            return Measured(has, known, device=device, runtime=runtime)
        if kind == "lookup":
            if at not in self.tables:
                raise ProfileError(
                    f"the profile of {self.device.name!r} has no table of parts for {described(has)}; profile it with --lookup, "
                    "or use the learned model, which needs none"
                )
            return Lookup(self.tables[at], has, device=device, runtime=runtime).fit(archs, times)
        base = self._roofline(has)
        if kind == "roofline":
            return RooflineModel(base, has, device=device, runtime=runtime).fit(archs, times)
        return Learned(base, has, archs, times, device=device, runtime=runtime)

    def measured(self, setting: Setting | None = None) -> tuple[list[Architecture], list[float]]:
        """Architectures and milliseconds in one setting."""
        at = self._number(setting)
        rows = [r for r in self.records if r.setting == at]
        return [r.arch for r in rows], [r.measurement.median_ms for r in rows]

    def _roofline(self, setting: Setting) -> Device | Roofline:
        from nas_bo.hardware.latency.roofline import Roofline

        known = self.device.gflops.get(setting.dtype) is not None and self.device.gbytes is not None
        return self.device if known else Roofline()  # a learned model corrects a wrong beginning

    def _number(self, setting: Setting | None) -> int:
        if setting is None:
            return 0
        asked = _sizes(setting)
        for at, has in enumerate(self.settings):
            if _sizes(has) == asked:
                return at
        if setting.logits == "last":
            for at, has in enumerate(self.settings):
                if has.logits == "all" and _sizes(replace(has, logits="last")) == asked:
                    _log.warning(
                        "the profile of %r was made before nas_bo 0.2, which made the logits of all tokens in a prefill: its times of %s are longer than those "
                        "of a prefill that makes the last token's alone; profile the device again",
                        self.device.name,
                        described(has),
                    )
                    return at
        if setting.dtype not in {s.dtype for s in self.settings}:
            of = ", ".join(sorted({s.dtype for s in self.settings}))
            raise ProfileError(
                f"the profile of {self.device.name!r} is of the data type {of}, asked for is {setting.dtype}; profile again with "
                f"--dtype {setting.dtype}, or ask for {of}"
            )
        raise ProfileError(
            f"the profile of {self.device.name!r} has nothing for {described(setting)}; it has "
            f"{'; '.join(described(s) for s in self.settings)}; ask for one of these, or profile again with --phase "
            f"{setting.phase} --batch {setting.batch} --context {setting.context} --vocab-size {setting.vocab_size}"
        )

    # ---- what it is for -------------------------------------------------------------------------------------------

    def check(self, space: type[Space] | None = None, runtime: str | None = None, dtype: str | None = None) -> Profile:
        """This profile, if it is of that space, runtime and data type.

        Raises:
            ProfileError: it is of another; the message says which and what to do.
        """
        what = f"the profile of {self.device.name!r} is"
        if space is not None:
            OfSpace(self.device.name, self.space, self.fingerprint_of_space).check(space)
        if runtime is not None and runtime != self.runtime:
            raise ProfileError(
                f"{what} of the runtime {self.runtime!r}, asked for is {runtime!r}; profile again with --runtime {runtime}"
            )
        if dtype is not None and dtype not in {s.dtype for s in self.settings}:
            self._number(Setting(dtype=dtype))
        return self

    @property
    def fingerprint(self) -> str:
        """12 digits that differ when what was measured does."""
        return hashlib.sha256(json.dumps(self._core(), sort_keys=True).encode()).hexdigest()[:12]

    # ---- files ----------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain data; `from_dict` is its inverse."""
        archs = {r.arch.id: r.arch for r in self.records}
        return {
            "profile": SCHEMA,
            "device": self.device.to_dict(),
            "runtime": self.runtime,
            "conditions": dict(self.conditions),
            "space": {"title": self.space, "mark": self.fingerprint_of_space},
            **dict(self.about),
            **self._core(),
            "unsupported": [list(row) for row in self.unsupported],
            "drift": {"factors": [round(f, 5) for f in self.drift.factors], "sessions": list(self.drift.sessions)},
            "quality": [vars(q) for q in self.quality],
            "tables": {str(at): blocks_to(table) for at, table in self.tables.items()},
            "architectures": {key: arch.to_dict() for key, arch in archs.items()},
        }

    def _core(self) -> dict[str, object]:
        return {
            "settings": [_plain(s) for s in self.settings],
            "measured": [r.to_dict() for r in self.records],
        }

    @classmethod
    @reading("the profile of a device", ProfileError)
    def from_dict(cls, data: object, where: str = "the profile") -> Profile:
        """A profile from plain data.

        Raises:
            ProfileError: it is not a profile, of another version, or a part of it is wrong.
        """
        if not isinstance(data, Mapping) or "profile" not in data:
            raise ProfileError(f"{where} is not a profile of a device; `nas-bo profile` writes one")
        if data["profile"] not in READ:
            raise ProfileError(
                f"{where} has version {data['profile']!r}, and this nas_bo reads {' and '.join(map(str, READ))}; profile the device again, or install "
                "the nas_bo that wrote it"
            )
        missing = [name for name in _NEEDED if name not in data]
        if missing:
            raise ProfileError(f"{where} has no {missing[0]!r}: the file is cut off or was edited; profile again")
        try:
            settings = tuple(Setting(**{"logits": "all", **s, "ignore": tuple(s["ignore"])}) for s in data["settings"])
            archs = {key: Architecture.from_dict(one) for key, one in data["architectures"].items()}
            drift = data.get("drift", {})
            about = ("made", "seconds", "clock", "versions", "anchors")
            return cls(
                device=Device.from_dict(data["device"], f"the device in {where}"),
                runtime=data["runtime"],
                space=data["space"]["title"],
                fingerprint_of_space=data["space"]["mark"],
                settings=settings,
                records=read_records(data["measured"], archs, len(settings), where),
                unsupported=tuple((str(a), int(s), str(why)) for a, s, why in data.get("unsupported", ())),
                drift=Drift(tuple(drift.get("factors", ())), tuple(drift.get("sessions", ()))),
                quality=tuple(Quality(**q) for q in data.get("quality", ())),
                tables={int(at): blocks_from(rows) for at, rows in data.get("tables", {}).items()},
                conditions=data.get("conditions", {}),
                about={name: data[name] for name in about if name in data},
            )
        except ProfileError:
            raise
        except NasBoError as error:
            raise ProfileError(f"{where} is wrong: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ProfileError(
                f"{where} cannot be read ({type(error).__name__}: {error}): the file was edited; profile again"
            ) from error

    @classmethod
    @reading("the profile of a device", ProfileError)
    def load(cls, path: str | PathLike[str]) -> Profile:
        """A profile from its file (raises ProfileError)."""
        where = Path(path)
        try:
            data = json.loads(text_of(where))
        except (OSError, UnicodeDecodeError) as error:
            raise ProfileError(
                f"the profile {str(where)!r} cannot be read ({error}); give the file that `nas-bo profile` wrote"
            ) from error
        except ValueError as error:
            raise ProfileError(f"the profile {str(where)!r} is not JSON ({error}); profile again") from error
        return cls.from_dict(data, f"the profile {str(where)!r}")

    def save(self, path: str | PathLike[str]) -> Path:
        """Write it; the file is there whole or not at all (raises ProfileError)."""
        where = Path(path)
        try:
            with temporary.whole(where) as draft:
                draft.write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise ProfileError(
                f"the profile {str(where)!r} cannot be written ({error.strerror}); choose another place"
            ) from error
        return where

    def __str__(self) -> str:
        return "\n".join(_lines(self))


@dataclass(frozen=True)
class OfSpace:
    """The space that a model of a profile is of; goes with the model to wherever it is used."""

    device: str
    title: str
    mark: str

    def check(self, space: type[Space]) -> None:
        """Raise ProfileError for another space."""
        if space_mark(space) != self.mark:
            raise ProfileError(
                f"the profile of {self.device!r} is of the space {self.title!r} (mark {self.mark}), asked for is "
                f"{space.title!r} (mark {space_mark(space)}): its models have not seen these layers; run `nas-bo profile` for "
                "that space"
            )


def space_mark(space: type[Space]) -> str:
    """16 digits of the layers that a space can have: its choices, without title and rules, which only leave some out."""
    data = {k: v for k, v in space.to_dict().items() if k not in ("title", "rules")}
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def _sizes(setting: Setting) -> tuple[object, ...]:
    return setting.phase, setting.batch, setting.context, setting.dtype, setting.vocab_size, setting.logits


def _plain(setting: Setting) -> dict[str, object]:
    """A setting as version 1 wrote it, and that the logits are those of the last token where they are, of a prefill."""
    found = {**vars(setting), "ignore": list(setting.ignore)}
    if setting.phase == "decode" or setting.logits == "all":
        del found["logits"]
    return found


def _lines(profile: Profile) -> Sequence[str]:
    title = profile.device.title or profile.device.name
    lines = [f"{title}, {profile.runtime}, space {profile.space}: {profile.about.get('clock', '')}".rstrip(": ")]
    for at, setting in enumerate(profile.settings):
        rows = [r.measurement for r in profile.records if r.setting == at]
        loose = sum(not m.settled for m in rows)
        span = f", {min(m.median_ms for m in rows):.3g} to {max(m.median_ms for m in rows):.3g} ms" if rows else ""
        lines.append(f"\n{described(setting)}: {counted(len(rows), 'architecture')} measured{span}")
        if loose:
            widest = max((m.high_ms - m.low_ms) / 2 / m.median_ms for m in rows)
            lines.append(
                f"  {loose} did not settle; the widest interval is +-{widest:.0%}"
                if widest < math.inf
                else f"  {loose} did not settle"
            )
        refused = [why for _, s, why in profile.unsupported if s == at]
        if refused:
            lines.append(f"  {len(refused)} cannot run there: {refused[0]}")
        table = [q for q in profile.quality if q.setting == at]
        if table:
            lines.append(f"  {'on held-out architectures':<28}{'error':>8}{'tau':>8}{'in 90 % interval':>20}")
        for q in table:
            inside = "" if q.inside is None else f"{q.inside:.0%}"
            lines.append(f"  {q.model:<28}{q.mape_percent:>6.1f} %{q.tau:>8.3f}{inside:>20}")
    if profile.drift.rounds:
        lines.append(f"\n{profile.drift}")
    return lines
