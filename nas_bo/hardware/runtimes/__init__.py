"""What runs a model on a device: each runtime is one file, named as users name it, and loads its packages when used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from nas_bo.errors import ObjectiveError
from nas_bo.hardware.runtimes.interface import Prepared, Runtime

if TYPE_CHECKING:
    from nas_bo.hardware.runtimes.compiled import Compiled as Compiled
    from nas_bo.hardware.runtimes.eager import Eager as Eager
    from nas_bo.hardware.runtimes.llama_cpp import LlamaCppRuntime as LlamaCppRuntime
    from nas_bo.hardware.runtimes.onnxruntime import OnnxRuntime as OnnxRuntime
    from nas_bo.hardware.runtimes.openvino import OpenVino as OpenVino

NAMES: dict[str, tuple[str, str, dict[str, bool | str]]] = {
    "eager": ("eager", "Eager", {}),
    "cuda-graphs": ("eager", "Eager", {"graphs": True}),
    "compile": ("compiled", "Compiled", {}),
    "onnxruntime": ("onnxruntime", "OnnxRuntime", {}),
    "onnxruntime-int8": ("onnxruntime", "OnnxRuntime", {"int8": True}),
    "openvino": ("openvino", "OpenVino", {}),
    "llama.cpp": ("llama_cpp", "LlamaCppRuntime", {}),
    **{
        f"llama.cpp-{kind.lower()}": ("llama_cpp", "LlamaCppRuntime", {"type": kind})
        for kind in ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K")
    },
}


def runtime(name: str, device: str | None = None, threads: int = 1) -> Runtime:
    """The runtime of a name in `NAMES`.

    Args:
        device: as in torch; None is CUDA where there is one and the runtime can use it, else the CPU.
        threads: of the CPU.

    Raises:
        ObjectiveError: there is no such runtime or device.
        MissingExtra: its packages are not installed.
    """
    if name not in NAMES:
        raise ObjectiveError(f"there is no runtime {name!r}; there are {', '.join(NAMES)}")
    module, kind, settings = NAMES[name]
    kinds = vars(import_module(f"nas_bo.hardware.runtimes.{module}"))
    found: Runtime = kinds[kind](device=device, threads=threads, **settings)
    found.conditions()
    return found


__all__ = ["NAMES", "Prepared", "Runtime", "runtime"]
