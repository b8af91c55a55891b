"""What `device=`, `target=` and `model=` of an objective mean: a torch device to measure on, or latency models of another one."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Protocol, TypeGuard

from nas_bo.architecture import Architecture, names_after
from nas_bo.errors import DeviceError, ObjectiveError
from nas_bo.foreign_document import text_of
from nas_bo.hardware.devices.device import Device
from nas_bo.hardware.latency.model import DeviceProfile, LeastModel, Marked, OnDevice, OnRuntime
from nas_bo.hardware.latency.roofline_model import RooflineModel
from nas_bo.hardware.measuring.clock import check_timed
from nas_bo.hardware.runtimes.eager import DTYPES
from nas_bo.hardware.runtimes.interface import Runtime
from nas_bo.hardware.workload import Setting
from nas_bo.model.own_model import Build
from nas_bo.moved import ENDS
from nas_bo.objective import Value
from nas_bo.space.space import Space
from nas_bo.wording import counted

BOUND = "roofline bound"  # the unit of what no overhead is known for; it is not milliseconds
KINDS = ("roofline", "lookup", "learned", "measured")
_log = logging.getLogger(__name__)
_said: set[str] = set()
_TORCH = re.compile(r"(cpu|cuda|mps|xpu|hpu|mtia|meta)(:\d+)?")


def is_torch_device(device: object) -> TypeGuard[str | None]:
    """Whether it names a device of this machine; None is the best one."""
    return device is None or (isinstance(device, str) and _TORCH.fullmatch(device) is not None)


class Placed(Protocol):
    """An objective with `device`, a torch device of this machine, and `target`, a device that is described."""

    @property
    def device(self) -> object: ...
    @property
    def target(self) -> object: ...


def settle_target(owner: Placed) -> None:
    """Settle `device` and `target` of a frozen dataclass, for ``__post_init__``: a device that is described, given as
    ``device=`` as in version 0.1, becomes the target, with a DeprecationWarning.

    Raises:
        ObjectiveError: both are given, or the target is a torch device.
    """
    kind, device, target = type(owner).__name__, owner.device, owner.target
    if target is not None and device is not None:
        raise ObjectiveError(
            f"{kind}(device={device!r:.60}, target={target!r:.60}): device= is the torch device to measure on, target= the device "
            "to predict for; give one of them"
        )
    if isinstance(target, str) and is_torch_device(target):
        raise ObjectiveError(
            f"{kind}(target={target!r}) is a torch device, to measure on; give it as device=, and as target= a Device, its name or "
            "the path of a device or profile file"
        )
    if not is_torch_device(device):
        warnings.warn(
            f"{kind}(device={device!r:.60}) is {kind}(target=...) since version 0.2: device= is the torch device to measure on; the "
            f"old use ends with version {ENDS}",
            DeprecationWarning,
            stacklevel=4,
        )
        object.__setattr__(owner, "target", device)
        object.__setattr__(owner, "device", None)


def measurable(owner: str, device: str | None, dtype: str) -> None:
    """Raise ObjectiveError for a torch device that nothing is measured on, or a data type that models are not run in."""
    if device is not None:
        check_timed(device)
    if dtype not in DTYPES:
        raise ObjectiveError(
            f"{owner}(dtype={dtype!r}) is measured here, where models run in {', '.join(DTYPES)}; take one of these, or a "
            "prediction for a device whose figures for it are known"
        )


def found_device(device: object) -> Device | DeviceProfile:
    """A `Device` or a profile from one of them, the name of one in the table, or the path of a file.

    Raises:
        DeviceError: it is none of these, or the file is wrong.
        ProfileError: the file is a profile that cannot be read.
    """
    if isinstance(device, (Device, DeviceProfile)):
        return device
    if not isinstance(device, (str, PathLike)):
        raise DeviceError(
            f"device={device!r:.60} is not a device; give a Device, the name of one ({', '.join(Device.names()[:3])}, ...), the "
            "path of a device or profile file, or a torch device such as 'cpu'"
        )
    path = Path(device)
    written = path.suffix.lower() in (".toml", ".json") or len(path.parts) > 1
    if not written and not (isinstance(device, PathLike) or os.path.isfile(path)):
        return Device.named(str(device))
    if path.suffix.lower() == ".json" and os.path.isfile(path):
        try:
            data = json.loads(text_of(path))
        except (OSError, ValueError):
            data = None  # `Device.load` says what is wrong
        if isinstance(data, Mapping) and "kind" not in data:
            return _profile(path)
    return Device.load(path)


def plain_device(device: object) -> Device:
    """The figures of a device, those of a profile's device included (raises DeviceError)."""
    found = found_device(device)
    if isinstance(found, Device):
        return found
    inner = found.device if isinstance(found, DeviceProfile) else None
    if not isinstance(inner, Device):
        raise DeviceError(f"the profile {found!r:.60} describes no device; profile it again, or give the Device itself")
    return inner


