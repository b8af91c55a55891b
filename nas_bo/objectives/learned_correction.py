"""The correction of early losses, learned from runs that were also trained to the end: what `Growth` guesses, where a study can say better.

Runs that were looked at after a share of their budget and then finished say how much the others had still to gain from there:

    final = c + b * early - log(1 / share) * v . x + noise

x are log FLOPs and log depth as in `Growth`, and the share of the layers that has each kind of mixer and of MLP. The prior is hierarchical: v / b is
expected to be what `Growth` says, of kinds 0, and how far a space may be from that, like b and the noise, is averaged over, weighted by the marginal
likelihood (MacKay 1992, "Bayesian interpolation", Neural Computation 4). So a study without such runs has the correction of the prior, exactly, and a few
runs move it little. A loss is corrected by log(1 / share) * (v / b) . x.

Notation: n runs, d columns of x.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.errors import ObjectiveError
from nas_bo.objectives.growth import MIDDLE_DEPTH, MIDDLE_FLOPS, Growth
from nas_bo.trial import State, Trial
from nas_bo.validated import is_number
from nas_bo.wording import counted

SLOPE = (0.8, 0.2)  # prior of b: mean, sd; larger early losses fall by more
SLOPES = np.linspace(0.4, 1.3, 10)
SPREADS = (0.0, 0.02, 0.05, 0.1)  # how far a space may be from the prior: sd of each v, bits per byte
NOISES = np.exp(np.linspace(math.log(0.005), math.log(0.15), 9))  # sd of the noise, bits per byte
NOISE = (math.log(0.04), 0.7)  # prior of its logarithm: mean, sd
LEVEL = 10.0  # prior sd of c: any
MOST = 300  # finished runs of a study that are learned from
LEAST = 6  # finished runs from which it is called learned
SAME = 1e-6  # shares that differ by no more are one


class Run(NamedTuple):
    """One run: the loss after `share` of it, not corrected, and at its end."""

    architecture: Architecture
    share: float
    early: float
    final: float


@dataclass(frozen=True)
class Fit:
    """What was learned of one share.

    Attributes:
        names: of the columns; `weights`, `deviations`: v / b of each and its standard deviation, bits per byte.
        runs: how many there were.
        left_out: the final loss that is expected of each run from the others, (n,).
        taus: Kendall's tau of the runs' final losses with `left_out`, with losses corrected by the prior, and with early losses as they are;
            nan below `LEAST` runs.
    """

    names: tuple[str, ...]
    weights: np.ndarray = field(repr=False)
    deviations: np.ndarray = field(repr=False)
    runs: int
    left_out: np.ndarray = field(repr=False)
    taus: tuple[float, float, float]


@dataclass(frozen=True)
class LearnedGrowth:
    """A correction as `Growth`, learned at some shares; at others it is the prior.

    Attributes:
        prior: what holds where nothing was seen.
        fits: by share.
        vocab_size, sequence, ignore: of the runs; see `nas_bo.model.counts.flops`.
    """

    prior: Growth
    fits: Mapping[float, Fit]
    vocab_size: int = 256
    sequence: int = 64
    ignore: tuple[str, ...] = ()

    def __call__(self, arch: Architecture, share: float) -> float:
        """Bits per byte to take off a loss after `share` of the run."""
        fit = self.at(share)
        if fit is None:
            return self.prior(arch, share, self.vocab_size, self.sequence, self.ignore)
        row = _columns([arch], fit.names, self.vocab_size, self.sequence, self.ignore)[0]
        return math.log(1 / share) * float(row @ fit.weights)

    def __str__(self) -> str:
        return "\n".join(map(self.sentence, sorted(self.fits))) or self.sentence(0.25)

    def at(self, share: float) -> Fit | None:
        """What was learned of a share; None where no run was seen there."""
        return next((fit for at, fit in self.fits.items() if abs(at - share) <= SAME), None)

    def sentence(self, share: float) -> str:
        """What is known about the correction there, for a report."""
        fit = self.at(share)
        runs = 0 if fit is None else fit.runs
        if fit is None or runs < LEAST:
            return (
                f"The correction of losses at {share:.0%} is not yet known here ({counted(runs, 'finished run')}, {LEAST} are needed): it is "
                "that of the default space, a guess elsewhere."
            )
        shown = ", ".join(
            f"{name} {weight:.3f} ± {sd:.3f}"
            for name, weight, sd in zip(fit.names[:2], fit.weights, fit.deviations, strict=False)
        )
        learned, prior, early = fit.taus
        return (
            f"The correction of losses at {share:.0%}, learned here from {counted(runs, 'finished run')} ({shown}), orders each of them, left out, "
            f"with tau {learned:.2f}; that of the default space {prior:.2f}, losses as they are {early:.2f}."
        )


def learned_growth(
    runs: Iterable[Run],
    prior: Growth | None = None,
    *,
    vocab_size: int = 256,
    sequence: int = 64,
    ignore: Collection[str] = (),
) -> LearnedGrowth:
    """Learn the correction from runs of one space, text and recipe, each share by itself.

    Args:
        runs: those that reached the end. Selection by their early losses does no harm, since these are given.
        prior: what is expected; None is that of the default space and recipe.
        vocab_size, sequence, ignore: as in `nas_bo.model.counts.flops`.

    Raises:
        ObjectiveError: a share that is not between 0 and 1, or a loss that is not finite.
    """
    prior = Growth() if prior is None else prior
    by_share: dict[float, list[Run]] = {}
    for run in runs:
        if not (is_number(run.share) and 0 < run.share < 1 and is_number(run.early) and is_number(run.final)):
            raise ObjectiveError(
                f"learned_growth got a run at a share of {run.share!r} with losses {run.early!r} and {run.final!r}; it needs shares "
                "above 0 and below 1 and finite losses, so leave out runs that diverged or were not looked at on the way"
            )
        at = next((share for share in by_share if abs(share - run.share) <= SAME), run.share)
        by_share.setdefault(at, []).append(run)
    ignored = tuple(ignore)
    fits = {share: _fit(found, share, prior, vocab_size, sequence, ignored) for share, found in by_share.items()}
    return LearnedGrowth(prior, fits, vocab_size, sequence, ignored)


def runs_of(trials: Sequence[Trial], name: str) -> list[Run]:
    """The runs in trials that ended: the objective `name` at its rungs and at the end; of the last trials where there are many."""
    ended = [t for t in trials if t.state is State.COMPLETE and is_number(t.values.get(name))]
    return [
        Run(trial.architecture, share, early, float(trial.values[name]))
        for trial in ended[-MOST:]
        for share, early in trial.rungs(name).items()
    ]


def _fit(runs: list[Run], share: float, prior: Growth, vocab_size: int, sequence: int, ignore: tuple[str, ...]) -> Fit:
    from scipy.stats import kendalltau

    names = _names([run.architecture for run in runs], ignore)
    x = _columns([run.architecture for run in runs], names, vocab_size, sequence, ignore)  # (n, d)
    early, final = np.array([run.early for run in runs]), np.array([run.final for run in runs])
    n, log = len(runs), math.log(1 / share)
    expected = np.zeros(len(names))
    expected[:2] = prior.flops, prior.depth
    corrected = early - log * (x @ expected)
    z = -log * (x - x.mean(0))  # (n, d)
    y = final[:, None] - SLOPES * corrected[:, None]
    y = y - y.mean(0)  # (n, slopes)
    posts, variances, rests, logs = [], [], [], []
    for spread in SPREADS:
        for noise in NOISES:
            cover = noise**2 * np.eye(n) + spread**2 * z @ z.T + LEVEL**2
            inverse = np.linalg.inv(cover)
            a = inverse @ y
            fits = -0.5 * (y * a).sum(0) - 0.5 * float(np.linalg.slogdet(cover)[1])
            logs.append(
                fits
                - 0.5 * ((math.log(noise) - NOISE[0]) / NOISE[1]) ** 2
                - 0.5 * ((SLOPES - SLOPE[0]) / SLOPE[1]) ** 2
            )
            posts.append((spread**2 * (z.T @ a) / SLOPES).T)  # (slopes, d): v / b without what is expected
            within = spread**2 - spread**4 * ((inverse @ z) * z).sum(0)
            variances.append(np.maximum(within, 0.0) / SLOPES[:, None] ** 2)
            rests.append(
                (a / np.diag(inverse)[:, None]).T
            )  # (slopes, n): y minus what is expected of it from the others
    chance = np.exp(np.concatenate(logs) - max(float(each.max()) for each in logs))
    chance /= chance.sum()
    post, each = chance @ np.concatenate(posts), np.concatenate(posts)
    variance = chance @ (np.concatenate(variances) + (each - post) ** 2)
    left_out = final - chance @ np.concatenate(rests)
    guesses = (left_out, corrected, early)
    learned, guessed, plain = (
        float(kendalltau(guess, final).statistic) if n >= LEAST else math.nan for guess in guesses
    )
    return Fit(names, expected + post, np.sqrt(variance), n, left_out, (learned, guessed, plain))


def _names(archs: list[Architecture], ignore: tuple[str, ...]) -> tuple[str, ...]:
    """FLOPs and depth, then every kind of block."""
    from nas_bo.model.spec import check

    layers = [layer for arch in archs for layer in check(arch, ignore).layers]
    kinds = sorted({f"{part} {layer.slot(part).kind}" for layer in layers for part in ("mixer", "mlp")})
    return ("FLOPs", "depth", *kinds)


def _columns(
    archs: list[Architecture], names: tuple[str, ...], vocab_size: int, sequence: int, ignore: tuple[str, ...]
) -> np.ndarray:
    """(n, d); a kind that is not among the names counts for nothing."""
    from nas_bo.model import counts
    from nas_bo.model.spec import check

    rows = []
    for arch in archs:
        layers = check(arch, ignore).layers
        depth = max(1, len(layers))
        per_token = counts.flops(arch, vocab_size, sequence, ignore=ignore) / sequence
        kinds = [f"{part} {layer.slot(part).kind}" for layer in layers for part in ("mixer", "mlp")]
        size = [math.log(per_token / MIDDLE_FLOPS), math.log(depth / MIDDLE_DEPTH)]
        rows.append(size + [kinds.count(name) / depth for name in names[2:]])
    return np.array(rows)
