"""Training of shared weights: repeatable, resumable, fair, and not lost when it diverges."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
import torch

from nas_bo.errors import CheckpointError, ModelError
from nas_bo.model import load_corpus
from nas_bo.search_spaces import TinyGPT
from nas_bo.space import Space, choice
from nas_bo.supernet import training
from nas_bo.supernet.coverage import Extent
from nas_bo.supernet.sampling import Balanced, Fair, Sandwich, Uniform
from nas_bo.supernet.training import SupernetDiverged, inherited, train_supernet
from nas_bo.supernet.weights import Supernet

STEP = 2 * 16  # tokens of one pass below


class Small(TinyGPT):
    width = choice(8, 16)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    words = ["let", "the", "quick", "brown", "fox", "jump", "over", "a", "lazy", "dog"]
    rng = random.Random(0)
    path.write_text("\n".join(" ".join(rng.choices(words, k=8)) for _ in range(2_000)))
    return load_corpus(path)


def trained(corpus, steps=24, passes=1, **given):
    net = Supernet(Small, 256, generator=torch.Generator().manual_seed(0))
    return train_supernet(net, corpus, steps * passes * STEP, batch_size=2, sequence=16, **given)


def same(one, other):
    return all(torch.equal(bank, other.supernet.banks[name]) for name, bank in one.supernet.banks.items())


def test_it_learns_and_counts_every_pass(corpus):
    arch = Small.sample(1)
    result = train_supernet(
        Small,
        corpus,
        100 * 2 * 8 * 32,
        sampling=Uniform(2),
        batch_size=8,
        sequence=32,
        validate=[arch],
        validate_at=(0.1,),
        device="cpu",
    )
    assert (result.steps, result.passes, result.tokens) == (100, 200, 200 * 8 * 32)
    assert [at for at, _ in result.validation] == [20 * 8 * 32, 200 * 8 * 32]
    early, late = (found[0] for _, found in result.validation)
    assert late < early - 0.5 and result.curve[-1][1] < result.curve[0][1] - 1
    assert late == inherited(result.supernet, arch, corpus, sequence=32)
    assert not result.supernet.training and not result.lowered


def test_the_same_seed_gives_the_same_weights_and_another_does_not(corpus):
    state = torch.random.get_rng_state()
    first = trained(corpus)
    assert torch.equal(state, torch.random.get_rng_state())
    assert same(first, trained(corpus)) and not same(first, trained(corpus, seed=1))


@pytest.mark.parametrize("sampling", [Uniform(), Sandwich(), Fair()], ids=repr)
def test_a_run_that_is_cut_off_goes_on_to_the_same_bits(corpus, tmp_path, sampling):
    distill = 0.5 if sampling.leads else 0.0
    passes = len(sampling.draw(Extent(Small), random.Random(0)))
    whole = trained(
        corpus, passes=passes, sampling=sampling, distill=distill, validate=[Small.sample(0)], validate_at=(0.25,)
    )
    path = tmp_path / "run.pt"

    class Stop(Exception):
        pass

    calls = []

    def stop(step, steps, mean):
        calls.append(step)
        if len(calls) == 2:
            raise Stop

    given = {"sampling": sampling, "distill": distill, "checkpoint": path, "save_every_s": 0.0}
    given |= {"validate": [Small.sample(0)], "validate_at": (0.25,)}
    training.PROGRESS_EVERY_S, before = -1.0, training.PROGRESS_EVERY_S
    try:
        with pytest.raises(Stop):
            trained(corpus, passes=passes, progress=stop, **given)
    finally:
        training.PROGRESS_EVERY_S = before
    assert 0 < torch.load(path, weights_only=True)["numbers"][0] < 24
    resumed = trained(corpus, passes=passes, **given)
    assert same(whole, resumed)
    assert (whole.curve, whole.validation, whole.tokens) == (resumed.curve, resumed.validation, resumed.tokens)
    again = trained(corpus, passes=passes, **given)  # finished: returned as it is
    assert same(whole, again) and again.curve == whole.curve
    assert same(
        whole, type(whole)(**{**vars(whole), "supernet": Supernet.load(path, Small, corpus=corpus.fingerprint)})
    )


def test_a_checkpoint_of_another_run_is_refused(corpus, tmp_path):
    path = tmp_path / "run.pt"
    trained(corpus, checkpoint=path)
    with pytest.raises(CheckpointError, match="seed is 0 there and 1 here"):
        trained(corpus, checkpoint=path, seed=1)
    with pytest.raises(CheckpointError, match="steps is 24 there and 25 here"):
        trained(corpus, 25, checkpoint=path)
    with pytest.raises(CheckpointError, match="apart"):
        net = Supernet(Small, apart=("heads",))
        train_supernet(net, corpus, 24 * STEP, batch_size=2, sequence=16, checkpoint=path)
    with pytest.raises(CheckpointError, match="another space"):
        train_supernet(TinyGPT, corpus, 24 * STEP, batch_size=2, sequence=16, checkpoint=path)
    Supernet(Small).save(tmp_path / "weights.pt", corpus.fingerprint)
    with pytest.raises(CheckpointError, match="no run to continue"):
        trained(corpus, checkpoint=tmp_path / "weights.pt")


def test_a_supernet_that_diverges_goes_back_and_lowers_its_rate_once(corpus, monkeypatch):
    monkeypatch.setattr(training, "PROGRESS_EVERY_S", -1.0)
    net = Supernet(Small, 256, generator=torch.Generator().manual_seed(0))
    hit = []

    def poison(step, steps, mean):
        if step >= 10 and not hit:
            hit.append(step)
            with torch.no_grad():
                net.banks["embedding"].fill_(float("nan"))

    result = train_supernet(net, corpus, 24 * STEP, batch_size=2, sequence=16, progress=poison)
    assert hit and result.lowered and result.steps == 24 and result.tokens == 24 * STEP
    assert [at for at, _ in result.curve] == [STEP * step for step in range(1, 25)]
    assert all(bank.isfinite().all() for bank in net.banks.values())


def test_one_that_diverges_again_stops_with_its_curve(corpus, monkeypatch):
    monkeypatch.setattr(training, "PROGRESS_EVERY_S", -1.0)
    net = Supernet(Small, 256)

    def poison(step, steps, mean):
        if step >= 10:
            with torch.no_grad():
                net.banks["embedding"].fill_(float("inf"))

    with pytest.raises(SupernetDiverged, match=r"diverged near step .* lower lr") as caught:
        train_supernet(net, corpus, 24 * STEP, batch_size=2, sequence=16, progress=poison)
    assert len(caught.value.curve) >= 9 and all(bits > 0 for _, bits in caught.value.curve)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tokens": 0}, "tokens=0"),
        ({"tokens": float("inf")}, "tokens=inf"),
        ({"distill": 2.0, "sampling": Sandwich()}, "from 0 to 1"),
        ({"distill": 0.5}, "Uniform has none"),
        ({"lr": -1.0}, "lr=-1.0"),
        ({"warmup": 2.0}, "warmup=2.0"),
    ],
)
def test_impossible_settings_are_refused(corpus, given, message):
    with pytest.raises(ModelError, match=message):
        train_supernet(Small, corpus, **{"tokens": 1_000, **given})


def test_settings_of_samplings_are_checked():
    for make in (lambda: Uniform(0), lambda: Balanced(1, 0), lambda: Fair(0), lambda: Uniform(True)):
        with pytest.raises(ModelError, match="whole number"):
            make()


# ---- who is trained ---------------------------------------------------------------------------------------------------


def test_fair_trains_every_operation_of_every_layer_equally_often():
    extent = Extent(TinyGPT)
    for seed in range(20):
        archs = Fair(rounds=2).draw(extent, random.Random(seed))
        assert len({arch.depth for arch in archs[:2]}) == 1
        for index in range(archs[0].depth):
            assert Counter(arch.layers[index].mixer.kind for arch in archs[:2]) == {"attention": 1, "conv": 1}
            assert Counter(arch.layers[index].mlp.kind for arch in archs[:2]) == {"dense": 1, "skip": 1}
        assert all(TinyGPT.contains(arch) for arch in archs)


def test_sandwich_takes_the_extremes_of_one_choice_of_operations():
    extent = Extent(TinyGPT)
    large, small, *between = Sandwich(Uniform(3)).draw(extent, random.Random(5))
    assert (large.depth, large.width, small.depth, small.width) == (5, 96, 1, 32)
    assert large.layers[0].mixer.kind == small.layers[0].mixer.kind
    assert len(between) == 3 and Sandwich().leads and not Sandwich(largest=False).leads
    for arch in between:
        assert extent.size(arch) <= extent.size(extent.largest())


def test_balanced_meets_the_small_and_the_large_more_often():
    extent, rng = Extent(TinyGPT), random.Random(0)
    low, high = (math.log(extent.size(one())[0]) for one in (extent.smallest, extent.largest))

    def middling(sampling):
        places = [(math.log(extent.size(arch)[0]) - low) / (high - low) for arch in sampling.draw(extent, rng)]
        return sum(0.25 < place < 0.75 for place in places) / len(places)

    assert middling(Balanced(150)) < 0.6 < 0.7 < middling(Uniform(150))


def test_draws_depend_on_their_generator_alone():
    extent = Extent(TinyGPT)
    for sampling in (Uniform(2), Balanced(2), Fair(), Sandwich()):
        first = sampling.draw(extent, random.Random(3))
        random.random()
        assert first == sampling.draw(extent, random.Random(3)) != sampling.draw(extent, random.Random(4))


def test_a_space_without_operations_is_sampled_all_the_same():
    class Plain(Space):
        width = choice(8, 16)
        depth = 1
        layers = TinyGPT._fields["layers"]

    plain = Space.of("Plain", width=choice(8, 16), depth=2, mixer="skip", mlp="skip")
    assert len(Fair().draw(Extent(plain), random.Random(0))) == 1
    assert len(Sandwich().draw(Extent(plain), random.Random(0))) == 4
