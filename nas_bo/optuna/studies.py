"""What `search` needs of a study: opened once, checked, resumable after a kill, shared by several processes."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas_bo.architecture import Architecture
from nas_bo.errors import HostError, NasBoError
from nas_bo.optuna.bridge import record, suggest, unknown
from nas_bo.problem import Problem
from nas_bo.trial import ATTRIBUTE_WIDTH, PREFIX, Column, State, Trial, plain, read_attributes, write_attributes

RELEASED = "released"  # instead of the owner of a running trial
ASKED = "asked"  # the same: whoever asked for it will tell, from whatever process

Storage = str | os.PathLike[str] | optuna.storages.BaseStorage


def open_study(
    storage: Storage | None,
    name: str,
    cols: Sequence[Column],
    about: Mapping[str, Any],
    sampler: BaseSampler | None = None,
) -> Study:
    """The study `name`, created when it is not there, checked against `about` when it is.

    Args:
        storage: None for memory, a URL or an Optuna storage object, or the path of a file: `.db` and `.sqlite` are
            SQLite, `.log` and `.journal` an Optuna journal.
        about: space, columns and conditions of the search, as JSON-safe data; kept with the study.

    Raises:
        HostError: the storage cannot be opened, or the study belongs to another space, objectives or conditions.
    """
    try:
        backend = _storage(storage)
        study = optuna.create_study(
            study_name=name,
            storage=backend,
            directions=[c.direction for c in cols],
            sampler=sampler,
            load_if_exists=True,
        )
    except HostError:
        raise
    except Exception as error:
        raise HostError(
            f"the storage {storage!r} cannot be opened ({type(error).__name__}: {str(error).splitlines()[0]}); give a URL "
            "such as sqlite:///study.db, or the path of a file in a folder that can be written"
        ) from error
    about = json.loads(json.dumps(about, default=plain))  # as it will be when read again: tuples are lists
    before = kept(study, "study")
    if before is None:
        there = [d.name.lower() for d in study.directions]
        if there != [c.direction for c in cols]:
            raise HostError(
                f"there is a study {name!r} that nas_bo did not make; it has the directions {', '.join(there)}, this search has "
                f"{', '.join(c.direction for c in cols)}. Use another study name (--study)"
            )
        keep(study, "study", about)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names([c.name for c in cols])
    else:
        check_same(name, before, about)
    return study


REMEDY = "Continue it as it was begun, or give this search another study name (--study) or another storage"


def check_same(
    name: str,
    began: Mapping[str, Any],
    about: Mapping[str, Any],
    this: str = "this search",
    remedy: str = REMEDY,
) -> None:
    """Whether what `about` describes belongs into the study `name`, which was begun so (raises HostError where not)."""
    if began["fingerprint"] != about["fingerprint"]:
        raise HostError(
            f"the study {name!r} belongs to the space {began['space']['title']!r} with schema {began['fingerprint']}, {this} "
            f"has {about['space']['title']!r} with schema {about['fingerprint']}: fields, choices or rules differ. {remedy}"
        )
    if _plain(began["columns"]) != _plain(about["columns"]):
        before, now = ([_limited(c) for c in side["columns"]] for side in (began, about))
        raise HostError(
            f"the study {name!r} was begun with the objectives {', '.join(before)}, {this} has {', '.join(now)}. {remedy}"
        )
    if began["constraints"] != about["constraints"]:
        was, now_is = (", ".join(side["constraints"]) or "none" for side in (began, about))
        raise HostError(f"the study {name!r} was begun with the rules and limits {was}, {this} has {now_is}. {remedy}")
    has = "now it is" if this == "this search" else f"{this} has"
    for objective, conditions in about["conditions"].items():
        for what, value in conditions.items():
            earlier = began["conditions"].get(objective, {}).get(what)
            if earlier != value:
                raise HostError(
                    f"the study {name!r} was begun with {objective}: {what} = {earlier!r}, {has} {value!r}; values "
                    f"measured under different conditions do not compare. {remedy}"
                )


def _plain(columns: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Columns as version 0.1 wrote them, which called a roofline bound milliseconds."""
    return [
        {**c, "unit": {"roofline bound": "ms"}.get(c["unit"], c["unit"].removesuffix(", roofline bound"))}
        for c in columns
    ]


def _limited(column: Mapping[str, Any]) -> str:
    limits = [
        f"{op}{column[side]:g}" for side, op in (("at_most", "<="), ("at_least", ">=")) if column[side] is not None
    ]
    return " ".join([column["name"], *limits])


def keep(study: Study, key: str, data: Any) -> None:
    """Keep JSON-safe `data` with the study under `key`."""
    for part, text in write_attributes(f"{PREFIX}{key}", data).items():
        study.set_user_attr(part, text)


