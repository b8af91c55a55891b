"""OpenVINO on a CPU, in float32: left alone it computes in bfloat16 on processors that can, which is another network."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from nas_bo.errors import Unsupported
from nas_bo.hardware.runtimes.exported import Called, first, function, kept_file, to_onnx
from nas_bo.hardware.runtimes.interface import agree
from nas_bo.hardware.runtimes.onnxruntime import only_cpu, versions
from nas_bo.hardware.workload import Setting
from nas_bo.model.counts import Arch

BOUND = {"f32": 1e-3, "bf16": 0.1}
HINT = {"float32": "f32", "bfloat16": "bf16"}


@dataclass(frozen=True)
class OpenVino:
    """Args:
    device: "cpu" or None.
    threads: of inference.
    exports: folder where exported models are kept for the next time; None keeps none.
    """

    device: str | None = None
    threads: int = 1
    exports: str | None = None
    name: str = "openvino"
    inside: bool = True  # its threads are its own, also when it is one

    def __post_init__(self) -> None:
        only_cpu(self.name, self.device, self.threads)
        object.__setattr__(self, "device", "cpu")

    def conditions(self) -> dict[str, object]:
        return {"threads": self.threads, **versions("openvino", "openvino", "onnx", "onnxscript", "torch")}

    def running(self) -> AbstractContextManager[None]:
        return nullcontext()

    def prepare(self, arch: Arch, setting: Setting) -> Called:
        import io

        import openvino

        if setting.dtype not in HINT:
            raise Unsupported(f"openvino computes in float32 or bfloat16 here, not in {setting.dtype}")
        # weights stay float32 in the file; the data type is the one that it computes in
        plain = Setting(setting.phase, setting.batch, setting.context, "float32", setting.vocab_size, setting.ignore)
        made = function(arch, plain, "cpu", self.name)
        file = to_onnx(made, self.name, kept_file(self.exports, arch, plain))
        hint = HINT[setting.dtype]
        settings = {
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        try:
            core = openvino.Core()
            request = core.compile_model(core.read_model(io.BytesIO(file)), "CPU", settings).create_infer_request()
            feed = [one.numpy() for one in made.inputs]
            got = first([request.infer(feed, share_inputs=True, share_outputs=True)[0].copy()])
        except Exception as error:  # it raises RuntimeError for everything
            text = " ".join(str(error).split())[:200]
            raise Unsupported(f"openvino cannot run it ({type(error).__name__}: {text})") from error
        agree(self.name, got, made.expected, BOUND[hint])
        return Called(lambda: request.infer(feed, share_inputs=True, share_outputs=True), made.weight_bytes)
