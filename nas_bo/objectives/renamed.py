"""An objective under the name that a study began with (see `nas_bo.spelling`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nas_bo.objective import Reported
from nas_bo.objectives.validation_loss import ValidationLoss
from nas_bo.objectives.weighted import Weighted
from nas_bo.spelling import OTHER, UNIT, spelled


def as_named(objective: Any, name: str, reported: Sequence[str] = ()) -> Any:
    """`objective` with its loss in bits per byte called `name`, parts of a sum included; the very same where it has none.

    Args:
        reported: names without a unit that the study has: what is reported to it may be asked for by the other name.
    """
    if isinstance(objective, Weighted):
        terms = [(weight, as_named(part, name)) for weight, part in objective.terms]
        same = all(new is old for (_, new), (_, old) in zip(terms, objective.terms, strict=True))
        return objective if same else replace(objective, terms=terms)
    if isinstance(objective, Reported) and not objective.unit:
        stored = spelled(objective.name, reported)
        return objective if stored == objective.name else replace(objective, name=stored)
    ours = isinstance(objective, (ValidationLoss, Reported)) and objective.unit == UNIT
    return replace(objective, name=name) if ours and objective.name == OTHER.get(name) else objective
