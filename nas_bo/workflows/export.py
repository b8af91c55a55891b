"""What is done with the folder of a trained model: text from it, and other formats.

An export is written next to its place, run in the program that it is for, compared with the trained model, and only then put where
it was asked for. One that computes something else stays next to it under the name ``DIR.unverified``.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_bo.architecture import Architecture
from nas_bo.errors import ExportError, near
from nas_bo.export import folder as files
from nas_bo.export.card import card
from nas_bo.export.check import Check, Cost, require, says_something
from nas_bo.export.fits import fits
from nas_bo.export.homes import TRANSFORMERS
from nas_bo.export.token_roles import files_of
from nas_bo.workflows.held_out import held_out

if TYPE_CHECKING:
    from nas_bo.mlflow.exported import Logged

FORMATS = ("huggingface", "gguf", "onnx", "openvino", "folder")
BITS = {"onnx": (8, 4, 2), "openvino": (8, 4, 3, 2)}
"""Of the weights of matrices, by format."""
PACKED = "packed"  # a type of weights
PADDING = 0.1
_LOADED = """```python
from transformers import pipeline

print(pipeline("text-generation", "{name}"{more})("def ")[0]["generated_text"])
```
"""
_ONNX = """```python
import numpy, onnxruntime, tokenizers

tokenizer = tokenizers.Tokenizer.from_file("{name}/tokenizer.json")
session = onnxruntime.InferenceSession("{name}/model_with_cache.onnx")
names = [one.name for one in session.get_inputs()]  # tokens (batch, tokens), position (1,), and what the layers remember
states = [
    numpy.zeros([{{"batch": 1, "past": 0}}.get(axis, axis) for axis in one.shape], numpy.float32)
    for one in session.get_inputs()[2:]
]
ids = tokenizer.encode("def ").ids
for at in range(100):
    given = [numpy.array([[ids[at]]]), numpy.array([at]), *states]
    logits, *states = session.run(None, dict(zip(names, given)))
    if at + 1 == len(ids):
        ids.append(int(logits[0, -1].argmax()))
print(tokenizer.decode(ids))
```
"""
_OPENVINO = """```python
import numpy, openvino, tokenizers

tokenizer = tokenizers.Tokenizer.from_file("{name}/tokenizer.json")
model = openvino.compile_model("{name}/model_with_cache.xml", "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})
request = model.create_infer_request()
states = [  # axis 0 is the batch, other open axes are as long as there are tokens before
    numpy.zeros([int(at == 0) if axis.is_dynamic else axis.get_length() for at, axis in enumerate(one.partial_shape)], numpy.float32)
    for one in model.inputs[2:]
]
ids = tokenizer.encode("def ").ids
for at in range(100):
    found = request.infer([numpy.array([[ids[at]]]), numpy.array([at]), *states])
    logits, *states = [numpy.array(one) for one in found.values()]
    if at + 1 == len(ids):
        ids.append(int(logits[0, -1].argmax()))
print(tokenizer.decode(ids))
```
"""
_USE = {
    "huggingface": _LOADED.replace("{more}", ""),
    "packed": "`pip install compressed-tensors`, and then\n\n" + _LOADED.replace("{more}", ""),
    "remote": _LOADED.replace("{more}", ", trust_remote_code=True"),
    "gguf": '```console\n$ llama-cli -m {name}/model.gguf -p "def "\n```\n',
    "onnx": _ONNX,
    "onnx, whole": '```python\nimport numpy, onnxruntime\nsession = onnxruntime.InferenceSession("{name}/model.onnx")\nsession.run(None, {{"tokens": numpy.array([[100, 101, 102]])}})  # logits (batch, tokens, vocabulary)\n```\n',
    "openvino": _OPENVINO,
    "openvino, whole": '```python\nimport numpy, openvino\nmodel = openvino.compile_model("{name}/model.xml", "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})\nmodel(numpy.array([[100, 101, 102]]))[0]  # logits (batch, tokens, vocabulary)\n```\n',
    "folder": '```console\n$ nas-bo generate {name} "def "\n```\n',
}


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        what: as what, in a few words.
        check: how another program agreed with the trained model, or what fewer bits cost there; None where none could be asked, with
            the reason in `unchecked`.
        about: what ``model.json`` says about the model, with the id of its architecture.
    """

    folder: Path
    format: str
    what: str
    check: Check | Cost | None
    unchecked: str = ""
    about: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return f"{self.folder}: {self.what}\n" + (
            f"checked with {self.check}" if self.check else f"not checked: {self.unchecked}"
        )


