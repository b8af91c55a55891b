"""All texts of a folder: text files whole, record files record by record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nas_bo.errors import DataError
from nas_bo.model.left_out import LeftOut, in_bytes
from nas_bo.model.text_files import (
    COLUMNS,
    CONTAINERS,
    JSON_LINES,
    TOKENS,
    NotText,
    as_utf8,
    content_of,
    looks_like_data,
    suffix_of,
    walk,
)
from nas_bo.model.text_records import NoRecords, Reader, columns, json_lines, json_records
from nas_bo.wording import counted

NEVER_DATA = frozenset(("__pycache__",))
PLAIN = (".txt", ".text")
ABOUT = ("readme", "license", "licence", "copying", "citation", "changelog", "notice", "authors")


def folder_texts(folder: Path, reader: Reader, left: LeftOut) -> Iterator[tuple[str, bytes]]:
    """(key, text) of all that is below: the key of a file is its name, that of a record a digest of its text.

    Where there are files of records, only those and plain ``.txt`` are data; else every text file is.

    Raises:
        DataError: a file or folder cannot be read, too many records have no text, or more was left out than read.
    """
    folder = _snapshot(folder)
    files = list(walk(folder, NEVER_DATA, left))
    parsed = {name: found for name, path in files if (found := _json(name, path, reader)) is not None}
    mixed = any(_is_lines(name) or _is_columns(path) for name, path in files) or any(
        _has(parsed[n], reader) for n in parsed
    )
    read, count = 0, 0
    for name, path in files:
        for key, content in _texts(name, path, parsed.get(name), mixed, reader, left):
            read, count = read + len(content), count + 1
            yield key, content
    reader.check(left)
    if left.wanted_bytes > read or (left.wanted_broken and left.wanted_broken >= count):
        raise DataError(
            f"the folder {folder.name!r} gives {in_bytes(read)} of text, and more that looks like data cannot be read. Left "
            f"out: {left}. Convert it to text or JSON Lines, give token files one by one, or name the field of records with "
            "text_key= (--text-key); or move away what is not wanted"
        )


def _texts(
    name: str, path: Path, records: list[tuple[str, object]] | None, mixed: bool, reader: Reader, left: LeftOut
) -> Iterator[tuple[str, bytes]]:
    size = path.stat().st_size
    try:
        if _is_columns(path):
            yield from reader.texts(columns(path, name, reader.key))
        elif _is_lines(name):
            yield from reader.texts(json_lines(name, as_utf8(content_of(path))))
        elif records is not None and _has(records, reader):
            yield from reader.texts(records)
        elif records is not None:
            first = next(record for _, record in records if isinstance(record, dict))
            fields = ", ".join(list(map(str, first))[:8])
            left.file(name, f"records without the field {reader.key or 'text'!r}, with {fields}", size, wanted=True)
        elif mixed and (suffix_of(name) not in PLAIN or _is_about(name)):
            left.file(name, "no records, where others are files of records", size)
        elif suffix_of(name) in CONTAINERS:
            kind = (
                "tokens, which are read one file at a time"
                if suffix_of(name) in TOKENS
                else "of a form that is not read"
            )
            left.file(name, kind, size, wanted=True)
        else:
            content = as_utf8(content_of(path))
            if content:
                yield name, content
            else:
                left.file(name, "empty")
    except NotText as error:
        why = str(error) if looks_like_data(name) else "not text"
        left.file(name, f"not text: {why}" if looks_like_data(name) else why, size, wanted=looks_like_data(name))


def _json(name: str, path: Path, reader: Reader) -> list[tuple[str, object]] | None:
    """The records of a ``.json`` file; None of any other."""
    if suffix_of(name) != ".json":
        return None
    try:
        return json_records(name, as_utf8(content_of(path)), reader.key)
    except (NoRecords, NotText):
        return None


def _has(records: list[tuple[str, object]], reader: Reader) -> bool:
    key = reader.key or "text"
    return any(isinstance(record, dict) and isinstance(record.get(key), str) for _, record in records)


def _is_lines(name: str) -> bool:
    return suffix_of(name) in JSON_LINES


def _is_columns(path: Path) -> bool:
    return path.suffix.lower() in COLUMNS


def _is_about(name: str) -> bool:
    return Path(name.lower()).name.startswith(ABOUT)


def _snapshot(folder: Path) -> Path:
    """Of the cache of a Hugging Face repository (blobs, refs, snapshots) the snapshot that it names; else the folder."""
    snapshots = folder / "snapshots"
    if not (snapshots.is_dir() and (folder / "blobs").is_dir()):
        return folder
    there = sorted(path.name for path in snapshots.iterdir() if path.is_dir())
    if len(there) == 1:
        return snapshots / there[0]
    try:
        named = (folder / "refs" / "main").read_text().strip()
    except OSError:
        named = ""
    if named in there:
        return snapshots / named
    raise DataError(
        f"the folder {str(folder)!r} is a cache of Hugging Face with {counted(len(there), 'snapshot')} and none of them is its main; "
        f"give one of its folders snapshots/{there[0] if there else '...'}"
    )
