"""`strategy="auto"`: Bayes, then evolution, by the number of trials; a study that is continued keeps what it began with."""

from __future__ import annotations

import logging
import pickle
import random

import pytest

from nas_bo import AskTell, search
from nas_bo.errors import SearchError
from nas_bo.optuna import Sampler
from nas_bo.strategies import NSGA2, Among, Auto, Bayes, Random, Strategy
from nas_bo.strategies.auto import as_begun
from tests.strategies import cases


def ids(archs):
    return [arch.id for arch in archs]


def test_it_is_bayes_and_then_evolution_and_says_why(caplog):
    problem = cases.two(cases.Tiny)
    trials = cases.evaluated(problem, 3)
    auto = Auto(seed=4, modelled=3)
    with caplog.at_level(logging.INFO, "nas_bo"):
        assert ids(auto.suggest(problem, trials[:2], 1)) == ids(Bayes(seed=4).suggest(problem, trials[:2], 1))
        assert ids(auto.suggest(problem, trials, 2)) == ids(NSGA2(seed=4).suggest(problem, trials, 2))
        auto.suggest(problem, trials, 1)
    said = [r.message for r in caplog.records if "suggests:" in r.message]
    assert [line.split()[0] for line in said] == ["Bayes", "NSGA2"]
    assert "seconds for each suggestion" in said[1]
    assert isinstance(auto, Strategy) and pickle.loads(pickle.dumps(auto)) == auto
    with pytest.raises(SearchError, match="modelled"):
        Auto(modelled=-1)


def test_the_default_is_auto_and_proposes_what_bayes_does():
    def found(**words):
        return [
            t.architecture.id for t in search(cases.Tiny, [cases.loss], trials=4, retrain=0, seed=2, **words).trials
        ]

    assert found() == found(strategy="auto") == found(strategy=Bayes(seed=2))
    assert Sampler(seed=3).strategy == Sampler(strategy="auto", seed=3).strategy == Auto(seed=3)
    assert (
        AskTell(cases.Tiny, ["loss"], seed=5).strategy
        == AskTell(cases.Tiny, ["loss"], strategy="auto", seed=5).strategy
    )


def test_another_word_is_refused():
    with pytest.raises(SearchError, match="'best'.*suggest") as told:
        search(cases.Tiny, [cases.loss], strategy="best", trials=1)
    assert "\n" not in str(told.value)


def test_a_study_that_is_continued_keeps_the_strategy_that_it_began_with(tmp_path):
    def found(storage, trials, **words):
        made = search(cases.Nested, [cases.loss], trials=trials, retrain=0, storage=storage, study_name="s", **words)
        return [t.architecture.id for t in made.trials]

    whole = found(str(tmp_path / "whole.log"), 12, strategy=Random(seed=9))
    path = str(tmp_path / "parts.log")
    found(path, 6, strategy=Random(seed=9))
    assert found(path, 9) == whole[:9]
    assert found(path, 12, strategy="auto") == whole


def test_a_study_among_given_architectures_is_continued_with_them_or_not_at_all(tmp_path):
    rng = random.Random(0)
    given = list({a.id: a for a in (cases.Nested.sample(rng) for _ in range(30))}.values())[:8]
    words = {"retrain": 0, "storage": str(tmp_path / "s.log"), "study_name": "s"}
    search(cases.Nested, [cases.loss], trials=3, strategy=Among(given, Auto(seed=2)), **words)
    for again in ({}, {"strategy": "auto"}):
        with pytest.raises(SearchError, match=r"8 architectures, \w{12}.*strategy=Among\(architectures") as told:
            search(cases.Nested, [cases.loss], trials=6, **again, **words)
        assert "\n" not in str(told.value)
    result = search(cases.Nested, [cases.loss], trials=20, strategy=Among(given, Auto(seed=2)), **words)
    assert sorted(t.architecture.id for t in result.trials) == sorted(a.id for a in given)
    assert "8 architectures" in repr(Among(given)) and repr(Among(given)) != repr(Among(given[:7]))


class Mine:
    def suggest(self, problem, trials, n):
        return Random(seed=4).suggest(problem, trials, n)


def test_a_strategy_that_cannot_be_made_again_is_named(tmp_path, caplog):
    words = {"retrain": 0, "storage": str(tmp_path / "s.log"), "study_name": "s"}
    search(cases.Nested, [cases.loss], trials=2, strategy=Mine(), **words)
    with caplog.at_level(logging.WARNING, "nas_bo"):
        search(cases.Nested, [cases.loss], trials=3, **words)
    assert any("Mine" in r.message and "continues with Auto" in r.message for r in caplog.records)


@pytest.mark.parametrize(
    "kind", [Auto(seed=1, modelled=7), Bayes(seed=3), NSGA2(seed=2, population=9), Random(seed=1)], ids=str
)
def test_what_a_study_says_of_its_strategy_is_read_back(kind):
    assert as_begun(repr(kind)) == kind


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Mine()",
        "NSGA2(colour=3)",
        "NSGA2(population=-1)",
        "Random(seed=open('x'))",
        "Random(0)",
        "os.system('x')",
        "(",
        None,
    ],
)
def test_what_is_not_ours_is_not_read_back(text):
    assert as_begun(text) is None
