"""A folder that `nas-bo export --remote-code` wrote: our own class for transformers, which is read here without its Python file.

``arch.json`` says which decoder it is, and the weights have the names that the decoder gives them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from nas_bo.foreign_document import WRONG, text_of

KIND = "nas_bo"  # as config.json calls it
CONFIG, ARCH, TOKENIZER = "config.json", "arch.json", "tokenizer.json"


def about(folder: Path) -> dict[str, object] | None:
    """What the ``model.json`` of such a folder would say; None of any other."""
    config = _document(folder / CONFIG)
    if config.get("model_type") != KIND or not (folder / ARCH).is_file():
        return None
    size, ignored = config.get("vocab_size"), config.get("ignore")
    if not isinstance(size, int):
        return None
    said: dict[str, object] = {"format": 1, "vocab_size": size, "ignore": ignored if isinstance(ignored, list) else []}
    return said | ({"tokenizer": "bytes"} if _is_of_bytes(_document(folder / TOKENIZER)) else {})


def own_code(folder: Path) -> str:
    """The name of the class that a configuration asks the code of its folder for; "" where it asks for none."""
    named = _document(folder / CONFIG).get("auto_map")
    return str(next(iter(named.values()), "")) if isinstance(named, Mapping) else ""


def _is_of_bytes(tokenizer: Mapping[str, object]) -> bool:
    """Whether its tokens are the 256 bytes in their order (`nas_bo.export.text.byte_tokenizer`)."""
    model = tokenizer.get("model")
    vocabulary = model.get("vocab") if isinstance(model, Mapping) and not model.get("merges") else None
    if not isinstance(vocabulary, Mapping) or len(vocabulary) != 256 or tokenizer.get("added_tokens"):
        return False
    printable = {chr(i) for i in (*range(33, 127), *range(161, 173), *range(174, 256))}
    return all(vocabulary.get(c) == ord(c) for c in printable)


def _document(path: Path) -> Mapping[str, object]:
    """A document of JSON; {} where there is none, or it cannot be read, which whoever needs it says."""
    try:
        found = json.loads(text_of(path)) if path.is_file() else {}
    except (*WRONG, OSError):
        return {}
    return found if isinstance(found, Mapping) else {}
