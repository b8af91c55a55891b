"""Texts in records: JSON Lines, JSON arrays, Parquet and Arrow files, one text per record under one key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeGuard

from nas_bo.errors import DataError
from nas_bo.model.left_out import LeftOut
from nas_bo.model.text_files import check_growth
from nas_bo.wording import counted

if TYPE_CHECKING:
    from pyarrow import RecordBatch

TEXT_KEY = "text"
AT_ONCE = 256  # rows of a Parquet file, of which a few bytes may stand for millions of the same long text
MOST_WITHOUT = 0.01  # share of records that may be without text


class NoRecords(Exception):
    """Why a file holds no records."""


@dataclass
class Reader:
    """Takes the text out of records, and counts those that have none.

    Args:
        name: of the corpus, for messages.
        key: of the text in a record; None is "text".
    """

    name: str
    key: str | None = None
    total: int = 0
    without: int = 0
    _first: str = ""
    _common: list[str] | None = None  # the fields that every object so far has

    def texts(self, records: Iterable[tuple[str, object]]) -> Iterator[tuple[str, bytes]]:
        """(a digest of the text, the text in UTF-8) of every record that has one; `records` are (where, what)."""
        for where, record in records:
            self.total += 1
            if isinstance(record, dict) and self._common != list(record):
                self._common = [k for k in map(str, record) if self._common is None or k in self._common]
            why, content = self._text(record)
            if why:
                self.without += 1
                self._first = self._first or f"{where} {why}"
                continue
            yield hashlib.sha1(content).hexdigest(), content

    def _text(self, record: object) -> tuple[str, bytes]:
        key = self.key or TEXT_KEY
        if isinstance(record, Invalid):
            return f"is not JSON ({record.why})", b""
        if not isinstance(record, dict):
            return f"is not a JSON object with a field {key!r} but {_shown(record)}", b""
        if key not in record:
            return f"has no field {key!r} (KeyError)", b""
        text = record[key]
        if not isinstance(text, str):
            return f"has {_shown(text)} under {key!r}, not a text", b""
        try:
            return "", text.encode()
        except UnicodeEncodeError:
            return f"has half a character (a lone surrogate) under {key!r}", b""

    def check(self, left: LeftOut) -> None:
        """Raise DataError where more than `MOST_WITHOUT` of the records have no text; note those that were left out."""
        if not self.without:
            return
        share = self.without / self.total
        said = f"{self.without:,} of {counted(self.total, 'record')} without text ({share:.2%}), first {self._first}"
        if share <= MOST_WITHOUT:
            left.records(said)
            return
        shared = "" if self._common is None else ", ".join(self._common[:12]) or "none"
        fields = f" Common to all its objects, the fields are {shared}." if shared else ""
        raise DataError(
            f"{self.name!r} has {said}; at most {MOST_WITHOUT:.0%} may be left out.{fields} Name the field of the text with "
            'text_key= (--text-key), or write records that have it, as in {"text": "..."}, one per line'
        )


@dataclass(frozen=True)
class Invalid:
    """A line that is not JSON."""

    why: str


def json_lines(name: str, content: bytes) -> Iterator[tuple[str, object]]:
    """(where, record) of every line that is not blank."""
    for number, line in enumerate(content.decode().split("\n"), 1):
        if not line.strip():
            continue
        record: object
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            record = Invalid(f"{type(error).__name__}: {line[:40]!r}")
        yield f"line {number} of {name!r}", record


def json_records(name: str, content: bytes, key: str | None) -> list[tuple[str, object]]:
    """(where, record) of a ``.json`` file: an array of objects, an object with one such array of texts, one object per line, or one
    object that has the key.

    Raises:
        NoRecords: it is something else; the message says what.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        lines = list(json_lines(name, content))
        if len(lines) > 1 and sum(isinstance(record, dict) for _, record in lines) > len(lines) / 2:
            return lines
        raise NoRecords(f"is not JSON ({error})") from None
    if isinstance(found, dict) and isinstance(found.get(key or TEXT_KEY), str):
        return [(f"{name!r}", found)]
    if isinstance(found, dict):
        arrays = [value for value in found.values() if _is_records(value) and _any_text(value, key)]
        if len(arrays) != 1:
            raise NoRecords(f"is one JSON object with the fields {', '.join(list(found)[:8]) or 'none'}, not records")
        found = arrays[0]
    if not _is_records(found):
        raise NoRecords(f"is {_shown(found)}, not an array of objects")
    return [(f"record {number} of {name!r}", record) for number, record in enumerate(found, 1)]


def columns(path: Path, name: str, key: str | None) -> Iterator[tuple[str, object]]:
    """(where, record) of a Parquet or Arrow file; a record has the one column of the text, where there is one.

    Raises:
        DataError: pyarrow is missing, or the file is damaged.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError(
            f"{name!r} needs the package pyarrow, which comes with mlflow; install it with: pip install pyarrow, or write "
            "the records as .jsonl"
        ) from None
    key = key or TEXT_KEY
    number, total, size = 0, 0, path.stat().st_size
    try:
        for batch, names in _batches(pyarrow, path, key):
            total += batch.nbytes
            check_growth(name, size, total)
            if key in names:
                for value in batch.column(key).to_pylist():
                    number += 1
                    yield f"record {number} of {name!r}", {key: value}
                continue
            for _ in range(batch.num_rows):
                number += 1
                yield f"record {number} of {name!r}", dict.fromkeys(names)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{name!r} cannot be read ({str(error)[:120]}); write it again, or give .jsonl") from None


def _batches(pyarrow: ModuleType, path: Path, key: str) -> Iterator[tuple[RecordBatch, list[str]]]:
    if path.suffix.lower() == ".parquet":
        with pyarrow.parquet.ParquetFile(str(path)) as file:
            names = list(file.schema_arrow.names)
            for batch in file.iter_batches(AT_ONCE, columns=[key] if key in names else names[:1]):
                yield batch, names
        return
    with pyarrow.memory_map(str(path)) as file:
        try:
            reader = pyarrow.ipc.open_stream(file)
            batches: Iterable[RecordBatch] = reader
        except pyarrow.ArrowInvalid:
            reader = pyarrow.ipc.open_file(file)
            batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
        for batch in batches:
            yield batch, list(reader.schema.names)


def _is_records(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list) and sum(isinstance(one, dict) for one in value) > len(value) / 2


def _any_text(records: list[object], key: str | None) -> bool:
    return any(isinstance(one, dict) and isinstance(one.get(key or TEXT_KEY), str) for one in records)


def _shown(value: object) -> str:
    if value is None:
        return "null"
    kinds = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "an array",
        dict: "an object",
    }
    return kinds.get(type(value), f"a {type(value).__name__}")
