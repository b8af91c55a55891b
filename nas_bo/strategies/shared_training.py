"""Candidates whose training exists already: architectures that differ from a trained one only in what is done after training
(`nas_bo.architecture.AFTER`). They cost a forward pass or two, so their gain is divided by the share of a whole evaluation that is
(Snoek et al., 2012, "Practical Bayesian optimization of machine learning algorithms", section 3.2), as that of resumed ones.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from nas_bo.architecture import Architecture, names_after
from nas_bo.problem import Problem
from nas_bo.space import Space
from nas_bo.strategies.nsga2 import best_trials
from nas_bo.strategies.strategy import generator, seen_ids
from nas_bo.trial import State, Trial

PRICE = 0.05  # of a whole evaluation
TRAININGS = 16  # that are looked at, the best first
EACH = 16  # candidates for each of them


def with_trained_weights(problem: Problem, trials: Sequence[Trial], settings: int, seed: int) -> list[Architecture]:
    """Unseen architectures whose training is in the history; none where each training was looked at in `settings` ways on the
    average, or where nothing of the space acts after training."""
    paths = [path for path in problem.space.decisions() if names_after(path)]
    if not paths or settings < 2:
        return []
    looked = {trial.architecture.id: trial.architecture for trial in trials if trial.state is not State.FAILED}
    trainings = {arch.training_id for arch in looked.values()}
    done = {trial.architecture.training_id for trial in trials if trial.state is State.COMPLETE}
    if not done or len(looked) >= settings * len(trainings):
        return []
    rng = generator("after training", seed, len(trials))
    seen, found = seen_ids(trials), {}
    best: dict[str, list[Architecture]] = {}
    for arch in best_trials(problem, trials, len(trials)):
        if arch.training_id in done and (arch.training_id in best or len(best) < TRAININGS):
            best.setdefault(arch.training_id, []).append(arch)
    for archs in best.values():
        for made in _variants(problem.space, archs, paths, rng):
            if made.id not in seen and made.training_id == archs[0].training_id:
                found[made.id] = made
    return list(found.values())


def _variants(
    space: type[Space], archs: Sequence[Architecture], paths: Sequence[str], rng: random.Random
) -> list[Architecture]:
    """Of one training: half of them with one value for all layers, half near the best that was seen."""
    domains, made = space.domains(), []
    there = [path for path in paths if path in archs[0].flat]
    for number in range(EACH):
        flat = dict(archs[min(rng.randrange(len(archs)), rng.randrange(len(archs)))].flat)
        if number % 2:
            for name in dict.fromkeys(path.rpartition(".")[2] for path in there):
                same = [path for path in there if path.rpartition(".")[2] == name]
                value = domains[same[0]].sample(rng)
                flat.update(dict.fromkeys(same, value))
        else:
            for path in rng.sample(there, min(len(there), 1 + rng.randrange(2))):
                flat[path] = domains[path].sample(rng)
        made.append(space.architecture(flat))
    return made


__all__ = ["PRICE", "with_trained_weights"]
