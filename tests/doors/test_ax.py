"""The door to Ax against the real Ax client: lowering and back, refusals, generation, storage, fates of trials."""

from __future__ import annotations

import json
import logging
import math
import random
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, assume, given, settings

pytest.importorskip("ax")

from ax.api.client import Client
from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

from nas_bo import ax as nas_ax
from nas_bo.architecture import Architecture
from nas_bo.errors import HostError, NasBoError, SearchError, SpaceError
from nas_bo.problem import Problem
from nas_bo.space import Space, choice, integer, option, real, repeat, require
from nas_bo.trial import State, Trial
from tests.generated_spaces import seeds, spaces
from tests.processes import python

logging.getLogger("ax").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="ax")
warnings.filterwarnings("ignore", module="linear_operator")


class Tiny(Space):
    depth = integer(1, 4)
    width = integer(1, 8)
    heads = integer(1, 4)
    eps = 1e-5
    layers = repeat(
        depth,
        mixer=choice(option("attention", groups=choice(1, 2, 4)), option("conv", kernel=choice(3, 7)), "skip"),
        mlp=choice(None, True, 2, "moe"),
    )
    slim = require("width + 2*heads <= 12")

    @require
    def not_all_skipped(arch: Architecture) -> bool:
        return any(layer.mixer != "skip" for layer in arch.layers)


class Small(Space):
    width = choice(1, 2, 4)
    act = choice("a", "b")


@dataclass(frozen=True)
class Draws:
    """The smallest strategy: random, without repeats."""

    seed: int = 0

    def suggest(self, problem: Problem, trials: Sequence[Trial], n: int) -> list[Architecture]:
        rng = random.Random(f"{self.seed}:{len(trials)}")
        seen = {t.architecture.id for t in trials}
        found: list[Architecture] = []
        for _ in range(200):
            arch = problem.space.sample(rng)
            if arch.id not in seen and problem.admissible(arch) and len(found) < n:
                seen.add(arch.id)
                found.append(arch)
        return found


@dataclass(frozen=True)
class Stubborn:
    """Breaks the contract: suggests the same for ever."""

    seed: int = 0

    def suggest(self, problem: Problem, trials: Sequence[Trial], n: int) -> list[Architecture]:
        return [problem.space.sample(self.seed)]


@dataclass(frozen=True)
class Cost:
    """A cost in closed form."""

    name: str = "cost"
    at_most: float | None = None
    unit: str = "weights"
    direction: str = "minimize"
    cost: str = "analytic"

    def __call__(self, arch: Architecture) -> float:
        return float(arch.width * len(arch.layers))


def loss_of(arch: Architecture) -> float:
    return 3.0 - math.log(1 + arch.width * sum(layer.mixer != "skip" for layer in arch.layers))


def a_client(
    space: type[Space], objective: str = "-loss, -cost", more: Sequence[object] = (), **kwargs: object
) -> Client:
    client = Client(random_seed=0)
    client.configure_experiment(
        parameters=[*nas_ax.parameters(space), *more], parameter_constraints=nas_ax.constraints(space)
    )
    client.configure_optimization(objective=objective, **kwargs)
    return client


def keys(client: Client) -> set[str]:
    """The generator keys of all trials: `Fallback_Sobol` means that Ax replaced a candidate."""
    runs = [run for trial in client._experiment.trials.values() for run in trial.generator_runs]
    return {str(run._generator_key) for run in runs}


def work(client: Client, trials: int, at_once: int = 1, space: type[Space] = Tiny) -> list[Architecture]:
    found = []
    for _ in range(0, trials, at_once):
        for index, params in client.get_next_trials(at_once).items():
            arch = nas_ax.architecture(space, params)
            assert space.contains(arch)
            found.append(arch)
            client.complete_trial(index, {"loss": loss_of(arch), "cost": Cost()(arch)})
    return found


# ---- lowering ---------------------------------------------------------------------------------------------------


@given(spaces(rules=True), seeds)
@settings(max_examples=60)
def test_round_trip_is_the_identity(space: type[Space], seed: int) -> None:
    arch = space.sample(seed)
    params = nas_ax.params(space, arch)
    again = nas_ax.architecture(space, {**params, "learning_rate": 1e-3})
    assert again.id == arch.id and list(again.flat.items()) == list(arch.flat.items())
    assert [type(v) for v in again.flat.values()] == [type(v) for v in arch.flat.values()]
    assert nas_ax.params(space, again) == params
    assert json.loads(json.dumps(params)) == params


