"""Our side of a running Ax experiment: who generates, and what became of a trial. Imports ax inside functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from nas_bo.architecture import Architecture
from nas_bo.errors import HostError, MissingExtra
from nas_bo.objective import Objective
from nas_bo.space import Space
from nas_bo.spelling import spelled
from nas_bo.study import attributes
from nas_bo.trial import State, Trial
from nas_bo.validated import check_values, whole_number

if TYPE_CHECKING:
    from ax.api.client import Client
    from ax.generation_strategy.generation_strategy import GenerationStrategy

    from nas_bo.strategies.strategy import Strategy


def generation(
    space: type[Space] | None,
    strategy: Strategy,
    objectives: Sequence[Objective | Callable[[Architecture], float]] = (),
) -> GenerationStrategy:
    """A strategy for ``Client.set_generation_strategy``, also in the middle of an experiment that already has trials.

    With a `space` the experiment has the parameters of `parameters`, and may have others of yours, which are searched
    together with them. Without one, all parameters of the experiment are searched, whatever they are: ranges, choices,
    hierarchies; parameter constraints are obeyed, derived and fixed parameters filled in.

    Names, directions and limits of the objectives are those of the experiment (``configure_optimization``; thresholds
    and outcome constraints are limits), values are those of its trials. Completed and early-stopped trials with all
    metrics count as complete, abandoned ones as infeasible, the others with a result as failed; what runs is pending.
    ``get_next_trials(fixed_parameters=...)`` is obeyed, and with a conditional parameter also what it depends on. The
    search is a function of the strategy's seed and of the trials; ``Client(random_seed=...)`` plays no part in it.

    A client with this strategy can be saved as JSON where space, strategy (a dataclass) and objectives are defined at
    the top level of a module. A process that loads such a file calls `register` first.

    Args:
        objectives: those objectives, by the name of their metric, that can be computed (``cost="analytic"``) or
            predicted; strategies then need no trial to know them. One that is not a metric of the experiment but has a
            limit (``Parameters(at_most=1e6)``) keeps candidates within that limit.

    Raises:
        HostError: the space cannot be lowered to Ax (as `parameters`), or objectives without a space. While
            generating: the experiment does not fit, or fixed parameters exclude each other.
        SearchError: while generating: nothing is left to suggest.
        MissingExtra: ax-platform is not installed.
    """
    register()
    from ax.generation_strategy.generation_strategy import GenerationStrategy

    from nas_bo.ax.node import NAME, NasBoNode
    from nas_bo.strategies.strategy import Strategy

    if isinstance(strategy, type) or not isinstance(strategy, Strategy):
        raise HostError(
            f"{strategy!r} is not a strategy: it has no suggest(problem, trials, n); pass for example NSGA2(seed=0)"
        )
    _check_space(space, objectives)
    return GenerationStrategy(name=NAME, nodes=[NasBoNode(space, strategy, objectives)])


def modular_botorch(
    space: type[Space] | None,
    objectives: Sequence[Objective | Callable[[Architecture], float]] = (),
    *,
    startup: int = 10,
    seed: int = 0,
) -> GenerationStrategy:
    """Ax's own Modular BoTorch with settings for architecture spaces, after our start-up design.

    Ax's model and acquisition as they are, with 4 restarts and 128 raw samples in the search for a candidate instead of
    20 and 1024: on HW-GPT-Bench (gpt-s, two objectives, 10 to 14 trials, depth-conditional) 3 CPU s per candidate instead
    of 11; fitting its models is most of the rest. BoTorch's hierarchical kernel costs far more. `generation` with `Bayes`
    costs a tenth and is the better choice where nothing else of Ax's generator is needed.

    Ax knows the linear rules of the space only (`constraints`): with others, check ``space.contains(architecture(space,
    params))`` and abandon trials that are not contained. Where its candidate is a repetition, which happens in small
    conditional spaces, Ax takes a Sobol point instead. Give thresholds in ``outcome_constraints``: without them Ax
    guesses the reference point.

    Args:
        space, objectives: as in `generation`; they serve the design, Ax's model knows values only.
        startup: how many trials the design has, at least 2.
        seed: the seed of the design; of Ax's generator it is ``Client(random_seed=...)``.

    Raises:
        HostError: as `generation`, or a `startup` below 2.
        SearchError: a seed that is not a whole number.
        MissingExtra: ax-platform is not installed.
    """
    register()
    from nas_bo.ax.mbm import build

    least = whole_number(2).advise("a model needs that many trials")
    check_values("modular_botorch", HostError, least, startup=startup)
    _check_space(space, objectives)
    return build(space, objectives, startup, seed)


def _check_space(space: object, objectives: Sequence[object]) -> None:
    if space is not None and not (isinstance(space, type) and issubclass(space, Space)):
        raise HostError(f"{space!r} is not a space; pass a class that derives from nas_bo.Space, or None")
    if space is None and objectives:
        raise HostError("objectives=[...] are functions of architectures: name their space as well")


def register() -> None:
    """Teach Ax to read JSON files of clients that use `generation`; call it before ``Client.load_from_json_file``.

    Raises:
        MissingExtra: ax-platform is not installed.
    """
    try:
        import ax  # noqa: F401
    except ImportError:
        raise MissingExtra("ax-platform", "ax") from None
    import nas_bo.ax.evaluate
    import nas_bo.ax.node  # noqa: F401


def tell(client: Client, trial_index: int, trial: Trial) -> None:
    """Tell the client what became of an evaluation.

    ======================  ======================================================================================
    state of `trial`        what the client gets
    ======================  ======================================================================================
    COMPLETE                ``complete_trial`` with the values as floats
    INFEASIBLE              the same where every metric of the experiment has a value; otherwise the values there
                            are, and ``mark_trial_abandoned``: Ax suggests it no more
    FAILED                  ``mark_trial_failed`` with the reason: Ax may suggest it again, our strategies do not
    ======================  ======================================================================================

    Reason, seconds and how the numbers were obtained are kept in the trial's run metadata.

    Raises:
        HostError: the trial is still running, has no such index, lacks a metric, or has a value that is not finite.
        MissingExtra: ax-platform is not installed.
    """
    register()
    from nas_bo.ax.problem import metrics_of

    experiment = client._experiment
    if trial_index not in experiment.trials:
        raise HostError(
            f"the Ax experiment has no trial {trial_index}; it has {len(experiment.trials)}, counted from 0"
        )
    if trial.state is State.RUNNING:
        raise HostError(
            f"trial {trial_index} is still running; tell the client when it is complete, infeasible or failed"
        )
    wanted = metrics_of(experiment)
    raw_data = {spelled(name, wanted): float(value) for name, value in trial.values.items()}
    strange = [name for name, value in raw_data.items() if not math.isfinite(value)]
    if strange and trial.state is not State.FAILED:
        raise HostError(
            f"trial {trial_index}: {strange[0]} is {raw_data[strange[0]]}, and Ax's models cannot use it; tell it "
            "as State.FAILED"
        )
    missing = [name for name in wanted if name not in raw_data]
    if missing and trial.state is State.COMPLETE:
        raise HostError(
            f"trial {trial_index} is complete but has no value of {missing[0]!r}, which the Ax experiment wants; "
            "evaluate that "
            "objective as well, or give both the same name"
        )
    experiment.trials[trial_index].update_run_metadata(attributes(trial))
    if trial.state is State.FAILED:
        client.mark_trial_failed(trial_index, failed_reason=trial.reason or None)
    elif not missing:
        client.complete_trial(trial_index, raw_data=raw_data)
    else:
        if raw_data:
            client.attach_data(trial_index, raw_data=raw_data)
        client.mark_trial_abandoned(trial_index)
