"""Ax's own Modular BoTorch generator with settings for architecture spaces. Imports ax: loaded on first use only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ax.adapter.registry import Generators
from ax.core.experiment_status import ExperimentStatus
from ax.core.trial_status import TrialStatus
from ax.generation_strategy.dispatch_utils import get_derelativize_config
from ax.generation_strategy.generation_node import GenerationNode
from ax.generation_strategy.generation_strategy import GenerationStrategy
from ax.generation_strategy.generator_spec import GeneratorSpec
from ax.generation_strategy.transition_criterion import MinTrials

from nas_bo.architecture import Architecture
from nas_bo.ax.node import NasBoNode
from nas_bo.objective import Objective
from nas_bo.space import Space
from nas_bo.strategies import Bayes

RESTARTS, RAW_SAMPLES = 4, 128  # of the search for the best candidate; Ax has 20 and 1024
NAME = "MBM"


def build(
    space: type[Space] | None,
    objectives: Sequence[Objective | Callable[[Architecture], float]],
    startup: int,
    seed: int,
) -> GenerationStrategy:
    """See `nas_bo.ax.modular_botorch`."""
    enough = [
        MinTrials(
            threshold=startup,
            transition_to=NAME,
            use_all_trials_in_exp=True,
            not_in_statuses=[TrialStatus.FAILED, TrialStatus.ABANDONED],
        ),
        MinTrials(
            threshold=max(2, startup // 2),
            transition_to=NAME,
            use_all_trials_in_exp=True,
            only_in_statuses=[TrialStatus.COMPLETED],
            count_only_trials_with_data=True,
        ),
    ]
    first = NasBoNode(space, Bayes(seed=seed, startup=startup), objectives, transition_criteria=enough)
    return GenerationStrategy(name=f"nas_bo+{NAME}", nodes=[first, botorch_node()])


def botorch_node() -> GenerationNode:
    """Ax's defaults but for a shorter search for the candidate.

    Nothing is claimed about the acquisition function itself: while no trial is feasible Ax takes another one, which does
    not know the same options.
    """
    spec = GeneratorSpec(
        generator_enum=Generators.BOTORCH_MODULAR,
        generator_kwargs={"transform_configs": get_derelativize_config(derelativize_with_raw_status_quo=True)},
        generator_gen_kwargs={
            "model_gen_options": {"optimizer_kwargs": {"num_restarts": RESTARTS, "raw_samples": RAW_SAMPLES}}
        },
    )
    return GenerationNode(
        name=NAME,
        generator_specs=[spec],
        should_deduplicate=True,
        suggested_experiment_status=ExperimentStatus.OPTIMIZATION,
    )