def export(
    folder: str | Path,
    to: str | Path,
    format: str = "huggingface",
    *,
    padding: float | None = None,
    remote_code: bool = False,
    type: str | None = None,
    bits: int | None = None,
    text: str | Path | None = None,
) -> Exported:
    """Write the model in `folder`, one of `nas-bo train`, in another format.

    Args:
        format: "huggingface", "gguf", "onnx", "openvino", or "folder", a copy.
        padding: for "huggingface" and "gguf", the most weights of zeros that may be added, as a share, for a class whose layers are all of
            one size; None is 0.1.
        remote_code: for "huggingface" and an architecture that no stock class holds: write a class of nas_bo's own into the folder,
            which needs no nas_bo and is loaded with ``trust_remote_code=True``.
        type: for "gguf", one of `nas_bo.export.gguf_types.TYPES`, such as "Q4_K_M"; for "huggingface" and a model that was quantized
            without zero points, "packed": its integers, in the form of compressed-tensors, which whoever loads it needs. None is float32.
        bits: for "onnx" and "openvino", of the weights of matrix products, one of `BITS`; None is float32.
        text: with `type` or `bits`, a file of text that says what they cost; None is what was held out of the text of the training.

    Raises:
        ExportError: there is no model, the format cannot hold it, `to` exists, or the export does not compute the same.
        MissingExtra: what writes or runs the format is not installed.
    """
    if format not in FORMATS:
        raise ExportError(f"there is no format {format!r}{near(format, FORMATS)}; there are {', '.join(FORMATS)}")
    if padding is not None and not 0 <= padding < 1e6:
        raise ExportError(f"padding={padding!r} is a share of the weights, 0 or more, such as 0.1")
    kind = _fewer(format, {"padding": padding, "type": type, "bits": bits, "remote_code": remote_code or None}, text)
    most_zeros = PADDING if padding is None else padding
    target = Path(to)
    draft = files.place(target)
    made = files.load(folder)
    if made.about.get("quantization", {}).get("activations"):
        raise ExportError(
            f"the model in {str(folder)!r} rounds its activations to 8 bits while it runs, which files of other tools do not say; "
            "compress it without --activations, and quantize activations in the other tool"
        )
    says_something(made.model, str(folder))
    packed = kind == PACKED
    fewer = None if kind in ("F32", PACKED) and bits is None else held_out(made, text)
    unchecked = ""
    check: Check | Cost | None = None
    use = format
    try:
        files.write(draft, {})
        if format == "huggingface":
            from nas_bo.export import huggingface, remote

            if remote_code and not packed and huggingface.no_stock_class(made, most_zeros):
                use = "remote"
                what, check = remote.write(made, draft)
            else:
                what, check = huggingface.write(made, draft, most_zeros, packed)
                use = "packed" if packed else use
        elif format == "gguf":
            from nas_bo.export import gguf

            what, check, unchecked = gguf.write(made, draft, most_zeros, kind, fewer)
        elif format == "onnx":
            from nas_bo.export import onnx

            what, check = onnx.write(made, draft, bits, fewer)
            use = "onnx" if (draft / onnx.CACHED).is_file() else "onnx, whole"
        elif format == "openvino":
            from nas_bo.export import openvino

            what, check = openvino.write(made, draft, bits, fewer)
            use = "openvino" if (draft / openvino.CACHED).is_file() else "openvino, whole"
        else:
            what, unchecked = "a copy", "a copy of the weights needs no check"
            names = (files.ARCH, files.WEIGHTS, files.ABOUT)
            files.write(draft, {name: (made.folder / name).read_bytes() for name in names})
            files.write(draft, files_of(made.tokenizer))
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)  # unfinished, and nothing to be looked at
        if isinstance(error, OSError):
            raise ExportError(
                f"the folder {str(target)!r} cannot be written ({error.strerror or error}); choose another with --to"
            ) from error
        raise
    if check is not None:
        require(check, str(draft))
    if fewer is None and format != "folder" and made.about.get("quantization") and not packed:
        what += ", its rounded weights as float32" + (
            f" (--type {PACKED} keeps them integers)" if use == "huggingface" else ""
        )
    said = f"Written as {what}. " + (f"Checked with {check}." if check else f"Not checked: {unchecked}.")
    if isinstance(check, Cost):
        said += f" After a prompt of eight tokens it continues: `{made.text().text(check.continued)!r}`."
    use_text = _USE[use].format(name=target.name)
    about = {"architecture": made.architecture.id, **made.about}
    text = card(about, use_text, said + "\n", format == "huggingface")
    picture = made.folder / files.DRAWING  # where it is a link it may be any file of this machine
    extra = {} if picture.is_symlink() or not picture.is_file() else {files.DRAWING: picture.read_bytes()}
    arch = {} if format == "folder" else {files.ARCH: made.architecture.to_json().encode()}
    files.write(draft, {**extra, **arch, files.CARD: text.encode()})
    files.readable(draft)
    draft.replace(target)
    return Exported(target, format, what, check, unchecked, about)


