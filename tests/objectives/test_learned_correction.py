"""The correction of early losses that a study learns: the prior where nothing is known, and better than it where the prior is wrong."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.fidelity import other_spaces
from nas_bo.errors import ObjectiveError
from nas_bo.model import flops
from nas_bo.objectives import Growth, Parameters, ValidationLoss, learned_growth
from nas_bo.objectives.learned_correction import Run, runs_of
from nas_bo.problem import Problem
from nas_bo.report.ranks import point, tau
from nas_bo.search_spaces import TinyGPT
from nas_bo.stopping import SuccessiveHalving
from nas_bo.trial import Trial

ARCHS = [TinyGPT.sample(seed) for seed in range(60)]
SHARE = 0.25


def runs(truth: Growth, n: int = 40, slope: float = 0.9, noise: float = 0.01) -> list[Run]:
    """Final losses that parameters do not decide, and early ones from which `truth` is still to come."""
    rng = np.random.default_rng(0)
    found = []
    for arch in ARCHS[:n]:
        final = float(2.5 - 0.15 * math.log(flops(arch, 256, 64) / 1e7) + 0.1 * rng.normal())
        early = (final + noise * float(rng.normal())) / slope + truth(arch, SHARE, 256)
        found.append(Run(arch, SHARE, early, final))
    return found


def test_without_finished_runs_it_is_the_prior_exactly() -> None:
    prior = Growth(0.1, -0.02)
    empty, one = learned_growth([], prior), learned_growth(runs(Growth(0, 0), 1), prior)
    for arch in ARCHS[:6]:
        assert empty(arch, SHARE) == prior(arch, SHARE, 256)
        assert one(arch, SHARE) == pytest.approx(prior(arch, SHARE, 256), abs=1e-12)
        assert one(arch, 0.5) == prior(arch, 0.5, 256)  # a share that nobody has looked at
    assert "not yet known here (0 finished runs, 6 are needed)" in str(empty)
    assert "not yet known here (1 finished run, 6" in str(one)


def test_where_the_prior_is_wrong_it_orders_runs_better_that_it_has_not_seen() -> None:
    found = runs(Growth(-0.08, 0.02))
    seen, others = found[:20], found[20:]
    learned, final = learned_growth(seen), [run.final for run in others]

    def order(correction: object) -> float:
        guesses = [run.early - correction(run.architecture) for run in others]  # type: ignore[operator]
        return point(tau, [(np.array(guesses), np.array(final))])

    guess = order(lambda arch: Growth()(arch, SHARE, 256))
    assert order(lambda arch: learned(arch, SHARE)) > max(guess + 0.1, 0.95)
    fit = learned.fits[SHARE]
    assert fit.weights[0] == pytest.approx(-0.08, abs=4 * fit.deviations[0]) and fit.deviations[0] < 0.02
    assert fit.taus[0] > fit.taus[1] + 0.1 and "learned here from 20 finished runs (FLOPs -0.0" in str(learned)


def test_more_runs_move_it_more() -> None:
    found = runs(Growth(-0.08, 0.02))
    sizes = [learned_growth(found[:n]).fits[SHARE].weights[0] for n in (2, 6, 40)]
    assert 0.075 > sizes[0] > sizes[1] > sizes[2]


@pytest.mark.parametrize("run", [Run(ARCHS[0], 1.0, 2.0, 2.0), Run(ARCHS[0], 0.5, math.nan, 2.0)])
def test_runs_that_say_nothing_are_refused(run: Run) -> None:
    with pytest.raises(ObjectiveError, match="leave out runs that diverged or were not looked at"):
        learned_growth([run])


def trials(found: list[Run]) -> list[Trial]:
    return [
        Trial(r.architecture, {"bits_per_byte": r.final}, info={"bits_per_byte": {"rungs": [[r.share, r.early]]}})
        for r in found
    ]


def test_an_objective_learns_it_from_its_trials_and_takes_off_what_rungs_lack() -> None:
    found = runs(Growth(-0.08, 0.02))
    loss = ValidationLoss(device="cpu", data=__file__)
    plain = loss.early_correction(trials(found))
    assert plain(ARCHS[50], SHARE) == pytest.approx(learned_growth(found)(ARCHS[50], SHARE))
    assert runs_of(trials(found), "bits_per_byte") == found

    guess = Growth(0.02, 0.0)  # rungs of a loss with a correction of its own are corrected by it already
    there = [run._replace(early=run.early - guess(run.architecture, SHARE, 256)) for run in found]
    again = replace(loss, growth=guess).early_correction(trials(there))
    both = again(ARCHS[50], SHARE) + guess(ARCHS[50], SHARE, 256)
    assert both == pytest.approx(learned_growth(found, guess)(ARCHS[50], SHARE))
    for other in (replace(loss, extrapolate=True), replace(loss, fidelity=0.9)):
        assert other.early_correction(trials(found))(ARCHS[50], SHARE) == 0.0


def test_halving_keeps_what_has_still_to_gain() -> None:
    """Two architectures of one early loss: only the one that will be better continues, and size decides which one that is."""
    problem = Problem(TinyGPT, [ValidationLoss(device="cpu", data=__file__), Parameters()], staged=True)
    small, large = sorted(ARCHS[40:], key=lambda arch: flops(arch, 256, 64))[:: len(ARCHS) - 41]
    kept = {}
    for truth in (Growth(0.15, 0.05), Growth(-0.15, -0.05)):
        found = runs(truth)
        rule = SuccessiveHalving(eta=3)
        at = float(np.quantile([run.early for run in found], 0.33))
        judged = [
            rule.judge(problem, trials(found), arch)("bits_per_byte", SHARE, {"bits_per_byte": at})
            for arch in (small, large)
        ]
        kept[truth.flops] = judged
    assert kept == {0.15: [False, True], -0.15: [True, False]}


@pytest.mark.parametrize("share", other_spaces.SHARES)
def test_on_recorded_curves_a_wrong_prior_is_corrected_and_a_right_one_kept(share: float) -> None:
    """Decoders of attention alone on English prose, trained by `benchmarks.fidelity.other_spaces`: the correction fitted elsewhere holds there, its
    opposite does not."""
    recorded = other_spaces.runs_of("attention/prose")[share]
    final = np.array([run.final for run in recorded])
    found: dict[tuple[float, str], list[float]] = {}
    for split in range(8):
        order = np.random.default_rng(split).permutation(len(recorded))
        seen, rest = [recorded[i] for i in order[:14]], order[14:]
        for prior in (Growth(), Growth(-0.1, -0.1)):
            corrections = {"prior": learned_growth([], prior), "learned": learned_growth(seen, prior)}
            for name, correction in corrections.items():
                guess = [recorded[i].early - correction(recorded[i].architecture, recorded[i].share) for i in rest]
                found.setdefault((prior.flops, name), []).append(point(tau, [(np.array(guess), final[rest])]))
    order_of = {key: float(np.mean(values)) for key, values in found.items()}
    assert order_of[-0.1, "learned"] > order_of[-0.1, "prior"] + 0.3
    assert order_of[0.075, "learned"] > order_of[0.075, "prior"] - 0.05
