"""Bytes of a file as UTF-8 text, and which files of a folder there are to read."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import os
import zlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from nas_bo.errors import DataError
from nas_bo.model.left_out import LeftOut
from nas_bo.wording import counted

OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
JSON_LINES = (".jsonl", ".ndjson", ".jsonlines")
COLUMNS = (".parquet", ".arrow")
TOKENS = (".bin", ".npy")
ARCHIVES = (".zst", ".zip", ".tar", ".tgz", ".7z", ".rar", ".lz4", ".br")
TEXT = (".txt", ".text", ".md", ".rst", ".csv", ".tsv", ".html", ".xml", ".tex", ".json", *JSON_LINES)
CONTAINERS = (".zst", ".zip", ".tar", ".tgz", ".7z", ".rar", ".lz4", ".br", ".feather", ".orc", ".avro", ".h5", ".hdf5",
              ".tfrecord", ".npz", ".npy", ".bin", ".sqlite", ".db", ".docx", ".epub", ".pdf")  # fmt: skip
BYTE_ORDER_MARKS = (  # the longer ones first: UTF-32 begins as UTF-16 does
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


PIECE = 2**24  # bytes that are decompressed at a time
GROWS, ALWAYS = 100, 2**26  # text becomes about ten times shorter; so many times, and so many bytes, are always taken


class NotText(Exception):
    """Why bytes are not text."""


def suffix_of(name: str) -> str:
    """The suffix in small letters, without that of a compression which is read: ".jsonl" for "a.JSONL.gz"."""
    path = Path(name.lower())
    return Path(path.stem).suffix if path.suffix in OPENERS else path.suffix


def looks_like_data(name: str) -> bool:
    """Whether somebody who points at a folder would expect a file of this name to be read."""
    suffix = suffix_of(name)
    return Path(name.lower()).suffix in OPENERS or suffix in TEXT or suffix in COLUMNS or suffix in CONTAINERS


def content_of(path: Path) -> bytes:
    """The bytes of a file, decompressed.

    Raises:
        DataError: it cannot be read.
        NotText: it is not compressed as its name says, or truncated.
    """
    opener = OPENERS.get(path.suffix.lower())
    archive = path.suffix.lower() if opener is None else suffix_of(path.name)
    if archive in ARCHIVES:
        raise NotText(
            f"it is a {archive}, of which .gz, .bz2 and .xz of one text are read; unpack it and give what is inside"
        )
    try:
        if opener is None:
            return path.read_bytes()
        size, pieces, total = path.stat().st_size, [], 0
        with opener(path, "rb") as file:
            while piece := file.read(PIECE):
                total += len(piece)
                check_growth(path.name, size, total)
                pieces.append(piece)
        return b"".join(pieces)
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise NotText(f"it cannot be decompressed ({error})") from None
    except OSError as error:
        if opener is not None and error.errno is None:  # bz2 says only "Invalid data stream"
            raise NotText(f"it cannot be decompressed ({error})") from None
        raise DataError(f"{str(path)!r} cannot be read ({error.strerror}); check its permissions") from None


def check_growth(name: str, size: int, total: int) -> None:
    """Raise DataError where a file of `size` bytes has become `total` bytes of text, which no text does: a few bytes may be made to fill
    any memory."""
    if total > max(ALWAYS, GROWS * size):
        raise DataError(
            f"{name!r} has {counted(size, 'byte')} and becomes more than {total:,} when it is decompressed, over {GROWS} times as many, which "
            "no text does; if it is what you want, decompress it yourself and give that"
        )


def as_utf8(content: bytes) -> bytes:
    """The same text in UTF-8 without a byte order mark.

    Raises:
        NotText: it is not text in UTF-8, nor in UTF-16 or UTF-32 with a byte order mark.
    """
    for mark, encoding in BYTE_ORDER_MARKS:
        if content.startswith(mark):
            try:
                return content[len(mark) :].decode(encoding).encode()
            except UnicodeError as error:
                raise NotText(f"it begins as {encoding.upper()} and is damaged ({error})") from None
    if b"\0" in content:
        head = content[:4096]
        for first, encoding in ((1, "UTF-16LE"), (0, "UTF-16BE")):
            if head[first::2].count(0) > 0.8 * len(head[first::2]) and head[1 - first :: 2].count(0) < 0.1 * len(head):
                raise NotText(
                    f"it has a NUL byte at {content.index(0):,} and looks like {encoding} without a byte order mark; "
                    f"convert it: iconv -f {encoding} -t UTF-8"
                )
        raise NotText(f"it has a NUL byte at {content.index(0):,}")
    try:
        content.decode()
    except UnicodeDecodeError as error:
        raise NotText(f"byte {error.start:,} is not UTF-8") from None
    return content


def walk(folder: Path, without: Collection[str], left: LeftOut, follow: bool = True) -> Iterator[tuple[str, Path]]:
    """(name relative to `folder`, path) of all files below, sorted within their folder.

    Hidden ones and those in `without` are left out. With `follow`, links are followed after all that lies in the folder
    itself, wherever they lead, but to no folder that holds this one, to nothing that is read already, and to nothing that is hidden
    or belongs to the system: the folder may be somebody else's.

    Raises:
        DataError: a folder cannot be read.
    """
    seen: set[tuple[int, int]] = set()
    links: list[Path] = []
    yield from _below(folder, folder, without, left, seen, links)
    while follow and links:
        path = links.pop(0)
        name = path.relative_to(folder).as_posix()
        try:
            about = path.stat()
        except OSError as error:  # it leads nowhere, or in a circle
            left.file(name, f"broken link: {error.strerror}", None, wanted=looks_like_data(name))
            continue
        if why := _closed(path, folder):
            left.file(name, why, wanted=looks_like_data(name))
        elif path.is_dir():
            target = path.resolve()
            if target in folder.resolve().parents or target == folder.resolve():
                left.file(name, "link to a folder that holds this one")
            elif _first(about, seen, name, left):
                yield from _below(path, folder, without, left, seen, links, linked=True)
        elif path.is_file() and _first(about, seen, name, left, about.st_size):
            yield name, path


SYSTEM = ("/proc", "/sys", "/dev")
SHARED = "/dev/shm"  # a folder for files like any other


def _closed(link: Path, folder: Path) -> str:
    """Why a link is not followed; "" where it is. Hidden is what is below the folder that holds both, such as ``~/.ssh``."""
    target, root = os.path.realpath(link), os.path.realpath(folder)
    shared = os.path.commonpath([target, root])
    if any(part.startswith(".") for part in Path(target).relative_to(shared).parts):
        return "link to a hidden file"
    system = any(target == top or target.startswith(f"{top}/") for top in SYSTEM)
    return "link to a file of the system" if system and not target.startswith(f"{SHARED}/") else ""


def _below(
    here: Path,
    folder: Path,
    without: Collection[str],
    left: LeftOut,
    seen: set[tuple[int, int]],
    links: list[Path],
    linked: bool = False,
) -> Iterator[tuple[str, Path]]:
    """Files of `here` and of folders in it; the links go to `links`."""
    try:
        about = here.stat()
        seen.add((about.st_dev, about.st_ino))
        entries = sorted(here.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise DataError(f"the folder {str(here)!r} cannot be read ({error.strerror}); check its permissions") from None
    for path in entries:
        name = path.relative_to(folder).as_posix()
        if path.name.startswith("."):
            left.file(name, "hidden", _size(path))
        elif path.name in without:
            left.file(name, "of a name that is never data")
        elif path.is_symlink():
            links.append(path)
        elif path.is_dir():
            yield from _below(path, folder, without, left, seen, links, linked)
        elif path.is_file():
            about = path.stat()
            if _first(about, seen, name, left if linked else LeftOut(), about.st_size) or not linked:
                yield name, path
        else:
            left.file(name, "neither a file nor a folder")


def _first(
    about: os.stat_result, seen: set[tuple[int, int]], name: str, left: LeftOut, size: int | None = None
) -> bool:
    key = about.st_dev, about.st_ino
    if key in seen:
        left.file(name, "the same as one that is read", size)
        return False
    seen.add(key)
    return True


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None
