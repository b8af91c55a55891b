"""What a history says about architectures that were not tried: known objectives, surrogates, chances of failure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.problem import Problem
from nas_bo.strategies.cheap_objectives import Known, known_of
from nas_bo.strategies.fidelity import direct, noise_of, sources_of
from nas_bo.strategies.history import absurd
from nas_bo.strategies.limits import Limits
from nas_bo.strategies.nsga2 import best_trials
from nas_bo.strategies.strategy import guide, violation
from nas_bo.surrogate.averaged import Averaged
from nas_bo.surrogate.bend import UNBENT, Bend
from nas_bo.surrogate.committee import RankProcess, Ranks, agreement, tailed
from nas_bo.surrogate.features import features_of, varying
from nas_bo.surrogate.process import FIRST, GaussianProcess, Given, informative, most_likely
from nas_bo.surrogate.profile import profile_of
from nas_bo.surrogate.sources import CoKriging, Observed, settled
from nas_bo.surrogate.structure import structure_of
from nas_bo.trial import State, Trial

PRIOR_SUCCESSES = 1.0  # weight of the belief that an architecture works, in trials
CONDITIONED = 400  # trials that an objective is conditioned on
CONSTANT = 5  # equal values from which on an objective is taken for constant
COPIES = 3  # trials of one architecture that count: a thousand of them say no more
UNEXPLAINED = 0.15  # of the standard deviation of good values: errors up to that size are expected
MOST_EXPLORED = 1 / 3  # of the suggestions
RANKED = 12  # trials from which a committee may stand for an objective with a heavy tail
MOST_RANKED = 200  # trials that it is fitted to
MORE = 0.05  # of rank correlation among good trials, left out, that it must have beyond the process
LAST = 5  # trials of which none improved the best
LITTLE = 0.01  # of the way from the median of the `FIRST` to the best: less than that does not count
DEMANDED = 0.05  # of that way: what a suggestion should then improve
NEAR = 0.15  # length scale of the smoother of failures, of the diameter of the history


class Belief:
    """The objectives of any genome, as normal distributions; what is known has no spread. Each is on the scale of its process,
    see `bends`.

    Attributes:
        columns: the problem's columns; m of them.
        known: the problem's `Known`.
        modelled: the positions among the columns of the objectives that have a Gaussian process.
        constants: by position; the value of an objective that had the same in every trial.
        processes, sources: by position; the process of an objective, and the cheap sources that it has.
        bends: by column; on which scale it is predicted.
        limits: the limits that no objective explains.
        incumbents: the genomes (k, genes) of the feasible complete trials, once each, and later of what is pending.

    Args:
        all_rungs: see `sources_of`.
        ranked: whether a committee on ranks may stand for an objective with a heavy tail (see `RankProcess`).
        known: that of the architectures to choose from, where these are given; by default that of the whole space.

    Raises:
        ValueError: too little is known to fit anything.
    """

    def __init__(
        self,
        problem: Problem,
        trials: Sequence[Trial],
        all_rungs: bool = False,
        ranked: bool = False,
        known: Known | None = None,
    ) -> None:
        self.problem, self.columns, self._trials = problem, problem.columns, trials
        self._ranked: np.ndarray | None = None
        self.known = known or known_of(problem)
        self._features = features_of(problem.space)
        self._profile, self._structure = profile_of(problem.space), structure_of(problem.space)
        arranged = len(self._structure.names)
        self._groups = (0, arranged, *(arranged + end for end in self._profile.ends))
        done = [t for t in trials if t.state is not State.RUNNING]
        steered = [guide(problem, t) for t in done]
        self._accidents = np.zeros(len(done), dtype=bool)  # mistakes of an evaluation: they count as failures
        there = np.array([i for i, values in enumerate(steered) if values is not None], dtype=int)
        if len(there):
            self._accidents[there] = absurd(np.array([steered[i] for i in there]))
        usable = {
            done[i].architecture.id: i
            for i, (values, accident) in enumerate(zip(steered, self._accidents, strict=True))
            if values is not None and not accident and violation(done[i]) == 0
        }
        archs = [t.architecture for t in done]
        genomes, exact, feasible = self._features.genomes.encode(archs), self.exact(archs), list(usable.values())
        self.incumbents, self.incumbents_known = genomes[feasible], exact[feasible]
        self._points: np.ndarray | None = None
        self.modelled = [j for j in range(len(self.columns)) if j not in self.known.positions]

        raw, _ = self._raw(genomes)
        keep = np.flatnonzero(varying(raw)) if len(done) > 1 else np.arange(0)
        if not len(keep):
            raise ValueError("the trials differ in nothing that can be encoded")
        # what varies among the trials that are fitted to comes first, and is all that hyperparameters depend on: a value that occurs in one
        # trial more does not make them be fitted again
        first = raw[: settled(len(raw))]
        varies = np.isin(keep, np.flatnonzero(varying(first)))
        varies = varies if varies.any() else np.ones(len(keep), dtype=bool)
        keep, early = np.concatenate([keep[varies], keep[~varies]]), int(varies.sum())
        self.bends: list[Bend | Ranks] = [UNBENT] * len(self.columns)
        # the scale of those that are fitted to: one trial that lies further out does not make all hyperparameters be fitted again
        first = first[:, keep]
        self._keep, self._low, self._span = keep, first.min(0), np.ptp(first, axis=0)
        late = self._span <= 1e-9  # these vary in later trials alone
        self._low[late], self._span[late] = raw[:, keep[late]].min(0), np.ptp(raw[:, keep[late]], axis=0)
        summaries = int((keep[:early] < self._features.width).sum())
        own = int((keep[:early] < self._features.width + len(self.known.positions)).sum())
        self._rows: dict[bytes, int] | None = None
        self._placed = False  # whether inputs have the columns of `_places` as well
        inputs = self._scaled(raw)
        self._width = inputs.shape[1]
        self._plain = feasible == list(range(len(done)))  # the incumbents are those whose inputs are there
        self._smoother(done, inputs)
        self.limits = Limits(problem, done, inputs, own, bool(usable), self._failed)
        width, untied = self._features.width, np.zeros((len(self.known.positions), self._features.ties.shape[1]))
        ties = np.concatenate([self._features.ties[:width], untied, self._features.ties[width:]])[keep]
        self.constants: dict[int, float] = {}
        self.processes: dict[int, GaussianProcess | Averaged | CoKriging | RankProcess] = {}
        places: np.ndarray | None = None
        self.sources: dict[int, dict[float | str, CoKriging]] = {}
        for j in self.modelled:
            values = np.array([self._value(t, s, j) for t, s in zip(done, steered, strict=True)])
            values[self._accidents] = np.nan
            rows = _few_of_each(genomes, np.flatnonzero(np.isfinite(values)))
            if len(rows) < 2 and not self.limits.models:
                raise ValueError(f"fewer than two trials have a value of {self.columns[j].name!r}")
            noise = noise_of(done, self.columns[j].name)
            self.sources[j] = {}
            if not len(rows):  # nothing met the limits so far, or came near: they alone decide
                continue
            if len(rows) >= CONSTANT and np.ptp(values[rows]) <= 1e-12 * abs(values[rows[0]]):
                self.constants[j] = float(values[rows[0]])
                continue
            self.sources[j] = sources_of(problem, done, self.columns[j], inputs, own, all_rungs)
            if self.sources[j]:
                self.processes[j] = CoKriging(inputs, Observed(values), direct(self.sources[j]), own, noise)
            else:
                near = self._near(genomes[rows], values[rows])
                # what is known may explain an objective, or not
                given = Given(noise, ties, near, own - summaries, early)
                made = most_likely(inputs[rows], values[rows], summaries, settled(len(rows)), given)
                self.processes[j], self.bends[j] = made, made.bend
                if len(self.columns) == 1 and not ranked:
                    self.processes[j] = Averaged(made, inputs[rows], values[rows], settled(len(rows)), given)
                if ranked and len(rows) >= RANKED and self._profile.names and tailed(values[rows]):
                    places = self._places(genomes) if places is None else places
                    self._rank(j, places[rows], values[rows], made)
        self._residuals(done, exact)
        self._placed = any(isinstance(process, RankProcess) for process in self.processes.values())
        if any(isinstance(process, CoKriging) for process in self.processes.values()):
            self._rows = {row.tobytes(): i for i, row in enumerate(genomes)}

    def _rank(self, j: int, places: np.ndarray, values: np.ndarray, made: GaussianProcess) -> None:
        """A committee on ranks stands for objective j where it orders good trials better than the process, each left out."""
        rows = informative(values, MOST_RANKED)
        committee = RankProcess(places[rows], values[rows], self._groups)
        errors, targets = made.left_out()
        if committee.agreement > agreement(targets - errors, targets) + MORE:
            self.processes[j], self.bends[j] = committee, committee.bend

    def _value(self, trial: Trial, steered: np.ndarray | None, j: int) -> float:
        """Objective j of a trial, minimised: what strategies steer by, or what is known about an infeasible one."""
        if steered is not None:
            return float(steered[j])
        return self.columns[j].sign * trial.values.get(self.columns[j].name, float("nan"))

    def _near(self, genomes: np.ndarray, values: np.ndarray) -> np.ndarray | None:
        """Which of the rows an objective is conditioned on, where there are more than `CONDITIONED`: the best in the sense of all
        objectives, as far as they fill half of that, and the others spread evenly over the values; None for all of them."""
        if len(genomes) <= CONDITIONED:
            return None
        best = {row.tobytes() for row in self._best_genomes(CONDITIONED // 2)}
        chosen = np.array([row.tobytes() in best for row in genomes], dtype=bool)
        rest = np.flatnonzero(~chosen)
        order = rest[np.argsort(values[rest], kind="stable")]
        few = np.unique(np.linspace(0, len(order) - 1, min(len(order), CONDITIONED - int(chosen.sum()))).astype(int))
        return np.sort(np.concatenate([np.flatnonzero(chosen), order[few]]))

    def _best_genomes(self, most: int) -> np.ndarray:
        if self._ranked is None:
            self._ranked = self._features.genomes.encode(best_trials(self.problem, self._trials, most))
        return self._ranked

    # ---- inputs -----------------------------------------------------------------------------------------------

    def genomes(self, archs: Sequence[Architecture]) -> np.ndarray:
        return self._features.genomes.encode(archs)

    def exact(self, archs: Sequence[Architecture]) -> np.ndarray:
        """(n, e) known objectives, minimised, NaN where one raises."""
        rows = [self.known.exact(self.problem, arch)[0] for arch in archs]
        return np.array(rows, dtype=float).reshape(len(archs), len(self.known.positions))

    def _raw(self, genomes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Summaries, known objectives as they are approximated, encoding: (n, columns); and the approximations alone."""
        features, width = self._features.of(genomes), self._features.width
        approximate = self.known.approximate(features)
        return np.concatenate([features[:, :width], approximate, features[:, width:]], axis=1), approximate

    def _places(self, genomes: np.ndarray) -> np.ndarray:
        """The columns of a committee (n, columns): arrangement and profile over depth, `_groups` of them."""
        return np.concatenate([self._structure.of(genomes), self._profile.of(genomes)], axis=1)

    def look(self, genomes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Inputs (n, d): what varies among the trials, scaled to [0, 1] there; and known objectives (n, e) as they are
        approximated, on the scale of `Known.to_scale`.

        Where a committee stands for an objective, its columns follow (see `_places`). Where cheap sources are modelled, there is one more:
        the last column is the trial of that architecture, -1 without one.
        """
        raw, approximate = self._raw(genomes)
        inputs = self._scaled(raw)
        if self._placed:
            inputs = np.concatenate([inputs, self._places(genomes)], axis=1)
        if self._rows is not None:
            inputs = np.column_stack([inputs, [self._rows.get(row.tobytes(), -1) for row in genomes]])
        return inputs, approximate

    def _scaled(self, raw: np.ndarray) -> np.ndarray:
        return np.asarray((raw[:, self._keep] - self._low) / self._span)

    def inputs(self, genomes: np.ndarray) -> np.ndarray:
        return self.look(genomes)[0]

    def bent(self, j: int, value: float) -> float:
        """A value of objective j, minimised, on the scale on which it is predicted."""
        return float(self.bends[j].to(np.array([value]))[0])

    # ---- predictions ------------------------------------------------------------------------------------------

    def points(self) -> np.ndarray:
        """What is expected of the incumbents, (k, m) as in `predict`; what is believed changes no expectation."""
        if self._points is None:
            there = self._plain and len(self.incumbents) == len(self._done) and not self._placed and self._rows is None
            inputs = self._done if there else self.inputs(self.incumbents)
            self._points = np.zeros((len(inputs), len(self.columns)))
            self._points[:, self.known.positions] = self.incumbents_known
            for j, value in self.constants.items():
                self._points[:, j] = value
            for j, process in self.processes.items():
                seen = self._seen(process, inputs)
                self._points[:, j] = (
                    process.expect(seen)
                    if isinstance(process, (GaussianProcess, Averaged))
                    else process.predict(seen)[0]
                )
        return self._points

    def predict(self, inputs: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of every objective, (n, m) each, minimised, on the scales of `bends`; 0 spread for
        what is known (n, e)."""
        mean, sd = np.zeros((len(inputs), len(self.columns))), np.zeros((len(inputs), len(self.columns)))
        mean[:, self.known.positions] = known
        sd[:, [j for j in self.modelled if j not in self.processes and j not in self.constants]] = 1.0
        for j, value in self.constants.items():
            mean[:, j] = value
        for j, process in self.processes.items():
            mean[:, j], sd[:, j] = process.predict(self._seen(process, inputs))
        return mean, sd

    def _seen(self, process: GaussianProcess | Averaged | CoKriging | RankProcess, inputs: np.ndarray) -> np.ndarray:
        """What a process sees of the inputs of `look`."""
        if isinstance(process, RankProcess):
            return inputs[:, self._width : self._width + self._groups[-1]]
        plain = inputs[:, : self._width]
        return np.column_stack([plain, inputs[:, -1]]) if isinstance(process, CoKriging) else plain

    def share_to_explore(self) -> float:
        """What share of the suggestions should not rest on the surrogate: 0 where it predicts the better half of the
        values well when each is left out, up to `MOST_EXPLORED` where it does not; the worst objective counts."""
        open_ = 0.0
        for process in self.processes.values():
            if isinstance(process, (GaussianProcess, Averaged, RankProcess)):
                errors, values = process.left_out()
                half = np.argsort(values, kind="stable")[: len(values) // 2]
                spread = float(values[half].std()) if len(half) else 0.0
                if spread > 0:
                    open_ = max(open_, float(np.sqrt((errors[half] ** 2).mean())) / spread)
        return float(np.clip(0.5 * (open_ - UNEXPLAINED), 0.0, MOST_EXPLORED))

    def demanded(self) -> float:
        """With one objective: what a suggestion should improve, on the scale of `points`, where the last trials improved the best by next to
        nothing; 0 where the search still improves, or has several objectives. More digits of one optimum must not keep a search from others."""
        if len(self.columns) > 1 or 0 in self.known.positions:
            return 0.0
        points = self.points()[:, 0]
        points = points[np.isfinite(points)]
        if len(points) <= FIRST:
            return 0.0
        best = float(points.min())
        way = float(np.median(points[:FIRST])) - best
        stalled = float(points[:-LAST].min()) - best <= LITTLE * way
        return DEMANDED * way if stalled else 0.0

    def log_chance(self, inputs: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
        """The logarithm of the probability to be feasible and not to fail, (n,); rules are not part of it."""
        from scipy.special import log_ndtr

        found = np.zeros(len(inputs))
        for j, column in enumerate(self.columns):
            if column.cost == "analytic":
                continue  # `Problem.admissible` knows
            spread = np.maximum(np.hypot(sd[:, j], self._spread[j]), 1e-12)
            for sign, bound in column.limits().values():
                found += log_ndtr(sign * column.sign * (self.bent(j, column.sign * bound) - mean[:, j]) / spread)
        if self.limits.models:
            found += self.limits.log_chance(inputs[:, : self._width])
        if len(self._bad) and not self.limits.explains_failures:
            inputs = inputs[:, : self._width]
            square = (inputs**2).sum(1)[:, None] + (self._done**2).sum(1) - 2 * inputs @ self._done.T
            distance = np.sqrt(np.maximum(square, 0.0) / inputs.shape[1])
            near = np.exp(-0.5 * (distance / (NEAR * self._reach)) ** 2)
            found += np.log((near @ ~self._failed + PRIOR_SUCCESSES) / (near.sum(1) + PRIOR_SUCCESSES))
        return found

    def _residuals(self, done: Sequence[Trial], predicted: np.ndarray) -> None:
        """How far measurements lie from a prediction (n, e) that stands for them, per objective (m,)."""
        self._spread = np.zeros(len(self.columns))
        for at, j in enumerate(self.known.positions):
            column = self.columns[j]
            errors = np.array([column.sign * t.values.get(column.name, np.nan) for t in done]) - predicted[:, at]
            errors = errors[np.isfinite(errors)]
            self._spread[j] = float(np.sqrt((errors**2).mean())) if len(errors) else 0.0

    def _smoother(self, done: Sequence[Trial], inputs: np.ndarray) -> None:
        """Trials that failed, or are infeasible without violating anything that has a name."""
        unexplained = [
            t.state is State.FAILED
            or (t.state is State.INFEASIBLE and all(v is not None and v <= 0 for v in t.violations.values()))
            for t in done
        ]
        self._failed = np.array(unexplained, dtype=bool) | self._accidents
        self._bad = np.flatnonzero(self._failed)
        self._done = inputs
        self._reach = max(1e-6, float(np.sqrt(self._done.var(0).mean() * 2)))

    def believe(self, archs: Sequence[Architecture]) -> None:
        """Take architectures that are pending for evaluated, with the values that are expected of them."""
        if not archs:
            return
        genomes, known = self._features.genomes.encode(archs), self.exact(archs)
        inputs = self.inputs(genomes)
        mean, sd = self.predict(inputs, known)
        likely = self.log_chance(inputs, mean, sd) > np.log(0.5)
        self.incumbents = np.concatenate([self.incumbents, genomes[likely]])
        self.incumbents_known = np.concatenate([self.incumbents_known, known[likely]])
        if self._points is not None:
            self._points = np.concatenate([self._points, mean[likely]])
        self.limits.believe(inputs[:, : self._width])
        for process in self.processes.values():
            process.believe(self._seen(process, inputs))


def _few_of_each(genomes: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Those of the row numbers `rows` at which a genome occurs for the first, second ... `COPIES`-th time."""
    count: dict[bytes, int] = {}
    found = []
    for i in rows:
        key = genomes[i].tobytes()
        count[key] = count.get(key, 0) + 1
        if count[key] <= COPIES:
            found.append(i)
    return np.array(found, dtype=int)