def check_log(*, track: str | Path | None = None, name: str = "nas-bo", alias: str = "") -> None:
    """Whether `log` can write there, before there is an export (raises HostError); arguments as there."""
    from nas_bo.mlflow.exported import check_place

    check_place(track, name, alias)


def log(made: Exported, *, track: str | Path | None = None, name: str = "nas-bo", alias: str | None = None) -> Logged:
    """Log an export in MLflow, as a run next to its trial and as a version of the registered model `name`.

    Args:
        track: a tracking URI or a file; default as for `nas_bo.mlflow.Tracker`.
        alias: None is the format.

    Raises:
        HostError: the store cannot be written, or takes no such name or alias.
    """
    from nas_bo.mlflow.exported import log_export

    return log_export(
        made.folder, made.format, made.about, made.what, track=track, name=name, alias=alias or made.format
    )


BELONGS = {
    "padding": ("huggingface", "gguf"),
    "type": ("gguf", "huggingface"),
    "bits": tuple(BITS),
    "remote_code": ("huggingface",),
}
"""Options, and the formats for which each has an effect."""


def _fewer(format: str, given: Mapping[str, Any], text: str | Path | None) -> str:
    """The type of the weights (raises ExportError for what the format has not).

    Args:
        given: the values of the options that not every format has; None is not given.
    """
    from nas_bo.export.gguf_types import named

    for option, where in BELONGS.items():
        if given[option] is not None and format not in where:
            raise ExportError(
                f"--{option.replace('_', '-')} belongs to {'the format' if len(where) == 1 else 'the formats'} {' and '.join(where)}, not to "
                f"{format}; leave it out, or export with --format {' or '.join(where)}"
            )
    type, bits = given["type"], given["bits"]
    if text is not None and type in (None, PACKED) and bits is None:
        raise ExportError(
            "--text says what fewer bits cost; leave it out, or give --bits, or with --format gguf --type"
        )
    if bits is not None and bits not in BITS[format]:
        raise ExportError(
            f"bits={bits!r}: {format} has matrices of {', '.join(map(str, BITS[format]))} bits; choose one of these"
        )
    if format == "huggingface" and type is not None and type != PACKED:
        raise ExportError(
            f"--type {type}: a folder of huggingface has the type {PACKED}, of a compressed model; other types are those of --format gguf"
        )
    if type is None:
        return "F32"
    return type if format == "huggingface" else named(type)


def command(folder: str | Path, arch: Architecture, vocab_size: int, ignore: Sequence[str] = ()) -> str:
    """How the model in a folder is exported to transformers: to a stock class where one holds it."""
    best = fits(arch, TRANSFORMERS, ignore, vocab_size)[0]
    more = " --remote-code" if best.reasons or best.padding > PADDING else ""
    return f"nas-bo export {shlex.quote(str(folder))} --format huggingface{more} --to hf"


def continued(folder: str | Path, prompt: str, tokens: int = 200, temperature: float = 0.7, seed: int = 0) -> str:
    """`prompt` and what the model in `folder` makes of it.

    Raises:
        ExportError: the folder holds no model, its tokenizer is gone, or the prompt is empty.
    """
    import torch

    from nas_bo.model import generate

    made = files.load(folder)
    text = made.text()
    ids = text.ids(prompt)
    if not ids:
        raise ExportError("the prompt is empty; give at least one character to continue")
    wrong = max(ids)
    if wrong >= made.model.vocab_size:
        raise ExportError(
            f"the tokenizer gives the id {wrong} and the model in {str(made.folder)!r} has only {made.model.vocab_size}; put the "
            "tokenizer that it was trained with back"
        )
    draws = torch.Generator().manual_seed(seed)
    rows = generate(made.model, torch.tensor([ids]), tokens, temperature=temperature, generator=draws)
    return text.text(rows[0].tolist())