@given(spaces(), seeds)
@settings(max_examples=30, suppress_health_check=list(HealthCheck))
def test_the_client_accepts_architectures_and_suggests_architectures(space: type[Space], seed: int) -> None:
    try:
        configs = nas_ax.parameters(space)
    except HostError as error:
        assert "nothing to decide" in str(error)
        assume(False)
    client = Client()
    client.configure_experiment(parameters=configs)
    client.configure_optimization(objective="-loss")
    for arch in {a.id: a for a in (space.sample(seed + i) for i in range(3))}.values():
        params = nas_ax.params(space, arch)
        index = client.attach_trial(dict(params))  # Ax writes values of inactive parameters into the dictionary
        assert client._experiment.trials[index].arm.parameters == params
    always = client._experiment.search_space.top_level_parameters.values()
    if (
        math.prod(p.cardinality() for p in always) > 100
    ):  # Sobol takes minutes to give up in a space that it has almost exhausted
        client.configure_generation_strategy("random_search")
        for params in client.get_next_trials(2).values():
            arch = nas_ax.architecture(space, params)
            assert space.contains(arch)
            assert nas_ax.params(space, arch) == params


def test_names_and_kinds() -> None:
    class Everything(Space):
        n = integer(1, 5, step=2)
        lr = real(1e-4, 1e-2, log=True)
        hidden = integer(1, 64, log=True)
        three = choice(3)
        ranks = choice(8, 2, 4, ordered=True)
        mixed = choice(None, "None", 1, False)
        cells = repeat(n, k=choice(3, 4, 5), fixed=choice("x"))
        tail = repeat(choice(0, 2), half=choice(1, 2.5))

    by_name = {c.name: c for c in nas_ax.parameters(Everything)}
    assert list(by_name) == [
        "n.above_1", "n.above_3", "lr", "hidden", "ranks", "mixed",
        *(f"cells.{i}.k" for i in range(5)), "tail.above_0", "tail.0.half", "tail.1.half",
    ]  # fmt: skip
    assert by_name["n.above_1"].dependent_parameters == {True: ["n.above_3", "cells.1.k", "cells.2.k"]}
    assert by_name["lr"] == RangeParameterConfig("lr", (1e-4, 1e-2), "float", None, "log")
    assert by_name["ranks"] == ChoiceParameterConfig("ranks", ["8", "2", "4"], "str", True)
    assert by_name["mixed"].values == ["None", "'None'", "1", "False"]
    assert by_name["cells.0.k"] == RangeParameterConfig("cells.0.k", (3, 5), "int")
    assert nas_ax.params(Everything, Everything.sample(1)) == nas_ax.params(Everything, Everything.sample(1).flat)


def test_architecture_and_params_refuse_what_does_not_belong() -> None:
    params = nas_ax.params(Small, Small.sample(0))
    with pytest.raises(HostError, match="no value for 'act'"):
        nas_ax.architecture(Small, {"width": 1})
    with pytest.raises(SpaceError, match="width: 3 is not one of"):
        nas_ax.architecture(Small, {**params, "width": 3})
    with pytest.raises(SpaceError):
        nas_ax.params(Small, Tiny.sample(0))
    other = Space.of("Other", width=choice(1, 2, 4), act=choice("a", "b"), bias=True)
    with pytest.raises(SpaceError, match=r"no field|constant"):
        nas_ax.params(Small, other.sample(0))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"a": choice(*range(0, 5000, 3))}, ["'a'", "1000", "integer"]),
        ({"a": integer(0, 100_000, step=2)}, ["'a'", "1000", "step"]),
        ({"a": real(1e-8, 1e-7, log=True)}, ["'a'", "small", "exponent"]),
        ({"a": 3, "b": choice("x")}, ["nothing to decide"]),
        ({}, ["nothing to decide"]),
        ({"null": integer(1, 3)}, ["'null'", "another name"]),
        ({"a": choice(2**60, 2**60 + 1, 2**61)}, ["'a'", "smaller"]),
        ({"n": integer(1, 500), "r": repeat("n", k=choice(1, 2))}, ["'n'", "499", "step"]),
    ],
)
def test_refused_parameters(fields: dict[str, object], words: list[str]) -> None:
    with pytest.raises(HostError) as caught:
        nas_ax.parameters(Space.of("Odd", **fields))
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("field", "word"),
    [
        (integer(1, 8, log=True), "log scale"),
        (choice(1, 2, 4, 8), "position"),
        (choice(1, 5, 6), "position"),
        (choice(2, 64), "position"),
        (integer(2, 10, step=2), "position"),
    ],
)
def test_refused_constraints(field: object, word: str) -> None:
    space = Space.of("Odd", rules={"budget": require("a + b <= 12")}, a=field, b=integer(1, 8))
    with pytest.raises(HostError, match=word) as caught:
        nas_ax.constraints(space)
    assert "'budget'" in str(caught.value) and "'a'" in str(caught.value) and "@require" in str(caught.value)


