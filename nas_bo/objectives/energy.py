"""Energy of a phase: modelled, and then named so; or measured, and then through a real meter."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from nas_bo.architecture import Architecture
from nas_bo.errors import ObjectiveError
from nas_bo.hardware.energy import EnergyModel, Prices
from nas_bo.hardware.measuring.meters import Meter, measured_energy, meter_of
from nas_bo.hardware.workload import Setting
from nas_bo.model.own_model import Build, called, check_build
from nas_bo.model.spec import check
from nas_bo.objective import Value
from nas_bo.objectives.latency import NAMES, Latency
from nas_bo.objectives.target import digest, measurable, plain_device, settle_target
from nas_bo.trial import Direction
from nas_bo.validated import check_fields, checked, number, one_of


@dataclass(frozen=True)
class Energy:
    """Millijoules of one prefill of `context` tokens, of one decoded token, or of a request (see `Latency`).

    With a target it is modelled from that device's prices of arithmetic and traffic, and named ``modelled_energy_mj@v100``.
    With ``model="measured"`` it is measured on a torch device of this machine through its meter (NVML, RAPL; extra
    ``energy``); without a meter that is an error here and now, never 0 J.

    Args:
        at_most, at_least: hard limits in millijoules, before training.
        device: the torch device that it is measured on.
        target: the device that it is modelled for: a `Device`, the name of one, a file or profile.
        model: "modelled" (default) or "measured".
        meter: of your own: an object with `name` and `joules()`.
        build: refused: the energy of a model of your own is not known (see `Latency` and `Flops`, which take one).
        idle: add what the device draws when idle for as long as the roofline says (modelled only; a meter sees it anyway).

    Raises:
        ObjectiveError: a setting is impossible, or there is no meter.
        DeviceError: there is no such device, or it lacks a figure that the model needs.
        MissingExtra: the package that reads the meter is not installed.
    """

    phase: Literal["prefill", "decode", "request"] = checked("prefill", one_of(*NAMES))
    context: int = checked(128, number(above=0))
    batch: int = checked(1, number(above=0))
    vocab_size: int = 256
    at_most: float | None = None
    at_least: float | None = None
    device: str | None = None
    model: Literal["modelled", "measured"] = checked("modelled", one_of("modelled", "measured"))
    meter: Meter | None = None
    idle: bool = False
    dtype: str = "float32"
    output_length: int = checked(64, number(above=0))
    guide: Prices = field(default_factory=Prices)
    ignore: tuple[str, ...] = ()
    name: str = ""
    unit: str = "mJ"
    direction: Direction = "minimize"
    cost: Literal["measured"] = "measured"
    build: Build | None = None
    target: object = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        settle_target(self)
        check_build("Energy", self.build)
        if self.build is not None:
            raise ObjectiveError(
                f"Energy(build={called(self.build)}): energy is modelled and measured for the decoder of nas_bo only, not for a "
                "model of your own; take Latency(build=...) or Flops(build=...) instead, or an objective of your own that reads "
                "the meter (nas_bo.hardware.measuring.meters)"
            )
        check_fields(self, ObjectiveError)
        here = self.target is None
        if self.model == "modelled" and (self.meter is not None or here):
            raise ObjectiveError(
                "Energy() has no device whose prices are known; give target= (a Device with pj_per_flop and pj_per_byte, such "
                'as "v100"), or model="measured" where there is a meter'
            )
        if self.model == "measured" and not here:
            raise ObjectiveError(
                f'Energy(model="measured", target={self.target!r:.60}): measured is what is here, a torch device'
            )
        if self.model == "measured":
            measurable("Energy", self.device, self.dtype)
        if self.model == "measured" and self.meter is None:
            object.__setattr__(self, "meter", meter_of(self.device))
        figures = self.guide if here else plain_device(self.target)
        steps = [(EnergyModel(figures, setting, self.idle and not here), often) for setting, often in self._settings()]
        object.__setattr__(self, "_steps", steps)
        if not self.name:
            word = {"prefill": "energy_mj", "decode": "decode_energy_mj", "request": "request_energy_mj"}[self.phase]
            said = word if here else f"modelled_{word}@{steps[0][0].device}"
            object.__setattr__(self, "name", said)

    def conditions(self) -> dict[str, object]:
        said: dict[str, object] = {
            "phase": self.phase,
            "context": self.context,
            "batch": self.batch,
            "vocab_size": self.vocab_size,
        }
        said |= {"dtype": self.dtype, "model": self.model}
        said |= {"output_length": self.output_length} if self.phase == "request" else {}
        said |= {"logits": "last"} if self.phase != "decode" else {}
        if self.meter is not None:
            return {**said, "meter": self.meter.name}
        figures = plain_device(self.target)
        return {**said, "device": figures.name, "idle": self.idle, "fingerprint": digest(figures.known())}

    def check_architecture(self, arch: Architecture) -> None:
        """Raise ModelError where the decoder cannot be built."""
        check(arch, self.ignore)

    def predict(self, arch: Architecture) -> float:
        """The model; for measured energy a guide that is right in rank, not in scale."""
        return float(sum(often * float(model.predict(arch)) for model, often in self._models))

    def __call__(self, arch: Architecture, /) -> Value:
        if self.meter is None:
            return Value(self.predict(arch), **self._models[0][0].predict(arch).info)
        return self._measured(arch, self.meter)

    def _settings(self) -> list[tuple[Setting, float]]:
        timing = Latency(
            self.phase, self.context, self.batch, self.vocab_size, ignore=self.ignore, dtype=self.dtype,
            output_length=self.output_length,
        )  # fmt: skip
        return timing.settings()

    @property
    def _models(self) -> list[tuple[EnergyModel, float]]:
        found: list[tuple[EnergyModel, float]] = self._steps  # type: ignore[attr-defined]
        return found

    def _measured(self, arch: Architecture, meter: Meter) -> Value:
        from nas_bo.model.device import named, pick_device

        where = pick_device(self.device)
        readings = [(measured_energy(arch, setting, meter, where), often) for setting, often in self._settings()]
        return Value(
            sum(one.millijoules * often for one, often in readings),
            how="measured",
            device=named(where),
            meter=meter.name,
            low=sum(one.low * often for one, often in readings),
            high=sum(one.high * often for one, often in readings),
            runs=sum(one.runs for one, _ in readings),
        )
