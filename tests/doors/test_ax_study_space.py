"""Ax experiments as spaces: parameters that are not ours, fixed parameters, and what cannot be had."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Sequence
from typing import Any

import pytest

pytest.importorskip("ax")

from ax.api.client import Client
from ax.api.configs import ChoiceParameterConfig, DerivedParameterConfig, RangeParameterConfig
from ax.core.parameter import ChoiceParameter, FixedParameter, ParameterType, RangeParameter
from ax.core.parameter_constraint import ParameterConstraint
from ax.core.search_space import SearchSpace

from nas_bo import ax as nas_ax
from nas_bo.architecture import Architecture
from nas_bo.ax.inferred.study_space import view
from nas_bo.errors import HostError, SearchError
from nas_bo.problem import Problem
from nas_bo.space import Space, choice, integer, option, repeat, require
from nas_bo.strategies import NSGA2, Bayes, Random
from nas_bo.trial import Trial

logging.getLogger("ax").setLevel(logging.ERROR)
warnings.filterwarnings("ignore")

MORE = [
    RangeParameterConfig("lr", (1e-5, 1e-1), "float", scaling="log"),
    RangeParameterConfig("batch", (1, 16), "int"),
    ChoiceParameterConfig("opt.kind", ["sgd", "adam"], "str", dependent_parameters={"sgd": ["opt.momentum"]}),
    RangeParameterConfig("opt.momentum", (0.0, 0.9), "float"),
    DerivedParameterConfig("tokens", "128 * batch", "int"),
]


class Small(Space):
    width = choice(1, 2, 4)
    act = choice("a", "b")


class Deep(Space):
    n = integer(1, 4)
    width = integer(1, 8)
    layers = repeat(n, mixer=choice(option("attention", heads=choice(1, 2, 4)), "skip"))

    @require
    def slim(arch: Architecture) -> bool:
        return arch.width * len(arch.layers) <= 16


class Weights:
    name, unit, direction, cost, at_most = "weights", "", "minimize", "analytic", 12.0

    def __call__(self, arch: Architecture) -> float:
        assert set(arch.tree) == {"n", "width", "layers"}, "objectives of the user know the user's space only"
        return float(arch.width * len(arch.layers))


class Spy:
    """Suggests as `Bayes` does and records what it was told."""

    seed = 0

    def suggest(self, problem: Problem, trials: Sequence[Trial], n: int) -> list[Architecture]:
        self.problem, self.trials = problem, list(trials)
        return Bayes(startup=6, candidates=300).suggest(problem, trials, n)


def a_client(parameters: Sequence[Any], constraints: Sequence[str] = (), objective: str = "-loss") -> Client:
    client = Client(random_seed=0)
    client.configure_experiment(parameters=list(parameters), parameter_constraints=list(constraints))
    client.configure_optimization(objective=objective)
    return client


def ask(client: Client, trials: int, loss: Any = lambda p: 1.0, **kwargs: Any) -> list[dict[str, Any]]:
    found = []
    for _ in range(trials):
        ((index, params),) = client.get_next_trials(1, **kwargs).items()
        assert client._experiment.search_space.check_membership(params)
        client.complete_trial(index, {"loss": loss(params)})
        found.append(params)
    runs = [run for trial in client._experiment.trials.values() for run in trial.generator_runs]
    assert {run._generator_key for run in runs} == {"nas_bo"}
    return found


# ---- an experiment without a space of ours ----------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [Random(), NSGA2(startup=4), Bayes(startup=4, candidates=60)])
def test_any_ax_experiment_can_be_searched(strategy: Any) -> None:
    found = []
    for _ in range(2):
        client = a_client(
            [*MORE, RangeParameterConfig("class", (0, 3), "int"), RangeParameterConfig("size", (0, 3), "int")],
            ["batch + size <= 12"],
        )
        client.set_generation_strategy(nas_ax.generation(None, strategy))
        found.append(ask(client, 14, lambda p: abs(math.log10(p["lr"]) + 3) + p["batch"] / 16))
    assert found[0] == found[1]
    assert all(p["tokens"] == 128 * p["batch"] and p["batch"] + p["size"] <= 12 for p in found[0])
    assert all(("opt.momentum" in p) == (p["opt.kind"] == "sgd") for p in found[0])
    assert {p["opt.kind"] for p in found[0]} == {"sgd", "adam"}
    assert len({p["lr"] for p in found[0]}) > 4


def test_what_an_experiment_looks_like_as_a_space() -> None:
    client = a_client([*MORE, *nas_ax.parameters(Deep)], ["batch + width <= 12"])
    seen = view(client._experiment.search_space, None)
    domains = seen.space.domains()
    assert {"lr", "batch", "opt_kind", "opt_momentum", "n_above_1", "layers_3_mixer"} <= set(domains)
    assert seen.space.decisions()["opt_momentum"].parent == "opt_kind" and "tokens" not in domains
    assert domains["lr"].log and domains["batch"].size == 16
    assert [rule.name for rule in seen.space.rules()] == ["ax_constraint_0"]
    for seed in range(50):
        arch = seen.space.sample(seed)
        params = seen.params(arch)
        assert client._experiment.search_space.check_membership(params, raise_error=True)
        assert seen.architecture(params).id == arch.id
        assert nas_ax.params(Deep, nas_ax.architecture(Deep, params)).items() <= params.items()


def test_single_values_disabled_parameters_and_two_names_that_look_alike() -> None:
    disabled = RangeParameter("off", ParameterType.FLOAT, 0.0, 1.0)
    disabled.disable(0.25)
    space = SearchSpace(
        [
            FixedParameter("kind", ParameterType.STRING, "x", dependents={"x": ["a.b"]}),
            RangeParameter("a.b", ParameterType.INT, 1, 4),
            ChoiceParameter("a_b", ParameterType.FLOAT, [0.5, 0.1, 0.3], is_ordered=False, sort_values=False),
            disabled,
        ]
    )
    seen = view(space, None)
    assert set(seen.space.domains()) == {"a_b", "a_b_2"} and seen.space.size() == 12
    params = [seen.params(arch) for arch in seen.space.enumerate()]
    assert len({tuple(p.items()) for p in params}) == 12
    assert all(p["kind"] == "x" and p["off"] == 0.25 and space.check_membership(p) for p in params)
    with pytest.raises(HostError, match="nothing to decide"):
        view(SearchSpace([FixedParameter("kind", ParameterType.STRING, "x")]), None)


def test_what_no_space_can_say_is_refused() -> None:
    def spaces(constraint: str) -> SearchSpace:
        return a_client(MORE, [constraint])._experiment.search_space

    with pytest.raises(HostError, match="does not always exist"):
        view(spaces("opt.momentum + batch <= 3"), None)
    reals = [RangeParameter(name, ParameterType.FLOAT, 0.0, 1.0) for name in ("x", "y")]
    with pytest.raises(HostError, match="derived parameter"):
        view(SearchSpace(reals, parameter_constraints=[ParameterConstraint(equality="x + y == 1")]), None)
    nested = [
        ChoiceParameterConfig("family", ["gpt", "rnn"], "str", dependent_parameters={"gpt": ["width", "act"]}),
        *nas_ax.parameters(Small),
    ]
    client = a_client(nested)
    with pytest.raises(HostError, match="'act' of Small depends on another parameter"):
        view(client._experiment.search_space, Small)
    client.set_generation_strategy(nas_ax.generation(None, NSGA2(startup=3)))
    assert any("width" not in p for p in ask(client, 6))


# ---- parameters beside ours -------------------------------------------------------------------------------------


def test_parameters_beside_ours_are_searched_with_them() -> None:
    client = a_client([*nas_ax.parameters(Deep), *MORE], ["batch + width <= 12"])
    spy = Spy()
    client.set_generation_strategy(nas_ax.generation(Deep, spy, [Weights()]))
    found = ask(client, 30, lambda p: abs(math.log10(p["lr"]) + 3))
    names = {"n", "width", "layers", "lr", "batch", "opt_kind"}
    assert names <= set(spy.trials[-1].architecture.tree) and set(spy.problem.space.domains()) >= names - {"layers"}
    assert {"rule:slim", "rule:ax_constraint_0", "weights<=12"} <= set(spy.problem.constraint_names)
    assert all(p["batch"] + p["width"] <= 12 and p["tokens"] == 128 * p["batch"] for p in found)
    assert all(Weights()(nas_ax.architecture(Deep, p)) <= 12 for p in found)
    early, late = ([abs(math.log10(p["lr"]) + 3) for p in part] for part in (found[:10], found[20:]))
    assert sum(late) < 0.4 * sum(early)


def test_a_parameter_of_the_user_may_depend_on_one_of_ours() -> None:
    ours = nas_ax.parameters(Small)
    act = ChoiceParameterConfig("act", ["a", "b"], "str", dependent_parameters={"b": ["slope"]})
    client = a_client([*(c for c in ours if c.name != "act"), act, RangeParameterConfig("slope", (0.0, 1.0), "float")])
    client.set_generation_strategy(nas_ax.generation(Small, NSGA2(startup=3)))
    found = ask(client, 12)
    assert {p["act"] for p in found} == {"a", "b"} and all(("slope" in p) == (p["act"] == "b") for p in found)

    deep = nas_ax.parameters(Deep)
    gate = deep[0]
    assert gate.name == "n.above_1"
    more = dict(gate.dependent_parameters or {})
    more[False] = ["x"]
    deep[0] = ChoiceParameterConfig(gate.name, [False, True], "bool", True, more)
    client = a_client([*deep, RangeParameterConfig("x", (0.0, 1.0), "float")])
    with pytest.raises(HostError, match="'x' depends on 'n.above_1'"):
        view(client._experiment.search_space, Deep)


# ---- fixed parameters -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "strategy",
    [
        pytest.param(Random(), marks=pytest.mark.slow),
        NSGA2(startup=4),
        pytest.param(Bayes(startup=4, candidates=60), marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    ("fixed", "holds"),
    [
        ({"width": 3}, lambda a: a.width == 3),
        ({"width": 2, "lr": 1e-3, "opt.momentum": 0.5}, lambda a: a.width == 2),
        ({"n.above_2": True}, lambda a: a.n >= 3),
        ({"layers.2.mixer": "attention"}, lambda a: a.layers[2].mixer.kind == "attention"),
        ({"layers.1.mixer.attention.heads": 4, "n.above_2": False}, lambda a: a.n == 2 and a.layers[1].mixer.heads == 4),
    ],
)  # fmt: skip
def test_fixed_parameters_are_obeyed(strategy: Any, fixed: dict[str, Any], holds: Any) -> None:
    client = a_client([*nas_ax.parameters(Deep), *MORE], ["batch + width <= 12"])
    client.set_generation_strategy(nas_ax.generation(Deep, strategy))
    ask(client, 5, lambda p: p["lr"])
    found = ask(client, 4, lambda p: p["lr"], fixed_parameters=fixed)
    for params in found:
        assert fixed.items() <= params.items()
        arch = nas_ax.architecture(Deep, params)
        assert holds(arch) and Deep.contains(arch)
    assert len({str(p) for p in found}) == 4


def test_fixed_parameters_that_cannot_be_obeyed() -> None:
    client = a_client([*nas_ax.parameters(Deep), *MORE])
    client.set_generation_strategy(nas_ax.generation(Deep, NSGA2()))
    for fixed, word in [
        ({"depth": 3}, "no such parameter"),
        ({"width": 9}, "width"),
        ({"width": None}, "width"),
        ({"opt.kind": "lion"}, "lion"),
        ({"opt.kind": "adam", "opt.momentum": 0.5}, "cannot hold together"),
        ({"n.above_1": False, "layers.3.mixer": "skip"}, "cannot hold together"),
        ({"n.above_1": "yes"}, "yes"),
        ({"tokens": 256}, "derived"),
    ]:
        with pytest.raises(HostError, match=word):
            client.get_next_trials(1, fixed_parameters=fixed)
    client = a_client(nas_ax.parameters(Deep))
    client.set_generation_strategy(nas_ax.generation(Deep, NSGA2()))
    with pytest.raises(SearchError, match=r"nothing is left.*'width': 8"):  # the rule slim forbids it
        client.get_next_trials(1, fixed_parameters={"width": 8, "n.above_3": True})
    client = a_client(nas_ax.parameters(Small))
    client.set_generation_strategy(nas_ax.generation(Small, NSGA2()))
    assert {p["act"] for p in ask(client, 2, fixed_parameters={"width": 4})} == {"a", "b"}
    with pytest.raises(SearchError, match="'width': 4"):
        client.get_next_trials(1, fixed_parameters={"width": 4})
    ask(client, 4)


def test_a_strategy_of_the_users_own_is_held_to_what_is_fixed() -> None:
    class Own:
        def suggest(self, problem: Problem, trials: Sequence[Trial], n: int) -> list[Architecture]:
            return [Deep.sample(i) for i in range(len(trials), len(trials) + n)]

    client = a_client(nas_ax.parameters(Deep))
    client.set_generation_strategy(nas_ax.generation(Deep, Own()))
    assert all(p["width"] == 3 for p in ask(client, 5, fixed_parameters={"width": 3}))
