"""Several runs at once: each gives what it gives, whoever shares the kernels."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from nas_bo import measurement_lock
from nas_bo.errors import ModelError, TrainingDiverged
from nas_bo.model import attention, conv, dense, linear_attention, moe, train, train_many
from nas_bo.model.data import Corpus
from nas_bo.space import Space, choice, repeat

TEXT = np.frombuffer(b"".join(b"abc%d the cat sat on the mat; " % (i % 97) for i in range(2000)), np.uint8)
CORPUS = Corpus("cats", TEXT[:40_000], TEXT[40_000:48_000], 256, 40_000, 8_000)
LOOK = {"evaluation_tokens": 1_024, "device": "cpu"}  # of a GPU see tests/test_cuda.py


class Kinds(Space):
    width = 16
    layers = repeat(
        2,
        mixer=choice(attention(heads=4, kv_group=2), linear_attention(heads=2), conv(kernel=choice(3, 12))),
        mlp=choice(dense(ratio=2, gated=True), moe(experts=2, top_k=1)),
    )


def an_arch(first, second="conv", mlp="dense"):
    every = {"layers.0.mixer": first, "layers.1.mixer": second, "layers.0.mlp": mlp, "layers.1.mlp": "dense"}
    return next(a for a in map(Kinds.sample, range(2000)) if every.items() <= a.flat.items())


@pytest.mark.parametrize("first", ["attention", "linear_attention", "conv"])
def test_a_run_does_not_depend_on_who_shares_its_kernels_and_is_that_of_train(first):
    arch = an_arch(first)
    three = train_many([arch] * 3, CORPUS, 8_000, (0, 1, 2), together=3, **LOOK)
    two = train_many([arch] * 2, CORPUS, 8_000, (1, 7), together=8, **LOOK)
    alone = train(arch, CORPUS, 8_000, 1, **LOOK)
    assert three[1].bits_per_byte == two[0].bits_per_byte and three[1].curve == two[0].curve
    for a, b in zip(three[1].model.parameters(), two[0].model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert three[1].bits_per_byte == pytest.approx(alone.bits_per_byte, abs=2e-3)
    assert [at for at, _ in three[1].curve] == [at for at, _ in alone.curve]
    assert (three[1].steps, three[1].tokens, three[1].share) == (alone.steps, alone.tokens, 1.0)
    assert len({one.bits_per_byte for one in three}) == 3  # seeds differ


def test_results_come_in_the_order_of_the_runs_and_what_cannot_be_stacked_is_trained_alone():
    archs = [an_arch("conv"), an_arch("attention", mlp="moe"), an_arch("conv"), an_arch("attention", mlp="moe")]
    found = train_many(archs, CORPUS, 3_000, (3, 0, 4, 1), together=4, **LOOK)
    for i in (1, 3):
        alone = train(archs[i], CORPUS, 3_000, (3, 0, 4, 1)[i], **LOOK)
        assert found[i].bits_per_byte == alone.bits_per_byte
    assert found[0].bits_per_byte == pytest.approx(train(archs[0], CORPUS, 3_000, 3, **LOOK).bits_per_byte, abs=1e-3)
    one_by_one = train_many(archs[:1], CORPUS, 3_000, 3, together=1, **LOOK)
    assert one_by_one[0].bits_per_byte == train(archs[0], CORPUS, 3_000, 3, **LOOK).bits_per_byte


def test_a_run_that_diverges_disturbs_no_other(monkeypatch):
    arch = an_arch("conv")
    from nas_bo.model import training

    build = training.decoder

    def spoiled(arch, vocab_size, ignore, generator, **more):
        model = build(arch, vocab_size, ignore, generator=generator, **more)
        if generator.initial_seed() == 5:
            with torch.no_grad():
                model.embedding.weight[0, 0] = math.nan
        return model

    good = train_many([arch] * 2, CORPUS, 4_000, (0, 1), together=2, **LOOK)
    monkeypatch.setattr(training, "decoder", spoiled)
    corpus = replace(CORPUS, train=np.where(CORPUS.train == ord("c"), 0, CORPUS.train).astype(np.uint8))
    mixed = train_many([arch] * 3, corpus, 4_000, (0, 5, 1), together=3, **LOOK)
    same = train_many([arch] * 2, corpus, 4_000, (0, 1), together=2, **LOOK)
    assert isinstance(mixed[1], TrainingDiverged) and "diverged at step" in str(mixed[1])
    assert [mixed[0].bits_per_byte, mixed[2].bits_per_byte] == [one.bits_per_byte for one in same]
    assert good[0].bits_per_byte != same[0].bits_per_byte


@pytest.mark.parametrize(
    "args", [dict(archs=[], seeds=0), dict(archs=[0], seeds=(0, 1)), dict(archs=[0], seeds=0, together=0)]
)
def test_what_makes_no_sense_is_refused(args):
    archs = [an_arch("conv")] * len(args.pop("archs"))
    with pytest.raises(ModelError, match="train_many"):
        train_many(archs, CORPUS, 3_000, **args)


def test_they_stand_still_while_a_sibling_worker_measures(tmp_path, monkeypatch) -> None:
    looked: list[int] = []

    class Gate(measurement_lock._Gate):
        def _step(self) -> None:
            looked.append(self._depth)
            super()._step()

    monkeypatch.setattr(measurement_lock, "_gate", Gate(tmp_path))
    train_many([an_arch("conv")] * 2, CORPUS, 20_480, (0, 1), together=2, **LOOK)
    assert len(looked) >= 40  # steps; evaluations look as well, but less often
