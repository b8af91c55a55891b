"""Searches by gradients as strategies: pure, shared by processes, in Optuna, Ax and the command line."""

from __future__ import annotations

import json
import logging
import pickle
import subprocess
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from nas_bo.errors import CheckpointError
from nas_bo.objectives import Parameters
from nas_bo.problem import Function, Problem
from nas_bo.strategies import GDAS, Darts, ProxylessNAS, Strategy
from nas_bo.strategies.one_shot import result_store
from tests.processes import Python
from tests.strategies.one_shot.cases import (
    CORPUS,
    SHORT,
    TEXT,
    Little,
)


class Loss:
    """An objective that has a text, as `ValidationLoss` does."""

    name, unit, direction, cost = "loss", "bits", "minimize", "trained"

    def corpus(self):
        return CORPUS

    def __call__(self, arch):
        return 3.0 - 0.01 * arch.width


def problem(space=Little, **limits):
    return Problem(space, [Loss(), Function(Parameters(), "parameters", cost="analytic", **limits)])


def ids(strategy, of, trials, n):
    return [arch.id for arch in strategy.suggest(of, trials, n)]


@pytest.mark.parametrize("kind", [Darts, GDAS, ProxylessNAS])
def test_it_is_a_pure_strategy_that_trains_once(kind):
    strategy, of = kind(**SHORT), problem()
    assert isinstance(strategy, Strategy)
    copy = pickle.loads(pickle.dumps(strategy))
    assert copy == strategy
    with pytest.raises(FrozenInstanceError):
        strategy.seed = 1
    trained = result_store.result_of(strategy, of)
    first = strategy.suggest(of, [], 3)
    assert first[0] == trained.front[0] and first[1] in (trained.front[1], first[1])
    trials = [of.evaluate(arch) for arch in first]
    more = ids(strategy, of, trials, 3)
    assert not {arch.id for arch in first} & set(more) and len(set(more)) == 3
    assert ids(copy, problem(), list(trials), 3) == more
    assert result_store.result_of(copy, problem()) is trained  # known by its content


def test_limits_are_kept_and_a_space_is_exhausted():
    strategy, of = ProxylessNAS(**SHORT), problem(at_most=2600.0)
    allowed = {a.id for a in Little.enumerate() if Parameters()(a) <= 2600}
    trials = []
    while found := strategy.suggest(of, trials, 4):
        trials += [of.evaluate(arch) for arch in found]
        assert len(trials) <= len(allowed)
    assert {t.architecture.id for t in trials} == allowed


def test_without_a_cost_the_search_is_for_quality(caplog):
    of = Problem(Little, [Loss()])
    with caplog.at_level(logging.WARNING):
        assert len(ProxylessNAS(**SHORT).suggest(of, [], 2)) == 2
    assert "quality alone" in caplog.text


def test_processes_share_one_search_through_a_file(tmp_path, monkeypatch):
    path = tmp_path / "kept" / "darts.json"
    strategy = ProxylessNAS(**SHORT, seed=11, checkpoint=str(path))
    trained = result_store.result_of(strategy, problem())
    monkeypatch.setattr(result_store, "_memory", type(result_store._memory)())
    read = result_store.result_of(strategy, problem())
    assert read is not trained and read.net is None and trained.net is not None
    assert replace(read, history=()) == replace(trained, history=()) and len(read.history) == len(trained.history)
    with pytest.raises(CheckpointError, match="the setting seed differ"):
        ProxylessNAS(**SHORT, seed=12, checkpoint=str(path)).suggest(problem(), [], 1)
    content = json.loads(path.read_text())
    for damaged in ("{", "[]", json.dumps({**content, "format": 99}), json.dumps({**content, "result": {}})):
        path.write_text(damaged)
        monkeypatch.setattr(result_store, "_memory", type(result_store._memory)())
        with pytest.raises(CheckpointError, match="delete"):
            strategy.suggest(problem(), [], 1)


WORKER = """
import logging, sys
from nas_bo.strategies import ProxylessNAS
from nas_bo.strategies.one_shot import result_store
from tests.strategies.one_shot.test_darts import SHORT, problem
strategy = ProxylessNAS(**SHORT, checkpoint=sys.argv[1])
found = strategy.suggest(problem(), [], 2)
print([a.id for a in found], result_store.result_of(strategy, problem()).net is not None)
"""


def test_of_two_processes_one_trains_and_the_other_reads(tmp_path):
    root = Path(__file__).parents[3]
    both = [Python("-c", WORKER, tmp_path / "one.json", stdout=subprocess.PIPE, text=True, cwd=root) for _ in range(2)]
    said = [one.communicate()[0].strip() for one in both]
    assert said[0].rpartition(" ")[0] == said[1].rpartition(" ")[0] != ""
    assert sorted(one.rpartition(" ")[2] for one in said) == ["False", "True"]


def test_it_works_in_optuna_and_ax():
    import optuna
    from ax.api.client import Client

    from nas_bo import ax as nas_ax
    from nas_bo.optuna import Sampler, suggest

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    strategy = ProxylessNAS(tokens=4_000, updates=4, lambdas=(0.0,), data=_file())
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=Sampler(Little, strategy))

    def objective(trial):
        arch = suggest(trial, Little)
        return 3.0 - 0.01 * arch.width, Parameters()(arch)

    study.optimize(objective, n_trials=3)
    assert len({json.dumps(t.params, sort_keys=True) for t in study.trials}) == 3

    client = Client()
    client.configure_experiment(parameters=nas_ax.parameters(Little))
    client.configure_optimization(objective="-loss, -parameters")
    client.set_generation_strategy(nas_ax.generation(Little, strategy))
    for index, params in client.get_next_trials(max_trials=2).items():
        arch = nas_ax.architecture(Little, params)
        assert Little.contains(arch)
        client.complete_trial(index, raw_data={"loss": 1.0, "parameters": Parameters()(arch)})


def _file():
    import tempfile

    path = Path(tempfile.gettempdir()) / "nas_bo_test_darts.txt"
    path.write_bytes(TEXT.tobytes())
    return str(path)


def test_the_command_line_knows_them():
    from nas_bo.cli.resolve import strategy as named

    assert named("darts", 3) == Darts(seed=3) and named("proxylessnas", 4) == ProxylessNAS(seed=4)
    assert named("gdas", 5) == GDAS(seed=5)
