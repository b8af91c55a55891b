"""A JSON file of the package `tokenizers`, and whether what it makes of a text is the text.

Bits per byte divides by the bytes of the text. What a tokenizer drops, or hides behind its token for the unknown, counts
as bytes that nobody had to predict. So a sample of the corpus is encoded and decoded, and what does not come back is
measured: more than `MOST_LOST` of the bytes is refused, less is reported.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nas_bo.errors import DataError, MissingExtra
from nas_bo.foreign_document import text_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MOST_LOST = 0.02  # share of a text's bytes that may be without tokens of their own
WORTH_SAYING = 0.001
LEAST_RETURNED = 0.9  # share of tokens that decoding and encoding again must give back
MOST_BYTES = 64.0  # per token
PIECES, PIECE = 32, 4000  # of a text: pieces, and bytes of each
WINDOWS, WINDOW = 16, 512  # of a file of tokens

Tokens = NDArray[np.integer]


def fast_tokenizer(path: str | Path) -> Tokenizer:
    """A `tokenizers.Tokenizer` that neither truncates nor pads, whatever was saved with it.

    Raises:
        MissingExtra: the package is not installed.
        DataError: there is no such file, or it is not a tokenizer.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise MissingExtra("tokenizers", "data") from None
    path = Path(path)
    if not path.is_file():
        raise DataError(f"there is no tokenizer file {str(path)!r}; give the path of a tokenizer.json")
    try:
        found = Tokenizer.from_str(text_of(path))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the package raises plain Exception, and what Rust calls a panic is not even one
        raise DataError(
            f"{path.name!r} is not a tokenizer ({str(error)[:80]}); give a JSON file of the package tokenizers"
        ) from None
    found.no_truncation()
    found.no_padding()
    return found


@dataclass(frozen=True)
class Loss:
    """What a tokenizer makes of a sample of text.

    Attributes:
        lost: share of the bytes that do not come back, letters compared without case and accents.
        changed: share of the bytes that come back as another letter: case, accents, other forms.
        unknown: share of the tokens that stand for the unknown.
        bytes_per_token: bytes of the sample per token.
    """

    lost: float
    changed: float
    unknown: float
    bytes_per_token: float


