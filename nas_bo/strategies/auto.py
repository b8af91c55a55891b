"""The strategy that fits the number of trials (algorithm selection: Rice, 1976, "The algorithm selection problem", Advances
in Computers 15): a model while each trial counts, evolution once there are so many that each must be cheap."""

from __future__ import annotations

import ast
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from nas_bo.architecture import Architecture
from nas_bo.errors import NasBoError
from nas_bo.problem import Problem
from nas_bo.strategies.bayes import Bayes
from nas_bo.strategies.local_search import LocalSearch
from nas_bo.strategies.nsga2 import NSGA2
from nas_bo.strategies.random import Random
from nas_bo.strategies.regularized_evolution import RegularizedEvolution
from nas_bo.strategies.reinforce import Reinforce
from nas_bo.strategies.strategy import Strategy, check_settings
from nas_bo.trial import Trial
from nas_bo.validated import checked, whole_number
from nas_bo.wording import counted

MODELLED = 2_000  # trials: a suggestion of `Bayes` then takes seconds, and grows with the square of their number

logger = logging.getLogger(__name__)

_said: WeakKeyDictionary[Problem, set[str]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Auto:
    """`Bayes` for the first trials, `NSGA2` beyond; what `search(strategy="auto")` takes, and the default.

    Only the number of trials decides, whoever suggested them, so the same seed gives the same search on a slow and on a
    fast machine, and after a resume. Who has some thousands of trials has cheap ones: there a suggestion by a model takes
    longer than it saves. The first suggestion and the change are logged, with the reason (level INFO).

    Attributes:
        seed: a whole number, or a generator that gives one (see `nas_bo.seeds`).
        modelled: up to how many trials `Bayes` suggests.

    Raises:
        SearchError: a setting that is not of that kind.
    """

    seed: int = 0
    modelled: int = checked(MODELLED, whole_number(0))

    def __post_init__(self) -> None:
        check_settings(self)

    def suggest(self, problem: Problem, trials: Sequence[Trial], n: int) -> list[Architecture]:
        """See `Strategy.suggest`."""
        strategy, reason = self.choice(len(trials))
        said = _said.setdefault(problem, set())
        if reason not in said:
            said.add(reason)
            logger.info("%s suggests: %s", type(strategy).__name__, reason)
        return strategy.suggest(problem, trials, n)

    def choice(self, trials: int) -> tuple[Strategy, str]:
        """Which strategy suggests after so many trials, and why."""
        if trials < self.modelled:
            return Bayes(
                seed=self.seed
            ), f"up to {counted(self.modelled, 'trial')} a model saves more evaluations than it costs"
        return NSGA2(seed=self.seed), (
            f"from trial {self.modelled:,} on a model would take seconds for each suggestion, and so many evaluations are cheap"
        )


BEGUN = {kind.__name__: kind for kind in (Auto, Bayes, NSGA2, RegularizedEvolution, LocalSearch, Reinforce, Random)}


def as_begun(said: object) -> Strategy | None:
    """The strategy that a study has noted as ``"NSGA2(seed=0, population=20)"``; None where it is none of nas_bo, or has
    settings that are not known (any more). Nothing of the text is run."""
    try:
        call = ast.parse(str(said), mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            return None
        settings = {word.arg or "": ast.literal_eval(word.value) for word in call.keywords}
        return BEGUN[call.func.id](**settings)
    except (NasBoError, KeyError, TypeError, ValueError, SyntaxError, RecursionError, MemoryError):
        return None


__all__ = ["Auto", "as_begun"]
