"""Regularized evolution, local search, screening and successive strategies, by what sets each apart."""

from __future__ import annotations

import dataclasses
import math
import pickle
import random
from itertools import combinations

import numpy as np
import pytest

from nas_bo.pareto import hypervolume
from nas_bo.problem import Function, Problem
from nas_bo.space import Space, choice, repeat
from nas_bo.strategies import NSGA2, LocalSearch, Random, RegularizedEvolution, Reinforce, Successive
from nas_bo.strategies.history import Past, Scale, undominated
from nas_bo.strategies.screen import Screen, maximin, ridge
from nas_bo.trial import State, Trial, non_dominated
from tests.strategies import cases
from tests.strategies.test_progress import PROBLEM, reached


class Grid(Space):
    x = choice(*range(12))
    y = choice(*range(12))


def ids(archs):
    return [arch.id for arch in archs]


def searched(strategy, problem, number):
    trials = []
    while len(trials) < number and (found := strategy.suggest(problem, trials, 1)):
        trials += [problem.evaluate(arch) for arch in found]
    return trials


def distance(arch):
    """A bowl with its bottom at (8, 3)."""
    return 1.0 + (arch.x - 8) ** 2 + (arch.y - 3) ** 2


GRID = Problem(Grid, [distance])


# ---- the first trials and the past --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [NSGA2, RegularizedEvolution, LocalSearch, Reinforce])
def test_with_several_objectives_two_corners_come_first_and_a_batch_crosses_the_border(kind):
    batch = kind(seed=0, startup=6).suggest(Problem(Grid, [distance, Function(lambda a: a.x + a.y, "sum")]), [], 9)
    assert len(set(ids(batch))) == 9
    assert [(arch.x, arch.y) for arch in batch[:2]] == [(0, 0), (11, 11)]


@pytest.mark.parametrize("kind", [NSGA2, RegularizedEvolution, LocalSearch, Reinforce])
def test_with_one_objective_the_first_trials_fill_the_space_and_do_not_begin_in_its_corners(kind):
    batches = [kind(seed=seed, startup=6).suggest(GRID, [], 9) for seed in range(6)]
    assert all(len(set(ids(batch))) == 9 for batch in batches)
    assert sum((arch.x, arch.y) in ((0, 0), (11, 11)) for batch in batches for arch in batch[:3]) <= 4, "of 12"
    for batch in batches:
        assert min(abs(a.x - b.x) + abs(a.y - b.y) for a, b in combinations(batch[:3], 2)) >= 3


def test_the_past_counts_equal_architectures_once_and_reads_every_state():
    problem = cases.two(cases.Nested)
    a, b, c, d, e = cases.evaluated(problem, 5)
    worse = Trial(a.architecture, {k: v + 1.0 for k, v in a.values.items()})
    states = [
        Trial(c.architecture, {}, {"x": 2.0}, State.INFEASIBLE),
        Trial(d.architecture, state=State.FAILED),
        Trial(e.architecture, state=State.RUNNING),
    ]
    past = Past.of(problem, [a, b, *states, worse])
    assert ids(past.archs) == [a.architecture.id, b.architecture.id]
    assert past.points[0, 0] == pytest.approx(worse.values["loss"])
    assert (ids(past.infeasible), ids(past.pending)) == ([c.architecture.id], [e.architecture.id])
    assert len(past.seen) == 5
    assert ids(past.last(1).archs) == [a.architecture.id]


def test_the_past_follows_a_history_whose_trials_change():
    problem = cases.two(cases.Nested)
    trials = cases.evaluated(problem, 6)
    before = Past.of(problem, [*trials[:5], Trial(trials[5].architecture, state=State.RUNNING)])
    after = Past.of(problem, trials)
    assert len(before.archs) == 5 and len(after.archs) == 6
    again = Past.of(problem, [dataclasses.replace(t) for t in trials])  # equal, but read anew
    assert np.array_equal(after.points, again.points) and ids(after.archs) == ids(again.archs)


@pytest.mark.parametrize("m", [1, 2, 3, 5])
def test_undominated_is_non_dominated(m):
    points = np.round(np.random.default_rng(m).random((200, m)), 1)
    assert np.array_equal(undominated(points), non_dominated(points))
    assert undominated(np.zeros((0, m))).shape == (0,)


def test_the_scale_takes_logarithms_over_a_decade():
    front = np.array([[1.0, 1.0], [2.0, 100.0]])
    assert np.allclose(np.ptp(Scale(front)(front), axis=0), 1.0)
    middle = Scale(front)(np.array([[1.5, 10.0]])) - Scale(front)(front).min(0)
    assert np.allclose(middle, 0.5)
    assert np.isfinite(Scale(np.ones((3, 2)))(front)).all()


# ---- screening ----------------------------------------------------------------------------------------------------


