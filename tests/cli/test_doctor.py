"""`nas-bo doctor`: what works here, what installs the rest, and exit code 1 where something that was asked for does not work."""

from __future__ import annotations

import socket
import sqlite3
import sys
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nas_bo import install_line
from nas_bo.cli.app import app
from nas_bo.errors import SearchError
from nas_bo.workflows import installation
from nas_bo.workflows.installation import Check, Examined, examine


def doctor(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["doctor", *words])
    return done.exit_code, done.output


def named(found: Examined, name: str) -> Check:
    return next(one for one in found.checks if one.name == name)


def test_it_says_what_is_there_and_what_installs_the_rest(monkeypatch):
    there = metadata.version

    def without_onnx(name: str) -> str:
        if name == "onnxscript":
            raise metadata.PackageNotFoundError(name)
        return there(name) if name != "gguf" else "0.1"

    monkeypatch.setattr(metadata, "version", without_onnx)
    found = examine()
    assert found.ok and named(found, "torch").found == there("torch") and named(found, "cpu").state == "ok"
    onnx, gguf = named(found, "onnx"), named(found, "gguf")
    assert onnx.state == "missing" and "onnxscript" in onnx.found and ".[onnx]'" in onnx.fix
    assert gguf.state == "missing" and "gguf 0.1, where >=0.17 is needed" in gguf.found
    assert not examine(extras=["onnx"]).ok and examine(extras=["ax"]).ok


def test_every_extra_of_the_project_that_installs_something_is_looked_at():
    from tests.test_packaging import EXTRAS

    names = {one.name for one in examine().checks if one.group == "extras"}
    assert names == {name for name, all_ in EXTRAS.items() if all_}


def test_an_installed_package_is_read_from_its_metadata(monkeypatch):
    class About:
        def get_all(self, _: str) -> list[str]:
            return ["gguf", "all"]

    needed = ["numpy>=1", 'gguf>=0.17; extra == "gguf"', 'nas_bo[gguf]; extra == "all"']
    monkeypatch.setattr(installation, "clone", lambda: None)
    monkeypatch.setattr(metadata, "metadata", lambda _: About())
    monkeypatch.setattr(metadata, "requires", lambda _: needed)
    assert installation.extras_there() == ["all", "gguf"]


def test_the_line_that_installs_is_for_the_python_that_runs(monkeypatch):
    own = str(Path(sys.executable).parent / "pip")
    for found, begins in ((own, "pip install"), ("/elsewhere/bin/pip", sys.executable), (None, sys.executable)):
        monkeypatch.setattr(install_line.shutil, "which", lambda _, found=found: found)
        assert install_line.install_line("gguf").startswith(begins)
    test = next(one for one in examine().checks if one.name == "test")
    packages = test.found.removeprefix("no ").split(", ")
    assert len(packages) == len(set(packages))


def test_what_is_optional_is_called_so_and_has_a_purpose(monkeypatch):
    def nothing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    known = {name for those in installation.PURPOSES.values() for name in those}
    assert known == set(installation.extras_there())
    monkeypatch.setattr(installation.metadata, "version", lambda name: "3.0" if name in NEEDED else nothing(name))
    monkeypatch.setattr(installation, "_lacking", lambda one: "" if one.name in NEEDED else one.name)
    lines = str(Examined([one for one in examine().checks if one.group == "extras" or one.asked])).splitlines()
    shown = {line.split()[1]: line for line in lines if line.startswith("  optional")}
    assert set(shown) == known and not any("missing" in line for line in lines)
    assert sum("pip install" in line for line in lines) == 1  # once for all
    assert lines[-1].startswith("nas-bo works here.")
    asked = str(Examined([examine(extras=["ray"]).checks[-1], *examine(extras=["ray"]).failed]))
    assert "missing     ray" in asked and ".[ray]'" in asked and "Not all that was asked for works: ray." in asked


NEEDED = {one.name for one in installation._requirements()[0]}


def test_an_extra_that_does_not_exist_is_refused():
    with pytest.raises(SearchError, match=r"no extra 'onx' \(did you mean 'onnx'\?\)"):
        examine(extras=["onx"])
    assert doctor("--extra", "onx")[0] == 2


def test_what_was_asked_for_and_does_not_work_is_exit_code_1(tmp_path):
    (tmp_path / "text.db").write_text("this is not a database, and long enough to be read as one " * 20)
    sqlite3.connect(tmp_path / "empty.db").close()
    with socket.socket() as taken:  # nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        for words, said in (
            (["--storage", str(tmp_path / "none.db")], "there is no such file"),
            (["--storage", str(tmp_path / "text.db")], "text.db"),
            (["--mlflow", str(tmp_path / "none.db")], "there is no MLflow database"),
            (["--mlflow", address], "no MLflow server answers"),
            (["--device", "cuda:99"], "cannot be used here"),
        ):
            code, text = doctor(*words)
            assert code == 1 and said in text and "Not all that was asked for works" in text, words
    assert not (tmp_path / "none.db").exists()


def test_a_cache_folder_that_was_named_must_be_writable(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NAS_BO_CACHE", str(tmp_path / "file" / "cache"))
    found = examine()
    assert not found.ok and named(found, "cache folder").state == "broken"
    monkeypatch.setenv("NAS_BO_CACHE", str(tmp_path / "new" / "cache"))
    assert examine().ok and not (tmp_path / "new").exists()


def test_a_server_named_in_the_environment_counts_as_asked_for(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    code, text = doctor()
    assert code == 1 and "secret" not in text and "127.0.0.1:9" in text
