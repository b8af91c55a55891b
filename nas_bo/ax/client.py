"""A plain Ax client that is ready to run, and Ax's SQL storage. Imports ax inside functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nas_bo.architecture import Architecture
from nas_bo.ax.experiment import generation, register
from nas_bo.ax.lowering import constraints, parameters
from nas_bo.errors import HostError, MissingExtra
from nas_bo.problem import Objective, Problem, Reported, column
from nas_bo.space import Space

if TYPE_CHECKING:
    from ax.api.client import Client
    from ax.api.configs import StorageConfig

Wanted = str | Objective | Callable[[Architecture], float]


def client(
    space: type[Space],
    objectives: Sequence[Wanted],
    *,
    limits: Sequence[Objective | Callable[[Architecture], float]] = (),
    strategy: Any = None,
    more: Sequence[Any] = (),
    name: str | None = None,
    workers: int = 1,
    seed: int = 0,
    storage: StorageConfig | None = None,
) -> Client:
    """An Ax client with the space, the objectives, the limits and a strategy configured: nothing of ours around it.

    ::

        client = nas_ax.client(TinyGPT, [ValidationLoss(tokens=20_000), Parameters(at_most=1e6)])
        client.run_trials(max_trials=20)                      # evaluated by our objectives
        client.get_pareto_frontier()

    Or evaluate yourself: ``get_next_trials``, `architecture`, ``complete_trial``, with names for what you complete.

    Args:
        objectives: what is minimised, or maximised where an objective says so; a name is an objective that you report.
            Their ``at_most`` and ``at_least`` become outcome constraints, and so the thresholds of the front.
        limits: objectives that are only kept within their bounds. Analytic ones cost no metric: they are obeyed exactly.
        strategy: any of ours, by default `Bayes`; or a generation strategy of Ax, such as `modular_botorch` gives.
        more: further parameters, as Ax's configurations; searched with the space.
        name: of the experiment; by default the space's.
        workers: processes of ``run_trials``; see `nas_bo.ax.Runner`. It needs objectives that can be evaluated.
        seed: of the default strategy.
        storage: where Ax keeps it, from `storage`.

    Raises:
        HostError: Ax cannot hold the space, an objective or its name.
        ObjectiveError: as `Problem`.
        MissingExtra: ax-platform is not installed.
    """
    register()
    from ax.api.client import Client
    from ax.generation_strategy.generation_strategy import GenerationStrategy

    from nas_bo.ax.evaluate import Metric, Runner

    if isinstance(objectives, str):
        raise HostError(f"client(objectives={objectives!r}): it must be a list, even when there is only one")
    problem = Problem(space, [Reported(o) if isinstance(o, str) else o for o in objectives], limits)
    modelled = [limit for limit in problem.limits if limit.cost != "analytic"]
    made = Client(storage_config=storage)
    made.configure_experiment(
        name=name or space.title, parameters=[*parameters(space), *more], parameter_constraints=constraints(space)
    )
    told = ", ".join(("-" if o.direction == "minimize" else "") + o.name for o in problem.objectives)
    bounds = [
        f"{o.name} {'<=' if sign > 0 else '>='} {bound!r}"
        for o in (*problem.objectives, *modelled)
        for sign, bound in column(o).limits().values()
    ]
    try:
        made.configure_optimization(objective=told, outcome_constraints=bounds)
    except Exception as error:
        raise HostError(
            f"Ax understands neither names with spaces or signs nor some words of mathematics as names of objectives: {told!r} "
            f"({str(error).splitlines()[0]}); give them other names"
        ) from error
    known = [o for o in (*problem.objectives, *problem.limits) if _is_known(o)]
    if isinstance(strategy, GenerationStrategy):
        made.set_generation_strategy(strategy)
    else:
        if strategy is None:
            from nas_bo.strategies import Bayes

            strategy = Bayes(seed=seed)
        made.set_generation_strategy(generation(space, strategy, known))
    every = [*problem.objectives, *problem.limits]
    if not any(isinstance(o, Reported) for o in every):
        made.configure_runner(Runner(problem, workers))
        made.configure_metrics([Metric(o.name) for o in (*problem.objectives, *modelled)])
    elif workers != 1:
        raise HostError(f"client(workers={workers}): objectives that you report are not evaluated by run_trials")
    return made


def storage(url: str) -> StorageConfig:
    """Ax's SQL storage, with the tables that it needs, for `client` and ``Client.load_from_database``.

    Ax's own decoder cannot read experiments back in which parameters depend on booleans or numbers, as those of our
    spaces do; this one can. Whoever loads a client of ours must use it.

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

    return config(url)


def _is_known(objective: Objective) -> bool:
    """Whether a strategy can be told it without a trial."""
    return objective.cost == "analytic" or getattr(objective, "predict", None) is not None


__all__ = ["client", "storage"]
