"""A study that somebody else made runs no code of theirs in `ask` and `tell`, and what is piped in is refused in one line."""

from __future__ import annotations

import json
import shutil

import pytest

from nas_bo.optuna import studies
from tests.command import environment
from tests.processes import python

EVIL = """
import pathlib
from nas_bo import Space, choice
pathlib.Path({mark!r}).touch()
class Mine(Space):
    a = choice(1, 2, 3)
def height(arch):
    return float(arch.a)
class Proposes:
    def suggest(self, problem, trials, n):
        return [problem.space.sample(len(trials)) for _ in range(n)]
"""


def _run(folder, *args, stdin=b""):
    return python("-m", "nas_bo", *args, cwd=folder, env=environment(), input=stdin, text=False)


def _module(folder):
    """The file that appears when the module that is written into `folder` is imported."""
    mark = folder.parent / "it-ran"
    (folder / "evil.py").write_text(EVIL.format(mark=str(mark)))
    return mark


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A folder with a study of `nas-bo ask`, made once."""
    folder = tmp_path_factory.mktemp("asked") / "unpacked"
    folder.mkdir()
    mark = _module(folder)
    made = _run(folder, "ask", "--space", "evil.py:Mine", "--objective", "x")
    assert made.returncode == 0 and mark.exists(), made.stderr
    return folder


@pytest.fixture
def evil(asked, tmp_path):
    """A copy of that folder with a module; (folder, the file that appears when the module is imported)."""
    folder = shutil.copytree(asked, tmp_path / "unpacked")
    return folder, _module(folder)


def _rewrite(folder, **words):
    study = studies.load(str(folder / "nas-bo.db"))
    studies.keep(study, "asking", {**studies.kept(study, "asking"), **words})


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"space": "evil:Mine"},
        {"space": "{folder}/evil.py:Mine"},
        {"space": "tiny_gpt", "objectives": ["evil:height"]},
        {"space": "tiny_gpt", "objectives": ["max:evil:height"]},
        {"space": "tiny_gpt", "strategy": "evil:Proposes"},
        {"space": "tiny_gpt", "objectives": ["x"], "at_most": ["evil:height=3"]},
        {"space": "tiny_gpt", "objectives": ["x"], "at_least": ["max:evil:height=3"]},
        {"space": "tiny_gpt", "strategy": "nas_bo.py:Proposes"},
    ],
)
@pytest.mark.parametrize("command", ["ask", "tell"])
def test_code_that_a_study_names_is_not_run(command, words, evil):
    folder, mark = evil
    (folder / "nas_bo.py").write_text((folder / "evil.py").read_text()) if "nas_bo.py" in str(words) else None
    _rewrite(folder, **json.loads(json.dumps(words).replace("{folder}", str(folder))))
    (folder / "nas_bo.py").unlink(missing_ok=True)
    done = _run(folder, command, stdin=b'{"number": 0, "values": {"x": 1}}')
    assert done.returncode == 2 and b"importing it runs its code" in done.stderr and b"--allow" in done.stderr, done
    assert not mark.exists()


def test_what_is_allowed_or_typed_is_run(evil):
    folder, mark = evil
    asked = _run(folder, "ask", "--space", "evil.py:Mine")
    assert asked.returncode == 0, asked.stderr
    reported = _run(folder, "tell", "--allow", "evil.py", stdin=b'{"number": 0, "values": {"x": 1}}')
    assert reported.returncode == 0 and mark.exists(), reported.stderr


@pytest.mark.parametrize(
    "words", [["a"], "text", {"space": 3}, {"space": None, "objectives": [3]}, {"strategy": {"a": 1}}]
)
def test_words_that_ask_has_not_written_are_refused(words, evil):
    folder, _ = evil
    study = studies.load(str(folder / "nas-bo.db"))
    studies.keep(study, "asking", words)
    done = _run(folder, "tell", "--allow", "evil.py", stdin=b'{"number": 0, "values": {"x": 1}}')
    assert done.returncode == 2 and b"Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize(
    "text", [b"[" * 100_000, b'{"a":' * 100_000, b'\xff\xfe{"number": 0}', b'"x', b"NaN", b"[[]]", b"null"]
)
def test_what_is_piped_in_is_refused_in_a_line(text, evil):
    folder, _ = evil
    done = _run(folder, "tell", "--allow", "evil.py", stdin=text + b'\n{"number": 0, "values": {"x": 1}}\n')
    assert done.returncode == 2 and b"Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 2, done.stderr
