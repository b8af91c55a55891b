"""What is installed together must be able to run together."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from nas_bo import install_line
from nas_bo.errors import MissingExtra

ROOT = Path(__file__).parent.parent

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
REQUIRED, EXTRAS = PROJECT["dependencies"], PROJECT["optional-dependencies"]


def _all(extra: str) -> set[str]:
    """The names of all requirements of an extra, those of the extras that it names included."""
    found: set[str] = set()
    for requirement in EXTRAS[extra]:
        inner = re.fullmatch(r"nas_bo\[(.*)\]", requirement)
        parts = [_all(each) for each in inner[1].split(",")] if inner else [{re.split(r"[\[<>=!~; ]", requirement)[0]}]
        found = found.union(*parts)
    return found


def test_what_the_first_examples_need_is_always_installed():
    assert {"tokenizers", "safetensors"} <= {re.split(r"[\[<>=!~; ]", each)[0] for each in REQUIRED}
    assert EXTRAS["data"] == EXTRAS["models"] == []  # names that were there before


@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_the_hint_is_for_the_way_in_which_it_was_installed(extra, monkeypatch, tmp_path):
    """No index has the package of somebody who installed a clone, who may be in another folder now."""
    monkeypatch.chdir(ROOT)
    assert str(MissingExtra("anything", extra)).endswith(f"pip install -c constraints.txt '.[{extra}]'")
    monkeypatch.chdir(tmp_path)
    away = f"pip install -c {shlex.quote(str(ROOT / 'constraints.txt'))} '{ROOT}[{extra}]'"
    assert install_line.install_line(extra).endswith(away)
    monkeypatch.setattr(install_line, "HERE", tmp_path)  # site-packages
    git = {"url": "https://host/nas_bo", "vcs_info": {"vcs": "git", "commit_id": "abc"}}
    for noted, ends in (
        ({"url": ROOT.as_uri(), "dir_info": {}}, away),
        ({"url": (tmp_path / "gone").as_uri(), "dir_info": {}}, f"pip install 'nas_bo[{extra}]'"),
        ({"url": "file:///x/nas_bo-0.2.0.whl", "archive_info": {}}, f"'nas_bo[{extra}] @ file:///x/nas_bo-0.2.0.whl'"),
        (git, f"'nas_bo[{extra}] @ git+https://host/nas_bo@abc'"),
        ({}, f"pip install 'nas_bo[{extra}]'"),
    ):
        monkeypatch.setattr(install_line, "_origin", lambda noted=noted: noted)
        assert install_line.install_line(extra).endswith(ends)


def test_every_extra_that_a_message_names_exists():
    source = Path(__file__).parent.parent / "nas_bo"
    named = {
        name
        for path in source.rglob("*.py")
        for name in re.findall(r"MissingExtra\([^)]*, \"([\w-]+)\"\)", path.read_text())
    }
    assert named and named <= set(EXTRAS)


def test_no_extra_brings_ray_and_the_energy_meters_of_zeus_together():
    """zeus requires amdsmi, whose import raises KeyError without ROCm; ray.init() passes that on."""
    assert "ray" in _all("ray") and "zeus" in _all("energy")
    for extra in EXTRAS:
        assert not {"ray", "zeus"} <= _all(extra), extra
