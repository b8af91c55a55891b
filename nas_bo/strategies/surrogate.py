"""A Gaussian process per unknown objective (BoTorch's `SingleTaskGP`; Balandat et al., 2020, NeurIPS).

The kernel is a sum: Matern-5/2 with a length scale for every summary of an architecture, plus Matern-5/2 with one
shared length scale on the whole masked encoding, for what the summaries miss. So the number of hyperparameters to fit
does not grow with the number of layers. torch is imported when a function is called.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from nas_bo.errors import MissingExtra

FITTED = 150  # rows that hyperparameters are fitted to
ITERATIONS = 60  # of L-BFGS
_lock = threading.RLock()


def require_botorch() -> None:
    """Raises MissingExtra when BoTorch is not installed."""
    from importlib.util import find_spec

    if find_spec("botorch") is None:
        raise MissingExtra("botorch", "bayes")


@contextmanager
def quiet_torch() -> Iterator[None]:
    """Leave torch as it was: its global random state and its number of threads (one is fastest for small matrices and
    gives the same sums everywhere). One suggestion at a time, since both are global."""
    import torch

    with _lock, torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        torch.manual_seed(0)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def clipped(targets: np.ndarray) -> np.ndarray:
    """Targets (n,) to be minimised, outliers cut: a diverged loss of 1e6 must not flatten all others."""
    middle = np.median(targets)
    span = middle - targets.min()
    return np.minimum(targets, middle + 5 * span) if span > 0 else targets


class GaussianProcess:
    """One objective: hyperparameters fitted once, then conditioned on whatever is added.

    Args:
        inputs: (n, d), every column in about [0, 1].
        targets: (n,), finite, in the objective's unit, minimised.
        groups: the columns with a length scale each; the columns that share one (may be empty).

    Attributes:
        model: the botorch model, in standardised units.
        mean, scale: original = mean + scale * standardised.
    """

    def __init__(self, inputs: np.ndarray, targets: np.ndarray, groups: tuple[np.ndarray, np.ndarray]) -> None:
        import torch
        from botorch.models import SingleTaskGP

        targets = clipped(np.asarray(targets, dtype=float))
        self.mean, spread = float(targets.mean()), float(targets.std())
        self.scale = spread if spread > 1e-12 * max(1.0, abs(self.mean)) else 1.0
        self._inputs, self._targets = inputs, (targets - self.mean) / self.scale
        rows = informative(self._targets, FITTED)
        x, y = torch.as_tensor(inputs[rows]), torch.as_tensor(self._targets[rows, None])
        self.model = SingleTaskGP(x, y, covar_module=_kernel(*groups), outcome_transform=None)
        if np.ptp(self._targets) > 0:
            _fit(self.model, x, y[:, 0], groups)
        self._condition()

    def _condition(self) -> None:
        import torch

        x, y = torch.as_tensor(self._inputs), torch.as_tensor(self._targets)
        self.model.set_train_data(x, y, strict=False)
        self.model.eval()

    def predict(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (n,) of the objective itself, without the noise of a measurement."""
        import torch

        with torch.no_grad():
            found = self.model.posterior(torch.as_tensor(inputs))
            mean, variance = found.mean[:, 0].numpy(), found.variance[:, 0].numpy()
        sd = np.sqrt(np.maximum(variance, 1e-12))
        return self.mean + self.scale * mean, self.scale * sd

    def believe(self, inputs: np.ndarray) -> None:
        """Condition on the predicted mean at inputs (n, d): what is pending is no longer uncertain (the "kriging
        believer" of Ginsbourger et al., 2010)."""
        means = (self.predict(inputs)[0] - self.mean) / self.scale
        self._inputs = np.concatenate([self._inputs, inputs])
        self._targets = np.concatenate([self._targets, means])
        self._condition()


def informative(targets: np.ndarray, most: int) -> np.ndarray:
    """Row numbers, at most `most`: the better half of them the best, the rest spread evenly over the others."""
    if len(targets) <= most:
        return np.arange(len(targets))
    order = np.argsort(targets, kind="stable")
    half = most // 2
    rest = order[half:][np.linspace(0, len(order) - half - 1, most - half).astype(int)]
    return np.sort(np.concatenate([order[:half], rest]))


