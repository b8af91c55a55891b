"""Files for OpenVINO (`.xml` with a `.bin` each), of the graphs of `nas_bo.export.onnx`: batch and length open, float32.

With `bits` the weights of matrices are stored in so many bits by NNCF (to the nearest value; 4 bits and fewer symmetric, with a float16
scale for each 32 values of a row, or for fewer where a row is not a multiple of 32; embedding and head in 8 bits with a zero point), and
the loss on held-out text says what that costs.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from nas_bo.errors import MissingExtra
from nas_bo.export import onnx
from nas_bo.export.check import Check, Cost, HeldOut
from nas_bo.export.folder import TrainedModel
from nas_bo.export.graph_check import agreement, axes, running
from nas_bo.export.huggingface import tokenizer_file

FILE, CACHED = "model.xml", "model_with_cache.xml"
BITS = (8, 4, 3, 2)
GROUP = 32  # values that share a scale
SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
"""Of the check: left alone OpenVINO computes in bfloat16 on processors that can."""
NO_STATISTICS = "NNCF_CI"


def write(
    made: TrainedModel, folder: Path, bits: int | None = None, held_out: HeldOut | None = None
) -> tuple[str, Check | Cost]:
    """Write the files and the tokenizer, and compare what OpenVINO makes of them with the model; as `nas_bo.export.onnx.write`.

    Raises:
        ExportError: torch cannot export the model, or OpenVINO cannot run it.
        MissingExtra: openvino, onnx or onnxscript is not installed; with `bits`, nncf.
    """
    installed(bits)
    import openvino

    core, graphs, size = openvino.Core(), {}, 0
    runtime = f"openvino {openvino.__version__.partition('-')[0]}"
    tokenizer_file(made, folder)
    with running("OpenVINO", "onnx or huggingface"):
        for name, file in onnx.translated(made).items():
            model = core.read_model(io.BytesIO(file))
            if bits is not None:
                model = _rounded(model, bits)
            path = folder / name.replace(".onnx", ".xml")
            openvino.save_model(model, path, compress_to_fp16=False)
            size += path.stat().st_size + path.with_suffix(".bin").stat().st_size
            graphs[path.name] = Compiled(core, path)
        check = agreement(made.model, runtime, graphs.get(FILE), graphs.get(CACHED), held_out if bits else None)
    told = f"OpenVINO with {axes(FILE in graphs, CACHED in graphs)}"
    return told + (
        "" if bits is None else f", matrices in {bits} bits, {size / len(graphs) / 1e6:.3g} MB a file"
    ), check


def installed(bits: int | None = None) -> None:
    """Raise MissingExtra where a package lacks."""
    for package in ("openvino", "onnx", "onnxscript", *(["nncf"] if bits else [])):
        if find_spec(package) is None:
            raise MissingExtra(package, "nncf" if package == "nncf" else "openvino")


class Compiled:
    """A file in OpenVINO, float32 and one thread; a `nas_bo.export.graph_check.Graph`."""

    def __init__(self, core: Any, path: Path) -> None:
        model = core.read_model(path)
        self._request = core.compile_model(model, "CPU", SETTINGS).create_infer_request()
        self.inputs = tuple((one.get_any_name(), _shape(one)) for one in model.inputs)

    def run(self, given: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        outputs = self._request.infer(dict(given))
        return [np.array(outputs[at]) for at in range(len(outputs))]  # its memory is used again by the next call


def _shape(given: Any) -> tuple[int | str, ...]:
    """With open axes called as `nas_bo.export.graph_check.Graph` says; OpenVINO does not keep their names."""
    rest = "tokens" if given.get_any_name() == "tokens" else "past"
    return tuple(
        axis.get_length() if axis.is_static else "batch" if at == 0 else rest
        for at, axis in enumerate(given.get_partial_shape())
    )


def _rounded(model: Any, bits: int) -> Any:
    with _silent():
        import nncf
        from nncf.quantization.advanced_parameters import GroupSizeFallbackMode

        if bits == 8:
            return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)
        more = nncf.AdvancedCompressionParameters(group_size_fallback_mode=GroupSizeFallbackMode.ADJUST)
        mode = nncf.CompressWeightsMode[f"INT{bits}_SYM"]
        return nncf.compress_weights(model, mode=mode, group_size=GROUP, advanced_parameters=more)


@contextmanager
def _silent() -> Iterator[None]:
    """NNCF reports on the standard output, and sends statistics of its use to its makers unless this variable is set when it is first
    imported."""
    before = os.environ.get(NO_STATISTICS)
    os.environ[NO_STATISTICS] = "1"
    log = logging.getLogger("nncf")
    was, log.disabled = log.disabled, True
    try:
        with onnx.quiet(), redirect_stdout(io.StringIO()):
            yield
    finally:
        log.disabled = was
        if before is None:
            del os.environ[NO_STATISTICS]
        else:
            os.environ[NO_STATISTICS] = before
