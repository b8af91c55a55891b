"""StudyRecord: all that a host stores of a study, as plain data, and every key under which it is stored.

Each host (an Optuna study, an Ax experiment) is read into records in one place of its own door, its `Source`; results, reports,
trackers and merges read the records. Nothing here knows a host.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from nas_bo import large_info, stored_data
from nas_bo.architecture import Architecture, Node
from nas_bo.errors import HostError, NasBoError, SpaceError
from nas_bo.process import Place
from nas_bo.safe_text import lines, printable
from nas_bo.safe_text import plain as plain_data
from nas_bo.spelling import Told, Values, answering
from nas_bo.trial import ObjectiveSpec, State, Trial, not_finite

if TYPE_CHECKING:
    from nas_bo.space import Space

# ---- keys --------------------------------------------------------------------------------------------------------
# Hosts keep under them what they have no place for. Values are JSON texts below 2,046 characters, the width of a column in
# some storages; what is longer is cut into parts by `write_attributes`.

PREFIX = "nas_bo:"
ATTRIBUTE_WIDTH = 2000  # without the few digits that say how many parts there are

# of a study, after the prefix
STUDY = "study"  # what `search` says about itself: space, columns, conditions, strategy, versions, ...
IDENTITY = "identity"  # a random id that no other study has, whatever its name
BASELINES = "baselines"  # label -> architecture id
RETRAINED = "retrained"  # the multiple of the budget
COMPARED = "compared"  # {"standard": ids, "why": why there is no standard design}
REMEASURED = "remeasured"  # {"values": {id: {name: value}}, "info": ...}, measured side by side at the end
VALIDATED = "validated"  # the trust report of `validate`
EVALUATING = (
    "evaluating"  # {"id", "by", "deaths"}: what a search evaluates in its own process in addition to its trials
)

# of a trial, with the prefix
TRIAL = f"{PREFIX}trial"  # see `attributes`
LABEL, REASON = f"{PREFIX}label", f"{PREFIX}reason"
OWNER, SINCE = f"{PREFIX}owner", f"{PREFIX}since"  # who evaluates it
ALIVE = f"{PREFIX}alive"  # the last sign of life of who evaluates it, where that takes long
PLACE = f"{PREFIX}place"  # and on which node of a cluster, next to that sign
DEATHS = f"{PREFIX}deaths"  # how many processes have died that evaluated it
CLAIM = (
    f"{PREFIX}claim"  # a system attribute of Optuna: which of several trials that begin at once is this process's own
)
MERGED = f"{PREFIX}merged"  # where a copied trial is from
VALUES, STATE = f"{PREFIX}values", f"{PREFIX}state"  # of a trial that Ax runs: what its metrics fetch
PARAMETERS = f"{PREFIX}parameters"  # what Ax asked for, to be evaluated again where a process died


def baseline(arch_id: str) -> str:
    return f"baseline:{arch_id}"


def retrained(factor: float, arch_id: str = "") -> str:
    return f"{RETRAINED}:{factor:g}:{arch_id}"


def evaluation(key: str = "") -> str:
    return f"validate:{key}"


def write_attributes(key: str, data: object) -> dict[str, str]:
    """`data` as JSON text under `key`, cut into parts ``key``, ``key.1``, ... that every storage can hold."""
    text = json.dumps(data, separators=(",", ":"), default=plain)
    parts = [text[i : i + ATTRIBUTE_WIDTH] for i in range(0, len(text), ATTRIBUTE_WIDTH)]
    parts[0] = f"{len(parts)}|{parts[0]}"  # parts of an earlier, longer text may be left behind these
    return {key + (f".{i}" if i else ""): part for i, part in enumerate(parts)}


def read_attributes(attributes: Mapping[str, object], key: str) -> Any:
    """The inverse of `write_attributes`; None when it is not there or was cut short by a dying process."""
    if key not in attributes:
        return None
    count, _, text = str(attributes[key]).partition("|")
    try:
        return json.loads(text + "".join(str(attributes[f"{key}.{i}"]) for i in range(1, int(count))))
    except (KeyError, ValueError):
        return None


@runtime_checkable
class Listed(Protocol):
    """Scalars and arrays of numpy, tensors of torch."""

    def tolist(self) -> object: ...


def plain(value: object) -> object:
    """numpy scalars and arrays as plain data, anything else as text: the `default` of `json.dumps`."""
    return value.tolist() if isinstance(value, Listed) else str(value)


def attributes(trial: Trial, most: float = large_info.MOST) -> dict[str, str]:
    """What a host keeps of a trial in addition to parameters, values and constraints; see `from_attributes`.

    Args:
        most: characters of `Trial.info`, see `nas_bo.large_info`.
    """
    data = {
        "id": trial.architecture.id,
        "seconds": round(trial.seconds, 3),
        "reason": trial.reason,
        "violations": dict(trial.violations),
        "info": large_info.split(plain_data(trial.info), most)[0],
    }
    if trial.state is not State.COMPLETE:  # values measured before evaluation stopped: hosts keep no partial values
        data["values"] = dict(trial.values)
    if trial.place is not None:
        data["place"] = trial.place.noted
    if trial.state is State.STOPPED:  # hosts know one kind of trial that ends early
        data["state"] = trial.state.value
    return write_attributes(TRIAL, data)


def from_attributes(attributes: Mapping[str, object]) -> dict[str, Any]:
    """The data that `attributes` wrote, or {}."""
    return stored_data.trial(read_attributes(attributes, TRIAL))


# ---- trials ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Further:
    """What a host keeps of a trial in addition to what nas_bo knows: an Ax experiment does.

    Attributes:
        curves: metric -> (step, value).
        metrics: those that are not objectives; `errors` are standard errors, `seconds` what it took to make the point.
        notes: name -> text, such as the generator.
        arms: of a batch: ``{"arm", "parameters", "values"}``.
    """

    curves: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    errors: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    arms: Sequence[Mapping[str, object]] = ()


@dataclass(frozen=True)
class TrialRecord:
    """A trial as its host stores it: its parameters are not an architecture yet.

    Attributes:
        state: None while the trial waits to be begun.
        ended: what its host calls its end: "complete", "pruned", "failed" or "abandoned"; "" before it.
        violations: of the last evaluation, see `understood`.
        seconds: as nas_bo noted it, else from begin to end.
        arch_id, label: as nas_bo noted them, or "".
        owner, since: who evaluates it, and since when, where that was noted.
        started, finished: the moments that its host kept.
        reported: step -> intermediate value.
        attributes: the user's own.
        whole: whether all that belongs to it is there.
        rest: the file of what its info has left out (`nas_bo.large_info`).
        place: where it was evaluated, or is, as far as that was noted: on a cluster.
    """

    number: int
    state: State | None = State.COMPLETE
    ended: str = "complete"
    params: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    violations: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    info: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0
    arch_id: str = ""
    label: str = ""
    owner: str = ""
    since: datetime | None = None
    started: datetime | None = None
    finished: datetime | None = None
    reported: Mapping[int, float] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    further: Further | None = None
    whole: bool = True
    rest: Path | None = None
    place: Place | None = None

    def trial(self, arch: Architecture) -> Trial:
        """The trial, of which the host's parameters mean `arch`."""
        state = State.RUNNING if self.state is None else self.state
        return Trial(
            arch, self.values, self.violations, state, self.reason, self.info, self.number, self.seconds, self.place
        )

    def within(self, space: type[Space]) -> Trial | None:
        """The trial; None where its parameters are not an architecture of `space`."""
        try:
            return self.trial(architecture_of(space, self.params))
        except SpaceError:
            return None

    def of(self, space: type[Space] | None) -> Trial:
        """The trial; where its parameters are not an architecture of `space`, they are taken for one as they are."""
        found = None if space is None else self.within(space)
        return self.trial(plain_architecture(self.params)) if found is None else found


