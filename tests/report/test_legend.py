"""The legend under a table explains the short names of every mixer, and how layers are connected."""

from nas_bo.model import label
from nas_bo.report.notation import legend
from nas_bo.search_spaces import Connections, Mixers, with_bits
from nas_bo.trial import Trial


def of(space, seeds=30):
    trials = [Trial(space.sample(seed), values={"a": 1.0}, number=seed) for seed in range(seeds)]
    return legend(trials, {t.architecture.id: label(t.architecture) for t in trials})


def test_every_kind_of_mixer_is_explained():
    told = of(Mixers)
    mixers = ("attention with", "linear attention", "gated delta rule", "latent attention", "state space", "two gates")
    for words in mixers:
        assert words in told, (words, told)


def test_connections_are_explained():
    told = of(Connections)
    assert "u: long skips" in told and "t2: 2 successive layers with the same weights" in told
    assert "A4/2k: " in told and "with keys and values of an earlier layer" in told


def test_what_is_done_after_training_is_explained():
    told = of(with_bits(Connections, (8, 4), (8, 4), (0.0, 0.5), (0.0, 0.5)))
    for words in (
        ": bits of each weight after training, of the embedding and of each layer",
        "v8: bits of each cached key and value",
        ": share of the weights set to zero after training, of each layer",
        "p0.5: share of the channels of MLPs taken out after training",
        "u: long skips",
    ):
        assert words in told, (words, told)
