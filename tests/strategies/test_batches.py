"""Batches of `Bayes`: later members begin with the candidates of the one before."""

from __future__ import annotations

import numpy as np
import pytest

from nas_bo.strategies import Bayes
from nas_bo.strategies.nsga2 import best_trials
from nas_bo.strategies.objective_models import Belief
from nas_bo.strategies.scores import scorer
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
