"""A profile of this machine for one space: a learned latency model next to every measurement of a search.

It is what `nas-bo profile` makes, of fewer architectures, on the scale of the machine's anchors, and kept in the user's
cache folder for this machine, space, setting and these versions. A measurement and the model's prediction are two answers
to one question; their mean, weighted by what each does not know, is surer than either.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.errors import ModelError, NasBoError, ProfileError, SearchError
from nas_bo.hardware.latency.profile import Profile, space_mark
from nas_bo.hardware.latency.profile_design import pool
from nas_bo.hardware.measuring import machine
from nas_bo.hardware.measuring.bench import Z90, Bench, Timing, bench
from nas_bo.hardware.measuring.scale import ratio
from nas_bo.hardware.workload import Setting
from nas_bo.space import Space

if TYPE_CHECKING:
    from nas_bo.hardware.latency.model import LatencyModel
    from nas_bo.model.counts import Arch

_log = logging.getLogger(__name__)

ARCHITECTURES = 24
SECONDS = 0.45  # on each
DRAWN = 60  # architectures of the space whose modelled times say which anchors it needs
SCALE = "anchors_ms"  # in the file: what the anchors took when it was made
APART = 3.0  # standard deviations between measurement and model, beyond which the model is not asked
SLACK = 0.02  # what the model's own intervals leave out: they are of one session
LEAST_MODEL = 0.025  # relative standard deviation that a prediction has at least


class Step(Protocol):
    """How far a profile is."""

    @property
    def done(self) -> int: ...
    @property
    def total(self) -> int: ...


Say = Callable[[str, int, int], None]
"""What is done, how much of it is done, and of how much."""
Make = Callable[..., Profile]


def prepare(space: type[Space], setting: Setting, device: str, make: Make | None, say: Say) -> Path | None:
    """See that the anchors of this machine for `space` are known and still hold, and that a profile exists.

    Args:
        make: `nas_bo.profile`, which makes a profile where there is none, in half a second for each of its architectures; None goes without.

    Returns:
        The file of the profile; None without one: the space is not of the decoder of nas_bo, or nothing can be kept.
    """
    machine.usable()
    here = bench(device, setting)
    drawn = pool(space, DRAWN)
    try:
        guide = [_modelled(here, arch, setting) for arch in drawn]
    except ModelError:
        here.check(0.5, 2.0)
        return None
    say("anchors", 0, 1)
    held = here.check(*here.scaled(min(guide), float(np.median(guide))))
    say("anchors", 1, 1)
    facts = {**here.facts, "ignore": list(setting.ignore), "space": space_mark(space)}
    path = machine.path_of("profile", facts)
    if held and _fits(path, here):
        return path
    if make is None or len(drawn) < ARCHITECTURES:
        return None
    try:
        return _made(space, setting, here, path, make, say)
    except (ProfileError, SearchError) as error:
        _log.info("no profile of this machine could be made, so measurements are used alone: %s", error)
        return None


def _modelled(here: Bench, arch: Architecture, setting: Setting) -> float:
    return here.guide.milliseconds(
        arch, setting.vocab_size, setting.phase, setting.context, setting.batch, setting.ignore
    )


def _fits(path: Path, here: Bench) -> bool:
    found = machine.read(path)
    scale = found.get(SCALE)
    if not isinstance(scale, dict):
        return False
    logs = [math.log(here.known.get(int(rung), math.inf) / ms) for rung, ms in scale.items()]
    same = bool(logs) and max(logs) - min(logs) < 1e-3  # what is common to all is divided out (`combined`)
    return same and profile_at(path) is not None


def _made(space: type[Space], setting: Setting, here: Bench, path: Path, make: Make, say: Say) -> Path | None:
    work = path.with_suffix(".making.json")

    def told(progress: Step) -> None:
        say("profile", progress.done, progress.total)

    how: dict[str, object] = {
        "device": here.device, "architectures": ARCHITECTURES, "clock": "cpu", "max_seconds": SECONDS,
        "anchors": here.kept_anchors(), "on_progress": told,
    }  # fmt: skip
    try:
        found = make(space, work, [setting], **how)
    except ProfileError:  # what an interrupted one left behind is of other settings
        work.with_name(work.name + ".part").unlink(missing_ok=True)
        found = make(space, work, [setting], **how)
    work.unlink(missing_ok=True)
    scale = {str(rung): ms for rung, ms in here.known.items()}
    return path if machine.write(path, {**found.to_dict(), SCALE: scale}) else None


def profile_at(path: Path) -> Profile | None:
    """The profile in a file; None where it is gone or damaged."""
    try:
        return _read(path, path.stat().st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=8)
def _read(path: Path, changed: int) -> Profile | None:
    try:
        return Profile.load(path)
    except NasBoError:
        return None


@lru_cache(maxsize=8)
def _model(path: Path, changed: int) -> LatencyModel | None:
    found = _read(path, changed)
    try:
        return None if found is None else found.model()
    except NasBoError:
        return None


@lru_cache(maxsize=8)
def _scale(path: Path, changed: int) -> dict[int, float]:
    """What the anchors were taken to need when the profile was made."""
    found = machine.read(path).get(SCALE)
    return {int(rung): float(ms) for rung, ms in found.items()} if isinstance(found, dict) else {}


def combined(timing: Timing, arch: Arch, path: Path | None) -> tuple[Timing, dict[str, float]]:
    """The measurement, made surer by what the profile says, and what each of the two said.

    Where they lie so far apart that one of them is wrong, it is the model: it has not seen such a layer.
    """
    if path is None:
        return timing, {}
    try:
        model = _model(path, path.stat().st_mtime_ns)
        if model is None:
            return timing, {}
        mean, half = model.predict_many([arch])
        factor = ratio(_scale(path, path.stat().st_mtime_ns), timing.scale) or 1.0
    except (OSError, NasBoError):
        return timing, {}
    said, reach = float(mean[0]) * factor, float(half[0]) * factor
    if not (said > 0 and math.isfinite(reach)):
        return timing, {}
    doubt = max(LEAST_MODEL, math.hypot(reach / Z90 / said, SLACK))
    told = {"measured_ms": round(timing.ms, 6), "model_ms": round(said, 6)}
    apart = math.log(said / timing.ms)
    if abs(apart) > APART * math.hypot(doubt, timing.sd):
        return timing, {**told, "model_share": 0.0}
    share = timing.sd**2 / (timing.sd**2 + doubt**2)
    surer = timing.sd * doubt / math.hypot(timing.sd, doubt)
    return replace(timing, ms=timing.ms * math.exp(share * apart), sd=surer), {**told, "model_share": round(share, 3)}
