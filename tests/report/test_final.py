"""The final front and its knee: what guesses is never recommended, and what was re-trained counts as re-trained."""

from __future__ import annotations

import pytest

from nas_bo.chance import KnowsChance, guessed, level, stated
from nas_bo.final import settle
from nas_bo.objectives import Latency, Parameters, ValidationLoss
from nas_bo.space import Space, integer
from nas_bo.trial import ObjectiveSpec, Trial, front, knee
from nas_bo.workflows.result import Result, Retrained
from nas_bo.workflows.retraining_check import MAX_RETRAINED, of_front


class Numbers(Space):
    n = integer(0, 10_000)


LOSS = ObjectiveSpec("val_loss", "bits/byte")
TIME = ObjectiveSpec("latency_ms", "ms", cost="measured")
SIZE = ObjectiveSpec("parameters", cost="analytic")
RATE = ObjectiveSpec("throughput", "tokens/s", "maximize", cost="measured")


def trials(points, columns=(LOSS, TIME), **more) -> list[Trial]:
    names = [c.name for c in columns]
    return [
        Trial(Numbers.architecture({"n": i}), dict(zip(names, p, strict=True)), number=i, **more)
        for i, p in enumerate(points)
    ]


def record(trial: Trial, info=None, **values) -> dict:
    return {"id": trial.architecture.id, "values": values, "info": info or {}, "factor": 2.0}


THREE = [(2.3, 3.0, 400e3), (2.5, 1.0, 200e3), (2.9, 0.5, 150e3), (6.9, 0.2, 30e3), (23.9, 0.05, 9e3)]


def test_with_three_objectives_what_is_worse_than_guessing_is_not_the_knee():
    columns = (LOSS, TIME, SIZE)
    found = trials(THREE, columns)
    assert len(front(found, columns)) == 5
    assert knee(found, columns).number in (1, 2)
    worse = trials(
        [(2.3, 3.0, 400e3), (2.5, 2.5, 380e3), (2.6, 2.0, 350e3), (23.9, 0.25, 10e3), (24.5, 0.2, 9e3)], columns
    )
    assert knee(worse, columns).values["val_loss"] < 3
    for cut in range(1, 5):  # nor is it in any smaller front that has something better
        some = [found[cut], found[4]] if cut < 4 else found[3:]
        assert knee(some, columns).number != 4


def test_a_level_that_was_stated_goes_before_that_of_the_unit():
    assert level(LOSS) == 8 and level(LOSS, {"val_loss": 3.9}) == 3.9 and level(TIME) is None
    assert level(ObjectiveSpec("accuracy", "", "maximize")) is None
    assert guessed({"val_loss": 8.0}, [LOSS]) and not guessed({"val_loss": 7.9}, [LOSS])
    accuracy = ObjectiveSpec("accuracy", "", "maximize")
    assert guessed({"accuracy": 0.1}, [accuracy], {"accuracy": 0.1}) and not guessed({"accuracy": 0.2}, [accuracy], {"accuracy": 0.1})  # fmt: skip
    found = trials([(3.0, 9.0), (4.0, 2.0), (5.0, 1.0)])
    assert knee(found, (LOSS, TIME)).number == 1 and knee(found, (LOSS, TIME), levels={"val_loss": 3.9}).number == 0


def test_objectives_state_their_chance_level(tmp_path):
    loss = ValidationLoss(tokens=2000)
    assert isinstance(loss, KnowsChance) and loss.chance() == 8 and not isinstance(Latency(), KnowsChance)

    def accuracy(arch):
        return 0.5

    accuracy.chance = lambda: 0.25
    from nas_bo.problem import as_objective

    assert stated([loss, Parameters(), as_objective(accuracy)]) == {"bits_per_byte": 8.0, "accuracy": 0.25}
    missing = ValidationLoss(data=str(tmp_path / "none.txt"))
    assert stated([missing]) == {}  # the check of the corpus says why


def test_when_all_guess_there_is_still_a_knee_and_it_is_the_same_every_time():
    found = trials([(8.5, 3.0), (9.0, 2.0), (20.0, 1.0)])
    assert knee(found, (LOSS, TIME)).number == 1


