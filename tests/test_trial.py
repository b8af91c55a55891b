"""Fronts against an oracle, knees on hand-made fronts, and attributes that survive any storage."""

from __future__ import annotations

import moocore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_bo.space import Space, integer
from nas_bo.study import ATTRIBUTE_WIDTH, attributes, from_attributes, read_attributes, write_attributes
from nas_bo.trial import ObjectiveSpec, State, Trial, front, knee, non_dominated


class Numbers(Space):
    n = integer(0, 10_000)


LOSS, SPEED = ObjectiveSpec("loss", "nats"), ObjectiveSpec("speed", "tokens/s", "maximize")


def trial(n: int, loss: float, speed: float, **more) -> Trial:
    return Trial(Numbers.architecture({"n": n}), {"loss": loss, "speed": speed}, number=n, **more)


@given(st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=1, max_size=40))
def test_non_dominated_is_moocores(points):
    array = np.array(points, dtype=float)
    assert np.array_equal(non_dominated(array), moocore.is_nondominated(array, keep_weakly=True))


def test_front_turns_directions_skips_infeasible_and_failed_and_keeps_one_of_equal_values():
    trials = [
        trial(0, 2.0, 10),
        trial(1, 1.0, 5),
        trial(2, 1.5, 4),  # dominated by 1
        trial(3, 0.1, 99, violations={"limit": 1.0}),
        trial(4, 0.1, 99, state=State.FAILED),
        trial(5, 2.0, 10),  # equal to 0
    ]
    assert [t.number for t in front(trials, (LOSS, SPEED))] == [1, 0]
    assert [t.number for t in front(trials, (SPEED, LOSS))] == [0, 1]
    assert front(trials[3:5], (LOSS, SPEED)) == [] and knee(trials[3:5], (LOSS, SPEED)) is None


def test_knee_is_the_corner():
    cost = ObjectiveSpec("cost")
    points = [(5.0, 1.0), (1.2, 1.2), (1.0, 5.0)]
    trials = [
        Trial(Numbers.architecture({"n": i}), {"loss": a, "cost": b}, number=i) for i, (a, b) in enumerate(points)
    ]
    assert knee(trials, (LOSS, cost)).number == 1


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=3000), max_size=4))
def test_attributes_are_cut_and_joined(data):
    parts = write_attributes("k", data)
    assert all(len(text) <= ATTRIBUTE_WIDTH for text in parts.values())
    assert read_attributes(parts, "k") == data


def test_attributes_of_a_trial_that_died_between_two_parts_are_none():
    long = trial(1, 1.0, 1.0, info={"loss": {"curve": list(range(2000))}}, reason="because", seconds=1.5)
    parts = attributes(long)
    assert len(parts) > 1
    told = from_attributes(parts)
    assert told["info"] == long.info and told["reason"] == "because" and told["id"] == long.architecture.id
    parts.popitem()
    assert from_attributes(parts) == {} == from_attributes({})


def test_rungs_are_read_whatever_a_host_made_of_them():
    def rungs(kept):
        return Trial(Numbers.architecture({"n": 1}), info={"loss": {"rungs": kept}}).rungs("loss")

    assert rungs([[0.25, 3.0], (0.5, 2)]) == {0.25: 3.0, 0.5: 2.0}
    assert rungs([[0.25, float("nan")], [1.0, 2.0], [0.0, 1.0], "x", [0.5], [True, 1.0], None]) == {}
    assert rungs(None) == {} == rungs("0.25") == trial(0, 1.0, 1.0).rungs("loss")


def test_a_stopped_trial_says_so_in_its_attributes():
    stopped = trial(1, 1.0, 1.0, state=State.STOPPED)
    assert from_attributes(attributes(stopped))["state"] == "stopped" and not stopped.feasible
    assert "state" not in from_attributes(attributes(trial(1, 1.0, 1.0, state=State.INFEASIBLE)))
    assert front([stopped], (LOSS, SPEED)) == []


def test_limits_of_a_column():
    column = ObjectiveSpec("x", at_most=3.0, at_least=1)
    assert column.limits() == {"x<=3": (1.0, 3.0), "x>=1": (-1.0, 1)}
    with pytest.raises(AttributeError):
        column.name = "y"
