"""What an evaluation may gain, in closed form (after Yang et al., 2019, "Efficient computation of expected hypervolume
improvement", J. Global Optimization 75), where at most one objective is uncertain; and by scalarisation otherwise.

Everything is minimised. Notation: n candidates, k points of the front, m objectives; the uncertain one ("loss") is
~ Normal(mu, sd^2) for each candidate, the others ("costs") are known. scipy is imported when a function is called.
"""

from __future__ import annotations

import numpy as np

FLOOR = -1e4  # the logarithm that stands for no gain at all


def log_psi(z: np.ndarray) -> np.ndarray:
    """log E[(z + Z)+] with Z ~ Normal(0, 1): z Phi(z) + phi(z), stable far below zero."""
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


def ehvi(mu: np.ndarray, sd: np.ndarray, cost: np.ndarray, front: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The expected hypervolume improvement, (n,), exact: one uncertain objective, the others known.

    The front's costs divide the space of costs into cells; in each, the loss to beat is the least of the front's points
    that cost no more. A candidate gains, in every cell, the part that it covers times its expected improvement there.

    Args:
        mu, sd: (n,) of the loss.
        cost: (n, m - 1).
        front: (k, m), the loss first; dominated points do no harm.
        reference: (m,), the loss first.
    """
    front = front[(front < reference).all(1)]
    widths = []
    grids = [np.unique(front[:, j]) for j in range(1, len(reference))]
    lower = [np.concatenate([[-np.inf], grid]) for grid in grids]
    level = np.full([len(edge) for edge in lower], reference[0])
    for j, grid in enumerate(grids):
        upper = np.append(grid, reference[j + 1])
        widths.append(np.maximum(upper - np.maximum(lower[j], cost[:, j, None]), 0.0))  # (n, cells along j)
    for point in front:
        place = tuple(slice(int(np.searchsorted(grid, x)) + 1, None) for grid, x in zip(grids, point[1:], strict=True))
        level[place] = np.minimum(level[place], point[0])
    losses, of = np.unique(level, return_inverse=True)
    volume = widths[0]
    for width in widths[1:]:
        volume = (volume[:, :, None] * width[:, None, :]).reshape(len(mu), -1)
    order = np.argsort(of.ravel(), kind="stable")
    starts = np.searchsorted(of.ravel()[order], np.arange(len(losses)))
    volume = np.add.reduceat(volume[:, order], starts, axis=1)  # (n, different levels)
    gain = np.exp(log_psi((losses - mu[:, None]) / sd[:, None])) * sd[:, None]
    return np.asarray((volume * gain).sum(1))


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
