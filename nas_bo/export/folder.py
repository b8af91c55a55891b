"""A trained model as a folder, of which the registry keeps a copy and every export is made.

=====================  ==========================================================================================
``arch.json``          the architecture
``model.json``         the vocabulary, how the weights were made, and what they were evaluated to
``model.safetensors``  the weights
``tokenizer.json``     the tokenizer; not there where bytes are the tokens
``README.md``          for people: what it is, how good, how it was made; with ``architecture.svg``
=====================  ==========================================================================================
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_bo.architecture import Architecture
from nas_bo.errors import ExportError, NasBoError, SpaceError
from nas_bo.export.text import BYTES, TOKENIZER, Text
from nas_bo.foreign_document import WRONG, text_of
from nas_bo.model import own_class
from nas_bo.safe_text import told

if TYPE_CHECKING:
    import torch

    from nas_bo.model import Decoder
    from nas_bo.model.data import Corpus

WEIGHTS, ARCH, ABOUT = "model.safetensors", "arch.json", "model.json"
CARD, DRAWING = "README.md", "architecture.svg"
UNFINISHED = ("training.pt", "ladder.json")  # of a training that continues when it is called again
BYTES_NAME = "bytes"  # of a tokenizer
FORMAT = 1
PACKED = 2  # the format of a model whose weights are integers (`nas_bo.model.packed`)


@dataclass(frozen=True)
class TrainedModel:
    """A model as it was read from its folder.

    Attributes:
        model: on its device, in evaluation mode.
        about: the content of ``model.json``.
    """

    folder: Path
    architecture: Architecture
    about: Mapping[str, Any]
    model: Decoder

    @property
    def ignore(self) -> tuple[str, ...]:
        return tuple(self.about.get("ignore", ()))

    @property
    def tokenizer(self) -> Path | None:
        """The file of its tokenizer; None where bytes are the tokens.

        Raises:
            ExportError: it is gone, or was never known.
        """
        return tokenizer_of(self.folder, self.about, self.model.vocab_size)

    def text(self) -> Text:
        """Text to token ids and back (raises ExportError where the tokenizer is gone)."""
        return Text(self.tokenizer)


def tokenizer_of(folder: Path, about: Mapping[str, object], vocab_size: int) -> Path | None:
    """See `TrainedModel.tokenizer`."""
    named = about.get("tokenizer", BYTES_NAME if vocab_size == BYTES else "tokens")
    path = folder / TOKENIZER
    if about.get("tokenizer") != BYTES_NAME and path.is_file():
        return path
    if named == BYTES_NAME:
        return None
    if named == "tokens":
        raise ExportError(
            f"the model in {str(folder)!r} was trained on token ids whose tokenizer nobody named, so that it can neither "
            f"read nor write text; put the tokenizer's JSON file there as {TOKENIZER}"
        )
    raise ExportError(
        f"the model in {str(folder)!r} was trained with the tokenizer {named!r}, and {TOKENIZER} is not there any more; "
        "put that file back under this name"
    )


def files(model: Decoder, arch: Architecture, about: Mapping[str, object], ignore: Sequence[str]) -> dict[str, bytes]:
    """The three files that a model is loaded from: name -> content, ``model.json`` last."""
    from safetensors.torch import save

    weights = {key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}
    said = {"format": FORMAT, "vocab_size": model.vocab_size, "ignore": list(ignore), **about}
    return {
        ARCH: json.dumps(arch.to_dict(), indent=1).encode(),
        WEIGHTS: save(weights, metadata={"format": "pt", "architecture": arch.id}),
        ABOUT: json.dumps(said, indent=1).encode(),
    }


def judged_on(corpus: Corpus, judging: tuple[int, int]) -> dict[str, object]:
    """What ``model.json`` says about the text that was held out for the values.

    Args:
        judging: held-out tokens, and tokens of a window.
    """
    tokens = min(judging[0], len(corpus.validation))
    return {"held_out": {"tokens": tokens, "sequence": judging[1]}, "bytes_per_token": corpus.bytes_per_token}


def write(folder: Path, content: Mapping[str, bytes]) -> None:
    """Each file whole or not at all, in that order (raises ExportError)."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in content.items():
            draft = folder / f".{name}.{os.getpid()}"
            draft.write_bytes(data)
            draft.replace(folder / name)
    except OSError as error:
        raise ExportError(
            f"the folder {str(folder)!r} cannot be written ({error.strerror or error}); choose another with --to"
        ) from None


