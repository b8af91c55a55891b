"""What a host has stored of a study, in the form in which nas_bo writes it. A study may be damaged, or somebody else's: what has
another form is left out of a trial, and of what a study says about itself it is one error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nas_bo.errors import HostError

NUMBERS = (
    "low", "high", "spread", "seconds", "cpu_seconds", "parameters", "value", "repeats",
)  # of the info of a value  # fmt: skip
OF_COLUMN = {"name": str, "unit": str, "direction": str, "cost": str}
TABLES = ("conditions", "remarks")  # objective -> what -> value
PLAIN = ("versions", "chance")  # what -> value


def trial(data: object) -> dict[str, Any]:
    """What was noted of a trial (`nas_bo.study.attributes`)."""
    if not isinstance(data, Mapping):
        return {}
    found: dict[str, object] = {key: data[key] for key in ("id", "reason", "state") if isinstance(data.get(key), str)}
    if is_number(data.get("seconds")):
        found["seconds"] = data["seconds"]
    for key in ("values", "violations"):
        if key in data:
            found[key] = numbers(data[key])
    if "info" in data:
        found["info"] = infos(data["info"])
    if "place" in data:  # `nas_bo.process.Place.of` says whether it is one
        found["place"] = data["place"]
    return found


def about(data: object) -> dict[str, Any]:
    """What a study says about itself.

    Raises:
        HostError: a part of it has not the form that `search` gives it.
    """
    if not isinstance(data, Mapping):
        return {}
    made = dict(data)
    if not made:
        return {}
    space, columns = made.get("space"), made.get("columns")
    wrong = [] if isinstance(space, Mapping) and isinstance(space.get("title"), str) else ["space"]
    wrong += [] if isinstance(made.get("fingerprint"), str) else ["fingerprint"]
    if not (isinstance(columns, list) and all(_is_column(one) for one in columns)):
        wrong.append("columns")
    wrong += [key for key in TABLES if key in made and not _is_table(made[key])]
    wrong += [key for key in PLAIN if made.get(key) is not None and not isinstance(made[key], Mapping)]
    if "proxies" in made and not (isinstance(made["proxies"], list) and all(map(_is_column, made["proxies"]))):
        wrong.append("proxies")
    wrong += [key for key in ("strategy", "device", "started") if key in made and not isinstance(made[key], str)]
    if wrong:
        raise HostError(
            f"what the study says about itself is damaged ({', '.join(wrong)}); use a copy of it, or another study"
        )
    if "chance" in made:
        made["chance"] = numbers(made["chance"])
    return made


def remeasured(data: object) -> dict[str, object]:
    """``{"values": {id: {name: value}}, "info": {id: {name: info}}}``."""
    if not isinstance(data, Mapping):
        return {}
    found = dict(data)
    for key, shape in (("values", numbers), ("info", infos)):
        if key in found:
            inside = found[key]
            found[key] = {str(k): shape(v) for k, v in inside.items()} if isinstance(inside, Mapping) else {}
    return found


def evaluated(data: object) -> dict[str, Any] | None:
    """A baseline or a re-training: ``{"id", "values", "info", "reason", ...}``; None of anything else."""
    if not isinstance(data, Mapping):
        return None
    found = dict(data) | {"values": numbers(data.get("values")), "info": infos(data.get("info"))}
    found["reason"] = data["reason"] if isinstance(data.get("reason"), str) else ""
    for key, kind in (("id", str), ("label", str), ("state", str), ("flat", Mapping)):
        if key in found and not isinstance(found[key], kind):
            del found[key]
    for key in ("factor", "seconds"):
        if key in found and not is_number(found[key]):
            del found[key]
    return found


def numbers(data: Any) -> dict[str, float]:
    """The numbers by name in it."""
    there = data.items() if isinstance(data, Mapping) else ()
    return {k: v for k, v in there if isinstance(k, str) and is_number(v, finite=False)}


def infos(data: object) -> dict[str, dict[str, object]]:
    """Objective -> how its value was obtained."""
    if not isinstance(data, Mapping):
        return {}
    return {
        str(name): {k: v for k, v in info.items() if k not in NUMBERS or is_number(v)}
        for name, info in data.items()
        if isinstance(info, Mapping)
    }


def is_number(value: object, finite: bool = True) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return not finite or math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _is_column(data: object) -> bool:
    return (
        isinstance(data, Mapping)
        and "name" in data
        and all(isinstance(data[key], kind) for key, kind in OF_COLUMN.items() if key in data)
        and data.get("direction", "minimize") in ("minimize", "maximize")
        and all(data.get(key) is None or is_number(data[key]) for key in ("at_most", "at_least"))
    )


def _is_table(data: object) -> bool:
    return isinstance(data, Mapping) and all(isinstance(one, Mapping) for one in data.values())