@dataclass(frozen=True)
class Timed:
    """Latency models for the phases of an objective, and how often each is run.

    Attributes:
        steps: pairs of a model and how often its phase is run; the latency is the sum.
        device: the name of the device.
        how: which kind of model.
        here: it is measured on this machine, by `runs`.
        bound: it counts arithmetic and traffic only, since nobody knows what starting an operation costs there.
        fingerprint: changes when the figures or measurements behind the models do; None for models of the user's own.
    """

    steps: tuple[tuple[LeastModel, float], ...]
    device: str
    how: str
    fingerprint: str | None
    here: bool = False
    bound: bool = False
    runs: Runtime | None = None

    @property
    def runtime(self) -> str:
        return _runtime(self.steps[0][0])

    def suffix(self) -> str:
        """What distinguishes the names of objectives on this device by this model; of what is measured here, the runtime."""
        if self.here:
            return f".{self.runtime}"
        return f"{'@' + self.device if self.device else ''}.{self.how}"

    def value(self, arch: Architecture) -> Value:
        """The sum, with what is known about it; interval ends are summed, as if all errors went one way."""
        answers = [(model.predict(arch), often) for model, often in self.steps]
        info: dict[str, object] = dict(answers[0][0].info)
        for end in ("low", "high"):
            ends = [(one.info.get(end), often) for one, often in answers]
            known = [float(at) * often for at, often in ends if at is not None]
            info[end] = round(sum(known), 6) if len(known) == len(ends) else None
        return Value(sum(float(one) * often for one, often in answers), **info)


def say_bound(name: str, device: str) -> None:
    """Say once that `name` is not time."""
    if device not in _said:
        _said.add(device)
        _log.warning(
            "%s is a roofline bound, not a time: for %r no figure is known for what starting an operation costs (overhead_us), "
            "and that dominates small models. Read it as a rank. For milliseconds run `nas-bo profile` there and give its file, "
            "or write overhead_us into a device file of your own",
            name,
            device,
        )


def say_as_trained(name: str, space: type[Space]) -> None:
    """Say once that what is done after training does not count in measured times."""
    found = next((path for path in space.decisions() if names_after(path)), None)
    if found is not None and space.title not in _said:
        _said.add(space.title)
        _log.warning(
            "%s is that of weights and caches in its data type: %s of the space %s, and its like, change it only by what they take out "
            "(prune). A roofline for a device counts fewer bits as well: give target=",
            name,
            found,
            space.title,
        )


def timed(owner: str, device: object, model: object, wanted: list[tuple[Setting, float]], runtime: str | None) -> Timed:
    """The models that `device=` and `model=` of the objective `owner` mean.

    Args:
        model: None, a kind (one of `KINDS`), a latency model, or one for each setting.
        wanted: settings, and how often each is run.

    Raises:
        ObjectiveError: it is not a model, is for another setting, or is not available for that device.
        DeviceError, ProfileError: see `found_device`; a figure that the model needs is missing.
    """
    if model is None or isinstance(model, str):
        return _of_device(owner, found_device(device), model, wanted, runtime)
    models: list[LeastModel] = []
    for one in model if isinstance(model, (list, tuple)) else (model,):
        if not isinstance(one, LeastModel):
            raise ObjectiveError(
                f"{owner}(model={one!r:.60}) is not a latency model; give one of {', '.join(KINDS)}, or an object with predict, "
                "setting and how (nas_bo.hardware.latency.model.LatencyModel)"
            )
        models.append(one)
    if len(models) != len(wanted):
        phases = " and ".join(setting.phase for setting, _ in wanted)
        raise ObjectiveError(f"{owner} got {counted(len(models), 'latency model')} and needs one for each of: {phases}")
    for one, (setting, _) in zip(models, wanted, strict=True):
        _agree(owner, one.setting, setting)
        if runtime is not None and _runtime(one) not in ("", runtime):
            raise ObjectiveError(
                f"{owner}(runtime={runtime!r}) got a model of the runtime {_runtime(one)!r}; leave one out"
            )
    first = models[0]
    its = first.device if isinstance(first, OnDevice) else ""
    name = its if device is None else _name(found_device(device))
    steps = tuple((one, often) for one, (_, often) in zip(models, wanted, strict=True))
    marks = [_mark(one) for one in models]
    return Timed(steps, name, first.how, None if None in marks else digest(marks))


def measured_here(
    runtime: str, device: str | None, wanted: list[tuple[Setting, float]], precision: float, max_seconds: float
) -> Timed:
    """Measurements on this machine with another runtime than eager torch.

    Raises:
        ObjectiveError: there is no such runtime, or it does not run on that device.
        MissingExtra: it is not installed.
    """
    from nas_bo.hardware.runtimes import runtime as made

    runs = made(runtime, device)
    return _measuring(runs, wanted, precision, max_seconds, digest(runs.conditions()))


