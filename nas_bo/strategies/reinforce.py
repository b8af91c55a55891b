"""REINFORCE (Williams, 1992, Machine Learning 8; Zoph and Le, 2017, "Neural architecture search with reinforcement
learning", ICLR) with natural gradients (Peters and Schaal, 2008, "Natural actor-critic", Neurocomputing 71)."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.problem import Problem
from nas_bo.strategies.history import absurd
from nas_bo.strategies.policy import Policy, policy_of
from nas_bo.strategies.strategy import (
    admissible,
    check_settings,
    fresh,
    generator,
    guide,
    seen_ids,
    violation,
)
from nas_bo.trial import State, Trial, non_dominated
from nas_bo.validated import checked, number, whole_number

TRIES = 50  # draws that may be seen or forbidden before a random architecture takes their place
FLATTER = 0.9  # times the parameters after each such draw: a policy that repeats itself looks further away
AUGMENTED = 0.5  # the weight of the sum next to the maximum; ParEGO's 0.05 found less, a policy draws around a point
WIDE = 3.0  # positive values that span more than this factor are compared on a log scale


@dataclass(frozen=True)
class Reinforce:
    """An autoregressive policy over the tree of decisions, trained again on the whole history for every suggestion.

    The history may come from anywhere (random draws, enqueued trials, other strategies), so the gradient is not taken
    on the policy's own draws. In its natural form it is the ridge regression of the rewards on the scores (the
    gradients of log p), which needs no importance weights; its intercept is the baseline, and the entropy bonus is
    the temperature of the policy that it leads to. (Ten passes of plain, reward-weighted gradients found less: they
    credit choices for the company in which they were made.)

    The reward is relative to the whole history. With one objective it is the value; with several, a weighted
    distance from the best values (as in MnasNet, Tan et al., 2019; in the form of ParEGO, Knowles, 2006), every
    suggestion with random weights of its own, so that the policies share the front among them (on HW-GPT-Bench
    one policy rewarded by hypervolume contribution, or by non-dominated rank, found less). It counts by rank, the
    best most; infeasible trials are worse than all feasible ones, failed ones the worst.

    Attributes:
        seed: a whole number, or a generator that gives one (see `nas_bo.seeds`).
        startup: how many random trials come first.
        entropy: how much the policy keeps exploring: its bonus per nat, in deviations of the reward.
        ridge: how little one trial is trusted: the noise of the reward, as a multiple of its variance explained.
        replayed: how many trials a policy is trained on, the best half and the latest of the others.

    Raises:
        SearchError: a setting that is not of that kind.
    """

    seed: int = 0
    startup: int = checked(20, whole_number(0))
    entropy: float = checked(0.03, number(above=0))
    ridge: float = checked(1.0, number(above=0))
    replayed: int = checked(256, whole_number(2))

    def __post_init__(self) -> None:
        check_settings(self)

    def suggest(self, problem: Problem, trials: Sequence[Trial], n: int) -> list[Architecture]:
        """See `Strategy.suggest`."""
        rng, seen = generator("reinforce", self.seed, len(trials)), seen_ids(trials)
        ended = list(
            {t.architecture.id: t for t in trials if t.state is not State.RUNNING}.values()
        )  # each once, the last time
        points = _points(problem, ended)
        broken = np.array([violation(trial) for trial in ended])
        policy = policy_of(problem.space)
        batch: list[Architecture] = []
        while len(batch) < n:
            arch = None
            if ended and len(seen) >= self.startup:
                advantages = _advantages(points, broken, rng)
                parameters = self._train(policy, [trial.architecture for trial in ended], advantages)
                arch = _unseen(problem, policy, parameters, seen, rng)
            arch = fresh(problem, seen, rng) if arch is None else arch
            if arch is None:
                break
            seen.add(arch.id)
            batch.append(arch)
        return batch

    def _train(self, policy: Policy, archs: Sequence[Architecture], advantages: np.ndarray) -> np.ndarray:
        """The parameters (parameters,) that maximise the expected advantage plus the entropy bonus."""
        order = np.argsort(-advantages, kind="stable")
        best, rest = order[: self.replayed // 2], np.sort(order[self.replayed // 2 :])
        chosen = np.sort(np.concatenate([best, rest[-(self.replayed - len(best)) :]]))
        target = advantages[chosen] - advantages[chosen].mean()  # the baseline
        scores = policy.scores([archs[i] for i in chosen])
        used = np.flatnonzero(scores.any(0))
        scores = scores[:, used] - scores[:, used].mean(0)
        gram = scores @ scores.T
        noise = self.ridge * max(1e-9, float(np.trace(gram)) / len(chosen))
        gram[np.diag_indices(len(chosen))] += noise
        parameters = np.zeros(len(policy.scale))
        deviation = float(target.std())
        if deviation > 1e-9:  # all equal, up to rounding: nothing to learn
            # Peters and Schaal (2008): the natural gradient w solves scores @ w + baseline = reward. With an
            # entropy bonus, expected reward is largest where log p = w / entropy, up to a constant.
            parameters[used] = scores.T @ np.linalg.solve(gram, target / deviation) / self.entropy
        return np.asarray(parameters * policy.scale)


def _unseen(
    problem: Problem, policy: Policy, parameters: np.ndarray, seen: set[str], rng: random.Random
) -> Architecture | None:
    for _ in range(TRIES):
        arch = policy.draw(problem.space, parameters, rng)
        if arch.id not in seen and admissible(problem, arch):
            return arch
        parameters = FLATTER * parameters
    return None


def _points(problem: Problem, trials: Sequence[Trial]) -> np.ndarray:
    """The values to steer by, minimised: (trials, objectives); NaN where a trial has none or is infeasible."""
    points = np.full((len(trials), len(problem.columns)), math.nan)
    for row, trial in zip(points, trials, strict=True):
        values = guide(problem, trial)
        if values is not None and violation(trial) == 0:
            row[:] = values
    valued = np.flatnonzero(~np.isnan(points).any(1))
    points[valued[absurd(points[valued])]] = math.nan
    return points


def _advantages(points: np.ndarray, broken: np.ndarray, rng: random.Random) -> np.ndarray:
    """How good every trial is: (trials,), the larger the better, about 0 in the mean."""
    valued = ~np.isnan(points).any(1)
    reward = np.full(len(points), -math.inf)
    reward[valued] = _rewards(points[valued], rng)
    broken = np.where(valued, 0.0, np.where(broken > 0, broken, math.inf))  # complete, but without values: failed
    _, place, ties = np.unique(np.column_stack([reward, -broken]), axis=0, return_inverse=True, return_counts=True)
    rank = (np.cumsum(ties) - ties / 2)[place.reshape(-1)] / len(points)  # in (0, 1), equal ones in the middle
    return np.asarray(-np.log(1 - rank) - 1)  # of exponential scores the best have most to say


def _rewards(points: np.ndarray, rng: random.Random) -> np.ndarray:
    """A weighted reward of values (n, objectives), in a random direction: (n,)."""
    if points.shape[1] == 1 or not len(points):
        return np.asarray(-points.sum(1))
    weights = np.array([rng.expovariate(1.0) for _ in range(points.shape[1])])  # ~ uniform on the simplex
    wide = (points.min(0) > 0) & (points.max(0) > WIDE * np.abs(points.min(0)))
    points = np.where(wide, np.log(np.where(wide, points, 1.0)), points)
    front = points[non_dominated(points)]
    span = np.ptp(front, axis=0)
    span = np.where(span > 0, span, np.maximum(np.ptp(points, axis=0), 1e-300))
    with np.errstate(over="ignore", invalid="ignore"):
        far = weights / weights.sum() * (points - front.min(0)) / span
        return np.asarray(-np.nan_to_num(far.max(1) + AUGMENTED * far.sum(1), nan=math.inf, posinf=math.inf))
