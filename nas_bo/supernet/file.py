"""Files of supernets: written as a whole or not at all, and read only for the space and the text that they are of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nas_bo import temporary
from nas_bo.errors import CheckpointError
from nas_bo.foreign_document import not_packed
from nas_bo.space.space import Space

FORMAT = 1


def write(path: str | Path, content: Mapping[str, object]) -> None:
    """Write a file as a whole or not at all (raises CheckpointError)."""
    path = Path(path)
    try:
        with temporary.whole(path, durable=True) as draft, draft.open("wb") as file:
            torch.save(dict(content), file)
    except OSError as error:
        raise CheckpointError(
            f"the supernet cannot be written to {str(path)!r} ({error.strerror or error}); give a folder that can be "
            "written to and has space left"
        ) from None


def read(
    path: str | Path, space: type[Space], corpus: str | None = None, device: torch.device | str | None = None
) -> dict[str, Any]:
    """The content of a supernet's file, after it has said that it is what is wanted (raises CheckpointError)."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no supernet at {str(path)!r}; train one with train_supernet(checkpoint=...)")
    try:
        not_packed(path)
        content: Any = torch.load(path, map_location=device or "cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for files that are not its own
        raise CheckpointError(
            f"{str(path)!r} cannot be read as a supernet ({type(error).__name__}); delete it to train again"
        ) from None
    identity = content.get("identity") if isinstance(content, dict) else None
    if not isinstance(identity, dict) or "banks" not in content:
        raise CheckpointError(f"{str(path)!r} is not a file of a supernet; give another one")
    if identity.get("format") != FORMAT:
        raise CheckpointError(
            f"{str(path)!r} has format {identity.get('format')!r} and this version of nas_bo reads {FORMAT}; upgrade "
            "nas_bo, or delete the file to train again"
        )
    if identity.get("space") != space.fingerprint():
        raise CheckpointError(
            f"{str(path)!r} is a supernet of {identity.get('title')!r} with fingerprint {identity.get('space')}, and "
            f"{space.title} has {space.fingerprint()}: another space; give its own file, or delete this one to train again"
        )
    if corpus is not None and identity.get("corpus") != corpus:
        raise CheckpointError(
            f"{str(path)!r} was trained on the corpus {str(identity.get('corpus'))[:16]}, and this one is "
            f"{corpus[:16]}; give the same text, or delete the file to train again"
        )
    found: dict[str, Any] = content
    return found
