"""A device as plain data: what it can do per second, what it holds, what it spends. Every model of this room reads it.

A device is written by hand (TOML or JSON), taken from the table that is shipped, or measured where the program runs::

    Device.load("pi5.toml")      Device.named("h100")      Device.here()

A figure that nobody knows is None (or not in its mapping), and a model that needs it says so. Loads no torch.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import tomli_w

from nas_bo.errors import DeviceError, near
from nas_bo.foreign_document import reading, text_of
from nas_bo.hardware.workload import BYTES
from nas_bo.model.blocks.skip import SKIP
from nas_bo.model.blocks.table import known
from nas_bo.validated import Check, check_fields, checked, must, number, one_of

SCHEMA = 1  # version of the file
KINDS = ("gpu", "cpu", "npu")
FIGURES = ("gflops", "gbytes", "memory_bytes", "cache_bytes", "overhead_us", "pj_per_flop", "pj_per_byte", "idle_watts")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")
_BY_TYPE = ("gflops", "pj_per_flop")
_PRICES = ("pj_per_flop", "pj_per_byte", "idle_watts")  # which no benchmark of nas_bo finds out

LEAVE_OUT = "leave it out when it is not known"
FIGURE = number(above=0).advise(LEAVE_OUT)
OR_NOTHING = number(at_least=0).or_none().advise(LEAVE_OUT)
SIZE = Check(
    "a whole number of bytes above 0",
    lambda value: value is None or (isinstance(value, (int, float)) and FIGURE.holds(value) and value == int(value)),
    LEAVE_OUT,
)
TEXT = Check("text", lambda value: isinstance(value, str))


def blocks() -> list[str]:
    """Kinds of blocks that a device may support or not, your own among them."""
    return sorted(known().keys() - {SKIP.kind})


@dataclass(frozen=True)
class Device:
    """What a device can do. Figures are None where they are not known.

    Args:
        name: short, of letters, digits, "-", "_" and "."; it becomes a part of the names of objectives.
        kind: "gpu", "cpu" or "npu".
        title: what people call it.
        gflops: arithmetic at its peak, 1e9 FLOP/s by data type, dense (a multiply-add is two).
        gbytes: memory bandwidth, 1e9 bytes/s.
        memory_bytes: what models and their caches must fit into.
        cache_bytes: the last level of cache.
        overhead_us: microseconds that starting one operation costs, whatever its size.
        pj_per_flop, pj_per_byte: energy of arithmetic by data type, and of moving a byte from memory, 1e-12 J.
        idle_watts: what it draws when it does nothing.
        operations: the kinds of blocks that run on it; None is all.
        sources: where each figure is from, by its name (``gflops.int8`` for that of one data type).

    Raises:
        DeviceError: a field has an impossible value.
    """

    name: str
    kind: Literal["gpu", "cpu", "npu"] = field(metadata=must(one_of(*KINDS).advise(f"there are {', '.join(KINDS)}")))
    title: str = checked("", TEXT)
    gflops: Mapping[str, float] = field(default_factory=dict)
    gbytes: float | None = checked(None, FIGURE.or_none())
    memory_bytes: int | None = checked(None, SIZE)
    cache_bytes: int | None = checked(None, SIZE)
    overhead_us: float | None = checked(None, OR_NOTHING)
    pj_per_flop: Mapping[str, float] = field(default_factory=dict)
    pj_per_byte: float | None = checked(None, FIGURE.or_none())
    idle_watts: float | None = checked(None, OR_NOTHING)
    operations: tuple[str, ...] | None = None
    sources: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise DeviceError(
                f"a device is named {self.name!r}; a name has letters, digits, '-', '_' and '.' and begins with a letter "
                'or digit, such as "pi5"'
            )
        check_fields(self, DeviceError, f"the device {self.name!r} ")
        for name in ("memory_bytes", "cache_bytes"):
            if (value := vars(self)[name]) is not None:
                object.__setattr__(self, name, int(value))
        for name in _BY_TYPE:
            object.__setattr__(self, name, self._by_type(name, vars(self)[name]))
        object.__setattr__(self, "operations", self._blocks(self.operations))
        object.__setattr__(self, "sources", self._cited(self.sources))

    def __hash__(self) -> int:
        return hash((self.name, self.kind))

    # ---- figures --------------------------------------------------------------------------------------------------

    def figure(self, name: str, dtype: str | None = None, use: str = "this model") -> float:
        """The figure of that name (and data type, for those that have one).

        Raises:
            DeviceError: it is not known; the message says what to do.
        """
        value = vars(self)[name]
        other = "take a device that has it" if name in _PRICES else "measure it there with Device.here()"
        if name in _BY_TYPE:
            if dtype in value:
                return float(value[dtype])
            has = f"it has {', '.join(value)}" if value else "it has none"
            raise DeviceError(
                f"the device {self.name!r} has no {name} for {dtype}, which {use} needs ({has}); choose a data type that it "
                f"has, write the figure into its file ([{name}], {dtype} = ...), or {other}"
            )
        if value is None:
            raise DeviceError(
                f"the device {self.name!r} has no {name}, which {use} needs; write the figure into its file "
                f"({name} = ...), or {other}"
            )
        return float(value)

    def supports(self, kind: str) -> bool:
        """Whether blocks of that kind run on it."""
        return self.operations is None or kind == SKIP.kind or kind in self.operations

    def known(self) -> dict[str, float]:
        """Every figure that is known, by the name that `sources` uses."""
        found: dict[str, float] = {}
        for name in FIGURES:
            value = vars(self)[name]
            if isinstance(value, Mapping):
                found |= {f"{name}.{dtype}": float(one) for dtype, one in value.items()}
            elif value is not None:
                found[name] = value
        return found

    def source(self, figure: str) -> str | None:
        """Where a figure (as `known` names it) is from."""
        return self.sources.get(figure, self.sources.get(figure.partition(".")[0]))

    # ---- files ----------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain data; what is not known is left out."""
        made: dict[str, object] = {"schema": SCHEMA}
        for item in fields(self):
            value = vars(self)[item.name]
            if value is None or value in ("", {}):
                continue
            made[item.name] = dict(value) if isinstance(value, Mapping) else value
        if self.operations is not None:
            made["operations"] = list(self.operations)
        return made

    @classmethod
    @reading("the description of a device", DeviceError)
    def from_dict(cls, data: Mapping[str, Any], where: str = "the device") -> Device:
        """A device from plain data.

        Raises:
            DeviceError: a field is missing, unknown or impossible, or the data is of a later version.
        """
        if not isinstance(data, Mapping):
            raise DeviceError(
                f"{where} is {data!r:.60}; a device is a table of fields (name, kind, gflops, gbytes, ...)"
            )
        schema = data.get("schema", SCHEMA)
        if schema != SCHEMA:
            raise DeviceError(
                f"{where} has schema={schema!r}, and this version reads {SCHEMA}; install the version it is of"
            )
        names = [item.name for item in fields(cls)]
        for key in data:
            if key not in names and key != "schema":
                raise DeviceError(
                    f"{where} has an unknown field {key!r}{near(key, names)}; a device has {', '.join(names)}"
                )
        for key in ("name", "kind"):
            if key not in data:
                raise DeviceError(f"{where} has no {key}; every device needs a name and a kind ({', '.join(KINDS)})")
        return cls(**{key: value for key, value in data.items() if key != "schema"})

    @classmethod
    @reading("the file of a device", DeviceError)
    def load(cls, path: str | PathLike[str]) -> Device:
        """A device from a .toml or .json file.

        Raises:
            DeviceError: there is no such file, it cannot be read, or it describes no device.
        """
        where = Path(path)
        try:
            text = text_of(where)
        except (OSError, UnicodeDecodeError) as error:
            raise DeviceError(
                f"the device file {str(where)!r} cannot be read ({error}); give a .toml or .json file"
            ) from error
        try:
            data = json.loads(text) if where.suffix.lower() == ".json" else tomllib.loads(text)
        except ValueError as error:
            raise DeviceError(
                f"the device file {str(where)!r} is not a {where.suffix or '.toml'} file: {error}"
            ) from error
        return cls.from_dict(data, f"the device file {str(where)!r}")

    def save(self, path: str | PathLike[str]) -> Path:
        """Write it as .toml or .json, which the name decides; the path is returned.

        Raises:
            DeviceError: the file cannot be written.
        """
        where, data = Path(path), self.to_dict()
        text = json.dumps(data, indent=1) + "\n" if where.suffix.lower() == ".json" else tomli_w.dumps(data)
        try:
            where.write_text(text, encoding="utf-8")
        except OSError as error:
            raise DeviceError(
                f"the device file {str(where)!r} cannot be written ({error}); choose another place"
            ) from error
        return where

    @classmethod
    def named(cls, name: str) -> Device:
        """A device of the table (`Device.names`).

        Raises:
            DeviceError: it is not in the table; the message has the nearest names.
        """
        wanted = re.sub(r"[\s_]+", "-", str(name).strip().lower())
        known = cls.names()
        if wanted not in known:
            hint = near(wanted, known, 3, 0.5)
            raise DeviceError(
                f"there is no device {name!r} in the table{hint}; there are {', '.join(known)}. For another one give the "
                "path of a file of your own, or measure it there with `nas-bo devices --here` (from Python Device.here())"
            )
        text = (resources.files(__package__) / f"{wanted}.toml").read_text(encoding="utf-8")
        return cls.from_dict(tomllib.loads(text), f"the device {wanted!r} of the table")

    @classmethod
    def names(cls) -> list[str]:
        """The devices of the table."""
        folder = resources.files(__package__)
        return sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))

    @classmethod
    def here(cls, device: str | None = None, threads: int = 1, seconds: float = 0.3) -> Device:
        """This machine, measured by small benchmarks; see `nas_bo.hardware.devices.benchmark`.

        Args:
            device: a torch device; None is CUDA where there is one, else the CPU.
            threads: of a CPU. With one, the clock is the processor time of the thread.
            seconds: of each benchmark, roughly.

        Raises:
            ObjectiveError: the device is named but not there, or neither a CPU nor CUDA.
            DeviceError: `threads` or `seconds` is impossible.
        """
        from nas_bo.hardware.devices.benchmark import benchmark

        return cls(**benchmark(device, threads, seconds))

    # ---- checks ---------------------------------------------------------------------------------------------------

    def _wrong(self, name: str, value: object, what: str) -> DeviceError:
        return DeviceError(f"the device {self.name!r} has {name}={value!r:.60}; it must be {what}")

    def _by_type(self, name: str, given: object) -> dict[str, float]:
        if not isinstance(given, Mapping):
            raise self._wrong(name, given, "a table by data type, such as { float32 = 60 }")
        for dtype, value in given.items():
            if dtype not in BYTES:
                raise DeviceError(
                    f"the device {self.name!r} has {name} for {dtype!r}; data types are {', '.join(BYTES)}"
                )
            if not FIGURE.holds(value):
                raise self._wrong(
                    f"{name}.{dtype}", value, "a finite number above 0; leave it out when it is not known"
                )
        return {dtype: float(value) for dtype, value in given.items()}

    def _blocks(self, given: object) -> tuple[str, ...] | None:
        if given is None:
            return None
        if isinstance(given, str) or not isinstance(given, (list, tuple)):
            raise self._wrong(
                "operations", given, f"a list of kinds of blocks ({', '.join(blocks())}), or left out for all"
            )
        for kind in given:
            if kind not in blocks():
                raise DeviceError(
                    f"the device {self.name!r} supports an operation {kind!r} that no block has; there are {', '.join(blocks())}"
                )
        return tuple(given)

    def _cited(self, given: object) -> dict[str, str]:
        if not isinstance(given, Mapping):
            raise self._wrong("sources", given, 'a table from figures to texts, such as { gbytes = "data sheet" }')
        for name, text in given.items():
            if name.partition(".")[0] not in (*FIGURES, "operations"):
                raise DeviceError(
                    f"the device {self.name!r} gives a source for {name!r}, which is not a figure; there are {', '.join(FIGURES)}"
                )
            if not isinstance(text, str) or not text.strip():
                raise self._wrong(f"sources.{name}", text, "a text that says where the figure is from")
        return dict(given)
