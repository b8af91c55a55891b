"""Which choices of a space matter for an objective: Sobol' indices (Sobol', 1993; estimators of Saltelli et al., 2010, Computer
Physics Communications 181(2), "Variance based sensitivity analysis of model output", and Jansen, 1999) of a Gaussian process
that is fitted to the trials (as Marrel et al., 2009, "Calculations of Sobol indices for the Gaussian process metamodel").

Every decision that could be active counts as an independent uniform draw; one that is not active changes nothing, so the
decomposition is exact for spaces with conditions too. The decisions of all layers of one kind are one group.

Notation: G groups, N pairs of random architectures (A, B), V the variance of the modelled objective.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from nas_bo.report.digits import logarithmic
from nas_bo.space import Space
from nas_bo.space.neighbours import pattern
from nas_bo.surrogate.features import Features, features_of, varying
from nas_bo.surrogate.process import GaussianProcess
from nas_bo.trial import ObjectiveSpec, State, Trial
from nas_bo.wording import counted

LEAST = 20  # trials; fewer say nothing about several choices
MOST = 300  # trials that are used, spread evenly: a Gaussian process of more costs minutes
TRUSTED = 0.3  # share of the variance of left-out trials that the model must explain
FOLDS = 5
PAIRS = 512  # N, a power of two
RESAMPLES = 16  # bootstrap samples of the trials
MOST_GROUPS = 24  # beyond, what a group adds cannot be distinguished from noise, and pairs cost their square


@dataclass(frozen=True)
class Importance:
    """What was found for one objective. Shares are of V, in [0, 1].

    Attributes:
        objective: the name of the objective.
        log: whether its logarithm was modelled.
        trials: how many the model saw.
        explained: share of the variance of left-out trials that the model explains (5-fold); below `TRUSTED` the rest
            must not be believed.
        names: the groups, the most important first: ``width``, ``layers.*.mixer``.
        first: (G,) what a group explains alone.
        total: (G,) what a group explains alone and together with others.
        low, high: (G,) 5 % and 95 % quantile of `total` over resampled trials.
        pairs: (G, G) what two groups explain only together, symmetric, 0 on the diagonal.
    """

    objective: str
    log: bool
    trials: int
    explained: float
    names: tuple[str, ...]
    first: tuple[float, ...]
    total: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    pairs: tuple[tuple[float, ...], ...]

    def __str__(self) -> str:
        shares = zip(self.names, self.total, self.low, self.high, strict=True)
        told = ", ".join(f"{name} {value:.0%} ({low:.0%} to {high:.0%})" for name, value, low, high in shares)
        return f"{self.objective}: {told}. {self.caption()}"

    @property
    def trusted(self) -> bool:
        return self.explained >= TRUSTED

    def caption(self) -> str:
        """What the figures are based on, in a sentence or two."""
        base = f"a Gaussian process of {'its logarithm in ' * self.log}{counted(self.trials, 'trial')} explains {self.explained:.0%} of the variance of trials left out"
        if not self.trusted:
            return f"Not shown: {base}, too little to say which choices matter. More trials may."
        return f"{base[0].upper()}{base[1:]}. Shares are over architectures drawn choice by choice."

    def strongest(self) -> tuple[str, str, float] | None:
        """The pair of groups that interacts most, and its share; None where there is none."""
        found = [(self.names[i], self.names[j], self.pairs[i][j]) for i, j in combinations(range(len(self.names)), 2)]
        return max(found, key=lambda pair: pair[2], default=None)


def importance(
    trials: Sequence[Trial], column: ObjectiveSpec, space: type[Space], *, seed: int = 0
) -> Importance | None:
    """The importance of the choices of `space` for one objective; None with fewer than `LEAST` trials that have its value,
    where all values are equal, or where the space has one group or more than `MOST_GROUPS`.

    The same trials and seed give the same result. Nothing is trained.
    """
    known = [
        t
        for t in trials
        if t.state in (State.COMPLETE, State.INFEASIBLE) and math.isfinite(t.values.get(column.name, math.nan))
    ]
    known = list({t.architecture.id: t for t in known}.values())
    if len(known) > MOST:
        known = [known[round(i * (len(known) - 1) / (MOST - 1))] for i in range(MOST)]
    if len(known) < LEAST or len({t.values[column.name] for t in known}) < 3 or not space.decisions():
        return None
    features = features_of(space)
    names = list(dict.fromkeys(map(pattern, features.genomes.paths)))
    if not 2 <= len(names) <= MOST_GROUPS:
        return None
    values = np.array([t.values[column.name] for t in known])
    log = logarithmic(values.tolist(), column)
    y = np.log(values) if log else column.sign * values
    model = _Model(features([t.architecture for t in known]), y, features)
    design = _Design(features, len(names), seed)
    first, total, pairs = design.indices(model, with_pairs=True)
    rng = np.random.default_rng(seed)
    again = np.array(
        [
            design.indices(model.on(rng.integers(0, len(y), len(y))), with_pairs=False)[
                1
            ]  # ~ uniform, with replacement
            for _ in range(RESAMPLES)
        ]
    )
    low, high = np.quantile(again, [0.05, 0.95], axis=0)
    order = np.argsort(-total, kind="stable")
    return Importance(
        column.name,
        log,
        len(y),
        _explained(model, y, rng),
        tuple(names[i] for i in order),
        _rounded(first[order]),
        _rounded(total[order]),
        _rounded(np.minimum(low, total)[order]),
        _rounded(np.maximum(high, total)[order]),
        tuple(_rounded(row) for row in pairs[np.ix_(order, order)]),
    )


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    return tuple(round(float(v), 4) for v in values)


class _Model:
    """A Gaussian process on the columns that vary, of inputs (n, d) and targets (n,) to be minimised."""

    def __init__(self, x: np.ndarray, y: np.ndarray, features: Features, like: _Model | None = None) -> None:
        self.x, self.y, self.features = x, y, features
        if like is None:
            self.keep = np.flatnonzero(varying(x))
            self.low, self.span = x[:, self.keep].min(0), np.ptp(x[:, self.keep], axis=0)
        else:
            self.keep, self.low, self.span = like.keep, like.low, like.span
        own = int((self.keep < features.width).sum())
        self.process: GaussianProcess = GaussianProcess(
            self._scaled(x), y, own, like=None if like is None else like.process
        )

    def _scaled(self, x: np.ndarray) -> np.ndarray:
        return np.asarray((x[:, self.keep] - self.low) / self.span)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.process.expect(self._scaled(x))

    def on(self, rows: np.ndarray) -> _Model:
        """The same hyperparameters, conditioned on other trials."""
        return _Model(self.x[rows], self.y[rows], self.features, like=self)


class _Design:
    """The architectures at which the model is asked, the same for every model."""

    def __init__(self, features: Features, groups: int, seed: int) -> None:
        from scipy.stats.qmc import Sobol

        genomes = features.genomes
        genes = len(genomes.paths)
        both = np.random.default_rng(seed).random((PAIRS, 2 * genes))  # ~ uniform
        if 2 * genes <= Sobol.MAXDIM:
            both = Sobol(2 * genes, scramble=True, seed=seed).random(PAIRS)
        self.a, self.b = both[:, :genes], both[:, genes:]
        self.features, self.kind, self.groups = features, genomes.kind, groups
        self._rng = np.random.default_rng(seed)
        self._inputs: dict[tuple[int, ...], np.ndarray] = {}

    def inputs(self, swapped: tuple[int, ...]) -> np.ndarray:
        """Features of A with the genes of the groups `swapped` from B."""
        if swapped not in self._inputs:
            u = np.where(np.isin(self.kind, swapped), self.b, self.a)
            genomes = self.features.genomes.complete(self.features.genomes._at_quantile(u), self._rng)
            self._inputs[swapped] = self.features.of(genomes)
        return self._inputs[swapped]

    def indices(self, model: _Model, with_pairs: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First-order and total indices (G,), and second-order ones (G, G)."""
        everyone = tuple(range(self.groups))
        at_a, at_b = model(self.inputs(())), model(self.inputs(everyone))
        v = max(float(np.var(np.concatenate([at_a, at_b]))), 1e-300)
        total, first = np.zeros(self.groups), np.zeros(self.groups)
        swapped = [model(self.inputs((g,))) for g in everyone]
        for g in everyone:
            total[g] = 0.5 * np.mean((at_a - swapped[g]) ** 2) / v  # Jansen; Saltelli et al., table 2 (f)
            first[g] = 1 - 0.5 * np.mean((at_b - swapped[g]) ** 2) / v  # Jansen; Saltelli et al., table 2 (c)
        first, total = np.clip(first, 0, 1), np.clip(total, 0, 1)
        pairs = np.zeros((self.groups, self.groups))
        for g, h in combinations(everyone, 2) if with_pairs else ():
            closed = 1 - 0.5 * np.mean((at_b - model(self.inputs((g, h)))) ** 2) / v
            pairs[g, h] = pairs[h, g] = np.clip(closed - first[g] - first[h], 0, min(total[g], total[h]))
        return np.minimum(first, total), total, pairs


def _explained(model: _Model, y: np.ndarray, rng: np.random.Generator) -> float:
    """1 - (mean squared error of left-out trials) / variance, at least 0. Hyperparameters are those of all trials: fitting
    them five times more would be most of the cost."""
    fold = rng.permutation(len(y)) % FOLDS
    wrong = np.zeros(len(y))
    for k in range(FOLDS):
        rest = fold != k
        wrong[~rest] = model.on(np.flatnonzero(rest))(model.x[~rest]) - y[~rest]
    return round(max(0.0, 1 - float(np.mean(wrong**2)) / float(np.var(y))), 4)
