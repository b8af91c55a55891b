"""A recipe that somebody else may have written, looked at before anything of it is built: which files it opens, and how much it asks
for. What it imports decides `nas_bo.serialization`."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from nas_bo.architecture import Architecture
from nas_bo.errors import NasBoError, SearchError
from nas_bo.foreign_document import reading
from nas_bo.safe_text import printable

BUDGET = 1e9  # tokens, steps or repeats: more than a thousand times those of a default search
LIMITS = ("at_most", "at_least", "seed", "float")  # numbers that cost nothing
OF_A_PARAMETER = 16  # bytes while it is trained: weight, gradient and two moments, in float32


@reading("a recipe of nas_bo", SearchError)
def check(described: Any, allow_path: Collection[str | os.PathLike[str]] = (), budget: float = BUDGET) -> None:
    """Whether a recipe (`nas_bo.serialization.describe`) may be built.

    Args:
        allow_path: files and folders that it may name; those below the current folder it always may.
        budget: the largest number of tokens, steps, repeats or the like.

    Raises:
        SearchError: it names another file, or a larger number.
    """
    for field, value in _leaves(described):
        if isinstance(value, str) and (why := _elsewhere(value, allow_path)):
            place = printable(value)[:200]
            raise SearchError(
                f"the run names {field}={place!r}, {why}: what a run names may be anything on this machine. If that is what you want, "
                f"allow it: --allow-path {place}, or allow_path=[...]"
            )
        if _is_number(value) and field not in LIMITS and abs(value) > budget:
            raise SearchError(
                f"the run asks for {field}={value:g}, and at most {budget:g} is done for a run without being asked; if that is what "
                f"you want, allow it: --budget-limit {value:g}, or budget_limit={value:g}"
            )


def check_size(arch: Architecture, vocab_size: int) -> None:
    """Raise SearchError where an architecture of our decoder cannot be trained in the memory of this machine."""
    import psutil

    from nas_bo.model import counts

    try:
        needed = OF_A_PARAMETER * counts.parameters(arch, vocab_size)
    except NasBoError:  # of a model of the user's own, or one that its objectives refuse
        return
    there = psutil.virtual_memory().total
    if needed > there:
        raise SearchError(
            f"the architecture of the run needs {needed / 2**30:,.0f} GiB to be trained, and this machine has {there / 2**30:,.0f}; "
            "evaluate it again on a larger one"
        )


def _leaves(data: Any, field: str = "") -> Iterator[tuple[str, Any]]:
    """(name of the innermost field, value) of all plain data in a description."""
    if isinstance(data, Mapping):
        if "type" in data or "name" in data:  # names of what is imported, which are checked where that happens
            fields = data.get("fields")
            for name, value in fields.items() if isinstance(fields, Mapping) else ():
                yield from _leaves(value, str(name))
        elif "float" in data and isinstance(data["float"], str):
            return  # infinity and nan, as text
        else:
            for name, value in data.items():
                yield from _leaves(value, field or str(name))
    elif isinstance(data, (list, tuple)):
        for value in data:
            yield from _leaves(value, field)
    else:
        yield field, data


def _elsewhere(text: str, allowed: Collection[str | os.PathLike[str]]) -> str:
    """Why a text, taken for a path, is none that may be opened; "" where it is."""
    if "\0" in text:
        return "which cannot be a path"
    place = os.path.realpath(os.path.expanduser(text))
    for one in (Path.cwd(), *allowed):
        root = os.path.realpath(os.path.expanduser(os.fspath(one)))
        if place == root or place.startswith(root.rstrip(os.sep) + os.sep):
            return ""
    return "outside of the current folder"


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)
