"""What a validation keeps: every finished evaluation at once, in a file of JSON lines or in the study of a search."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, Protocol

from nas_bo import process
from nas_bo.architecture import Architecture
from nas_bo.errors import SearchError, StorageUnavailable
from nas_bo.execution.executor import Executor, Isolating, Keeping
from nas_bo.execution.outcome_spool import Names
from nas_bo.objective import Conditioned, Objective
from nas_bo.objectives.validation_loss import WHOLE
from nas_bo.optuna import studies
from nas_bo.optuna.reading import Study
from nas_bo.patience import Exhausted, Patience, duration
from nas_bo.problem import Problem
from nas_bo.report import TrustReport
from nas_bo.space import Space
from nas_bo.spelling import BEFORE, NAME, spelled
from nas_bo.study import EVALUATING, IDENTITY, VALIDATED, StudyRecord, evaluation, plain
from nas_bo.trial import ObjectiveSpec, State, Trial

_log = logging.getLogger(__name__)
OLDER = re.compile(rf"^{NAME}(?=$|[@ ])")
OLDER_FIELD = re.compile(rf"(?<=[( ]name='){NAME}(?=['@ ])")


class Records(Protocol):
    """JSON-safe data under keys; what `put` has returned from outlives a kill."""

    def get(self, key: str) -> Any: ...

    def put(self, key: str, data: object) -> None: ...


class InMemory:
    def __init__(self) -> None:
        self._known: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        return self._known.get(key)

    def put(self, key: str, data: object) -> None:
        self._known[key] = json.loads(json.dumps(data, default=plain))


class Lines:
    """A file with one JSON object a line; the last line that a killed process left half written is skipped.

    Raises:
        SearchError: the file cannot be read or written, or is another kind of file.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._patience = Patience(f"the file of evaluations {str(path)!r}")
        self._known: dict[str, Any] = {}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "a+b") as file:
                file.seek(0)
                text = file.read()
                if text and not text.endswith(b"\n"):
                    file.write(b"\n")
        except OSError as error:
            raise SearchError(
                f"the evaluations cannot be kept in {str(path)!r} ({error.strerror}); give another file"
            ) from error
        lines = text.split(b"\n")
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line) if line.strip() else {}
                self._known.update({row["key"]: row["data"]} if row else {})
            except (ValueError, TypeError, KeyError):
                if number < len(lines) and not line.startswith(b'{"key":'):
                    raise SearchError(
                        f"{str(path)!r} is not a file of kept evaluations (line {number} is {line[:60]!r}); give another file"
                    ) from None

    def get(self, key: str) -> Any:
        return self._known.get(key)

    def put(self, key: str, data: object) -> None:
        line = json.dumps({"key": key, "data": data}, default=plain)
        try:
            self._patience.call(lambda: self._append(line.encode() + b"\n"), lambda error: isinstance(error, OSError))
        except Exhausted as failed:
            raise StorageUnavailable(
                f"{self._patience.what} could not be written for {duration(self._patience.seconds)} ({failed.__cause__}). What it holds is "
                "kept; when it can be written again, the same call continues"
            ) from failed
        self._known[key] = json.loads(line)["data"]

    def _append(self, line: bytes) -> None:
        with open(self._path, "ab") as file:
            end = file.tell()
            try:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                with suppress(OSError):  # or the next line would begin within this one
                    file.truncate(end)
                raise


class InStudy:
    """In the attributes of an Optuna study, next to the search that it is of."""

    def __init__(self, study: Study, record: StudyRecord) -> None:
        self._study, self._known = study, dict(record.evaluations)

    def get(self, key: str) -> Any:
        return self._known.get(key)

    def put(self, key: str, data: object) -> None:
        studies.keep(self._study, evaluation(key), data)
        self._known[key] = json.loads(json.dumps(data, default=plain))


class OfStudy:
    """One of the notes of a study, as a record that is replaced."""

    def __init__(self, study: Study) -> None:
        self._study = study

    def get(self, key: str) -> Any:
        return studies.kept(self._study, key)

    def put(self, key: str, data: object) -> None:
        studies.keep(self._study, key, data)


