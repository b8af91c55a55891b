"""What a space is like, before and after a search."""

from __future__ import annotations

import pytest

from nas_bo.errors import SpaceError
from nas_bo.space import Space, choice, integer, option, repeat, require
from nas_bo.space.design import advise, inspect


class Designed(Space):
    depth = integer(1, 2)
    width = choice(8, 16, 32)
    spare = choice(1, 2, 3)
    layers = repeat(depth, mixer=choice(option("attention", heads=choice(1, 2)), option("conv")))

    @require
    def narrow_enough(arch):
        return arch.width < 32


class Nothing(Space):
    width = 8


def test_sizes_rules_dead_choices_and_what_decides():
    found = inspect(
        Designed,
        {"cells": lambda arch: arch.width * len(arch.layers), "broken": lambda arch: 1 / 0},
        seen=[Designed.sample(0)],
    )
    assert found.size == Designed.size(rules=False) and found.admitted == Designed.size()
    assert found.rules["narrow_enough"] == pytest.approx(1 / 3, abs=0.1) and set(found.dead) == {"width = 32"}
    assert (
        list(found.decided_by["cells"])[:2] in (["width", "depth"], ["depth", "width"]) and "broken" not in found.ranges
    )
    assert sum(found.decided_by["cells"].values()) > 0.9 and found.decided_by["cells"]["spare"] < 0.05
    assert 32 in found.untried["width"]
    text = str(found)
    assert (
        "Dead: width = 32 never keeps the rules" in text and "narrow_enough rejects" in text and "Never tried: " in text
    )
    assert str(inspect(Designed)) == str(inspect(Designed))  # the same seed
    with pytest.raises(SpaceError, match="nothing to decide"):
        inspect(Nothing)
    with pytest.raises(SpaceError, match="at least 10"):
        inspect(Designed, draws=3)


def test_a_front_that_leans_on_a_bound_is_told_to_widen_it_and_the_next_space_runs():
    trials = [Designed.sample(i) for i in range(80)]
    front = [a for a in trials if a.width == 16 and a.spare == 3][:8]
    advice = advise(Designed, front, trials)
    assert len(front) >= 4 and advice.leaning == {"spare": "largest value, 3"} and advice.unused["width"] == [8]
    assert "All" in str(advice) and "widen it there" in str(advice)
    scope: dict[str, type[Space]] = {}
    exec(advice.code, scope)
    made = scope["DesignedNext"]
    assert made.domains()["spare"].values == (2, 3, 4) and 8 not in made.domains()["width"].values
    assert [rule.name for rule in made.rules()] == ["narrow_enough"] and made.sample(0)
    few = advise(Designed, front[:2], trials)
    assert few.code == "" and "too few" in str(few)
