"""The front as inline SVG: a point for each trial, with its values; baselines, infeasible trials, one objective, none at all."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from nas_bo.report.inline import front_svg
from nas_bo.report.summary import Summary
from nas_bo.search_spaces import TinyGPT
from nas_bo.trial import ObjectiveSpec, State, Trial

LOSS = ObjectiveSpec("loss", "bits", "minimize", "trained")
COST = ObjectiveSpec("cost <ms>", "ms", "minimize", "measured")
SVG = "{http://www.w3.org/2000/svg}"


def summary(values, columns=(LOSS, COST), **more) -> Summary:
    names = [c.name for c in columns]
    trials = [
        Trial(TinyGPT.sample(i), dict(zip(names, row, strict=True)), {}, State.COMPLETE, "", {}, i)
        for i, row in enumerate(values)
    ]
    return Summary("x", list(columns), trials, **more)


def points(text: str) -> list[ElementTree.Element]:
    return [one for one in ElementTree.fromstring(text).iter(f"{SVG}circle") if one.find(f"{SVG}title") is not None]


def test_every_trial_is_a_point_that_says_its_values():
    text = front_svg(summary([(2.0, 5.0), (3.0, 1.0), (2.5, 2.0), (4.0, 6.0)]))
    told = [one.find(f"{SVG}title").text for one in points(text)]  # type: ignore[union-attr]
    assert len(told) == 4 and any(one.startswith("trial 3: ") and "loss 4 bits" in one for one in told)
    assert sum("knee" in one for one in told) == 1 and "cost &lt;ms&gt;" in text
    inside = [(float(one.get("cx") or 0), float(one.get("cy") or 0)) for one in points(text)]
    assert all(70 < x < 640 and 0 < y < 360 for x, y in inside) and len(set(inside)) == 4


def test_what_is_compared_with_is_a_square_within_the_picture():
    base = {"label": "plain", "values": {"loss": 9.0, "cost <ms>": 40.0}, "retrained": None}
    text = front_svg(summary([(2.0, 5.0), (3.0, 1.0)], baselines=[base]))
    (square,) = [one for one in ElementTree.fromstring(text).iter(f"{SVG}rect") if one.find(f"{SVG}title") is not None]
    assert 0 < float(square.get("y") or -1) < 360 and 70 < float(square.get("x") or 0) < 640


def test_one_objective_goes_over_the_trials_and_none_draws_nothing():
    assert len(points(front_svg(summary([(3.0,), (2.0,), (2.5,)], columns=[LOSS])))) == 3
    assert front_svg(summary([])) == ""


@pytest.mark.parametrize(
    "values", [[(2.0, 5.0)], [(2.0, 5.0)] * 3, [(0.0, 0.0), (1e-9, 1e9)], [(-1.0, 5.0), (2.0, -5.0)]]
)
def test_few_equal_or_extreme_values_stay_in_the_picture(values):
    for one in points(front_svg(summary(values))):
        assert 70 < float(one.get("cx") or 0) < 640 and 0 < float(one.get("cy") or 0) < 360
