"""Bayesian optimization of architectures (after Emmerich et al., 2006, "Single- and multiobjective evolutionary
optimization assisted by Gaussian random field metamodels", IEEE TEC 10(4), and Daulton et al., 2021, NeurIPS), with known
objectives kept exact.

Gaussian processes stand for what is unknown only. The acquisition function is maximised by evolution over real
architectures, never by rounding: thousands of genomes are scored at once, and those that become parents are built and
their known objectives, limits and rules computed exactly.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.problem import Problem
from nas_bo.strategies.breeding import cross, mutate
from nas_bo.strategies.cheap_objectives import known_of
from nas_bo.strategies.fidelity import still_to_pay, unfinished
from nas_bo.strategies.filling_design import fill
from nas_bo.strategies.initial_design import spread
from nas_bo.strategies.nsga2 import NSGA2, best_trials
from nas_bo.strategies.objective_models import Belief
from nas_bo.strategies.scores import MANY, Score, scorer
from nas_bo.strategies.shared_training import Setting, SharedTrainings, decisions_after, pin
from nas_bo.strategies.strategy import admissible, check_settings, fresh, generator, seen_ids
from nas_bo.surrogate.genomes import genomes_of
from nas_bo.trial import State, Trial
from nas_bo.validated import checked, whole_number

RANDOM, VARIED = 0.1, 0.15  # of the candidates: random ones, variations of the best trials; the rest evolves from these
ROUNDS = (0.5,) * 6 + (0.0,) * 2  # of evolution: the probability that two candidates are crossed
LATER = (0.5, 0.0)  # the rounds for a later member of a batch, which begins with the candidates of the one before
FEWER = 0.05  # of the candidates in each of these
PARENTS = 40  # candidates that are varied in every round
EXPLORED = 24  # trials from which on a surrogate that explains little is helped by evolution
WIDER = 2.0  # times that an exploring suggestion takes the surrogate to be less certain, with one objective
STALLED = 0.5  # of the suggestions must improve the best by more, where it hardly improves any more (`Belief.demanded`)
REFRESHED = 80  # candidates with an old score that are scored again at a time, at least
CHECKED = 4  # times that many are built at most in each round, where rules or the error of an approximation reject most

Pin = Callable[[np.ndarray], np.ndarray]  # genomes (n, genes) -> the nearest where candidates must lie

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bayes:
    """Gaussian processes for the unknown objectives, and the architecture of the highest expected gain.

    One objective: log expected improvement, and the mean of two processes (see `nas_bo.surrogate.averaged`). Two to four: expected hypervolume improvement in closed form, with known
    objectives exact. Above: ParEGO, random weights for each suggestion. Limits on known objectives are exact; on unknown
    ones, and for failures, their probability counts. Any other limit has a Gaussian process of its own, of its amount, or
    of what is known about it (see `nas_bo.strategies.limits`). Trials that are running, and the rest of a batch, are taken for
    evaluated with their expected values, so batches spread out.

    Values of an objective at a part of its budget (`Trial.rungs`) and the proxies of the problem are modelled together with it
    (see `nas_bo.surrogate.sources`), so trials that were stopped early inform it as well. An architecture that was
    stopped is suggested once more, to be evaluated to the end, when nothing else promises as much for its price: where the
    evaluation continues from a checkpoint, the gain is divided by the share that is left to pay (Snoek et al., 2012, "Practical
    Bayesian optimization of machine learning algorithms", section 3.2).
    When the surrogate cannot be fitted, NSGA-II suggests instead, and a warning is logged. Where it explains little of the differences
    between good architectures when each is left out, up to a third of the suggestions explore: with one objective the surrogate is
    taken to be less certain than it says, with several a child of the front is evaluated (see `Belief.share_to_explore`).
    With one objective, half of the suggestions look for more than further digits once the best hardly improves (see `Belief.demanded`).

    Where the space has fields that act after training (`nas_bo.model.after_training`), trainings are compared at one setting of them, and
    after each training those settings of all that are there follow which promise a gain (`nas_bo.strategies.shared_training`).

    Attributes:
        seed: a whole number, or a generator that gives one (see `nas_bo.seeds`).
        startup: how many trials come first that fill the space (see `nas_bo.strategies.filling_design`) or, with several objectives, span it and the known
            ones (see `nas_bo.strategies.initial_design`).
        candidates: how many architectures are scored for one suggestion.
        settings: in how many ways each training is looked at on the average at most, where the space has fields that act after training.
        trainings: how many trainings there are at most in such a space; when they are spent, the settings of them that promise a gain
            follow, and the search ends. None leaves that to the number of trials.

    Raises:
        SearchError: a setting that is not of that kind.
    """

    seed: int = 0
    startup: int = checked(8, whole_number(0))
    candidates: int = checked(3000, whole_number(10))
    settings: int = checked(6, whole_number(1))
    trainings: int | None = checked(None, whole_number(1).or_none())

    def __post_init__(self) -> None:
        check_settings(self)

    def suggest(self, problem: Problem, trials: Sequence[Trial], n: int) -> list[Architecture]:
        """See `Strategy.suggest`."""
        if self.settings > 1 and decisions_after(problem):
            return self._with_settings(problem, trials, n)
        rng = generator("bayes", self.seed, len(trials))
        done = sum(trial.state is not State.RUNNING for trial in trials)
        first = n if done < 2 else max(0, min(n, self.startup - len(trials)))
        batch = _design(problem, trials, first, rng) if first else []
        if len(batch) < first or len(batch) == n:
            return batch
        pending = [*(t.architecture for t in trials if t.state is State.RUNNING), *batch]
        try:
            draws = np.random.default_rng(rng.getrandbits(63))
            return batch + self._propose(problem, trials, n - len(batch), pending, draws)
        except Exception as error:  # whatever a fit does, the search continues
            logger.warning("Bayes: no surrogate at trial %d, NSGA-II suggests instead: %s", len(trials), error)
        asked = [*trials, *(Trial(arch, state=State.RUNNING) for arch in batch)]
        return batch + NSGA2(self.seed, startup=0).suggest(problem, asked, n - len(batch))

    def choose(
        self, problem: Problem, trials: Sequence[Trial], candidates: Sequence[Architecture], n: int
    ) -> list[Architecture]:
        """See `Choosing`: all candidates are scored, with their known objectives exact."""
        rng = generator("bayes", self.seed, len(trials))
        done = sum(trial.state is not State.RUNNING for trial in trials)
        first = n if done < 2 else max(0, min(n, self.startup - len(trials)))
        known = known_of(problem, [*candidates, *(trial.architecture for trial in trials)])
        batch = spread(problem, trials, first, rng, candidates, known) if first else []
        pending = [*(t.architecture for t in trials if t.state is State.RUNNING), *batch]
        rest = [arch for arch in candidates if arch not in batch]
        if len(batch) == n or not rest:
            return batch
        try:
            belief = Belief(problem, trials, ranked=True, known=known)
            belief.believe(pending)
            draws = np.random.default_rng(rng.getrandbits(63))
            exact, inputs = belief.exact(rest), belief.inputs(belief.genomes(rest))
            left = np.ones(len(rest), dtype=bool)
            while len(batch) < n and left.any():
                score = np.nan_to_num(scorer(belief, draws)(inputs, exact), nan=-np.inf)
                at = int(np.argmax(np.where(left, score, -np.inf)))
                at = at if left[at] else int(np.argmax(left))
                left[at] = False
                batch.append(rest[at])
                if len(batch) < n:
                    belief.believe([rest[at]])
        except Exception as error:  # whatever a fit does, the search continues
            logger.warning("Bayes: no surrogate at trial %d, chance decides: %s", len(trials), error)
            more = [arch for arch in rest if arch not in batch]
            batch += rng.sample(more, min(n - len(batch), len(more)))
        return batch

    def _with_settings(self, problem: Problem, trials: Sequence[Trial], n: int) -> list[Architecture]:
        """Settings of trainings that are there, as long as they are worth it, else trainings."""
        batch: list[Architecture] = []
        while len(batch) < n:
            asked = [*trials, *(Trial(arch, state=State.RUNNING) for arch in batch)]
            shared, seen = SharedTrainings(problem, asked), seen_ids(asked)
            arch = None
            if shared.begun >= self.startup and shared.looked < self.settings * shared.begun:
                arch = shared.best_setting(seen, self.seed)
            if arch is None and (self.trainings is None or shared.begun < self.trainings):
                arch = self._training(problem, shared, seen)
            if arch is None:
                break
            batch.append(arch)
        return batch

    def _training(self, problem: Problem, shared: SharedTrainings, seen: set[str]) -> Architecture | None:
        """The next training, at the setting at which all are compared."""
        setting = shared.pinned()
        trials = shared.compared(setting)
        rng = generator("bayes", self.seed, len(shared.trials))
        if shared.begun < self.startup or len(shared.trainings) < 2:
            for arch in _design(problem, trials, 1, rng):
                made = setting.of(problem, arch)
                if made.id not in seen and admissible(problem, made):
                    return made
            return fresh(problem, seen, rng)
        pending = [t.architecture for t in trials if t.state is State.RUNNING]
        try:
            draws = np.random.default_rng(rng.getrandbits(63))
            found = self._propose(problem, trials, 1, pending, draws, setting)
        except Exception as error:  # whatever a fit does, the search continues
            logger.warning("Bayes: no surrogate at trial %d, NSGA-II suggests instead: %s", len(shared.trials), error)
            found = NSGA2(self.seed, startup=0).suggest(problem, shared.trials, 1)
        return next((arch for arch in found if arch.id not in seen), None) or fresh(problem, seen, rng)

    def _propose(
        self,
        problem: Problem,
        trials: Sequence[Trial],
        n: int,
        pending: list[Architecture],
        rng: np.random.Generator,
        setting: Setting | None = None,
    ) -> list[Architecture]:
        belief = Belief(problem, trials)
        stalled = belief.demanded()
        belief.believe(pending)
        stopped = unfinished(trials)
        left = still_to_pay(problem, trials)
        seen = (seen_ids(trials) | {arch.id for arch in pending}) - stopped.keys()
        parents = best_trials(problem, trials, PARENTS)
        share = belief.share_to_explore() if len(trials) >= EXPLORED else 0.0
        if share > 0:
            logger.info(
                "Bayes: at trial %d the surrogate leaves much open: it explores in %.0f %%", len(trials), 100 * share
            )
        batch: list[Architecture] = []
        looked: _Candidates | None = None
        while len(batch) < n:
            waiting = [arch for key, arch in stopped.items() if key not in seen]
            explore = share > 0 and rng.random() < share  # ~ Bernoulli
            demanded = stalled if stalled > 0 and rng.random() < STALLED else 0.0  # ~ Bernoulli
            arch = None
            if explore and len(problem.columns) > 1 and setting is None:
                asked = [*trials, *(Trial(each, state=State.RUNNING) for each in batch)]
                arch = next(
                    (a for a in NSGA2(self.seed, startup=0, screen=1).suggest(problem, asked, 1) if a.id not in seen),
                    None,
                )
            if arch is None:
                score = scorer(belief, rng, WIDER if explore else 1.0, demanded)
                if looked is None or explore or demanded:
                    pinned = None if setting is None else partial(pin, problem, setting)
                    found = self._search(belief, score, [*parents, *pending, *batch], waiting, left, seen, rng, pinned)
                else:
                    found = looked
                    found.rescore(score, self.candidates)
                    self._evolve(found, LATER, FEWER, rng)
                if not explore and not demanded and len(problem.columns) <= MANY:
                    looked = found
                arch = found.take() or fresh(problem, seen, generator("bayes", self.seed, len(seen)))
            if arch is None:
                break
            batch.append(arch)
            seen.add(arch.id)
            if len(batch) < n:
                belief.believe([arch])
        return batch

    def _search(
        self,
        belief: Belief,
        score: Score,
        parents: list[Architecture],
        stopped: list[Architecture],
        left: Mapping[str, float],
        seen: set[str],
        rng: np.random.Generator,
        pinned: Pin | None = None,
    ) -> _Candidates:
        """About `candidates` architectures with their scores: random ones, variations of the best trials and those whose
        evaluation was stopped first, then the best so far are varied again and again."""
        genomes = genomes_of(belief.problem.space)
        cheaper = {
            row.tobytes(): -math.log(left[arch.id])
            for arch, row in zip(stopped, genomes.encode(stopped), strict=True)
            if left[arch.id] < 1
        }
        found = _Candidates(belief, score, seen, cheaper, pinned)
        wild = int(RANDOM * self.candidates)
        found.add(np.concatenate([genomes.random(wild // 2, rng), genomes.tilted(wild - wild // 2, rng)]))
        if parents:
            best = genomes.encode(parents)
            chosen = rng.integers(0, len(best), int(VARIED * self.candidates))
            found.add(mutate(genomes, best[chosen], rng))
        if stopped:
            found.add(genomes.encode(stopped), pinned=False)
        self._evolve(found, ROUNDS, (1 - RANDOM - VARIED) / len(ROUNDS), rng)
        return found

    def _evolve(self, found: _Candidates, rounds: Sequence[float], share: float, rng: np.random.Generator) -> None:
        """Vary the best so far, once for each of `rounds`: the probability that two are crossed; with 0 only the very best are varied.
        Each adds so large a share of `candidates`."""
        genomes = genomes_of(found.belief.problem.space)
        number = int(share * self.candidates)
        for crossing in rounds:
            pool = found.verify(PARENTS if crossing else PARENTS // 4)
            if not len(pool):
                break
            first, second = rng.integers(0, len(pool), (2, number))
            crossed = rng.random(number) < crossing
            children = found.genomes[pool[first]]
            children[crossed] = cross(genomes, children[crossed], found.genomes[pool[second]][crossed], rng)
            mutated = ~crossed | (rng.random(number) < 0.5)
            children[mutated] = mutate(genomes, children[mutated], rng)
            found.add(children, found.correction[pool[first]])


def _design(problem: Problem, trials: Sequence[Trial], n: int, rng: random.Random) -> list[Architecture]:
    """The first trials: with one objective they fill the space, with several they begin in its corners, near the ends of a front."""
    return (fill if len(problem.columns) == 1 else spread)(problem, trials, n, rng)


class _Candidates:
    """Genomes and their scores: approximate ones, and exact ones for those that were verified.

    The approximation of known objectives is corrected by the error that it has at a verified parent; what is left is the
    error of the difference between parent and child.
    """

    def __init__(
        self,
        belief: Belief,
        score: Score,
        seen: set[str],
        cheaper: Mapping[bytes, float],
        pinned: Pin | None = None,
    ) -> None:
        self.belief, self._seen, self._pinned = belief, seen, pinned
        self._gain, self._cheaper = score, cheaper  # what is added to the logarithm of the gain, by genome
        width, known = len(genomes_of(belief.problem.space).paths), len(belief.known.positions)
        self.genomes = np.zeros((0, width))
        self.correction = np.zeros((0, known))
        self._inputs: np.ndarray | None = None
        self._approximate = np.zeros((0, known))
        self._scores = np.zeros(0)
        self._verified = np.zeros(0, dtype=bool)
        self._stale = np.zeros(0, dtype=bool)  # scored before something was believed
        self._rows: set[bytes] = set()

    def add(self, genomes: np.ndarray, correction: np.ndarray | None = None, pinned: bool = True) -> None:
        """Score genomes (n, genes) that are not there yet, `pinned` to where candidates must lie, if there is something."""
        if self._pinned is not None and pinned:
            genomes = self._pinned(genomes)
        correction = np.zeros((len(genomes), self.correction.shape[1])) if correction is None else correction
        new = []
        for i, row in enumerate(genomes):
            key = row.tobytes()
            if key not in self._rows:
                self._rows.add(key)
                new.append(i)
        if not new:
            return
        genomes, correction = genomes[new], correction[new]
        inputs, approximate = self.belief.look(genomes)
        known = self.belief.known.from_scale(approximate + correction) if correction.shape[1] else correction
        scores = np.nan_to_num(self._score(genomes, inputs, known), nan=-np.inf, neginf=-np.inf)
        self._inputs = inputs if self._inputs is None else np.concatenate([self._inputs, inputs])
        self.genomes = np.concatenate([self.genomes, genomes])
        self.correction = np.concatenate([self.correction, correction])
        self._approximate = np.concatenate([self._approximate, approximate])
        self._scores = np.concatenate([self._scores, scores])
        self._verified = np.concatenate([self._verified, np.zeros(len(genomes), dtype=bool)])
        self._stale = np.concatenate([self._stale, np.zeros(len(genomes), dtype=bool)])

    def rescore(self, score: Score, most: int) -> None:
        """The best `most` for another score that is about nowhere above the last one, as after something was believed: the old
        score of a candidate is then a bound, until the new one is asked for (Minoux, 1978, "Accelerated greedy algorithms for maximizing
        submodular set functions", in "Optimization techniques", Springer)."""
        assert self._inputs is not None
        self._gain = score
        best = np.argsort(-self._scores, kind="stable")[:most]
        self.genomes, self.correction, self._inputs = self.genomes[best], self.correction[best], self._inputs[best]
        self._approximate, self._scores = self._approximate[best], self._scores[best]
        self._verified, self._stale = self._verified[best], np.ones(len(best), dtype=bool)

    def _refresh(self, number: int) -> None:
        """Score the best again until none of the best `number` has an old score."""
        assert self._inputs is not None
        known = self.belief.known
        while self._stale.any():
            order = np.argsort(-self._scores, kind="stable")
            order = order[self._scores[order] > -np.inf]
            if not self._stale[order[:number]].any():
                return
            old = order[self._stale[order]][: max(number, REFRESHED)]
            exact = self._approximate[old] + self.correction[old]
            exact = known.from_scale(exact) if exact.shape[1] else exact
            scores = self._score(self.genomes[old], self._inputs[old], exact)
            self._scores[old] = np.nan_to_num(scores, nan=-np.inf, neginf=-np.inf)
            self._stale[old] = False

    def take(self) -> Architecture | None:
        """The best candidate, which is none any more; None where no candidate is left."""
        best = self.verify(PARENTS // 4)
        if not len(best):
            return None
        self._scores[best[0]] = -np.inf
        return genomes_of(self.belief.problem.space).decode(self.genomes[best[0]])

    def _score(self, genomes: np.ndarray, inputs: np.ndarray, known: np.ndarray) -> np.ndarray:
        found = self._gain(inputs, known)
        if self._cheaper:
            found = found + np.array([self._cheaper.get(row.tobytes(), 0.0) for row in genomes])
        return found

    def verify(self, number: int) -> np.ndarray:
        """Row numbers of the `number` best verified candidates, best first: unseen, admissible, scored exactly. Those that
        look best are verified, and again those that then look best, `CHECKED` times."""
        assert self._inputs is not None
        belief, genomes = self.belief, genomes_of(self.belief.problem.space)
        for _ in range(CHECKED):
            self._refresh(number)
            order = np.argsort(-self._scores, kind="stable")[:number]
            todo = order[~self._verified[order] & (self._scores[order] > -np.inf)]
            if not len(todo):
                break
            archs = [genomes.decode(row) for row in self.genomes[todo]]
            answers = [belief.known.exact(belief.problem, arch) for arch in archs]
            known = np.array([values for values, _ in answers]).reshape(len(todo), -1)
            usable = np.array([ok and arch.id not in self._seen for arch, (_, ok) in zip(archs, answers, strict=True)])
            if known.shape[1]:
                self._scores[todo] = np.nan_to_num(
                    self._score(self.genomes[todo], self._inputs[todo], known), nan=-np.inf, neginf=-np.inf
                )
                exact = belief.known.to_scale(known)
                self.correction[todo] = np.nan_to_num(exact - self._approximate[todo])
            self._scores[todo[~usable]] = -np.inf
            self._verified[todo] = True
        order = np.argsort(-self._scores, kind="stable")
        return order[self._verified[order] & (self._scores[order] > -np.inf)][:number]
