"""An ONNX file with batch and length open, (batch, tokens) ids -> (batch, tokens, vocabulary) logits, without a cache.

Mixtures of experts, whose rows go where the data says, are refused.
"""

from __future__ import annotations

import io
import logging
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nas_bo.errors import ExportError, MissingExtra
from nas_bo.export.check import Check, Logits, compared
from nas_bo.export.folder import TrainedModel
from nas_bo.export.huggingface import tokenizer_file

FILE = "model.onnx"
TRACED = 48  # tokens of the example
LENGTHS = (1, 2, 300)  # that are tried in addition to those of the check


def write(made: TrainedModel, folder: Path) -> tuple[str, Check]:
    """Write the file and the tokenizer, and compare what ONNX Runtime makes of them with the model; as
    `nas_bo.export.huggingface.write`.

    Raises:
        ExportError: torch cannot export the model, or ONNX Runtime cannot run it.
        MissingExtra: onnx, onnxscript or onnxruntime is not installed.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(package)
        except ImportError:
            raise MissingExtra(package, "onnx") from None
    import onnxruntime

    if any(getattr(layer.mlp, "experts", 0) for layer in made.model.spec.layers):
        raise ExportError(
            "the model has mixtures of experts (mlp is moe), whose rows go where the data says, which ONNX cannot write down here; export to "
            "huggingface, or search with dense MLPs"
        )
    path = folder / FILE
    path.write_bytes(_exported(made.model))
    tokenizer_file(made, folder)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

        def logits(ids: list[int]) -> Logits:
            found: Logits = session.run(None, {"tokens": np.array([ids], np.int64)})[0][0]
            return found

        check = compared(made.model, f"onnxruntime {onnxruntime.__version__}", logits)
        check = replace(check, difference=max(check.difference, *(_apart(made.model, session, n) for n in LENGTHS)))
    except Exception as error:  # its own exceptions have no common base
        text = " ".join(str(error).split())[:200]
        raise ExportError(
            f"ONNX Runtime cannot run what was written ({type(error).__name__}: {text}), so it is not handed over; export to huggingface, "
            "and please report this"
        ) from None
    return "ONNX with batch and length open, without a cache", check


def _apart(model: Any, session: Any, length: int) -> float:
    """The largest difference on a batch of so many tokens each."""
    import torch

    most = model.spec.details.max_length or length
    tokens = np.random.default_rng(length).integers(0, model.vocab_size, (3, min(length, most)))
    with torch.inference_mode():
        expected = model(torch.from_numpy(tokens)).numpy()
    found = session.run(None, {"tokens": tokens})[0]
    return float(np.abs(found - expected).max()) if found.shape == expected.shape else float("inf")


def _exported(model: Any) -> bytes:
    import torch

    open_ = (
        torch.export.Dim.AUTO
    )  # what torch concludes from the example of lengths is too narrow: short ones are tried below
    example = torch.zeros((2, TRACED), dtype=torch.long)
    file = io.BytesIO()
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # exporters tell at length what they do
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                model, (example,), dynamo=True, verbose=False,
                dynamic_shapes={"tokens": {0: open_, 1: open_}}, input_names=["tokens"], output_names=["logits"],
            )  # fmt: skip
            program.save(file)
    except Exception as error:  # torch wraps whatever an operation raises
        cause = error.__cause__ or error
        text = " ".join(str(cause).split())[:300]
        raise ExportError(
            f"torch cannot export this model to ONNX ({type(cause).__name__}: {text}); export to huggingface instead"
        ) from error
    finally:
        logging.disable(before)
    return file.getvalue()
