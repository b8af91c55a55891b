"""A run that was stopped goes on to the same bits; a checkpoint of another run is refused; a kill corrupts nothing."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import fsspec
import pytest
import torch

from nas_bo import search
from nas_bo.architecture import Node
from nas_bo.errors import CheckpointError, ModelError, ObjectiveError
from nas_bo.model import Corpus, Training, TrainingResult, build, checkpoint, load_corpus, train
from nas_bo.objectives import ValidationLoss
from nas_bo.search_spaces import TinyGPT
from nas_bo.strategies import Random
from tests.model.architectures import ATTENTION, CONV, GATED, MOE, decoder, layer
from tests.processes import Python

ARCH = decoder(layer(CONV, GATED), layer(ATTENTION, MOE), width=16)
TOKENS = 100 * 512  # curve points every three steps: a stop at 25 falls between two


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text("".join(f"the square of {i} is {i * i}; " for i in range(4000)))
    return load_corpus(path)


def same(one: TrainingResult, two: TrainingResult) -> bool:
    a, b = one.model.state_dict(), two.model.state_dict()
    return one.curve == two.curve and all(torch.equal(a[name], b[name]) for name in a)


def test_a_stopped_run_goes_on_to_the_same_bits(corpus: Corpus, tmp_path: Path) -> None:
    whole = train(ARCH, corpus, TOKENS, validate_at=(0.25, 0.8))
    path = tmp_path / "run.pt"
    quarter = train(ARCH, corpus, TOKENS, stop_at=0.25, checkpoint=path)
    assert (quarter.steps, quarter.tokens, quarter.share, quarter.resumed) == (25, 25 * 512, 0.25, 0)
    assert quarter.bits_per_byte == dict(whole.validation)[25 * 512]
    decayed = train(ARCH, corpus, TOKENS, stop_at=0.8, checkpoint=path)  # within the decay
    assert decayed.resumed == 25 * 512 and not same(decayed, whole)
    rest = train(ARCH, corpus, TOKENS, checkpoint=path)
    assert same(rest, whole) and rest.validation == whole.validation and rest.bits_per_byte == whole.bits_per_byte
    assert rest.cpu_seconds > decayed.cpu_seconds > quarter.cpu_seconds
    again = train(ARCH, corpus, TOKENS, checkpoint=path)
    assert same(again, whole) and again.resumed == again.tokens == 100 * 512
    with pytest.raises(CheckpointError, match="at step 100 of 100 already"):
        train(ARCH, corpus, TOKENS, stop_at=0.25, checkpoint=path)


def test_pieces_in_one_process_are_one_run(corpus: Corpus) -> None:
    whole = train(ARCH, corpus, TOKENS)
    training = Training(ARCH, corpus, TOKENS)
    assert training.done == 0 and training.to(0.1).steps == 10 and training.to(0.4).steps == 40
    tenth, end = training.measured(0.1), training.to()
    assert tenth is not None and tenth.steps == 10 and tenth.tokens == tenth.validation[-1][0] == 10 * 512
    assert training.measured(0.3) is None and training.measured(1.0) == end
    assert same(end, whole) and training.done == 1


def test_a_checkpoint_of_another_run_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    train(ARCH, corpus, TOKENS, stop_at=0.05, checkpoint=path)
    before = path.read_bytes()
    other = load_corpus(next(iter(_text(tmp_path))))
    wider = Node({**ARCH, "width": 32})
    for arch, text, settings, says in (
        (ARCH, corpus, {"seed": 1}, "seed is 0 there and 1 here"),
        (ARCH, corpus, {"lr": 1e-3}, "lr is 0.003 there and 0.001 here"),
        (ARCH, corpus, {"tokens": 2 * TOKENS}, "steps is 100 there and 200 here"),
        (ARCH, other, {}, "corpus is"),
        (wider, corpus, {}, "architecture is"),
    ):
        with pytest.raises(CheckpointError, match=says):
            train(arch, text, **{"tokens": TOKENS, "checkpoint": path, **settings})  # type: ignore[arg-type]
    assert path.read_bytes() == before


def _text(folder: Path) -> list[Path]:
    path = folder / "other.txt"
    path.write_text("all work and no play makes a dull day; " * 900)
    return [path]


def test_what_is_no_checkpoint_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        train(ARCH, corpus, TOKENS, checkpoint=path)
    torch.save({"weights": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of a training run"):
        train(ARCH, corpus, TOKENS, checkpoint=path)
    train(ARCH, corpus, TOKENS, stop_at=0.02, checkpoint=tmp_path / "good.pt")
    good = (tmp_path / "good.pt").read_bytes()
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(CheckpointError, match="delete it to start the run again"):
        train(ARCH, corpus, TOKENS, checkpoint=path)
    with pytest.raises(ModelError, match="pass the architecture"):
        train(build(ARCH, 256), corpus, TOKENS, checkpoint=tmp_path / "x.pt")
    for share in (0, 1.5, float("nan"), True):
        with pytest.raises(ModelError, match="stop_at="):
            train(ARCH, corpus, TOKENS, stop_at=share)


def test_a_file_that_is_further_stays(corpus: Corpus, tmp_path: Path) -> None:
    slow, fast = (Training(ARCH, corpus, TOKENS, checkpoint=tmp_path) for _ in range(2))
    fast.to(0.3)
    slow.to(0.1)
    (path,) = tmp_path.glob("*.pt")
    assert torch.load(path, weights_only=True)["step"] == 30
    assert not [file for file in tmp_path.iterdir() if file != path]


def test_a_folder_holds_many_runs(corpus: Corpus, tmp_path: Path) -> None:
    arch = TinyGPT.sample(1)
    for settings in ({}, {"lr": 1e-3}):
        Training(arch, corpus, TOKENS, settings=settings, checkpoint=tmp_path).to(0.02)
    Training(ARCH, corpus, TOKENS, checkpoint=tmp_path).to(0.02)
    names = [path.name for path in tmp_path.iterdir()]
    assert len(names) == 3 and sum(name.startswith(arch.id) for name in names) == 2


@pytest.mark.parametrize("where", ["memory", "file"])
def test_a_url_is_a_folder_of_several_machines(corpus: Corpus, tmp_path: Path, where: str) -> None:
    (tmp_path / "runs").mkdir()
    url = f"memory://{tmp_path.name}/runs" if where == "memory" else (tmp_path / "runs").as_uri()
    few = 20 * 512
    whole = train(ARCH, corpus, few)
    Training(ARCH, corpus, few, checkpoint=url).to(0.25)
    again = Training(ARCH, corpus, few, checkpoint=url)
    assert again.done == 0.25
    rest = again.to()
    assert same(rest, whole) and rest.resumed == 5 * 512
    files, inside = fsspec.core.url_to_fs(url)
    (kept,) = files.ls(inside, detail=False)  # no draft is left
    assert kept.endswith(".pt")
    files.pipe_file(kept, files.cat_file(kept)[:100])
    with pytest.raises(
        CheckpointError, match=f"{'memory://' if where == 'memory' else tmp_path}.* cannot be read as a checkpoint"
    ):
        train(ARCH, corpus, few, checkpoint=url)


def test_places_of_checkpoints_are_looked_at_before_a_search(tmp_path: Path) -> None:
    for where, says in (
        ("nowhere://bucket/runs", "nowhere:// cannot be opened .*install the package of fsspec"),
        ("", "give the path of a folder, a URL such as s3://bucket/runs, or None"),
        (7, "give the path of a folder"),
    ):
        with pytest.raises(ObjectiveError, match=f"ValidationLoss.checkpoints={where!r}.: .*{says}"):
            ValidationLoss(checkpoints=where)  # type: ignore[arg-type]
    (tmp_path / "file").touch()
    with pytest.raises(ObjectiveError, match="not a folder that can be written to"):
        search(
            TinyGPT,
            [ValidationLoss(tokens=2000, checkpoints=str(tmp_path / "file"))],
            strategy=Random(seed=0),
            trials=1,
            retrain=0,
        )
    ValidationLoss(checkpoints=f"memory://{tmp_path.name}/new").check_source()


def test_other_held_out_text_is_measured_again(corpus: Corpus, tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    much = train(ARCH, corpus, TOKENS, stop_at=0.1, checkpoint=path)
    little = train(ARCH, corpus, TOKENS, stop_at=0.1, checkpoint=path, evaluation_tokens=640)
    assert little.bits_per_byte != much.bits_per_byte and little.resumed == much.tokens


def test_a_kill_at_any_time_corrupts_nothing(tmp_path: Path) -> None:
    """A child writes one checkpoint after the other; whenever it is killed, the file loads."""
    code = (
        "import sys, torch; from pathlib import Path; from nas_bo.model import checkpoint as c\n"
        "name = c.Identity('a', 'b', {}, 10**9, 0, False)\n"
        "for step in range(10**6):\n"
        "    c.save(sys.argv[1], name, step, {'weights': torch.full((100_000,), float(step))})\n"
    )
    path, name = tmp_path / "run.pt", checkpoint.Identity("a", "b", {}, 10**9, 0, False)
    found = set()
    for wait in (0.0, 0.013, 0.037):
        child = Python("-c", code, path)
        limit = time.monotonic() + 300
        before = path.stat().st_mtime_ns if path.exists() else 0
        while time.monotonic() < limit and (path.stat().st_mtime_ns if path.exists() else 0) == before:
            if child.poll() is not None:
                break
            time.sleep(0.002)
        time.sleep(wait)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        there = checkpoint.load(path, name)
        assert there is not None and torch.equal(
            there["state"]["weights"], torch.full((100_000,), float(there["step"]))
        )
        found.add(there["step"])
        path.unlink()
    assert found
