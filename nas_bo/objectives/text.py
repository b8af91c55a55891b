"""The text that objectives train and score on: read once per process, however many objectives name it."""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from nas_bo import elsewhere

if TYPE_CHECKING:
    from nas_bo.model.data import Corpus

TEXT = "text"
BITS_PER_BYTE, BITS_PER_TOKEN = "bits/byte", "bits/token"


class OfText(Protocol):
    """What is trained on a corpus; the attributes are the arguments of `nas_bo.model.load_corpus`."""

    @property
    def data(self) -> str | None: ...
    @property
    def tokenizer(self) -> str | None: ...
    @property
    def vocab_size(self) -> int | None: ...
    @property
    def token_dtype(self) -> str | None: ...
    @property
    def text_key(self) -> str | None: ...


def corpus_of(owner: OfText) -> Corpus:
    """The corpus of `owner`, read once per process (raises DataError)."""
    return _corpus(owner.data, owner.tokenizer, owner.vocab_size, owner.token_dtype, owner.text_key)


def carried_text(owner: OfText) -> dict[Hashable, object]:
    """The corpus of `owner`, for machines that have not its file (`nas_bo.elsewhere.Carries`); token files stay where they are mapped into
    memory, and what is too large where it lies."""
    import numpy as np

    corpus = corpus_of(owner)
    parts = corpus.train, corpus.validation
    if (
        any(isinstance(part, np.memmap) for part in parts)
        or sum(part.nbytes for part in parts) > elsewhere.MOST_CARRIED
    ):
        return {}
    return {(TEXT, owner.data, owner.tokenizer, owner.vocab_size, owner.token_dtype, owner.text_key): corpus}


class OnText:
    """An objective that reads its text once per process, and says what of it was not read; its fields are those of `OfText`."""

    def corpus(self: OfText) -> Corpus:
        """The corpus, read once per process (raises DataError)."""
        return corpus_of(self)

    def carried(self: OfText) -> dict[Hashable, object]:
        """See `carried_text`."""
        return carried_text(self)

    def remarks(self: OfText) -> dict[str, object]:
        """What of the text was not read, and why."""
        left_out = corpus_of(self).left_out
        return {"left out": left_out} if left_out else {}


def unit_of(owner: OfText) -> str:
    """The unit of a loss on the corpus of `owner`, from its name alone: nothing is read."""
    tokens = owner.data is not None and str(owner.data).lower().endswith((".bin", ".npy"))
    return BITS_PER_TOKEN if tokens and owner.tokenizer is None else BITS_PER_BYTE


def options_of(owner: OfText) -> dict[str, Any]:
    """The arguments of `nas_bo.model.load_corpus` that `owner` sets."""
    given = {
        "data": owner.data,
        "tokenizer": owner.tokenizer,
        "vocab_size": owner.vocab_size,
        "token_dtype": owner.token_dtype,
        "text_key": owner.text_key,
    }
    return {name: value for name, value in given.items() if value is not None}


@lru_cache(maxsize=2)
def _corpus(
    data: str | None, tokenizer: str | None, vocab_size: int | None, token_dtype: str | None, text_key: str | None
) -> Corpus:
    from nas_bo.model import Corpus, load_corpus

    sent = elsewhere.given((TEXT, data, tokenizer, vocab_size, token_dtype, text_key))
    if isinstance(sent, Corpus):
        return sent
    return load_corpus(data, tokenizer, vocab_size, dtype=token_dtype, text_key=text_key)


@lru_cache(maxsize=2)
def _part(options: tuple[str | int | None, ...], share: float) -> Corpus:
    return _corpus(*options).part(share)


def part_of(owner: OfText, share: float) -> Corpus:
    """The corpus of `owner` with the first `share` of its training text (raises DataError)."""
    options = owner.data, owner.tokenizer, owner.vocab_size, owner.token_dtype, owner.text_key
    return _part(options, share)
