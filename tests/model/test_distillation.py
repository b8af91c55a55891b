"""Distillation: the losses, what the teacher says kept once for all students, the kinds of teachers, and those that are refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nas_bo.cache_folder import make_room
from nas_bo.errors import CheckpointError, ModelError
from nas_bo.export import folder as files
from nas_bo.model import Distillation, Training, TrainingSettings, build, load_corpus, train, train_many
from nas_bo.model import teacher as teaching
from nas_bo.model.distillation import fingerprint
from nas_bo.model.teacher import Lesson, Lessons, Teachers, criterion
from nas_bo.search_spaces import TinyGPT
from tests.model.architectures import ATTENTION, CONV, DENSE, SKIP, decoder, layer

SMALL = TrainingSettings(batch_size=2, sequence=16, evaluation_tokens=512)
STUDENT = decoder(layer(CONV, DENSE), width=16)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("".join(f"the square of {i} is {i * i}; " for i in range(2000)))
    return load_corpus(path)


@pytest.fixture(scope="module")
def teacher(corpus):
    return train(decoder(layer(ATTENTION, DENSE), width=32), corpus, 8000, seed=5, sequence=32).model


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_BO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / teaching.FOLDER


def kept(cache: Path) -> list[Path]:
    return sorted(cache.glob("*.lessons"))


def weights(result):
    return torch.cat([weight.flatten() for weight in result.model.parameters()]).detach()


# ---- losses -----------------------------------------------------------------------------------------------------------


def test_the_losses_are_those_of_the_definitions():
    draws = torch.Generator().manual_seed(0)
    student, said = (torch.randn(6, 5, generator=draws, dtype=torch.float64) for _ in range(2))
    said = said.to(torch.bfloat16).float().log_softmax(-1)
    targets = torch.tensor([0, 1, 2, 3, 4, 0])
    p, q = said.exp(), student.float().softmax(-1)
    forward = float((p * (said - q.log())).sum(-1).mean())
    reverse = float((q * (q.log() - said)).sum(-1).mean())
    nll = float(F.cross_entropy(student, targets))
    lesson = Lesson(said.view(2, 3, 5))
    found = {
        name: criterion(Distillation("there", name), lesson)(student, targets)
        for name in ("mixed", "forward_kl", "reverse_kl")
    }
    assert all(float(told) == pytest.approx(nll) for _, told in found.values())
    assert float(found["forward_kl"][0]) == pytest.approx(forward, rel=1e-5)
    assert float(found["reverse_kl"][0]) == pytest.approx(reverse, rel=1e-5)
    assert float(found["mixed"][0]) == pytest.approx(0.5 * forward + 0.5 * nll, rel=1e-5)
    logs, ids = said.topk(4, -1)  # all but one: nothing is lost
    short = Lesson(logs.view(2, 3, 4), ids.view(2, 3, 4))
    assert float(criterion(Distillation("there", "forward_kl", top_k=4), short)(student, targets)[0]) == pytest.approx(
        forward, rel=1e-4
    )
    hot = Distillation("there", "forward_kl", temperature=2.0)
    soft_p, soft_q = (said / 2).softmax(-1), (student.float() / 2).softmax(-1)
    assert float(criterion(hot, lesson)(student, targets)[0]) == pytest.approx(
        4 * float((soft_p * (soft_p / soft_q).log()).sum(-1).mean()), rel=1e-4
    )


def test_a_student_of_another_kind_learns_from_it(corpus, teacher):
    alone = train(STUDENT, corpus, 3200, settings=SMALL)
    taught = train(STUDENT, corpus, 3200, settings=SMALL, teacher=teacher)
    assert taught.bits_per_byte != alone.bits_per_byte and math.isfinite(taught.bits_per_byte)
    apart = [float(apart_from(one.model, teacher, corpus)) for one in (alone, taught)]
    assert apart[1] < apart[0]  # nearer to what the teacher says


def apart_from(student, teacher, corpus):
    tokens = torch.from_numpy(corpus.held_out(512, 16).astype("int64"))[:, :-1]
    with torch.inference_mode():
        s, t = (one(tokens).log_softmax(-1) for one in (student, teacher))
    return F.kl_div(s, t, log_target=True, reduction="batchmean")


# ---- what is kept -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("top_k", [None, 4])
def test_lessons_are_computed_once_and_are_the_same_as_without_keeping(corpus, teacher, cache, monkeypatch, top_k):
    how = Distillation(teacher, top_k=top_k)
    first = train(STUDENT, corpus, 1600, settings=SMALL, teacher=how)
    (file,) = kept(cache)
    size = file.stat().st_size
    assert size == 50 * 2 * 16 * (2 * 256 if top_k is None else 4 * 4)

    def never(*_):
        raise AssertionError("the teacher was asked again")

    with monkeypatch.context() as patched:
        patched.setattr(Teachers, "__call__", never)
        again = train(STUDENT, corpus, 1600, settings=SMALL, teacher=how)
        other = train(decoder(layer(ATTENTION, SKIP), width=16), corpus, 1600, settings=SMALL, teacher=how)
    plain = train(STUDENT, corpus, 1600, settings=SMALL, teacher=Distillation(teacher, top_k=top_k, cache_bytes=0))
    assert torch.equal(weights(first), weights(again)) and torch.equal(weights(first), weights(plain))
    assert math.isfinite(other.bits_per_byte)
    train(STUDENT, corpus, 2400, settings=SMALL, teacher=how)  # a longer run: only its rest is added
    assert [one.name for one in kept(cache)] == [file.name] and file.stat().st_size == 1.5 * size
    train(STUDENT, corpus, 1600, seed=1, settings=SMALL, teacher=how)  # other batches
    assert len(kept(cache)) == 2


def test_half_a_record_of_a_killed_process_is_written_again(corpus, teacher, cache):
    first = train(STUDENT, corpus, 1600, settings=SMALL, teacher=teacher)
    (file,) = kept(cache)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2 + 100])
    again = train(STUDENT, corpus, 1600, settings=SMALL, teacher=teacher)
    assert file.read_bytes() == whole and torch.equal(weights(first), weights(again))


def test_no_more_is_kept_than_allowed(corpus, teacher, cache):
    each = 2 * 16 * 2 * 256
    small = Distillation(teacher, cache_bytes=60 * each)
    train(STUDENT, corpus, 3200, settings=SMALL, teacher=small)  # 100 steps: more than that
    assert not kept(cache)
    train(STUDENT, corpus, 1600, settings=SMALL, teacher=small)
    (first,) = kept(cache)
    train(STUDENT, corpus, 1600, seed=1, settings=SMALL, teacher=small)
    assert len(kept(cache)) == 1 and first not in kept(cache)


def test_the_files_used_longest_ago_go_first(tmp_path):
    import os

    for age, name in enumerate(("new", "middle", "old")):
        (tmp_path / name).write_bytes(b"x" * 100)
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    (tmp_path / "old.lock").write_bytes(b"")
    make_room(tmp_path, 250, coming_bytes=40, keep=(tmp_path / "old",))
    assert {path.name for path in tmp_path.iterdir()} == {"new", "old", "old.lock"}
    make_room(tmp_path / "absent", 1)


def test_a_folder_that_cannot_be_written_costs_time_only(corpus, teacher, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NAS_BO_CACHE", str(tmp_path / "file"))
    made = train(STUDENT, corpus, 320, settings=SMALL, teacher=teacher)
    assert math.isfinite(made.bits_per_byte) and "NAS_BO_CACHE" in caplog.text


def test_a_run_that_was_stopped_continues_to_the_same_weights(corpus, teacher, tmp_path):
    whole = train(STUDENT, corpus, 3200, settings=SMALL, teacher=teacher)
    train(STUDENT, corpus, 3200, settings=SMALL, teacher=teacher, checkpoint=tmp_path / "run.pt", stop_at=0.5)
    rest = train(STUDENT, corpus, 3200, settings=SMALL, teacher=teacher, checkpoint=tmp_path / "run.pt")
    assert rest.resumed == 1600 and torch.equal(weights(whole), weights(rest))
    for other in (None, Distillation(teacher, "reverse_kl")):
        with pytest.raises(CheckpointError, match="of another run"):
            Training(STUDENT, corpus, 3200, settings=SMALL, teacher=other, checkpoint=tmp_path / "run.pt")


# ---- kinds of teachers ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(corpus, tmp_path_factory):
    arch = TinyGPT.sample(3)
    made = train(arch, corpus, 8000, seed=2).model
    where = tmp_path_factory.mktemp("teacher") / "out"
    files.write(where, files.files(made, arch, {"tokenizer": "bytes"}, ()))
    return where, made


def stock(transformers, where: Path, vocab: int, corpus=None):
    config = transformers.LlamaConfig(
        vocab_size=vocab, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, pad_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    made = transformers.LlamaForCausalLM(config)
    if corpus is not None:
        optimizer = torch.optim.AdamW(made.parameters(), 1e-2)
        for batch in torch.from_numpy(corpus.batches(0, 30, 8, 16).astype("int64")):
            loss = F.cross_entropy(made(batch[:, :-1]).logits.flatten(0, 1), batch[:, 1:].flatten())
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    made.save_pretrained(where)
    return made.eval()


def test_folders_and_ensembles_are_teachers(corpus, folder, teacher, tmp_path):
    transformers = pytest.importorskip("transformers")
    theirs = stock(transformers, tmp_path / "hf", 256, corpus)
    where, ours = folder
    tokens = torch.from_numpy(corpus.held_out(64, 16).astype("int64"))[:, :-1]
    cpu = torch.device("cpu")
    with torch.inference_mode():
        logs = [ours(tokens).log_softmax(-1), theirs(tokens).logits.log_softmax(-1), teacher(tokens).log_softmax(-1)]
    for given, expected in [
        (where, logs[0]),
        (str(tmp_path / "hf"), logs[1]),
        ([str(where), tmp_path / "hf", teacher], torch.stack(logs).exp().mean(0).log()),
    ]:
        said = Teachers(Distillation(given), corpus, cpu, False)(tokens)
        assert float((said - expected).abs().max()) < 1e-4
    both = train(STUDENT, corpus, 320, settings=SMALL, teacher=[where, tmp_path / "hf"])
    assert math.isfinite(both.bits_per_byte)
    assert fingerprint(str(where)) != fingerprint(str(tmp_path / "hf"))


def test_a_module_of_ones_own_is_taught_too(corpus, teacher):
    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Embedding(256, 256)

        def forward(self, tokens):
            return self.table(tokens)

    made = [train(STUDENT, corpus, 640, settings=SMALL, build=lambda _: Own(), teacher=t) for t in (teacher, None)]
    assert not torch.equal(weights(made[0]), weights(made[1]))


# ---- bad input --------------------------------------------------------------------------------------------------------


def test_what_cannot_teach_is_refused_before_anything_is_trained(corpus, teacher, folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "config.json").write_text(json.dumps({"vocab_size": 300}))
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_text(json.dumps({"vocab_size": 256}))
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    (tokens / "model.json").write_text(json.dumps({"vocab_size": 256, "tokenizer": "words.json"}))
    untrained = build(STUDENT, 256, generator=torch.Generator().manual_seed(0))
    wide = build(STUDENT, 300, generator=torch.Generator().manual_seed(0))
    for given, says in [
        (tmp_path / "absent", "is not there; give one that `nas-bo train` wrote"),
        (tmp_path / "empty", "holds neither model.json nor config.json"),
        (tmp_path / "theirs", "vocabulary of 300 token ids and the corpus 'text.txt' one of 256"),
        (tmp_path / "bare", "holds no weights"),
        (tokens, "was trained on the tokens of 'words.json' and the corpus 'text.txt' is read as 'bytes'"),
        (wide, "vocabulary of 300 token ids"),
        (untrained, "it has learned other tokens, or nothing"),
        (lambda tokens: tokens, "is not a torch module"),
        (Distillation(teacher, top_k=256), "top_k must be an integer from 1 to 255"),
    ]:
        with pytest.raises(ModelError, match=says):
            Training(STUDENT, corpus, 320, settings=SMALL, teacher=given)
    for bad, says in [
        (lambda: Distillation([]), "give a folder"),
        (lambda: Distillation(3), "a teacher is the folder of a trained model"),
        (lambda: Distillation("out", "forward"), "loss must be"),
        (lambda: Distillation("out", temperature=0), "temperature must be a number above 0"),
        (
            lambda: train_many([STUDENT], corpus, 320, settings=TrainingSettings(teacher=teacher)),
            "with teacher: stacked",
        ),
    ]:
        with pytest.raises(ModelError, match=says):
            bad()


def test_its_size_is_said(corpus, teacher):
    made = Lessons(Distillation(teacher), corpus, (2, 16), 100, 0, torch.device("cpu"))
    assert "1.6 MB for 100 steps" in made.describe() and made.path is not None
    assert np.all([lesson.logs.shape == (2, 16, 256) for lesson in made.of(0, corpus.batches(0, 3, 2, 16))])