def readable(folder: Path) -> None:
    """Give all files in a folder the permissions of new ones: safetensors makes files that only their owner can read."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as place:
        (Path(place) / "new").touch()
        mode = stat.S_IMODE((Path(place) / "new").stat().st_mode)
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with suppress(OSError):  # of a file system that has none
                path.chmod(mode)


def place(target: Path) -> Path:
    """Where what is to be written to `target` stays until it was checked, ``TARGET.unverified`` (raises ExportError where there is
    something at one of the two places)."""
    if target.exists():
        raise ExportError(f"{str(target)!r} exists; give a folder that does not, or remove it")
    draft = target.with_name(f"{target.name}.unverified")
    if draft.exists():
        raise ExportError(
            f"{str(draft)!r} is there: something was written for {str(target)!r} before and then failed its check, or was killed before it was "
            "checked, so it is not to be used; look at it and remove it, or give another folder (--to)"
        )
    return draft


def about(folder: str | Path) -> dict[str, Any]:
    """The content of ``model.json`` (raises ExportError where it is not there, or of another format)."""
    path = Path(folder)
    if not (path / ABOUT).is_file() and (ours := own_class.about(path)) is not None and (path / WEIGHTS).is_file():
        return ours
    lacking = [name for name in (ARCH, ABOUT, WEIGHTS) if not (path / name).is_file()]
    if lacking and any((path / name).is_file() for name in UNFINISHED):
        raise ExportError(
            f"the training in {str(path)!r} has not come to its end, so there is no model yet; the `nas-bo train` command that began it "
            "continues it"
        )
    if path.is_file():
        storage = path.suffix in (".db", ".log")
        raise ExportError(
            f"{str(path)!r} is a file"
            + (
                f", the storage of a search: `nas-bo train {path} --to DIR` makes the folder of a model from it"
                if storage
                else ""
            )
            + "; give a folder that `nas-bo train` wrote"
        )
    if lacking:
        what = "there is no folder" if not path.is_dir() else f"there is no {lacking[0]} in"
        raise ExportError(f"{what} {str(path)!r}; give a folder that `nas-bo train` wrote, or a model of the registry")
    try:
        said: dict[str, object] = json.loads(text_of(path / ABOUT))
        form = said.get("format")
    except (*WRONG, OSError) as error:
        raise ExportError(
            f"{ABOUT} in {str(path)!r} cannot be read ({error}); train or register the model again"
        ) from None
    if form not in (FORMAT, PACKED):
        raise ExportError(f"the model is of format {form!r}, this version reads {FORMAT} and {PACKED}; upgrade nas_bo")
    return said


def load(folder: str | Path, device: torch.device | str = "cpu") -> TrainedModel:
    """The model in a folder. Nothing that is loaded can run code.

    Raises:
        ExportError: something is missing, or the files do not fit together.
    """
    from nas_bo.model.read_folder import read_decoder

    path, said = Path(folder), about(folder)
    try:
        arch, made = read_decoder(path, said, device)
    except SpaceError as error:
        raise ExportError(
            f"{ARCH} in {str(path)!r} cannot be read ({error}); train or register the model again"
        ) from None
    except NasBoError:
        raise
    except Exception as error:  # of JSON, safetensors and torch
        raise ExportError(
            f"the files of the model in {str(path)!r} do not fit together ({told(error)[:300]}); train or register it again"
        ) from error
    return TrainedModel(path, arch, said, made)
