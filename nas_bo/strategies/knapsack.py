"""Knapsack: the best sub-model within a budget, where a loss is about a sum over blocks (Bercovich et al. 2024, "Puzzle", arXiv
2411.19146, section 4.3), solved exactly as an integer program (HiGHS); after each trial the sums are corrected by what was measured.

For several objectives the others are bounded in turn, each time at another level, so that a front is walked through (the epsilon
constraint method: Haimes et al. 1971). The correction is a linear regression on the blocks, whose prior is the block scores, and
each proposal is solved for a draw of its posterior (Thompson 1933).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from weakref import WeakKeyDictionary

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.errors import SearchError
from nas_bo.objective import Additive, Objective, Predicting, Term, estimate_of, value_of
from nas_bo.problem import Problem
from nas_bo.space import Space
from nas_bo.strategies.strategy import admissible, check_settings, fresh, generator, seen_ids
from nas_bo.trial import State, Trial
from nas_bo.validated import checked, number

Floats: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

RUINED = 1.0  # times the loss of the whole model that may be added at the cheapest end of a front
TRIES = 12  # programs for one proposal, each for another level
TIGHTER = (
    12  # solutions that are not admissible; the later half with smaller budgets, where sums over blocks are not exact
)
NOISE = 0.1  # standard deviation, as a share of the loss that was added, of what no sum over blocks explains
LEAST_NOISE = 0.002  # and at the least, in the unit of the loss
LEVEL_SD = 0.05  # of the text on which trials are judged, around its estimate, in that unit


@dataclass(frozen=True)
class Knapsack:
    """Proposes what is best by block scores under the limits, at all levels of the other objectives.

    It needs an objective or proxy with `terms` (`nas_bo.objective.Additive`), such as ``proxies=[teacher.block_scores()]``. The others,
    and limits, must be known before anything is evaluated or predict themselves (parameters, memory, latency).

    Attributes:
        seed: a whole number, or a generator that gives one (see `nas_bo.seeds`).
        doubt: standard deviation of a block score from what the block really adds, as a share of it.

    Raises:
        SearchError: a setting is not of that kind; or, when first asked, nothing in the problem has block scores.
    """

    seed: int = 0
    doubt: float = checked(0.3, number(at_least=0))

    def __post_init__(self) -> None:
        check_settings(self)

    def suggest(self, problem: Problem, trials: Sequence[Trial], n: int) -> list[Architecture]:
        """See `Strategy.suggest`."""
        program = _program(problem)
        rng = np.random.default_rng([self.seed % (1 << 63), len(trials)])
        random = generator("knapsack", self.seed, len(trials))
        seen = seen_ids(trials)
        posterior = _Posterior(program, problem, trials, self.doubt)
        measured = _measured(problem, trials)
        found: list[Architecture] = []
        for place in range(n):
            arch = None
            for attempt in range(TRIES):
                number = len(trials) + place + attempt * 7919
                scores = posterior.mean() if number == 0 else posterior.draw(rng, 1.0 + attempt / 4)
                arch = program.solve(problem, scores, number, seen, measured)
                if arch is not None:
                    break
            arch = arch or fresh(problem, seen, random)
            if arch is None:
                break
            seen.add(arch.id)
            found.append(arch)
        return found


class _Program:
    """The integer program of a problem: one variable for each way in which a block can be.

    Attributes:
        terms: block -> its terms, the whole one first.
        added: (variables,) what each adds to the loss.
        known: name -> (value of the whole model, (variables,) what each adds), of what is known before evaluation.
    """

    def __init__(self, problem: Problem, scores: Additive) -> None:
        self.space: type[Space] = problem.space
        terms = dict(scores.terms(problem.space))
        self.base = sum(term.added for term in terms.pop("", ()))
        self.terms: Mapping[str, Sequence[Term]] = terms
        self.places = [(group, term) for group, terms in self.terms.items() for term in terms]
        self.at = {tuple(sorted(term.choice)): index for index, (_, term) in enumerate(self.places)}
        self.added: Floats = np.array([term.added for _, term in self.places])
        self.whole = self._arch([terms[0] for terms in self.terms.values()])
        self.known: dict[str, tuple[float, Floats]] = {}
        self.levels: list[str] = []  # objectives that are bounded in turn
        for one in (*problem.objectives, *problem.limits):
            if not _is_known(one):
                continue
            self.known[one.name] = self._costs(one)
            if one in problem.objectives:
                self.levels.append(one.name)
        self.limits = [(name, bound, sign) for name, sign, bound in problem.bounds().values() if name in self.known]
        self._ends: dict[str, Architecture | None] = {}
        self.signs = {one.name: 1 if one.direction == "minimize" else -1 for one in problem.objectives}

    def _arch(self, chosen: Sequence[Term]) -> Architecture:
        flat = {path: value for term in chosen for path, value in term.choice}
        return self.space.decide(lambda path, domain: flat.get(path, domain.values[-1]))

    def _costs(self, one: Objective) -> tuple[float, Floats]:
        def value(arch: Architecture) -> float:
            return float(value_of(one, arch) if one.cost == "analytic" else estimate_of(one, arch))  # type: ignore[arg-type]

        base = value(self.whole)
        whole = {group: terms[0] for group, terms in self.terms.items()}
        added = [
            0.0 if term is whole[group] else value(self._arch([*{**whole, group: term}.values()])) - base
            for group, term in self.places
        ]
        return base, np.array(added)

    def row(self, arch: Architecture) -> Floats | None:
        """(variables,) 1 where a block is as in `arch`; None where it is none of these."""
        found = np.zeros(len(self.places))
        groups: dict[str, list[tuple[str, object]]] = {group: [] for group in self.terms}
        for path, value in arch.flat.items():
            parts = path.split(".")
            group = next((one for one in (".".join(parts[:3]), ".".join(parts[:2])) if one in groups), None)
            if group is not None:
                groups[group].append((path, value))
        for decisions in groups.values():
            index = self.at.get(tuple(sorted(decisions, key=lambda one: one[0])))
            if index is None:
                return None
            found[index] = 1.0
        return found

    def solve(
        self, problem: Problem, scores: Floats, number: int, seen: set[str], measured: Mapping[str, float]
    ) -> Architecture | None:
        """The best architecture for these scores at the level that `number` stands for; None where it was seen or there is none.

        Args:
            measured: by name what a measured value is times its estimate, by which limits on it are brought to the estimate's scale.
        """
        bounds = [(name, bound / measured.get(name, 1.0), sign) for name, bound, sign in self.limits]
        if self.levels:
            name = self.levels[number % len(self.levels)]
            base, added = self.known[name]
            cheapest = self._cheapest(name)
            least = base + self._extreme(added, -1) if cheapest is None else self._value(name, cheapest)
            most = base
            share = _spread_out(number // len(self.levels))
            low, high = sorted((least, most))
            level = low * (high / low) ** share if low > 0 else low + share * (high - low)
            bounds.append((name, level, self.signs[name]))
        arch = self._within(problem, scores, bounds)
        return None if arch is None or arch.id in seen else arch

    def _cheapest(self, name: str) -> Architecture | None:
        """What costs least of all that is not estimated to lose more than `RUINED` times the loss of the whole model."""
        if name not in self._ends:
            _, added = self.known[name]
            most = RUINED * abs(self.base) if self.base else None
            self._ends[name] = self._milp(self.signs[name] * added, self.limits, 0.0, (), most)
        return self._ends[name]

    def _value(self, name: str, arch: Architecture) -> float:
        base, added = self.known[name]
        row = self.row(arch)
        return base + float(row @ added) if row is not None else base

    def _extreme(self, added: Floats, sign: int) -> float:
        total, at = 0.0, 0
        for terms in self.terms.values():
            values = added[at : at + len(terms)]
            total += float(values.max() if sign > 0 else values.min())
            at += len(terms)
        return total

    def _within(
        self, problem: Problem, scores: Floats, bounds: Sequence[tuple[str, float, float]]
    ) -> Architecture | None:
        margin, without = 0.0, list[Floats]()
        for attempt in range(TIGHTER):
            arch = self._milp(scores, bounds, margin, without)
            if arch is None:
                return None
            if admissible(problem, arch):
                return arch
            if problem.space.violations(arch) or attempt < TIGHTER // 2:  # a rule, or a limit on what is not a sum
                row = self.row(arch)
                without += [] if row is None else [row]
            else:
                margin = 0.01 if not margin else 2 * margin
        return None

    def _milp(
        self,
        scores: Floats,
        bounds: Sequence[tuple[str, float, float]],
        margin: float,
        without: Sequence[Floats],
        loses: float | None = None,
    ) -> Architecture | None:
        from scipy.optimize import Bounds, LinearConstraint, milp

        groups = np.zeros((len(self.terms), len(self.places)))
        at = 0
        for index, terms in enumerate(self.terms.values()):
            groups[index, at : at + len(terms)] = 1
            at += len(terms)
        constraints = [LinearConstraint(groups, 1, 1)]
        for name, bound, sign in bounds:
            base, added = self.known[name]
            scale = max(abs(base), 1e-30)
            allowed = (sign * (bound - base) - margin * abs(bound)) / scale
            constraints.append(LinearConstraint(sign * added[None] / scale, -np.inf, allowed))
        if loses is not None:
            constraints.append(LinearConstraint(self.added[None], -np.inf, loses))
        for row in without:  # any other one: at least one block differs
            constraints.append(LinearConstraint(row[None], -np.inf, len(self.terms) - 1))
        goal = scores / max(float(np.abs(scores).max()), 1e-30)
        for name in self.levels:  # of what is equally good, the cheaper one
            base, added = self.known[name]
            goal = goal + 1e-6 * self.signs[name] * added / max(float(np.abs(added).max()), 1e-30)
        count = len(self.places)
        found = milp(
            goal, integrality=np.ones(count), bounds=Bounds(0, 1), constraints=constraints, options={"time_limit": 20.0}
        )
        if found.x is None:
            return None
        chosen = [term for (_, term), value in zip(self.places, found.x, strict=True) if value > 0.5]
        return self._arch(chosen)


class _Posterior:
    """What each block adds, given the trials: added_i (1 + e_i), e_i ~ N(0, doubt^2), with a level of its own for the text on which
    the trials were judged and noise that grows with what was added."""

    def __init__(self, program: _Program, problem: Problem, trials: Sequence[Trial], doubt: float) -> None:
        self.program = program
        self.prior_sd = doubt * np.abs(program.added)
        loss = next((one.name for one in problem.objectives if not _is_known(one)), None)
        rows, values = [], []
        for trial in trials if loss is not None else ():
            value = trial.values.get(loss) if loss is not None else None
            if trial.state is not State.COMPLETE or value is None or not math.isfinite(value):
                continue
            if (row := program.row(trial.architecture)) is not None:
                rows.append(row)
                values.append(float(value))
        self.x = np.array(rows) if rows else np.zeros((0, len(program.added)))
        self.y = np.array(values)
        total = self.x @ program.added
        self.noise = LEAST_NOISE + NOISE * np.abs(total)
        if len(self.y):  # the level of the text: a weighted mean of what is left
            weight = 1 / self.noise**2
            self.level = float(np.sum(weight * (self.y - total)) / np.sum(weight))

    def mean(self) -> Floats:
        return self._conditioned(self.program.added, np.zeros(len(self.y)))

    def draw(self, rng: np.random.Generator, wider: float) -> Floats:
        """A draw, by conditioning a draw of the prior on the trials (Matheron's rule)."""
        prior = self.program.added + wider * self.prior_sd * rng.standard_normal(len(self.prior_sd))
        return self._conditioned(prior, self.noise * rng.standard_normal(len(self.y)))

    def _conditioned(self, prior: Floats, noise: Floats) -> Floats:
        if not len(self.y):
            return prior
        spread = self.x * self.prior_sd**2
        covariance = spread @ self.x.T + LEVEL_SD**2 + np.diag(self.noise**2)
        left = self.y - self.level - self.x @ prior - noise
        found: Floats = prior + spread.T @ np.linalg.solve(covariance, left)
        return found


def _is_known(one: Objective) -> bool:
    return one.cost == "analytic" or (isinstance(one, Predicting) and not isinstance(one, Additive))


def _measured(problem: Problem, trials: Sequence[Trial]) -> dict[str, float]:
    """Of what is measured and only estimated before: the median of measured over estimated values."""
    found: dict[str, float] = {}
    for one in (*problem.objectives, *problem.limits):
        if one.cost == "analytic" or not isinstance(one, Predicting) or isinstance(one, Additive):
            continue
        ratios = [
            value / estimate
            for trial in trials
            if (value := trial.values.get(one.name, trial.info.get(one.name, {}).get("value"))) is not None
            and (estimate := estimate_of(one, trial.architecture)) > 0
        ]
        if ratios:
            found[one.name] = float(np.median(ratios))
    return found


_programs: WeakKeyDictionary[Problem, _Program] = WeakKeyDictionary()


def _program(problem: Problem) -> _Program:
    found = _programs.get(problem)
    if found is None:
        scores = next((one for one in (*problem.proxies, *problem.objectives) if isinstance(one, Additive)), None)
        if scores is None:
            raise SearchError(
                "Knapsack needs block scores and nothing in this search has any; give proxies=[teacher.block_scores()], of a trained model, "
                "or another strategy"
            )
        found = _programs[problem] = _Program(problem, scores)
    return found


def _spread_out(number: int) -> float:
    """The golden ratio's sequence in [0, 1): each new point is far from those before."""
    return (0.5 + number * 0.6180339887498949) % 1.0
