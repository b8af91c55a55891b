"""Latency of an architecture: measured where the search runs, or predicted for the device that it is meant for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from nas_bo import elsewhere
from nas_bo.architecture import Architecture
from nas_bo.errors import ObjectiveError, Unsupported
from nas_bo.hardware.latency.model import OfOneSpace
from nas_bo.hardware.latency.roofline import GPU, Roofline
from nas_bo.hardware.runtimes.interface import Runtime
from nas_bo.hardware.workload import Setting, as_timed
from nas_bo.model.blocks.details import check_length
from nas_bo.model.own_model import Build, called, check_build
from nas_bo.model.spec import check
from nas_bo.objective import Say, Value
from nas_bo.objectives.measuring import measured, silent
from nas_bo.objectives.target import (
    BOUND,
    Timed,
    measurable,
    measured_here,
    own_model,
    say_as_trained,
    say_bound,
    settle_target,
    timed,
)
from nas_bo.space.space import Space
from nas_bo.trial import Direction
from nas_bo.validated import check_fields, checked, number, one_of

if TYPE_CHECKING:
    from nas_bo.hardware.latency.machine_profile import Make

BESIDE = 0.5  # of the time: a standard deviation of 2.0 % of measurement and profile together instead of 1.9 %
NAMES = {"prefill": "latency_ms", "decode": "decode_ms", "request": "request_ms"}


@lru_cache
def _guide(device: str | None) -> Roofline:
    """A roofline that orders what is measured on a torch device."""
    from nas_bo.model.device import pick_device

    return GPU if pick_device(device).startswith("cuda") else Roofline()


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one prefill of `context` tokens with the logits of the last of them, of one token after `context` cached ones (``phase="decode"``), or of
    a whole request (``phase="request"``): a prefill of `context` tokens, which gives the first token, and `output_length - 1`
    decoded ones, all taken to cost what the one in the middle does.

    Without a target it is measured with randomly initialised weights, in turn with small anchor
    models whose times on this machine are known (`nas_bo.hardware.measuring.bench`): what the machine does meanwhile is divided out, and
    what remains is the time at its undisturbed speed. On a CPU it is the CPU time of one thread; on CUDA, device events. In a
    search of twenty trials or more a profile of this machine is next to it, and the value is the mean of measurement and
    prediction, weighted by what each does not know. `low` and `high` in the value's `info` hold what another session on this
    machine will give, with a probability of 90 %. Strategies steer by `predict`, a roofline estimate that ranks alike and is
    the same in every run.

    With a target it is predicted, and the name says for which device by which model: ``latency_ms@pi5.roofline``.
    Where nobody knows what starting an operation costs on that device (`Device.overhead_us`), it is a bound that only ranks,
    and its unit says so: "roofline bound" instead of "ms".
    A prediction counts as measured: its limits are applied before training, not when candidates are drawn.

    Args:
        at_most, at_least: hard limits in milliseconds, before training.
        device: the torch device to measure on; None is CUDA where there is one, else the CPU.
        target: the device to predict for instead: a `Device`, the name of one in the table (`Device.names`), a profile that
            ``nas-bo profile`` wrote, or the path of a file with either.
        precision: half width of the 95 % interval of the median over rounds at which measuring stops, as a share of it.
        max_seconds: cap on measuring one architecture, anchors included; half of it in trials with a profile of this machine,
            since more rounds would make the mean of both hardly surer.
        guide: the model behind `predict` of a measured latency; None is a roofline of one CPU core, on CUDA of a GPU.
        model: "roofline" (the default for a device), "learned" (for a profile), "lookup", "measured", or a latency model
            of your own (`nas_bo.hardware.latency.model`); for a request a pair, prefill and decode.
        dtype: of weights and activations.
        output_length: tokens of the answer to a request.
        runtime: what runs the model, one of `nas_bo.hardware.runtimes.NAMES`; with a profile it must be the profile's.
        build: builds a torch module of your own from an architecture (`nas_bo.model.own_model`), which is run instead of our decoder:
            through `nas_bo.hardware.runtimes.own_model.OwnModel`, a runtime like the others. Decoding needs a cache
            (`nas_bo.model.CachedDecoder`, or that of Hugging Face's decoders). Strategies steer by the roofline of its operations
            (`nas_bo.hardware.traced`); the same is the prediction for a device that is not here.
        on: the name of a resource of a Ray cluster (`nas_bo.execution.Ray`): it is measured on one node that was started with it, whichever
            node the trial runs on, and the name says so: ``latency_ms@pi5``.

    Raises:
        ObjectiveError: a setting is impossible, or the model is not available for that device.
        DeviceError: there is no such device, or it lacks a figure that the model needs.
    """

    phase: Literal["prefill", "decode", "request"] = checked(
        "prefill", one_of(*NAMES).advise("one phase is 'prefill' or 'decode', both are a 'request'")
    )
    context: int = checked(128, number(above=0))
    batch: int = checked(1, number(above=0))
    vocab_size: int = 256
    at_most: float | None = None
    at_least: float | None = None
    device: str | None = None
    precision: float = checked(0.03, number(above=0))
    max_seconds: float = checked(0.5, number(above=0))
    guide: Roofline | None = None
    ignore: tuple[str, ...] = ()
    name: str = ""
    unit: str = "ms"
    direction: Direction = "minimize"
    cost: Literal["measured"] = "measured"
    model: object = None
    dtype: str = "float32"
    output_length: int = checked(64, number(above=0))
    runtime: str | None = None
    build: Build | None = None
    target: object = field(default=None, kw_only=True)
    on: str | None = field(
        default=None, kw_only=True, repr=False
    )  # in `conditions`; what was kept before it was there has the same text

    def __post_init__(self) -> None:
        check_fields(self, ObjectiveError)
        settle_target(self)
        if self.on is not None and (self.target is not None or not self.on):
            raise ObjectiveError(
                f"Latency(on={self.on!r}, target={self.target!r:.60}): on= is the node that measures, target= a device to predict for; give one "
                "of them, and on= as the name of a resource"
            )
        wanted = self.settings()
        found: Timed | None = None
        check_build("Latency", self.build)
        if self.build is not None:
            how = (self.runtime, self.precision, self.max_seconds)
            found = own_model("Latency", self.build, self.target or self.device, self.model, wanted, *how)
        elif self.target is not None or self.model not in (None, "measured"):
            if self.target is None and isinstance(self.model, str):
                raise ObjectiveError(
                    f"Latency(model={self.model!r}) needs a device that it is a model of; give target=Device.here(), the name "
                    "of a device, or the path of a profile"
                )
            found = timed("Latency", self.target, self.model, wanted, self.runtime)
        else:
            measurable("Latency", self.device, self.dtype)
            if self.runtime not in (None, "eager"):
                found = measured_here(str(self.runtime), self.device, wanted, self.precision, self.max_seconds)
        object.__setattr__(self, "_timed", found)
        object.__setattr__(self, "_profiles", None)
        object.__setattr__(self, "_known", {})  # of runtimes that are slow to prepare
        if not self.name:
            plain = found is None or (self.build is not None and found.here)
            suffix = "" if plain or found is None else found.suffix()
            object.__setattr__(self, "name", NAMES[self.phase] + (f"@{self.on}" if self.on else suffix))
        if found is not None and found.bound and self.unit in ("ms", BOUND):
            object.__setattr__(self, "unit", BOUND)
            say_bound(self.name, found.device)

    def settings(self) -> list[tuple[Setting, float]]:
        """What is run, and how often."""
        sizes = (self.dtype, self.vocab_size, tuple(self.ignore))
        logits: Literal["last", "all"] = "last" if self.build is None else "all"
        if self.phase != "request":
            return [(Setting(self.phase, self.batch, self.context, *sizes, logits=logits), 1.0)]
        decoded = self.output_length - 1
        steps = [(Setting("prefill", self.batch, self.context, *sizes, logits=logits), 1.0)]
        middle = self.context + (decoded + 1) // 2
        return [*steps, (Setting("decode", self.batch, middle, *sizes), float(decoded))] if decoded else steps

    def conditions(self) -> dict[str, object]:
        said = {"phase": self.phase, "context": self.context, "batch": self.batch, "vocab_size": self.vocab_size}
        more: dict[str, object] = {} if self.dtype == "float32" else {"dtype": self.dtype}
        more |= {} if self.phase != "request" else {"output_length": self.output_length}
        more |= {"logits": "last"} if self.phase != "decode" and self.build is None else {}
        more |= {} if self.runtime is None else {"runtime": self.runtime}
        more |= {} if self.on is None else {"on": self.on}
        found = self._found
        more |= {} if self.build is None else {"build": called(self.build)}
        if found is not None and not (self.build is not None and found.here):
            known = {
                "device": found.device,
                "model": found.how,
                "runtime": found.runtime,
                "fingerprint": found.fingerprint,
            }
            return {**said, **more, **known}
        from nas_bo.model.device import named, pick_device

        return {**said, "device": named(pick_device(self.device)), **more}

    def check_space(self, space: type[Space]) -> None:
        """Raise ProfileError when the models are of a profile of another space."""
        if self._found is None or self._found.how != "roofline":
            say_as_trained(self.name, space)
        for model, _ in () if self._found is None else self._found.steps:
            if isinstance(model, OfOneSpace) and model.of_space is not None:
                model.of_space.check(space)

    def check_architecture(self, arch: Architecture) -> None:
        """Raise where the model cannot be built or run; not asked of latency models of the user's own."""
        if self.build is not None:
            from nas_bo.hardware.traced import traced

            for setting, _ in self.settings():
                traced(self.build, arch, setting)
        elif self.model is None or isinstance(self.model, str):
            details = check(arch, self.ignore).details
            for setting, _ in self.settings():
                check_length(details, setting.context)

    def predict(self, arch: Architecture) -> float:
        """The prediction; for a measured latency the roofline estimate, in milliseconds: right in rank, not in scale."""
        if self._found is not None and self._found.how != "measured":
            return float(self._found.value(arch))
        guide = self.guide or _guide(self.device)
        if self.build is not None:
            from nas_bo.hardware.traced import TracedRoofline

            return sum(n * float(TracedRoofline(self.build, guide, s).predict(arch)) for s, n in self.settings())
        return sum(
            often * guide.milliseconds(as_timed(arch, s), s.vocab_size, s.phase, s.context, s.batch)
            for s, often in self.settings()
        )

    def __call__(self, arch: Architecture, /) -> Value:
        if not self._here:
            return self._found.value(arch)  # type: ignore[union-attr]
        known: dict[Architecture, Value] = self._known  # type: ignore[attr-defined]
        if arch in known:
            return known[arch]
        if self.on is not None:
            return _value(elsewhere.call(self.on, _measure, replace(self, on=None, name=self.name), arch))
        beside = BESIDE if any(self._profiles or ()) else 1.0  # type: ignore[attr-defined]
        found = self._measured([arch], silent, beside * self.max_seconds)[0]
        if isinstance(found, Unsupported):
            raise found
        if not self._cheap:
            known[arch] = found
        return found

    def ready(self, space: type[Space], profile: Make | None, say: Say = silent) -> None:
        """What `search` calls first: the anchors of this machine, and made by `profile` one of it for `space`, both kept in
        the user's cache folder. Nothing where the latency is predicted."""
        if not self._here or self.build is not None:
            return
        if self.on is not None:  # without a profile: the machine of the search is another one
            elsewhere.call(self.on, _ready, replace(self, on=None, name=self.name), space)
            return
        from nas_bo.hardware.latency.machine_profile import prepare

        runs = self._runtime()
        eager = runs.name == "eager"  # other runtimes take too long to prepare a profile's architectures
        found = [
            prepare(space, setting, str(runs.device), profile if eager else None, say) for setting, _ in self.settings()
        ]
        object.__setattr__(self, "_profiles", tuple(found) if eager else (None,) * len(found))

    def remeasure(self, archs: Sequence[Architecture], say: Say = silent) -> list[Value | Unsupported]:
        """Values of all, measured in turn with each other. Nothing where they are predicted, and for runtimes that take many
        seconds to prepare each architecture (ONNX Runtime and the like): their values are those of the trials."""
        if not (self._here and self._cheap):
            return []
        if self.on is not None:
            found = elsewhere.call(self.on, _remeasure, replace(self, on=None, name=self.name), list(archs))
            assert isinstance(found, list)
            return found
        return self._measured(archs, say, self.max_seconds)

    @property
    def measures_here(self) -> bool:
        """Whether the value is about whichever machine evaluates it."""
        return self._here and self.on is None

    def _measured(self, archs: Sequence[Architecture], say: Say, seconds: float) -> list[Value | Unsupported]:
        steps = self.settings()
        profiles = self._profiles or (None,) * len(steps)  # type: ignore[attr-defined]
        values = measured(archs, steps, self._runtime(), profiles, self.precision, seconds, say)
        for arch, value in zip(archs, values, strict=True):
            if not isinstance(value, Unsupported):
                value.info["predicted"] = round(self.predict(arch), 5)
        return values

    def _runtime(self) -> Runtime:
        if self._found is not None and self._found.runs is not None:
            return self._found.runs
        from nas_bo.hardware.runtimes.eager import Eager

        return Eager(self.device)

    @property
    def _cheap(self) -> bool:
        """Whether a model is ready as soon as it is built."""
        return self._found is None or self._found.runtime in ("eager", "cuda-graphs")

    @property
    def _here(self) -> bool:
        return self._found is None or self._found.here

    @property
    def _found(self) -> Timed | None:
        found: Timed | None = self._timed  # type: ignore[attr-defined]
        return found


def _measure(latency: Latency, arch: Architecture) -> Value:
    return latency(arch)


def _ready(latency: Latency, space: type[Space]) -> None:
    latency.ready(space, None)


def _remeasure(latency: Latency, archs: Sequence[Architecture]) -> list[Value | Unsupported]:
    return latency.remeasure(archs)


def _value(found: object) -> Value:
    assert isinstance(found, Value)
    return found
