"""The winner of a search trained to the end: the folder, going on after a kill, text from it, and what is refused."""

from __future__ import annotations

import json
import signal

import pytest

from nas_bo import search
from nas_bo.errors import CheckpointError, ExportError, SearchError
from nas_bo.export import folder as files
from nas_bo.objectives import Parameters, ValidationLoss
from nas_bo.search_spaces import TinyGPT
from nas_bo.workflows.export import continued
from nas_bo.workflows.train import CHECKPOINT, LADDER
from tests.cli.test_command import nas_bo
from tests.problems import Toy, cost, loss
from tests.processes import python

TOKENS, SHORT = 20_480, 6_144


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "corpus.txt"
    path.write_text("".join(f"def f{i}(x):\n    return x + {i}\n" for i in range(3000)))
    return path


@pytest.fixture(scope="module")
def found(text, tmp_path_factory):
    storage = tmp_path_factory.mktemp("study") / "study.db"
    objectives = [ValidationLoss(tokens=2000, data=str(text)), Parameters()]
    return search(TinyGPT, objectives, trials=4, retrain=0, storage=str(storage), workers=1), storage


@pytest.fixture(scope="module")
def trained(found, tmp_path_factory):
    return found[0].train(tmp_path_factory.mktemp("trained") / "out", "best:bits_per_byte", TOKENS)


def test_the_folder_holds_what_was_trained_and_says_how(found, trained):
    made = files.load(trained.folder)
    names = {path.name for path in trained.folder.iterdir()}
    assert names == {"README.md", "architecture.svg", "arch.json", "model.json", "model.safetensors"}
    assert made.architecture == found[0].best("bits_per_byte").architecture
    assert made.about["tokens"] == TOKENS and made.about["seed"] == 1 and made.about["tokenizer"] == "bytes"
    assert made.about["values"]["bits_per_byte"] < found[0].best("bits_per_byte").values["bits_per_byte"]
    assert len(made.about["samples"]) == 3
    card = (trained.folder / "README.md").read_text()
    assert card.startswith("---\n") and "architecture.svg" in card and made.about["corpus"]["sha256"] in card


def test_a_run_that_was_killed_goes_on_to_the_same_weights(found, trained, tmp_path, monkeypatch):
    import nas_bo.model.run as run

    monkeypatch.setattr(run, "SAVE_EVERY_S", -1.0)  # at every look
    monkeypatch.setattr(run, "PROGRESS_EVERY_S", -1.0)

    def killed(step, steps, nats):
        if step > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        found[0].train(tmp_path / "out", "best:bits_per_byte", TOKENS, progress=killed)
    assert (tmp_path / "out" / CHECKPOINT).exists() and not (tmp_path / "out" / "model.json").exists()
    with pytest.raises(CheckpointError, match="of another run"):
        found[0].train(tmp_path / "out", "best:bits_per_byte", TOKENS, seed=7)
    again = found[0].train(tmp_path / "out", "best:bits_per_byte", TOKENS)
    assert again.resumed and not (tmp_path / "out" / CHECKPOINT).exists()
    one, other = (files.load(folder).model.state_dict() for folder in (again.folder, trained.folder))
    assert all((one[name] == other[name]).all() for name in other)


def test_a_process_that_is_killed_goes_on_to_the_same_weights(found, trained, tmp_path):
    """With SIGKILL, in the middle of a ladder's training, whose short runs are not made again."""
    code = (
        "import os, signal, sys, nas_bo.model.run as run\n"
        "from nas_bo.cli import resolve\n"
        "run.SAVE_EVERY_S = run.PROGRESS_EVERY_S = -1.0\n"
        "def killed(step, steps, nats):\n"
        "    if step > 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "resolve.stored(sys.argv[1], None).train(sys.argv[2], 'best:bits_per_byte', float(sys.argv[3]), ladder=True, progress=killed)\n"
    )
    out = tmp_path / "out"
    done = python("-c", code, found[1], out, SHORT)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert {CHECKPOINT, LADDER} <= {path.name for path in out.iterdir()}
    before, seen = (out / LADDER).stat().st_mtime_ns, []
    again = found[0].train(out, "best:bits_per_byte", SHORT, ladder=True, progress=lambda *_: seen.append((out / LADDER).stat().st_mtime_ns))  # fmt: skip
    assert again.resumed and set(seen) <= {before} and not {CHECKPOINT, LADDER} & {path.name for path in out.iterdir()}
    rates = [rate for rate, _ in again.about["ladder"]["tried"]]
    assert again.about["ladder"]["lr"] in rates and len(rates) >= 2
    whole = found[0].best("bits_per_byte").train(found[0], tmp_path / "whole", SHORT, ladder=True)
    one, other = (files.load(folder).model.state_dict() for folder in (again.folder, whole.folder))
    assert all((one[name] == other[name]).all() for name in other)
    assert whole.about["settings"]["lr"] == again.about["ladder"]["lr"]
    assert found[0].train(tmp_path / "whole", "best:bits_per_byte", SHORT, ladder=True).resumed
    with pytest.raises(ExportError, match="holds another model"):
        found[0].train(trained.folder, "best:bits_per_byte", SHORT, ladder=True)
    with pytest.raises(SearchError, match="exclude each other"):
        found[0].train(tmp_path / "x", tokens=SHORT, ladder=True, settings={"lr": 1e-3})


