"""`nas-bo` alone, `--version`, and what a shell completes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import nas_bo
from nas_bo.cli.app import app
from tests.command import ROOT, environment
from tests.command import nas_bo as command
from tests.processes import python


def test_the_command_alone_shows_five_commands_and_a_hint():
    done = CliRunner().invoke(app, [])
    shown = re.findall(r"^  nas-bo (\w+)", done.stdout, re.M)
    assert done.exit_code == 0 and shown == ["search", "report", "train", "export", "doctor"]
    assert "nas-bo --help" in done.stdout and len(done.stdout.splitlines()) <= 12


def test_version(tmp_path):
    done = command("--version", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout == f"nas-bo {nas_bo.__version__}\n" and not done.stderr


@pytest.mark.parametrize("words", [["--version"], [], ["search", "--help"], ["report", "--help"]], ids=" ".join)
def test_what_only_tells_imports_no_large_library(words, tmp_path):
    code = (
        f"import atexit, sys; sys.argv = ['nas-bo', *{words!r}]\n"
        "from nas_bo.cli import main\n"
        "large = {'numpy', 'torch', 'optuna', 'mlflow', 'pandas', 'matplotlib'}\n"
        "atexit.register(lambda: print('loaded:', *large & set(sys.modules), file=sys.stderr))\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr.split("loaded:")[1].split() == [], done.stderr


def test_the_command_ends_with_its_last_line(tmp_path):
    """What Python takes apart at the end of a process with torch and MLflow takes seconds; what is registered for the end, threads and files stay."""
    code = (
        "import atexit, sys, threading\n"
        "from nas_bo.cli import main\n"
        "class Kept:\n"
        "    def __del__(self): print('taken apart')\n"
        "kept, file, written = Kept(), open('mine.txt', 'w'), threading.Event()\n"
        "file.write('of an objective')\n"
        "atexit.register(lambda: print('at exit'))\n"
        "threading.Thread(target=lambda: (written.wait(), print('thread'))).start()\n"
        "threading._register_atexit(written.set)\n"
        "sys.argv = ['nas-bo', 'report', 'no.db']\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == "thread\nat exit\n" and "there is no file 'no.db'" in done.stderr
    assert (tmp_path / "mine.txt").read_text() == "of an objective"


@pytest.mark.parametrize("words", [["-h"], ["help"], ["search", "-h"], ["help", "search"], ["help", "mlflow", "sync"]])
def test_help_is_found_by_whatever_word(words):
    done = CliRunner().invoke(app, words, prog_name="nas-bo")
    assert done.exit_code == 0 and done.stdout.startswith("Usage: nas-bo"), done.output
    assert ("--trials" in done.stdout) == ("search" in words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["validate", "my.db"], "a storage is given with --storage here; see `nas-bo validate --help`"),
        (["ask", "my.db"], "a storage is given with --storage here"),
        (["report", "my.db", "more"], "unexpected extra argument(s) (more); see `nas-bo report --help`"),
        (["ui", "--port", "99999"], "--port 99999: it must be a whole number of at least 0 and at most 65,535"),
        (["dashboard", "--port", "-1"], "--port -1: it must be a whole number of at least 0 and at most 65,535"),
        (["reprot"], "did you mean 'report'"),
    ],
)
def test_a_wrong_word_is_one_line_that_says_what_to_do(words, said):
    done = CliRunner().invoke(app, words, prog_name="nas-bo")
    assert done.exit_code == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1, done.output


def completed(folder: Path, *words: str) -> list[str]:
    """What bash is given after these words, the last of which is being typed."""
    env = environment(
        COMP_WORDS=" ".join(["nas-bo", *words]), COMP_CWORD=str(len(words)), _NAS_BO_COMPLETE="complete_bash"
    )
    done = python("-m", "nas_bo", cwd=folder, env=env)
    assert not done.stderr, done.stderr
    return done.stdout.split()


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    import optuna

    from nas_bo import AskTell
    from nas_bo.search_spaces import TinyGPT

    folder = tmp_path_factory.mktemp("completed")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for storage in ("s.db", "s.log"):
        AskTell(TinyGPT, ["loss", "seconds"], storage=str(folder / storage), study_name="first one")
        AskTell(TinyGPT, ["loss"], storage=str(folder / storage), study_name="second")
    (folder / "broken.db").write_bytes(b"SQLite format 3\x00 and nothing else")
    return folder


def test_words_are_completed(tmp_path):
    assert {"search", "spaces", "status"} == set(completed(tmp_path, "s"))
    assert completed(tmp_path, "mlflow", "s") == ["sync"]
    assert {"--max-parameters", "--max-memory"} <= set(completed(tmp_path, "search", "--max-"))
    assert completed(tmp_path, "search", "--space", "tiny_gpt_") == ["tiny_gpt_bits"]
    assert completed(tmp_path, "devices", "pi") == ["pi4", "pi5"]
    assert completed(tmp_path, "export", "--format", "g") == ["gguf"]
    assert completed(tmp_path, "doctor", "--extra", "onn") == ["onnx"]


@pytest.mark.parametrize("storage", ["s.db", "s.log", "sqlite:///s.db"])
def test_studies_and_picks_are_read_from_the_storage(searched, storage):
    assert completed(searched, "report", storage, "--study", "sec") == ["second"]
    assert completed(searched, "search", "--storage", storage, "--study", "sec") == ["second"]
    assert set(completed(searched, "train", storage, "--pick", "")) == {"knee", "best:loss", "best:seconds"}


@pytest.mark.parametrize("storage", ["none.db", "broken.db", "postgresql://nobody/x", "."])
def test_a_storage_that_cannot_be_read_completes_nothing(searched, storage):
    assert completed(searched, "report", storage, "--study", "") == []
    assert completed(searched, "report", storage, "--pick", "") == ["knee"]


def test_lists_of_words_are_those_of_the_command():
    from nas_bo.cli import completion
    from nas_bo.cli.quantities import Costs, Quantities, compressibility
    from nas_bo.cli.resolve import strategy
    from nas_bo.hardware.devices.device import Device
    from nas_bo.objectives import ValidationLoss

    words = Quantities(Costs(None, (), None, None, None, {}, None), 256).words() | compressibility(ValidationLoss())
    assert set(words) | {"bits_per_byte"} >= set(completion.OBJECTIVES)
    assert all(strategy(word, 0) for word in completion.STRATEGIES)
    assert set(completion.targets("")) == {"here", *Device.names()}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(shell):
    done = subprocess.run(
        [sys.executable, "-m", "nas_bo"], env=environment(_NAS_BO_COMPLETE=f"source_{shell}", PYTHONPATH=str(ROOT)),
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and "_NAS_BO_COMPLETE" in done.stdout
