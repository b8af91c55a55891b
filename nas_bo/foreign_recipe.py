"""A recipe that somebody else may have written, looked at before anything of it is built: which files it opens, what it imports, and
how much it asks for.

What this user has named in a search of their own, on this machine, is theirs: it is noted in a file of theirs, so that the commands
that come after a search (`train`, `register`, `export`, `compress`, `rerun`) need not ask for it again.
"""

from __future__ import annotations

import json
import logging
import math
import os
import stat
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from nas_bo import serialization
from nas_bo.cache_folder import cache_folder
from nas_bo.errors import SearchError
from nas_bo.foreign_document import reading, text_of
from nas_bo.safe_text import printable

BUDGET = 1e9  # tokens, steps or repeats: more than a thousand times those of a default search
LIMITS = ("at_most", "at_least", "seed", "float")  # numbers that cost nothing
NAMED_BYTES = 4 * 2**20  # of the file of what this user has named: a longer one is started again
_named: set[str] = set()  # by this process
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Allowed:
    """What a recipe of somebody else may do.

    Attributes:
        modules: packages and modules other than nas_bo that may be imported (see `nas_bo.serialization.rebuild`).
        paths: files and folders outside of the current folder that may be opened.
        budget: the largest number of tokens, steps, repeats or the like.
    """

    modules: Collection[str] = ()
    paths: Collection[str | os.PathLike[str]] = ()
    budget: float = BUDGET


Allow = Collection[str] | Allowed
"""Modules alone, or all that is allowed."""


def rebuild(described: object, allow: Allow = (), what: str = "the study", factor: float = 1.0) -> Any:
    """As `nas_bo.serialization.rebuild`, of a description that `check` lets through.

    Args:
        what: has the recipe, for messages.
        factor: by which its budget is multiplied afterwards.

    Raises:
        SearchError: it may not be built, or cannot.
    """
    may = allow if isinstance(allow, Allowed) else Allowed(modules=allow)
    check(described, may.paths, may.budget / max(1.0, factor), what)
    return serialization.rebuild(described, may.modules)


@reading("a recipe of nas_bo", SearchError)
def check(
    described: object,
    allow_path: Collection[str | os.PathLike[str]] = (),
    budget: float = BUDGET,
    what: str = "the run",
    noted: bool = True,
) -> None:
    """Whether a recipe (`nas_bo.serialization.describe`) may be built.

    Args:
        allow_path: files and folders that it may name; those below the current folder it always may, but for hidden ones, and what
            this user has named in a search.
        budget: the largest number of tokens, steps, repeats or the like.
        what: has the recipe, for messages.
        noted: let through what this user has named in a search; not for what a program asks for in the user's name.

    Raises:
        SearchError: it names another file, or a larger number.
    """
    named: set[str] | None = None if noted else set()
    for key, field, value, why in _asked(described, allow_path, budget):
        named = _named | _noted() if named is None else named
        if key in named:
            continue
        if isinstance(value, str):
            place = printable(value)[:200]
            raise SearchError(
                f"{what} names {field}={place!r}, {why}: what it names may be anything on this machine. If that is what you want, "
                f"allow it: --allow-path {place}, or in Python paths=[...] of nas_bo.foreign_recipe.Allowed (allow_path=[...] of rerun)"
            )
        raise SearchError(
            f"{what} asks for {field}={value:g}, and at most {budget:g} is done for it without being asked; if that is what "
            f"you want, allow it: --budget-limit {value:g}, or in Python budget={value:g} of nas_bo.foreign_recipe.Allowed "
            f"(budget_limit={value:g} of rerun)"
        )


def note(described: object, inside: bool = False) -> None:
    """Note what this user has named, or allowed, in a recipe: `check` takes it from now on.

    Args:
        inside: also absolute paths in the current folder, which need not be allowed as long as it is the current one. Only for what
            the user has written themselves.
    """
    texts = {text for _, text in _leaves(described) if isinstance(text, str) and "\0" not in text}
    new = {_place(text) for text in texts if inside and os.path.isabs(os.path.expanduser(text))}
    new |= {key for key, *_ in _asked(described, (), BUDGET)}
    _named.update(new)
    path = _file()
    with suppress(OSError):  # without it the commands ask
        new -= _noted() if new else set()
        if not new:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.is_file() and path.stat().st_size > NAMED_BYTES
        how = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if fresh else os.O_APPEND)
        how |= 0 if sys.platform == "win32" else os.O_NOFOLLOW
        opened = os.open(path, how, 0o600)
        with os.fdopen(opened, "w", encoding="utf-8") as file:
            file.write("".join(f"{key}\n" for key in sorted(new)))


def _file() -> Path:
    user = os.getuid() if os.name == "posix" else 0
    return cache_folder() / f"named-by-{user}.jsonl"


def _noted() -> set[str]:
    """What earlier processes of this user have noted; nothing where the file is not this user's alone to write."""
    try:
        about = _file().lstat()
        if os.name == "posix" and (about.st_uid != os.getuid() or stat.S_IMODE(about.st_mode) & 0o022):
            _log.warning("%s is not used: others may write it, or it is not yours; remove it", _file())
            return set()
        return set(text_of(_file(), 2 * NAMED_BYTES, follow=False).splitlines())
    except (OSError, ValueError):
        return set()


def _asked(
    described: object, allow_path: Collection[str | os.PathLike[str]], budget: float
) -> Iterator[tuple[str, str, str | float, str]]:
    """(how it is noted, field, value, why) of all that needs to be allowed."""
    elsewhere = _judge(allow_path)
    for field, value in _leaves(described):
        if isinstance(value, str) and (why := elsewhere(value)):
            yield _place(value), field, value, why
        if _is_number(value) and field not in LIMITS and abs(value) > budget:
            yield json.dumps(["number", field, value]), field, value, ""


def _place(text: str) -> str:
    return json.dumps(["path", text if "\0" in text else os.path.realpath(os.path.expanduser(text))])


def _leaves(data: object, field: str = "") -> Iterator[tuple[str, object]]:
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


def _judge(allowed: Collection[str | os.PathLike[str]]) -> Callable[[str], str]:
    """A function: why a text, taken for a path, is none that may be opened; "" where it is."""
    current, home = os.path.realpath(Path.cwd()), os.path.realpath(os.path.expanduser("~"))
    roots = [os.path.realpath(os.path.expanduser(os.fspath(one))) for one in allowed]

    def elsewhere(text: str) -> str:
        if "\0" in text:
            return "which cannot be a path"
        place = os.path.realpath(os.path.expanduser(text))
        if any(_within(place, root) for root in roots):
            return ""
        if not _within(place, current):
            return "outside of the current folder"
        if any(part.startswith(".") for part in Path(place).relative_to(current).parts):
            return "which is hidden in the current folder"
        # where everything of this user lies, a name alone is not what is meant; a word such as "float32" names nothing there
        everything = current in (home, os.path.dirname(current)) and os.path.lexists(place)
        return "in the folder that has everything of yours" if everything else ""

    return elsewhere


def _within(place: str, root: str) -> bool:
    return place == root or place.startswith(root.rstrip(os.sep) + os.sep)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)
