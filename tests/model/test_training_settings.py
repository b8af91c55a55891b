"""The settings of a training as one value: the same run, bit for bit, as with the same names given one by one."""

from __future__ import annotations

import inspect
from dataclasses import replace

import pytest

from nas_bo.errors import ModelError
from nas_bo.model import Training, TrainingSettings, load_corpus, train, train_many
from nas_bo.search_spaces import TinyGPT
from nas_bo.space import choice
from nas_bo.supernet import SupernetSettings, train_supernet
from tests.model.architectures import CONV, DENSE, decoder, layer

ARCH = decoder(layer(CONV, DENSE), width=16)


class Small(TinyGPT):
    width = choice(8, 16)


SETTINGS = TrainingSettings(lr=1e-3, batch_size=2, sequence=16, evaluation_tokens=256)


@pytest.fixture(scope="module")
def corpus():
    return load_corpus()


def test_one_value_gives_the_same_run(corpus):
    by_name = train(ARCH, corpus, 320, seed=1, lr=1e-3, batch_size=2, sequence=16, evaluation_tokens=256)
    as_one = train(ARCH, corpus, 320, 1, SETTINGS)
    both = train(ARCH, corpus, 320, 1, replace(SETTINGS, lr=1.0), lr=1e-3)
    (stacked,) = train_many([ARCH], corpus, 320, 1, settings=SETTINGS)
    pieces = Training(ARCH, corpus, 320, 1, settings={"lr": 1e-3, "batch_size": 2}, sequence=16, evaluation_tokens=256)
    for other in (as_one, both, stacked, pieces.to()):
        assert other.bits_per_byte == by_name.bits_per_byte and other.settings == by_name.settings
    assert list(inspect.signature(train).parameters)[4:7] == ["settings", "stop_at", "lr"]  # what help() shows


def test_a_supernet_takes_its_settings_as_one_value(corpus):
    given = {"batch_size": 2, "sequence": 16, "lr": 1e-3}
    by_name = train_supernet(Small, corpus, 4 * 32, seed=3, **given)
    as_one = train_supernet(Small, corpus, 4 * 32, 3, SupernetSettings(**given))
    assert by_name.curve == as_one.curve


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda c: train(ARCH, c, 320, learning_rate=1), TypeError, "learning_rate"),
        (lambda c: train(ARCH, c, 320, batchsize=1), TypeError, "did you mean 'batch_size'"),
        (lambda c: train(ARCH, c, 320, lr=float("inf")), ModelError, "lr=inf must be a number of at least 0"),
        (lambda c: train(ARCH, c, 320, threads=0), ModelError, "threads must be an integer of at least 1, or None"),
        (lambda c: Training(ARCH, c, 320, settings={"rate": 1}), ModelError, "unknown training setting 'rate'"),
        (
            lambda c: train_many([ARCH], c, 320, settings=TrainingSettings(validate_at=(0.5,))),
            ModelError,
            "validate_at",
        ),
        (lambda c: train_supernet(Small, c, 320, samplings=1), TypeError, "did you mean 'sampling'"),
        (
            lambda c: train_supernet(Small, c, 320, save_every_s=-1),
            ModelError,
            "save_every_s must be a number of at least 0",
        ),
    ],
)
def test_a_setting_that_there_is_not_or_that_is_impossible(corpus, call, error, says):
    with pytest.raises(error, match=says):
        call(corpus)
