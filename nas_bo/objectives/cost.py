"""Costs that follow from the architecture alone, exactly: of our decoder in microseconds, of a model of the user's own by
building it without weights, which takes milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nas_bo.architecture import Architecture
from nas_bo.errors import ObjectiveError
from nas_bo.hardware.workload import BYTES
from nas_bo.model import counts
from nas_bo.model.after_training import deployed, weight_bytes
from nas_bo.model.own_model import Build, called, check_build
from nas_bo.model.spec import check
from nas_bo.objective import Value
from nas_bo.trial import Direction
from nas_bo.validated import check_fields, checked, number, one_of


@dataclass(frozen=True)
class Parameters:
    """Number of parameters, tied ones once.

    Args:
        vocab_size: of the tokenizer that the model is for; 256 is bytes.
        ignore: top-level fields of the space that are the user's own and no part of the network.
        at_most, at_least: hard limits: an architecture beyond them is never measured or trained.
        build: builds a torch module of your own from an architecture (`nas_bo.model.own_model`), whose parameters are counted, on the
            meta device where it can be built there.
    """

    vocab_size: int = 256
    at_most: float | None = None
    at_least: float | None = None
    ignore: tuple[str, ...] = ()
    name: str = "parameters"
    unit: str = ""
    direction: Direction = "minimize"
    cost: Literal["analytic"] = "analytic"
    build: Build | None = None

    def __post_init__(self) -> None:
        check_build("Parameters", self.build)

    def conditions(self) -> dict[str, object]:
        return {"vocab_size": self.vocab_size} if self.build is None else {"build": called(self.build)}

    def __call__(self, arch: Architecture, /) -> float:
        if self.build is not None:
            from nas_bo.hardware.traced import size

            found = size(self.build, arch)
            return Value(found.parameters, how=f"counted on the {found.where} device")
        return float(counts.parameters(arch, self.vocab_size, self.ignore))


@dataclass(frozen=True)
class ActiveParameters:
    """Number of parameters that one token passes through: all but the idle experts of mixtures of experts, tied ones once.

    Args: as of `Parameters`.
    """

    vocab_size: int = 256
    at_most: float | None = None
    at_least: float | None = None
    ignore: tuple[str, ...] = ()
    name: str = "active_parameters"
    unit: str = ""
    direction: Direction = "minimize"
    cost: Literal["analytic"] = "analytic"

    def conditions(self) -> dict[str, object]:
        return {"vocab_size": self.vocab_size}

    def __call__(self, arch: Architecture, /) -> float:
        return float(counts.active_parameters(arch, self.vocab_size, self.ignore))


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of one forward pass over `tokens` tokens, in millions (a multiply-add is two).

    Args:
        build: builds a torch module of your own from an architecture (`nas_bo.model.own_model`), whose operations are counted as
            torch's `FlopCounterMode` does, on the meta device where it can be run there.
    """

    vocab_size: int = 256
    tokens: int = checked(128, number(above=0))
    at_most: float | None = None
    at_least: float | None = None
    ignore: tuple[str, ...] = ()
    name: str = "mflops"
    unit: str = "MFLOP"
    direction: Direction = "minimize"
    cost: Literal["analytic"] = "analytic"
    build: Build | None = None

    def __post_init__(self) -> None:
        check_fields(self, ObjectiveError)
        check_build("Flops", self.build)

    def conditions(self) -> dict[str, object]:
        said: dict[str, object] = {"vocab_size": self.vocab_size, "tokens": self.tokens}
        return said if self.build is None else {"tokens": self.tokens, "build": called(self.build)}

    def __call__(self, arch: Architecture, /) -> float:
        if self.build is not None:
            from nas_bo.hardware.traced import traced
            from nas_bo.hardware.workload import Setting

            found = traced(self.build, arch, Setting("prefill", 1, self.tokens, vocab_size=self.vocab_size))
            return Value(found.flops / 1e6, how=f"counted on the {found.where} device")
        return counts.flops(arch, self.vocab_size, self.tokens, ignore=self.ignore) / 1e6


@dataclass(frozen=True)
class WeightBytes:
    """Bytes of all weights as they are kept: in the data type, or in the fewer `bits` that the architecture says, with their scales
    and zero points (`nas_bo.model.after_training`); computed, not measured.

    Args:
        vocab_size: of the tokenizer that the model is for; 256 is bytes.
        dtype: of what has no fewer bits.
        at_most, at_least: hard limits in bytes.
    """

    vocab_size: int = 256
    dtype: str = checked("float32", one_of(*BYTES))
    at_most: float | None = None
    at_least: float | None = None
    ignore: tuple[str, ...] = ()
    name: str = "weight_bytes"
    unit: str = "B"
    direction: Direction = "minimize"
    cost: Literal["analytic"] = "analytic"

    def __post_init__(self) -> None:
        check_fields(self, ObjectiveError)

    def conditions(self) -> dict[str, object]:
        return {"vocab_size": self.vocab_size, "dtype": self.dtype}

    def __call__(self, arch: Architecture, /) -> float:
        spec = deployed(check(arch, self.ignore))
        return float(weight_bytes(spec, self.vocab_size, BYTES[self.dtype], counts.parameters(spec, self.vocab_size)))


@dataclass(frozen=True)
class KVCacheBytes:
    """Bytes that decoding remembers after `context` tokens (keys, values, states), batch 1; keys and values in the `kv_bits` of the
    architecture, where these are fewer."""

    context: int = checked(2048, number(above=0))
    bytes_per_value: float = checked(2, number(above=0))
    at_most: float | None = None
    at_least: float | None = None
    ignore: tuple[str, ...] = ()
    name: str = "kv_cache_bytes"
    unit: str = "B"
    direction: Direction = "minimize"
    cost: Literal["analytic"] = "analytic"

    def __post_init__(self) -> None:
        check_fields(self, ObjectiveError)

    def conditions(self) -> dict[str, object]:
        return {"context": self.context, "bytes_per_value": self.bytes_per_value}

    def __call__(self, arch: Architecture, /) -> float:
        return float(counts.kv_cache_bytes(arch, self.context, self.bytes_per_value, ignore=self.ignore))
