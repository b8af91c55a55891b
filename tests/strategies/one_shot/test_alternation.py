"""The course of a search, and what is refused before it."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import numpy as np
import pytest

from nas_bo.errors import ModelError, SearchError, TrainingDiverged
from nas_bo.model import conv, skip
from nas_bo.model.schedule import DEFAULTS
from nas_bo.objectives import Flops, Latency, Parameters
from nas_bo.problem import Reported
from nas_bo.space import Space, choice, repeat
from nas_bo.strategies import GDAS, Darts, ProxylessNAS
from nas_bo.strategies.one_shot.alternation import parted
from nas_bo.strategies.one_shot.collapse import FINISHED
from nas_bo.strategies.one_shot.gradient import agreement
from tests.strategies.one_shot.cases import (
    CORPUS,
    SHORT,
    TEXT,
    Little,
    Wide,
)


@pytest.mark.parametrize(
    "kind", [pytest.param(Darts, marks=pytest.mark.slow), GDAS, ProxylessNAS]
)  # three times the others
def test_a_search_over_the_whole_vocabulary(kind):
    steps = []
    search = kind(**SHORT, seed=3)
    found = search.search(Wide, CORPUS, cost=Latency(), progress=lambda step, of: steps.append((step, of)))
    assert len(found.front) == 2 and all(map(Wide.contains, found.front))
    assert found.stopped_because == (FINISHED, FINISHED)
    assert found.tokens[0] == 7 * 512 and found.tokens[1] > 0 and steps[-1] == (7, 7)
    assert {look.weight for look in found.history} == {0.0, 0.5}
    assert all(math.isfinite(look.loss) and look.cost > 0 and 0 <= look.entropy <= 1 for look in found.history)
    assert [bool(one) for one in found.eigenvalues] == [kind is Darts] * 2
    assert sum(found.distribution(Wide, 0)["layers.1.mixer"].values()) == pytest.approx(1, abs=1e-5)
    again = kind(**SHORT, seed=3).search(Wide, CORPUS, cost=Latency())
    assert again.logits == found.logits and again.front == found.front
    other = kind(**SHORT, seed=4).search(Wide, CORPUS, cost=Latency())
    assert other.logits != found.logits
    assert agreement(Wide, [found, again]) == pytest.approx((1, 1), abs=1e-9)
    assert all(0 < value < 1 for value in agreement(Wide, [found, other]))


def test_a_higher_lambda_finds_what_costs_less():
    search = ProxylessNAS(tokens=15_000, updates=40, lambdas=(0.0, 3.0), rate=0.3, paths=4)
    found = search.search(Little, CORPUS, cost=Parameters())
    assert Parameters()(found.front[1]) < Parameters()(found.front[0])
    costs = {weight: [look.cost for look in found.history if look.weight == weight] for weight in (0.0, 3.0)}
    assert costs[3.0][-1] < 0.8 * costs[0.0][-1]


def test_the_validation_text_is_never_looked_at():
    blind = replace(CORPUS, validation=np.zeros(0, np.uint8))
    search = ProxylessNAS(**SHORT)
    assert search.search(Little, blind, cost=Flops()).logits == search.search(Little, CORPUS, cost=Flops()).logits


def test_the_training_text_is_parted(tmp_path):
    left, right = parted(CORPUS, 0.25)
    assert len(left.train) + len(right.train) == 40_000 and abs(len(right.train) - 10_000) <= 20
    assert np.array_equal(left.train[:1500], TEXT[:1500]) and np.array_equal(right.train[:500], TEXT[1500:2000])
    np.save(tmp_path / "t.npy", TEXT)
    mapped = replace(CORPUS, train=np.load(tmp_path / "t.npy", mmap_mode="r"))
    assert all(isinstance(part.train, np.memmap) for part in parted(mapped, 0.2))
    with pytest.raises(SearchError, match="1,024"):
        parted(CORPUS, 0.001)


def test_a_divergence_lowers_the_rate_once_and_then_says_so(monkeypatch, caplog):
    monkeypatch.setitem(DEFAULTS, "lr", 1e8)
    with caplog.at_level(logging.WARNING), pytest.raises(TrainingDiverged, match="diverged"):
        ProxylessNAS(**SHORT).search(Little, CORPUS, cost=Flops())
    assert "half the learning rate" in caplog.text


@pytest.mark.parametrize("make", [
    lambda: Darts(lambdas=()), lambda: Darts(lambdas=(-1,)), lambda: Darts(lambdas=(0.1, 0.1)), lambda: Darts(tokens=0),
    lambda: Darts(samples=1), lambda: Darts(iterations=-1), lambda: Darts(seed=0.5), lambda: Darts(held_out=0),
    lambda: ProxylessNAS(paths=1), lambda: ProxylessNAS(explore=2), lambda: ProxylessNAS(rate=math.inf),
    lambda: GDAS(paths=1), lambda: GDAS(explore=-1), lambda: ProxylessNAS(updates=0), lambda: ProxylessNAS(warmup=-1), lambda: ProxylessNAS(lambdas=math.nan),
])  # fmt: skip
def test_wrong_settings_are_refused(make):
    with pytest.raises(SearchError, match=r"must be|number|probability"):
        make()


def test_one_lambda_may_be_given_as_a_number():
    assert Darts(lambdas=0.5).lambdas == (0.5,)


def test_what_cannot_be_searched_is_refused_before_anything_is_spent():
    class Own(Space):
        width = 8
        layers = repeat(1, mixer=conv(kernel=2), mlp=skip())
        colour = choice("red", "blue")

    with pytest.raises(ModelError, match="colour"):
        ProxylessNAS(lambdas=(0,)).search(Own, CORPUS)
    free = ProxylessNAS(lambdas=(0,), ignore=("colour",), tokens=4_000, updates=3).search(Own, CORPUS)
    assert free.distribution(Own, 0)["colour"] == {"red": 0.5, "blue": 0.5}
    with pytest.raises(SearchError, match="cost"):
        ProxylessNAS(lambdas=(0.1,)).search(Little, CORPUS)
    with pytest.raises(SearchError, match="predict"):
        ProxylessNAS(lambdas=(0.1,)).search(Little, CORPUS, cost=Reported("ms", cost="measured"))
    with pytest.raises(SearchError, match="finite"):
        ProxylessNAS(lambdas=(0.1,)).search(Little, CORPUS, cost=lambda arch: math.nan)
    with pytest.raises(SearchError, match="agreement"):
        agreement(Little, [])
