"""The shape of a Gaussian process is found from the data: heavy tails, unordered choices that are alike, long histories."""

from __future__ import annotations

import numpy as np
import pytest

from nas_bo.space import Space, choice, option, real, repeat
from nas_bo.surrogate.bend import UNBENT, Bend
from nas_bo.surrogate.features import features_of
from nas_bo.surrogate.process import GaussianProcess, Given, Settings, most_likely

OPS = ("none", "skip", "conv", "pool")


class Fields(Space):
    first = choice(*OPS)
    second = choice(*OPS)
    third = choice(*OPS)
    fourth = choice(*OPS)
    norm = choice("layer", "rms", "none")


class Twins(Space):
    rounds = real(0.0, 1.0)
    booster = choice(
        option("tree", eta=real(0.0, 1.0)), option("dart", eta=real(0.0, 1.0), drop=real(0.0, 1.0)), "linear"
    )


def test_a_bend_keeps_what_is_good_and_comes_back() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 90.0, 1e12])
    bend = Bend.of(values[:5])
    assert bend.knee == 3.0
    bent = bend.to(values)
    assert np.array_equal(bent[:3], values[:3]) and (np.diff(bent) > 0).all() and bent[5] < 20
    assert bend.back(bent) == pytest.approx(values)
    assert np.isfinite(bend.back(np.array([1e6]))).all()
    assert np.array_equal(UNBENT.to(values), values) and np.array_equal(UNBENT.back(values), values)
    step = 1e-6
    slope = (bend.to(values[3:6] + step) - bend.to(values[3:6])) / step
    assert bend.log_slope(values[3:6]) == pytest.approx(np.log(slope).sum(), abs=1e-4)
    assert Bend.of(np.ones(9)) == UNBENT


def test_heavy_tails_are_bent_and_lines_are_not() -> None:
    x = np.random.default_rng(0).random((60, 3))
    line = 3.0 + x[:, 0] + 2 * x[:, 1]
    assert most_likely(x, line, 3, 60).bend == UNBENT
    tail = np.exp(4 * x[:, 0] + 3 * x[:, 1])
    made = most_likely(x, tail, 3, 60)
    assert made.bend != UNBENT and made.bend.knee == pytest.approx(np.median(tail), rel=0.3)


def test_decisions_of_equal_domains_are_summarised_whatever_they_are_called() -> None:
    features = features_of(Fields)
    shares = [name for name in features.names[: features.width] if name.startswith("share of")]
    assert len(shares) == len(OPS) and features.width == len(OPS) + 3
    a = Fields.architecture({"first": "conv", "second": "skip", "third": "conv", "fourth": "none", "norm": "rms"})
    b = Fields.architecture({"first": "none", "second": "conv", "third": "skip", "fourth": "conv", "norm": "rms"})
    found = features([a, b])
    assert np.array_equal(found[0, : features.width], found[1, : features.width])
    assert not np.array_equal(found[0], found[1])
    assert features.ties.shape == (len(features.names), 4 + len(OPS))
    assert not features.ties[: features.width].any() and features.ties[features.width :].sum(1).max() == 2


def test_decisions_of_different_options_that_are_alike_are_one_summary() -> None:
    features = features_of(Twins)
    at = features.names.index("booster.tree.eta|booster.dart.eta")
    tree = Twins.architecture({"rounds": 0.5, "booster": "tree", "booster.tree.eta": 0.75})
    dart = Twins.architecture({"rounds": 0.5, "booster": "dart", "booster.dart.eta": 0.75, "booster.dart.drop": 0.1})
    plain = Twins.architecture({"rounds": 0.5, "booster": "linear"})
    assert features([tree, dart, plain])[:, at] == pytest.approx([0.5, 0.5, 0.0])


def test_lists_of_unordered_choices_have_ties_as_well() -> None:
    class Listed(Space):
        edges = repeat(6, op=choice(*OPS))

    assert features_of(Listed).ties.shape[1] == 6 + len(OPS)


def test_ties_are_used_where_positions_matter_and_not_where_only_counts_do() -> None:
    features, rng = features_of(Fields), np.random.default_rng(0)
    genomes = features.genomes.random(70, rng)
    x = (features.of(genomes) + 1) / 2
    given = Given(ties=features.ties)
    counts = (genomes[:, :4] == 2).sum(1) - 0.5 * (genomes[:, :4] == 0).sum(1)
    places = 3.0 * (genomes[:, 0] == 2) * (genomes[:, 1] != 0) + 0.1 * (genomes[:, 2] == 1)

    def tied(y: np.ndarray) -> bool:
        return most_likely(x, y, features.width, len(y), given)._kernel.parts[-1][1].shape[1] > 1

    assert not tied(counts.astype(float)) and tied(places)


def test_a_long_history_is_conditioned_on_a_part_of_it() -> None:
    rng = np.random.default_rng(1)
    x = rng.random((300, 2))
    y = np.sin(5 * x[:, 0]) + x[:, 1]
    near = np.arange(0, 300, 3)
    few = GaussianProcess(x, y, 2, settings=Settings(near=near))
    assert len(few._inputs) == 100 and (few.mean, few.scale) == (y.mean(), y.std())
    new = rng.random((50, 2))
    assert few.predict(new)[0] == pytest.approx(np.sin(5 * new[:, 0]) + new[:, 1], abs=0.05)