class Watch:
    """Notes which evaluation this process is about to make, where that may end the process: so whoever continues knows which one did,
    and makes it in a process of its own.

    Args:
        keys: of the evaluations, in the order in which they are submitted.
    """

    def __init__(self, records: Records, executor: Executor, keys: Sequence[str]) -> None:
        self._records, self._deaths = records, dict[str, int]()
        self._needed = isinstance(executor, Isolating)
        before = records.get(EVALUATING) if isinstance(executor, Isolating) else None
        if isinstance(before, dict) and before.get("id") in keys and process.is_dead(str(before.get("by"))):
            key = str(before["id"])
            self._deaths[key] = int(before.get("deaths", 0)) + 1
            _log.warning(
                "the process that evaluated %s died; it is evaluated in a process of its own, and fails when that dies too",
                key,
            )
            if isinstance(executor, Isolating):
                for other in keys:  # what has ended one process may end the next, and they are few
                    executor.isolate(other, self._deaths.get(other, 0))

    def begin(self, key: str) -> None:
        """The next one that is taken is this."""
        if self._needed:
            noted = {"id": key, "by": process.owner(), "deaths": self._deaths.get(key, 0)}
            self._records.put(EVALUATING, noted)


def taken(
    records: Records, executor: Executor, jobs: Mapping[str, tuple[Problem, Architecture]], names: Names | None = None
) -> Iterator[tuple[str, Trial]]:
    """Submit all of `jobs`, and give (key, outcome) as they end.

    Args:
        names: with these the workers keep outcomes until the next one is asked for, since the one before is stored then.
    """
    watch = Watch(records, executor, list(jobs))
    kept: dict[str, str] = {}
    for key, (problem, arch) in jobs.items():
        if names is not None and isinstance(executor, Keeping) and (name := names.of("validate", key, problem, arch)):
            kept[key] = name
            executor.keep(key, name)
        executor.submit(key, problem, arch)
    left = list(jobs)
    while left:
        watch.begin(left[0])
        ended, outcome = executor.take()
        left.remove(str(ended))
        yield str(ended), outcome
        if isinstance(executor, Keeping) and (name := kept.pop(str(ended), "")):
            executor.stored(name)


def names(records: Records) -> Names:
    """Under which outcomes are kept near their workers; in memory nobody continues, and nothing is."""
    if isinstance(records, InMemory):
        return Names("")
    if not isinstance(records.get(IDENTITY), str):
        records.put(IDENTITY, uuid.uuid4().hex)
    return Names(records.get(IDENTITY))


def open_records(path: str | Path | None, study: Study | None, record: StudyRecord | None) -> Records:
    if path is not None:
        return Lines(path)
    return InMemory() if study is None or record is None else InStudy(study, record)


def key(objective: Objective) -> str:
    """Equal for objectives that measure the same: the name and a digest of conditions and settings.

    Of an objective that is not a dataclass and has no `conditions` only the name is known.
    """
    # what is kept since 0.1 has the name that the loss had then
    called = OLDER.sub(BEFORE, objective.name)
    told: dict[str, Any] = {"settings": OLDER_FIELD.sub(BEFORE, repr(objective))} if is_dataclass(objective) else {}
    if " at 0x" in told.get("settings", ""):
        told = {}  # the address of a function is another one in every process
    if isinstance(objective, Conditioned):
        told["conditions"] = objective.conditions()
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=plain).encode()).hexdigest()[:12]
    return f"{called}:{digest}"


