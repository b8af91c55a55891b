"""What `search` needs of a study: opened once, checked, resumable after a kill, shared by several processes."""

from __future__ import annotations

import itertools
import json
import time
import uuid
import warnings
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas_bo import database_url, process, redaction, spelling, study_name
from nas_bo.architecture import Architecture
from nas_bo.errors import HostError, NasBoError, SpaceError, StorageUnavailable
from nas_bo.execution.interrupts import whole
from nas_bo.optuna import patient, running, storages
from nas_bo.optuna.bridge import distributions, suggest
from nas_bo.optuna.heartbeat import silent
from nas_bo.optuna.reading import from_frozen, head, kept, read, trial_record
from nas_bo.optuna.storages import Storage, load, names, opened
from nas_bo.optuna.writing import CONSTRAINTS, keep, tell, tell_outcome, unknown
from nas_bo.patience import PATIENCE_S
from nas_bo.problem import Problem, column
from nas_bo.space import Space
from nas_bo.study import CLAIM, DEATHS, IDENTITY, OWNER, STUDY, architecture_of, plain
from nas_bo.trial import ObjectiveSpec
from nas_bo.wording import counted

HostTrial = optuna.Trial  # what `ask` gives, to be reported
LONGEST = 512  # characters of a key in Optuna's tables; SQLite takes longer ones
WAIT = 5.0  # seconds in which whoever makes a study is waited for to say what it is


def open_study(
    storage: Storage | None,
    name: str,
    cols: Sequence[ObjectiveSpec],
    about: Mapping[str, Any],
    sampler: BaseSampler | None = None,
    space: type[Space] | None = None,
    patience: float = PATIENCE_S,
) -> Study:
    """The study `name`, created when it is not there, checked against `about` when it is.

    Several processes may do this at once: one makes it, the others find it. A study that nas_bo did not make is taken
    only where its metrics have the very names and directions of `cols`; it keeps them, and everything in it.

    Args:
        storage: None for memory, a URL or an Optuna storage object, or the path of a file: `.db` and `.sqlite` are
            SQLite, `.log` and `.journal` an Optuna journal.
        about: space, columns and conditions of the search, as JSON-safe data; kept with the study.
        space: what is searched; parameters of the same name in a study that nas_bo did not make must be the same ones.
        patience: seconds for which the storage is tried again when it fails later; see `nas_bo.optuna.patient`.

    Raises:
        HostError: the storage cannot be opened, or the study belongs to another space, objectives or conditions.
        SearchError: no study may be called so.
    """
    study_name.check(name)
    try:
        backend = patient.storage(storages.backend(storage), database_url.shown(storage), patience)
        try:
            study = _made(backend, name, cols, sampler)
            ours = True
        except optuna.exceptions.DuplicatedStudyError:
            study, ours = optuna.load_study(study_name=name, storage=backend, sampler=sampler), False
    except NasBoError:
        raise
    except Exception as error:
        raise HostError(
            f"the storage {database_url.shown(storage)!r} cannot be opened ({storages.said(error)}). "
            + patient.to_do(
                error,
                "Is the server running and reachable, and are user, password, host, port and database of the URL right?"
                if database_url.is_server(storage)
                else "Give a URL such as sqlite:///study.db, or the path of a file in a folder that can be written",
            )
        ) from error
    _check_lengths(storage, about, space)
    about = json.loads(json.dumps(about, default=plain))  # as it will be when read again: tuples are lists
    before = kept(study, STUDY)
    if before is None and not ours:
        before = _awaited(study)
        if before is None:
            _check_foreign(study, cols, space)
    if before is not None:
        check_same(name, before, about)
        return study
    if not study.metric_names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names([c.name for c in cols])
    keep(study, STUDY, about)
    return study


def identity(study: Study) -> str:
    """An id of the study that no other one has, given to it when it is first asked for; "" of one in memory, which nobody continues."""
    if storages.in_memory(study):
        return ""
    found = kept(study, IDENTITY)
    if not isinstance(found, str):
        found = uuid.uuid4().hex
        keep(study, IDENTITY, found)
    return found


