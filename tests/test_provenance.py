"""What is read of the repository around a search, without running what that repository names."""

from __future__ import annotations

import subprocess

import pytest

from nas_bo import provenance

NAMED = {
    "core.fsmonitor": "{}",
    "filter.evil.clean": "{}; cat",
    "filter.evil.process": "{}",
    "filter.more.evil.clean": "{}; cat",
}


def _git(folder, *words):
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "unpacked"
    folder.mkdir()
    _git(folder, "init", "-q")
    (folder / "a.py").write_text("a = 1\n")
    (folder / "b.py").write_text("b = 1\n")
    _git(folder, "add", ".")
    _git(folder, "commit", "-qm", "first")
    return folder


def test_commit_and_state(repository):
    commit = _git(repository, "rev-parse", "HEAD")
    assert provenance.git(str(repository)) == {"commit": commit, "dirty": False}
    (repository / "a.py").write_text("a = 2\n")
    assert provenance.git(str(repository)) == {"commit": commit, "dirty": True}


def test_outside_a_repository_there_is_none(tmp_path):
    assert provenance.git(str(tmp_path)) == {}


@pytest.mark.parametrize("included", [False, True])
@pytest.mark.parametrize("name", sorted(NAMED))
def test_no_program_that_the_repository_names_is_run(name, included, repository, tmp_path):
    mark = tmp_path / "it-ran"
    program = NAMED[name].format(f"touch {mark}")
    if included:
        _git(repository, "config", "-f", ".git/more", name, program)
        _git(repository, "config", "include.path", "more")
    else:
        _git(repository, "config", name, program)
    driver = name.removeprefix("filter.").rpartition(".")[0]
    (repository / ".gitattributes").write_text(f"*.py filter={driver}\n")
    (repository / "a.py").write_text("a = 2\n")
    subprocess.run(["git", "status"], cwd=repository, capture_output=True)  # the trap works
    assert mark.exists()
    mark.unlink()
    assert provenance.git(str(repository))["dirty"] is True
    assert not mark.exists()


def test_no_hook_of_the_repository_is_run(repository, tmp_path):
    mark = tmp_path / "it-ran"
    for name in ("post-index-change", "fsmonitor-watchman", "reference-transaction"):
        hook = repository / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {mark}\n")
        hook.chmod(0o755)
    (repository / "a.py").touch()
    assert provenance.git(str(repository))["dirty"] is False
    assert not mark.exists()