def test_what_a_baseline_beats_in_everything_is_not_the_knee():
    found = trials([(2.0, 9.0), (3.0, 3.0), (4.0, 2.0)])
    base = [{"label": "mine", "values": {"val_loss": 2.9, "latency_ms": 1.9}, "state": "complete"}]
    assert knee(found, (LOSS, TIME)).number == 1 and knee(found, (LOSS, TIME), base).number == 0
    for useless in ({"val_loss": 2.9}, {"val_loss": float("nan"), "latency_ms": 1.0}, {"val_loss": 3.0, "latency_ms": 3.0}):  # fmt: skip
        assert knee(found, (LOSS, TIME), [{"values": useless}]).number == 1
    assert knee(found, (LOSS, TIME), [{**base[0], "state": "failed"}]).number == 1
    assert knee(found, (LOSS, TIME), [{"values": {"val_loss": 0.1, "latency_ms": 0.1}}]) is not None


@pytest.mark.parametrize(
    ("points", "columns", "number"),
    [
        ([(2.5,), (2.0,), (3.0,)], (LOSS,), 1),  # one objective: the best
        ([(2.0, 9.0)], (LOSS, TIME), 0),
        ([(2.0, 9.0), (3.0, 1.0)], (LOSS, TIME), 0),  # of two equally near the better in the first
        ([(2.0, 9.0), (2.001, 1.0)], (LOSS, TIME), 1),  # a difference that is noise is not stretched to a choice
        ([(2.0, 9.0), (3.0, 8.999)], (LOSS, TIME), 0),
        ([(2.0, 5.0), (2.0, 5.0)], (LOSS, TIME), 0),
        ([(2.0, 1000.0), (2.2, 30.0), (3.0, 1.0)], (LOSS, TIME), 1),  # a cost of three orders, by its logarithm
        ([(2.0, 0.0), (1.5, 3.0), (1.0, 100.0)], (LOSS, TIME), 1),  # no logarithm of 0
        ([(2.0, 10.0), (2.2, 500.0), (3.0, 1000.0)], (LOSS, RATE), 1),
        ([(0.0, 5.0), (0.0, 6.0)], (LOSS, TIME), 0),
        ([(-3.0, 5.0), (-2.0, 1.0), (-2.9, 1.5)], (ObjectiveSpec("score", cost="trained"), TIME), 2),
    ],
)
def test_the_knee_of_small_and_degenerate_fronts(points, columns, number):
    assert knee(trials(points, columns), columns).number == number


def test_ranges_below_the_width_of_the_intervals_are_noise():
    info = {"latency_ms": {"low": 0.5, "high": 2.5}}
    found = trials([(2.0, 1.2), (2.6, 1.1), (3.0, 1.0)], info=info)
    assert knee(trials([(2.0, 1.2), (2.6, 1.1), (3.0, 1.0)]), (LOSS, TIME)).number == 1
    assert knee(found, (LOSS, TIME)).number == 0


def test_two_costs_do_not_outvote_the_loss():
    points = [(2.0, 8.0, 8e5), (2.5, 4.0, 4e5), (4.0, 2.6, 3e5)]
    three, two = (LOSS, TIME, SIZE), (LOSS, TIME)
    assert knee(trials(points, three), three).number == knee(trials([p[:2] for p in points], two), two).number == 1


POINTS = [(2.0, 9.0), (2.2, 4.0), (2.4, 2.0), (2.8, 1.0)]


def test_without_re_training_the_final_front_is_that_of_the_search():
    found = trials(POINTS)
    final = settle(found, (LOSS, TIME))
    assert list(final.members) == front(found, (LOSS, TIME)) and not final.again and not final.left
    assert final.knee is knee(found, (LOSS, TIME))


def test_the_final_front_has_the_final_values_and_only_what_was_re_trained():
    found = trials([*POINTS, (3.5, 5.0)])
    again = [
        record(found[0], val_loss=1.9),
        record(found[1], val_loss=2.6),  # worse than trial 2 once trained: dominated
        record(found[2], val_loss=2.1, info={"val_loss": {"seed": 1}}),
        record(found[4], val_loss=3.0),
        {"id": found[3].architecture.id, "values": {}, "reason": "diverged"},
        {"id": "unknown", "values": {"val_loss": 0.1}},
    ]
    final = settle(found, (LOSS, TIME), again)
    assert [t.number for t in final.members] == [0, 2] and final.again == ["val_loss"] and final.factor == 2
    assert final.members[1].values == {"val_loss": 2.1, "latency_ms": 2.0}
    assert final.members[1].info["val_loss"] == {"seed": 1}
    assert final.knee in final.members
    why = {found[i].architecture.id: word for i, word in ((1, "dominated by"), (3, "failed"))}
    assert final.left.keys() == why.keys() and all(word in final.left[key] for key, word in why.items())
    assert final.best(found[1]).values["val_loss"] == 2.6 and final.best(found[3]) is found[3]