def architecture_of(space: type[Space], params: Mapping[str, object]) -> Architecture:
    """The architecture of a trial's `params`; the user's own parameters among them are skipped.

    Raises:
        SpaceError: a value is missing or outside its domain.
    """
    names = _names(space)
    ours = tuple((name, value) for name, value in params.items() if name in names)
    return _architecture(space, ours)


@lru_cache(maxsize=64)
def _names(space: type[Space]) -> frozenset[str]:
    return frozenset(space.domains())


@lru_cache(maxsize=20_000)
def _architecture(space: type[Space], params: tuple[tuple[str, object], ...]) -> Architecture:
    return space.architecture(dict(params), strict=False)


def plain_architecture(params: Mapping[str, object]) -> Architecture:
    """Parameters of whatever study, as they are, taken for an architecture."""
    named = {printable(k): v for k, v in params.items()}
    flat = {k: v if isinstance(v, (int, float, bool)) or v is None else printable(v) for k, v in named.items()}
    return Architecture(Node(flat), flat)


def understood(
    one: TrialRecord, attributes: Mapping[str, Any], columns: Iterable[ObjectiveSpec], host_reason: str = ""
) -> TrialRecord:
    """`one`, as its host has it, with what nas_bo noted in its attributes: the rule of all hosts for what counts.

    * What nas_bo noted of a constraint last counts before what the host has: of a trial that was evaluated twice (its process
      died in between) a host may have kept the first.
    * A trial whose values are not all finite has failed, whatever its host calls it.
    * What ended early was stopped, if nas_bo noted that and nothing is violated; else it is infeasible.
    * To the values of a trial that did not complete belong those that nas_bo noted.
    """
    noted = from_attributes(attributes)
    values = one.values if one.ended == "complete" else {**(noted.get("values") or {}), **one.values}
    violations = {**one.violations, **(noted.get("violations") or {})}
    strange = not_finite(one.values) if one.ended == "complete" else ""
    state = one.state
    if strange:
        state = State.FAILED
    elif (
        one.ended == "pruned"
        and noted.get("state") == State.STOPPED.value
        and not any(v > 0 for v in violations.values())
    ):
        state = State.STOPPED
    found, info = answering(values, columns), noted.get("info") or {}
    began, ended = one.started, one.finished
    seconds = noted.get("seconds") or ((ended - began).total_seconds() if began and ended else 0.0)
    return TrialRecord(
        one.number, state, one.ended, one.params, found, violations,
        lines(noted.get("reason") or str(attributes.get(REASON, "")) or one.reason or strange or host_reason),
        Told(info) if isinstance(found, Values) else info, float(seconds), noted.get("id", ""), printable(attributes.get(LABEL, "")),
        str(attributes.get(OWNER, "")), one.since, began, ended, one.reported,
        {k: v for k, v in attributes.items() if not str(k).startswith(PREFIX)}, one.further, one.whole,
        place=Place.of(noted.get("place") if one.ended else attributes.get(PLACE)),
    )  # fmt: skip