def _measuring(
    runs: Runtime, wanted: list[tuple[Setting, float]], precision: float, max_seconds: float, mark: str | None
) -> Timed:
    from nas_bo.hardware.latency.measured import Measured
    from nas_bo.model.device import named

    steps = tuple(
        (Measured(setting, runtime_here=runs, precision=precision, max_seconds=max_seconds, clock="cpu"), often)
        for setting, often in wanted
    )
    return Timed(steps, named(str(runs.device)), "measured", mark, here=True, runs=runs)


def own_model(
    owner: str, build: Build, device: object, model: object, wanted: list[tuple[Setting, float]], runtime: str | None,
    precision: float, max_seconds: float,
) -> Timed:  # fmt: skip
    """What `device=` and `model=` mean for a model of the user's own: measurements on a torch device, else a roofline of its
    traced operations.

    Raises:
        ObjectiveError: another runtime, or a kind of model that is for the decoder of nas_bo only.
        DeviceError: see `found_device`.
    """
    from nas_bo.hardware.traced import TracedRoofline

    if runtime not in (None, "eager"):
        raise ObjectiveError(
            f"{owner}(build=..., runtime={runtime!r}): models of your own run in eager torch; leave it out"
        )
    here = is_torch_device(device)
    if model not in (None, "measured" if here else "roofline"):
        raise ObjectiveError(
            f"{owner}(build=..., model={model!r:.60}): that model describes the decoder of nas_bo; models of your own are "
            "measured on a torch device, or get a roofline for a device whose figures are known; leave model= out"
        )
    if is_torch_device(device):
        from nas_bo.hardware.runtimes.own_model import OwnModel

        measurable(owner, device, wanted[0][0].dtype)
        return _measuring(OwnModel(build, device), wanted, precision, max_seconds, None)
    figures = found_device(device)
    if not isinstance(figures, Device):
        raise ObjectiveError(
            f"{owner}(build=..., device={device!r:.60}): a profile describes the decoder of nas_bo; give the device itself for a "
            "roofline, or leave target= out to measure here"
        )
    known = {**figures.known(), "operations": figures.operations}
    traces = tuple((TracedRoofline(build, figures, setting), often) for setting, often in wanted)
    return Timed(traces, figures.name, "roofline", digest(known), bound=figures.overhead_us is None)


def digest(data: object) -> str:
    """12 digits of plain data."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _of_device(
    owner: str,
    found: Device | DeviceProfile,
    kind: str | None,
    wanted: list[tuple[Setting, float]],
    runtime: str | None,
) -> Timed:
    if kind is not None and kind not in KINDS:
        raise ObjectiveError(f"{owner}(model={kind!r}): it is one of {', '.join(KINDS)}, or a latency model")
    if isinstance(found, Device):
        if kind not in (None, "roofline"):
            where = "on that machine" if kind == "measured" else "there"
            raise ObjectiveError(
                f"{owner}(target={found.name!r}, model={kind!r}): the figures of a device give a roofline only; run "
                f"`nas-bo profile` {where} and give the file that it writes as target=, or leave model out"
            )
        steps = [(RooflineModel(found, setting, runtime=runtime or ""), often) for setting, often in wanted]
        figures = {**found.known(), "operations": found.operations}
        return Timed(tuple(steps), found.name, "roofline", digest(figures), bound=found.overhead_us is None)
    own = found.runtime if isinstance(found, OnRuntime) else None
    if runtime is not None and own and own != runtime:
        raise ObjectiveError(
            f"{owner}(runtime={runtime!r}): the profile of {_name(found)!r} is of the runtime {own!r}; take that, or "
            "profile the other one"
        )
    models = [(found.model(setting, kind=kind or "learned"), often) for setting, often in wanted]
    return Timed(tuple(models), _name(found), models[0][0].how, _mark(found))


def _runtime(model: object) -> str:
    return model.runtime if isinstance(model, OnRuntime) else ""


def _agree(owner: str, has: Setting, asked: Setting) -> None:
    there, wanted = asdict(has), asdict(asked)
    for field in ("phase", "batch", "context", "dtype", "vocab_size"):
        if there[field] != wanted[field]:
            raise ObjectiveError(
                f"{owner} asks for {field}={wanted[field]!r}, but the model is for {field}="
                f"{there[field]!r}; ask for what it was made for, or measure in the setting that you mean"
            )


def _mark(model: object) -> str | None:
    return model.fingerprint if isinstance(model, Marked) else None


def _name(found: object) -> str:
    inner = found.device if isinstance(found, DeviceProfile) else found
    return inner.name if isinstance(inner, Device) else str(inner)  # of a profile of the user's own it may be anything


def _profile(path: Path) -> DeviceProfile:
    from importlib import import_module

    found: DeviceProfile = import_module("nas_bo.hardware.latency.profile").Profile.load(path)
    return found