def kept(study: Study, key: str) -> Any:
    """What `keep` kept under `key`, or None."""
    return read_attributes(study.user_attrs, f"{PREFIX}{key}")


def load(storage: Storage, name: str | None = None) -> Study:
    """A study that is there; `name` may be left out when the storage holds only one.

    Raises:
        HostError: no such storage or study, or several studies and no name.
    """
    backend = opened(storage)
    names = optuna.get_all_study_names(backend)
    if name is None and len(names) != 1:
        raise HostError(
            f"{storage} holds {len(names)} studies ({', '.join(sorted(names)) or 'none'}); name one with --study"
        )
    if name is not None and name not in names:
        raise HostError(f"{storage} holds no study {name!r}; there are: {', '.join(sorted(names)) or 'none'}")
    return optuna.load_study(study_name=name or names[0], storage=backend)


def names(storage: Storage) -> list[str]:
    """The studies in a storage that is there.

    Raises:
        HostError: it cannot be opened.
    """
    path = _missing(storage)
    if path:
        raise HostError(f"there is no file {path!r}; give the storage of the studies")
    try:
        return sorted(optuna.get_all_study_names(_storage(storage)))
    except HostError:
        raise
    except Exception as error:
        raise HostError(
            f"{storage!r} is no storage of studies that can be read ({type(error).__name__}: {str(error).splitlines()[0]})"
        ) from error


def opened(storage: Storage) -> optuna.storages.BaseStorage:
    """A storage that is there (raises HostError where it is not, or cannot be read)."""
    path = _missing(storage)
    if path:
        raise HostError(f"there is no file {path!r}; give the storage that `nas-bo search` printed")
    try:
        backend = optuna.storages.get_storage(_storage(storage))
        optuna.get_all_study_names(backend)
    except HostError:
        raise
    except Exception as error:
        raise HostError(
            f"the storage {storage!r} cannot be read ({type(error).__name__}: {str(error).splitlines()[0]}); give the one that "
            "`nas-bo search` printed"
        ) from error
    return backend


def _missing(storage: Storage) -> str:
    """The file that a storage is in, where there is none; else nothing."""
    name = os.fspath(storage) if isinstance(storage, os.PathLike) else storage
    path = name.removeprefix("sqlite:///") if isinstance(name, str) else ""
    return path if path and "://" not in path and not os.path.exists(path) else ""


def _storage(storage: Storage | None) -> Any:
    storage = os.fspath(storage) if isinstance(storage, os.PathLike) else storage
    if not isinstance(storage, str):
        return storage
    if "://" not in storage:
        folder = os.path.dirname(os.path.abspath(storage))
        if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
            raise HostError(f"the storage {storage!r} cannot be written: the folder {folder!r} is missing or read-only")
        if storage.endswith((".log", ".journal")):
            from optuna.storages import JournalStorage
            from optuna.storages.journal import JournalFileBackend

            return JournalStorage(JournalFileBackend(storage))
        if not storage.endswith((".db", ".sqlite", ".sqlite3")):
            raise HostError(
                f"the storage {storage!r} is neither a URL (sqlite:///study.db) nor a file ending in .db or .log; name one"
            )
        storage = f"sqlite:///{os.path.abspath(storage)}"
    if storage.startswith("sqlite:///"):
        # Several processes may write: wait for each other instead of failing after SQLite's default five seconds.
        return optuna.storages.RDBStorage(storage, engine_kwargs={"connect_args": {"timeout": 60}})
    return storage


def ask(study: Study, problem: Problem, arch: Architecture | None) -> tuple[optuna.Trial, Architecture] | None:
    """A new trial for `arch`, recorded in full before it is returned; None takes the oldest enqueued one.

    A point that breaks a rule, or does not belong to the space, ends its trial (pruned or failed, with the reason):
    then None is returned.
    """
    if arch is not None:  # owned from the start: there is no moment in which a killed process leaves it to nobody
        study.enqueue_trial(dict(arch.flat), user_attrs={f"{PREFIX}owner": _owner()})
    trial = study.ask()
    if trial.user_attrs.get(f"{PREFIX}owner") != _owner():
        trial.set_user_attr(f"{PREFIX}owner", _owner())
    return _suggested(study, trial, problem)


def ask_for(study: Study, problem: Problem) -> tuple[optuna.Trial, Architecture] | None:
    """A new trial for somebody who tells its outcome later, from any process; what is proposed is the sampler's choice.

    Concurrent processes may ask at once: trials with smaller numbers that are still being asked for get other proposals.
    None as for `ask`.
    """
    trial = study.ask()
    trial.set_user_attr(f"{PREFIX}owner", ASKED)
    return _suggested(study, trial, problem)


