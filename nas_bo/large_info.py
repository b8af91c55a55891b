"""How much a trial may keep of how its numbers were obtained. Databases hold it in pieces of 2,000 characters, and every report reads
all of it: what an objective has noted beyond `MOST` goes into a file next to the study, and with the trial's run into MLflow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas_bo import study_name, temporary

MOST = 50_000  # characters of JSON of one trial
LEFT_OUT = "left_out"  # the key under which the info of an objective names what is in the file

Info = Mapping[str, Mapping[str, Any]]


def split(info: Info, most: float = MOST) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """(what is kept with the trial, what is not): the longest entries are left out until the rest fits.

    Args:
        info: of a trial, JSON-safe.
        most: characters.
    """
    kept, rest = {name: dict(told) for name, told in info.items()}, dict[str, dict[str, Any]]()
    if most == float("inf"):
        return kept, rest
    sizes = [(_size(value) + len(key), name, key) for name, told in kept.items() for key, value in told.items()]
    total = sum(size for size, _, _ in sizes)
    for size, name, key in sorted(sizes, key=lambda one: -one[0]):
        if total <= most:
            break
        rest.setdefault(name, {})[key] = kept[name].pop(key)
        total -= size
    for name, gone in rest.items():
        kept[name][LEFT_OUT] = sorted(gone)[:20]
    return kept, rest


def file(storage: Path | None, study: str, number: int) -> Path:
    """Where that of a trial lies: next to the file of the study, or below the current folder for one on a server."""
    folder = Path.cwd() / "nas-bo-info" if storage is None else storage.with_name(f"{storage.stem}_info")
    return folder / study_name.file_name(study) / f"{number:06d}.json"


def write(path: Path, rest: Info) -> None:
    """Whole or not at all (raises OSError)."""
    with temporary.whole(path) as draft:
        draft.write_text(json.dumps(rest, indent=1), encoding="utf-8")


def _size(value: object) -> int:
    return len(json.dumps(value, default=str))
