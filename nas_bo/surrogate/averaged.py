"""The mean of two processes whose length scales are expected at different places, where too much trust in one would cost the most.

The most probable length scales of what few trials distinguished are those of the prior, and long ones say that such a branch of a space is
flat. The priors of Hvarfner et al. (2024) are densities of length scales, here of their logarithms; the most probable
values of the two lie `CLOSER` apart. Neither is better everywhere, so both count one half (Hoeting et al., 1999, "Bayesian
model averaging: a tutorial", Statistical Science 14(4)): where they differ, the objective is uncertain.
"""

from __future__ import annotations

import numpy as np

from nas_bo.surrogate.process import GaussianProcess, Given, Settings, steps

CLOSER = 3.0  # how much shorter the length scales of the second are expected, as logarithms: their prior variance


class Averaged:
    """Two processes of the same targets on the same scale; the interface of `GaussianProcess`.

    Attributes:
        bend: the scale of both.
        both: the usual one first.

    Args:
        first: with the usual prior, as `most_likely` chose it.
        inputs, targets, fitted, given: those that it was made of.

    Raises:
        numpy.linalg.LinAlgError: no fit is possible.
    """

    def __init__(
        self, first: GaussianProcess, inputs: np.ndarray, targets: np.ndarray, fitted: int, given: Given
    ) -> None:
        tried, own = steps(fitted), first.own
        shape = Settings(first.bend, first.ties, near=np.arange(min(2, tried)), columns=given.columns, closer=CLOSER)
        early = GaussianProcess(inputs[:tried], targets[:tried], own, noise_sd=given.noise_sd, settings=shape)
        shape = Settings(first.bend, first.ties, True, given.near, early.hyperparameters, given.columns, CLOSER)
        second = GaussianProcess(inputs, targets, own, fitted, noise_sd=given.noise_sd, settings=shape)
        self.bend, self.both = first.bend, (first, second)

    def predict(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (n,) of the mixture, without the noise of a measurement."""
        (mean, sd), (other, spread) = (process.predict(inputs) for process in self.both)
        return (mean + other) / 2, np.sqrt((sd**2 + spread**2) / 2 + ((mean - other) / 2) ** 2)

    def expect(self, inputs: np.ndarray) -> np.ndarray:
        """The mean of `predict` alone (n,)."""
        first, second = self.both
        return np.asarray((first.expect(inputs) + second.expect(inputs)) / 2)

    def left_out(self) -> tuple[np.ndarray, np.ndarray]:
        """See `GaussianProcess.left_out`."""
        (errors, targets), (others, _) = (process.left_out() for process in self.both)
        return (errors + others) / 2, targets

    def believe(self, inputs: np.ndarray) -> None:
        """See `GaussianProcess.believe`; each believes what it expects itself."""
        for process in self.both:
            process.believe(inputs)
