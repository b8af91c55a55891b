"""Every trial as a row: a pandas DataFrame, and a CSV file from which every value can be read back."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nas_bo.report.table import limits_beside, noted
from nas_bo.spelling import BEFORE, spelled
from nas_bo.trial import ObjectiveSpec, Trial

if TYPE_CHECKING:
    import pandas as pd

NONE = "none"  # in CSV files; not "None", which pandas reads as a value that is missing
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a cell begins that a spreadsheet would execute
_EXACT = 2**53  # from here on not every whole number is a float
_WORDS = re.compile(r"|none|true|false|[-+]?(nan|inf|infinity)|null|<na>|n/?a|#n/?a( n/a)?|[-+]?1\.#(ind|qnan)", re.I)


def frame(
    trials: Iterable[Trial], columns: Sequence[ObjectiveSpec], labels: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """One row per trial: number, state, id, label, every flat choice, every value, ``violation:...``, reason, seconds.

    A choice that is not active in a trial is missing there (NaN or NA); the choice ``None`` is None, and whole numbers are
    whole. A choice named like one of the other columns is called ``arch:name``.
    """
    import pandas as pd

    rows, names, _ = _rows(trials, columns, labels or {})
    made = pd.DataFrame({name: _series([row.get(name, math.nan) for row in rows]) for name in names}, columns=names)
    if spelled(BEFORE, columns) == BEFORE or BEFORE in names:
        return made
    from nas_bo.report.frame_of_trials import Frame  # needs pandas, which takes a while to load

    return Frame(made)


def trials_csv(
    trials: Iterable[Trial], columns: Sequence[ObjectiveSpec], labels: Mapping[str, str] | None = None
) -> str:
    """`frame` as CSV.

    A cell is empty where a choice is not active or a value is missing, ``none`` for the choice None, ``True`` or ``False``, a
    number (whole ones without a point), or text. A choice that is text and would read as one of the others is in double
    quotes, as in JSON. No cell is a formula to a spreadsheet, whoever made the study: such a choice is in double quotes too, and
    a name, label or reason that begins like one has a ``'`` before it.
    """
    import pandas as pd

    rows, names, choices = _rows(trials, columns, labels or {})
    cells = [[_choice(row[n]) if n in choices and n in row else _known(row.get(n, "")) for n in names] for row in rows]
    return str(pd.DataFrame(cells, columns=[_known(name) for name in names], dtype=object).to_csv(index=False))


def _rows(
    trials: Iterable[Trial], columns: Sequence[ObjectiveSpec], labels: Mapping[str, str]
) -> tuple[list[dict[str, object]], list[str], set[str]]:
    """Of every trial what is known by name, all names in the order of the columns, and which of them are choices."""
    trials = list(trials)
    limited = [name for name in limits_beside(trials, columns) if name not in ("number", "state", "id", "label")]
    taken = {"number", "state", "id", "label", "reason", "seconds", "feasible", *(c.name for c in columns), *limited}
    rows = []
    for t in trials:
        row: dict[str, object] = {
            "number": math.nan if t.number is None else t.number,
            "state": t.state.value,
            "feasible": t.feasible,
            "id": t.architecture.id,
            "label": labels.get(t.architecture.id, ""),
        }
        row |= {f"arch:{name}" if name in taken else name: value for name, value in t.architecture.flat.items()}
        numbers = {c.name: t.values.get(c.name) for c in columns} | {name: noted(t, name) for name in limited}
        numbers |= {f"violation:{name}": amount for name, amount in t.violations.items()}
        row |= {name: math.nan if value is None else value for name, value in numbers.items()}
        rows.append(row | {"reason": t.reason, "seconds": t.seconds})
    fixed = ["number", "state", "feasible", "id", "label"]
    violated = dict.fromkeys(k for r in rows for k in r if k.startswith("violation:"))
    last = [*(c.name for c in columns), *limited, *violated, "reason", "seconds"]
    choices = dict.fromkeys(k for r in rows for k in r if k not in fixed and k not in last)
    return rows, [*fixed, *choices, *last], set(choices)


def _series(values: Sequence[Any]) -> pd.Series:
    """As pandas has such values, except that it would make whole numbers with gaps floats, and None a gap."""
    import pandas as pd

    there = [v for v in values if not _missing(v)]
    kinds = {type(v) for v in there}
    if len(there) < len(values) and kinds == {int} and all(-(2**63) <= v < 2**63 for v in there):
        return pd.Series([pd.NA if _missing(v) else v for v in values], dtype="Int64")
    mixed = len(kinds) > 1 or None in there or (kinds == {bool} and len(there) < len(values))
    return pd.Series(list(values), dtype=object) if mixed else pd.Series(list(values))


def _choice(value: object) -> object:
    if value is None:
        return NONE
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) and _unclear(value) else value


def _known(value: object) -> object:
    if isinstance(value, str):
        text = value.replace("\r\n", "\n").replace("\r", "\n")  # alone it ends a row, and no writer quotes it
        return f"'{text}" if value.startswith(_FORMULA) else text
    if not isinstance(value, float) or math.isinf(value):
        return value
    return "" if math.isnan(value) else int(value) if abs(value) < _EXACT and value == int(value) else value


def _unclear(text: str) -> bool:
    """Whether a text would be read as something else: as nothing, a word of `trials_csv` or pandas, a number, or JSON."""
    if text != text.strip() or "\r" in text or text.startswith(('"', *_FORMULA)) or _WORDS.fullmatch(text):
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True


def _missing(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)
