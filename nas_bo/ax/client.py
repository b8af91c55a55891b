"""A plain Ax client that is ready to run, and Ax's SQL storage. Imports ax inside functions."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, TypedDict, Unpack

from nas_bo.architecture import Architecture
from nas_bo.ax.experiment import generation, register
from nas_bo.ax.lowering import constraints, parameters
from nas_bo.errors import HostError, MissingExtra
from nas_bo.execution import preflight
from nas_bo.objective import Objective, Predicting, Reported
from nas_bo.problem import Problem, column
from nas_bo.settings import settings_of, takes
from nas_bo.space import Space
from nas_bo.spelling import other_name, spelled
from nas_bo.validated import is_number
from nas_bo.wording import plural

if TYPE_CHECKING:
    from ax.api.client import Client
    from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig, StorageConfig
    from ax.generation_strategy.generation_strategy import GenerationStrategy

    from nas_bo.execution.executor import Executor
    from nas_bo.strategies import Strategy

Wanted = str | Objective | Callable[[Architecture], float]


class ClientOptions(TypedDict, total=False):
    """What `client` takes by name, see there."""

    limits: Sequence[Objective | Callable[[Architecture], float]]
    thresholds: Mapping[str, float] | None
    strategy: Strategy | GenerationStrategy | None
    more: Sequence[RangeParameterConfig | ChoiceParameterConfig]
    name: str | None
    workers: int
    executor: Executor | None
    timeout: float | None
    seed: int
    storage: StorageConfig | str | os.PathLike[str] | None


@dataclass(frozen=True)
class ClientSettings:
    """What `client` was asked for; its fields are described there."""

    limits: Sequence[Objective | Callable[[Architecture], float]] = ()
    thresholds: Mapping[str, float] | None = None
    strategy: Strategy | GenerationStrategy | None = None
    more: Sequence[RangeParameterConfig | ChoiceParameterConfig] = ()
    name: str | None = None
    workers: int = 1
    executor: Executor | None = None
    timeout: float | None = None
    seed: int = 0
    storage: StorageConfig | str | os.PathLike[str] | None = None


@takes(ClientSettings)
def client(space: type[Space], objectives: Sequence[Wanted], **options: Unpack[ClientOptions]) -> Client:
    """An Ax client with the space, the objectives, the limits and a strategy configured: no wrapper around it.

    ::

        client = nas_ax.client(TinyGPT, [ValidationLoss(tokens=20_000), Parameters(at_most=1e6)])
        client.run_trials(max_trials=20)                      # evaluated by our objectives
        client.get_pareto_frontier(use_model_predictions=False)   # what was observed

    Or evaluate yourself: ``get_next_trials``, `architecture`, ``complete_trial``, with names for what you complete.

    Args:
        objectives: what is minimised, or maximised where an objective says so; a name is an objective that you report.
            Their ``at_most`` and ``at_least`` are obeyed; those of analytic ones exactly, before anything is spent.
        limits: objectives that are only kept within their bounds. Analytic ones cost no metric.
        thresholds: by objective, the worst value that is of interest: what Ax measures its front from. Either all
            objectives have a threshold or a bound, or none has one but for bounds of analytic objectives: with some
            missing, ``get_pareto_frontier`` of Ax 1.3 is always empty.
        strategy: any of nas_bo, by default `Bayes`; or a generation strategy of Ax, such as `modular_botorch` gives.
        more: further parameters, as Ax's configurations; searched with the space.
        name: of the experiment; by default the space's.
        workers: processes of ``run_trials``; see `nas_bo.ax.Runner`. It needs objectives that can be evaluated.
        executor: where ``run_trials`` evaluates instead, such as ``Ray("auto")``; see `nas_bo.ax.Runner`.
        timeout: seconds that one evaluation of ``run_trials`` may take; see `nas_bo.ax.Runner`.
        seed: of the default strategy.
        storage: where Ax keeps it: a database URL or the path of an SQLite file, or what `storage` makes of one.

    Raises:
        HostError: Ax cannot hold the space, an objective or its name.
        ObjectiveError: as `Problem`.
        MissingExtra: ax-platform is not installed.
    """
    register()
    from ax.api.client import Client
    from ax.generation_strategy.generation_strategy import GenerationStrategy

    from nas_bo.ax.evaluate import Metric, Runner
    from nas_bo.ax.problem import metrics_of

    settings = settings_of(ClientSettings, "client", options)
    strategy, workers, timeout, name = (
        settings.strategy,
        settings.workers,
        settings.timeout,
        settings.name or space.title,
    )
    if isinstance(objectives, str):
        raise HostError(f"client(objectives={objectives!r}): it must be a list, even when there is only one")
    problem = Problem(space, [Reported(o) if isinstance(o, str) else o for o in objectives], settings.limits)
    preflight.check(problem, "client")
    modelled = [limit for limit in problem.limits if limit.cost != "analytic"]
    place = settings.storage
    made = Client(storage_config=storage(place) if isinstance(place, (str, os.PathLike)) else place)
    try:
        made.configure_experiment(
            name=name, parameters=[*parameters(space), *settings.more], parameter_constraints=constraints(space)
        )
    except ValueError as error:
        if "already exists" not in str(error):
            raise
        raise HostError(
            f"the storage has an experiment {name!r} already, which is left as it is; give client(name=...) another "
            "name, or continue with that one by Client.load_from_database(name, storage_config=nas_ax.storage(url))"
        ) from error
    ours = not isinstance(strategy, GenerationStrategy)
    told = ", ".join(("-" if o.direction == "minimize" else "") + o.name for o in problem.objectives)
    names = [o.name for o in problem.objectives] + [o.name for o in modelled]
    bounds = [
        *_thresholds(problem, {spelled(n, names): v for n, v in (settings.thresholds or {}).items()}, ours),
        *(b for o in modelled for b in _bounds(o)),
    ]
    try:
        made.configure_optimization(objective=told, outcome_constraints=bounds)
        understood = metrics_of(made._experiment)
    except Exception as error:
        understood = [str(error).splitlines()[0]]
    if understood != sorted(names):
        raise HostError(
            f"Ax reads objectives and limits as an expression, and in {told!r} with the constraints {bounds} it does not find "
            f"{', '.join(sorted(names))} but {', '.join(understood)}; names with spaces or signs, and some words of mathematics, "
            "need another name"
        )
    known = [o for o in (*problem.objectives, *problem.limits) if _is_known(o)]
    if not ours:
        made.set_generation_strategy(strategy)
    else:
        if strategy is None:
            from nas_bo.strategies import Bayes

            strategy = Bayes(seed=settings.seed)
        made.set_generation_strategy(generation(space, strategy, known))
    every = [*problem.objectives, *problem.limits]
    if not any(isinstance(o, Reported) for o in every):
        made.configure_runner(Runner(problem, workers, timeout, settings.executor))
        made.configure_metrics([Metric(o.name) for o in (*problem.objectives, *modelled)])
    elif workers != 1 or timeout is not None or settings.executor is not None:
        given = f"workers={workers}" if workers != 1 else "executor=..." if timeout is None else f"timeout={timeout}"
        raise HostError(f"client({given}): objectives that you report are not evaluated by run_trials")
    _refuse_other_names(made)
    return made


def _refuse_other_names(made: Client) -> None:
    """Let ``attach_data``, and so ``complete_trial``, refuse the other name of the loss, which Ax would take for a further metric."""
    from nas_bo.ax.problem import metrics_of

    real = made.attach_data

    @wraps(real)
    def attach_data(trial_index: int, raw_data: Mapping[str, object], progression: int | None = None) -> None:
        known = {*metrics_of(made._experiment), *made._experiment.metrics}
        for name in raw_data:
            if name not in known and spelled(name, known) != name and spelled(name, known) not in raw_data:
                raise HostError(other_name(trial_index, name, spelled(name, known)))
        real(trial_index, raw_data, progression)

    vars(made)["attach_data"] = attach_data


def _bounds(objective: Objective) -> list[str]:
    """Its limits in Ax's language."""
    return [f"{objective.name} {'<=' if s > 0 else '>='} {bound!r}" for s, bound in column(objective).limits().values()]


