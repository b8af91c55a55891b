"""Text to the token ids of a model and back: its tokenizer, or bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nas_bo.errors import ExportError
from nas_bo.model.tokenizer import fast_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER = "tokenizer.json"
BYTES = 256


class Text:
    """Args:
    path: of a tokenizer's JSON; None where bytes are the tokens.
    """

    def __init__(self, path: Path | None) -> None:
        self._tokenizer: Tokenizer | None = None if path is None else fast_tokenizer(path)

    def ids(self, text: str) -> list[int]:
        if self._tokenizer is None:
            return list(text.encode())
        found: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return found

    def text(self, ids: Sequence[int]) -> str:
        if self._tokenizer is None:
            return bytes(ids).decode(errors="replace")
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))


def byte_characters() -> list[str]:
    """A printable character for each byte: the alphabet of GPT-2 (Radford et al. 2019), which byte-level tokenizers use."""
    kept = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in kept else chr(next(others)) for byte in range(BYTES)]


def byte_tokenizer() -> Tokenizer:
    """A `tokenizers.Tokenizer` whose ids are bytes, for tools that cannot do without a tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    made = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(byte_characters())}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return made


def tokenizer_json(path: Path | None) -> str:
    """The tokenizer of a model as JSON, that of bytes where it has none of its own (raises ExportError where the file is gone)."""
    if path is None:
        return str(byte_tokenizer().to_str())
    try:
        text = path.read_text(encoding="utf-8")
        json.loads(text)
    except (OSError, ValueError) as error:
        raise ExportError(
            f"the tokenizer {str(path)!r} of the model cannot be read ({(error.strerror if isinstance(error, OSError) else None) or error}); put its "
            "JSON file back there, since a model without the tokenizer it was trained with is of no use"
        ) from None
    return text