def test_refused_constraints_on_counts_names_and_the_impossible() -> None:
    gated = Space.of("Gated", rules={"r": require("n <= 3")}, n=integer(1, 4), layers=repeat("n", k=choice(1, 2)))
    with pytest.raises(HostError, match="count of a repeat"):
        nas_ax.constraints(gated)
    for name in ("E", "N", "beta", "test", "oo", "a__dot__b"):
        with pytest.raises(HostError, match="Rename"):
            nas_ax.constraints(Space.of("Odd", rules={"r": require(f"{name} <= 3")}, **{name: integer(1, 4)}))
    with pytest.raises(HostError, match="never hold"):
        nas_ax.constraints(Space.of("Odd", rules={"r": require("a <= 3")}, a=choice(4)))


def test_constraints_that_ax_can_hold() -> None:
    space = Space.of(
        "Linear",
        rules={"r": require("2*n + 0.5*x - c >= 1"), "gone": require("one <= 3"), "code": lambda arch: arch.n != 2},
        n=integer(1, 4), layers=repeat("n", k=choice(3)), x=real(-1, 1), c=choice(1, 2, 3), one=choice(1),
    )  # fmt: skip
    assert nas_ax.constraints(space) == ["-2.0*n + -0.5*x + 1.0*c <= -1.0"]  # n counts, but nothing depends on it
    client = Client()
    client.configure_experiment(parameters=nas_ax.parameters(space), parameter_constraints=nas_ax.constraints(space))
    client.configure_optimization(objective="-loss")
    client.configure_generation_strategy("random_search")
    for params in client.get_next_trials(10).values():
        assert "r" not in space.violations(nas_ax.architecture(space, params))


# ---- generation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [1, 3])
def test_generation_end_to_end(at_once: int) -> None:
    client = a_client(Tiny)
    client.set_generation_strategy(nas_ax.generation(Tiny, Draws()))
    found = work(client, 12, at_once)
    assert len({arch.id for arch in found}) == 12
    assert keys(client) == {"nas_bo"}
    front = client.get_pareto_frontier(use_model_predictions=False)
    assert front and all(Tiny.contains(nas_ax.architecture(Tiny, entry[0])) for entry in front)


def test_a_strategy_that_repeats_itself_never_ends_in_a_sobol_point_and_exhaustion_is_said() -> None:
    client = a_client(Small, "-loss")
    client.set_generation_strategy(nas_ax.generation(Small, Stubborn()))
    for _ in range(Small.size()):
        for index, _params in client.get_next_trials(1).items():
            client.complete_trial(index, {"loss": 1.0})
    assert keys(client) == {"nas_bo"}
    with pytest.raises(SearchError, match="nothing is left"):
        client.get_next_trials(1)


class Spy:
    """Records what the node tells a strategy."""

    seed = 0

    def suggest(self, problem: Problem, trials: Sequence[Trial], n: int) -> list[Architecture]:
        self.problem, self.trials = problem, list(trials)
        return Draws().suggest(problem, trials, n)


