"""The plain decoder of a space: which it is, and that a search trains it with its front and says what was gained."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from nas_bo import search
from nas_bo.cli.validation_words import check_baseline
from nas_bo.errors import SearchError
from nas_bo.objectives import Parameters
from nas_bo.optuna import studies
from nas_bo.problem import Problem
from nas_bo.report.ranks import about_equal
from nas_bo.search_spaces import NAMED
from nas_bo.space import Space, choice, integer, option, repeat, require
from nas_bo.strategies import Random
from nas_bo.trial import Trial
from nas_bo.workflows import retraining_check
from nas_bo.workflows.compare_standard import compare_standard
from nas_bo.workflows.retraining_check import counted
from nas_bo.workflows.search import load_result
from nas_bo.workflows.standard import standard
from tests.problems import Few, Retrainable, Toy, cost, loss


def of(space, n=12, *, limit=None):
    problem = Problem(space, [Parameters(at_most=limit)])
    members = [Trial(a) for a in (space.sample(i) for i in range(n)) if problem.admissible(a)]
    return standard(problem, members, members[0] if members else None, problem.columns[0])


@pytest.mark.parametrize("name", NAMED)
def test_every_named_space_has_a_plain_decoder(name):
    found = of(NAMED[name])
    sizes = [counted(arch) for arch in found.architectures]
    assert len(sizes) == 3 and sizes == sorted(sizes) and found.why == ""
    for arch in found.architectures:
        assert NAMED[name].contains(arch)
        mixers = [layer.mixer for layer in arch.layers] if "layers" in arch.tree else [arch.mixer]
        assert {m.kind for m in mixers} == {"attention"} and len({str(m) for m in mixers}) == 1  # all layers alike


def test_its_sizes_span_the_front_and_keep_limits_and_rules():
    problem = Problem(Toy, [loss, cost])
    members = [Trial(Toy.sample(i)) for i in range(30)]
    costs = [cost(t.architecture) for t in members]
    found = [cost(a) for a in standard(problem, members, None, problem.columns[1]).architectures]
    assert found[0] < 2 * min(costs) + 32 and found[-1] > 0.5 * max(costs)
    assert all(counted(a) <= 60_000 for a in of(NAMED["tiny_gpt"], limit=60_000).architectures)

    class Ruled(Space):
        width = choice(32, 64)
        depth = integer(1, 3)
        layers = repeat(depth, mixer=choice(option("attention", heads=choice(1, 2, 4)), option("conv")))

        @require
        def not_one_head(arch):
            return all(layer.mixer.kind != "attention" or layer.mixer.heads != 1 for layer in arch.layers)

    ruled = standard(Problem(Ruled, [loss]), [], None, None)
    assert ruled.architectures and all(Ruled.contains(a) for a in ruled.architectures)


def test_a_space_without_one_says_so():
    class Convolutions(Space):
        width = choice(8, 16)
        layers = repeat(integer(1, 2), mixer=choice(option("conv", kernel=choice(3, 5)), option("skip")))

    class Impossible(Toy):
        @require
        def no_attention_first(arch):
            return arch.layers[0].mixer.kind != "attention"

    assert "no plain decoder, with attention in every layer" in standard(Problem(Few, [loss]), [], None, None).why
    assert "its mixers are conv" in standard(Problem(Convolutions, [loss]), [], None, None).why
    assert "keeps the rule no_attention_first" in standard(Problem(Impossible, [loss]), [], None, None).why
    assert "within the limits" in of(NAMED["llama"], limit=1000).why
    told = search(Impossible, [Retrainable(), cost], trials=4, strategy=Random())
    assert told.gain is None and str(told).startswith("Gain: not known, no plain decoder of Impossible keeps the rule")
    assert told.to_dict()["not_compared"].startswith("no plain decoder")


def run(**given):
    return search(Toy, [Retrainable(), cost], **{"trials": 24, "strategy": Random(seed=0), **given})


def test_a_search_says_first_what_it_gained_over_the_plain_decoder(tmp_path):
    storage = str(tmp_path / "study.db")
    result = run(storage=storage)
    gain = result.gain
    assert gain.standard and gain.shown and len(gain.labels) == 3 and gain.again == 2.0
    assert str(result).splitlines()[0] == gain.sentence and gain.sentence.startswith("Gain: at equal cost 0.")
    bases = [b for b in result.baselines if b.get("standard")]
    assert {b["id"] for b in bases}.isdisjoint(
        {t.architecture.id for t in result.trials} - {r.id for r in result.retrained}
    )
    for base in bases:
        arch = Toy.architecture(base["flat"])
        assert base["retrained"]["loss"] == float(loss(arch)) / 2.0 and base["values"] == {"cost": cost(arch)}
    assert json.loads(json.dumps(result.to_dict()))["gain"]["better"]["value"] == gain.better.value
    assert len(result.trials) == 24 and result.spent.begun == run(baseline=None).spent.begun  # they are no trials
    calls = []
    again = run(storage=storage, on_progress=calls.append)
    assert [c for c in calls if c.trial is not None] == [] and again.gain == gain  # nothing is trained twice
    assert load_result(storage).gain == gain


def test_own_baselines_are_trained_again_with_the_front_and_come_first():
    own = Toy.sample(3)
    result = run(baseline=[{"ours": own}, "standard"])
    assert not result.gain.standard and result.gain.labels == ("ours",) and len(result.gains) == 2
    base = next(b for b in result.baselines if b["label"] == "ours")
    assert base["values"]["loss"] == loss(own) and base["retrained"]["loss"] == float(loss(own)) / 2.0
    none = run(baseline=None)
    assert none.gain is None and none.not_compared == "" and not str(none).startswith("Gain")
    with pytest.raises(SearchError, match="standard, largest, smallest"):
        run(baseline="plain")


def test_the_time_left_counts_baselines_and_second_trainings():
    told = []
    run(baseline=[{"ours": Toy.sample(3)}, "standard"], on_progress=told.append)
    first = next(one for one in told if one.phase == "baseline")
    before = [one for one in told if one.phase in ("baseline", "search") and one.trial is not None]
    (begins,) = (one for one in told if one.phase == "retrain" and one.trial is None)
    mean = sum(one.trial.seconds for one in before) / len(before)
    assert before[-1].done == before[-1].total and begins.total > 4
    assert before[-1].seconds_left == pytest.approx(2 * begins.total * mean)
    assert first.seconds_left == pytest.approx((24 + 2 * (10 + 2 + 1 + 3)) * first.trial.seconds)
    told.clear()
    run(retrain=0, on_progress=told.append)
    assert [one.seconds_left for one in told if one.phase == "search"][-1] == 0


def test_without_a_retraining_the_report_says_why_there_is_no_gain():
    result = run(retrain=0)
    assert result.gain is None and "nothing was trained again" in str(result).splitlines()[0] and not result.baselines
    assert str(search(Toy, [loss, cost], trials=3, strategy=Random())).startswith(
        "trial"
    )  # nothing that could be trained again


def test_controls_are_of_about_the_size_of_what_is_trained_again():
    trials = [Trial(t.architecture, t.values, info=t.info, number=t.number) for t in run(trials=40, retrain=0).trials]
    best = trials[:3]
    controls = retraining_check.others(trials, best, Problem(Toy, [Retrainable()]).columns[0], 4, best)
    near = [retraining_check.size_of(t) for t in best]
    possible = [t for t in trials[3:] if any(about_equal(retraining_check.size_of(t), s) for s in near)]
    assert len(controls) == 4 and sum(t in possible for t in controls) == min(
        4, len({t.architecture.id for t in possible})
    )


@dataclass(frozen=True)
class Grown:
    """As `Retrainable`, from plain data alone."""

    factor: float = 1.0
    name: str = "loss"
    unit: str = "nats"
    direction: str = "minimize"
    cost: str = "trained"

    def __call__(self, arch):
        return (float(loss(arch)) if "width" in arch.flat else 1.0) / self.factor

    def larger(self, factor):
        return Grown(factor)


@dataclass(frozen=True)
class Costs:
    name: str = "cost"
    unit: str = "units"
    direction: str = "minimize"
    cost: str = "analytic"

    def __call__(self, arch):
        return cost(arch)


def test_a_search_without_a_baseline_says_how_to_add_one_and_it_is_added(tmp_path):
    storage = str(tmp_path / "old.db")
    old = search(Toy, [Grown(), Costs()], trials=24, strategy=Random(seed=0), storage=storage, baseline=None)
    old.study._storage.set_study_user_attr(old.study._study_id, "nas_bo:compared", None)  # as version 0.1 left it
    before = load_result(storage)
    assert before.gain is None and "validate --storage STUDY --baseline standard" in str(before).splitlines()[0]
    with pytest.raises(SearchError, match="compares the front of a search"):
        check_baseline("standard", None)
    with pytest.raises(SearchError, match="here it is 'standard'"):
        check_baseline("largest", storage)
    calls = []
    found = compare_standard(studies.load(storage, None), Toy, allow=("tests",), on_progress=calls.append)
    assert found.gain.shown and len(found.gain.labels) == 3 and load_result(storage).gain == found.gain
    assert (
        len([c for c in calls if c.trial is not None]) <= 3 and len(found.trials) == 24
    )  # the front is not trained again
    with pytest.raises(SearchError, match="cannot be compared with a standard design"):
        few = search(Few, [Grown()], trials=3, strategy=Random(), retrain=0, baseline=None)
        compare_standard(few.study, Few, allow=("tests",))
