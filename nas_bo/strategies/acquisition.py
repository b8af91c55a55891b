"""What an evaluation may gain, in closed form (after Yang et al., 2019, "Efficient computation of expected hypervolume
improvement", J. Global Optimization 75), and by scalarisation beyond four objectives.

Everything is minimised. Notation: n candidates, k points of the front, m objectives, b boxes; objective j of a candidate
is ~ Normal(mean, sd^2), independent of the others; sd is 0 for what is known. scipy is imported when a function is called.
"""

from __future__ import annotations

import itertools

import numpy as np

FLOOR = -1e4  # the logarithm that stands for no gain at all
TINY = 1e-300


def psi(z: np.ndarray) -> np.ndarray:
    """E[(z + Z)+] with Z ~ Normal(0, 1): z Phi(z) + phi(z), without cancellation far below zero."""
    from scipy.special import erfcx

    low = np.minimum(z, 5.0)
    below = np.exp(-0.5 * low**2) / np.sqrt(2 * np.pi) * (1 + low * np.sqrt(np.pi / 2) * erfcx(-low / np.sqrt(2)))
    return np.asarray(np.where(z > 5.0, z, np.maximum(below, 0.0)))


def log_psi(z: np.ndarray) -> np.ndarray:
    """log E[(z + Z)+] with Z ~ Normal(0, 1), stable far below zero."""
    from scipy.special import log_ndtr

    z = np.asarray(z, dtype=float)
    low = np.minimum(z, -1.0)
    log_phi = -0.5 * low**2 - 0.5 * np.log(2 * np.pi)
    ratio = np.clip(-low * np.exp(log_ndtr(low) - log_phi), 0.0, 1.0)
    tail = log_phi + np.where(low < -50, -2 * np.log(-low), np.log(np.maximum(1 - ratio, 1e-12)))
    high = np.maximum(z, -1.0)
    body = np.log(high * np.exp(log_ndtr(high)) + np.exp(-0.5 * high**2) / np.sqrt(2 * np.pi))
    return np.asarray(np.where(z < -1.0, tail, body))


def log_ei(mu: np.ndarray, sd: np.ndarray, best: float) -> np.ndarray:
    """The logarithm of the expected improvement below `best`, (n,) (Ament et al., 2023, "Unexpected improvements to
    expected improvement for Bayesian optimization")."""
    return np.asarray(np.log(sd) + log_psi((best - mu) / sd))


def boxes(front: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Disjoint boxes that fill what `front` (k, m) leaves undominated below `reference` (m,): corners (b, m), (b, m).

    Slabs along the last objective, in each of which the points that cost no more are a front of one objective less.
    There are at most k + 1 boxes for two objectives, about k^2 / 2 for three and k^3 / 6 for four.
    """
    front = front[(front < reference).all(1)]
    if len(reference) == 1:
        return np.array([[-np.inf]]), np.array([[front.min(initial=reference[0])]])
    edges = np.concatenate([[-np.inf], np.unique(front[:, -1]), reference[-1:]])
    if len(reference) == 2:  # the same without a call for each slab
        front = front[np.argsort(front[:, 1])]
        least = np.minimum.accumulate([reference[0], *front[:, 0]])[
            np.searchsorted(front[:, 1], edges[:-1], side="right")
        ]
        return np.column_stack([np.full(len(least), -np.inf), edges[:-1]]), np.column_stack([least, edges[1:]])
    lower, upper = [], []
    for start, stop in itertools.pairwise(edges):
        low, high = boxes(_thin(front[front[:, -1] <= start, :-1]), reference[:-1])
        lower.append(np.column_stack([low, np.full(len(low), start)]))
        upper.append(np.column_stack([high, np.full(len(high), stop)]))
    return np.concatenate(lower), np.concatenate(upper)


def _thin(points: np.ndarray) -> np.ndarray:
    from nas_bo.trial import non_dominated

    return points[non_dominated(points)] if len(points) > 1 and points.shape[1] > 1 else points


def ehvi(
    mean: np.ndarray, sd: np.ndarray, lower: np.ndarray, upper: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """The expected hypervolume improvement, (n,), exact for independent objectives.

    A candidate gains, in every box, the part that lies beyond it: the product over the objectives of
    E[(upper - y)+] - E[(lower - y)+].

    Args:
        mean, sd: (n, m).
        lower, upper: (b, m), from `boxes`.
        weights: (b,), what a unit of volume is worth in each box; 1 by default.
    """
    volume = np.ones((len(mean), len(lower)))
    for j in range(mean.shape[1]):
        edges, place = np.unique(np.concatenate([lower[:, j], upper[:, j]]), return_inverse=True)
        finite = np.where(np.isinf(edges), 0.0, edges)
        if (sd[:, j] > 0).any():
            spread = np.maximum(sd[:, j, None], 1e-300)
            left = spread * psi((finite - mean[:, j, None]) / spread)
        else:
            left = np.maximum(finite - mean[:, j, None], 0.0)  # (n, edges)
        left[:, np.isinf(edges)] = 0.0
        volume *= left[:, place[len(lower) :]] - left[:, place[: len(lower)]]
    return np.asarray(volume.sum(1) if weights is None else volume @ weights)


def log_chebyshev_ei(draws: np.ndarray, points: np.ndarray, weights: np.ndarray, rho: float = 0.05) -> np.ndarray:
    """ParEGO (Knowles, 2006, IEEE TEC 10(1), eq. 2): log expected improvement of max_j(w_j f_j) + rho sum_j(w_j f_j).

    Args:
        draws: (s, n, m), samples of the candidates' objectives, scaled to about [0, 1].
        points: (k, m), the points so far, scaled alike.
        weights: (m,), nonnegative, of sum 1.

    Returns:
        (n,); where no draw improves, a number below all others that prefers the best mean.
    """

    def scalar(values: np.ndarray) -> np.ndarray:
        return np.asarray((weights * values).max(-1) + rho * (weights * values).sum(-1))

    found, best = scalar(draws), scalar(points).min()
    gain = np.maximum(best - found, 0.0).mean(0)
    return np.asarray(np.where(gain > 0, np.log(np.maximum(gain, 1e-300)), FLOOR - found.mean(0)))
