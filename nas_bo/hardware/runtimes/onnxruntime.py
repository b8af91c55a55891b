"""ONNX Runtime on a CPU, in float32 or with weights and activations in int8 (dynamic quantisation).

A model is exported by torch with fixed shapes, which takes one to three seconds, and its logits are compared with those
of eager torch before its time counts. A decoded token is one call with keys, values and states in and out.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from nas_bo import temporary
from nas_bo.errors import MissingExtra, ObjectiveError, Unsupported
from nas_bo.hardware.runtimes.exported import Called, first, function, kept_file, to_onnx
from nas_bo.hardware.runtimes.interface import agree
from nas_bo.hardware.workload import Setting
from nas_bo.model.counts import Arch
from nas_bo.validated import check_values, whole_number

BOUND = {False: 1e-3, True: 0.25}  # of the logits' distance from eager; int8 of random weights is some hundredths


@dataclass(frozen=True)
class OnnxRuntime:
    """Args:
    device: "cpu" or None.
    threads: within an operation.
    exports: folder where exported models are kept for the next time; None keeps none.
    int8: quantise matrix products dynamically.
    """

    device: str | None = None
    threads: int = 1
    exports: str | None = None
    int8: bool = False
    name: str = ""
    inside: bool = False

    def __post_init__(self) -> None:
        only_cpu("onnxruntime", self.device, self.threads)
        object.__setattr__(self, "device", "cpu")
        object.__setattr__(self, "name", "onnxruntime-int8" if self.int8 else "onnxruntime")

    def conditions(self) -> dict[str, object]:
        return {"threads": self.threads, **versions("onnx", "onnxruntime", "onnx", "onnxscript", "torch")}

    def running(self) -> AbstractContextManager[None]:
        return nullcontext()

    def prepare(self, arch: Arch, setting: Setting) -> Called:
        import onnxruntime

        if setting.dtype != "float32":
            raise Unsupported(f"{self.name} takes float32 models here, not {setting.dtype}")
        made = function(arch, setting, "cpu", self.name)
        file = to_onnx(made, self.name, kept_file(self.exports, arch, setting))
        if self.int8:
            file = _quantised(file)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
            names = [one.name for one in session.get_inputs()]
            feed = dict(zip(names, (one.numpy() for one in made.inputs), strict=True))
            got = first(session.run(None, feed))
        except Exception as error:  # its own exceptions have no common base
            text = " ".join(str(error).split())[:200]
            raise Unsupported(f"{self.name} cannot run it ({type(error).__name__}: {text})") from error
        agree(self.name, got, made.expected, BOUND[self.int8])
        return Called(lambda: session.run(None, feed), made.weight_bytes)


def _quantised(file: bytes) -> bytes:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from nas_bo.export.onnx import quiet

    with temporary.folder("onnx") as folder:
        source, target = folder / "model.onnx", folder / "int8.onnx"
        source.write_bytes(file)
        with quiet():
            quantize_dynamic(source, target, weight_type=QuantType.QInt8)
        return target.read_bytes()


def only_cpu(name: str, device: str | None, threads: int) -> None:
    """Raise ObjectiveError for another device than the CPU, or no threads."""
    if device not in (None, "cpu"):
        raise ObjectiveError(
            f"{name} is run on the CPU here, not on {device!r}; leave the device out, or use runtime 'eager'"
        )
    check_values(name, ObjectiveError, whole_number(1), threads=threads)


def versions(extra: str, *packages: str) -> dict[str, str]:
    """Versions of packages (raises MissingExtra for one that is not installed)."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            raise MissingExtra(package, extra) from None
    return found