class Trained:
    """What a search trained already, by the conditions under which it did."""

    def __init__(self, record: StudyRecord | None) -> None:
        self._record = record
        self._trials: dict[str, Trial] | None = None

    def get(self, objective: Objective, arch: Architecture, shares: Collection[float] = ()) -> dict[str, Any] | None:
        """The record of `arch` under the conditions of `objective`, with the rungs at `shares`; else None."""
        if self._record is None or objective.cost != "trained" or not isinstance(objective, Conditioned):
            return None
        now = json.loads(json.dumps(objective.conditions(), default=plain))
        for found in (read(arch) for read in (self._searched, self._retrained)):
            name = _same(objective.name, now, found.conditions)
            if name and found.values.get(name) is not None:
                break
        else:
            return None
        value, info = found.values[name], found.info.get(name, {})
        rungs = Trial(arch, info={name: info}).rungs(name)
        if not set(shares) <= set(rungs):
            return None
        seconds = {what: info.get(what) for what in ("seconds", "cpu_seconds")}
        return {
            "value": value,
            "reason": "",
            "rungs": [list(pair) for pair in rungs.items()],
            **seconds,
            "reused": True,
        }

    def _searched(self, arch: Architecture) -> _Measured:
        assert self._record is not None
        if self._trials is None:
            own = self._record.space
            self._trials = {} if own is None else {t.architecture.id: t for t in history(self._record, own)}
        t = self._trials.get(arch.id)
        return _Measured() if t is None else _Measured(t.values, t.info, self._record.conditions)

    def _retrained(self, arch: Architecture) -> _Measured:
        assert self._record is not None
        kept = self._record.retrained.get(arch.id)
        if kept is None:
            return _Measured()
        under = kept.get("conditions")  # not there in studies of version 0.1
        if under is None:
            factor = self._record.factor or 1.0
            under = {name: _larger(c, factor) for name, c in self._record.conditions.items()}
        return _Measured(kept["values"], kept["info"], under)


@dataclass(frozen=True)
class _Measured:
    """Values of one architecture, and the conditions under which each was measured."""

    values: Mapping[str, float] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)
    conditions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def _same(called: str, now: Mapping[str, object], conditions: Mapping[str, Mapping[str, object]]) -> str:
    """The name of what was measured under the conditions `now`; "" if nothing was."""
    for name, before in conditions.items():
        # what names no corpus is known by its own name only
        if now == before and (name == called or "sha256" in now):
            return name
    return ""


def _larger(before: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """The conditions of a re-training by version 0.1, which did not keep them: those of `ValidationLoss.larger`."""
    if not {"tokens", "seed"} <= set(before):
        return {}
    whole = {k: v for k, v in before.items() if k not in WHOLE}
    return {**whole, "tokens": int(before["tokens"] * factor), "seed": before["seed"] + 1}


def check_made(study: object) -> StudyRecord:
    """What `study` holds (raises SearchError where nas_bo did not make it)."""
    record = studies.read(study) if isinstance(study, Study) else None
    if record is None or not record.about:
        name = repr(study if record is None else record.name)
        raise SearchError(
            f"validate(history={name}): the study {name} was not made by nas_bo, so that nobody knows what it trained; give the study of a "
            "nas_bo search, or its Result, or leave it out"
        )
    return record


def check_study(study: object, space: type[Space], reference: Objective) -> StudyRecord:
    """What `study` holds; raises SearchError when it is not of `space`, or on another corpus than the reference."""
    record = check_made(study)
    about = record.about
    if about["fingerprint"] != space.fingerprint():
        raise SearchError(
            f"the study {record.name!r} is of the space {about['space']['title']!r} with schema {about['fingerprint']}, "
            f"validate() got {space.title!r} with schema {space.fingerprint()}; give the space of the study"
        )
    now = dict(reference.conditions()) if isinstance(reference, Conditioned) else {}
    before = record.conditions.get(spelled(reference.name, record.conditions), {})
    if "sha256" in now and before.get("sha256", now["sha256"]) != now["sha256"]:
        raise SearchError(
            f"the study {record.name!r} trained on {before.get('corpus')!r}, the reference on {now.get('corpus')!r}: their "
            "values do not compare; give the reference the corpus of the study"
        )
    return record


def history(record: StudyRecord | None, space: type[Space]) -> list[Trial]:
    """The complete trials of a study; none without one."""
    complete = [] if record is None else [t for t in record.trials if t.state is State.COMPLETE]
    return [t for one in complete if (t := one.within(space)) is not None]


def trained_column(record: StudyRecord | None) -> ObjectiveSpec | None:
    """The first objective of a study that was trained."""
    return next((c for c in ([] if record is None else record.columns) if c.cost == "trained"), None)


def keep_report(study: Study, report: TrustReport) -> None:
    studies.keep(study, VALIDATED, report.to_dict())