class Encoder:
    """Text to token ids and token ids to bytes.

    Attributes:
        name: of the file.
        size: number of token ids.
    """

    def __init__(self, path: Path) -> None:
        self._tokenizer = fast_tokenizer(path)
        self.name = path.name
        self.size: int = 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
        about = json.loads(self._tokenizer.to_str())
        self._unknown = _unknown(self._tokenizer, about["model"])
        self._special = {
            int(index) for index, token in self._tokenizer.get_added_tokens_decoder().items() if token.special
        }
        self._decoder = about.get("decoder")
        self._parts = json.dumps([about.get("pre_tokenizer"), about.get("normalizer"), about["model"].get("type")])

    def encode(self, text: bytes) -> Tokens:
        """(tokens,) ids of UTF-8 text.

        Raises:
            DataError: the tokenizer cannot encode it.
        """
        lines = text.decode(errors="replace").splitlines(keepends=True)
        pieces = ["".join(lines[i : i + 200]) for i in range(0, len(lines), 200)]
        ids = [np.asarray(one, np.uint32) for one in self._ids(pieces)]
        return np.concatenate(ids) if ids else np.empty(0, np.uint32)

    def count_bytes(self, tokens: Tokens) -> int:
        """UTF-8 bytes that the tokens stand for; special tokens, as between documents, stand for none."""
        pieces = [tokens[i : i + 4096].tolist() for i in range(0, len(tokens), 4096)]
        return sum(len(text.encode()) for text in self._tokenizer.decode_batch(pieces, skip_special_tokens=True))

    def loss(self, text: bytes) -> Loss:
        """What encoding and decoding makes of a sample of UTF-8 text (raises DataError where it cannot be encoded)."""
        pieces = _pieces(text)
        total = sum(len(piece.encode()) for piece in pieces)
        encoded = self._ids(pieces)
        count = sum(len(ids) for ids in encoded)
        decode = self._with_decoder().decode
        lost = changed = 0
        for piece, ids in zip(pieces, encoded, strict=True):
            back = decode([i for i in ids if i != self._unknown], skip_special_tokens=False)
            gone = _bytes(_letters(piece, fold=True) - _letters(back, fold=True))
            lost += gone + self._spaces(piece, ids)
            changed += max(0, _bytes(_letters(piece, fold=False) - _letters(back, fold=False)) - gone)
        unknown = sum(ids.count(self._unknown) for ids in encoded)
        return Loss(lost / max(1, total), changed / max(1, total), unknown / max(1, count), total / max(1, count))

    def check_text(self, name: str, text: bytes) -> str:
        """What should be reported about a text with this tokenizer; "" where nothing is lost.

        Raises:
            DataError: it loses more than `MOST_LOST` of the text, or gives hardly any tokens.
        """
        found = self.loss(text)
        unknown = f"; {found.unknown:.0%} of its tokens are the one for unknown text" if found.unknown > 0.005 else ""
        if found.lost > MOST_LOST or found.bytes_per_token > MOST_BYTES:
            raise DataError(
                f"the tokenizer {self.name!r} loses {found.lost:.1%} of the text of {name!r} (a sample encoded and decoded "
                f"again{unknown}; {found.bytes_per_token:.1f} bytes per token), and at most {MOST_LOST:.0%} may be lost: the "
                "lost bytes would count as predicted, and bits per byte be too good. Use a tokenizer that keeps all text, such "
                "as byte-level BPE, one trained on this text, or none (bytes)"
            )
        said = []
        if found.lost > WORTH_SAYING:
            said.append(f"{found.lost:.1%} of the bytes have no token{unknown}")
        if found.changed > WORTH_SAYING:
            said.append(f"{found.changed:.1%} are letters whose case, accent or form the tokenizer does not keep")
        return f"tokenizer {self.name}: " + ", ".join(said) if said else ""

    def check_tokens(self, name: str, tokens: Tokens) -> None:
        """Raise DataError unless decoding `tokens` and encoding again gives them back, and decoding puts no space inside
        words: else bytes would be miscounted."""
        starts = np.linspace(0, max(0, len(tokens) - WINDOW), WINDOWS).astype(np.int64)
        windows = [tokens[start : start + WINDOW].tolist() for start in np.unique(starts)]
        kept = [[i for i in ids if i not in self._special or i == self._unknown] for ids in windows]
        count = sum(map(len, kept))
        unknown = sum(ids.count(self._unknown) for ids in kept) / max(1, count)
        if unknown > MOST_LOST:
            raise DataError(
                f"{unknown:.0%} of the tokens in {name!r} are the one of {self.name!r} for unknown text, so the bytes that "
                f"they stand for are not known, and at most {MOST_LOST:.0%} may be; give tokens of a tokenizer that keeps all "
                "text, or leave the tokenizer out and give vocab_size= (--vocab-size): the loss is then in bits per token"
            )
        texts = self._tokenizer.decode_batch(kept, skip_special_tokens=True)
        again = self._ids(texts)
        same = sum(sum((Counter(a) & Counter(b)).values()) for a, b in zip(kept, again, strict=True))
        share = same / max(1, count, sum(map(len, again)))
        if count and share < LEAST_RETURNED:
            raise DataError(
                f"decoding tokens of {name!r} with {self.name!r} and encoding the text again gives only {share:.0%} of them "
                f"back, where {LEAST_RETURNED:.0%} are needed to count the bytes that they stand for: these tokens are of "
                "another tokenizer, were read with the wrong dtype, or the tokenizer's decoding is not the inverse of its "
                f"encoding. Give the tokenizer that made them{self._remedy()}, or leave it out and give vocab_size= "
                "(--vocab-size): the loss is then in bits per token"
            )
        apart = self._spaces_put_in("\n".join(texts))
        if apart > MOST_LOST:
            raise DataError(
                f"decoding with {self.name!r} puts white space into words ({apart:.0%} of a sample of joined words), so the "
                f"bytes that the tokens of {name!r} stand for cannot be counted{self._remedy()}, or leave the tokenizer out and "
                "give vocab_size= (--vocab-size): the loss is then in bits per token"
            )

    def _spaces_put_in(self, text: str) -> float:
        """The share of white space that encoding and decoding puts between the letters of words written as one."""
        words = re.findall(r"[^\W\d_]+", text)[:400]
        joined = [a + b for a, b in zip(words[::2], words[1::2], strict=False)]
        kept = [ids for ids in self._ids(joined) if self._unknown not in ids]
        back = [one.strip() for one in self._tokenizer.decode_batch(kept, skip_special_tokens=True)]
        return sum(len(re.findall(r"\s", one)) for one in back) / max(1, sum(map(len, back)))

    def _ids(self, texts: list[str]) -> list[list[int]]:
        try:
            return [one.ids for one in self._tokenizer.encode_batch(texts, add_special_tokens=False)]
        except (KeyboardInterrupt, SystemExit):
            raise
        except (
            BaseException
        ) as error:  # the package raises plain Exception, and what Rust calls a panic is not even one
            raise DataError(
                f"the tokenizer {self.name!r} cannot encode the text ({str(error)[:120]}); give it a token for unknown text, "
                "or use one that keeps all text, such as byte-level BPE"
            ) from None

    def _spaces(self, piece: str, ids: list[int]) -> int:
        """Bytes of white space that the tokenizer does not see: all but one of each run, if it makes no difference."""
        short = re.sub(r"\s+", " ", piece)
        if short == piece or self._ids([short])[0] != ids:
            return 0
        return len(piece.encode()) - len(short.encode())

    def _with_decoder(self) -> Tokenizer:
        """The tokenizer; where it was saved without a decoder, with the one that belongs to its parts. Text is encoded
        rightly without any, so the lack of it is not a loss."""
        if self._decoder is None:
            import tokenizers

            for part, decoder in (
                ("ByteLevel", tokenizers.decoders.ByteLevel),
                ("Metaspace", tokenizers.decoders.Metaspace),
                ("WordPiece", tokenizers.decoders.WordPiece),
            ):
                if f'"{part}"' in self._parts:
                    found = tokenizers.Tokenizer.from_str(self._tokenizer.to_str())
                    found.decoder = decoder()
                    return found
        return self._tokenizer

    def _remedy(self) -> str:
        if self._decoder is not None:
            return ""
        part = next((p for p in ("ByteLevel", "Metaspace", "WordPiece") if f'"{p}"' in self._parts), "Fuse")
        return (
            f"; it was saved without a decoder: set tokenizer.decoder = tokenizers.decoders.{part}() and save it again"
        )


