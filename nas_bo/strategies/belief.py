"""What a history says about architectures that were not tried: known objectives, surrogates, chances of failure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.problem import Problem
from nas_bo.strategies.features import features_of, varying
from nas_bo.strategies.strategy import guide, violation
from nas_bo.strategies.surrogate import GaussianProcess
from nas_bo.trial import State, Trial

PRIOR_SUCCESSES = 1.0  # weight of the belief that an architecture works, in trials
NEAR = 0.15  # length scale of the smoother of failures, of the diameter of the history


class Belief:
    """The objectives of any architecture, as normal distributions; what is known has no spread.

    Attributes:
        columns: the problem's columns; m of them.
        modelled: the positions among them of the objectives that have a Gaussian process.
        feasible: the architectures of the feasible complete trials, once each, and later of what is pending.

    Raises:
        ValueError: too little is known to fit anything.
    """

    def __init__(self, problem: Problem, trials: Sequence[Trial]) -> None:
        self.problem, self.columns = problem, problem.columns
        self._features = features_of(problem.space)
        self._known: dict[str, dict[str, float]] = {}
        done = [t for t in trials if t.state is not State.RUNNING]
        archs = [t.architecture for t in done]
        usable = [t for t in done if guide(problem, t) is not None and violation(t) == 0]
        self.feasible = list({t.architecture.id: t.architecture for t in usable}.values())
        names = self._names(archs)
        self.modelled = [j for j, c in enumerate(self.columns) if c.name not in names]
        self.exact = [j for j in range(len(self.columns)) if j not in self.modelled]

        raw, known = self._raw(archs)
        keep = np.flatnonzero(varying(raw)) if len(archs) > 1 else np.arange(0)
        if not len(keep):
            raise ValueError("the trials differ in nothing that can be encoded")
        self._keep, self._low, self._span = keep, raw[:, keep].min(0), np.ptp(raw[:, keep], axis=0)
        self.centre = known.mean(0) if len(self.exact) else np.zeros(0)
        self.size = np.where(known.std(0) > 0, known.std(0), 1.0) if len(self.exact) else np.ones(0)
        width = self._features.width + len(self.exact)
        own, shared = np.flatnonzero(keep < width), np.flatnonzero(keep >= width)
        inputs = self.inputs(archs)
        self.processes: dict[int, GaussianProcess] = {}
        for j in self.modelled:
            values = np.array([t.values.get(self.columns[j].name, np.nan) for t in done]) * self.columns[j].sign
            rows = np.flatnonzero(np.isfinite(values))
            if len(rows) < 2:
                raise ValueError(f"fewer than two trials have a value of {self.columns[j].name!r}")
            self.processes[j] = GaussianProcess(inputs[rows], values[rows], (own, shared))
        self._residuals(done)
        self._smoother(done, inputs)

    # ---- inputs -----------------------------------------------------------------------------------------------

    def _exact(self, arch: Architecture) -> dict[str, float]:
        if arch.id not in self._known:
            self._known[arch.id] = self.problem.known(arch)
        return self._known[arch.id]

    def _names(self, archs: Sequence[Architecture]) -> set[str]:
        """The names of the known objectives, from the first architecture for which none of them raises."""
        for arch in archs:
            try:
                return set(self._exact(arch))
            except Exception:
                continue
        return set()

    def known(self, archs: Sequence[Architecture]) -> np.ndarray:
        """(n, known objectives), minimised, NaN where one raises."""
        rows = []
        for arch in archs:
            try:
                found = self._exact(arch)
            except Exception:
                found = {}
            rows.append([self.columns[j].sign * found.get(self.columns[j].name, np.nan) for j in self.exact])
        return np.array(rows, dtype=float).reshape(len(archs), len(self.exact))

    def _raw(self, archs: Sequence[Architecture]) -> tuple[np.ndarray, np.ndarray]:
        """Summaries, logarithms of known objectives, encoding: (n, columns); and the known objectives themselves."""
        known = np.nan_to_num(self.known(archs), nan=0.0, posinf=0.0, neginf=0.0)
        size = np.log(np.maximum(np.abs(known), 1e-12))
        features, width = self._features(archs), self._features.width
        return np.concatenate([features[:, :width], size, features[:, width:]], axis=1), known

    def inputs(self, archs: Sequence[Architecture]) -> np.ndarray:
        """(n, d): what varies among the trials, scaled to [0, 1] there; then the known objectives, standardised."""
        raw, known = self._raw(archs)
        places = (raw[:, self._keep] - self._low) / self._span
        return np.concatenate([places, (known - self.centre) / self.size], axis=1)

    # ---- predictions ------------------------------------------------------------------------------------------

    def predict(self, archs: Sequence[Architecture], inputs: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of every objective, (n, m) each, minimised; 0 spread for what is known."""
        inputs = self.inputs(archs) if inputs is None else inputs
        mean, sd = np.zeros((len(archs), len(self.columns))), np.zeros((len(archs), len(self.columns)))
        mean[:, self.exact] = self.known(archs)
        for j, process in self.processes.items():
            mean[:, j], sd[:, j] = process.predict(inputs)
        return mean, sd

    def log_chance(self, inputs: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
        """The logarithm of the probability to be feasible and not to fail, (n,); rules are not part of it."""
        from scipy.special import log_ndtr

        found = np.zeros(len(inputs))
        for j, column in enumerate(self.columns):
            if column.cost == "analytic":
                continue  # `Problem.admissible` knows
            spread = np.maximum(np.hypot(sd[:, j], self._spread[j]), 1e-12)
            for sign, bound in column.limits().values():
                found += log_ndtr(sign * (bound - column.sign * mean[:, j]) / spread)
        if len(self._bad):
            distance = np.sqrt(((inputs[:, None, : len(self._keep)] - self._done[None]) ** 2).mean(-1))
            near = np.exp(-0.5 * (distance / (NEAR * self._reach)) ** 2)
            found += np.log((near @ ~self._failed + PRIOR_SUCCESSES) / (near.sum(1) + PRIOR_SUCCESSES))
        return found

    def _residuals(self, done: Sequence[Trial]) -> None:
        """How far measurements lie from a prediction that stands for them, per objective (m,)."""
        self._spread = np.zeros(len(self.columns))
        predicted = self.known([t.architecture for t in done])
        for at, j in enumerate(self.exact):
            column = self.columns[j]
            errors = np.array([column.sign * t.values.get(column.name, np.nan) for t in done]) - predicted[:, at]
            errors = errors[np.isfinite(errors)]
            self._spread[j] = float(np.sqrt((errors**2).mean())) if len(errors) else 0.0

    def _smoother(self, done: Sequence[Trial], inputs: np.ndarray) -> None:
        """Trials that failed, or violate something that no rule and no limit explains."""
        explained = set(self.problem.constraint_names)
        unexplained = [
            t.state is State.FAILED
            or (t.state is State.INFEASIBLE and not any(v > 0 for v in t.violations.values()))
            or any(not v <= 0 for name, v in t.violations.items() if name not in explained)
            for t in done
        ]
        self._failed = np.array(unexplained, dtype=bool)
        self._bad = np.flatnonzero(self._failed)
        self._done = inputs[:, : len(self._keep)]
        self._reach = max(1e-6, float(np.sqrt(self._done.var(0).mean() * 2)))

    def believe(self, archs: Sequence[Architecture]) -> None:
        """Take architectures that are pending for evaluated, with the values that are expected of them."""
        if not archs:
            return
        inputs = self.inputs(archs)
        mean, sd = self.predict(archs, inputs)
        likely = self.log_chance(inputs, mean, sd) > np.log(0.5)
        self.feasible += [arch for arch, yes in zip(archs, likely, strict=True) if yes]
        for process in self.processes.values():
            process.believe(inputs)