def test_maximin_by_hand():
    front = np.array([[0.0, 1.0], [1.0, 0.0]])
    points = np.array([[0.4, 0.4], [1.0, 1.0], [-0.5, 2.0], [0.0, 1.0]])
    assert maximin(points, front) == pytest.approx([0.6, 0.0, 0.5, 0.0])
    assert maximin(np.array([[2.0, 3.0]]), front) == pytest.approx([-2.0])


def test_ridge_learns_a_line_and_knows_how_little_it_knows():
    draws = np.random.default_rng(0)
    inputs = np.hstack([np.ones((60, 1)), draws.standard_normal((60, 4))])
    truth = inputs @ np.array([3.0, 1.0, -2.0, 0.0, 0.0])
    mean, sd = ridge(inputs, truth + 0.1 * draws.standard_normal(60), inputs)
    assert np.abs(mean - truth).max() < 0.2
    assert 0.05 < sd.mean() < 0.3
    guess, wide = ridge(inputs, draws.standard_normal(60), inputs)
    assert np.abs(guess).max() < 1.5 and wide.mean() > 0.7
    assert np.isfinite(ridge(inputs, np.ones(60), inputs)).all()
    wild = truth.copy()
    wild[0] = 1e12
    assert np.abs(ridge(inputs, wild, inputs)[0][1:] - truth[1:]).mean() < 3.0


def test_the_screen_prefers_what_is_good_and_leaves_pending_places():
    trials = [GRID.evaluate(Grid.architecture({"x": x, "y": y})) for x in range(0, 12, 2) for y in range(0, 12, 2)]
    screen = Screen(GRID, Past.of(GRID, trials))
    far, near, good = (Grid.architecture({"x": x, "y": y}) for x, y in ((1, 11), (5, 5), (7, 3)))
    assert screen.best([far, near, good], [], random.Random(0)) == good
    two = Screen(PROBLEM, Past.of(PROBLEM, cases.evaluated(PROBLEM, 30)))
    children = [t.architecture for t in cases.evaluated(PROBLEM, 20, seed=7)]
    chosen = two.best(children, [], random.Random(0))
    assert two.best(children, [chosen], random.Random(0)) != chosen


def test_known_objectives_are_exact_in_the_screen():
    trials = cases.evaluated(PROBLEM, 12)
    past = Past.of(PROBLEM, trials)
    mean, sd = Screen(PROBLEM, past).predict([t.architecture for t in trials])
    assert np.allclose(mean[:, 1], past.scale(past.points)[:, 1])
    assert (sd[:, 1] == 0).all() and (sd[:, 0] > 0).all()


@pytest.mark.parametrize("history", cases.HISTORIES, ids=cases.HISTORY_NAMES)
def test_screening_survives_any_history_with_all_objectives_unknown(history):
    problem = Problem(cases.Nested, [cases.loss, Function(cases.size, "size")])
    assert len(NSGA2(startup=0, screen=8).suggest(problem, history(problem), 3)) == 3


# ---- the methods --------------------------------------------------------------------------------------------------


def test_the_oldest_dies_not_the_worst():
    best = GRID.evaluate(Grid.architecture({"x": 8, "y": 3}))
    others = [GRID.evaluate(Grid.architecture({"x": x, "y": 11})) for x in range(6)]

    def parents(trials):
        strategy = RegularizedEvolution(population=6, sample=6, startup=0, screen=1)
        return strategy.suggest(GRID, trials, 6)

    assert all(arch.x == 8 or arch.y == 3 for arch in parents([*others, best]))  # one mutation away from the best
    assert not any(arch.x == 8 and arch.y < 9 for arch in parents([best, *others]))


def test_feasible_parents_win_tournaments():
    bad = [Trial(Grid.architecture({"x": x, "y": 0}), {}, {"x": 1.0}, State.INFEASIBLE) for x in range(5)]
    good = GRID.evaluate(Grid.architecture({"x": 11, "y": 11}))
    strategy = RegularizedEvolution(population=6, sample=6, startup=0, screen=1)
    assert all(arch.x == 11 or arch.y == 11 for arch in strategy.suggest(GRID, [good, *bad], 10))


def test_local_search_walks_over_neighbours_of_the_best_and_restarts():
    strategy = LocalSearch(startup=0, screen=1)
    trials = [GRID.evaluate(Grid.architecture({"x": 5, "y": 5}))]
    steps = []
    for _ in range(60):
        best = min(trials, key=lambda t: t.values["distance"]).architecture
        near = set(ids(Grid.neighbours(best))) - {t.architecture.id for t in trials}
        (arch,) = strategy.suggest(GRID, trials, 1)
        assert (arch.id in near) == bool(near)
        steps.append(bool(near))
        trials.append(GRID.evaluate(arch))
    assert min(t.values["distance"] for t in trials) == 1.0
    assert not all(steps)