def _thresholds(problem: Problem, given: dict[str, float], ours: bool) -> list[str]:
    """The outcome constraints on objectives, which Ax takes for thresholds of the front: one for each or none at all.

    Ax 1.3 compares with NaN where one has none, so its front is empty (``pareto_frontier_evaluator``). Without
    thresholds it infers them. `ours`: a strategy of nas_bo generates, which obeys analytic objectives by itself.
    """
    names = [o.name for o in problem.objectives]
    strange = [name for name in given if name not in names]
    if strange:
        raise HostError(f"client(thresholds=...): {strange[0]!r} is not an objective; there are {', '.join(names)}")
    for name, value in given.items():
        if not is_number(value):
            raise HostError(f"client(thresholds=...): {name!r} has {value!r}; it must be a finite number")
    found: dict[str, str] = {}
    needed = bool(given)
    for objective in problem.objectives:
        limits = column(objective).limits()
        needed = needed or bool(limits and not (ours and objective.cost == "analytic"))
        sign = 1.0 if objective.direction == "minimize" else -1.0
        facing = [bound for s, bound in limits.values() if s == sign]
        if len(facing) < len(limits) and not (ours and objective.cost == "analytic"):
            raise HostError(
                f"the objective {objective.name!r} has a bound on the side of its good values, and Ax has no such thresholds; "
                "give that bound to an objective of another name in limits=[...]"
            )
        if objective.name in given:
            facing = [*facing, given[objective.name]]
        if facing:
            found[objective.name] = (
                f"{objective.name} {'<=' if sign > 0 else '>='} {sign * min(sign * b for b in facing)!r}"
            )
    missing = [name for name in names if name not in found]
    if not needed or (not missing and len(names) > 1):
        return [] if missing or len(names) == 1 else list(found.values())
    if len(names) == 1:
        raise HostError(
            f"Ax takes neither a bound nor a threshold on its only objective {names[0]!r}; leave it out, or give the bound to an "
            "objective of another name in limits=[...]"
        )
    raise HostError(
        f"Ax needs a threshold for every objective or for none, otherwise its Pareto front stays empty; {', '.join(missing)} "
        f"{plural(len(missing), 'has', 'have')} none: add thresholds={{{missing[0]!r}: the worst value that is of interest}}"
    )


def storage(url: str | os.PathLike[str]) -> StorageConfig:
    """Ax's SQL storage, with the tables that it needs, for `client` and ``Client.load_from_database``.

    `url` may be the path of an SQLite file. Ax's own decoder cannot read experiments back in which parameters depend on booleans or numbers, as those of our
    spaces do; this one can. Whoever loads a client of nas_bo must use it.

    Raises:
        HostError: the database cannot be opened.
        MissingExtra: ax-platform, or the sqlalchemy and tabulate that its storage needs, is not installed.
    """
    register()
    try:
        import sqlalchemy  # noqa: F401
        import tabulate  # noqa: F401
    except ImportError as error:
        raise MissingExtra(str(error.name), "ax") from None
    from nas_bo.ax.database import config

    return config(os.fspath(url))


def _is_known(objective: Objective) -> bool:
    """Whether a strategy can have it without a trial."""
    return objective.cost == "analytic" or isinstance(objective, Predicting)