def _check_lengths(storage: Storage | None, about: Mapping[str, Any], space: type[Space] | None) -> None:
    """Raise HostError where a name is longer than a server of databases takes, before anything is evaluated."""
    if not isinstance(storage, str) or not database_url.is_server(storage):
        return
    constraints = {f"{CONSTRAINTS}{name}": name for name in about.get("constraints", ())}
    names = {**constraints, **dict.fromkeys(distributions(space) if space is not None else ())}
    for key, name in names.items():
        if len(key) > LONGEST:
            raise HostError(
                f"the name {(name or key)[:40]!r}... of a limit or a field has {counted(len(name or key), 'character')}, and a database server takes "
                f"{LONGEST - len(CONSTRAINTS)}; shorten it, or give a file as storage"
            )


def as_begun(storage: Storage | None, name: str, problem: Problem) -> Problem:
    """`problem` with its loss called as the study `name` calls it, where that is there and uses the other of its two names
    (`nas_bo.spelling`); else the very same. Nothing is written."""
    if storage is None or not any(c.name in spelling.OTHER for c in map(column, problem.evaluated())):
        return problem
    try:
        study = load(storage, name, reading=True)
        about, names = kept(study, STUDY), study.metric_names or ()
    except Exception:  # none yet; a storage that cannot be opened says so when the study is
        return problem
    loss = spelling.began(about) if about else next((n for n in names if n in spelling.OTHER), None)
    reported = [c["name"] for c in about["columns"]] if about else names
    kinds = (problem.objectives, problem.limits, problem.proxies)
    from nas_bo.objectives.renamed import as_named

    made = [[as_named(o, loss or "", reported) for o in every] for every in kinds]
    if all(new is old for news, olds in zip(made, kinds, strict=True) for new, old in zip(news, olds, strict=True)):
        return problem
    return Problem(problem.space, made[0], made[1], made[2], problem.staged)


def begun_by(storage: Storage | None, name: str) -> str:
    """The strategy that the study `name` was begun with, as it notes it; empty where it is not there. Nothing is written."""
    if storage is None:
        return ""
    try:
        return str((kept(load(storage, name, reading=True), STUDY) or {}).get("strategy") or "")
    except Exception:  # none yet; a storage that cannot be opened says so when the study is
        return ""


def _made(backend: BaseStorage | None, name: str, cols: Sequence[ObjectiveSpec], sampler: BaseSampler | None) -> Study:
    def make() -> Study:
        return optuna.create_study(
            study_name=name, storage=backend, directions=[c.direction for c in cols], sampler=sampler
        )

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))  # that a study is made is not for Optuna to print
    try:
        return storages.patiently(make)
    finally:
        optuna.logging.set_verbosity(before)


def _awaited(study: Study) -> object:
    """What another process keeps with a study that it has just made; None where there is something in it already, and
    where nothing comes: then nas_bo did not make it, or whoever did was killed at once."""
    until = time.monotonic() + WAIT
    while (found := kept(study, STUDY)) is None and time.monotonic() < until and not study.get_trials(deepcopy=False):
        time.sleep(0.05)
    return found


def _check_foreign(study: Study, cols: Sequence[ObjectiveSpec], space: type[Space] | None) -> None:
    """Raise HostError where a study that nas_bo did not make is of something else; an empty one without names is not."""
    directions, wanted = [d.name.lower() for d in study.directions], [c.direction for c in cols]
    named, trials = study.metric_names, study.get_trials(deepcopy=False)
    bare = named is None and not trials and not study.user_attrs  # nothing in it could be taken for something else
    if directions != wanted or (named != [c.name for c in cols] and not bare):
        there = [f"{n} ({d})" for n, d in zip(named or ["without a name"] * len(directions), directions, strict=True)]
        now = [f"{c.name} ({c.direction})" for c in cols]
        raise HostError(
            f"the study {study.study_name!r} was not made by nas_bo: it has {counted(len(trials), 'trial')} and the metrics "
            f"{', '.join(there)}, this search has {', '.join(now)}. It is left as it is. Use another study name (--study); to "
            "steer that study itself, give it nas_bo.optuna.Sampler"
        )
    if space is None:
        return
    known = distributions(space)
    for trial in trials:
        for name, dist in trial.distributions.items():
            if name in known and known[name] != dist:
                raise HostError(
                    f"the study {study.study_name!r} was not made by nas_bo, and its parameter {name!r} is {dist}, that of the "
                    f"space {space.title} is {known[name]}; Optuna wants a parameter to stay the same. Use another study name "
                    "(--study)"
                )


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
        before = began["conditions"].get(objective, {})
        gone = dict.fromkeys(what for what in before if what not in conditions)  # a dial that is not turned any more
        for what, value in {**conditions, **gone}.items():
            earlier = before.get(what)
            if redaction.nested(earlier) != value:
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