def _unknown(tokenizer: Tokenizer, model: dict[str, Any]) -> int:
    """The id of the token for unknown text; -1 where there is none."""
    if model.get("unk_id") is not None:  # Unigram
        return int(model["unk_id"])
    token = model.get("unk_token")
    found = None if token is None else tokenizer.token_to_id(token)
    return -1 if found is None else int(found)


def _pieces(text: bytes) -> list[str]:
    """Up to `PIECES` pieces from all over the text, cut at white space where there is some."""
    if len(text) <= PIECES * PIECE:
        starts = list(range(0, len(text), PIECE))
    else:
        starts = np.linspace(0, len(text) - PIECE, PIECES).astype(int).tolist()
    found = []
    for start in starts:
        piece = text[start : start + PIECE].decode(errors="ignore")
        first = re.search(r"\s", piece[:200]) if start else None
        last = max(piece.rfind(" "), piece.rfind("\n")) if start + PIECE < len(text) else -1
        piece = piece[first.start() + 1 if first else 0 : last if last > len(piece) / 2 else len(piece)]
        if piece:
            found.append(piece)
    return found


def _letters(text: str, fold: bool) -> Counter[str]:
    """The characters of a text but white space; folded: without case, accents and forms of compatibility."""
    if fold:
        text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
        return Counter(c for c in text if not c.isspace() and not unicodedata.combining(c))
    return Counter(c for c in text if not c.isspace())


def _bytes(letters: Counter[str]) -> int:
    return sum(count * len(letter.encode()) for letter, count in letters.items())
