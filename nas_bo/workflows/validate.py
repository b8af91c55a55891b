"""validate(): how far cheap estimates of quality can be trusted on a space, a corpus and a budget, before or after a search.

A few architectures from across the range are trained at a reference budget, with several seeds; every proxy is
evaluated on them; the report says what each proxy's order is worth. Every finished evaluation is kept at once, and the
same call continues where a killed one ended.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypedDict, Unpack, runtime_checkable

from nas_bo.architecture import Architecture
from nas_bo.errors import EverythingFailed, ObjectiveError, SearchError
from nas_bo.execution import preflight
from nas_bo.execution.executor import Executor, workers_of
from nas_bo.execution.selection import executor_of
from nas_bo.objective import AtFidelity, Conditioned, Objective, ReadsText, as_objective, spec_of
from nas_bo.objectives.measuring import make_ready, silent
from nas_bo.optuna.reading import Study
from nas_bo.problem import Problem
from nas_bo.report import Proxy, TrustReport, figure, trust
from nas_bo.report.labels import label_of, labels_of
from nas_bo.report.spread import across
from nas_bo.seeds import Seed, whole_seed
from nas_bo.settings import settings_of, takes
from nas_bo.space import Space
from nas_bo.study import StudyRecord
from nas_bo.trial import State, Trial
from nas_bo.validated import Check, check_fields, checked, number, whole_number
from nas_bo.wording import counted
from nas_bo.workflows import evaluation_store, retraining_check
from nas_bo.workflows.progress import Progress
from nas_bo.workflows.stored_result import load_result
from nas_bo.workflows.tracking import Tracking, tracker_of

POOL = 16  # architectures drawn for each one that is chosen
FEWEST = 3  # architectures; a ranking of fewer is none


@runtime_checkable
class OfStudy(Protocol):
    """What belongs to a study: a `Result`, an `AskTell`."""

    @property
    def study(self) -> Study | None: ...


class ValidateOptions(TypedDict, total=False):
    """What `validate` takes by name, see there."""

    architectures: int
    seeds: int
    history: Study | OfStudy | None
    keep: str | Path | None
    workers: int
    executor: Executor | None
    timeout: float | None
    track: Tracking | str | Path | None
    seed: Seed
    on_progress: Callable[[Progress], object] | None


@dataclass(frozen=True)
class ValidateSettings:
    """What `validate` was asked for, checked; its fields are described there. The seed is a whole number.

    Raises:
        SearchError: a value that is not what it must be.
    """

    architectures: int = checked(12, whole_number(FEWEST))
    seeds: int = checked(2, whole_number(1))
    history: Study | OfStudy | None = None
    keep: str | Path | None = None
    workers: int = checked(1, whole_number(1))
    executor: Executor | None = None
    timeout: float | None = checked(None, Check("a number of seconds above 0", number(above=0).holds).or_none())
    track: Tracking | str | Path | None = None
    seed: int = 0
    on_progress: Callable[[Progress], object] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", whole_seed(self.seed, "validate"))
        check_fields(self, SearchError, "validate")

    @property
    def study(self) -> Study | None:
        """The study of `history`, None where there is none."""
        return self.history.study if isinstance(self.history, OfStudy) else self.history

    def notify(self, progress: Progress) -> None:
        if self.on_progress is not None:
            self.on_progress(progress)


@takes(ValidateSettings)
def validate(
    space: type[Space],
    proxies: Sequence[Objective | Callable[[Architecture], float]],
    reference: Objective | None = None,
    **options: Unpack[ValidateOptions],
) -> TrustReport:
    """Judge `proxies` by training a few architectures of `space` at the reference budget.

    A proxy that is a prefix of the reference (`replace(reference, fidelity=0.25)`) is read on the way of the reference runs
    and costs nothing; it is judged against the other seeds. Everything else is evaluated once per architecture; give
    it another seed than the reference, or the two share their luck.

    Args:
        proxies: objectives whose values promise quality, in the direction that they state. The parameter count and FLOPs
            are always judged with them; the objectives `Parameters` and `Flops` are therefore not needed.
        reference: what is true, by default `ValidationLoss(tokens=500_000, seed=1)`; its seeds are `seed`, `seed` + 1, ...
        architectures: how many; below ten the report calls its figures an anecdote.
        seeds: of the reference; from two on the ceiling and the noise are known.
        history: the study of a search (an Optuna study, or a `Result`): its architectures are taken, those that it
            trained under the conditions of the reference are not trained again, and the report is kept with it.
        keep: a file of JSON lines for what has been evaluated; default the study of `history`, else nothing is kept.
        workers: local processes; 1 evaluates in this process.
        executor: where evaluations run instead (`nas_bo.execution.Executor`). It is closed in the end.
        timeout: seconds that one evaluation may take, as in `search`; one that takes longer has no value, and its reason is kept.
        track: an MLflow tracking URI or a `nas_bo.mlflow.Tracker`: the report goes to the parent run of the study.
        seed: of the choice of architectures.
        on_progress: called with a `Progress` after every evaluation.

    Raises:
        NasBoError: before anything is trained, for whatever is wrong with the arguments.
        EverythingFailed: no reference training gave a number.
    """
    settings = settings_of(ValidateSettings, "validate", options)
    study, seed = settings.study, settings.seed
    truths = _seeds(_default() if reference is None else as_objective(reference), settings.seeds)
    plan = _plan(space, [as_objective(p) for p in proxies], truths)
    preflight.check(Problem(space, plan.truths[:1]), "validate")  # a proxy that fails is a line of the report
    for objective in (*plan.truths, *plan.own):
        if isinstance(objective, Conditioned):
            objective.conditions()  # bad configuration and a missing corpus raise here
    record = None if study is None else evaluation_store.check_study(study, space, truths[0])
    if record is None and settings.track is not None:
        raise SearchError(
            "validate(track=...): the report goes to the MLflow run of a search; give its study as history=..."
        )
    records = evaluation_store.open_records(settings.keep, study, record)
    tracker = tracker_of(settings.track, None, "validate")
    distinct = Problem(space, _distinct(plan))
    executor = executor_of(settings.executor, settings.workers, distinct, "validate", settings.timeout)
    try:
        make_ready(space, plan.own, None, silent)
        chosen = _choose(plan, records, record, settings.architectures, seed)
        _evaluate(plan, records, evaluation_store.Trained(record), chosen, executor, settings.notify)
    finally:
        executor.close()
    report = _report(plan, records, chosen, seed)
    if study is not None:
        evaluation_store.keep_report(study, report)
        if tracker is not None:
            tracker.finish(study, summary=load_result(study, space).summary())
    return report


@dataclass(frozen=True)
class _Plan:
    """What is evaluated on every architecture.

    Attributes:
        truths: the reference, one per seed, each stopping at the shares of the prefixes on its way.
        prefixes: name of a proxy -> the share of the reference run after which it is read.
        own: proxies that are evaluated by themselves.
        names: of all proxies, in the order given.
    """

    space: type[Space]
    truths: tuple[Objective, ...]
    prefixes: Mapping[str, float]
    own: tuple[Objective, ...]
    names: tuple[str, ...]

    @property
    def shares(self) -> tuple[float, ...]:
        """Where the reference runs are read on their way."""
        return tuple(sorted(set(self.prefixes.values())))

    @property
    def jobs(self) -> list[tuple[str, Objective]]:
        return [(evaluation_store.key(o), o) for o in (*self.own, *self.truths)]


def _default() -> Objective:
    from nas_bo.objectives import ValidationLoss

    return ValidationLoss(tokens=500_000, seed=1)


def _seeds(reference: Objective, seeds: int) -> list[Objective]:
    if spec_of(reference).limits():
        raise ObjectiveError(
            f"validate(reference={reference.name!r}): it has a limit, and a limit would leave out what must be ranked; give "
            "the reference without at_most and at_least"
        )
    if seeds == 1:
        return [reference]
    first = _settings(reference).get("seed")
    if isinstance(first, bool) or not isinstance(first, int):
        raise ObjectiveError(
            f"validate(seeds={seeds}): the reference {reference.name!r} has no field `seed`, so it cannot be repeated; use "
            "seeds=1, or make it a dataclass with a whole number `seed`"
        )
    return [_with(reference, seed=first + s) for s in range(seeds)]


def _plan(space: type[Space], proxies: Sequence[Objective], truths: Sequence[Objective]) -> _Plan:
    prefixes: dict[str, float] = {}
    own: list[Objective] = []
    names = []
    for proxy in proxies:
        if _is_size(proxy):
            continue  # always there
        if spec_of(proxy).limits():
            proxy = _with(proxy, at_most=None, at_least=None)  # what lies beyond a limit is ranked as well
        share = _prefix(proxy, truths[0])
        name = proxy.name
        if name == truths[0].name:
            tokens = _settings(proxy).get("tokens")
            name += f"@{share:.0%}" if share else f"@{figure(float(tokens))}" if tokens else " as proxy"
        if name in names:
            raise ObjectiveError(f"validate(): two proxies are called {name!r}; give each its own `name`")
        names.append(name)
        if share is not None:
            prefixes[name] = share
        else:
            own.append(proxy if proxy.name == name else _with(proxy, name=name))
    if prefixes:
        shares = tuple(sorted(set(prefixes.values())))
        truths = [_with(t, rungs=shares, min_rung=min(shares)) for t in truths]
    return _Plan(space, tuple(truths), prefixes, tuple(own), tuple(names))


def _is_size(objective: Objective) -> bool:
    from nas_bo.objectives import Flops, Parameters

    return isinstance(objective, (Parameters, Flops))


def _prefix(proxy: Objective, reference: Objective) -> float | None:
    """The share of the reference run that `proxy` is, if it is the beginning of it."""
    share = proxy.fidelity if isinstance(proxy, AtFidelity) else None
    if type(proxy) is not type(reference) or not isinstance(share, float) or not 0 < share < 1:
        return None
    alike = ("fidelity", "seed", "name", "rungs", "min_rung", "checkpoints", "noise_sd")  # what may differ in a prefix
    whole: object = _with(proxy, **{name: value for name, value in _settings(reference).items() if name in alike})
    return share if whole == reference else None


def _settings(objective: Objective) -> dict[str, Any]:
    """The fields of an objective that is a dataclass."""
    return {f.name: getattr(objective, f.name) for f in fields(objective)} if is_dataclass(objective) else {}


def _with(objective: Objective, **changes: object) -> Objective:
    if not is_dataclass(objective) or not {f.name for f in fields(objective)} >= set(changes):
        raise ObjectiveError(
            f"validate(): the objective {objective.name!r} would have to be changed in {', '.join(changes)}, which it does not "
            "have as fields of a dataclass; give proxies names of their own that differ from the reference's"
        )
    changed: Objective = replace(objective, **changes)
    return changed


# ---- which architectures ---------------------------------------------------------------------------------------------


def _choose(
    plan: _Plan, records: evaluation_store.Records, record: StudyRecord | None, n: int, seed: int
) -> list[Architecture]:
    """The architectures, the same ones when a validation is continued."""
    name = f"chosen:{plan.space.fingerprint()}:{n}:{seed}"
    before = records.get(name)
    if before is not None:
        return [plan.space.architecture(flat) for flat in before]
    trials = evaluation_store.history(record, plan.space)
    column = evaluation_store.trained_column(record)
    pool: dict[str, tuple[Architecture, float]] = {}
    for t in trials:
        score = math.nan if column is None else column.sign * t.values.get(column.name, math.nan)
        pool.setdefault(t.architecture.id, (t.architecture, score))
    rng = random.Random(f"validate:{seed}")
    for _ in range(max(0, n * POOL - len(pool)) if len(pool) < 2 * n else 0):
        arch = plan.space.sample(rng)
        pool.setdefault(arch.id, (arch, math.nan))
    archs = [arch for arch, _ in pool.values()]
    counts = [_size(plan, a) for a in archs]
    trained = evaluation_store.Trained(record)
    free = [i for i, a in enumerate(archs) if trained.get(plan.truths[0], a, plan.shares) is not None]
    scores = [score for _, score in pool.values()]
    quick = [o for o in plan.own if o.cost == "analytic"]
    if quick and all(math.isnan(s) for s in scores):
        scores = [_quick(quick[0], a) for a in archs]
    places = across([math.nan if c is None else c for c in counts], scores, n, preferred=free, seed=seed)
    if len(places) < FEWEST:
        raise SearchError(
            f"validate(): {plan.space.title} has only {counted(len(places), 'architecture')} to choose from, a ranking needs {FEWEST}"
        )
    records.put(name, [dict(archs[i].flat) for i in places])
    return [archs[i] for i in places]


def _quick(objective: Objective, arch: Architecture) -> float:
    try:
        value = float(objective(arch))
    except Exception:  # what is wrong with it is reported where it is evaluated
        return math.nan
    return value if objective.direction == "minimize" else -value


def _size(plan: _Plan, arch: Architecture) -> float | None:
    return retraining_check.counted(arch, _vocabulary(plan), _ignored(plan))


def _vocabulary(plan: _Plan) -> int:
    first = plan.truths[0]
    return int(first.corpus().vocab_size) if isinstance(first, ReadsText) else 256


def _ignored(plan: _Plan) -> tuple[str, ...]:
    return tuple(_settings(plan.truths[0]).get("ignore", ()))


# ---- evaluating ------------------------------------------------------------------------------------------------------


def _evaluate(
    plan: _Plan,
    records: evaluation_store.Records,
    trained: evaluation_store.Trained,
    chosen: Sequence[Architecture],
    team: Executor,
    notify: Callable[[Progress], object],
) -> None:
    """Whatever is not there yet; every outcome is kept as soon as it is there."""
    todo: list[tuple[str, Objective, Architecture]] = []
    for arch in chosen:
        for name, objective in plan.jobs:
            key = f"{name}:{arch.id}"
            if records.get(key) is not None:
                continue
            before = trained.get(objective, arch, plan.shares if objective in plan.truths else ())
            if before is not None:
                records.put(key, before)
            else:
                todo.append((key, objective, arch))
    total = len(chosen) * len(plan.jobs)
    notify(Progress("validate", total - len(todo), total, None))
    if not todo:
        return
    problems = {id(o): Problem(plan.space, [o], staged=True) for _, o, _ in todo}
    spent: list[float] = []
    jobs = {key: (problems[id(objective)], arch) for key, objective, arch in todo}
    ended = evaluation_store.taken(records, team, jobs, evaluation_store.names(records))
    for left, (key, outcome) in zip(reversed(range(len(jobs))), ended, strict=True):
        records.put(key, _record(outcome))
        spent.append(outcome.seconds)
        later = sum(spent) / len(spent) * left / workers_of(team)
        label = label_of(outcome.architecture, plan.space)
        notify(Progress("validate", total - left, total, later, outcome, label))


def _distinct(plan: _Plan) -> list[Objective]:
    """For the check that everything can be sent to other processes: a problem takes every name once."""
    return list({o.name: o for o in (*plan.own, *plan.truths)}.values())


def _record(outcome: Trial) -> dict[str, object]:
    name, info = next(iter(outcome.info.items()), ("", {}))
    value = next(iter(outcome.values.values()), None) if outcome.state is State.COMPLETE else None
    return {
        "value": value,
        "reason": outcome.reason,
        "rungs": [[share, seen] for share, seen in outcome.rungs(name).items()] if name else [],
        "seconds": outcome.seconds,
        "cpu_seconds": info.get("cpu_seconds"),
    }


# ---- the report ------------------------------------------------------------------------------------------------------


def _report(plan: _Plan, records: evaluation_store.Records, chosen: Sequence[Architecture], seed: int) -> TrustReport:
    def got(objective: Objective, arch: Architecture) -> Mapping[str, Any]:
        return records.get(f"{evaluation_store.key(objective)}:{arch.id}") or {}

    def value(objective: Objective, arch: Architecture) -> float:
        found = got(objective, arch).get("value")
        return math.nan if found is None else float(found)

    reference = [[value(t, a) for t in plan.truths] for a in chosen]
    if not any(math.isfinite(v) for row in reference for v in row):
        reasons = [got(t, a).get("reason", "") for a in chosen for t in plan.truths]
        raise EverythingFailed(
            f"no reference evaluation of {plan.truths[0].name!r} gave a number; the last one because of: {reasons[-1]}. What "
            "was evaluated is kept; fix the cause and use another file or study"
        )
    dear = _mean_seconds([got(t, a) for a in chosen for t in plan.truths])
    by_name: dict[str, Proxy] = {}
    for objective in plan.own:
        seen = [value(objective, a) for a in chosen]
        reasons = [got(objective, a).get("reason", "") for a in chosen]
        failed = next((r for r in reversed(reasons) if r), "")
        share = _mean_seconds([got(objective, a) for a in chosen]) / dear if dear > 0 else math.nan
        by_name[objective.name] = Proxy(objective.name, seen, objective.direction, share, note=failed)
    for name, part in plan.prefixes.items():
        rows = [[_at(got(t, a), part) for t in plan.truths] for a in chosen]
        by_name[name] = Proxy(name, rows, plan.truths[0].direction, part, same_run=True)
    sizes = [_size(plan, a) for a in chosen]
    known = None if any(s is None for s in sizes) else [s for s in sizes if s is not None]
    first, labels = plan.truths[0], labels_of(chosen, plan.space)
    return trust(
        [by_name[name] for name in plan.names],
        reference,
        known,
        retraining_check.flops(chosen, _vocabulary(plan), _ignored(plan)),
        name=first.name,
        unit=first.unit,
        direction=first.direction,
        ids=[a.id for a in chosen],
        labels=[labels[a.id] for a in chosen],
        chosen=f"Chosen across the range of sizes and estimates, seed {seed}.",
    )


def _at(record: Mapping[str, Any], share: float) -> float:
    return next((float(v) for s, v in record.get("rungs", ()) if abs(s - share) < 1e-9), math.nan)


def _mean_seconds(found: Sequence[Mapping[str, object]]) -> float:
    known = [
        s for s in (retraining_check.seconds_of(r) for r in found if r.get("value") is not None) if math.isfinite(s)
    ]
    return sum(known) / len(known) if known else math.nan