def test_local_search_passes_over_what_is_surely_dominated_only_if_all_is_known():
    def sum_(arch):
        return float(arch.x + arch.y)

    def other(arch):
        return float(abs(arch.x - 6) + arch.y)

    start, worse = (Grid.architecture({"x": 3, "y": y}) for y in (6, 7))
    strategy = LocalSearch(startup=0, screen=1)
    known = Problem(Grid, [Function(f, f.__name__, cost="analytic") for f in (sum_, other)])
    found = strategy.suggest(known, [known.evaluate(start)], 3)
    assert len(Grid.neighbours(start)) == 4 and set(found) == set(Grid.neighbours(start)) - {worse}
    partly = Problem(Grid, [Function(sum_, "sum_", cost="analytic"), other])
    assert set(strategy.suggest(partly, [partly.evaluate(start)], 4)) == set(Grid.neighbours(start))


@pytest.mark.parametrize("kind", [RegularizedEvolution, LocalSearch])
def test_beats_random(kind):
    guided = [reached(kind(seed=s), 80) for s in range(5)]
    drawn = [reached(Random(seed=s), 80) for s in range(5)]
    assert np.mean(guided) > np.mean(drawn) + 2 * np.std(drawn) / 5**0.5


def test_screening_saves_evaluations():
    screened = [reached(NSGA2(seed=s), 60) for s in range(5)]
    plain = [reached(NSGA2(seed=s, screen=1), 60) for s in range(5)]
    assert np.mean(screened) > np.mean(plain)


@pytest.mark.parametrize("trials", [20, 30])
def test_few_trials_are_no_worse_than_random(trials):
    few = [reached(NSGA2(seed=s, population=10), trials) for s in range(8)]
    drawn = [reached(Random(seed=s), trials) for s in range(8)]
    assert np.mean(few) > np.mean(drawn)


def test_evolution_of_one_objective_without_a_surrogate_finds_the_bottom():
    for strategy in (NSGA2(screen=1), RegularizedEvolution(screen=1, population=10, sample=3)):
        assert min(t.values["distance"] for t in searched(strategy, GRID, 70)) <= 2.0


def test_deep_lists_are_searched():
    class Deep(Space):
        layers = repeat(24, heads=choice(2, 4, 8), ratio=choice(1, 2, 3, 4))

    def loss(arch):
        return 4.0 - sum(math.sqrt(layer.heads) * layer.ratio for layer in arch.layers) / 200

    def cost(arch):
        return float(sum(layer.heads * layer.ratio for layer in arch.layers))

    problem = Problem(Deep, [loss, Function(cost, "cost", cost="analytic")])

    def volume(strategy):
        points = np.array([[t.values["loss"], t.values["cost"]] for t in searched(strategy, problem, 60)])
        return hypervolume(points, np.array([4.0, 800.0]))

    assert volume(NSGA2()) > volume(Random())


# ---- one after another --------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Told:
    """Suggests like Random, and says what it saw."""

    log: list

    def suggest(self, problem, trials, n):
        self.log.append((len(trials), sum(t.state is State.RUNNING for t in trials), n))
        return Random(seed=1).suggest(problem, trials, n)


def test_turns_depend_on_the_number_of_trials_only():
    problem = cases.two(cases.Nested)
    trials = cases.evaluated(problem, 9)
    strategy = Successive((Random(seed=3), 2), (NSGA2(seed=4, startup=0), 5), RegularizedEvolution(seed=5, startup=0))
    for number, kind in ((0, Random(seed=3)), (1, Random(seed=3)), (2, NSGA2(seed=4, startup=0)),
                         (6, NSGA2(seed=4, startup=0)), (7, RegularizedEvolution(seed=5, startup=0)),
                         (9, RegularizedEvolution(seed=5, startup=0))):  # fmt: skip
        assert ids(strategy.suggest(problem, trials[:number], 1)) == ids(kind.suggest(problem, trials[:number], 1))


def test_a_batch_across_borders_is_split_and_seen_as_running():
    first, second, last = Told([]), Told([]), Told([])
    problem = cases.two(cases.Nested)
    batch = Successive((first, 3), (second, 2), last).suggest(problem, cases.evaluated(problem, 1), 6)
    assert len(set(ids(batch))) == 6
    assert (first.log, second.log, last.log) == ([(1, 0, 2)], [(3, 2, 2)], [(5, 4, 2)])


def test_a_stage_that_has_nothing_left_ends_the_batch():
    assert len(Successive((Random(), 4), Random(seed=1)).suggest(cases.two(cases.Tiny), [], 9)) == 6


def test_successive_is_a_frozen_value():
    strategy = Successive((Random(seed=1), 20), NSGA2())
    assert repr(strategy) == f"Successive((Random(seed=1), 20), {NSGA2()!r})"
    assert strategy == pickle.loads(pickle.dumps(strategy)) == dataclasses.replace(strategy)
    assert strategy != dataclasses.replace(strategy, last=NSGA2(seed=1))
    assert hash(strategy) == hash(dataclasses.replace(strategy))
