"""Predicted objectives: what they learn, say and refuse; proxies; earlier studies; files."""

from __future__ import annotations

import json
import math
import pickle
import random
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest

from nas_bo import Problem, Space, choice, integer, repeat
from nas_bo.errors import ObjectiveError, SpaceError
from nas_bo.model import parameters
from nas_bo.objectives import Parameters, Predicted, Rung, ValidationLoss
from nas_bo.objectives.predicted_card import Card, tau
from nas_bo.problem import as_objective
from nas_bo.search_spaces import HWGPTBenchS, TinyGPT
from nas_bo.strategies import Bayes
from nas_bo.surrogate import GP, MLPEnsemble, Ridge
from nas_bo.trial import ObjectiveSpec, State, Trial
from nas_bo.workflows.result import Result


def loss(arch, noise=0.01, offset=0.0):
    """Size, a convolution before an attention, and noise that belongs to the architecture."""
    kinds = [layer.mixer.kind for layer in arch.layers]
    hybrid = any(a == "conv" and b == "attention" for a, b in pairwise(kinds))
    shaken = random.Random(arch.id + str(offset)).gauss(0, noise)
    return 5 + offset - 0.2 * math.log(parameters(arch, 256)) - 0.15 * hybrid + shaken


def architectures(n, seed=0, space=TinyGPT):
    found = {}
    while len(found) < n:
        arch = space.sample(seed * 10_000 + len(found) + 7 * sum(found.values()))
        found[arch] = found.get(arch, 0) + 1 if arch in found else 1
        if max(found.values()) > 1:
            found[arch] = 1
            seed += 1
    return list(found)


ARCHS = architectures(60)


def trials(archs=ARCHS[:30], proxies=False, **settings):
    info = {"val_loss": {"rungs": [[0.2500, 0.0]]}} if proxies else {}
    made = []
    for arch in archs:
        value = loss(arch, **settings)
        if proxies:
            info = {"val_loss": {"rungs": [[0.2496, value + 0.5]]}, "hint": {"value": -value}}
        made.append(Trial(arch, {"val_loss": value}, info=info))
    return made


@pytest.fixture(scope="module")
def plain():
    return Predicted.fit(trials(), space=TinyGPT)


def test_predicts_architectures_it_has_not_seen_better_than_size_does(plain):
    rest = ARCHS[30:]
    found = plain.estimate(rest)
    truth = [loss(arch) for arch in rest]
    assert tau([e.value for e in found], truth) > 0.75
    sized = Predicted.fit(trials(), space=TinyGPT, model=Ridge()).card
    for card in (plain.card, sized):
        assert card.n == 30 and card.rmse < card.rmse_of_size < card.rmse_of_mean
        assert card.tau_size_removed > 0.3 and card.tau > card.tau_of_size
        assert 0.8 <= card.coverage <= 1
    inside = [e.low <= y <= e.high for e, y in zip(found, truth, strict=True)]
    assert sum(inside) >= 24
    assert all(e.low <= e.value <= e.high for e in found)


def test_is_an_objective_known_early_and_never_exact(plain):
    assert plain.name == "predicted_val_loss" and plain.cost == "measured" and as_objective(plain) is plain
    value = plain(ARCHS[40])
    assert value.info["how"] == "predicted" and value.info["n"] == 30 and value.info["low"] < value < value.info["high"]
    assert float(value) == plain.predict(ARCHS[40])
    json.dumps(value.info)
    problem = Problem(TinyGPT, [loss_objective, replace(plain, at_most=-1.0)])
    assert set(problem.known(ARCHS[40])) == {"predicted_val_loss"}
    assert problem.admissible(ARCHS[40])  # an estimate rejects nothing by itself ...
    trial = problem.evaluate(ARCHS[40])
    assert trial.state is State.INFEASIBLE and "loss_objective" not in trial.values  # ... but it saves the training
    history = [Problem(TinyGPT, [loss_objective, plain]).evaluate(arch) for arch in ARCHS[:6]]
    assert Bayes(startup=2).suggest(Problem(TinyGPT, [loss_objective, plain]), history, 1)


def loss_objective(arch):
    return loss(arch)


