"""A space as text to read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from nas_bo.space.constraint import Linear
from nas_bo.space.domain import Choice
from nas_bo.space.tree import Constant, Fixed, Guard, Level, Loop
from nas_bo.wording import counted, plural

if TYPE_CHECKING:
    from nas_bo.space.space import Space


def describe(space: type[Space]) -> str:
    size = space.size(rules=False)
    number = f"{size:,}" if size < 10**9 else f"about 10^{math.log10(size):.1f}"
    reals = sum(1 for d in space.domains().values() if d.size is None)
    head = f"{space.title}: {number} {plural(size, 'architecture')}" + (" before rules" if space.rules() else "")
    head += f", times {counted(reals, 'real choice')}" if reals else ""
    lines = [head, *_lines(space._level, "  ")]
    for rule in space.rules():
        if isinstance(rule.test, Linear):
            says = " + ".join(f"{w:g}*{name}" for name, w in rule.test.weights.items()) + f" <= {rule.test.bound:g}"
        else:
            says = (rule.test.__doc__ or "").strip().split("\n")[0]
        lines.append(f"  rule {rule.name}" + (f": {says}" if says else ""))
    return "\n".join(lines)


def _lines(level: Level, indent: str) -> Iterator[str]:
    pad = max((len(name) for name, _ in level.fields), default=0)
    for name, item in level.fields:
        head = f"{indent}{name:<{pad}}  "
        if isinstance(item, Constant):
            yield f"{head}always {item.value!r}"
        elif isinstance(item, Fixed):
            yield f"{head}always {item.kind}" + (":" if item.body.fields else "")
            yield from _lines(item.body, indent + "    ")
        elif isinstance(item, Loop):
            long = item.inline.domain.describe() if item.inline is not None else item.count
            yield f"{head}list of {long} records, each with"
            yield from _lines(item.body, indent + "    ")
        elif isinstance(item, Guard):
            yield f"{indent}while {item.parent} is one of {', '.join(sorted(map(str, item.values)))}:"
            yield from _lines(item.body, indent + "    ")
        else:
            yield head + item.domain.describe()
            if isinstance(item.domain, Choice):
                for kind, below in item.options.items():
                    if below.fields:
                        yield f"{indent}    {kind}:"
                        yield from _lines(below, indent + "        ")
