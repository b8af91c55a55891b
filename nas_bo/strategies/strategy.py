"""The contract `Strategy`, and what every strategy needs: derived randomness, and valid architectures not seen yet."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import random
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from operator import is_
from typing import TYPE_CHECKING, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.errors import SearchError, SpaceError
from nas_bo.objective import Steering
from nas_bo.problem import Problem
from nas_bo.seeds import settle
from nas_bo.space import Space
from nas_bo.strategies.towards_limits import another
from nas_bo.trial import State, Trial
from nas_bo.validated import check_fields

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

DRAWS = 500  # rejected draws after which a small space is walked instead
MORE_DRAWS = 5_000  # rejected draws after which a space too large to walk counts as exhausted
NEAREST = 30  # draws of which the nearest to the limits is where steps towards them begin
WALKED = 10_000  # points of the largest space that is walked, about half a second, once
REMEMBERED = 50_000  # guide values kept per problem

logger = logging.getLogger(__name__)


@runtime_checkable
class Strategy(Protocol):
    """History -> next architectures. No base class is needed.

    A strategy is a pure function of its settings, the problem and the history. It keeps nothing between calls (a cache
    that changes no result is fine) and draws its random numbers from `generator`, so that a search that was killed,
    moved to another process or asked twice continues as if nothing had happened. It can be pickled.
    """

    def suggest(self, problem: Problem, trials: Sequence[Trial], n: int) -> list[Architecture]:
        """Up to `n` architectures to evaluate next; called whenever a worker is free, and before the first trial.

        Args:
            problem: the space and what is wanted.
            trials: every trial so far, in the order of their numbers and in every state. RUNNING ones are pending:
                asked for, not reported yet.
            n: how many are wanted, at least 1.

        Returns:
            Architectures that break no rule and no limit on an analytic objective, different from each other and from
            every architecture in `trials`; one whose only trial was STOPPED may be suggested once more, and is then
            evaluated to the end. Fewer than `n`, possibly none, when the space has no more of them.

        Raises:
            MissingExtra: the strategy needs a package that is not installed. Nothing else is raised for a history,
                whatever it holds.
        """
        ...


@runtime_checkable
class Seeded(Protocol):
    """A strategy whose random numbers begin with a seed; hosts draw theirs from it as well."""

    @property
    def seed(self) -> int: ...


@runtime_checkable
class Choosing(Protocol):
    """A strategy that can choose among given architectures, see `nas_bo.strategies.Among`."""

    def choose(
        self, problem: Problem, trials: Sequence[Trial], candidates: Sequence[Architecture], n: int
    ) -> list[Architecture]:
        """Up to `n` of the candidates, which are admissible and not in `trials`."""
        ...


def check_settings(owner: DataclassInstance) -> None:
    """Settle the seed of a strategy (any `Seed`, kept as a whole number), and check the fields that have a check.

    Raises:
        SearchError: a setting is not what it must be.
    """
    settle(owner)
    check_fields(owner, SearchError)


def generator(*parts: object) -> random.Random:
    """A random generator that depends on `parts` (JSON-safe values) only: not on the process or the hash seed."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return random.Random(int.from_bytes(digest[:16], "big"))


class Growing(list[Trial]):
    """A history that only grows from call to call: of two with the same `origin` one begins with the other, so that what was read of
    the shorter one need not be read again."""

    def __init__(self, trials: Iterable[Trial], origin: object) -> None:
        super().__init__(trials)
        self.origin = origin


class _Seen(threading.local):
    """The ids of the trials that a history began with when this thread was asked last: it begins with the same ones next time."""

    def __init__(self) -> None:
        self.trials: list[Trial] = []
        self.ids: set[str] = set()
        self.origin: object = None


_seen = _Seen()


def seen_ids(trials: Iterable[Trial]) -> set[str]:
    """The ids of all architectures of a history, whatever became of them."""
    history = trials if isinstance(trials, list) else list(trials)
    origin = trials.origin if isinstance(trials, Growing) else None
    same = len(_seen.trials) <= len(history) and (
        (origin is not None and origin is _seen.origin) or all(map(is_, _seen.trials, history))
    )
    if not same:
        _seen.trials, _seen.ids = [], set()
    _seen.origin = origin
    for trial in history[len(_seen.trials) :]:
        if trial.state is State.RUNNING:  # the next time it is another object
            break
        _seen.trials.append(trial)
        _seen.ids.add(trial.architecture.id)
    return _seen.ids.union(trial.architecture.id for trial in history[len(_seen.trials) :])


