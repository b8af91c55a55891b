"""Batches of `Bayes`: later members begin with the candidates of the one before."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

from nas_bo.strategies import Bayes
from nas_bo.strategies.nsga2 import best_trials
from nas_bo.strategies.objective_models import Belief
from nas_bo.strategies.scores import scorer
from nas_bo.surrogate import process
from nas_bo.surrogate.genomes import genomes_of
from tests.strategies import cases


@pytest.mark.parametrize("make", [cases.one, cases.two, cases.three])
def test_candidates_with_old_scores_are_scored_again_as_far_as_it_matters(make):
    """The best of a pool after something was believed are those that scoring all of it again gives."""
    problem = make(cases.Nested)
    trials = cases.evaluated(problem, 24)
    belief, rng = Belief(problem, trials), np.random.default_rng(0)
    seen = {trial.architecture.id for trial in trials}
    pool = Bayes(candidates=300)._search(
        belief, scorer(belief, rng), best_trials(problem, trials, 10), [], {}, seen, rng
    )
    for _ in range(3):
        arch = pool.take()
        assert arch is not None and arch.id not in seen
        seen.add(arch.id)
        belief.believe([arch])
        again = scorer(belief, rng)
        pool.rescore(again, 300)
        best = pool.verify(5)
        left = np.flatnonzero(pool._verified & (pool._scores > -np.inf))
        archs = [genomes_of(problem.space).decode(row) for row in pool.genomes[left]]
        fresh = again(belief.inputs(pool.genomes[left]), belief.exact(archs))
        assert pool._scores[best] == pytest.approx(np.sort(fresh)[::-1][: len(best)], rel=1e-6)


def test_a_batch_is_of_different_architectures_and_the_same_each_time():
    problem = cases.two(cases.Nested)
    trials = cases.evaluated(problem, 12)
    batch = Bayes(candidates=100).suggest(problem, trials, 12)
    assert batch == Bayes(candidates=100).suggest(problem, trials, 12)
    assert len({arch.id for arch in batch} | {t.architecture.id for t in trials}) == 24


def test_a_value_that_begins_to_vary_late_does_not_make_hyperparameters_be_fitted_again(monkeypatch):
    original, fits = __import__("scipy.optimize", fromlist=["minimize"]).minimize, []
    monkeypatch.setattr("scipy.optimize.minimize", lambda *a, **k: fits.append(a) or original(*a, **k))
    monkeypatch.setattr(process, "_memory", OrderedDict())
    problem = cases.one(cases.Nested)
    trials = cases.evaluated(problem, 200)
    shallow = [trial for trial in trials if trial.architecture.depth < 4][:63]
    deep = [trial for trial in trials if trial.architecture.depth == 4]
    before = Belief(problem, shallow)
    assert len(shallow) == 63 and fits
    fits.clear()
    after = Belief(problem, [*shallow, deep[0]])
    assert not fits
    columns = [belief.inputs(belief.genomes([deep[1].architecture])).shape[1] for belief in (before, after)]
    assert columns[0] < columns[1]  # which see the fourth layer
    for j in after.processes:
        for later, earlier in zip(after.processes[j].both, before.processes[j].both, strict=True):
            assert (later.hyperparameters == earlier.hyperparameters).all()
    Belief(problem, [*shallow, *deep[:3]])
    assert fits  # a twentieth part more


def test_the_features_of_a_history_are_computed_once(monkeypatch):
    problem, looked = cases.one(cases.Nested), []
    trials = cases.evaluated(problem, 30)
    original = Belief._raw
    monkeypatch.setattr(Belief, "_raw", lambda self, genomes: looked.append(len(genomes)) or original(self, genomes))
    belief = Belief(problem, trials)
    points = belief.points()
    assert looked == [30]
    belief = Belief(problem, trials)
    belief._plain = False
    assert (points == belief.points()).all()
    belief.believe([trials[0].architecture])
    assert len(belief.points()) == 31
