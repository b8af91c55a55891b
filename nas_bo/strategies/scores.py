"""Which acquisition function fits a problem: closed forms where they exist, qLogNEHVI (Daulton et al., 2021, NeurIPS)
up to four objectives, ParEGO (Knowles, 2006) above. torch is imported when qLogNEHVI is needed.

Notation: n candidates, d inputs, m objectives; a gain maps inputs (n, d), means and spreads (n, m) to logarithms (n,).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.strategies import acquisition
from nas_bo.strategies.belief import Belief
from nas_bo.strategies.pareto import hypervolume, ranks, reference_point
from nas_bo.trial import non_dominated

SAMPLES = 16  # draws per candidate where there is no closed form; time grows in proportion
BASELINE = 30  # trials that may be on the front for some draw
MANY = 4  # objectives above which expected hypervolume gives way to random scalarisations

Score = Callable[[Sequence[Architecture]], np.ndarray]
Gain = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def scorer(belief: Belief, rng: random.Random) -> Score:
    """The acquisition function that fits the belief: log(expected gain * chance to be feasible), larger is better."""
    incumbents, m = belief.feasible, len(belief.columns)
    gain: Gain
    if not incumbents:
        gain = _any
    else:
        points = belief.predict(incumbents)[0]
        usable = np.isfinite(points).all(1)
        incumbents = [arch for arch, ok in zip(incumbents, usable, strict=True) if ok]
        points = points[usable]
        reference = reference_point(points)
        front = points[non_dominated(points)]
        floor = 1e-9 * np.maximum(np.ptp(points, axis=0), 1e-12)
        if m == 1:
            gain = lambda _x, mean, sd: acquisition.log_ei(mean[:, 0], np.maximum(sd[:, 0], floor[0]), points.min())  # noqa: E731
        elif m <= 3 and len(belief.modelled) <= 1:
            gain = _closed_form(belief, front, reference, floor)
        elif m <= MANY and belief.modelled:
            near = np.argsort(ranks(points, until=BASELINE), kind="stable")[:BASELINE]
            gain = _noisy_ehvi(belief, [incumbents[i] for i in near], reference, rng)
        elif m <= MANY:
            whole = hypervolume(front, reference)
            gain = lambda _x, mean, _sd: np.log(  # noqa: E731
                [max(1e-300, hypervolume(np.vstack([front, row]), reference) - whole) for row in mean]
            )
        else:
            gain = _chebyshev(points, rng)

    def score(archs: Sequence[Architecture]) -> np.ndarray:
        inputs = belief.inputs(archs)
        mean, sd = belief.predict(archs, inputs)
        usable = np.isfinite(mean).all(1)
        found = np.full(len(archs), -np.inf)
        if usable.any():
            inputs, mean, sd = inputs[usable], mean[usable], sd[usable]
            found[usable] = gain(inputs, mean, sd) + belief.log_chance(inputs, mean, sd)
        return found

    return score


def _any(_inputs: np.ndarray, mean: np.ndarray, _sd: np.ndarray) -> np.ndarray:
    """While nothing is feasible, the chance to be feasible decides alone."""
    return np.zeros(len(mean))


def _closed_form(belief: Belief, front: np.ndarray, reference: np.ndarray, floor: np.ndarray) -> Gain:
    loss = (belief.modelled or [0])[0]
    order = [loss, *(j for j in range(len(reference)) if j != loss)]

    def gain(_inputs: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
        wide = np.maximum(sd[:, loss], floor[loss])
        found = acquisition.ehvi(mean[:, loss], wide, mean[:, order[1:]], front[:, order], reference[order])
        return np.asarray(np.log(np.maximum(found, 1e-300)))

    return gain


def _noisy_ehvi(belief: Belief, incumbents: Sequence[Architecture], reference: np.ndarray, rng: random.Random) -> Gain:
    """botorch's qLogNEHVI on the processes and the known objectives, which are the last columns of the inputs."""
    import torch
    from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
    from botorch.acquisition.multi_objective.objective import WeightedMCMultiOutputObjective
    from botorch.models import ModelList
    from botorch.models.deterministic import GenericDeterministicModel
    from botorch.sampling.index_sampler import IndexSampler
    from botorch.sampling.list_sampler import ListSampler
    from botorch.sampling.normal import SobolQMCNormalSampler

    models, samplers, scaled = [], [], reference.copy()
    for j in range(len(reference)):
        if j in belief.processes:
            process = belief.processes[j]
            models.append(process.model)
            samplers.append(SobolQMCNormalSampler(torch.Size([SAMPLES]), seed=rng.getrandbits(31)))
            scaled[j] = (reference[j] - process.mean) / process.scale
        else:
            at = belief.exact.index(j) - len(belief.exact)
            models.append(GenericDeterministicModel(lambda x, at=at: x[..., at].unsqueeze(-1)))
            samplers.append(IndexSampler(torch.Size([SAMPLES]), seed=0))
            scaled[j] = (reference[j] - belief.centre[at]) / belief.size[at]
    acquire = qLogNoisyExpectedHypervolumeImprovement(
        ModelList(*models),
        ref_point=torch.as_tensor(-scaled),
        X_baseline=torch.as_tensor(belief.inputs(incumbents)),
        sampler=ListSampler(*samplers),
        objective=WeightedMCMultiOutputObjective(torch.full((len(reference),), -1.0, dtype=torch.double)),
        prune_baseline=True,
        cache_root=False,
    )

    def gain(inputs: np.ndarray, _mean: np.ndarray, _sd: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(acquire(torch.as_tensor(inputs)[:, None, :]).numpy())

    return gain


def _chebyshev(points: np.ndarray, rng: random.Random) -> Gain:
    """ParEGO: weights ~ uniform on the simplex, new ones for each suggestion."""
    draws = np.random.default_rng(rng.getrandbits(63))
    weights, normal = draws.dirichlet(np.ones(points.shape[1])), draws.standard_normal((SAMPLES, 1, points.shape[1]))
    low, span = points.min(0), np.where(np.ptp(points, axis=0) > 0, np.ptp(points, axis=0), 1.0)

    def gain(_inputs: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
        return acquisition.log_chebyshev_ei((mean + sd * normal - low) / span, (points - low) / span, weights)

    return gain
