"""Whatever numpy users pass as a seed is one, everywhere; what is none gets one clear message before anything starts."""

import pickle
import random
from dataclasses import replace

import numpy as np
import pytest

from nas_bo import search
from nas_bo.ax import packing
from nas_bo.errors import NasBoError
from nas_bo.hardware.latency.profile_design import pool
from nas_bo.objectives import ValidationLoss
from nas_bo.objectives.proxy_task import MarkovSource
from nas_bo.objectives.zero_cost import Snip
from nas_bo.optuna import Sampler
from nas_bo.problem import Function, Problem
from nas_bo.seeds import BITS, whole_seed
from nas_bo.strategies import NSGA2, Bayes, LocalSearch, Random, RegularizedEvolution, Reinforce
from nas_bo.workflows.ask_tell import AskTell
from nas_bo.workflows.profile import profile
from nas_bo.workflows.validate import validate
from tests.strategies.cases import Nested, Tiny

GOOD = {
    "int": lambda: 7,
    "int64": lambda: np.int64(7),
    "uint8": lambda: np.uint8(7),
    "0-d array": lambda: np.array(7),
    "Generator": lambda: np.random.default_rng(7),
    "RandomState": lambda: np.random.RandomState(7),
    "SeedSequence": lambda: np.random.SeedSequence(7),
    "PCG64": lambda: np.random.PCG64(7),
    "random.Random": lambda: random.Random(7),
}
BAD = [
    -1,
    np.int64(-1),
    1.0,
    np.float64(2.0),
    "7",
    True,
    np.bool_(True),
    [1, 2],
    np.array([1, 2]),
    float("nan"),
    object(),
]


def small(arch):
    return float(arch.a)


TAKERS = {
    "Bayes": lambda seed: Bayes(seed=seed),
    "NSGA2": lambda seed: NSGA2(seed=seed),
    "Random": lambda seed: Random(seed=seed),
    "RegularizedEvolution": lambda seed: RegularizedEvolution(seed=seed),
    "LocalSearch": lambda seed: LocalSearch(seed=seed),
    "Reinforce": lambda seed: Reinforce(seed=seed),
    "Space.sample": lambda seed: Nested.sample(seed),
    "Space.sample_uniform": lambda seed: Nested.sample_uniform(seed),
    "Sampler": lambda seed: Sampler(seed=seed),
    "AskTell": lambda seed: AskTell(Tiny, ["loss"], seed=seed),
    "search": lambda seed: search(Tiny, [small], seed=seed, trials=1, retrain=0),
    "ValidationLoss": lambda seed: ValidationLoss(tokens=1000, seed=seed),
    "Snip": lambda seed: Snip(first_seed=seed),
    "MarkovSource": lambda seed: MarkovSource(table_seed=seed),
    "pool": lambda seed: pool(Nested, 5, seed),
}
ONLY_REFUSED = {
    "validate": lambda seed: validate(Nested, [small], seed=seed),
    "profile": lambda seed: profile(Nested, "nowhere.json", seed=seed),
}


@pytest.mark.parametrize("given", GOOD)
@pytest.mark.parametrize("taker", TAKERS)
def test_what_numpy_users_pass_is_a_seed(taker, given):
    TAKERS[taker](GOOD[given]())


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: f"{type(bad).__name__} {bad!r:.12}".replace("\n", " "))
@pytest.mark.parametrize("taker", [*TAKERS, *ONLY_REFUSED])
def test_what_is_no_seed_is_refused_in_one_paragraph(taker, bad):
    with pytest.raises(NasBoError, match="the seed must be a whole number of at least 0") as caught:
        ({**TAKERS, **ONLY_REFUSED}[taker])(bad)
    assert "\n\n" not in str(caught.value) and "seed=" in str(caught.value)


@pytest.mark.parametrize("given", GOOD)
def test_the_same_seed_gives_the_same_number(given):
    first, second = (whole_seed(GOOD[given](), "test") for _ in range(2))
    assert type(first) is int and first == second and 0 <= first < 1 << BITS
    assert Nested.sample(GOOD[given]()).id == Nested.sample(GOOD[given]()).id


@pytest.mark.parametrize("given", ["int", "int64", "uint8", "0-d array"])
def test_whole_numbers_are_the_seeds_that_they_were(given):
    assert whole_seed(GOOD[given](), "test") == 7
    assert Nested.sample(GOOD[given]()).id == Nested.sample(random.Random(7)).id
    assert whole_seed(2**80, "test") == 2**80


def test_a_generator_moves_on():
    source = np.random.default_rng(0)
    assert len({Nested.sample(source).id for _ in range(20)}) > 10
    assert Bayes(seed=source) != Bayes(seed=source)


def test_none_is_another_seed_every_time():
    assert Bayes(seed=None) != Bayes(seed=None)


def test_a_generator_is_settled_once():
    strategy = Bayes(seed=np.random.default_rng(3), candidates=50, startup=2)
    assert type(strategy.seed) is int
    assert replace(strategy, startup=3).seed == strategy.seed and pickle.loads(pickle.dumps(strategy)) == strategy
    assert packing.from_text(packing.to_text(strategy)) == strategy
    problem = Problem(Nested, [Function(lambda arch: float(arch.depth), "depth")])
    assert strategy.suggest(problem, [], 3) == strategy.suggest(problem, [], 3)


def test_trainings_take_the_same_seeds():
    import numpy as np

    from nas_bo.errors import ModelError
    from nas_bo.model import load_corpus, train
    from nas_bo.search_spaces import TinyGPT

    arch, corpus = (
        TinyGPT.architecture(
            {"depth": 1, "width": 32, "layers.0.mixer": "conv", "layers.0.mixer.conv.kernel": 4, "layers.0.mlp": "skip"}
        ),
        load_corpus(),
    )
    losses = [train(arch, corpus, tokens=5_000, seed=seed).bits_per_byte for seed in (3, np.int64(3), 4)]
    assert losses[0] == losses[1] != losses[2]
    for seed in (-1, 1.5, True, "3"):
        with pytest.raises(ModelError, match=r"train\(seed=.*whole number"):
            train(arch, corpus, tokens=5_000, seed=seed)


@pytest.mark.parametrize(
    "seeds", [3, np.int64(3), np.array(3), [3, 3], (np.int64(3), random.Random(1)), np.array([3, 3])]
)
def test_stacked_trainings_take_them_too(seeds):
    from nas_bo.errors import ModelError
    from nas_bo.model import load_corpus, train_many
    from nas_bo.search_spaces import TinyGPT

    flat = {"depth": 1, "width": 32, "layers.0.mixer": "conv", "layers.0.mixer.conv.kernel": 4, "layers.0.mlp": "skip"}
    arch, corpus = TinyGPT.architecture(flat), load_corpus()
    first, second = train_many([arch] * 2, corpus, 2_000, seeds)
    expected = train_many([arch], corpus, 2_000, 3)[0].bits_per_byte
    assert first.bits_per_byte == expected
    assert (second.bits_per_byte == expected) == (not isinstance(seeds, tuple))
    for wrong in (-1, "7", 1.5, [0, -1], [True, 1], [0], "ab"):
        with pytest.raises(ModelError, match="seed"):
            train_many([arch] * 2, corpus, 2_000, wrong)
