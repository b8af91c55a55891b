"""Databases of Optuna with few statements and transactions for a trial, and none that takes longer as the study grows.

Optuna's own storage needs some eighty statements for a trial of sixteen parameters, each by an object-relational mapper, and three of
them read the index of the whole study. Here a trial is some twenty. Tables and what is in them are the same, and both may be used on one
study at once. Of SQLite and PostgreSQL; other databases get Optuna's own statements.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

import sqlalchemy as sql
from optuna import distributions
from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from nas_bo import database_url
from nas_bo.errors import HostError
from nas_bo.optuna.changes import Changes, write_each


def _table(model: type[models.BaseModel]) -> sql.Table:
    found = model.__table__
    assert isinstance(found, sql.Table)
    return found


TRIALS = _table(models.TrialModel)
PARAMS = _table(models.TrialParamModel)
VALUES = _table(models.TrialValueModel)
REPORTED = _table(models.TrialIntermediateValueModel)
USER = _table(models.TrialUserAttributeModel)
SYSTEM = _table(models.TrialSystemAttributeModel)
AT_ONCE = 500  # trials read by one statement: databases bound the number of their arguments
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
NUMBERS = {"INF_POS": float("inf"), "INF_NEG": float("-inf"), "NAN": float("nan")}
Inserted = sqlite.Insert | postgresql.Insert
Column = sql.ColumnElement[object] | sql.ColumnElement[None] | sql.Column[object]
Row = tuple[int, int, str, float | None, str | None]  # which table, id of the row, key, number, text


class Head(NamedTuple):
    """A row of the table of trials; times are in UTC."""

    trial_id: int
    number: int
    state: TrialState
    datetime_start: datetime | None
    datetime_complete: datetime | None


class TogetherSession(Session):
    """A session of SQLAlchemy that can put off commits."""

    held, broken = False, False

    def hold(self) -> None:
        self.held, self.broken = True, False

    def end(self) -> None:
        if self.broken:
            raise StorageInternalError("a part of what was to be written together was refused")
        self.held = False
        super().commit()
        super().close()

    def give_up(self) -> None:
        self.held = False
        super().rollback()
        super().close()

    def commit(self) -> None:
        if self.held:
            self.flush()
        else:
            super().commit()

    def rollback(self) -> None:
        self.broken = True  # with it goes what was written before
        super().rollback()

    def close(self) -> None:
        if not self.held:
            super().close()


class Database(RDBStorage):
    """See the module. Its writes can be one transaction: a commit waits for the disk, so that dozens of them for a trial are what a
    search in a file waits for."""

    def __init__(
        self, url: str, engine_kwargs: dict[str, object] | None = None, skip_table_creation: bool = False
    ) -> None:
        super().__init__(url, engine_kwargs, skip_table_creation=skip_table_creation)
        if not skip_table_creation:
            self._complete()
        if self.engine.name != "sqlite":  # two connections were needed at once, and one is from now on
            self.engine.dispose()
        self._ready()

    def __setstate__(self, state: dict[object, object]) -> None:
        super().__setstate__(state)
        self._ready()

    def _complete(self) -> None:
        """Makes the indices that a process left out which was killed between a table and its indices: SQLite and MySQL commit each of
        these statements by itself, and SQLAlchemy makes an index with its table only. Without that of the names of studies, every
        search that continues one would make another one of the same name."""
        try:
            for table in models.BaseModel.metadata.sorted_tables:
                for index in table.indexes:
                    index.create(self.engine, checkfirst=True)
        except sql.exc.IntegrityError as error:
            name, of = models.StudyModel.study_name, models.StudyModel.study_id
            again = sql.select(name, sql.func.max(of)).group_by(name).having(sql.func.count() > 1)
            with self.engine.connect() as connection:
                row = connection.execute(again).first()
            if row is None:  # not that, or another process has renamed it
                raise
            raise HostError(
                f"two studies are called {row[0]!r} in {database_url.shown(self.url)!r}, whose tables were left half-made by a process "
                f"that was killed; rename one: UPDATE studies SET study_name = 'another name' WHERE study_id = {row[1]}"
            ) from error

    def _ready(self) -> None:
        self.scoped_session = scoped_session(sessionmaker(bind=self.engine, class_=TogetherSession))
        self._few = self.engine.name in ("sqlite", "postgresql")
        self._known: dict[tuple[int, str], BaseDistribution] = {}  # of parameters, by study and name

    def __getstate__(self) -> dict[object, object]:
        state = super().__getstate__()
        return {key: value for key, value in state.items() if key != "_known"}

    @contextmanager
    def together(self) -> Iterator[None]:
        """See `nas_bo.optuna.patient.Together`."""
        session = self.scoped_session()
        assert isinstance(session, TogetherSession)
        session.hold()
        try:
            yield
            session.end()
        except BaseException:
            session.give_up()
            raise

    # ---- reading ----------------------------------------------------------------------------------------------------

    def get_trial(self, trial_id: int) -> FrozenTrial:
        if not self._few:
            return super().get_trial(trial_id)
        with _create_scoped_session(self.scoped_session) as session:
            found = _read(session, [trial_id])
        if not found:
            raise KeyError(models.NOT_FOUND_MSG)
        return found[0]

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        if not self._few or states is not None:
            return super()._get_trials(study_id, states, included_trial_ids, trial_id_greater_than)
        with _create_scoped_session(self.scoped_session) as session:
            # two statements: of one, joined by "or", the database reads the index of the whole study
            new = session.execute(NEW, {"study": study_id, "above": trial_id_greater_than}).scalars().all()
            if not new and session.execute(STUDY, {"study": study_id}).first() is None:
                raise KeyError(models.NOT_FOUND_MSG)
            older = [i for i in included_trial_ids if i <= trial_id_greater_than]
            return _read(session, sorted({*older, *new}))

    # ---- writing ----------------------------------------------------------------------------------------------------

    def _get_prepared_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None, session: Session
    ) -> models.TrialModel:
        if not self._few:
            return super()._get_prepared_new_trial(study_id, template_trial, session)
        state, begun, ended = TrialState.RUNNING, datetime.now(), None
        if template_trial is not None:
            state, ended = template_trial.state, template_trial.datetime_complete
            begun = template_trial.datetime_start  # type: ignore[assignment]
        made = models.TrialModel(study_id=study_id, state=state, datetime_start=begun, datetime_complete=ended)
        row = {"study_id": study_id, "state": state, "datetime_start": _utc(begun), "datetime_complete": _utc(ended)}
        (made.trial_id,) = session.execute(TRIALS.insert(), row).inserted_primary_key  # type: ignore[attr-defined]
        before = session.execute(BEFORE, {"study": study_id, "trial": made.trial_id}).first()
        number = 0 if before is None else before[0]
        made.number = made.count_past_trials(session) if number is None else number + (before is not None)
        session.execute(NUMBER, {"trial": made.trial_id, "to": made.number})
        if template_trial is not None:
            values = template_trial.values or ()
            if values:
                session.execute(VALUES.insert(), [_value(made.trial_id, i, v) for i, v in enumerate(values)])
            given = template_trial.distributions
            params = {n: (given[n].to_internal_repr(v), given[n]) for n, v in template_trial.params.items()}
            told = template_trial.user_attrs, template_trial.system_attrs, template_trial.intermediate_values
            refused = self._write(session, study_id, made.trial_id, Changes(params, *told))
            if refused is not None:
                raise refused
        return made

    def write_changes(self, trial_id: int, changes: Changes) -> None:
        """See `nas_bo.optuna.changes.WritesChanges`."""
        if not self._few:
            with self._at_once():
                write_each(self, trial_id, changes)
            return
        with _create_scoped_session(self.scoped_session) as session:
            found = session.execute(STATE, {"trial": trial_id}).first()
            if found is None:
                raise KeyError(models.NOT_FOUND_MSG)
            self.check_trial_is_updatable(trial_id, found.state)
            refused = self._write(session, found.study_id, trial_id, changes)
        if refused is not None:  # raised within the session it would undo what is written together with this
            raise refused

    def _set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None,
    ) -> None:
        if not self._few:
            super()._set_trial_param(trial_id, param_name, param_value_internal, distribution, previous_distribution)
            return
        if previous_distribution is not None:
            distributions.check_distribution_compatibility(previous_distribution, distribution)
        self.write_changes(trial_id, Changes(params={param_name: (param_value_internal, distribution)}))

    def set_trial_user_attr(self, trial_id: int, key: str, value: object) -> None:
        if self._few:
            self.write_changes(trial_id, Changes(user_attrs={key: value}))
        else:
            super().set_trial_user_attr(trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: object) -> None:
        if self._few:
            self.write_changes(trial_id, Changes(system_attrs={key: value}))
        else:
            super().set_trial_system_attr(trial_id, key, value)  # type: ignore[arg-type]

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        if not self._few:
            return super().set_trial_state_values(trial_id, state, values)
        with _create_scoped_session(self.scoped_session) as session:
            found = session.execute(STATE_LOCKED, {"trial": trial_id}).first()
            if found is None:
                raise KeyError(models.NOT_FOUND_MSG)
            self.check_trial_is_updatable(trial_id, found.state)
            if state is TrialState.RUNNING and found.state is not TrialState.WAITING:
                return False
            change = {"trial": trial_id, "from": found.state, "to": state, "now": _utc(datetime.now())}
            statement = END if state.is_finished() else BEGIN if state is TrialState.RUNNING else CHANGE
            if not session.execute(statement, change).rowcount:  # type: ignore[attr-defined]
                now = session.execute(STATE, {"trial": trial_id}).one()  # somebody was faster
                self.check_trial_is_updatable(trial_id, now.state)
                return False
            if values:
                self._upsert(session, VALUES, "objective", [_value(trial_id, i, v) for i, v in enumerate(values)])
        return True

    def _write(self, session: Session, study_id: int, trial_id: int, changes: Changes) -> ValueError | None:
        """Everything, or nothing where a parameter is not that of earlier trials."""
        for name, (_, distribution) in changes.params.items():
            known = self._distribution(session, study_id, name)
            if known is not None and known is not distribution:
                try:
                    distributions.check_distribution_compatibility(known, distribution)
                except ValueError as error:
                    return error
        params = [
            {
                "trial_id": trial_id,
                "param_name": name,
                "param_value": internal,
                "distribution_json": _text(distribution),
            }
            for name, (internal, distribution) in changes.params.items()
        ]
        if params:
            session.execute(_add(self.engine.name), params)
            self._known.update({(study_id, name): d for name, (_, d) in changes.params.items()})
        for table, told in ((USER, changes.user_attrs), (SYSTEM, changes.system_attrs)):
            self._upsert(session, table, "key", [_attribute(trial_id, key, value) for key, value in told.items()])
        steps = [_reported(trial_id, step, value) for step, value in changes.intermediate.items()]
        self._upsert(session, REPORTED, "step", steps)
        return None

    def _distribution(self, session: Session, study_id: int, name: str) -> BaseDistribution | None:
        """That of a parameter in earlier trials of the study."""
        if (study_id, name) not in self._known:
            found = session.execute(EARLIER, {"study": study_id, "name": name}).scalar()
            if found is None:
                return None
            self._known[study_id, name] = _distribution(found)
        return self._known[study_id, name]

    def _upsert(self, session: Session, table: sql.Table, key: str, rows: Sequence[Mapping[str, object]]) -> None:
        if rows:
            session.execute(_upsert(self.engine.name, table, key, tuple(rows[0])), list(rows))

    @contextmanager
    def _at_once(self) -> Iterator[None]:
        session = self.scoped_session()
        if isinstance(session, TogetherSession) and session.held:
            yield
            return
        with self.together():
            yield


class CachedDatabase(_CachedStorage):
    """Optuna's memory of a database's trials, from which all of them, and those that run, are given in the order of their numbers without
    sorting them again."""

    def __init__(self, backend: Database) -> None:
        super().__init__(backend)
        self._ordered: dict[int, list[FrozenTrial]] = {}  # by study: the trial of number n at place n
        self._database = backend

    @contextmanager
    def together(self) -> Iterator[None]:
        """See `nas_bo.optuna.patient.Together`."""
        try:
            with self._database.together():
                yield
        except BaseException:  # what was remembered of it is not there
            with self._lock:
                for memory in (self._studies, self._ordered, self._trial_id_to_study_id_and_number):
                    memory.clear()
                self._study_id_and_number_to_trial_id.clear()
                self._database._known.clear()
            raise

    def write_changes(self, trial_id: int, changes: Changes) -> None:
        """See `nas_bo.optuna.changes.WritesChanges`."""
        self._database.write_changes(trial_id, changes)

    def delete_study(self, study_id: int) -> None:
        self._ordered.pop(study_id, None)
        super().delete_study(study_id)

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        self._database.set_trial_param(trial_id, param_name, param_value_internal, distribution)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        self._read_trials_from_remote_storage(study_id)
        with self._lock:
            study, ordered = self._studies[study_id], self._ordered.setdefault(study_id, [])
            whole = len(ordered) == len(study.trials)
            if whole and not deepcopy and states is None:
                return list(ordered)
            if whole and not deepcopy and states is not None and not any(state in states for state in ENDED):
                places = self._trial_id_to_study_id_and_number
                found = (study.trials[places[i][1]] for i in study.unfinished_trial_ids)
                return sorted((t for t in found if t.state in states), key=lambda t: t.number)
        return super().get_all_trials(study_id, deepcopy, states)

    def _add_trials_to_cache(self, study_id: int, trials: list[FrozenTrial]) -> None:
        super()._add_trials_to_cache(study_id, trials)
        ordered = self._ordered.setdefault(study_id, [])
        for trial in trials:
            if trial.number < len(ordered):
                ordered[trial.number] = trial
            elif trial.number == len(ordered):
                ordered.append(trial)
        if len(ordered) < (known := len(self._studies[study_id].trials)):  # one was read before those in front of it
            study = self._studies[study_id]
            while len(ordered) < known and len(ordered) in study.trials:
                ordered.append(study.trials[len(ordered)])


# ---- statements, made once ------------------------------------------------------------------------------------------

STUDY = sql.select(models.StudyModel.__table__.c.study_id).where(
    models.StudyModel.__table__.c.study_id == sql.bindparam("study")
)
NEW = (
    sql.select(TRIALS.c.trial_id)
    .where(TRIALS.c.study_id == sql.bindparam("study"), TRIALS.c.trial_id > sql.bindparam("above"))
    .order_by(TRIALS.c.trial_id)
)
BEFORE = (
    sql.select(TRIALS.c.number)
    .where(TRIALS.c.study_id == sql.bindparam("study"), TRIALS.c.trial_id < sql.bindparam("trial"))
    .order_by(TRIALS.c.trial_id.desc())
    .limit(1)
)
NUMBER = TRIALS.update().where(TRIALS.c.trial_id == sql.bindparam("trial")).values(number=sql.bindparam("to"))
STATE = sql.select(TRIALS.c.study_id, TRIALS.c.state).where(TRIALS.c.trial_id == sql.bindparam("trial"))
STATE_LOCKED = STATE.with_for_update()
CHANGE = (
    TRIALS.update()
    .where(TRIALS.c.trial_id == sql.bindparam("trial"), TRIALS.c.state == sql.bindparam("from"))
    .values(state=sql.bindparam("to"))
)
BEGIN = CHANGE.values(datetime_start=sql.bindparam("now"))
END = CHANGE.values(datetime_complete=sql.bindparam("now"))
EARLIER = (
    sql.select(PARAMS.c.distribution_json)
    .join(TRIALS, TRIALS.c.trial_id == PARAMS.c.trial_id)
    .where(TRIALS.c.study_id == sql.bindparam("study"), PARAMS.c.param_name == sql.bindparam("name"))
    .limit(1)
)
HEADS = (
    sql.select(TRIALS.c.trial_id, TRIALS.c.number, TRIALS.c.state, TRIALS.c.datetime_start, TRIALS.c.datetime_complete)
    .where(TRIALS.c.trial_id.in_(sql.bindparam("ids", expanding=True)))
    .order_by(TRIALS.c.trial_id)
)


@lru_cache
def _add(dialect: str) -> Inserted:
    return _insert(dialect, PARAMS).on_conflict_do_nothing()


@lru_cache
def _upsert(dialect: str, table: sql.Table, key: str, names: tuple[str, ...]) -> Inserted:
    made = _insert(dialect, table)
    replaced = {name: made.excluded[name] for name in names if name not in ("trial_id", key)}
    return made.on_conflict_do_update(index_elements=["trial_id", key], set_=replaced)


def _insert(dialect: str, table: sql.Table) -> Inserted:
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


def _part(
    kind: int, table: sql.Table, row: str, key: Column, number: Column, text: Column
) -> sql.Select[int, int, int, str, float, str]:
    of = table.c.trial_id.in_(sql.bindparam("ids", expanding=True))
    words = [sql.cast(what, sql.Text) for what in (key, text)]
    return sql.select(
        sql.literal_column(str(kind)).label("kind"), table.c.trial_id, table.c[row].label("row"), words[0].label("key"),
        sql.cast(number, sql.Float(53)).label("number"), words[1].label("text"),
    ).where(of)  # fmt: skip


PARTS = sql.union_all(
    _part(0, PARAMS, "param_id", PARAMS.c.param_name, PARAMS.c.param_value, PARAMS.c.distribution_json),
    _part(1, USER, "trial_user_attribute_id", USER.c.key, sql.null(), USER.c.value_json),
    _part(2, SYSTEM, "trial_system_attribute_id", SYSTEM.c.key, sql.null(), SYSTEM.c.value_json),
    _part(3, VALUES, "trial_value_id", VALUES.c.objective, VALUES.c.value, VALUES.c.value_type),
    _part(
        4, REPORTED, "trial_intermediate_value_id", REPORTED.c.step, REPORTED.c.intermediate_value,
        REPORTED.c.intermediate_value_type,
    ),
)  # fmt: skip


# ---- rows -----------------------------------------------------------------------------------------------------------


def _read(session: Session, ids: Sequence[int]) -> list[FrozenTrial]:
    """The trials of these ids, in the order of the ids."""
    found: list[FrozenTrial] = []
    for first in range(0, len(ids), AT_ONCE):
        some = list(ids[first : first + AT_ONCE])
        heads = [Head(*row) for row in session.execute(HEADS, {"ids": some})]
        parts: dict[int, list[Row]] = {head.trial_id: [] for head in heads}
        for kind, trial_id, row, key, number, text in session.execute(PARTS, {"ids": some}):
            if trial_id in parts:
                parts[trial_id].append((kind, row, key, number, text))
        found += [_trial(head, sorted(parts[head.trial_id], key=_place)) for head in heads]
    return found


def _place(row: Row) -> tuple[int, int | str]:
    """Parameters in the order in which they were written, attributes in that of their keys, as SQLite gives them to Optuna."""
    return row[0], row[2] if row[0] in (1, 2) else row[1]


def _trial(head: Head, rows: Sequence[Row]) -> FrozenTrial:
    params: dict[str, object] = {}
    dists: dict[str, BaseDistribution] = {}
    attrs: tuple[dict[str, object], dict[str, object]] = ({}, {})
    values: dict[int, float] = {}
    reported: dict[int, float] = {}
    for kind, _, key, number, text in rows:
        if kind == 0:
            dists[key] = dist = _distribution(text or "")
            params[key] = dist.to_external_repr(number if number is not None else float("nan"))
        elif kind in (1, 2):
            attrs[kind - 1][key] = json.loads(text or "null")
        else:
            (values if kind == 3 else reported)[int(key)] = NUMBERS.get(text or "", number)  # type: ignore[assignment]
    return FrozenTrial(
        number=head.number, state=head.state, value=None,
        values=[values[i] for i in range(len(values))] if values else None,
        datetime_start=_local(head.datetime_start), datetime_complete=_local(head.datetime_complete), params=params,
        distributions=dists, user_attrs=attrs[0], system_attrs=attrs[1], intermediate_values=reported,
        trial_id=head.trial_id,
    )  # fmt: skip


@lru_cache(maxsize=4096)
def _distribution(text: str) -> BaseDistribution:
    return distributions.json_to_distribution(text)


_texts = threading.local()


def _text(distribution: BaseDistribution) -> str:
    """As JSON, of the same objects once: a space has the same ones for every trial."""
    known: dict[int, tuple[BaseDistribution, str]] = vars(_texts).setdefault("known", {})
    found = known.get(id(distribution))
    if found is None:
        if len(known) > 4096:
            known.clear()
        found = known[id(distribution)] = distribution, distributions.distribution_to_json(distribution)
    return found[1]


def _attribute(trial_id: int, key: str, value: object) -> dict[str, object]:
    return {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}


def _value(trial_id: int, objective: int, value: float) -> dict[str, object]:
    kept, kind = models.TrialValueModel.value_to_stored_repr(value)
    return {"trial_id": trial_id, "objective": objective, "value": kept, "value_type": kind}


def _reported(trial_id: int, step: int, value: float) -> dict[str, object]:
    kept, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
    return {"trial_id": trial_id, "step": step, "intermediate_value": kept, "intermediate_value_type": kind}


def _utc(local: datetime | None) -> datetime | None:
    """As the tables have it: UTC, without saying so."""
    return None if local is None else local.astimezone(UTC).replace(tzinfo=None)


def _local(utc: datetime | None) -> datetime | None:
    return None if utc is None else utc.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