def test_what_the_strategy_is_told() -> None:
    client = a_client(
        Tiny, "acc, -loss, -2*cost", outcome_constraints=["loss <= 2.5", "memory <= 100", "0.5*heat >= 1", "acc >= 0.5"]
    )
    spy = Spy()
    client.set_generation_strategy(nas_ax.generation(Tiny, spy, objectives=[Cost(at_most=30)]))
    told = {
        0: Trial(
            Tiny.sample(0),
            {"acc": 1.0, "loss": 2.0, "cost": 8.0, "memory": 150.0, "heat": 3.0},
            info={"acc": {"n": 1}},
        ),
        1: Trial(Tiny.sample(1), {"cost": 40.0}, state=State.INFEASIBLE, reason="violates cost<=30"),
        2: Trial(Tiny.sample(2), state=State.FAILED, reason="out of memory"),
        3: Trial(
            Tiny.sample(3),
            {"acc": 0.1, "loss": 3.5, "cost": 4, "memory": 50.0, "heat": 3.0},
            state=State.INFEASIBLE,
        ),
    }
    archs = {index: nas_ax.architecture(Tiny, params) for index, params in client.get_next_trials(6).items()}
    for index, trial in told.items():
        nas_ax.tell(client, index, Trial(archs[index], trial.values, {}, trial.state, trial.reason, trial.info))
    client.complete_trial(4, {"loss": 2.0, "acc": math.nan})
    client.get_next_trials(1)

    columns = {c.name: c for c in spy.problem.columns}
    assert [c.name for c in spy.problem.columns] == ["acc", "loss", "cost"]
    assert (columns["acc"].direction, columns["acc"].at_least) == ("maximize", 0.5)
    assert (columns["loss"].direction, columns["loss"].at_most) == ("minimize", 2.5)
    assert (columns["cost"].cost, columns["cost"].unit, columns["cost"].at_most) == ("analytic", "weights", 30)
    names = {"rule:slim", "rule:not_all_skipped", "acc>=0.5", "loss<=2.5", "cost<=30", "memory<=100", "heat>=2"}
    assert set(spy.problem.constraint_names) == names
    assert spy.problem.known(archs[0]) == {"cost": Cost()(archs[0])}
    with pytest.raises(HostError, match="only by its values"):
        spy.problem.objectives[0](archs[0])

    states = [t.state for t in spy.trials]
    assert states == [State.COMPLETE, State.INFEASIBLE, State.FAILED, State.COMPLETE, State.FAILED, State.RUNNING]
    first, second, third, fourth, fifth, _ = spy.trials
    assert first.values == {"acc": 1.0, "loss": 2.0, "cost": 8.0}
    # the values of limits come along: strategies learn a limit from them
    assert first.info == {
        "acc": {"n": 1, "value": 3.0} if "value" in first.info["acc"] else {"n": 1},
        "memory": {"value": 150.0},
        "heat": {"value": 3.0},
    }
    assert {n for n, v in first.violations.items() if v} == {"memory<=100"} and not first.feasible
    assert second.reason == "violates cost<=30" and second.violations["cost<=30"] == 10
    assert third.reason == "out of memory"
    assert fourth.violations["loss<=2.5"] == 1.0 and fourth.violations["acc>=0.5"] == 0.4
    assert "acc" in fifth.reason
    statuses = [t.status.name for t in client._experiment.trials.values()][:4]
    assert statuses == ["COMPLETED", "ABANDONED", "FAILED", "COMPLETED"]
    assert client._experiment.trials[2].status_reason == "out of memory"


def test_pending_trials_are_running_and_never_repeated() -> None:
    client, spy = a_client(Small, "-loss"), Spy()
    client.set_generation_strategy(nas_ax.generation(Small, spy))
    first = client.get_next_trials(3)
    assert len(spy.trials) == 2 and {t.state for t in spy.trials} == {State.RUNNING}
    second = client.get_next_trials(3)
    assert len(spy.trials) == 5
    everything = [nas_ax.architecture(Small, p).id for p in [*first.values(), *second.values()]]
    assert len(set(everything)) == 6
    with pytest.raises(SearchError):
        client.get_next_trials(1)


@pytest.mark.parametrize(
    ("objective", "kwargs", "given", "word"),
    [
        ("-loss, -cost", {"outcome_constraints": ["memory <= 0.9 * baseline"]}, [], "baseline"),
        ("-loss, cost", {}, [Cost()], "minus"),
        ("-loss", {}, [Cost()], "'cost'"),
    ],
)
def test_experiments_that_do_not_fit(objective: str, kwargs: dict[str, object], given: list[object], word: str) -> None:
    client = a_client(Tiny, objective, **kwargs)
    client.set_generation_strategy(nas_ax.generation(Tiny, Draws(), given))
    with pytest.raises(HostError, match=word):
        client.get_next_trials(1)


def test_scalarised_objectives_other_spaces_and_bad_suggestions() -> None:
    client, spy = a_client(Tiny, "2*acc - loss"), Spy()
    client.set_generation_strategy(nas_ax.generation(Tiny, spy))
    index = next(iter(client.get_next_trials(1)))
    client.complete_trial(index, {"acc": 1.0, "loss": 0.5})
    client.get_next_trials(1)
    assert list(spy.trials[0].values.values()) == [1.5] and spy.problem.columns[0].direction == "maximize"
    client.set_generation_strategy(nas_ax.generation(Small, Draws()))
    with pytest.raises(HostError, match="no parameter 'act'"):
        client.get_next_trials(1)

    class Wrong:
        def suggest(self, problem: Problem, trials: Sequence[Trial], n: int) -> list[Architecture]:
            return [Small.sample(0)]

    client.set_generation_strategy(nas_ax.generation(Tiny, Wrong()))
    with pytest.raises(SearchError, match="does not belong to Tiny"):
        client.get_next_trials(1)
    with pytest.raises(HostError, match="no suggest"):
        nas_ax.generation(Tiny, "nsga2")