def admissible(problem: Problem, arch: Architecture) -> bool:
    """`Problem.admissible`, true where a rule or an objective raises: evaluation then records why the trial failed."""
    try:
        return problem.admissible(arch)
    except Exception as error:
        logger.debug("the admissibility of %s is unknown: %s", arch.id, error)
        return True


_walks: WeakKeyDictionary[type[Space], list[Architecture]] = WeakKeyDictionary()
_steering: WeakKeyDictionary[Problem, bool] = WeakKeyDictionary()
_guides: WeakKeyDictionary[Problem, dict[object, np.ndarray | None]] = WeakKeyDictionary()


def guide(problem: Problem, trial: Trial) -> np.ndarray | None:
    """`Problem.guide`, remembered: the values (objectives,) to steer by, minimised; None where one is not finite."""
    memory = _guides.setdefault(problem, {})
    if problem not in _steering:
        _steering[problem] = any(isinstance(o, Steering) for o in problem.objectives)
    steered = _steering[problem]  # reads what `info` kept
    key = (trial.architecture.id, trial.state, tuple(trial.values.items()), repr(trial.info) if steered else "")
    if key in memory:
        with suppress(KeyError):  # another thread may have emptied it
            return memory[key]
    found: np.ndarray | None
    try:
        found = problem.guide(trial)
    except Exception as error:  # a value that is missing, a known objective that raises
        logger.debug("trial %s is skipped, its values cannot be read: %s", trial.number, error)
        found = None
    found = None if found is None or not np.isfinite(found).all() else found
    if len(memory) >= REMEMBERED:
        memory.clear()
    memory[key] = found
    return found


def violation(trial: Trial) -> float:
    """How far a trial is from being feasible: the sum of its violations; 0 when it is, infinite when it failed."""
    if trial.state is State.FAILED:
        return math.inf
    amounts = [math.nan if v is None else v for v in trial.violations.values()]  # None: a host lost it
    total = sum(v for v in amounts if v > 0)
    broken = trial.state is State.INFEASIBLE or any(math.isnan(v) for v in amounts)
    return max(total, 1e-12) if broken else total


def draw(space: type[Space], rng: random.Random) -> Architecture:
    """An architecture, every choice uniform (log-uniform on a log scale); rules are not looked at."""
    return space.decide(lambda _path, domain: domain.sample(rng))


def fresh(problem: Problem, seen: set[str], rng: random.Random, tries: int = DRAWS) -> Architecture | None:
    """A random admissible architecture whose id is not in `seen`; None when there is none left.

    Every choice is uniform (log-uniform on a log scale); what is forbidden or seen is drawn again, `tries` times. After
    that a finite space of up to `WALKED` points is walked, so its exhaustion is exact; in a larger one steps lead from the nearest
    that was drawn to within the limits (`nas_bo.strategies.towards_limits`), and where they do not it gets `MORE_DRAWS`.
    """
    space = problem.space

    def draws(count: int) -> Iterator[Architecture]:
        for _ in range(count):
            yield draw(space, rng)

    def first(found: Iterable[Architecture]) -> Architecture | None:
        return next((a for a in found if a.id not in seen and admissible(problem, a)), None)

    arch = first(draws(tries))
    if arch is None and space.is_finite() and space.size(rules=False) <= WALKED:
        if space not in _walks:
            try:
                _walks[space] = list(space.enumerate())
            except SpaceError:  # a rule raises
                return first(draws(MORE_DRAWS))
        rest = [a for a in _walks[space] if a.id not in seen]
        rng.shuffle(rest)  # ~ uniform over what is left
        return first(rest)
    if arch is None and tries:
        arch = another(problem, seen, rng, list(draws(NEAREST)))
    return arch if arch is not None else first(draws(MORE_DRAWS))
