"""Bayesian optimization of architectures (after Daulton et al., 2021, "Parallel Bayesian optimization of multiple noisy
objectives with expected hypervolume improvement", NeurIPS), with known objectives kept exact.

Gaussian processes stand for what is unknown only; acquisition functions are maximised by evolution over real
architectures, never by rounding. torch and botorch are imported when a suggestion needs them.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.problem import Problem
from nas_bo.strategies.belief import Belief
from nas_bo.strategies.design import spread
from nas_bo.strategies.nsga2 import NSGA2, best_trials, vary
from nas_bo.strategies.scores import Score, scorer
from nas_bo.strategies.strategy import admissible, check_count, check_seed, draw, fresh, generator, seen_ids
from nas_bo.strategies.surrogate import quiet_torch, require_botorch
from nas_bo.strategies.variation import mutate
from nas_bo.trial import State, Trial

SHARES = (0.25, 0.35)  # of the candidates: random ones, variations of the best trials; the rest evolves from these
ROUNDS = 4

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bayes:
    """Gaussian processes for the unknown objectives, and the architecture of the highest expected gain.

    One objective: log expected improvement. At most one unknown beside one or two known: expected hypervolume
    improvement in closed form. Up to four objectives otherwise: qLogNEHVI; above: ParEGO, random weights for each
    suggestion. Limits on known objectives are exact; on unknown ones, and for failures, their probability counts.
    Trials that are running, and the rest of a batch, are taken for evaluated with their expected values, so batches
    spread out.
    When the surrogate cannot be fitted, NSGA-II suggests instead, and a warning is logged.

    Attributes:
        seed: a whole number.
        startup: how many trials come first that span the space and its known objectives.
        candidates: how many architectures are scored for one suggestion.

    Raises:
        SearchError: a setting that is not of that kind.
    """

    seed: int = 0
    startup: int = 10
    candidates: int = 600

    def __post_init__(self) -> None:
        check_seed(self)
        check_count(self, "startup", 0)
        check_count(self, "candidates", 10)

    def suggest(self, problem: Problem, trials: Sequence[Trial], n: int) -> list[Architecture]:
        """See `Strategy.suggest`.

        Raises:
            MissingExtra: botorch is not installed.
        """
        require_botorch()
        rng = generator("bayes", self.seed, len(trials))
        done = sum(trial.state is not State.RUNNING for trial in trials)
        first = n if done < 2 else max(0, min(n, self.startup - len(trials)))
        batch = spread(problem, trials, first, rng) if first else []
        if len(batch) < first or len(batch) == n:
            return batch
        pending = [*(t.architecture for t in trials if t.state is State.RUNNING), *batch]
        try:
            with quiet_torch():
                return batch + self._propose(problem, trials, n - len(batch), pending, rng)
        except Exception as error:  # whatever a fit does, the search goes on
            logger.warning("Bayes: no surrogate at trial %d, NSGA-II suggests instead: %s", len(trials), error)
        asked = [*trials, *(Trial(arch, state=State.RUNNING) for arch in batch)]
        return batch + NSGA2(self.seed, startup=0).suggest(problem, asked, n - len(batch))

    def _propose(
        self, problem: Problem, trials: Sequence[Trial], n: int, pending: list[Architecture], rng: random.Random
    ) -> list[Architecture]:
        belief = Belief(problem, trials)
        belief.believe(pending)
        seen = seen_ids(trials) | {arch.id for arch in pending}
        parents = best_trials(problem, trials, 40)
        batch: list[Architecture] = []
        while len(batch) < n:
            arch = self._maximise(problem, scorer(belief, rng), [*parents, *pending, *batch], seen, rng)
            if arch is None:
                break
            batch.append(arch)
            seen.add(arch.id)
            if len(batch) < n:
                belief.believe([arch])
        return batch

    def _maximise(
        self, problem: Problem, score: Score, parents: list[Architecture], seen: set[str], rng: random.Random
    ) -> Architecture | None:
        """The best-scored of about `candidates` unseen admissible architectures: random ones and variations of the best
        trials first, then the better half of what was found is varied again, at last with one move at a time."""
        scored: dict[str, tuple[float, Architecture]] = {}

        def add(make: Callable[[], Architecture], number: int) -> None:
            new: dict[str, Architecture] = {}
            for _ in range(2 * number):
                arch = make()
                if arch.id not in seen and arch.id not in scored and arch.id not in new and admissible(problem, arch):
                    new[arch.id] = arch
                if len(new) >= number:
                    break
            if new:
                found = np.nan_to_num(score(list(new.values())), nan=-np.inf, neginf=-1e300)
                scored.update({a.id: (s, a) for a, s in zip(new.values(), found.tolist(), strict=True)})

        def best(number: int) -> list[Architecture]:
            return [arch for _, arch in sorted(scored.values(), key=lambda pair: (-pair[0], pair[1].id))[:number]]

        add(lambda: draw(problem.space, rng), int(SHARES[0] * self.candidates))
        if parents:
            add(lambda: vary(problem, rng.choice(parents), rng.choice(parents), rng), int(SHARES[1] * self.candidates))
        for r in range(ROUNDS):
            pool = best(max(2, 16 >> r))
            if not pool:
                return fresh(problem, seen, rng)
            wide = r < ROUNDS // 2

            def child(pool: list[Architecture] = pool, wide: bool = wide) -> Architecture:
                first = rng.choice(pool)
                return vary(problem, first, rng.choice(pool), rng) if wide else mutate(problem.space, first, rng)

            add(child, int((1 - sum(SHARES)) * self.candidates / ROUNDS))
        return best(1)[0]
