"""Several fidelities in `Bayes` and `Reservation`: what stopped trials and proxies teach, what is finished, what is stopped."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from nas_bo.errors import SearchError
from nas_bo.problem import Function, Problem
from nas_bo.stopping import Reservation, Stopping
from nas_bo.stopping.reservation import price
from nas_bo.strategies import Bayes
from nas_bo.strategies.fidelity import noise_of, sources_of, still_to_pay, unfinished
from nas_bo.strategies.objective_models import Belief
from nas_bo.surrogate.sources import CoKriging
from nas_bo.trial import State, Trial
from tests.problems import Toy, cost, loss
from tests.stopping.staged import Staged
from tests.strategies import cases


def never(_name, _share, _values):
    return False


def history(problem: Problem, whole: int, stopped: int = 0, seed: int = 0) -> list[Trial]:
    """Different architectures; the first ones are evaluated to the end, the others to their first rung."""
    archs, i = {}, 1000 * seed
    while len(archs) < whole + stopped:
        arch = problem.space.sample(i)
        archs.setdefault(arch.id, arch)
        i += 1
    made = list(archs.values())
    return [problem.evaluate(a) for a in made[:whole]] + [problem.evaluate(a, never) for a in made[whole:]]


def unseen(trials: list[Trial], number: int = 150) -> list:
    seen = {t.architecture.id for t in trials}
    return [a for a in (Toy.sample(90_000 + i) for i in range(number)) if a.id not in seen]


def error(problem: Problem, trials: list[Trial], archs: list) -> float:
    belief = Belief(problem, trials)
    mean = belief.predict(belief.inputs(belief.genomes(archs)), belief.exact(archs))[0][:, 0]
    return float(np.sqrt(np.mean((mean - [float(loss(a)) for a in archs]) ** 2)))


# ---- the belief ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_stopped_trials_teach_about_the_whole(sign):
    problem = Problem(Toy, [Staged(sign=sign, noise=0.03), cost], staged=True)
    trials = history(problem, 9, 40)
    archs = unseen(trials)
    assert error(problem, trials, archs) < 0.8 * error(problem, trials[:9], archs)


def test_a_useless_rung_does_little_harm():
    problem = Problem(Toy, [Staged(sign=0.0, noise=0.3), cost], staged=True)
    trials = history(problem, 25, 25)
    archs = unseen(trials)
    assert error(problem, trials, archs) < 1.2 * error(problem, trials[:25], archs)


def test_proxies_teach_too_and_one_that_failed_everywhere_is_passed_over():
    def proxy(arch):
        return 10.0 ** (-float(loss(arch)))  # another sign, another scale

    def broken(arch):
        raise RuntimeError

    problem = Problem(Toy, [Staged(rungs=()), cost], proxies=[proxy, broken], staged=True)
    trials = history(problem, 9)
    archs = unseen(trials)
    cheap = [Trial(a, state=State.STOPPED, info={"proxy": {"value": proxy(a)}}) for a in archs[:50]]
    belief = Belief(problem, [*trials, *cheap])
    assert list(belief.sources[0]) == ["proxy"]
    assert error(problem, [*trials, *cheap], archs[50:]) < 0.8 * error(problem, trials, archs[50:])


def test_rungs_change_nothing_while_nothing_was_stopped():
    plain, staged = Problem(Toy, [Function(loss, "loss"), cost]), Problem(Toy, [Staged(), cost], staged=True)
    before, after = (history(p, 14) for p in (plain, staged))
    assert [t.values for t in before] == [t.values for t in after] and after[0].rungs("loss")
    assert Bayes(seed=3).suggest(plain, before, 2) == Bayes(seed=3).suggest(staged, after, 2)
    assert not isinstance(Belief(staged, after).processes[0], CoKriging)
    assert isinstance(Belief(staged, after, all_rungs=True).processes[0], CoKriging)


def test_rungs_are_a_chain_and_an_architecture_counts_once():
    problem = Problem(Toy, [Staged(rungs=(0.25, 0.5)), cost], staged=True)
    trials = history(problem, 8, 6)
    again = [*trials, problem.evaluate(trials[-1].architecture)]
    for told in (trials, again):
        belief = Belief(problem, told, all_rungs=True)
        assert list(belief.sources[0]) == [0.25, 0.5]
        inputs = belief.inputs(belief.genomes([t.architecture for t in told]))[:, :-1]
        sources = sources_of(problem, told, problem.columns[0], inputs, 3)
        assert len(sources[0.25]._process._targets) == 14
        assert len(sources[0.5]._process._targets) == (8 if told is trials else 9)


def test_the_noise_that_trials_tell_is_their_median():
    told = [Trial(Toy.sample(i), info={"loss": {"noise_sd": sd}}) for i, sd in enumerate((0.1, 0.3, None, "x", -1.0))]
    assert noise_of(told, "loss") == pytest.approx(0.2) and noise_of(told, "other") is None
    problem = Problem(Toy, [Staged(), cost], staged=True)
    trials = history(problem, 12)
    noisy = [replace(t, info={**t.info, "loss": {**t.info["loss"], "noise_sd": 0.2}}) for t in trials]
    assert Belief(problem, noisy).processes[0].noise > Belief(problem, trials).processes[0].noise


# ---- proposals ----------------------------------------------------------------------------------------------------------


def test_a_stopped_architecture_may_be_proposed_once_more_and_no_other():
    problem = Problem(cases.Tiny, [Staged(noise=0.0)], staged=True)
    problem = Problem(cases.Tiny, [_Numbers()])
    archs = [cases.Tiny.architecture({"a": a, "b": b}) for a in (1, 2, 3) for b in (True, False)]
    trials = [problem.evaluate(a, never if i >= 4 else None) for i, a in enumerate(archs)]
    assert unfinished(trials).keys() == {archs[4].id, archs[5].id}
    for _ in range(2):
        (found,) = Bayes(startup=2).suggest(problem, trials, 1)
        assert found in archs[4:]
        assert Bayes(startup=2).suggest(problem, [*trials, Trial(found, state=State.RUNNING)], 1) != [found]
        trials.append(problem.evaluate(found))
    assert not unfinished(trials) and Bayes(startup=2).suggest(problem, trials, 3) == []
    batch = Bayes(startup=2).suggest(problem, trials[:6], 4)
    assert sorted(a.id for a in batch) == sorted(a.id for a in archs[4:])


class _Resumed(Staged):
    checkpoints = "a folder"


def test_what_goes_on_from_a_checkpoint_is_cheaper_to_finish_and_gets_finished_earlier():
    finished = {}
    for kind in (Staged, _Resumed):
        problem = Problem(Toy, [kind(rungs=(0.25, 0.9), noise=0.5), cost], staged=True)
        trials = history(problem, 9)
        for trial in history(problem, 0, 12, seed=1):
            trials.append(problem.evaluate(trial.architecture, lambda name, share, values: share < 0.5))
        left = still_to_pay(problem, trials)
        assert left.keys() == unfinished(trials).keys() and len(left) == 12
        assert list(left.values()) == pytest.approx([1.0 if kind is Staged else 0.1] * 12)
        batch = Bayes(seed=1, candidates=600).suggest(problem, trials, 6)
        finished[kind] = sum(arch.id in left for arch in batch)
    assert finished[_Resumed] > finished[Staged], finished


class _Numbers:
    name, unit, direction, cost = "loss", "", "minimize", "trained"

    def __call__(self, arch):
        return cases.loss(arch)

    def stages(self, arch):
        yield 0.25, cases.loss(arch) + 1.0
        yield 1.0, cases.loss(arch)


@pytest.mark.parametrize("whole", [0, 1, 2, 3])
def test_histories_of_hardly_anything_but_stopped_trials(whole):
    problem = Problem(Toy, [Staged(), cost], staged=True)
    trials = history(problem, whole, 12)
    first = Bayes().suggest(problem, trials, 3)
    assert len(first) == 3 == len({a.id for a in first}) and first == Bayes().suggest(problem, trials, 3)


# ---- the reservation price ----------------------------------------------------------------------------------------------


def test_the_price_is_that_of_weitzman():
    assert price(np.full(81, 2.0), 0.25) == pytest.approx(
        2.0
    )  # a rung that says nothing: the whole gain for the whole cost
    ramp = np.linspace(0.0, 1.0, 81)
    z = price(ramp, 0.25)
    weights = np.exp(-0.5 * np.linspace(-4, 4, 81) ** 2)
    weights /= weights.sum()
    assert weights @ np.maximum(ramp - 0.75 * z, 0) == pytest.approx(0.25 * z)
    assert z > ramp.mean()  # looking first is worth something
    assert price(np.zeros(81), 0.25) == 0.0


def judged(problem: Problem, trials: list[Trial], arch, **given):
    judge = pickle.loads(pickle.dumps(Reservation(**given).judge(problem, trials, arch)))

    def goes_on(value: float, share: float = 0.25) -> bool:
        return judge("loss", share, {"loss": value, "cost": cost(arch)})

    return goes_on


def test_the_good_go_on_and_the_bad_do_not():
    problem = Problem(Toy, [Staged(noise=0.03), cost], staged=True)
    trials = history(problem, 14, 16)
    (arch,) = Bayes(seed=1).suggest(problem, trials, 1)
    goes_on = judged(problem, trials, arch)
    answers = [goes_on(value) for value in np.linspace(0.0, 9.0, 60)]
    assert answers[0] and not answers[-1] and answers == sorted(answers, reverse=True)
    assert goes_on(9.0, share=0.1) and goes_on(9.0, share=0.5)  # below `least`; a rung where nobody was yet
    assert isinstance(Reservation(), Stopping)


def test_what_is_maximised_is_judged_the_other_way_round():
    class Score(Staged):
        def stages(self, arch):
            for share, value in super().stages(arch):
                yield share, -value

    problem = Problem(Toy, [Score(noise=0.03, direction="maximize"), cost], staged=True)
    trials = history(problem, 14, 16)
    (arch,) = Bayes(seed=1).suggest(problem, trials, 1)
    goes_on = judged(problem, trials, arch)
    assert goes_on(0.0) and not goes_on(-9.0)


def test_a_rung_that_says_nothing_stops_hardly_anything():
    problem = Problem(Toy, [Staged(sign=0.0, noise=0.3), cost], staged=True)
    trials = history(problem, 40)
    (arch,) = Bayes(seed=1).suggest(problem, trials, 1)
    goes_on = judged(problem, trials, arch)
    assert np.mean([goes_on(value) for value in np.linspace(4.3, 5.2, 30)]) > 0.7


def test_without_enough_to_judge_by_everything_goes_on(caplog):
    problem = Problem(Toy, [Staged(), cost], staged=True)
    trials = history(problem, 7, 20)
    assert judged(problem, trials, Toy.sample(5000))(99.0) and not caplog.records
    same = [replace(t, architecture=Toy.sample(1)) for t in history(problem, 10)]
    assert judged(problem, same, Toy.sample(5000))(99.0) and "no surrogate" in caplog.text
    unstaged = Problem(Toy, [loss, cost])
    assert judged(unstaged, history(unstaged, 10), Toy.sample(5000))(99.0)


@pytest.mark.parametrize("given", [{"startup": 1}, {"startup": True}, {"least": -0.1}, {"least": "x"}])
def test_bad_settings_are_refused(given):
    with pytest.raises(SearchError, match=next(iter(given))):
        Reservation(**given)
