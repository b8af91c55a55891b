"""What an Optuna study says, as data: columns, trials, and who it is. Imports neither optuna nor mlflow.

Studies of nas_bo carry ``nas_bo:study`` and every trial ``nas_bo:trial``; any other study is read as it is, by its
metric names, parameters, values and constraints.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any

from nas_bo.architecture import Architecture, Node
from nas_bo.errors import HostError, NasBoError
from nas_bo.report import Summary, vocabulary
from nas_bo.report.labels import labels_of
from nas_bo.space import Space
from nas_bo.trial import PREFIX, Column, State, Trial, from_attributes, not_finite, read_attributes

FINISHED = ("COMPLETE", "PRUNED", "FAIL")
_STATES = {"COMPLETE": State.COMPLETE, "PRUNED": State.INFEASIBLE, "FAIL": State.FAILED}


@dataclass(frozen=True)
class Subject:
    """What must be known about a study to log its trials: plain data, so that the study itself need not be there.

    Attributes:
        key: see `key`.
        about: see `about`.
    """

    name: str
    key: str
    columns: list[Column]
    about: dict[str, Any] = field(default_factory=dict)
    sampler: str = ""

    @property
    def space(self) -> type[Space] | None:
        return space(self.about)

    @property
    def title(self) -> str:
        """What an experiment is called when nobody names it."""
        own_name = self.name if not self.name.startswith("no-name-") else "optuna"
        return (self.about.get("space") or {}).get("title") or own_name

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Subject:
        known = Column.__dataclass_fields__
        cols = [Column(**{k: v for k, v in c.items() if k in known}) for c in data["columns"]]
        return cls(str(data["name"]), str(data["key"]), cols, dict(data["about"]), str(data["sampler"]))


def subject(study: Any) -> Subject | None:
    """None for a foreign study in which no trial has begun."""
    known = about(study)
    found = key(study, known)
    if found is None:
        return None
    sampler = type(getattr(study, "sampler", None)).__name__
    return Subject(study.study_name, found, columns(study, known), known, sampler)


def about(study: Any) -> dict[str, Any]:
    """What search() kept with the study (space, columns, conditions, strategy, ...); {} for any other study."""
    data = read_attributes(study.user_attrs, f"{PREFIX}study")
    return data if isinstance(data, dict) else {}


def columns(study: Any, known: Mapping[str, Any]) -> list[Column]:
    """The objectives of a study, in the order of its values."""
    directions = [d.name.lower() for d in study.directions]
    kept = columns_of(known)
    if len(kept) == len(directions):
        return kept
    names = study.metric_names or (
        ["value"] if len(directions) == 1 else [f"value_{i}" for i in range(len(directions))]
    )
    return [
        Column(n, direction="maximize" if d == "maximize" else "minimize")
        for n, d in zip(names, directions, strict=True)
    ]


def checked_names(names: Sequence[str] | None) -> tuple[str, ...]:
    """Names for the values of a study (raises HostError unless they are different texts)."""
    found = () if names is None else (names,) if isinstance(names, str) else tuple(names)
    if not all(isinstance(name, str) and name.strip() for name in found) or len(set(found)) < len(found):
        raise HostError(f"metric_names={names!r} must be different names, one for each value of a trial")
    return found


def named(given: Subject, names: Sequence[str]) -> Subject:
    """The subject with `names` for its values, if they have none of their own.

    Raises:
        HostError: there are more or fewer values than names.
    """
    unnamed = {"value", *(f"value_{i}" for i in range(len(given.columns)))}
    if not names or given.about or not {c.name for c in given.columns} <= unnamed:
        return given
    if len(names) != len(given.columns):
        raise HostError(
            f"the study {given.name!r} has {len(given.columns)} values per trial, and {len(names)} metric names were given "
            f"({', '.join(names)}); give one for each, in the order of the values"
        )
    return replace(given, columns=[replace(c, name=n) for c, n in zip(given.columns, names, strict=True)])


def columns_of(known: Mapping[str, Any]) -> list[Column]:
    """The objectives as `about` has them; [] of a study that nas_bo did not make."""
    fields = Column.__dataclass_fields__
    return [Column(**{k: v for k, v in c.items() if k in fields}) for c in known.get("columns") or []]


def key(study: Any, known: Mapping[str, Any]) -> str | None:
    """12 digits that tell this study from another of the same name; equal in every process that has it open.

    They come from the name and the moment it was started: as nas_bo noted it, or when its first trial began. None for
    a foreign study in which none has begun.
    """
    started = known.get("started")
    if not started:
        starts = [t.datetime_start for t in study.get_trials(deepcopy=False) if t.datetime_start is not None]
        if not starts:
            return None
        started = min(starts).replace(microsecond=0).isoformat()  # some storages keep whole seconds only
    return hashlib.sha256(f"{study.study_name}\n{started}".encode()).hexdigest()[:12]


def space(known: Mapping[str, Any]) -> type[Space] | None:
    """The space of a study, its rules replaced by ones that allow everything: enough to name and to rebuild."""
    return _space(json.dumps(known["space"])) if known.get("space") else None


@lru_cache(maxsize=32)
def _space(text: str) -> type[Space] | None:
    data = json.loads(text)
    try:
        return Space.from_dict(data, {name: lambda _arch: True for name in data.get("rules", {})})
    except (NasBoError, TypeError, AttributeError, KeyError):
        return None


def trial(frozen: Any, cols: list[Column], own: type[Space] | None) -> Trial:
    """The trial as nas_bo sees it; of a foreign study the flat parameters stand for an architecture.

    A PRUNED trial is infeasible unless nas_bo noted that it was stopped early; it is on no front.
    """
    kept = from_attributes(frozen.user_attrs)
    values: Mapping[str, Any] = kept.get("values") or {}
    if frozen.state.name == "COMPLETE" and frozen.values is not None:
        values = {c.name: float(v) for c, v in zip(cols, frozen.values, strict=True)}
    state = _STATES.get(frozen.state.name, State.RUNNING)
    strange = not_finite(values) if state is State.COMPLETE else ""
    if strange:
        state = State.FAILED
    if state is State.INFEASIBLE and kept.get("state") == State.STOPPED.value:
        state = State.STOPPED
    seconds = kept.get("seconds") or (frozen.duration.total_seconds() if frozen.duration else 0.0)
    reason = kept.get("reason") or str(frozen.user_attrs.get(f"{PREFIX}reason", "")) or strange
    info = kept.get("info") or {}
    arch = architecture(frozen.params, own)
    return Trial(arch, values, dict(frozen.constraints), state, reason, info, frozen.number, seconds)


def architecture(params: Mapping[str, Any], own: type[Space] | None) -> Architecture:
    if own is not None:
        try:
            return own.architecture(params, strict=False)
        except NasBoError:
            pass
    plain = {k: v if isinstance(v, (str, int, float, bool)) or v is None else str(v) for k, v in params.items()}
    return Architecture(Node(plain), plain)


def label(frozen: Any) -> str:
    return str(frozen.user_attrs.get(f"{PREFIX}label", ""))


def short(params: Mapping[str, Any]) -> str:
    """A name from the first few parameters: ``lr=0.003 depth=4``."""
    return " ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in list(params.items())[:3])


def finished(study: Any) -> list[Any]:
    return [t for t in study.get_trials(deepcopy=False) if t.state.name in FINISHED]


def summary(study: Any, known: Mapping[str, Any], cols: list[Column], title: str) -> Summary:
    """What the study itself says, for a report."""
    own, frozen = space(known), finished(study)
    trials = [trial(t, cols, own) for t in frozen]
    named = {t.architecture.id: label(f) for t, f in zip(trials, frozen, strict=True)}
    labels = {key: named[key] or found for key, found in labels_of(trials, own).items()}
    facts = {k: v for k, v in known.items() if k not in ("space", "columns", "recipe")}
    return Summary(
        title,
        cols,
        trials,
        labels,
        facts=facts,
        baselines=baselines(study),
        space=own,
        vocab_size=vocabulary(known),
    )


def baselines(study: Any) -> list[dict[str, Any]]:
    """What a search was compared with."""
    asked = read_attributes(study.user_attrs, f"{PREFIX}baselines")
    found = []
    for label, arch_id in asked.items() if isinstance(asked, dict) else ():
        kept = read_attributes(study.user_attrs, f"{PREFIX}baseline:{arch_id}")
        if isinstance(kept, dict):
            found.append({**kept, "label": label})
    return found
