"""What a search of the command can optimise and limit: the words of `--objective`, and the option that limits each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from nas_bo.cli import units
from nas_bo.errors import ObjectiveError, SearchError, near
from nas_bo.objective import Objective, spec_of, with_parts

if TYPE_CHECKING:
    from nas_bo.objectives import ValidationLoss
    from nas_bo.pretrained import SubModelLoss

_log = logging.getLogger(__name__)

NEAR = 0.2  # how far from --parameters-near, as a share
HERE = "here"  # a target: this machine, measured
ALIASES = {"peak_bytes": "memory", "tokens_per_s": "throughput", "energy_mj": "energy"}
OF_TARGETS = ("latency_ms", "decode_ms", "throughput", "energy")  # with a value of its own on each


@dataclass(frozen=True)
class Limit:
    """An option that limits a quantity."""

    option: str
    word: str
    units: dict[str, float]
    side: str = "at_most"


LIMITS = {
    "max_parameters": Limit("--max-parameters", "parameters", units.SIZES),
    "max_active_parameters": Limit("--max-active-parameters", "active_parameters", units.SIZES),
    "max_memory": Limit("--max-memory", "memory", units.BYTES),
    "max_latency_ms": Limit("--max-latency-ms", "latency_ms", units.MILLISECONDS),
    "max_decode_ms": Limit("--max-decode-ms", "decode_ms", units.MILLISECONDS),
    "max_energy_mj": Limit("--max-energy-mj", "energy", units.MILLIJOULES),
    "min_throughput": Limit("--min-throughput", "throughput", units.RATE, "at_least"),
}


@dataclass(frozen=True)
class Costs:
    """The options of a search that are about costs.

    Attributes:
        device: a torch device, None for the best one; or, as `--device` once was for, what latencies are predicted for.
        targets: what is predicted for, as typed.
        dtype, context, batch: of what is measured or predicted; None leaves each quantity its own default.
        limits: by the name of the option (a key of `LIMITS`) what was typed, each VALUE or TARGET=VALUE.
        parameters_near: a size to aim at.
    """

    device: str | None = None
    targets: Sequence[str] = ()
    dtype: str | None = None
    context: int | None = None
    batch: int | None = None
    limits: Mapping[str, Sequence[str]] = field(default_factory=dict)
    parameters_near: str | None = None

    def settled(self) -> Costs:
        """The same with what is typed checked, and a `--device` that is not a torch device moved to the targets.

        Raises:
            NasBoError: a target, data type or limit is none.
        """
        from nas_bo.hardware.workload import BYTES
        from nas_bo.objectives.target import found_device, is_torch_device

        device, targets = self.device, list(self.targets)
        if not is_torch_device(device):
            found_device(device)
            if targets:
                raise SearchError(
                    f"--device {device} names what latencies are predicted for, and so does --target; write --target {device} as well, "
                    "and leave --device to the torch device to train on"
                )
            _log.warning(
                "--device %s is taken as --target %s, what latencies are predicted for; --device says where is trained and measured "
                "(cpu, cuda)",
                device,
                device,
            )
            device, targets = None, [str(device)]
        for target in targets:
            if is_torch_device(target):
                raise SearchError(
                    f"--target {target} is a torch device, on which is measured: say --device {target}, and --target {HERE} where other "
                    "targets are next to it"
                )
            if target != HERE:
                found_device(target)
        if len(set(targets)) < len(targets):
            raise SearchError(f"--target {' --target '.join(targets)}: a target is named twice; leave one out")
        if self.dtype is not None and self.dtype not in BYTES:
            raise ObjectiveError(
                f"there is no data type {self.dtype!r}{near(self.dtype, BYTES)}; --dtype is one of {', '.join(BYTES)}"
            )
        return replace(self, device=device, targets=targets)


class Quantities:
    """The words of `--objective` that cost something, as objectives within their limits.

    Args:
        costs: settled.
        vocab: size of the vocabulary.
    """

    def __init__(self, costs: Costs, vocab: int) -> None:
        self._costs, self._vocab = costs, vocab
        self._predicts = False
        self._bounds = {name: _bounds(limit, costs) for name, limit in LIMITS.items()}
        self._near = (
            None
            if costs.parameters_near is None
            else units.amount("--parameters-near", costs.parameters_near, units.SIZES)
        )

    def words(self) -> dict[str, Callable[[], Objective]]:
        """Each word, and what it makes; ``latency_ms@pi5`` for each target where there are targets."""
        found: dict[str, Callable[[], Objective]] = {
            "parameters": self._parameters,
            "active_parameters": self._active,
            "mflops": self._flops,
            "kv_cache_bytes": self._kv_cache,
            "weight_bytes": self._weight_bytes,
            "memory": self._memory,
        }
        for word in OF_TARGETS:
            for target in self._costs.targets:
                found[f"{word}@{target}"] = self._on(word, target)
            if len(self._costs.targets) <= 1:
                found[word] = self._on(word, next(iter(self._costs.targets), None))
        return found | {alias: found[word] for alias, word in ALIASES.items() if word in found}

    def expanded(self, texts: Sequence[str]) -> list[str]:
        """Words that mean one value for each target become one word for each."""
        found: list[str] = []
        for text in texts:
            word = ALIASES.get(text, text)
            several = word in OF_TARGETS and len(self._costs.targets) > 1
            found += [f"{word}@{target}" for target in self._costs.targets] if several else [text]
        return list(dict.fromkeys(found))

    def limits(self, made: Sequence[Objective]) -> list[Objective]:
        """What is limited and no objective.

        Raises:
            ObjectiveError: the limit of an option would be that of an objective of the user's own.
        """
        there = {o.name: o for o in with_parts(made)}
        found: list[Objective] = []
        for name, limit in LIMITS.items():
            if not self._bounds[name] and not (name == "max_parameters" and self._near is not None):
                continue
            words = self.words()
            for word in self.expanded([limit.word]):
                if "@" in word and self._bound(name, word.partition("@")[2]) is None:
                    continue
                one = words[word]()
                same = there.get(one.name)
                if same is not None and _limit(same, limit.side) != _limit(one, limit.side):
                    raise ObjectiveError(
                        f"{limit.option}: the objective {one.name!r} is your own; give it {limit.side}= itself, and leave the option out"
                    )
                if same is None:
                    found.append(one)
        return found

    def unused(self) -> list[str]:
        """Targets, where nothing that was made is predicted for any."""
        return [] if self._predicts else [target for target in self._costs.targets if target != HERE]

    # ---- the objectives -----------------------------------------------------------------------------------------

    def _parameters(self) -> Objective:
        from nas_bo.objectives import Parameters

        most = self._bound("max_parameters")
        if self._near is None:
            return Parameters(vocab_size=self._vocab, at_most=most)
        upper = self._near * (1 + NEAR) if most is None else min(most, self._near * (1 + NEAR))
        return Parameters(vocab_size=self._vocab, at_most=upper, at_least=self._near * (1 - NEAR))

    def _active(self) -> Objective:
        from nas_bo.objectives import ActiveParameters

        return ActiveParameters(vocab_size=self._vocab, at_most=self._bound("max_active_parameters"))

    def _flops(self) -> Objective:
        from nas_bo.objectives import Flops

        return Flops(vocab_size=self._vocab)

    def _kv_cache(self) -> Objective:
        from nas_bo.hardware.workload import BYTES
        from nas_bo.objectives import KVCacheBytes

        how = self._setting("context")
        if self._costs.dtype is not None:
            how["bytes_per_value"] = BYTES[self._costs.dtype]
        return KVCacheBytes(**how)

    def _weight_bytes(self) -> Objective:
        from nas_bo.objectives import WeightBytes

        how: dict[str, Any] = {} if self._costs.dtype is None else {"dtype": self._costs.dtype}
        return WeightBytes(vocab_size=self._vocab, **how)

    def _memory(self) -> Objective:
        """The same on every device of one data type: one value, within the memory of each."""
        from nas_bo.objectives import Memory
        from nas_bo.objectives.target import plain_device

        targets = [target for target in self._costs.targets if target != HERE]
        bounds = [*self._bounds["max_memory"].values()]
        bounds += [plain_device(target).figure("memory_bytes", use="a limit on memory") for target in targets]
        self._predicts = True
        only = targets[0] if len(self._costs.targets) == 1 and targets else None
        return Memory(
            vocab_size=self._vocab,
            target=only,
            at_most=min(bounds, default=None),
            **self._setting("context", "batch", "dtype"),
        )

    def _on(self, word: str, target: str | None) -> Callable[[], Objective]:
        def made() -> Objective:
            from nas_bo.objectives import Energy, Latency, Throughput

            predicted = target not in (None, HERE)
            self._predicts = self._predicts or predicted
            how: dict[str, Any] = {
                "vocab_size": self._vocab,
                ("target" if predicted else "device"): target if predicted else self._costs.device,
            }
            how |= self._setting("context", "batch", "dtype")
            if word == "throughput":
                return Throughput(at_least=self._bound("min_throughput", target), **how)
            if word == "energy":
                how |= {} if predicted else {"model": "measured"}
                return Energy(at_most=self._bound("max_energy_mj", target), **how)
            if word == "decode_ms":
                return Latency("decode", at_most=self._bound("max_decode_ms", target), **how)
            return Latency(at_most=self._bound("max_latency_ms", target), **how)

        return made

    def _setting(self, *names: str) -> dict[str, Any]:
        given = vars(self._costs)
        return {name: given[name] for name in names if given[name] is not None}

    def _bound(self, name: str, target: str | None = None) -> float | None:
        bounds = self._bounds[name]
        return bounds.get(target, bounds.get(None))


def compressibility(quality: ValidationLoss | SubModelLoss) -> dict[str, Callable[[], Objective]]:
    """The words of `--objective` that look at what `quality` trained."""
    from nas_bo.objectives import ActivationSparsity, LayerSensitivity, OutlierScore, QuantizationGap

    found: dict[str, Callable[[], Objective]] = {
        f"quantization_gap_{bits}": partial(QuantizationGap, quality, bits=bits) for bits in (4, 3, 2)
    }
    return found | {
        "layer_sensitivity": partial(LayerSensitivity, quality),
        "activation_sparsity": partial(ActivationSparsity, quality),
        "outlier_score": partial(OutlierScore, quality),
    }


def _limit(objective: Objective, side: str) -> float | None:
    """Its limit from above or from below."""
    spec = spec_of(objective)
    return spec.at_most if side == "at_most" else spec.at_least


def _bounds(limit: Limit, costs: Costs) -> dict[str | None, float]:
    """Target -> its bound; None is that of all others."""
    name = limit.option.removeprefix("--").replace("-", "_")
    found: dict[str | None, float] = {}
    for text in costs.limits.get(name) or ():
        of, equals, value = text.rpartition("=")
        target = of if equals else None
        if target is not None and target not in costs.targets:
            there = f"the targets are {', '.join(costs.targets)}" if costs.targets else "no --target is given"
            raise ObjectiveError(
                f"{limit.option} {text}: there is no target {target!r}{near(target, costs.targets)}; {there}"
            )
        if target is not None and limit.word not in (*OF_TARGETS, "memory"):
            raise ObjectiveError(
                f"{limit.option} {text}: this is the same on every target; write {limit.option} {value}"
            )
        if target in found:
            raise ObjectiveError(
                f"{limit.option} is given twice{f' for {target}' if target else ''}; keep one, or name a target with each (TARGET=VALUE)"
            )
        found[target] = units.amount(limit.option, value, limit.units)
    return found
