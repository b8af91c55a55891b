"""Cheap values next to an expensive one: recursive co-kriging (Le Gratiet and Garnier, 2014, "Recursive co-kriging model for design
of computer experiments with multiple levels of fidelity", Int. J. for Uncertainty Quantification 4(5)), the autoregressive
scheme of Kennedy and O'Hagan (2000, "Predicting the output from a complex computer code when fast approximations are
available", Biometrika 87(1), eq. 1).

An expensive objective is a line in what its sources are expected to say, plus a Gaussian process of its own for the rest:

    y(x) = sum_k rho_k m_k(x) + gamma_k e_k(x) + delta(x) + noise

m_k is the expectation of the source, a process of the same kind; e_k is how far the source lay from it at an architecture
where it was observed, 0 elsewhere. So architectures with only a cheap value say something about all others, and more
about themselves. The slopes have normal priors, whose spread is fitted with the other hyperparameters: signs are
learned, and a source that says nothing ends with a slope of about 0, which leaves delta, the process without sources.

Notation: n rows, d inputs, q sources; everything minimised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_bo.surrogate.process import GaussianProcess, clipped

FEWEST = 4  # values below which a source is skipped
STALE = 20  # hyperparameters are fitted again when the history has grown by one part in so many
DECADE = 10.0  # positive values of a proxy that span more than this factor are taken as logarithms


@dataclass
class Observed:
    """Values of one quantity at the rows of a history.

    Attributes:
        values: (rows,), NaN where there is none.
        guess: the slope that is expected of it before anything is known, in standard deviations of one per standard
            deviation of the other: near 1 for the same objective at a smaller budget, 0 where even the sign is unknown.
    """

    values: np.ndarray
    guess: float = 0.0

    @property
    def rows(self) -> np.ndarray:
        return np.flatnonzero(np.isfinite(self.values))

    def usable(self) -> bool:
        return len(self.rows) >= FEWEST and float(np.ptp(self.values[self.rows])) > 0


def bent(values: np.ndarray) -> np.ndarray:
    """Values (n,) of any unit on a scale on which a line may go through them: logarithms where they span a decade."""
    there = values[np.isfinite(values)]
    if len(there) and there.min() > 0 and there.max() > DECADE * there.min():
        return np.asarray(np.log(values))
    return values


def settled(count: int) -> int:
    """To how many of `count` rows hyperparameters are fitted, so that this is not done for every trial."""
    return count - count % max(1, count // STALE)


class CoKriging:
    """One quantity and the sources below it; the interface of `GaussianProcess`.

    Inputs have one column more than the process sees: the row of the history that the architecture is (-1: none).

    Args:
        inputs: (n, d), the history.
        observed: the quantity itself.
        sources: processes of cheaper quantities over the same history, each with what is expected of it.
        own, noise_sd: see `GaussianProcess`.

    Raises:
        numpy.linalg.LinAlgError: no fit is possible.
    """

    def __init__(
        self,
        inputs: np.ndarray,
        observed: Observed,
        sources: Sequence[CoKriging],
        own: int,
        noise_sd: float | None = None,
    ) -> None:
        self._sources, self._guess = list(sources), observed.guess
        rows = observed.rows
        fitted = settled(len(rows))
        places = np.column_stack([inputs[rows], rows])
        targets = clipped(observed.values[rows])
        self._offsets = np.array([s.guessed(targets[:fitted]) for s in sources])

        def process(number: int, early: bool, like: GaussianProcess | None = None) -> GaussianProcess:
            regressors = self._regressors(places[:number], early)[0]
            return GaussianProcess(
                np.concatenate([inputs[rows[:number]], regressors], axis=1),
                targets[:number] - regressors[:, : len(sources)] @ self._offsets,
                own,
                regressors=2 * len(sources),
                like=like,
                noise_sd=noise_sd,
            )

        # Expectations of sources change with every trial. Hyperparameters are fitted to earlier ones, which do not.
        self._early = process(fitted, early=True)
        self._process = process(len(rows), early=False, like=self._early)
        self._centre, self._scale = float(targets[:fitted].mean()), float(targets[:fitted].std()) or 1.0
        self._deviations = {}
        for first in (False, True):
            self._deviations[first] = np.zeros(len(inputs) + 1)  # the last for an architecture that is none of them
            self._deviations[first][rows] = (targets - self.predict(places, first)[0]) / self._scale

    @property
    def noise(self) -> float:
        return self._process.noise

    def guessed(self, targets: np.ndarray) -> float:
        """The slope that is expected of this source, in the unit of `targets` for one standard deviation of the source."""
        return self._guess * min(self._scale, float(targets.std()))

    def _regressors(self, places: np.ndarray, early: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Expectations and deviations of the sources (n, 2 q), standardised, and the variances of the former (n, q)."""
        found = [s.standardised(places, early) for s in self._sources]
        if not found:
            return np.zeros((len(places), 0)), np.zeros((len(places), 0))
        mean, deviation, variance = (np.stack(part, axis=1) for part in zip(*found, strict=True))
        return np.concatenate([mean, deviation], axis=1), variance

    def standardised(self, places: np.ndarray, early: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Expectation, deviation and variance, (n,) each, in standard deviations of the values."""
        mean, sd = self.predict(places, early)
        deviation = self._deviations[early][places[:, -1].astype(int)]
        return (mean - self._centre) / self._scale, deviation, (sd / self._scale) ** 2

    def predict(self, places: np.ndarray, early: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (n,) at inputs and rows (n, d + 1), without the noise of a measurement."""
        regressors, variance = self._regressors(places, early)
        process = self._early if early else self._process
        mean, sd = process.predict(np.concatenate([places[:, :-1], regressors], axis=1))
        if not self._sources:
            return mean, sd
        q = len(self._sources)
        slopes = self._offsets + process.slopes()[:q]
        return mean + regressors[:, :q] @ self._offsets, np.sqrt(sd**2 + variance @ slopes**2)

    def shared(self, places: np.ndarray, source: CoKriging) -> np.ndarray:
        """The covariance (n,) of this quantity with a value of `source` that was not observed yet: what a value there
        would tell. 0 for a source that is none of its own."""
        if source is self:
            return self.predict(places)[1] ** 2
        total, q, slopes = np.zeros(len(places)), len(self._sources), self._process.slopes()
        for k, own in enumerate(self._sources):
            # a deviation from the expectation is noise of the source, and has a slope of its own
            expected, deviation = (self._offsets[k] + slopes[k]) / own._scale, slopes[q + k] / own._scale
            total += expected * own.shared(places, source) + (deviation * own.noise**2 if own is source else 0.0)
        return total

    def unexpected(self) -> float:
        """The variance of what the deviations of sources add at an architecture where they are not observed yet."""
        slopes = self._process.slopes()[len(self._sources) :]
        return float(sum((b / s._scale * s.noise) ** 2 for b, s in zip(slopes, self._sources, strict=True)))

    def believe(self, places: np.ndarray) -> None:
        """Take the expectations at `places` for observed, as in `GaussianProcess.believe`."""
        for source in self._sources:
            source.believe(places)
        regressors = self._regressors(places)[0]
        self._process.believe(np.concatenate([places[:, :-1], regressors], axis=1))