@whole()
def claim(study: Study, arch: Architecture, token: str = "") -> optuna.Trial:
    """A new running trial of this process for `arch`, which is asked for with `begin`.

    It is there at once, owned and with what it is for: there is no moment in which a killed process leaves it to nobody, and
    its number tells which trials of other processes came before it.
    """
    template = optuna.trial.create_trial(
        state=TrialState.RUNNING,
        user_attrs=running.mine(),
        system_attrs={"fixed_params": dict(arch.flat), CLAIM: token or uuid.uuid4().hex},
    )
    # `study.add_trial` does the same, and does not say which one it is
    return optuna.Trial(study, study._storage.create_new_trial(study._study_id, template))


@whole()
def claim_as(
    study: Study, problem: Problem, arch: Architecture, number: int
) -> tuple[optuna.Trial, tuple[optuna.Trial, Architecture] | None]:
    """`claim`, and in the same write `begin` where the trial has the expected `number`: (the trial, what `begin` returns).

    Of a trial that got another number only the claim is written.
    """
    token = uuid.uuid4().hex

    def write() -> tuple[optuna.Trial, tuple[optuna.Trial, Architecture] | None]:
        trial = claim(study, arch, token)
        ended = trial._cached_frozen_trial.state.is_finished()  # by an attempt that had worked without saying so
        return trial, None if ended or trial.number != number else begin(study, problem, trial, arch)

    return patient.together(study, write)


@whole()
def begin(
    study: Study, problem: Problem, trial: optuna.Trial, arch: Architecture
) -> tuple[optuna.Trial, Architecture] | None:
    """A claimed trial with its architecture, recorded in full before it is returned; it may be another than claimed.

    None where it breaks a rule, or does not belong to the space: its trial has ended (pruned or failed, with the reason).
    """
    if dict(arch.flat) != trial._fixed_params:
        trial.storage.set_trial_system_attr(trial._trial_id, "fixed_params", dict(arch.flat))
        trial = optuna.Trial(study, trial._trial_id)
    return _suggested(study, trial, problem)


@whole()
def ask(study: Study, problem: Problem, arch: Architecture | None) -> tuple[optuna.Trial, Architecture] | None:
    """A new trial for `arch`, recorded in full before it is returned; None takes the oldest enqueued one.

    None is returned as by `begin`.
    """
    if arch is not None:
        return begin(study, problem, claim(study, arch), arch)
    trial = study.ask()
    running.take(trial)
    return _suggested(study, trial, problem)


@whole()
def starting(
    study: Study, problem: Problem, within: float, below: int | None = None, without: Collection[int] = ()
) -> list[int]:
    """The running trials of living processes that have not said yet which architecture they are of.

    Args:
        within: seconds since they began; what says nothing for longer never will.
        below: only trials with a smaller number.
        without: numbers that are left out.
    """
    found = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        one = trial_record(trial, ())
        owner, age = one.owner, running.of(one).seconds()
        earlier = (below is None or trial.number < below) and trial.number not in without
        alive = owner and not running.is_dead(owner) and (age is None or age < within)
        if earlier and alive and from_frozen(trial, problem.space, problem.columns) is None:
            found.append(trial.number)
    return found


def ask_for(study: Study, problem: Problem) -> tuple[optuna.Trial, Architecture] | None:
    """A new trial for somebody who tells its outcome later, from any process; what is proposed is the sampler's choice.

    Concurrent processes may ask at once: trials with smaller numbers that are still being asked for get other proposals.
    None as for `ask`.
    """
    trial = study.ask()
    trial.set_user_attr(OWNER, running.ASKED)
    return _suggested(study, trial, problem)