def test_the_same_trials_give_the_same_predictor_in_any_process(plain):
    found, again = (Predicted.fit(trials(ARCHS[:10]), space=TinyGPT) for _ in range(2))
    other = pickle.loads(pickle.dumps(found))
    assert again.estimate(ARCHS[30:35]) == found.estimate(ARCHS[30:35]) == other.estimate(ARCHS[30:35])
    assert again.conditions() == found.conditions()
    assert Predicted.fit(trials(ARCHS[1:31]), space=TinyGPT, model=Ridge()).conditions() != plain.conditions()


def test_trials_come_as_results_and_lists_and_repeats_are_averaged():
    column = ObjectiveSpec("score", "points", "maximize")
    made = [Trial(arch, {"score": 100 - loss(arch)}) for arch in ARCHS[:12]]
    result = Result("study", [column], made)
    found = Predicted.fit([result, [Trial(ARCHS[0], {"score": 98.0})]], "score", space=TinyGPT, model=Ridge())
    assert (found.unit, found.direction, found.card.n) == ("points", "maximize", 12)
    assert found.examples[0].value == pytest.approx((made[0].values["score"] + 98) / 2)
    small = Predicted.fit([Trial(arch, {"val_loss": loss(arch)}) for arch in ARCHS[:12]], space=TinyGPT, model=Ridge())
    same = Predicted.fit(result, column, space=TinyGPT, model=Ridge())
    for e, f in zip(same.estimate(ARCHS[20:30]), small.estimate(ARCHS[20:30]), strict=True):
        assert (e.value, e.low, e.high) == pytest.approx((100 - f.value, 100 - f.high, 100 - f.low))


def test_targets_over_orders_of_magnitude_are_learned_as_logarithms():
    made = [Trial(arch, {"latency_ms": parameters(arch, 256) ** 1.5 / 1e4}) for arch in ARCHS[:20]]
    found = Predicted.fit(made, "latency_ms", space=TinyGPT, model=Ridge())
    assert found.card.logarithm
    for arch, e in zip(ARCHS[30:], found.estimate(ARCHS[30:]), strict=True):
        assert e.value == pytest.approx(parameters(arch, 256) ** 1.5 / 1e4, rel=0.2) and e.low > 0


# ---- proxies ------------------------------------------------------------------------------------------------------


def test_proxies_sharpen_where_they_are_and_are_left_out_where_not():
    made = trials(ARCHS[:20], proxies=True)
    made[3] = replace(made[3], info={})  # one trial lacks them
    found = Predicted.fit(made, space=TinyGPT, proxies=[Rung("val_loss", 0.25), "hint"])
    assert found.card.n == 19 and found.base_card.n == 20 and found.card.rmse < 0.5 * found.base_card.rmse
    assert found.card.proxies == ("val_loss@0.25", "hint") and not hasattr(found, "predict")
    truth = loss(ARCHS[40])
    with_it, without = found.estimate([ARCHS[40]] * 2, [{"val_loss@0.25": truth + 0.5, "hint": -truth}, {"hint": 1.0}])
    assert with_it.proxies == ("val_loss@0.25", "hint") and without.proxies == ()
    assert with_it.high - with_it.low < without.high - without.low and abs(with_it.value - truth) < 0.02
    assert found(ARCHS[40]).info["proxies"] == {}  # it cannot measure what was given by name
    with pytest.raises(ObjectiveError, match="'hint' is nan"):
        found.estimate([ARCHS[40]], [{"hint": math.nan}])
    with pytest.raises(ObjectiveError, match="proxies of 2"):
        found.estimate([ARCHS[40]], [{}, {}])


@dataclass(frozen=True)
class Hint:
    name: str = "hint"
    unit: str = ""
    direction: str = "maximize"
    cost: str = "trained"

    def __call__(self, arch):
        return -loss(arch)


def test_a_proxy_that_is_an_objective_is_measured():
    problem = Problem(TinyGPT, [loss_objective], proxies=[Hint()])
    made = [problem.evaluate(arch) for arch in ARCHS[:15]]
    found = Predicted.fit(made, "loss_objective", space=TinyGPT, proxies=[Hint()], model=Ridge())
    assert found.cost == "trained" and found.measures == (Hint(),)
    value = found(ARCHS[40])
    assert value.info["proxies"] == {"hint": pytest.approx(-loss(ARCHS[40]))}
    assert value == pytest.approx(loss(ARCHS[40]), abs=0.03)


