"""What is installed together must be able to run together."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from nas_bo.errors import MissingExtra

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
def test_the_hint_works_from_an_index_and_from_a_clone(extra):
    """What a message names is an extra; in a clone there is no package of that name to ask an index for."""
    said = str(MissingExtra("anything", extra))
    assert f"pip install 'nas_bo[{extra}]'" in said and f"pip install -c constraints.txt '.[{extra}]'" in said


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
