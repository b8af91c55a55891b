"""A space as plain data and back, so that studies can say which space they belong to. Of a space it knows the parts only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from nas_bo.architecture import Architecture
from nas_bo.errors import SpaceError
from nas_bo.space.constraint import Linear, Require, Rule
from nas_bo.space.domain import Choice, Integer, Option, Real, Repeat, When, choice, integer, option, real, repeat
from nas_bo.space.tree import Constant, Decision, Fixed, Guard, Level, Loop

SCHEMA = 1  # version of the JSON form of a space


class Parts(NamedTuple):
    """What a space is made of: its title, what its fields are, and its rules by name."""

    title: str
    fields: Mapping[str, Any]
    rules: Mapping[str, Require | Callable[[Architecture], object]]


def to_dict(title: str, level: Level, rules: Iterable[Rule]) -> dict[str, Any]:
    said: dict[str, object] = {}
    for rule in rules:
        linear = rule.test if isinstance(rule.test, Linear) else None
        said[rule.name] = {"weights": dict(linear.weights), "bound": linear.bound} if linear else None
    return {"schema": SCHEMA, "title": title, "fields": _level(level), "rules": said}


def _level(level: Level) -> dict[str, object]:
    return {name: _item(item) for name, item in level.fields}


def _item(item: Constant | Decision | Fixed | Loop | Guard) -> dict[str, object]:
    if isinstance(item, Constant):
        return {"constant": item.value}
    if isinstance(item, Fixed):
        return {"option": item.kind, "fields": _level(item.body)}
    if isinstance(item, Loop):
        count: object = _item(item.inline) if item.inline is not None else item.count
        return {"repeat": count, "fields": _level(item.body)}
    if isinstance(item, Guard):
        return {"when": item.parent, "values": sorted(item.values, key=repr), "fields": _level(item.body)}
    domain = item.domain
    if isinstance(domain, Integer):
        return {"integer": [domain.low, domain.high], "step": domain.step, "log": domain.log}
    if isinstance(domain, Real):
        return {"real": [domain.low, domain.high], "log": domain.log}
    values = [{"option": v, "fields": _level(item.options[str(v)])} if v in item.options else v for v in domain.values]
    return {"choice": values, "ordered": domain.ordered}


def from_dict(data: Mapping[str, Any], rules: Mapping[str, Callable[[Architecture], object]]) -> Parts:
    if not isinstance(data, Mapping) or not {"schema", "title", "fields", "rules"} <= set(data):
        raise SpaceError("this is not the JSON of a space: it needs the keys schema, title, fields and rules")
    if data["schema"] != SCHEMA:
        raise SpaceError(
            f"the space has schema version {data['schema']!r}, this version of nas_bo reads {SCHEMA}: upgrade nas_bo, or "
            "write the file again with this version"
        )
    found: dict[str, Require | Callable[[Architecture], object]] = {}
    for name, linear in data["rules"].items():
        if linear is not None:
            found[name] = Require(Linear(dict(linear["weights"]), linear["bound"]))
        elif name in rules:
            found[name] = rules[name]
        else:
            raise SpaceError(
                f"the space {data['title']!r} has the rule {name!r}, which is code and so not in the file; "
                f"pass rules={{{name!r}: function}}"
            )
    return Parts(data["title"], {name: _read(item, name) for name, item in data["fields"].items()}, found)


def _read(item: Mapping[str, Any], where: str) -> Any:
    if "constant" in item:
        return item["constant"]
    if "option" in item:
        return _option(item, where)
    if "when" in item:
        fields = {name: _read(below, f"{where}.{name}") for name, below in item["fields"].items()}
        return When(item["when"], frozenset(item["values"]), fields)
    if "repeat" in item:
        count = item["repeat"]
        fields = {name: _read(below, f"{where}.{name}") for name, below in item["fields"].items()}
        return Repeat(_read(count, where) if isinstance(count, Mapping) else repeat(count, **fields).count, fields)
    if "integer" in item:
        return integer(item["integer"][0], item["integer"][1], step=item["step"], log=item["log"])
    if "real" in item:
        return real(item["real"][0], item["real"][1], log=item["log"])
    if "choice" in item:
        values = [_option(v, where) if isinstance(v, Mapping) else v for v in item["choice"]]
        read: Choice = choice(*values, ordered=item["ordered"])
        return read
    raise SpaceError(f"{where}: cannot read {dict(item)!r}; expected constant, repeat, integer, real or choice")


def _option(item: Mapping[str, Any], where: str) -> Option:
    fields = {name: _read(below, f"{where}.{name}") for name, below in item["fields"].items()}
    return option(item["option"], **fields)
