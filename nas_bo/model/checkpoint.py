"""Checkpoints: the state of a training run in one file, which knows what it is of and refuses to be anything else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_bo import temporary
from nas_bo.errors import CheckpointError
from nas_bo.foreign_document import not_packed
from nas_bo.model import checkpoint_folder

if TYPE_CHECKING:
    import torch

FORMAT = 1


@dataclass(frozen=True)
class Identity:
    """What a run is a run of. Two runs of one identity go through the same states.

    Attributes:
        architecture: the id of the architecture, or a hash of its content if it was written by hand.
        corpus: the fingerprint of the text.
        settings: learning rate, batch size and so on.
        steps: of the whole run.
        seed: of the initial weights and of the order of the batches.
        bf16: whether matrices are multiplied in bf16.
    """

    architecture: str
    corpus: str
    settings: Mapping[str, float]
    steps: int
    seed: int
    bf16: bool

    @property
    def key(self) -> str:
        """A name for the run's file: the architecture, and 12 hexadecimal digits of all else."""
        text = json.dumps(asdict(self), sort_keys=True)
        return f"{self.architecture}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def save(path: str | Path, identity: Identity, step: int, state: Mapping[str, Any]) -> None:
    """Write the state of a run after `step` steps, to a file or a URL (`checkpoint_folder`). The file is there as a whole or not at all, and whoever reads the
    old one at this moment can finish; a file of the same run that is further is left alone.

    Raises:
        CheckpointError: the folder cannot be written to, or the file there is of another run.
    """
    import torch

    there = load(path, identity)
    if there is not None and there["step"] > step:
        return
    content = {"format": FORMAT, "identity": asdict(identity), "step": step, "state": dict(state)}
    if checkpoint_folder.is_url(path):
        with temporary.folder("checkpoint") as folder:
            torch.save(content, folder / "state")
            checkpoint_folder.store(folder / "state", str(path))
        return
    path = checkpoint_folder.local(path)
    try:
        with temporary.whole(path, durable=True) as draft, draft.open("wb") as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:  # torch's own, where a disk takes only a part
        reason = error.strerror if isinstance(error, OSError) else "the disk took only a part of it"
        raise CheckpointError(
            f"the checkpoint {str(path)!r} cannot be written ({reason or error}); give a folder that can be "
            "written to and has space left"
        ) from None


def load(path: str | Path, identity: Identity, device: torch.device | str = "cpu") -> dict[str, Any] | None:
    """The file's `step` and `state`; None when there is no such file.

    Raises:
        CheckpointError: the file is not a checkpoint, of a newer format, or of another run; the message says what differs.
    """
    if checkpoint_folder.is_url(path):
        with temporary.folder("checkpoint") as folder:
            file = folder / "state"
            return _loaded(file, str(path), identity, device) if checkpoint_folder.fetch(str(path), file) else None
    file = checkpoint_folder.local(path)
    return _loaded(file, str(path), identity, device) if file.exists() else None


def _loaded(file: Path, path: str, identity: Identity, device: torch.device | str) -> dict[str, Any]:
    import torch

    try:
        not_packed(file)
        content = torch.load(file, map_location=device, weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for files that are not its own
        raise CheckpointError(
            f"{path!r} cannot be read as a checkpoint ({type(error).__name__}); delete it to start the run again, "
            "or give another file"
        ) from None
    whole = isinstance(content, dict) and {"format", "identity", "step", "state"} <= set(content)
    kinds = {"identity": Mapping, "step": int, "state": Mapping}
    if not whole or not all(isinstance(content[name], kind) for name, kind in kinds.items()):
        raise CheckpointError(f"{path!r} is not a checkpoint of a training run; give another file")
    if content["format"] != FORMAT:
        raise CheckpointError(
            f"{path!r} has format {content['format']!r} and this version of nas_bo reads {FORMAT}; upgrade "
            "nas_bo, or delete the file to start the run again"
        )
    differences = list(_differences(content["identity"], identity))
    if differences:
        raise CheckpointError(
            f"the checkpoint {path!r} is of another run: {'; '.join(differences)}; give the path of this run's "
            "own, or delete the file to start again"
        )
    found: dict[str, Any] = content
    return found


def _differences(there: Mapping[str, object], here: Identity) -> Iterator[str]:
    for each in fields(here):
        found, wanted = there.get(each.name), vars(here)[each.name]
        if each.name == "settings" and isinstance(found, Mapping):
            for name in sorted({*found, *wanted}):
                if found.get(name) != wanted.get(name):
                    yield f"{name} is {found.get(name)!r} there and {wanted.get(name)!r} here"
        elif found != wanted:
            shown = [value[:16] if isinstance(value, str) else value for value in (found, wanted)]
            yield f"{each.name} is {shown[0]!r} there and {shown[1]!r} here"
