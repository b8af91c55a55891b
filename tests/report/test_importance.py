"""Importance of choices, on spaces whose truth is known; parallel coordinates and progress."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nas_bo import Space, choice, integer, option, repeat
from nas_bo.report import Summary, page
from nas_bo.report.coordinates import MOST_LINES, axes, drawn
from nas_bo.report.importance import LEAST, importance
from nas_bo.report.pictures import pictures
from nas_bo.report.progress import reference, steps
from nas_bo.trial import ObjectiveSpec, State, Trial
from tests.report.test_report import size

LOSS, COST = ObjectiveSpec("loss", "nats"), ObjectiveSpec("cost", "ms")


class Layered(Space):
    depth = integer(1, 4)
    width = choice(16, 32, 64)
    idle = choice(1, 2, 3)
    layers = repeat(depth, op=choice(option("a", k=choice(1, 2)), option("b")))


class Flat(Space):
    x = integer(0, 9)
    y = integer(0, 9)
    z = integer(0, 9)


def trials(space, loss, n: int, noise: float = 0.0, **more) -> list[Trial]:
    rng = np.random.default_rng(0)
    made = []
    for i in range(n):
        arch = space.sample(i)
        values = {"loss": loss(arch) + noise * rng.normal(), "cost": 1.0 + len(arch.flat)}
        made.append(Trial(arch, values, number=i, **more))
    return made


def test_shares_are_those_of_a_function_whose_shares_are_known():
    """x, y ~ uniform on 0...9: x + y/2 + xy/5 with centred x and y has variances in the ratio V, V/4, V²/25."""

    def loss(arch):
        x, y = arch.x - 4.5, arch.y - 4.5
        return x + y / 2 + x * y / 5

    one = importance(trials(Flat, loss, 120), LOSS, Flat)
    v = 8.25
    parts = np.array([v, v / 4, v * v / 25])
    x, y, both = parts / parts.sum()
    at = {name: i for i, name in enumerate(one.names)}
    assert one.explained > 0.97 and one.trusted and not one.log
    assert one.first[at["x"]] == pytest.approx(x, abs=0.06) and one.first[at["y"]] == pytest.approx(y, abs=0.06)
    assert one.total[at["x"]] == pytest.approx(x + both, abs=0.06)
    assert one.total[at["z"]] < 0.03 and one.names[-1] == "z"
    a, b, share = one.strongest()
    assert {a, b} == {"x", "y"} and share == pytest.approx(both, abs=0.06)
    for low, total, high in zip(one.low, one.total, one.high, strict=True):
        assert low <= total <= high


def test_choices_of_layers_are_one_group_and_an_idle_choice_is_none():
    def loss(arch):
        return -math.log(arch.width) + 0.5 * np.mean([layer.op.kind == "a" for layer in arch.layers])

    one = importance(trials(Layered, loss, 80, noise=0.02), LOSS, Layered)
    assert one.names[0] == "width" and one.names[1] == "layers.*.op"
    assert dict(zip(one.names, one.total, strict=True))["idle"] < 0.05


def test_noise_is_not_told_as_importance():
    one = importance(trials(Flat, lambda _: 0.0, 40, noise=1.0), LOSS, Flat)
    assert not one.trusted and "Not shown" in one.caption()
    assert pictures(Summary("noise", [LOSS], trials(Flat, lambda _: 0.0, 40, noise=1.0), space=Flat)).keys() == {
        "progress.png", "parallel.png", "knee.svg"
    }  # fmt: skip


def test_too_few_trials_or_equal_values_tell_nothing():
    assert importance(trials(Flat, lambda a: a.x, LEAST - 1), LOSS, Flat) is None
    assert importance(trials(Flat, lambda a: 1.0, 50), LOSS, Flat) is None
    failed = [Trial(t.architecture, state=State.FAILED) for t in trials(Flat, lambda a: a.x, 50)]
    assert importance(failed, LOSS, Flat) is None


def test_the_same_trials_give_the_same_importance():
    history = trials(Layered, lambda a: a.width + a.depth, 30, noise=1.0)
    assert importance(history, LOSS, Layered) == importance(history, LOSS, Layered)


def test_the_page_and_the_pictures_have_all_of_it():
    history = trials(Layered, lambda a: -math.log(a.width) - 0.1 * a.depth, 40, noise=0.01)
    summary = Summary("A <search>", [LOSS, COST], history, space=Layered)
    text = page(summary)
    for word in ("What matters", "parallel coordinates", "importance for loss", "How the search went", "hypervolume [nats · ms]"):  # fmt: skip
        assert word in text
    assert text.count("data-wire=") == 40 and text.count("<details") == len(summary.front())
    assert len(text) < 120_000
    made = pictures(summary)
    assert set(made) == {"progress.png", "parallel.png", "importance.png", "knee.svg"}
    assert all(min(size(made[name])) > 300 for name in made if name.endswith(".png"))
    assert b"not a decoder" in made["knee.svg"]


def test_a_page_without_a_space_or_of_few_trials_is_whole():
    few = Summary("few", [LOSS, COST], trials(Flat, lambda a: a.x, 3), space=Flat)
    assert "from 20 trials on" in page(few)
    assert set(pictures(Summary("none", [LOSS, COST], []))) == set()
    assert "What matters" not in page(Summary("none", [LOSS, COST], []))


def test_axes_have_units_and_a_direction_and_many_lines_are_thinned():
    history = trials(Layered, lambda a: float(a.width), 900)
    summary = Summary("many", [LOSS, COST], history)
    shown = drawn(summary)
    assert MOST_LINES <= len(shown) <= MOST_LINES + len(summary.front())
    assert {id(t) for t in summary.front()} <= {id(t) for t in shown}
    found = axes(summary, shown, ["width"])
    assert found[0].title == "width" and found[-1].title == "cost [ms]" and found[-1].better == "low"
    assert any("% of layers" in a.title for a in found)
    for a in found:
        assert all(-1e-9 <= a.at(v) <= 1 + 1e-9 for v in a.values if v is not None)


def test_steps_never_fall_and_count_the_front():
    columns = [LOSS, COST]
    history = trials(Flat, lambda a: abs(a.x - 4) + a.y / 10, 30)
    taken = steps(history, columns, reference(history, columns))
    volumes = [s.hypervolume for s in taken]
    assert volumes == sorted(volumes) and taken[-1].n_pareto == len(Summary("", columns, history).front())
    assert steps([], columns, None) == [] and reference([], columns) is None
