"""A saved Ax client goes on as if it had never stopped, with every strategy, in another process."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ax")

from ax.api.client import Client
from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

from nas_bo import ax as nas_ax
from nas_bo.errors import HostError, SearchError
from nas_bo.space import Space, choice, integer, option, repeat
from nas_bo.strategies import NSGA2, Bayes, LocalSearch, Random, RegularizedEvolution, Reinforce, Successive
from tests.processes import python

logging.getLogger("ax").setLevel(logging.ERROR)
warnings.filterwarnings("ignore")


class Deep(Space):
    n = integer(1, 4)
    width = integer(1, 8)
    layers = repeat(n, mixer=choice(option("attention", heads=choice(1, 2, 4)), "skip"))


STRATEGIES = {
    "random": Random(seed=1),
    "nsga2": NSGA2(seed=1, population=4, startup=4),
    "bayes": Bayes(seed=1, startup=4, candidates=60),
    "evolution": RegularizedEvolution(seed=1),
    "local": LocalSearch(seed=1),
    "reinforce": Reinforce(seed=1),
    "successive": Successive((Random(seed=1), 4), (NSGA2(seed=2), 3), LocalSearch(seed=3)),
}
MORE = [
    RangeParameterConfig("lr", (1e-5, 1e-1), "float", scaling="log"),
    ChoiceParameterConfig("opt", ["sgd", "adam"], "str", dependent_parameters={"sgd": ["momentum"]}),
    RangeParameterConfig("momentum", (0.0, 0.9), "float"),
]
GO_ON = """
import json, logging, sys, warnings
logging.disable(50); warnings.filterwarnings("ignore")
from ax.api.client import Client
from nas_bo import ax as nas_ax
nas_ax.register()
def ask(path):
    client = Client.load_from_json_file(path)
    return [params for _ in range(2) for params in client.get_next_trials(1).values()]
print(json.dumps([ask(path) for path in sys.argv[1:]]))
"""


def a_client(strategy: Any) -> Client:
    client = Client(random_seed=0)
    client.configure_experiment(parameters=[*nas_ax.parameters(Deep), *MORE])
    client.configure_optimization(objective="-loss, -cost", outcome_constraints=["cost <= 24"])
    client.set_generation_strategy(strategy)
    for i in range(6):
        ((index, params),) = client.get_next_trials(1).items()
        arch = nas_ax.architecture(Deep, params)
        if i == 3:
            client.mark_trial_failed(index)
        else:
            loss = 8.0 - arch.width + params["lr"] * sum(layer.mixer == "skip" for layer in arch.layers)
            client.complete_trial(index, {"loss": loss, "cost": float(arch.width * arch.n)})
    return client


DAILY = ("nsga2", "bayes")  # the others are saved and read by the same code


@pytest.mark.parametrize("names", [DAILY, pytest.param([*STRATEGIES], marks=pytest.mark.slow)], ids=["daily", "all"])
def test_every_strategy_goes_on_identically_in_another_process(tmp_path: Path, names: Sequence[str]) -> None:
    expected: dict[str, list[Any]] = {}
    for space, name in [*((Deep, name) for name in names), (None, "nsga2")]:
        client = a_client(nas_ax.generation(space, STRATEGIES[name]))
        for pending in (0, 2):  # what is asked for after the first file is pending in the second one
            path = str(tmp_path / f"{name}-{space}-{pending}.json")
            client.save_to_json_file(path)
            expected[path] = [params for _ in range(2) for params in client.get_next_trials(1).values()]
        node = Client.load_from_json_file(path)._generation_strategy._nodes[0]
        assert (node.space, node.strategy, node.objectives) == (space, STRATEGIES[name], ())
    done = python("-c", GO_ON, *expected, check=True)
    assert dict(zip(expected, json.loads(done.stdout.splitlines()[-1]), strict=True)) == expected
    assert len({json.dumps(params) for params in expected.values()}) == len(expected)


def test_modular_botorch_begins_with_our_design_and_goes_on_after_loading(tmp_path: Path) -> None:
    client = Client(random_seed=0)
    client.configure_experiment(parameters=nas_ax.parameters(Deep))
    client.configure_optimization(objective="-loss", outcome_constraints=["cost <= 1"])
    client.set_generation_strategy(nas_ax.modular_botorch(Deep, startup=4, seed=0))
    for i in range(7):
        if i == 2:
            client.save_to_json_file(str(tmp_path / "client.json"))
            client = Client.load_from_json_file(str(tmp_path / "client.json"))
        for index, params in client.get_next_trials(1).items():
            arch = nas_ax.architecture(Deep, params)
            client.complete_trial(index, {"loss": 8.0 - arch.width, "cost": float(arch.n + 1 - i / 6)})
    runs = [run for trial in client._experiment.trials.values() for run in trial.generator_runs]
    keys = [run._generator_key for run in runs]
    assert keys[:4] == ["nas_bo"] * 4 and {*keys[4:]} - {"Fallback_Sobol"} == {"BoTorch"}, keys
    assert len({json.dumps(trial.arm.parameters) for trial in client._experiment.trials.values()}) == 7


def test_what_modular_botorch_and_generation_refuse() -> None:
    for startup in (1, 2.5, True):
        with pytest.raises(HostError, match="at least 2"):
            nas_ax.modular_botorch(Deep, startup=startup)  # type: ignore[arg-type]
    with pytest.raises(SearchError, match="seed"):
        nas_ax.modular_botorch(Deep, seed="x")  # type: ignore[arg-type]
    for space in (Deep.sample(0), "Deep", int):
        with pytest.raises(HostError, match="is not a space"):
            nas_ax.generation(space, Random())  # type: ignore[arg-type]
    with pytest.raises(HostError, match="name their space"):
        nas_ax.generation(None, Random(), [lambda arch: 1.0])
    with pytest.raises(HostError, match="not a strategy"):
        nas_ax.generation(None, Random)  # type: ignore[arg-type]


def test_an_experiment_that_is_there_is_left_as_it_is(tmp_path):
    import pytest
    from ax.api.client import Client

    from nas_bo import ax as nas_ax
    from nas_bo.errors import HostError
    from nas_bo.search_spaces import TinyGPT
    from nas_bo.strategies import Random

    path = tmp_path / "a?b.db"
    nas_ax.client(TinyGPT, ["rmse", "euros"], strategy=Random(seed=0), name="prod", storage=path)
    assert [p.name for p in tmp_path.iterdir()] == ["a?b.db"]
    with pytest.raises(HostError, match="an experiment 'prod' already"):
        nas_ax.client(TinyGPT, ["val_loss"], strategy=Random(seed=0), name="prod", storage=nas_ax.storage(path))
    there = Client.load_from_database("prod", storage_config=nas_ax.storage(path))
    assert there._experiment.optimization_config.objective.expression == "-rmse, -euros"