# ---- studies -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StudyRecord:
    """What a host stores of a study.

    Attributes:
        key: 12 digits that tell it from another study of the same name; equal in every process that has it open. "" while
            nothing in it says when it began.
        columns: the objectives, in the order of its values.
        about: what `search` says about itself; {} of a study that nas_bo did not make.
        sampler: what proposes, in a word.
        trials: all of them, by number; a record may be the head of a study only, without trials.
        asked_baselines: label -> architecture id of what a search is compared with, evaluated or not.
        baselines: what was evaluated of it: ``{"label", "id", "flat", "values", "info", ...}``.
        factor: the multiple of the budget at which the front was re-trained; None where it was not.
        retrained: architecture id -> ``{"values", "reason", "info", "factor"}`` at that multiple.
        remeasured: see `REMEASURED`.
        validated: the last trust report of `validate`, as data.
        evaluations: what `validate` evaluated, by its own keys.
        attributes: the user's own.
        compared: ``{"why": ...}``, why a search had no standard design to be compared with; {} where it had one, or none was asked for.
        rounded: parameters whose whole numbers are too large for the host to keep every digit.
    """

    name: str
    key: str
    columns: Sequence[ObjectiveSpec]
    about: Mapping[str, Any] = field(default_factory=dict)
    sampler: str = ""
    trials: Sequence[TrialRecord] = ()
    asked_baselines: Mapping[str, str] = field(default_factory=dict)
    baselines: Sequence[Mapping[str, Any]] = ()
    factor: float | None = None
    retrained: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    remeasured: Mapping[str, Any] = field(default_factory=dict)
    validated: Mapping[str, object] | None = None
    evaluations: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    rounded: Sequence[str] = ()
    compared: Mapping[str, object] = field(default_factory=dict)

    @property
    def space(self) -> type[Space] | None:
        """What was searched, its rules replaced by ones that allow everything: they are code, and what is stored has passed
        them. None where that is not known, or not to be read by this version."""
        return space_of(self.about)

    @property
    def proxies(self) -> list[ObjectiveSpec]:
        return [_column(c) for c in self.about.get("proxies", ())]

    @property
    def conditions(self) -> Mapping[str, Mapping[str, Any]]:
        """Objective -> the conditions under which its values were obtained."""
        found: Mapping[str, Mapping[str, object]] = self.about.get("conditions") or {}
        return found

    @property
    def ended(self) -> list[TrialRecord]:
        return [t for t in self.trials if t.ended]

    def counts(self) -> dict[str, int]:
        """How many trials are in which state, each counted as in a report; "pruned" are infeasible and stopped ones."""
        states = [t.state for t in self.trials]
        return {
            "finished": states.count(State.COMPLETE),
            "pruned": states.count(State.INFEASIBLE) + states.count(State.STOPPED),
            "failed": states.count(State.FAILED),
            "running": states.count(State.RUNNING),
            "waiting": states.count(None),
        }


