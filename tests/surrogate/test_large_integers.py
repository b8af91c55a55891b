"""Whole numbers of ranges that no array can count."""

from __future__ import annotations

import numpy as np
import pytest

from nas_bo.problem import Problem
from nas_bo.space import Space, choice, integer, repeat
from nas_bo.strategies import NSGA2, Bayes, LocalSearch, Random, RegularizedEvolution
from nas_bo.surrogate.features import features_of
from nas_bo.surrogate.genomes import genomes_of
from nas_bo.trial import Trial


class Large(Space):
    seed = integer(0, 2**64)
    bytes = integer(1, 2**70, log=True)
    stepped = integer(-(2**65), 2**65, step=7)
    edge = integer(0, 2**63)  # one more than a signed number of 64 bits counts to
    act = choice("a", "b", "c")
    depth = integer(1, 3)
    layers = repeat(depth, salt=integer(0, 2**40))


def test_their_genes_are_positions() -> None:
    genomes = genomes_of(Large)
    assert genomes.size.dtype.kind == "i"
    assert [p for p, real in zip(genomes.paths, genomes.real, strict=True) if real] == [
        "seed", "bytes", "stepped", "edge", "layers.0.salt", "layers.1.salt", "layers.2.salt",
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    for rows in (genomes.random(50, rng), genomes.tilted(50, rng), genomes.corners(rng)):
        archs = [genomes.decode(row) for row in rows]
        assert all(Large.contains(arch) for arch in archs)
        np.testing.assert_allclose(genomes.encode(archs), rows, atol=1e-9)
        assert np.isfinite(features_of(Large).of(rows)).all()
    low, high = (genomes.decode(row) for row in genomes.corners(rng))
    domains = Large.domains()
    for path in ("seed", "bytes", "stepped", "edge"):
        assert (low.flat[path], high.flat[path]) == (domains[path].low, domains[path].high)
    # ~ uniform, on a log scale ~ log-uniform
    many = [genomes.decode(row) for row in genomes.random(400, rng)]
    assert 0.4 < np.median([float(a.flat["seed"]) for a in many]) / 2**64 < 0.6
    assert 30 < np.median([np.log2(float(a.flat["bytes"])) for a in many]) < 40


def loss(arch) -> float:
    return abs(arch.seed / 2**64 - 0.3) + abs(np.log2(float(arch.bytes)) / 70 - 0.7) + (arch.act != "b")


@pytest.mark.parametrize(
    "strategy",
    [
        Random(),
        NSGA2(population=6, startup=4),
        RegularizedEvolution(population=6, sample=3, startup=4),
        LocalSearch(startup=4),
        Bayes(startup=4, candidates=100),
    ],
    ids=lambda s: type(s).__name__,
)
def test_strategies_search_them(strategy) -> None:
    problem, trials = Problem(Large, [loss]), []
    for number in range(16):
        (arch,) = strategy.suggest(problem, trials, 1)
        assert Large.contains(arch)
        trials.append(Trial(arch, {"loss": loss(arch)}, number=number))
    assert len({t.architecture.id for t in trials}) == 16
