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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nas_bo.errors import ExportError, MissingExtra
from nas_bo.export.check import CONTINUED, POSITIONS, Check, Cost, HeldOut, Logits, compared, prompt, weighed
from nas_bo.export.folder import TrainedModel
from nas_bo.export.huggingface import tokenizer_file
from nas_bo.model.counts import steps

FILE, CACHED = "model.onnx", "model_with_cache.onnx"
TRACED, BEFORE = 48, 3  # tokens of the example, and before it
LENGTHS = (1, 2, 300)  # that are tried in addition to those of the check
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

    files = _files(made)
    if bits is not None:
        files = {name: _rounded(file, bits) for name, file in files.items()}
    for name, file in files.items():
        (folder / name).write_bytes(file)
    tokenizer_file(made, folder)
    runtime = f"onnxruntime {onnxruntime.__version__}"
    try:
        check = _check(made, files, runtime, held_out if bits else None)
    except ExportError:
        raise
    except Exception as error:  # its own exceptions have no common base
        said = " ".join(str(error).split())[:200]
        raise ExportError(
            f"ONNX Runtime cannot run what was written ({type(error).__name__}: {said}), so it is not handed over; export to huggingface, "
            "and please report this"
        ) from None
    told = "ONNX with batch and length open" if FILE in files else "ONNX with the batch open, one token a call"
    told += (
        ", without and with a cache" if len(files) > 1 else ", with a cache" if CACHED in files else ", without a cache"
    )
    size = sum(map(len, files.values())) / len(files)
    return told + ("" if bits is None else f", matrices in {bits} bits, {size / 1e6:.3g} MB a file"), check


def installed() -> None:
    """Raise MissingExtra where a package lacks."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(package)
        except ImportError:
            raise MissingExtra(package, "onnx") from None


def _files(made: TrainedModel) -> dict[str, bytes]:
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


def _check(made: TrainedModel, files: dict[str, bytes], runtime: str, held_out: HeldOut | None) -> Check | Cost:
    """Both files, at several lengths and token by token (raises what ONNX Runtime raises)."""
    runs: list[_Whole | _Cached] = [_Whole(files[FILE])] if FILE in files else []
    runs += [_Cached(files[CACHED])] if CACHED in files else []
    if held_out is not None:
        return max((weighed(made.model, runtime, run, held_out) for run in runs), key=lambda cost: cost.after)
    checks = [compared(made.model, runtime, run) for run in runs]
    worst = max(checks, key=lambda check: (not check.greedy, check.difference))
    longest = len(prompt(made.model))  # past every window
    lengths = (*LENGTHS, *([longest] if longest > POSITIONS else []))
    apart = [_apart(made.model, run, length) for run in runs for length in lengths]
    cached = [_one_by_one(made.model, run, longest + CONTINUED) for run in runs if isinstance(run, _Cached)]
    return replace(worst, difference=max(worst.difference, *apart, *cached), cached=bool(cached))


class _Whole:
    """``model.onnx``: (tokens,) ids -> (tokens, vocabulary) logits."""

    def __init__(self, file: bytes) -> None:
        self._session = _session(file)

    def __call__(self, ids: Sequence[int]) -> Logits:
        found: Logits = self.batch(np.array([ids], np.int64))[0]
        return found

    def batch(self, tokens: Logits) -> Logits:
        found: Logits = self._session.run(None, {"tokens": tokens})[0]
        return found


class _Cached:
    """``model_with_cache.onnx``, as a user runs it."""

    def __init__(self, file: bytes) -> None:
        self._session = _session(file)
        inputs = self._session.get_inputs()
        self._names, self._shapes = [one.name for one in inputs], [one.shape for one in inputs[2:]]
        self.one = inputs[0].shape[1] == 1  # token a call
        self.forget(1)

    def forget(self, batch: int) -> None:
        self._at = 0
        sizes = {"batch": batch, "past": 0}
        self._states = [
            np.zeros([sizes[axis] if isinstance(axis, str) else axis for axis in shape], np.float32)
            for shape in self._shapes
        ]

    def more(self, tokens: Logits) -> Logits:
        """(B, T) ids after those before -> logits."""
        if self.one and tokens.shape[1] > 1:
            return np.concatenate([self.more(tokens[:, i : i + 1]) for i in range(tokens.shape[1])], 1)
        given = [tokens, np.array([self._at], np.int64), *self._states]
        logits, *self._states = self._session.run(None, dict(zip(self._names, given, strict=True)))
        self._at += tokens.shape[1]
        found: Logits = logits
        return found

    def __call__(self, ids: Sequence[int]) -> Logits:
        found: Logits = self.batch(np.array([ids], np.int64))[0]
        return found

    def batch(self, tokens: Logits) -> Logits:
        self.forget(len(tokens))
        return self.more(tokens)


def _session(file: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def _apart(model: Any, run: _Whole | _Cached, length: int) -> float:
    """The largest difference on a batch of so many tokens each."""
    import torch

    most = model.spec.details.max_length or length
    tokens = np.random.default_rng(length).integers(0, model.vocab_size, (3, min(length, most)))
    with torch.inference_mode():
        expected = model(torch.from_numpy(tokens)).float().cpu().numpy()
    return _difference(run.batch(tokens), expected)


def _one_by_one(model: Any, run: _Cached, length: int) -> float:
    """The same of so many tokens, of which the last ones go in one by one."""
    import torch

    length = min(length, model.spec.details.max_length or length)
    tokens = np.random.default_rng(0).integers(0, model.vocab_size, (1, length))
    with torch.inference_mode():
        expected = model(torch.from_numpy(tokens)).float().cpu().numpy()
    run.forget(1)
    last = max(0, length - CONTINUED)
    parts = [tokens[:, :last], *(tokens[:, i : i + 1] for i in range(last, length))]
    return _difference(np.concatenate([run.more(part) for part in parts if part.size], 1), expected)


def _difference(found: Logits, expected: Logits) -> float:
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - expected).max())


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