def test_the_same_call_again_trains_nothing(found, trained):
    def never(*_):
        raise AssertionError("trained")

    again = found[0].train(trained.folder, "best:bits_per_byte", TOKENS, progress=never)
    assert again.resumed and again.about["values"] == trained.about["values"]


def test_a_folder_that_holds_something_else_is_refused(found, trained, tmp_path):
    with pytest.raises(ExportError, match="holds another model already"):
        found[0].train(trained.folder, "best:bits_per_byte", TOKENS, seed=5)
    (tmp_path / "a").write_text("")
    with pytest.raises(ExportError, match="not empty"):
        found[0].train(tmp_path, tokens=TOKENS)
    with pytest.raises(ExportError, match="is a file"):
        found[0].train(tmp_path / "a", tokens=TOKENS)
    with pytest.raises(SearchError, match="at least 1,000"):
        found[0].train(tmp_path / "b", tokens=10)
    assert not (tmp_path / "b").exists()


def test_a_text_that_changed_is_refused(text, tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text(text.read_text())
    objectives = [ValidationLoss(tokens=2000, data=str(path))]
    search(TinyGPT, objectives, trials=1, retrain=0, storage=str(tmp_path / "s.db"), workers=1)
    path.write_text(text.read_text() + "more\n" * 1000)
    done = nas_bo("train", "s.db", "--to", "out", "--tokens", "2000", cwd=tmp_path)
    assert done.returncode == 2 and "has changed" in done.stderr and not (tmp_path / "out").exists()
    path.unlink()
    done = nas_bo("train", "s.db", "--to", "out", "--tokens", "2000", cwd=tmp_path)
    assert done.returncode == 2 and "corpus.txt" in done.stderr and "Traceback" not in done.stderr


def test_a_study_that_trains_nothing_is_refused(tmp_path):
    result = search(Toy, [loss, cost], trials=2, retrain=0, storage=str(tmp_path / "s.db"))
    with pytest.raises(SearchError):
        result.train(tmp_path / "out")


def test_text_is_continued(trained, tmp_path):
    first = continued(trained.folder, "def f", 20, 0.0)
    assert (
        first.startswith("def f") and len(first.encode()) == 25 and first == continued(trained.folder, "def f", 20, 0.0)
    )
    with pytest.raises(ExportError, match="empty"):
        continued(trained.folder, "")
    with pytest.raises(ExportError, match="there is no folder"):
        continued(tmp_path / "nothing", "def")


def test_a_rate_that_is_none_is_refused(found, tmp_path):
    for rate in ("fast", "0", "nan", "-1"):
        done = nas_bo("train", str(found[1]), "--to", "out", "--lr", rate, cwd=tmp_path)
        assert done.returncode == 2 and "'ladder'" in done.stderr and not (tmp_path / "out").exists()


def test_the_commands(found, tmp_path):
    done = nas_bo("train", str(found[1]), "--to", "out", "--tokens", "4096", "--pick", "0", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tokens"] == 4096 and json.loads(done.stdout)["searched"]["trial"] == 0
    done = nas_bo("generate", "out", "def ", "--tokens", "5", "--temperature", "0", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("def ")
    done = nas_bo("train", str(found[1]), "--to", "out", "--tokens", "4096", "--pick", "nonsense", cwd=tmp_path)
    assert done.returncode == 2 and "nonsense" in done.stderr


def test_a_tokenizer_travels_with_the_model(text, tmp_path):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.train([str(text)], trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    made.save(str(tmp_path / "bpe.json"))
    objectives = [ValidationLoss(tokens=2000, data=str(text), tokenizer=str(tmp_path / "bpe.json"))]
    result = search(TinyGPT, objectives, trials=1, retrain=0, storage=str(tmp_path / "s.db"), workers=1)
    folder = result.train(tmp_path / "out", tokens=2000).folder
    (tmp_path / "bpe.json").unlink()
    assert continued(folder, "def f", 5).startswith("def f")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ExportError, match=r"bpe\.json.*is not there any more"):
        continued(folder, "def f", 5)
    with pytest.raises(
        ExportError, match=r"bpe\.json"
    ):  # the text was read before: its tokenizer is needed all the same
        result.train(tmp_path / "other", tokens=3000)