# ---- earlier studies ----------------------------------------------------------------------------------------------


def test_an_earlier_study_makes_few_trials_suffice(plain):
    made = trials(ARCHS[30:38], noise=0.002, offset=1.0)
    alone = Predicted.fit(made, space=TinyGPT)
    found = Predicted.fit(made, space=TinyGPT, earlier=plain)
    assert found.card.earlier["used"] and found.card.earlier["n"] == 30
    rest = ARCHS[38:]
    errors = [
        sum((e.value - loss(a, 0.002, 1.0)) ** 2 for a, e in zip(rest, p.estimate(rest), strict=True))
        for p in (found, alone)
    ]
    assert errors[0] < 0.5 * errors[1]
    assert "earlier study (30 architectures, val_loss) used" in found.card.text()
    assert found.card.n < 20 and "intervals are too narrow" in found.card.text()
    assert "too narrow" not in plain.card.text()


def test_an_earlier_study_of_something_else_is_used_only_if_it_helps():
    made = [Trial(arch, {"val_loss": random.Random(arch.id + "x").random() - arch.width}) for arch in ARCHS[:20]]
    other = [Trial(arch, {"nonsense": random.Random(arch.id).random()}) for arch in ARCHS[20:40]]
    before = Predicted.fit(other, "nonsense", space=TinyGPT, model=Ridge())
    found = Predicted.fit(made, space=TinyGPT, model=Ridge(), earlier=before)
    told = found.card.earlier
    assert told["used"] == (told["rmse_with"] <= told["rmse_without"]) and told["target"] == "nonsense"
    with pytest.raises(ObjectiveError, match="must be the same"):
        Predicted.fit([Trial(a, {"val_loss": float(i)}) for i, a in enumerate(architectures(8, space=HWGPTBenchS))],
                      space=HWGPTBenchS, earlier=before)  # fmt: skip


# ---- spaces that the decoder does not know ------------------------------------------------------------------------


class Foreign(Space):
    depth = integer(1, 6)
    blocks = repeat(depth, op=choice("fast", "slow"), size=choice(8, 16, 32))


@dataclass(frozen=True)
class Cells:
    name: str = "cells"
    unit: str = ""
    direction: str = "minimize"
    cost: str = "analytic"

    def __call__(self, arch):
        return float(sum(block.size for block in arch.blocks))


def test_a_space_of_the_users_own_blocks():
    archs = architectures(24, space=Foreign)
    made = [Trial(a, {"val_loss": -math.log(Cells()(a)) - any(b.op == "slow" for b in a.blocks)}) for a in archs]
    bare = Predicted.fit(made, space=Foreign, model=Ridge())
    assert math.isnan(bare.card.tau_size_removed) and "log parameters" not in bare.card.columns
    found = Predicted.fit(made, space=Foreign, model=Ridge(), known=[Cells()])
    assert found.card.rmse < bare.card.rmse and found.card.tau_size_removed > 0.5


# ---- files --------------------------------------------------------------------------------------------------------


def test_files_give_back_the_same_predictor(tmp_path, plain):
    made = trials(proxies=True)
    models = [
        (plain, ()),
        (Predicted.fit(made, space=TinyGPT, model=Ridge(), proxies=[Hint()], earlier=plain), (Hint(),)),
    ]
    for predicted, proxies in models:
        path = predicted.save(tmp_path / "predictor.json")
        again = Predicted.load(path, TinyGPT, proxies=proxies)
        assert again.card == predicted.card and again.base_card == predicted.base_card
        assert again.estimate(ARCHS[30:40]) == predicted.estimate(ARCHS[30:40])
        assert again.conditions() == predicted.conditions() and again.proxies == predicted.proxies
        assert isinstance(Card.from_dict(json.loads(json.dumps(again.card.to_dict()))), Card)


