"""A storage of Optuna that is patient: what fails in the middle is tried again, and several writes are one where they can be.

A disk that is full, a server that restarts and a file that others hold pass; for how long they are waited for says
`nas_bo.patience.Patience`. What is written twice, since the first time had worked without saying so, is there once: a new trial is
recognized by its token, a trial that has ended by its state, everything else is the same when it is written again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial, wraps
from operator import methodcaller
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, runtime_checkable

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas_bo.errors import HostError, NasBoError, StorageUnavailable
from nas_bo.execution.interrupts import whole
from nas_bo.optuna.changes import Changes, write_changes
from nas_bo.patience import PATIENCE_S, Exhausted, Patience, duration
from nas_bo.redaction import redacted
from nas_bo.study import CLAIM

P = ParamSpec("P")
T = TypeVar("T")
AT_ONCE = -1.0  # instead of seconds: nothing is tried again
# damage that does not pass, and what MySQL calls the lack of a right
LASTING = (
    "malformed",
    "not a database",
    "no such column",
    "has no column",
    "Unknown column",
    "command denied",
    "Access denied",
)
LOST_LOCK = "did not possess lock"  # Optuna's journal: somebody took its lock for that of a dead process


@runtime_checkable
class Together(Protocol):
    """A storage that can make one write of several."""

    def together(self) -> AbstractContextManager[None]:
        """What this thread writes within is there as a whole when it ends, or not at all; nobody sees a part of it, or all
        do: then it costs one access to the disk."""


@runtime_checkable
class _OfProxy(Protocol):
    """An error of grpc, whose first line says nothing."""

    def details(self) -> str | None: ...


def storage(backend: Any, shown: str, seconds: float = PATIENCE_S) -> BaseStorage:
    """What Optuna is given instead of `backend` (what `create_study` takes). One in memory stays as it is.

    Args:
        shown: what messages call it.
        seconds: for how long what fails is tried again.
    """
    inner = remembered(backend)
    if isinstance(inner, (InMemoryStorage, PatientStorage)):
        return inner
    combined = inner.together if isinstance(inner, Together) else nullcontext
    return PatientStorage(inner, Patience(f"the storage {shown}", seconds, said), combined)


def remembered(backend: Any) -> BaseStorage:
    """As `optuna.storages.get_storage`, which puts a memory of trials in front of a database; one of nas_bo gets a faster one."""
    if isinstance(backend, RDBStorage):
        from nas_bo.optuna import database  # with SQLAlchemy, which is loaded for databases only

        if isinstance(backend, database.Database):
            return database.CachedDatabase(backend)
    return optuna.storages.get_storage(backend)


def together(study: Study, work: Callable[[], T]) -> T:
    """What `work` gives, which writes into the study more than once: in one write where the storage can, and as a whole again when
    that fails. It must be able to run again after it has ended.

    Raises:
        StorageUnavailable: as every use of the study.
    """
    there = study._storage
    return there.run_together(work) if isinstance(there, PatientStorage) else work()


def hurry(study: Study) -> None:
    """From now on the storage of the study is not tried again when it fails."""
    if isinstance(study._storage, PatientStorage):
        study._storage.patience.hurry()


def passes(error: BaseException) -> bool:
    """Whether an error of a storage may pass by itself."""
    import sqlalchemy.exc as sql

    if isinstance(error, StorageInternalError):
        cause = error.__cause__
        return cause is None or passes(cause)
    if isinstance(
        error, (sql.OperationalError, sql.InterfaceError, sql.InternalError, sql.DisconnectionError, sql.TimeoutError)
    ):
        return not any(text in str(error) for text in LASTING)
    if isinstance(error, sql.DBAPIError):
        return error.connection_invalidated
    if isinstance(error, RuntimeError):
        return LOST_LOCK in str(error)
    grpc = type(error).__module__.partition(".")[0] == "grpc"
    return grpc or isinstance(error, OSError)


def _tried(
    method: Callable[Concatenate[BaseStorage, P], T], *, reads: bool = False
) -> Callable[Concatenate[BaseStorage, P], T]:
    """A method of the storage within a patient one."""

    @wraps(method, updated=())  # its mark of being abstract aside
    def call(self: BaseStorage, /, *args: P.args, **kwargs: P.kwargs) -> T:
        assert isinstance(self, PatientStorage)
        inner, called = self.inner, methodcaller(method.__name__, *args, **kwargs)
        found: T = (self._read if reads else self._write)(lambda: called(inner))
        return found

    return call


class PatientStorage(BaseStorage):
    """See the module.

    Args:
        inner: the storage, as Optuna uses it.
        combined: within it several writes are one.

    Raises:
        StorageUnavailable: of every method, what failed did so for as long as it is waited for.
        HostError: of every method, a database refuses what it is given, or holds what cannot be read.
    """

    def __init__(
        self, inner: BaseStorage, patience: Patience, combined: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self.inner, self.patience, self._combined = inner, patience, combined
        self._writing = (
            threading.RLock()
        )  # one thread at a time: the storages have locks of their own, in another order
        self._together: int | None = None  # the thread that is within `run_together`
        self._repeated = False  # whether what it does there was tried before, and may have worked without saying so

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.inner, self.patience, self._combined)

    def run_together(self, work: Callable[[], T]) -> T:
        """See `together`."""

        def once(repeated: bool) -> T:
            with self._writing:
                if self._together is not None:
                    return work()
                self._together, self._repeated = threading.get_ident(), repeated
                try:
                    with self._combined():
                        return work()
                finally:
                    self._together = None

        return self._call(partial(once, False), partial(once, True))

    def _write(self, work: Callable[[], T], again: Callable[[], T] | None = None) -> T:
        def locked(attempt: Callable[[], T]) -> T:
            with self._writing:
                return attempt()

        return self._call(partial(locked, work), None if again is None else partial(locked, again))

    def _call(self, work: Callable[[], T], again: Callable[[], T] | None = None) -> T:
        if self._together == threading.get_ident():  # the whole is tried again, not a part of it
            return again() if again is not None and self._repeated else work()
        try:
            with whole():  # a database session that is cut in the middle keeps the database locked
                return work() if self.patience.seconds < 0 else self.patience.call(work, passes, again)
        except StorageInternalError as error:
            if self.patience.seconds < 0:
                raise self._damaged(error) from error
            raise HostError(
                f"{self.patience.what} refuses what was to be read or written ({said(error)}), which trying again does not change. What it "
                "holds is kept. "
                + to_do(
                    error,
                    "A database server takes names of up to 512 characters and what its tables were made for; shorten the name, repair the "
                    "database, or give another storage",
                )
            ) from error
        except Exhausted as error:
            cause = error.__cause__ or error
            waited = duration(self.patience.seconds)
            raise StorageUnavailable(
                f"{self.patience.what} failed ({said(cause)}) and was tried again for {waited}, without success. What it holds is "
                "kept; when it can be read and written again, the same call continues, and evaluates again what ended meanwhile"
            ) from cause

    def _read(self, work: Callable[[], T]) -> T:
        try:
            return self._call(work)
        except NasBoError:
            raise
        except (ValueError, TypeError, AttributeError, IndexError, OverflowError, RecursionError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> HostError:
        return HostError(
            f"{self.patience.what} holds something that cannot be read ({said(error)}). It is damaged, or of another version; take a copy "
            "of it from before, or repair it"
        )

    # ---- writing ----------------------------------------------------------------------------------------------------

    create_new_study = _tried(BaseStorage.create_new_study)
    delete_study = _tried(BaseStorage.delete_study)
    set_study_user_attr = _tried(BaseStorage.set_study_user_attr)
    set_study_system_attr = _tried(BaseStorage.set_study_system_attr)
    set_trial_param = _tried(BaseStorage.set_trial_param)
    set_trial_intermediate_value = _tried(BaseStorage.set_trial_intermediate_value)
    set_trial_user_attr = _tried(BaseStorage.set_trial_user_attr)
    set_trial_system_attr = _tried(BaseStorage.set_trial_system_attr)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        def make() -> int:
            return self.inner.create_new_trial(study_id, template_trial)

        def find_or_make() -> int:
            token = None if template_trial is None else template_trial.system_attrs.get(CLAIM)
            made = self.inner.get_all_trials(study_id, deepcopy=False) if token is not None else []
            there = next((t._trial_id for t in reversed(made) if t.system_attrs.get(CLAIM) == token), None)
            return make() if there is None else there

        return self._write(make, find_or_make)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        def end() -> bool:
            return self.inner.set_trial_state_values(trial_id, state, values)

        def end_again() -> bool:
            try:
                return end()
            except UpdateFinishedTrialError:
                there = self.inner.get_trial(trial_id)
                if there.state is not state or list(there.values or ()) != list(values or ()):
                    raise
                return True

        return self._write(end, end_again)

    def write_changes(self, trial_id: int, changes: Changes) -> None:
        """See `nas_bo.optuna.changes.WritesChanges`."""
        self.run_together(lambda: write_changes(self.inner, trial_id, changes))

    # ---- reading ----------------------------------------------------------------------------------------------------

    get_study_id_from_name = _tried(BaseStorage.get_study_id_from_name, reads=True)
    get_study_name_from_id = _tried(BaseStorage.get_study_name_from_id, reads=True)
    get_study_directions = _tried(BaseStorage.get_study_directions, reads=True)
    get_study_user_attrs = _tried(BaseStorage.get_study_user_attrs, reads=True)
    get_study_system_attrs = _tried(BaseStorage.get_study_system_attrs, reads=True)
    get_all_studies = _tried(BaseStorage.get_all_studies, reads=True)
    get_trial_id_from_study_id_trial_number = _tried(BaseStorage.get_trial_id_from_study_id_trial_number, reads=True)
    get_trial = _tried(BaseStorage.get_trial, reads=True)
    get_all_trials = _tried(BaseStorage.get_all_trials, reads=True)

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        return self._call(lambda: self.inner.get_best_trial(study_id))

    def remove_session(self) -> None:
        self.inner.remove_session()


def to_do(error: BaseException, otherwise: str) -> str:
    """What to do about what a storage refuses: of a database, a right that its user lacks, or letters that it cannot hold."""
    text = said(error)
    if "Incorrect string value" in text:
        return "The database was made for fewer letters (MySQL's latin1 or utf8): make it with `character set utf8mb4`, or use plain letters"
    if "permission denied" not in text and "command denied" not in text:
        return otherwise
    return (
        "The user in the URL lacks a right: let the owner of the database grant it (create on the schema, where there are no tables yet; select, "
        "insert, update and delete on all of its tables and usage of its sequences), or give another user"
    )


def said(error: BaseException) -> str:
    """An error of a storage in one line, without passwords: what the database said, not what was made of it on the way."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error.details() if isinstance(error, _OfProxy) else error)
    return f"{type(error).__name__}: {redacted((text.strip().splitlines() or [''])[0])}"
