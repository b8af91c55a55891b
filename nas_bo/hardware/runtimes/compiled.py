"""torch.compile: one fixed shape per architecture and setting. On a CPU it needs a C++ compiler, and half a minute each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from nas_bo.errors import Unsupported
from nas_bo.hardware.runtimes.eager import Eager
from nas_bo.hardware.runtimes.exported import Called, first, function
from nas_bo.hardware.runtimes.interface import BOUND, agree
from nas_bo.hardware.workload import Setting
from nas_bo.model.counts import Arch

# All models share the code of `Decoder`, and torch runs what goes beyond its limits uncompiled, without a word.
LIMITS = {"recompile_limit": 100_000, "accumulated_recompile_limit": 1_000_000, "fail_on_recompile_limit_hit": True}


@dataclass(frozen=True)
class Compiled:
    """Args: as of `Eager`. Compiled code is kept by torch and found again in the next process."""

    device: str | None = None
    threads: int = 1
    name: str = "compile"
    inside: bool = False
    _eager: Eager = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_eager", Eager(self.device, self.threads))
        object.__setattr__(self, "device", self._eager.device)

    def conditions(self) -> dict[str, object]:
        return {**self._eager.conditions(), "mode": "torch.compile, fixed shapes"}

    @contextmanager
    def running(self) -> Iterator[None]:
        import torch

        # not inference mode, which guards of compiled code do not know
        dynamo: Any = torch._dynamo  # untyped in torch
        wanted = {name: value for name, value in LIMITS.items() if hasattr(dynamo.config, name)}
        with self._eager.running(), dynamo.config.patch(wanted), torch.inference_mode(False), torch.no_grad():
            yield

    def prepare(self, arch: Arch, setting: Setting) -> Called:
        import torch

        made = function(arch, setting, str(self.device), self.name)
        compiled: Any = torch.compile(made.module, dynamic=False)
        try:
            with self.running():
                got = first(compiled(*made.inputs))
        except Exception as error:  # whatever the compiler behind it raises
            text = " ".join(str(error).split())[:200]
            raise Unsupported(
                f"torch.compile fails ({type(error).__name__}: {text}); on a CPU it needs a C++ compiler such as g++"
            ) from error
        agree(self.name, got, made.expected, BOUND[setting.dtype])
        return Called(lambda: compiled(*made.inputs), made.weight_bytes)
