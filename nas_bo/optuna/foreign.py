"""A study that nas_bo did not make, read as trials: whatever its parameters, objectives and constraints are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas_bo.architecture import Architecture, Node
from nas_bo.errors import HostError, SpaceError
from nas_bo.optuna.bridge import architecture, columns, counts, from_frozen, state_of
from nas_bo.space import Space
from nas_bo.study_name import printable
from nas_bo.trial import Column, State, Trial, from_attributes, not_finite


def objectives(study: Study) -> list[Column]:
    """The objectives, each with a name of its own: the metric's, else "value" or "value_0", "value_1", ..."""
    found: list[Column] = []
    for i, c in enumerate(columns(study)):
        name = (c.name or f"value_{i}") if study.metric_names else ("value" if len(study.directions) == 1 else c.name)
        taken = {other.name for other in found}
        found.append(replace(c, name=name if name not in taken else f"{name} ({i})"))
    return found


def trials(study: Study, cols: Sequence[Column], space: type[Space] | None = None) -> list[Trial]:
    """The trials that have ended, in the order of their numbers.

    Args:
        space: whose architectures the parameters are; trials that are none of it are left out.

    Raises:
        HostError: no trial is an architecture of `space`.
    """
    ended = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    if space is None:
        return [_trial(t, cols) for t in ended]
    found = [one for t in ended if (one := from_frozen(t, space, cols)) is not None]
    if ended and not found:
        raise HostError(
            f"none of the {len(ended)} trials of the study {study.study_name!r} is an architecture of {space.title} "
            f"({_why(ended, space)}); leave --space out for a report of its parameters as they are"
        )
    return found


def facts(study: Study) -> dict[str, Any]:
    """What a reader should know about the origin of a report; the user's own attributes of the study among it."""
    every = study.get_trials(deepcopy=False)
    starts = [t.datetime_start for t in every if t.datetime_start is not None]
    own = {k: v for k, v in study.user_attrs.items() if isinstance(v, (str, int, float, bool)) and len(str(v)) <= 200}
    began = {"started": min(starts).isoformat(timespec="seconds")} if starts else {}
    told = ", ".join(f"{n} {name}" for name, n in counts(every).items() if n)
    return {"study": f"of Optuna, not made by nas_bo: {told or 'no trials'}", **began, **own}


def _trial(frozen: FrozenTrial, cols: Sequence[Column]) -> Trial:
    """As it is: its parameters stand for an architecture."""
    named = {printable(k): v for k, v in frozen.params.items()}
    flat = {k: v if isinstance(v, (str, int, float, bool)) or v is None else str(v) for k, v in named.items()}
    own = from_attributes(frozen.user_attrs)
    values: dict[str, float] = {}
    if frozen.state is TrialState.COMPLETE and frozen.values is not None:
        values = {c.name: float(v) for c, v in zip(cols, frozen.values, strict=True)}
    state = state_of(frozen, own)
    violations = dict(frozen.constraints)
    if state is State.INFEASIBLE and not any(v > 0 for v in violations.values()):
        state = State.STOPPED  # a pruner's work: nothing is violated
    broken = [name for name, amount in violations.items() if amount > 0]
    seconds = frozen.duration.total_seconds() if frozen.duration is not None else 0.0
    said = str(own.get("reason") or not_finite(values) or _reason(frozen, state, broken))
    return Trial(Architecture(Node(flat), flat), values, violations, state, said, {}, frozen.number, seconds)


def _reason(frozen: FrozenTrial, state: State, broken: Sequence[str]) -> str:
    if state is State.FAILED:
        told = next((v for k, v in frozen.system_attrs.items() if k in ("fail_reason", "STUDY_TELL_WARNING")), None)
        return str(told or "Optuna kept no reason").strip().partition("\n")[0]
    if state is State.STOPPED:
        last = frozen.last_step
        return "pruned" if last is None else f"pruned at step {last}"
    return f"violates {', '.join(broken)}" if broken else ""


def _why(ended: Sequence[FrozenTrial], space: type[Space]) -> str:
    try:
        architecture(space, ended[0].params)
    except SpaceError as error:
        return f"trial {ended[0].number}: {error}"
    return "none has values"


__all__ = ["facts", "objectives", "trials"]
