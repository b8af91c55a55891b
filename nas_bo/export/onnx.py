"""ONNX files for ONNX Runtime and whatever else reads them, batch and length open.

=========================  ========================================================================================================
``model.onnx``             (batch, tokens) ids -> (batch, tokens, vocabulary) logits
``model_with_cache.onnx``  ids, the position of the first of them and the states of the layers -> logits, the new states: for writing
                           text. Blocks that work on pieces of a fixed size take one token a call, and have this file alone.
=========================  ========================================================================================================

With `bits` the matrices of products are stored in so many bits (MatMulNBits of ONNX Runtime: blocks of 32 values with a scale each, to
the nearest value), and the loss on held-out text says what that costs.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nas_bo.errors import ExportError, MissingExtra
from nas_bo.export.check import Check, Cost, HeldOut
from nas_bo.export.folder import TrainedModel
from nas_bo.export.graph_check import agreement, axes, running
from nas_bo.export.huggingface import tokenizer_file
from nas_bo.model.counts import steps

FILE, CACHED = "model.onnx", "model_with_cache.onnx"
TRACED, BEFORE = 48, 3  # tokens of the example, and before it
BLOCK = 32  # values that share a scale


def write(
    made: TrainedModel, folder: Path, bits: int | None = None, held_out: HeldOut | None = None
) -> tuple[str, Check | Cost]:
    """Write the files and the tokenizer, and compare what ONNX Runtime makes of them with the model; as
    `nas_bo.export.huggingface.write`.

    Args:
        bits: of the weights in matrix products; None leaves float32.
        held_out: what says how much fewer bits cost; needed with `bits`.

    Raises:
        ExportError: torch cannot export the model, or ONNX Runtime cannot run it.
        MissingExtra: onnx, onnxscript or onnxruntime is not installed.
    """
    installed()
    import onnxruntime

    tokenizer_file(made, folder)
    files = translated(made)
    if bits is not None:
        files = {name: _rounded(file, bits) for name, file in files.items()}
    for name, file in files.items():
        (folder / name).write_bytes(file)
    runtime = f"onnxruntime {onnxruntime.__version__}"
    with running("ONNX Runtime", "huggingface"):
        graphs = {name: Session(file) for name, file in files.items()}
        check = agreement(made.model, runtime, graphs.get(FILE), graphs.get(CACHED), held_out if bits else None)
    size = sum(map(len, files.values())) / len(files)
    told = f"ONNX with {axes(FILE in files, CACHED in files)}"
    return told + ("" if bits is None else f", matrices in {bits} bits, {size / 1e6:.3g} MB a file"), check


def installed() -> None:
    """Raise MissingExtra where a package lacks."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(package)
        except ImportError:
            raise MissingExtra(package, "onnx") from None


def translated(made: TrainedModel) -> dict[str, bytes]:
    """The files that can be made (raises ExportError where none can)."""
    import torch

    from nas_bo.export.stepping import Stepping, Whole

    open_: object = (
        torch.export.Dim.AUTO
    )  # what torch concludes from the example is too narrow: short ones are tried below
    found: dict[str, bytes] = {}
    reason: ExportError | None = None
    tokens = torch.zeros((2, TRACED), dtype=torch.long)
    try:
        whole = _exported(Whole(made.model).eval(), (tokens,), ({0: open_, 1: open_},), ["tokens"], ["logits"])
        if _is_open(whole):
            found[FILE] = _named(whole)
    except ExportError as error:
        reason = error
    if steps(made.model.spec):
        model = Stepping(made.model).eval()
        with torch.no_grad():
            _, *states = model(
                torch.zeros((2, BEFORE), dtype=torch.long), torch.zeros(1, dtype=torch.long), *model.empty(2)
            )
        shapes = tuple({0: open_} if one.grows is None else {0: open_, one.grows: open_} for one in model.states)
        ends = [f"{one.layer}.{at}" for at, one in enumerate(model.states)]
        names = ["tokens", "position", *(f"past.{end}" for end in ends)]
        given = ["logits", *(f"present.{end}" for end in ends)]
        for length in (TRACED, 1) if FILE in found else (1,):
            example = (tokens[:, :length].contiguous(), torch.tensor([BEFORE]), *(one.clone() for one in states))
            axes = {0: open_, 1: open_} if length > 1 else {0: open_}
            try:
                file = _exported(model, example, (axes, None, shapes), names, given)
            except ExportError as error:
                reason = error
                continue
            if length == 1 or _is_open(file):
                found[CACHED] = _named(
                    file, {f"past.{end}": one.grows for end, one in zip(ends, model.states, strict=True)}
                )
                break
    if not found:
        raise reason or ExportError(
            "torch cannot export this model to ONNX with an open length; export to huggingface instead"
        )
    return found


def _exported(
    model: Any, example: tuple[Any, ...], shapes: tuple[Any, ...], names: list[str], given: list[str]
) -> bytes:
    import torch

    file = io.BytesIO()
    with quiet(), torch.no_grad():
        try:
            program: Any = torch.onnx.export(
                model, example, dynamo=True, verbose=False, dynamic_shapes=shapes, input_names=names, output_names=given
            )
            program.save(file)
        except Exception as error:  # torch wraps whatever an operation raises
            cause = error.__cause__ or error
            text = " ".join(str(cause).split())[:300]
            raise ExportError(
                f"torch cannot export this model to ONNX ({type(cause).__name__}: {text}); export to huggingface instead"
            ) from error
    return file.getvalue()


def _is_open(file: bytes) -> bool:
    """Whether the number of tokens is: torch makes it fixed, without a word, where a block counts in Python."""
    import onnx

    axes = onnx.load_from_string(file).graph.input[0].type.tensor_type.shape.dim
    return not any(axis.HasField("dim_value") for axis in axes)


def _named(file: bytes, grows: dict[str, int | None] | None = None) -> bytes:
    """With open axes called "batch", "tokens" and "past", as the model card says."""
    import onnx

    model = onnx.load_from_string(file)
    for one in model.graph.input:
        for axis, dim in enumerate(one.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value"):
                grown = (grows or {}).get(one.name) == axis
                dim.dim_param = "past" if grown else ("batch", "tokens")[axis] if axis < 2 else dim.dim_param
    data: bytes = model.SerializeToString()
    return data


def _rounded(file: bytes, bits: int) -> bytes:
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    with quiet():
        quantizer = MatMulNBitsQuantizer(onnx.load_from_string(file), bits=bits, block_size=BLOCK, is_symmetric=True)
        quantizer.process()
    data: bytes = quantizer.model.model.SerializeToString()
    return data


class Session:
    """A file in ONNX Runtime, one thread; a `nas_bo.export.graph_check.Graph`."""

    def __init__(self, file: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self.inputs = tuple((one.name, tuple(one.shape)) for one in self._session.get_inputs())

    def run(self, given: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        found: list[np.ndarray] = self._session.run(None, dict(given))
        return found


@contextmanager
def quiet() -> Iterator[None]:
    """Exporters tell at length what they do."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