def asked(study: Study) -> list[FrozenTrial]:
    """The trials that were asked for by `ask_for` and not told yet, in the order of their numbers."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [t for t in running if t.user_attrs.get(f"{PREFIX}owner") == ASKED]


def was_enqueued(study: Study, number: int) -> bool:
    """Whether somebody fixed parameters of the trial before it was asked for."""
    return any("fixed_params" in t.system_attrs for t in study.get_trials(deepcopy=False) if t.number == number)


def _suggested(study: Study, trial: optuna.Trial, problem: Problem) -> tuple[optuna.Trial, Architecture] | None:
    try:
        return trial, suggest(trial, problem.space)
    except optuna.TrialPruned as pruned:
        unknown(trial, problem.constraint_names)
        tell(study, trial, "pruned", str(pruned))
    except (NasBoError, ValueError) as error:  # ValueError: Optuna's own, for a fixed value outside a distribution
        tell(study, trial, "fail", str(error))
    return None


def evaluated_by(trial: FrozenTrial) -> str:
    """The process of a search, not known to be dead, that runs the trial now; "" where anyone may tell it."""
    owner = str(trial.user_attrs.get(f"{PREFIX}owner", ""))
    free = trial.state is not TrialState.RUNNING or not owner or owner == ASKED or _is_dead(owner)
    return "" if free else owner


def taken_up(study: Study, frozen: FrozenTrial) -> optuna.Trial:
    """A running trial of the study, to be told by this process."""
    return optuna.Trial(study, frozen._trial_id)


def release(trial: optuna.Trial) -> None:
    """Leave a running trial to whoever continues the search."""
    trial.set_user_attr(f"{PREFIX}owner", RELEASED)


def waiting(study: Study) -> list[int]:
    """The numbers of the enqueued trials that nobody has taken yet, in the order in which they will be."""
    return [t.number for t in study.get_trials(deepcopy=False, states=(TrialState.WAITING,))]


def finished(study: Study) -> int:
    """How many trials have ended, in whatever state."""
    done = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    return len(study.get_trials(deepcopy=False, states=done))


def tell(
    study: Study, trial: optuna.Trial, state: str, reason: str, values: Sequence[float] | None = None
) -> FrozenTrial:
    """End a trial: ``state`` is "complete" (with values), "pruned" or "fail" (with a reason)."""
    states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "fail": TrialState.FAIL}
    if reason:
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            trial.set_user_attr(f"{PREFIX}reason", reason[:ATTRIBUTE_WIDTH])
    return study.tell(trial, values if state == "complete" else None, state=states[state], skip_if_finished=True)


def tell_outcome(study: Study, trial: optuna.Trial, outcome: Trial, label: str | None = None) -> FrozenTrial:
    """Record an outcome and end its trial accordingly; nothing is raised for a failed one."""
    # Suppressed: another process took over the same trial and was faster; its outcome stands.
    with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
        record(trial, outcome, label)
    if outcome.state is State.COMPLETE:
        return tell(study, trial, "complete", "", list(outcome.values.values()))
    pruned = outcome.state in (State.INFEASIBLE, State.STOPPED)
    return tell(study, trial, "pruned" if pruned else "fail", outcome.reason)


def adopt(study: Study, problem: Problem) -> list[tuple[optuna.Trial, Architecture]]:
    """The trials that a dead process of this machine left running, to be evaluated again under their own numbers."""
    found = []
    for frozen in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        owner = frozen.user_attrs.get(f"{PREFIX}owner")
        if owner is not None and _is_dead(owner):
            trial = optuna.Trial(study, frozen._trial_id)
            trial.set_user_attr(f"{PREFIX}owner", _owner())
            pair = _suggested(study, trial, problem)
            if pair is not None:
                found.append(pair)
    return found


def elsewhere(study: Study) -> list[str]:
    """The machines whose processes are said to run trials of the study now; they may have died there unnoticed."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    owners = [str(t.user_attrs.get(f"{PREFIX}owner", "")) for t in running]
    return [
        o.partition(":")[0]
        for o in owners
        if o and o not in (RELEASED, ASKED) and o.partition(":")[0] != platform.node()
    ]


def _owner() -> str:
    return f"{platform.node()}:{os.getpid()}:{_started(os.getpid())}"


def _is_dead(owner: str) -> bool:
    if owner == RELEASED:
        return True
    if owner == ASKED:
        return False
    node, _, rest = owner.partition(":")
    pid, _, started = rest.partition(":")
    if node != platform.node():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, ValueError):
        return False
    return started != _started(int(pid))  # the number was given to another process since


def _started(pid: int) -> str:
    """When the process began, where the system tells (Linux); tells reused process numbers apart."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[19]
    except OSError:
        return ""