def test_tell_refuses_what_ax_would_swallow() -> None:
    client = a_client(Tiny)
    client.set_generation_strategy(nas_ax.generation(Tiny, Draws()))
    ((index, params),) = client.get_next_trials(1).items()
    arch = nas_ax.architecture(Tiny, params)
    for trial, word in [
        (Trial(arch, {"loss": 1.0}), "cost"),
        (Trial(arch, {"loss": math.inf, "cost": 1.0}), "FAILED"),
        (Trial(arch, state=State.RUNNING), "running"),
    ]:
        with pytest.raises(HostError, match=word):
            nas_ax.tell(client, index, trial)
    with pytest.raises(HostError, match="no trial 9"):
        nas_ax.tell(client, 9, Trial(arch))


# ---- storage and existing experiments ---------------------------------------------------------------------------


def test_what_cannot_be_saved_is_said_and_what_changed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from nas_bo.ax import packing

    class Local(Space):
        a = choice(1, 2)
        even = require("a <= 2")

    assert packing.from_text(packing.to_text(Local)).fingerprint() == Local.fingerprint()
    data = [Draws(seed=4), (1, [2.5, None, True]), {"null": "x"}, Cost, loss_of, Tiny]
    assert packing.from_text(packing.to_text(data)) == data
    for value, word in [(Spy(), "dataclass"), (lambda arch: 1, "top level"), ({1: 2}, "dataclass")]:
        with pytest.raises(HostError, match=word):
            packing.to_text(value)
    text = packing.to_text(Tiny)
    monkeypatch.setattr(sys.modules[__name__], "Tiny", Small)
    with pytest.raises(HostError, match="changed"):
        packing.from_text(text)
    monkeypatch.delattr(sys.modules[__name__], "Tiny")
    with pytest.raises(HostError, match="not_all_skipped"):
        packing.from_text(text)
    with pytest.raises(HostError, match="importable"):
        packing.from_text('{"name": "no_such_module_here:f"}')
    assert issubclass(HostError, NasBoError)


def test_importing_the_door_does_not_import_ax() -> None:
    code = "import sys; from nas_bo import ax; assert 'ax' not in sys.modules and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    code = (
        "import sys; sys.modules['ax'] = None; from nas_bo import ax\nfrom nas_bo.space import Space, choice\n"
        "from nas_bo.errors import MissingExtra\n"
        "try: ax.parameters(Space.of('S', a=choice(1, 2)))\nexcept MissingExtra as e: assert '[ax]' in str(e)\n"
        "else: raise SystemExit(1)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_client_that_had_trials_before_nas_bo_was_imported() -> None:
    code = """
import logging; logging.disable(50)
from ax.api.client import Client
from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig
client = Client(random_seed=0)
client.configure_experiment(parameters=[
    RangeParameterConfig("width", (1, 64), "int"),
    ChoiceParameterConfig("act", ["a", "b", "c"], "str", is_ordered=False),
    RangeParameterConfig("lr", (1e-4, 1e-1), "float", scaling="log"),
])
client.configure_optimization(objective="-loss")
client.configure_generation_strategy("random_search")
for index, params in client.get_next_trials(4).items():
    client.complete_trial(index, {"loss": params["width"] / 64})

from nas_bo import ax as nas_ax
from nas_bo.space import Space, choice, integer
from nas_bo.strategies import NSGA2
Mine = Space.of("Mine", width=integer(1, 64), act=choice("a", "b", "c"))
client.set_generation_strategy(nas_ax.generation(Mine, NSGA2(seed=0, startup=4)))
for _ in range(8):
    for index, params in client.get_next_trials(1).items():
        arch = nas_ax.architecture(Mine, params)
        client.complete_trial(index, {"loss": arch.width / 64 + (arch.act == "a")})
node = client._generation_strategy._nodes[0]
assert len(node._history) == 11 and node._history[0].values
runs = [str(r._generator_key) for t in client._experiment.trials.values() for r in t.generator_runs]
assert runs == ["CenterOfSearchSpace"] + ["Sobol"] * 3 + ["nas_bo"] * 8, runs
"""
    python("-c", code, check=True)