@whole()
def asked(study: Study) -> list[FrozenTrial]:
    """The trials that were asked for by `ask_for` and not reported yet, in the order of their numbers."""
    found = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [t for t in found if t.user_attrs.get(OWNER) == running.ASKED]


def was_enqueued(trial: optuna.Trial) -> bool:
    """Whether somebody fixed parameters of the trial before it was asked for."""
    return bool(trial._fixed_params)


def _suggested(study: Study, trial: optuna.Trial, problem: Problem) -> tuple[optuna.Trial, Architecture] | None:
    attempts = itertools.count()

    def write() -> Architecture | None:
        if next(attempts):  # an attempt that failed may have left in the trial what is not in the storage
            trial._cached_frozen_trial = trial.storage.get_trial(trial._trial_id)
        try:
            return suggest(trial, problem.space)
        except optuna.TrialPruned as pruned:
            unknown(trial, problem.constraint_names)
            tell(study, trial, "pruned", str(pruned))
        except StorageUnavailable:
            raise
        except (NasBoError, ValueError) as error:  # ValueError: Optuna's own, for a fixed value outside a distribution
            tell(study, trial, "fail", str(error))
        return None

    _sample(trial, problem.space)
    arch = patient.together(study, write)
    return None if arch is None else (trial, arch)


def _sample(trial: optuna.Trial, space: type[Space]) -> None:
    """Have the sampler propose what is not fixed, before the storage is held for writing: that may take seconds."""
    try:
        architecture_of(space, trial._fixed_params)
    except (SpaceError, TypeError):  # TypeError: an enqueued value that a parameter cannot have
        _ = trial.relative_params


def evaluated_by(trial: FrozenTrial) -> str:
    """The process of a search, not known to be dead, that runs the trial now; "" where anyone may tell it."""
    owner = str(trial.user_attrs.get(OWNER, ""))
    free = trial.state is not TrialState.RUNNING or not owner or owner == running.ASKED or running.is_dead(owner)
    return "" if free else owner


def taken_up(study: Study, frozen: FrozenTrial) -> optuna.Trial:
    """A running trial of the study, whose result this process reports."""
    return optuna.Trial(study, frozen._trial_id)


@whole()
def release(trial: optuna.Trial) -> None:
    """Leave a running trial to whoever continues the search."""
    with suppress(optuna.exceptions.UpdateFinishedTrialError):  # it has ended a moment ago
        trial.set_user_attr(OWNER, running.RELEASED)


@whole()
def finished(study: Study) -> int:
    """How many trials have ended, in whatever state."""
    done = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    return len(study.get_trials(deepcopy=False, states=done))


@whole()
def adopt(study: Study, problem: Problem, older: float | None = None) -> list[tuple[optuna.Trial, Architecture]]:
    """The trials that others left running, to be evaluated again under their own numbers; see `running.left`."""
    found = []
    left = running.left(study, older)
    quiet = silent(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))
    for frozen in left:
        if not frozen.user_attrs.get(OWNER) and from_frozen(frozen, problem.space, problem.columns) is None:
            continue  # begun by something else, for something else
        trial = optuna.Trial(study, frozen._trial_id)
        owner = str(frozen.user_attrs.get(OWNER, ""))
        if owner in quiet - {running.RELEASED} or process.is_dead(owner):
            trial.set_user_attr(DEATHS, deaths(trial) + 1)
        running.take(trial)
        pair = _suggested(study, trial, problem)
        if pair is not None:
            found.append(pair)
    return found


def deaths(trial: optuna.Trial) -> int:
    """How many processes that evaluated the trial have died meanwhile, as far as those that continued it have noticed."""
    noted = trial.user_attrs.get(DEATHS, 0)
    return noted if isinstance(noted, int) else 0


__all__ = [
    "REMEDY", "adopt", "as_begun", "ask", "ask_for", "asked", "begin", "check_same", "claim", "claim_as", "deaths",
    "evaluated_by", "finished", "head", "identity", "keep", "kept", "load", "names", "open_study", "opened", "read",
    "release", "starting", "taken_up", "tell", "tell_outcome", "was_enqueued",
]  # fmt: skip
