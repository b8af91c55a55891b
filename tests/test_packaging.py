"""What is installed together must be able to run together."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

EXTRAS = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"][
    "optional-dependencies"
]


def _all(extra: str) -> set[str]:
    """The names of all requirements of an extra, those of the extras that it names included."""
    found: set[str] = set()
    for requirement in EXTRAS[extra]:
        inner = re.fullmatch(r"nas_bo\[(.*)\]", requirement)
        parts = [_all(each) for each in inner[1].split(",")] if inner else [{re.split(r"[\[<>=!~; ]", requirement)[0]}]
        found = found.union(*parts)
    return found


def test_no_extra_brings_ray_and_the_energy_meters_of_zeus_together():
    """zeus requires amdsmi, whose import raises KeyError without ROCm; ray.init() passes that on."""
    assert "ray" in _all("ray") and "zeus" in _all("energy")
    for extra in EXTRAS:
        assert not {"ray", "zeus"} <= _all(extra), extra
