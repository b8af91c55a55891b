"""One strategy after another, for example a design of random trials before `Bayes` (the start-up of Jones et al., 1998,
"Efficient global optimization of expensive black-box functions", J. Global Optimization 13, with any two strategies)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas_bo.architecture import Architecture
from nas_bo.errors import SearchError
from nas_bo.problem import Problem
from nas_bo.strategies.strategy import Strategy
from nas_bo.trial import State, Trial

Stage = tuple[Strategy, int]

EXAMPLE = "for example Successive((Random(), 20), Bayes())"


@dataclass(frozen=True, init=False, repr=False)
class Successive:
    """Strategies in turn: ``Successive((Random(seed=0), 20), (NSGA2(seed=0), 50), Bayes(seed=0))``.

    Here the first suggests the trials 0 to 19, the second the next 50, the last all others. Which one is asked depends
    on the number of trials only, whoever suggested them, so enqueued and failed trials count. Every strategy sees all
    trials. A batch across a border is split; the later part sees the earlier one as running trials.

    Args:
        turns: pairs of a strategy and its number of trials; then the last strategy alone.
        stages, last: the same by keyword, as `dataclasses.replace` and a stored Ax client hand it over.

    Attributes:
        stages: the pairs.
        last: the strategy that suggests all others.

    Raises:
        SearchError: no strategy, something that is none, or a number of trials that is missing or not at least 1.
    """

    stages: tuple[Stage, ...]
    last: Strategy

    def __init__(self, *turns: Stage | Strategy, stages: Sequence[Stage] = (), last: Strategy | None = None) -> None:
        given = [*turns, *stages, *(() if last is None else (last,))]
        if not given or not _suggests(given[-1]):
            raise SearchError(f"{_called(given)}: the last must be a strategy, without a number of trials, {EXAMPLE}")
        for turn in given[:-1]:
            if not (isinstance(turn, tuple) and len(turn) == 2 and _suggests(turn[0])):
                raise SearchError(
                    f"{_called(given)}: {turn!r} must be a pair of a strategy and its number of trials, {EXAMPLE}"
                )
            if isinstance(turn[1], bool) or not isinstance(turn[1], int) or turn[1] < 1:
                raise SearchError(
                    f"{_called(given)}: the number of trials in {turn!r} must be a whole number of at least 1"
                )
        object.__setattr__(self, "stages", tuple(given[:-1]))
        object.__setattr__(self, "last", given[-1])

    def __repr__(self) -> str:
        return _called((*self.stages, self.last))

    def suggest(self, problem: Problem, trials: Sequence[Trial], n: int) -> list[Architecture]:
        """See `Strategy.suggest`."""
        batch: list[Architecture] = []
        while len(batch) < n:
            strategy, left = self._turn(len(trials) + len(batch))
            asked = [*trials, *(Trial(arch, state=State.RUNNING) for arch in batch)]
            wanted = n - len(batch) if left is None else min(left, n - len(batch))
            found = strategy.suggest(problem, asked, wanted)
            batch += found
            if len(found) < wanted:
                break
        return batch

    def _turn(self, number: int) -> tuple[Strategy, int | None]:
        """Whose turn it is at that number of trials, and for how many more (None: forever)."""
        for strategy, count in self.stages:
            if number < count:
                return strategy, count - number
            number -= count
        return self.last, None


def _suggests(value: object) -> bool:
    return isinstance(value, Strategy) and not isinstance(value, type)


def _called(turns: Sequence[object]) -> str:
    return f"Successive({', '.join(map(repr, turns))})"
