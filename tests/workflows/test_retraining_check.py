"""What a search re-trains beside its front, and what it then says of its own estimates; on trials made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nas_bo.search_spaces import TinyGPT
from nas_bo.trial import ObjectiveSpec, State, Trial, front
from nas_bo.workflows import retraining_check
from tests.problems import Few

LOSS, COST = ObjectiveSpec("val_loss", "bits/byte"), ObjectiveSpec("latency_ms", "ms", cost="measured")


def searched(n: int = 30) -> list[Trial]:
    rng = np.random.default_rng(0)
    archs = list({a.id: a for a in map(TinyGPT.sample, range(2 * n))}.values())[:n]
    trials = []
    for i, arch in enumerate(archs):
        size = retraining_check.counted(arch)
        assert size is not None
        loss = 6 - 0.3 * math.log(size) + rng.normal(0, 0.1)
        info = {
            "val_loss": {"cpu_seconds": 1.0, "parameters": size, "rungs": [[0.25, loss + rng.normal(0, 0.3)]]},
            "synflow": {"value": float(rng.normal()), "cpu_seconds": 0.01},
        }
        trials.append(Trial(arch, {"val_loss": loss, "latency_ms": size / 1e5}, info=info, number=i))
    return trials


def test_others_are_off_the_front_spread_over_size_and_no_more_than_a_tenth():
    trials = searched()
    best = front(trials, [LOSS, COST])
    found = retraining_check.others(trials, best, LOSS, 4)
    assert len(found) == 3 and not {t.architecture.id for t in found} & {t.architecture.id for t in best}
    assert (
        found == retraining_check.others(trials, best, LOSS, 4) and retraining_check.others(trials, best, LOSS, 0) == []
    )
    sizes = sorted(retraining_check.size_of(t) for t in trials)
    own = sorted(retraining_check.size_of(t) for t in found)
    assert own[0] < sizes[15] < own[-1]
    assert retraining_check.others(searched(9), [], LOSS, 4) == []


def test_failed_and_stopped_trials_are_never_chosen():
    trials = [Trial(t.architecture, t.values, state=State.FAILED, number=t.number) for t in searched()]
    assert retraining_check.others(trials, [], LOSS, 4) == []


def test_the_loss_its_rungs_and_the_proxies_are_judged_by_the_re_training():
    trials = searched()
    best = front(trials, [LOSS, COST])
    chosen = [*best, *retraining_check.others(trials, best, LOSS, 3)]
    again = {
        t.architecture.id: {
            "values": {"val_loss": t.values["val_loss"] - 0.2},
            "info": {"val_loss": {"cpu_seconds": 2.0}},
        }
        for t in chosen
    }
    report = retraining_check.of_search(
        trials, [LOSS, COST], best, again, 2.0, [ObjectiveSpec("synflow", direction="maximize")]
    )
    assert report is not None and report.n == len(chosen) and report.reference == "re-trained val_loss"
    whole, rung, corrected, synflow = report.proxies
    names = ("val_loss", "val_loss@25%", "val_loss@25% corrected", "synflow")
    assert (whole.name, rung.name, corrected.name, synflow.name) == names and corrected.share == pytest.approx(0.125)
    assert "learned here from 30 finished runs" in report.notes[0] and report.notes[0] in str(report)
    assert whole.tau.value == 1 and whole.share == pytest.approx(0.5) and rung.share == pytest.approx(0.125)
    assert synflow.share == pytest.approx(0.005) and report.parameters is not None and report.flops is not None
    assert f"{len(best)} of the front and 3 others" in report.chosen
    alone = retraining_check.of_search(
        trials, [LOSS, COST], best, {t.architecture.id: again[t.architecture.id] for t in best}, 2.0
    )
    assert alone is not None and "among winners" in alone.chosen


@pytest.mark.parametrize("n", [4, 12])
def test_a_corrected_loss_is_compared_with_the_correction_that_its_re_training_teaches(n):
    """The searched loss was corrected the wrong way; from six re-trainings on that is seen."""
    rng = np.random.default_rng(1)
    trials, again = [], {}
    for trial in searched(n):
        final, size = trial.values["val_loss"], math.log(retraining_check.size_of(trial) / 1e5)
        grown = -0.3 * size
        info = {"measured": final + 0.1 * size + 0.01 * rng.normal(), "growth": grown, "fidelity": 0.5}
        trials.append(Trial(trial.architecture, {"val_loss": info["measured"] - grown}, info={"val_loss": info}))
        again[trial.architecture.id] = {"values": {"val_loss": final}, "info": {}}
    report = retraining_check.of_search(trials, [LOSS], trials, again, 2.0)
    if n == 4:
        assert len(report.proxies) == 1 and "at 25% is not yet known here (4 finished runs" in report.notes[0]
        return
    searched_with, corrected = report.proxies
    assert corrected.name == "val_loss@25% corrected" and corrected.tau.value > searched_with.tau.value + 0.3


def test_nothing_re_trained_is_no_report():
    trials = searched(6)
    assert retraining_check.of_search(trials, [LOSS], [], {}, 2.0) is None
    failed = {trials[0].architecture.id: {"values": {}, "info": {}}}
    assert retraining_check.of_search(trials, [LOSS], [], failed, 2.0) is None


def test_what_is_no_decoder_has_no_size():
    assert retraining_check.counted(Few.sample(0)) is None and retraining_check.flops([Few.sample(0)]) is None
    assert retraining_check.sizes([Trial(Few.sample(0))]) is None
    assert retraining_check.size_of(Trial(Few.sample(0), {"parameters": 7.0})) == 7.0
