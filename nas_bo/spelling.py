"""Two names of one quantity: the loss in bits per byte is `bits_per_byte`, and was `val_loss` in version 0.1.

Studies keep the name that they were begun with; whoever asks may say either. A loss per token, and an objective of the user's
own, have one name only: nothing here applies to them.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas_bo.trial import ObjectiveSpec

NAME, BEFORE, UNIT = "bits_per_byte", "val_loss", "bits/byte"
OTHER = {NAME: BEFORE, BEFORE: NAME}
_LOSS = re.compile(
    rf"({NAME}|{BEFORE})(?=$|[@<>])"
)  # alone, of a rung (`val_loss@0.25`), or with a limit (`val_loss<=3`)


def other(name: object) -> str | None:
    """The other name of what is called `name`, with its rung or limit; None where it has only one."""
    found = _LOSS.match(name) if isinstance(name, str) else None
    return None if found is None else OTHER[found[1]] + found.string[found.end() :]


def spelled(name: str, known: Iterable[str | ObjectiveSpec]) -> str:
    """`name` as it is in `known`: itself where it is there, else its other name where that is; else as it was.

    A `ObjectiveSpec` has two names only where its unit is bits per byte, or nobody said one.
    """
    units = {one if isinstance(one, str) else one.name: "" if isinstance(one, str) else one.unit for one in known}
    also = other(name)
    return name if name in units or also is None or units.get(also, "?") not in ("", UNIT) else also


def current(column: ObjectiveSpec) -> str:
    """The name of an objective as it would be today: what studies of either name have in common."""
    return NAME if column.unit == UNIT and column.name == BEFORE else column.name


def other_name(trial: int, given: str, wanted: str) -> str:
    """The message for a value that was reported to Ax by the name that the experiment does not use."""
    return (
        f"trial {trial} of the Ax experiment was given {given!r}, and the metric is {wanted!r} there: the loss in bits per byte is called "
        f"{NAME!r} since version 0.2, and an experiment keeps the name that it was begun with. Ax would take {given!r} for a further "
        f"metric and leave the trial without the objective; report it as attach_data({trial}, {{{wanted!r}: ...}}) or complete_trial("
        f"{trial}, {{{wanted!r}: ...}})"
    )


class Values(dict[str, float]):
    """Objective name -> value; the loss in bits per byte is found by either name, and listed by the one that it has."""

    def __missing__(self, name: str) -> float:
        also = other(name)
        if also is None or not super().__contains__(also):
            raise KeyError(name)
        return dict.__getitem__(self, also)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or super().__contains__(other(name))

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default


def answering(values: Mapping[str, float], columns: Iterable[ObjectiveSpec]) -> Mapping[str, float]:
    """`values` that answer to both names, where one of `columns` is the loss in bits per byte and none has its other name."""
    names = {c.name: c.unit for c in columns}
    return Values(values) if any(names.get(n) == UNIT and m not in names for n, m in OTHER.items()) else values


class Told(dict[str, Any]):
    """Objective name -> how its value was obtained; found by the name of version 0.1 too, with a warning."""

    def __missing__(self, name: str) -> Any:
        also = other(name)
        if also is None or not super().__contains__(also):
            raise KeyError(name)
        said_before(name, also)
        return dict.__getitem__(self, also)

    def get(self, name: str, default: object = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default


def said_before(name: str, also: str) -> None:
    """Warn the caller's caller that something is called otherwise now, where it was asked for by its name of version 0.1."""
    if name.startswith(BEFORE):
        warnings.warn(f"{name!r} is called {also!r} since version 0.2; ask for that", DeprecationWarning, stacklevel=3)


# ---- studies ------------------------------------------------------------------------------------------------------


def began(about: Mapping[str, Any]) -> str | None:
    """What a study calls the loss in bits per byte, by what is kept of it; None where it has no such loss."""
    columns = [c for key in ("columns", "proxies") for c in about.get(key, ())]
    described = list(_described(about.get("recipe", {})))
    return next((c["name"] for c in [*columns, *described] if c.get("unit") == UNIT and c.get("name") in OTHER), None)


def _described(recipe: object) -> Iterable[Mapping[str, object]]:
    """The fields of every objective in a recipe, parts of sums included (see `nas_bo.serialization`)."""
    if isinstance(recipe, Mapping):
        if isinstance(recipe.get("fields"), Mapping):
            yield recipe["fields"]
        for part in recipe.values():
            yield from _described(part)
    elif isinstance(recipe, (list, tuple)):
        for part in recipe:
            yield from _described(part)


def translated(data: object, name: str | None) -> Any:
    """JSON-safe data of a study, with the loss called `name` wherever it has its other name; as it is for None."""
    if name is None:
        return data
    text = re.sub(rf'(?<=[":]){OTHER[name]}(?=["@<>])', name, json.dumps(data))  # a colon: "constraints:val_loss<=3"
    return json.loads(text)