def test_measured_again_values_are_final_too_and_limits_hold_for_them():
    limited = (LOSS, ObjectiveSpec("latency_ms", "ms", cost="measured", at_most=5.0))
    found = trials(POINTS[1:], limited)
    again = [
        record(found[0], val_loss=2.1, latency_ms=5.5),
        record(found[1], val_loss=2.3, latency_ms=2.2, info={"latency_ms": {"low": 2.1, "high": 2.3, "level": 0.9}}),
        record(found[2], val_loss=2.7),  # was not measured again: its values do not compare
    ]
    final = settle(found, limited, again)
    assert [t.number for t in final.members] == [1] == [final.knee.number]
    assert final.again == ["val_loss", "latency_ms"]
    assert (
        "limit" in final.left[found[0].architecture.id]
        and "not evaluated again" in final.left[found[2].architecture.id]
    )
    assert not final.best(found[0]).feasible
    nothing = settle(found, limited, again[:1])
    assert [t.number for t in nothing.members] == [0, 1, 2] and not nothing.again  # all else would be an empty front


def test_an_architecture_that_guesses_after_re_training_is_not_the_knee():
    found = trials([(2.0, 9.0), (2.4, 3.0), (5.0, 1.0)])
    assert knee(found, (LOSS, TIME)).number == 1
    again = [record(t, val_loss=v) for t, v in zip(found, (2.0, 8.5, 9.0), strict=True)]
    assert settle(found, (LOSS, TIME), again).knee.number == 0


def test_the_knee_and_the_ends_are_re_trained_whatever_the_cap():
    columns = (LOSS, TIME, SIZE)
    points = [(2 + i / 10, 60 - i, 100 + (i * 37) % 59) for i in range(60)]
    best = front(trials(points, columns), columns)
    ends = [min(best, key=lambda t: t.values[c.name]).number for c in columns]
    for most in (1, 3, MAX_RETRAINED):
        chosen = of_front(best, columns, most)
        assert chosen[0] is knee(best, columns) and set(ends) <= {t.number for t in chosen}
        assert len({t.number for t in chosen}) == len(chosen) <= max(most, 4)
    assert {t.number for t in of_front(best, columns, 1000)} == {t.number for t in best}
    assert of_front([], columns) == []
    assert [t.number for t in of_front(best[:1], columns)] == [best[0].number]


def test_a_result_has_the_knee_of_the_final_front():
    found = trials(POINTS)
    again = [Retrained(t.architecture.id, {"val_loss": v}) for t, v in zip(found, (1.9, 2.15, 2.5, 2.2), strict=True)]
    result = Result("x", (LOSS, TIME), found, retrained=again)
    assert [t.number for t in result.final.members] == [0, 1, 3] and result.knee() in result.final.members
    assert result.knee().values["val_loss"] in (1.9, 2.15, 2.2)
    assert len(result.front) == 4 and result.to_dict()["knee"] == result.knee().number


def test_what_was_only_measured_again_has_a_final_front_too():
    found = trials(POINTS)
    again = [record(t, latency_ms=v) for t, v in zip(found, (9.1, 1.9, 2.0, 1.05), strict=True)]
    final = settle(found, (LOSS, TIME), again)
    assert [t.number for t in final.members] == [0, 1, 3] and final.again == ["latency_ms"]
    assert final.left == {found[2].architecture.id: "dominated by final values"}


def test_one_whose_re_training_failed_and_that_was_measured_again_is_not_on_the_final_front():
    found = trials(POINTS)
    again = [record(t, val_loss=t.values["val_loss"] - 0.1, latency_ms=t.values["latency_ms"]) for t in found[1:]]
    again.append({**record(found[0], latency_ms=9.0), "reason": "diverged"})
    final = settle(found, (LOSS, TIME), again)
    assert [t.number for t in final.members] == [1, 2, 3] and "failed" in final.left[found[0].architecture.id]


def test_a_baseline_is_compared_at_the_budget_of_the_search():
    found = trials([(2.0, 9.0), (3.0, 3.0), (4.0, 2.0)])
    again = [record(t, val_loss=t.values["val_loss"] - 0.5, latency_ms=t.values["latency_ms"] * 1.1) for t in found]
    base = [{"label": "mine", "values": {"val_loss": 2.9, "latency_ms": 2.1}, "state": "complete"}]
    assert settle(found, (LOSS, TIME), again).knee.number == 1
    assert settle(found, (LOSS, TIME), again, base).knee.number == 0  # though 2.5 is below 2.9
