"""Which acquisition function fits a problem: closed forms up to four objectives, ParEGO (Knowles, 2006) above.

Noise is taken into account as in noisy expected improvement with the surrogate's mean as plug-in (Picheny et al., 2013,
"A benchmark of kriging-based infill criteria for noisy optimization"): the front is that of the expected values, not of
the lucky ones. Notation: n candidates, d inputs, m objectives, e of them known; a score maps inputs (n, d) and known
objectives (n, e) to logarithms (n,).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nas_bo.pareto import crowding, reference_point
from nas_bo.strategies import acquisition
from nas_bo.strategies.history import undominated
from nas_bo.strategies.objective_models import Belief
from nas_bo.surrogate.bend import UNBENT, Bend
from nas_bo.surrogate.committee import Ranks
from nas_bo.trial import ObjectiveSpec

DRAWS = 32  # per candidate, for ParEGO
MANY = 4  # objectives above which expected hypervolume gives way to random scalarisations
FENCE = 1.5  # of the range between the quartiles: what lies further out is an outlier
MOST = {2: 400, 3: 60, 4: 20}  # points of the front that are counted, by the number of objectives; time grows with it

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]
Gain = Callable[[np.ndarray, np.ndarray], np.ndarray]


def scorer(belief: Belief, rng: np.random.Generator, wider: float = 1.0, demanded: float = 0.0) -> Score:
    """The acquisition function that fits the belief: log(expected gain * chance to be feasible), larger is better.

    Args:
        wider: times the standard deviations that the surrogate states.
        demanded: see `gain_of`.
    """
    gain = gain_of(belief, rng, demanded)

    def score(inputs: np.ndarray, known: np.ndarray) -> np.ndarray:
        mean, sd = belief.predict(inputs, known)
        usable = np.isfinite(mean).all(1)
        found = np.full(len(inputs), -np.inf)
        if usable.any():
            inputs, mean, sd = inputs[usable], mean[usable], sd[usable] * wider
            found[usable] = gain(mean, sd) + belief.log_chance(inputs, mean, sd)
        return found

    return score


def gain_of(belief: Belief, rng: np.random.Generator, demanded: float = 0.0) -> Gain:
    """The expected gain over what the belief holds of the history: mean and standard deviation (n, m) -> logarithms (n,).

    Args:
        demanded: with one objective: what counts as a gain lies at least so far below the best.
    """
    m = len(belief.columns)
    points = np.zeros((0, m))
    if len(belief.incumbents):
        points = belief.points()
        points = points[np.isfinite(points).all(1)]
    if not len(points):
        return _any
    if m == 1:
        floor = 1e-9 * max(1e-12, float(np.ptp(points)))
        return lambda mean, sd: acquisition.log_ei(mean[:, 0], np.maximum(sd[:, 0], floor), points.min() - demanded)
    if m > MANY:
        return _chebyshev(points, rng)
    return _hypervolume(points, belief.columns, belief.known.positions, belief.bends)


def _any(mean: np.ndarray, _sd: np.ndarray) -> np.ndarray:
    """While nothing is feasible, the chance to be feasible decides alone."""
    return np.zeros(len(mean))


def _hypervolume(
    points: np.ndarray, columns: Sequence[ObjectiveSpec], known: Sequence[int] = (), bends: Sequence[Bend | Ranks] = ()
) -> Gain:
    """Expected hypervolume improvement over `points` (k, m); boxes are of the scales of the processes, and their volumes of the
    objectives' units."""
    bends = bends or [UNBENT] * len(columns)
    reference = reference_of(points, columns, known, bends)
    front = points[undominated(points)]
    if len(front) > MOST[len(columns)]:
        front = front[np.argsort(-crowding(front), kind="stable")[: MOST[len(columns)]]]
    lower, upper = acquisition.boxes(front, reference)
    weights = np.ones(len(lower))
    for j, bend in enumerate(bends):
        if bend is not UNBENT:
            low = np.where(np.isinf(lower[:, j]), np.minimum(points[:, j].min(), bend.knee), lower[:, j])
            width = upper[:, j] - low
            straight = bend.back(upper[:, j]) - bend.back(low)
            weights *= np.where(width > 0, straight / np.where(width > 0, width, 1.0), 1.0)

    def gain(mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
        return np.asarray(np.log(np.maximum(acquisition.ehvi(mean, sd, lower, upper, weights), acquisition.TINY)))

    return gain


def reference_of(
    points: np.ndarray, columns: Sequence[ObjectiveSpec], known: Sequence[int], bends: Sequence[Bend | Ranks]
) -> np.ndarray:
    """The point (m,) up to which there is something to gain, on the scales of `points` (k, m).

    At least `reference_point` of the front, and the worst of all trials in what is known. In what is modelled, the worst of
    all trials but outliers (Tukey, 1977, "Exploratory data analysis": beyond one and a half times the range of the middle half):
    where good architectures of one end have not been seen so far, the front ends before it, and beyond its end a better
    one would count for nothing. Where ranks are modelled, bad values have a heavy tail: what lies farther beyond the median than good values
    lie before it is a failure, and nothing is gained there.
    """
    straight = np.column_stack([bend.back(points[:, j]) for j, bend in enumerate(bends)])
    front = straight[undominated(straight)]
    reference = reference_point(front if (np.ptp(front, axis=0) > 0).all() else straight)
    for j in range(len(reference)):
        worst = float(straight[:, j].max())
        if j not in known:
            low, high = np.quantile(straight[:, j], [0.25, 0.75])
            worst = min(worst, high + FENCE * (high - low))
        reference[j] = max(reference[j], worst)
        bend = bends[j]
        if isinstance(bend, Ranks):
            reference[j] = min(reference[j], bend.bad)
    for j, column in enumerate(columns):  # beyond a limit there is nothing to gain
        bounds = [column.sign * bound for sign, bound in column.limits().values() if sign == column.sign]
        reference[j] = min([reference[j], *bounds])
    return np.array([float(bend.to(reference[[j]])[0]) for j, bend in enumerate(bends)])


def _chebyshev(points: np.ndarray, draws: np.random.Generator) -> Gain:
    """ParEGO: weights ~ uniform on the simplex, new ones for each suggestion."""
    weights, normal = draws.dirichlet(np.ones(points.shape[1])), draws.standard_normal((DRAWS, 1, points.shape[1]))
    low, span = points.min(0), np.where(np.ptp(points, axis=0) > 0, np.ptp(points, axis=0), 1.0)

    def gain(mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
        return acquisition.log_chebyshev_ei((mean + sd * normal - low) / span, (points - low) / span, weights)

    return gain
