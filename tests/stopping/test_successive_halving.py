"""Successive halving: its order, what it may decide from, and evaluations that end at a rung."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest

from nas_bo.errors import ObjectiveError, SearchError
from nas_bo.problem import Function, Problem, Value
from nas_bo.stopping import Stopping, SuccessiveHalving
from nas_bo.stopping.successive_halving import epsilon_net, place
from nas_bo.trial import State, Trial
from tests.problems import Toy, cost, loss
from tests.stopping.staged import Staged

ARCH = Toy.sample(99)


def problem(*more, **given) -> Problem:
    return Problem(Toy, [Staged(**given), cost, *more], staged=True)


# ---- evaluation in stages ---------------------------------------------------------------------------------------------


def test_a_whole_evaluation_keeps_what_it_was_at_the_rungs():
    trial = problem(rungs=(0.25, 0.5)).evaluate(Toy.sample(0))
    assert trial.state is State.COMPLETE and trial.values["loss"] == float(loss(Toy.sample(0)))
    assert list(trial.rungs("loss")) == [0.25, 0.5] and trial.rungs("cost") == {}
    assert trial.info["loss"]["tokens"] == 1000


def test_a_stopped_evaluation_is_abandoned_at_once_and_loses_nothing(tmp_path):
    asked = []

    def judge(name, share, values):
        asked.append((name, share, dict(values)))
        return share < 0.5

    log = tmp_path / "log"
    arch = Toy.sample(0)
    trial = problem(rungs=(0.25, 0.5, 0.75), log=str(log)).evaluate(arch, judge)
    assert trial.state is State.STOPPED and not trial.feasible
    assert trial.reason.startswith("stopped at 50% of the budget of loss, at ")
    assert trial.values == {"cost": cost(arch)} and list(trial.rungs("loss")) == [0.25, 0.5]
    assert trial.info["loss"]["tokens"] == 500
    assert [(name, share) for name, share, _ in asked] == [("loss", 0.25), ("loss", 0.5)]
    assert asked[1][2] == {"cost": cost(arch), "loss": trial.rungs("loss")[0.5]}
    assert log.read_text() == f"{arch.id} stopped\n"


def test_the_judge_is_told_what_is_known_not_the_noise_of_a_measurement():
    class Measured:
        name, unit, direction, cost = "latency", "ms", "minimize", "measured"

        def __call__(self, arch):
            return 1234.5

        def predict(self, arch):
            return 10.0

    told = []
    trial = problem(Measured()).evaluate(Toy.sample(0), lambda name, share, values: told.append(values) or False)
    assert told[0]["latency"] == 10.0 and trial.values["latency"] == 1234.5


@pytest.mark.parametrize(
    ("stages", "says"),
    [
        ([(0.25, 3.0), (1.0, math.nan)], "staged is nan, not a finite number"),
        ([(0.25, math.inf), (1.0, 2.0)], "staged is inf, not a finite number"),
        ([(0.25, 3.0)], "its stages ended at the share 0.25 of the budget"),
        ([], "its stages ended at the share 0 of the budget"),
        ([(0.25, 3.0), RuntimeError("out of memory")], "staged: RuntimeError: out of memory"),
    ],
)
def test_stages_that_go_wrong_make_a_failed_trial_that_keeps_its_rungs(stages, says):
    class Bad:
        name, unit, direction, cost = "staged", "", "minimize", "trained"

        def __call__(self, arch):
            raise AssertionError

        def stages(self, arch):
            for stage in stages:
                if isinstance(stage, Exception):
                    raise stage
                yield stage

    trial = Problem(Toy, [Bad()], staged=True).evaluate(Toy.sample(0))
    assert trial.state is State.FAILED and says in trial.reason
    assert trial.rungs("staged") == ({0.25: 3.0} if stages and stages[0] == (0.25, 3.0) else {})


def test_proxies_are_noted_and_cost_no_trial():
    def broken(arch):
        raise RuntimeError("no gradient")

    order = []

    def watched(arch):
        order.append("trained")
        return float(loss(arch))

    def cheap(arch):
        order.append("cheap")
        return Value(7.0, how="computed")

    made = Problem(Toy, [Function(watched, "watched")], proxies=[cheap, broken, Function(lambda a: math.nan, "nan")])
    trial = made.evaluate(Toy.sample(0))
    assert trial.state is State.COMPLETE and trial.values == {"watched": float(loss(Toy.sample(0)))}
    assert order == ["cheap", "trained"]
    assert trial.info["cheap"]["value"] == 7.0 and trial.info["cheap"]["how"] == "computed"
    assert (
        trial.info["broken"] == {"error": "RuntimeError: no gradient"} and "not a finite" in trial.info["nan"]["error"]
    )
    assert [c.name for c in made.columns] == ["watched"]
    with pytest.raises(ObjectiveError, match="two objectives are named 'cheap'"):
        Problem(Toy, [loss], proxies=[cheap, cheap])
    with pytest.raises(ObjectiveError, match="the proxy 'x' has a limit"):
        Problem(Toy, [loss], proxies=[Function(cheap, "x", at_most=1.0)])


# ---- the order ----------------------------------------------------------------------------------------------------------


def test_the_epsilon_net_takes_the_farthest_next():
    points = np.array([[0.0, 10.0], [1.0, 9.0], [5.0, 5.0], [9.0, 1.0], [10.0, 0.0]])
    order = epsilon_net(points)
    assert list(order[:3]) == [0, 4, 2] and sorted(order) == [0, 1, 2, 3, 4]
    assert list(epsilon_net(np.ones((3, 2)))) == [0, 1, 2]


def test_place_is_by_rank_then_by_net():
    front = [[1.0, 3.0], [3.0, 1.0]]
    assert place(np.array([*front, [4.0, 4.0]])) == 2
    assert place(np.array([*front, [0.5, 0.5]])) == 0
    assert place(np.array([*front, [2.0, 2.0]])) == 2  # the middle of a front comes after its ends
    assert place(np.array([[3.0], [2.0], [1.0], [2.5]])) == 2


# ---- the decision -------------------------------------------------------------------------------------------------------


def rung(number: int, value: float, share: float = 0.25, state: State = State.STOPPED, **more) -> Trial:
    return Trial(
        Toy.sample(number), more.pop("values", {}), state=state, info={"loss": {"rungs": [[share, value]]}}, **more
    )


def test_one_of_eta_goes_on_whether_its_peers_were_stopped_or_not():
    alone = Problem(Toy, [Staged()], staged=True)
    done = [rung(i, float(i), state=State.STOPPED if i % 2 else State.COMPLETE, values={"loss": 1.0}) for i in range(9)]
    judge = SuccessiveHalving(eta=3).judge(alone, done, ARCH)
    assert [judge("loss", 0.25, {"loss": v}) for v in (-1.0, 2.5, 3.5, 8.0)] == [True, True, False, False]
    assert judge("loss", 0.5, {"loss": 8.0}) and judge("loss", 0.1, {"loss": 8.0})  # another rung; below `least`
    assert judge("loss", 0.25 + 1e-9, {"loss": 8.0}) is False
    for other in (State.FAILED, State.RUNNING, State.INFEASIBLE):
        assert SuccessiveHalving().judge(alone, [replace(t, state=other) for t in done], ARCH)(
            "loss", 0.25, {"loss": 99.0}
        )
    broken = [replace(t, violations={"x": 1.0}) for t in done]
    assert SuccessiveHalving().judge(alone, broken, ARCH)("loss", 0.25, {"loss": 99.0})


def test_the_first_go_on_whatever_they_are():
    alone = Problem(Toy, [Staged()], staged=True)
    done = [rung(i, float(i)) for i in range(6)]
    assert SuccessiveHalving(startup=7).judge(alone, done, ARCH)("loss", 0.25, {"loss": 99.0})
    assert not SuccessiveHalving(startup=6).judge(alone, done, ARCH)("loss", 0.25, {"loss": 99.0})
    assert SuccessiveHalving(startup=0).judge(alone, [], ARCH)("loss", 0.25, {"loss": 99.0})


def test_a_bad_loss_goes_on_where_it_is_cheap():
    both = problem()
    archs = sorted((Toy.sample(i) for i in range(40)), key=cost)
    done = [Trial(a, state=State.STOPPED, info={"loss": {"rungs": [[0.25, 3.0]]}}) for a in archs[5:25]]
    judge = SuccessiveHalving().judge(both, done, ARCH)
    assert judge("loss", 0.25, {"loss": 4.0, "cost": cost(archs[0]) - 1.0})
    assert not judge("loss", 0.25, {"loss": 4.0, "cost": cost(archs[39])})


def test_an_architecture_that_was_finished_later_counts_once_and_judges_travel():
    alone = Problem(Toy, [Staged()], staged=True)
    done = [rung(i, float(i)) for i in range(4)]
    again = [*done, *(replace(rung(0, 0.0), state=State.COMPLETE, values={"loss": 1.0}) for _ in range(8))]
    settings = SuccessiveHalving(eta=2, startup=1)
    assert isinstance(settings, Stopping)
    judges = [settings.judge(alone, history, ARCH) for history in (done, again)]
    judges.append(pickle.loads(pickle.dumps(judges[0])))
    for value in (0.5, 1.5, 2.5, 3.5):
        assert len({judge("loss", 0.25, {"loss": value}) for judge in judges}) == 1


@pytest.mark.parametrize(
    "given", [{"eta": 1}, {"eta": math.inf}, {"eta": True}, {"least": 0.0}, {"least": 1}, {"startup": -1}]
)
def test_bad_settings_are_refused(given):
    with pytest.raises(SearchError, match=next(iter(given))):
        SuccessiveHalving(**given)
