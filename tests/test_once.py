"""Analytic objectives are computed at most once for each architecture in a process, everywhere."""

import gc
import logging
from collections import Counter
from types import SimpleNamespace

import optuna
import pytest

from nas_bo import AskTell, Problem, Space, choice, integer, search
from nas_bo import once as module
from nas_bo.errors import NasBoError
from nas_bo.objectives import Weighted
from nas_bo.once import once
from nas_bo.optuna import Sampler, suggest
from nas_bo.strategies import NSGA2, Bayes, LocalSearch, Random, RegularizedEvolution


class Grid(Space):
    a = integer(0, 30)
    b = integer(0, 30)
    c = choice("x", "y", "z")


class Counted:
    """An analytic objective that counts its calls by architecture."""

    unit, direction, cost = "", "minimize", "analytic"

    def __init__(self, name: str = "counted", raises: bool = False, **limits: float) -> None:
        self.name, self.raises, self.calls = name, raises, Counter()
        self.at_most, self.at_least = limits.get("at_most"), limits.get("at_least")

    def __call__(self, arch) -> float:
        self.calls[arch.id] += 1
        if self.raises and arch.a % 2:
            raise ValueError("odd")
        return float(arch.a + arch.b)


def trained(arch) -> float:
    return float((arch.a - 3) ** 2 + (arch.b - 20) ** 2)


@pytest.mark.parametrize("strategy", [Bayes(seed=0), NSGA2(), Random(), RegularizedEvolution(), LocalSearch()], ids=str)
def test_a_search_computes_each_architecture_once(strategy) -> None:
    objective, limit = Counted(), Counted("limited", at_most=50)
    search(Grid, [trained, objective], limits=[limit], strategy=strategy, trials=8, retrain=0)
    for counted in (objective, limit):
        assert len(counted.calls) >= 8 and set(counted.calls.values()) == {1}


def test_a_function_of_the_users_own_is_called_once_by_several_problems_of_it() -> None:
    calls = Counter()

    def size(arch) -> float:
        calls[arch.id] += 1
        return float(arch.a)

    size.cost = "analytic"
    search(Grid, [trained, size], strategy=Bayes(seed=0), trials=6)
    search(Grid, [trained, size], strategy=Bayes(seed=1), trials=6)
    assert set(calls.values()) == {1}


def test_parts_of_a_sum_are_computed_once() -> None:
    part = Counted(at_most=40)
    search(Grid, [trained, Weighted([(1.0, part), (2.0, Counted("other"))], name="sum")], strategy=Bayes(), trials=6)
    assert set(part.calls.values()) == {1}


def test_ask_tell_and_a_plain_optuna_study_as_well() -> None:
    objective = Counted()
    opt = AskTell(Grid, ["loss", objective], strategy=Bayes(seed=0))
    for _ in range(6):
        asked = opt.ask()
        opt.tell(asked.number, {"loss": trained(asked.architecture)})
    opt.result()
    assert set(objective.calls.values()) == {1}
    other = Counted()
    sampler = Sampler(Grid, Bayes(seed=0), objectives=[trained, other])
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    study.optimize(lambda trial: (trained(suggest(trial, Grid)), 1.0), n_trials=6)
    assert set(other.calls.values()) == {1}


def test_an_ax_experiment_as_well() -> None:
    pytest.importorskip("ax")
    from nas_bo import ax as nas_ax

    objective = Counted()
    client = nas_ax.client(Grid, [trained, objective], strategy=Bayes(seed=0))
    client.run_trials(max_trials=6, parallelism=1)
    assert len(objective.calls) >= 6 and set(objective.calls.values()) == {1}


def test_what_raises_is_called_once_and_raises_the_same_again() -> None:
    objective = Counted(raises=True)
    found = search(Grid, [trained, objective], strategy=Random(seed=0), trials=8, retrain=0)
    assert {t.state.name for t in found.trials} == {"COMPLETE", "FAILED"}
    assert set(objective.calls.values()) == {1}
    odd = next(a for a in map(Grid.sample, range(50)) if a.a % 2)
    for _ in range(2):
        with pytest.raises(ValueError, match="odd"):
            Problem(Grid, [objective]).known(odd)
    assert objective.calls[odd.id] == 1


def test_a_dear_estimate_of_a_measured_objective_is_computed_once() -> None:
    calls = Counter()

    class Latency(Counted):
        cost = "measured"

        def predict(self, arch) -> float:
            calls[arch.id] += 1
            return float(arch.a)

    search(Grid, [trained, Latency()], strategy=Bayes(seed=0), trials=6)
    assert set(calls.values()) == {1}


def test_a_dear_one_is_named_once_with_what_it_costs(caplog, monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr("nas_bo.once.time", SimpleNamespace(perf_counter=lambda: now[0]))

    class Slow(Counted):
        def __call__(self, arch) -> float:
            now[0] += 0.005
            return super().__call__(arch)

    with caplog.at_level(logging.WARNING, "nas_bo"):
        search(Grid, [trained, Slow("slow"), Counted("fast")], strategy=Random(), trials=8)
    said = [r.getMessage() for r in caplog.records if "per architecture" in r.getMessage()]
    assert len(said) == 1 and "'slow'" in said[0] and " ms per architecture" in said[0]


def test_memory_is_bounded_and_ends_with_its_owner(monkeypatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 4)
    objective = Counted()
    archs = [Grid.architecture({"a": i, "b": 0, "c": "x"}) for i in range(9)]
    for arch in archs:
        once(objective, objective, arch)
    key = (id(objective), "")
    assert len(module._memories[key].known) == 4
    once(objective, objective, archs[-1])
    assert objective.calls[archs[-1].id] == 1
    once(objective, objective, archs[0])
    assert objective.calls[archs[0].id] == 2
    del objective
    gc.collect()
    assert key not in module._memories


def test_errors_of_ours_keep_their_type() -> None:
    class Refuses(Counted):
        def __call__(self, arch) -> float:
            raise NasBoError("no")

    problem = Problem(Grid, [Refuses()])
    for _ in range(2):
        with pytest.raises(NasBoError, match="no"):
            problem.analytic(Grid.sample(0))
