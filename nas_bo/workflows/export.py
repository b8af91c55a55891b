"""What is done with the folder of a trained model: text from it, and other formats.

An export is written next to its place, run in the program that it is for, compared with the trained model, and only then put where
it was asked for. One that computes something else stays next to it under the name ``DIR.unverified``.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from nas_bo.errors import ExportError
from nas_bo.export import folder as files
from nas_bo.export.card import card
from nas_bo.export.check import Check, require

FORMATS = ("huggingface", "gguf", "onnx", "folder")
PADDING = 0.1
_USE = {
    "huggingface": '```python\nfrom transformers import pipeline\npipeline("text-generation", "{name}")("def ")\n```\n',
    "remote": '```python\nfrom transformers import pipeline  # needs nas_bo\npipeline("text-generation", "{name}", trust_remote_code=True)("def ")\n```\n',
    "gguf": '```console\n$ llama-cli -m {name}/model.gguf -p "def "\n```\n',
    "onnx": '```python\nimport numpy, onnxruntime\nsession = onnxruntime.InferenceSession("{name}/model.onnx")\nsession.run(None, {{"tokens": numpy.array([[100, 101, 102]])}})  # logits (batch, tokens, vocabulary)\n```\n',
    "folder": '```console\n$ nas-bo generate {name} "def "\n```\n',
}


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        what: as what, in a few words.
        check: how another program agreed with the trained model; None where none could be asked, with the reason in `unchecked`.
    """

    folder: Path
    format: str
    what: str
    check: Check | None
    unchecked: str = ""

    def __str__(self) -> str:
        return f"{self.folder}: {self.what}\n" + (
            f"checked with {self.check}" if self.check else f"not checked: {self.unchecked}"
        )


def export(
    folder: str | Path,
    to: str | Path,
    format: str = "huggingface",
    *,
    padding: float = PADDING,
    remote_code: bool = False,
) -> Exported:
    """Write the model in `folder`, one of `nas-bo train`, in another format.

    Args:
        format: "huggingface", "gguf", "onnx", or "folder", a copy.
        padding: the most weights of zeros that may be added, as a share, for a class whose layers are all of one size.
        remote_code: for "huggingface" and an architecture that no stock class holds: write a class of nas_bo's own, which is loaded
            with ``trust_remote_code=True`` where nas_bo is installed.

    Raises:
        ExportError: there is no model, the format cannot hold it, `to` exists, or the export does not compute the same.
        MissingExtra: what writes or runs the format is not installed.
    """
    if format not in FORMATS:
        raise ExportError(f"there is no format {format!r}; there are {', '.join(FORMATS)}")
    if not 0 <= padding < 1e6:
        raise ExportError(f"padding={padding!r} is a share of the weights, 0 or more, such as 0.1")
    target = Path(to)
    if target.exists():
        raise ExportError(f"{str(target)!r} exists; give a folder that does not, or remove it")
    made = files.load(folder)
    if made.about.get("quantization", {}).get("activations"):
        raise ExportError(
            f"the model in {str(folder)!r} rounds its activations to 8 bits while it runs, which files of other tools do not say; "
            "compress it without --activations, and quantize activations in the other tool"
        )
    draft = target.with_name(f"{target.name}.unverified")
    if draft.exists():
        raise ExportError(f"{str(draft)!r} is there from an export that was not verified; look at it, and remove it")
    unchecked, check = "", None
    kind = format
    try:
        files.write(draft, {})
        if format == "huggingface":
            from nas_bo.export import huggingface, remote

            if remote_code and huggingface.no_stock_class(made, padding):
                kind = "remote"
                what, check = remote.write(made, draft)
            else:
                what, check = huggingface.write(made, draft, padding)
        elif format == "gguf":
            from nas_bo.export import gguf

            what, check, unchecked = gguf.write(made, draft, padding)
        elif format == "onnx":
            from nas_bo.export import onnx

            what, check = onnx.write(made, draft)
        else:
            what, unchecked = "a copy", "a copy of the weights needs no check"
            names = (files.ARCH, files.WEIGHTS, files.ABOUT)
            files.write(draft, {name: (made.folder / name).read_bytes() for name in names})
            if made.tokenizer is not None:
                files.write(draft, {made.tokenizer.name: made.tokenizer.read_bytes()})
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)  # unfinished, and nothing to be looked at
        raise
    if check is not None:
        require(check, str(draft))
    said = f"Written as {what}. " + (f"Checked with {check}." if check else f"Not checked: {unchecked}.")
    use = _USE[kind].format(name=target.name)
    about = {"architecture": made.architecture.id, **made.about}
    text = card(about, use, said + "\n", kind in ("huggingface", "remote"))
    extra = {name: (made.folder / name).read_bytes() for name in (files.DRAWING,) if (made.folder / name).is_file()}
    arch = {} if format == "folder" else {files.ARCH: made.architecture.to_json().encode()}
    files.write(draft, {**extra, **arch, files.CARD: text.encode()})
    draft.replace(target)
    return Exported(target, format, what, check, unchecked)


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