# ~ LogNormal(location, spread): length scales (Hvarfner et al., 2024, "Vanilla Bayesian optimization performs great in
# high dimensions", where the location grows with log(d)/2), scales of the two kernels, variance of the noise
LENGTH, OWN, SHARED, NOISE = (2**0.5, 3**0.5), (0.0, 1.0), (-1.5, 1.0), (-4.0, 1.0)
BOUNDS = {"length": (-3.7, 7.0), "scale": (-9.2, 5.0), "noise": (-9.2, 1.0)}  # of the logarithms


def _kernel(own: np.ndarray, shared: np.ndarray) -> Any:
    from gpytorch.kernels import MaternKernel, ScaleKernel

    parts = [
        ScaleKernel(MaternKernel(nu=2.5, ard_num_dims=ard, active_dims=tuple(int(c) for c in columns)))
        for columns, ard in ((own, len(own)), (shared, None))
        if len(columns)
    ]
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def _fit(model: Any, x: Any, y: Any, groups: tuple[np.ndarray, np.ndarray]) -> None:
    """Set the hyperparameters of `model` to their most probable values, x (n, d) and y (n,).

    The same posterior as botorch's `fit_gpytorch_mll` would climb, written out: a tenth of its time at 100 rows.
    """
    import torch
    from scipy.optimize import minimize

    parts = [(x[:, torch.as_tensor(c)], ard) for c, ard in zip(groups, (True, False), strict=True) if len(c)]
    locations, spreads, limits = [], [], []
    for z, ard in parts:
        number = z.shape[1] if ard else 1
        locations += [LENGTH[0] + 0.5 * np.log(z.shape[1])] * number + [OWN[0] if ard else SHARED[0]]
        spreads += [LENGTH[1]] * number + [OWN[1] if ard else SHARED[1]]
        limits += [BOUNDS["length"]] * number + [BOUNDS["scale"]]
    location = torch.tensor([*locations, NOISE[0]], dtype=torch.double)
    spread = torch.tensor([*spreads, NOISE[1]], dtype=torch.double)
    unit = torch.eye(len(y), dtype=torch.double)

    def negative(theta: np.ndarray) -> tuple[float, np.ndarray]:
        t = torch.tensor(theta, requires_grad=True)
        k, at = (t[-1].exp() + 1e-6) * unit, 0
        for z, ard in parts:
            number = z.shape[1] if ard else 1
            k = k + t[at + number].exp() * _matern(z / t[at : at + number].exp())
            at += number + 1
        root = torch.linalg.cholesky(k)
        white = torch.linalg.solve_triangular(root, y[:, None], upper=False)
        value = 0.5 * (white**2).sum() + root.diagonal().log().sum()
        value = value + 0.5 * (((t - location) / spread) ** 2).sum()  # ~ normal in the logarithms
        (slope,) = torch.autograd.grad(value, t)
        return float(value), slope.numpy()

    start = location.clone()
    bounds = [*limits, BOUNDS["noise"]]
    options = {"maxiter": ITERATIONS}
    theta = minimize(negative, start.numpy(), jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    kernels = [model.covar_module] if len(parts) == 1 else list(model.covar_module.kernels)
    at = 0
    for (z, ard), kernel in zip(parts, kernels, strict=True):
        number = z.shape[1] if ard else 1
        kernel.base_kernel.lengthscale = torch.as_tensor(np.exp(theta[at : at + number]))
        kernel.outputscale = float(np.exp(theta[at + number]))
        at += number + 1
    model.likelihood.noise = max(float(np.exp(theta[-1])), 1.1e-4)


def _matern(z: Any) -> Any:
    """Matern-5/2 of scaled inputs (n, d): (n, n)."""
    import torch

    square = (z**2).sum(1)
    r = (square[:, None] + square[None] - 2 * z @ z.T).clamp_min(1e-15).sqrt() * 5**0.5
    return (1 + r + r**2 / 3) * torch.exp(-r)