def test_files_that_do_not_fit(tmp_path, plain):
    small = Predicted.fit(trials(ARCHS[:8]), space=TinyGPT, model=MLPEnsemble(members=2, steps=20))
    path = small.save(tmp_path / "predictor.json")
    assert Predicted.load(path, TinyGPT).model == small.model
    with pytest.raises(ObjectiveError, match=f"TinyGPT .*not on {HWGPTBenchS.title}"):
        Predicted.load(path, HWGPTBenchS)
    with pytest.raises(ObjectiveError, match="MLPEnsemble, not GP"):
        Predicted.load(path, TinyGPT, model=GP())
    with pytest.raises(ObjectiveError, match="known objectives"):
        Predicted.load(path, TinyGPT, known=[Parameters()])
    told = json.loads(path.read_text())

    def changed(**more):
        (tmp_path / "other.json").write_text(json.dumps({**told, **more}))
        return tmp_path / "other.json"

    with pytest.raises(ObjectiveError, match="schema version 99"):
        Predicted.load(changed(schema=99), TinyGPT)
    with pytest.raises(ObjectiveError, match="model is Mine, which is not one"):
        Predicted.load(changed(model={"name": "Mine", "settings": {}}), TinyGPT)
    with pytest.raises(ObjectiveError, match="damaged"):
        Predicted.load(changed(examples=[{}]), TinyGPT)
    moved = [[v + 1 for v in row] for row in told["probes"]]
    with pytest.raises(ObjectiveError, match="away from what it predicted"):
        Predicted.load(changed(probes=moved), TinyGPT)
    assert Predicted.load(changed(probes=moved), TinyGPT, refit=True).card.n == 8
    (tmp_path / "other.json").write_text("no")
    for wrong in (tmp_path / "other.json", tmp_path / "missing.json", tmp_path):
        with pytest.raises(ObjectiveError):
            Predicted.load(wrong, TinyGPT)
    with pytest.raises(ObjectiveError, match="cannot be written"):
        plain.save(tmp_path / "no" / "folder.json")


# ---- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "settings", "said"),
    [
        (trials()[:5], {}, "5 trials have 5 different .* at least 6"),
        (trials()[:1] * 30, {}, "30 trials have 1 different architecture with"),
        (trials(), {"target": "accuracy"}, "30 trials have 0 .*values in these trials: val_loss"),
        ([], {}, "0 trials have 0 "),
        ([Trial(a, {"val_loss": 2.0}) for a in ARCHS[:9]], {}, "is 2 for all 9"),
        ([Trial(a, {"val_loss": math.nan}) for a in ARCHS[:9]], {}, "9 trials have 0 "),
        (trials(), {"proxies": ["hint"]}, "0 of them every proxy .*hint: 0"),
        (trials(), {"proxies": ["val_loss"]}, "none that of the target"),
        (trials(proxies=True), {"proxies": ["hint", Hint()]}, "different names"),
        ([Trial(a, {"val_loss": loss(a), "p": math.nan}) for a in ARCHS[:9]], {"proxies": ["p"]}, "'p' of .* is nan"),
        ([Trial(a, {"val_loss": loss(a), "p": 1.0}) for a in ARCHS[:9]], {"proxies": ["p"]}, "'p' is 1 for every"),
        ("study.db", {}, "not as str"),
    ],
)
def test_what_cannot_be_learned_from(made, settings, said):
    with pytest.raises(ObjectiveError, match=said):
        Predicted.fit(made, space=TinyGPT, model=Ridge(), **settings)


def test_trials_of_another_space_and_impossible_rungs():
    with pytest.raises(SpaceError):
        Predicted.fit([Trial(a, {"val_loss": 1.0}) for a in architectures(8, space=Foreign)], space=TinyGPT)
    for share in (0, 1, 25):
        with pytest.raises(ObjectiveError):
            Rung("val_loss", share)


def test_winners_are_checked_by_training():
    found = Predicted.fit(trials(), ValidationLoss(tokens=5_000), space=TinyGPT, model=Ridge())
    bigger = found.larger(2)
    assert (bigger.name, bigger.of.tokens, bigger.cost) == ("predicted_val_loss", 10_000, "trained")
    assert bigger(TinyGPT.sample(1)) > 0
    assert not hasattr(Predicted.fit(trials(), space=TinyGPT, model=Ridge()), "larger")


def test_the_card_says_when_nothing_was_learned():
    noise = [Trial(arch, {"val_loss": random.Random(arch.id).random()}) for arch in ARCHS[:20]]
    text = Predicted.fit(noise, space=TinyGPT, model=Ridge()).card.text()
    assert "do not use it" in text or "no better than a straight line" in text