def stored(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `StudyRecord` that are in the attributes of a study."""

    def kept(key: str) -> Any:
        return read_attributes(attributes, PREFIX + key)

    def under(key: str) -> dict[str, object]:
        starts = PREFIX + key
        names = (name for name in attributes if name.startswith(starts) and not _is_part(attributes, name))
        found = ((name.removeprefix(starts), read_attributes(attributes, name)) for name in names)
        return {name: data for name, data in found if data is not None}

    about, factor, last = kept(STUDY), kept(RETRAINED), kept(REMEASURED)
    asked = kept(BASELINES)
    asked = {k: v for k, v in asked.items() if isinstance(v, str)} if isinstance(asked, dict) else {}
    factor = factor if stored_data.is_number(factor) else None
    compared = ((label, stored_data.evaluated(kept(baseline(arch_id)))) for label, arch_id in asked.items())
    again = {k: stored_data.evaluated(v) for k, v in under(retrained(factor)).items()} if factor else {}
    return {
        "about": stored_data.about(about),
        "asked_baselines": asked,
        "baselines": tuple({**one, "label": label} for label, one in compared if one is not None),
        "factor": factor,
        "retrained": {k: v for k, v in again.items() if v is not None},
        "remeasured": stored_data.remeasured(last),
        "validated": kept(VALIDATED),
        **({"compared": told} if isinstance(told := kept(COMPARED), dict) else {}),
        "evaluations": under(evaluation()),
        "attributes": {k: v for k, v in attributes.items() if not k.startswith(PREFIX)},
    }  # fmt: skip


def _is_part(attributes: Mapping[str, object], name: str) -> bool:
    """Whether `write_attributes` made it for the second or a later part of a text."""
    base, _, number = name.rpartition(".")
    return number.isdigit() and base in attributes


def columns_of(about: Mapping[str, Any]) -> list[ObjectiveSpec]:
    """The objectives as `StudyRecord.about` has them; [] of a study that nas_bo did not make."""
    return [_column(c) for c in about.get("columns") or ()]


def _column(data: Mapping[str, Any]) -> ObjectiveSpec:
    return ObjectiveSpec(**{k: v for k, v in data.items() if k in ObjectiveSpec.__dataclass_fields__})


def key_of(name: str, about: Mapping[str, object], starts: Iterable[datetime]) -> str:
    """`StudyRecord.key`, from the name and the moment at which the study began: as nas_bo noted it, else when its first trial
    did."""
    began = about.get("started")
    if not began:
        first = min(starts, default=None)
        if first is None:
            return ""
        began = first.replace(microsecond=0).isoformat()  # some storages keep whole seconds only
    return hashlib.sha256(f"{name}\n{began}".encode()).hexdigest()[:12]


def space_of(about: Mapping[str, object]) -> type[Space] | None:
    """See `StudyRecord.space`."""
    return _space(json.dumps(about["space"])) if about.get("space") else None


class Unchecked(dict[str, Callable[[Architecture], object]]):
    """Rules by name that allow everything."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> Callable[[Architecture], object]:
        return lambda arch: True


@lru_cache(maxsize=32)
def _space(text: str) -> type[Space] | None:
    from nas_bo.space import Space

    try:
        found: type[Space] = Space.from_dict(json.loads(text), Unchecked())
        return found
    except (NasBoError, TypeError, AttributeError, KeyError):
        return None


# ---- hosts -------------------------------------------------------------------------------------------------------


class Source(Protocol):
    """A study of some host, read when asked."""

    def head(self) -> StudyRecord:
        """The record without its trials."""

    def ended(self, without: Collection[int] = ()) -> list[TrialRecord]:
        """The trials that have ended, by number, but for those numbers."""

    def trial(self, given: object) -> TrialRecord | None:
        """A trial, given by its number or as the host has it; None where it has not ended."""

    def running(self) -> int:
        """How many trials have begun and not ended."""

    def follow(self, look: Callable[[], None], every: float) -> AbstractContextManager[None]:
        """Call `look` after whatever may end a trial, for as long as this lasts.

        Raises:
            HostError: the host calls whoever wants to know by itself.
        """


READERS = {"optuna": "nas_bo.optuna.reading", "ax": "nas_bo.ax.reading"}  # package of a host -> its `source`


def source(study: object) -> Source:
    """The source that `study` is: an Optuna study, an Ax client, or an Ax experiment.

    Raises:
        HostError: it is none of them.
    """
    for kind in type(study).__mro__:
        if (reader := READERS.get(kind.__module__.partition(".")[0])) is not None:
            found: Source = import_module(reader).source(study)
            return found
    raise no_study(study)


def no_study(given: object) -> HostError:
    return HostError(f"{type(given).__name__} is not a study: give an Optuna study, an Ax client or an Ax experiment")
