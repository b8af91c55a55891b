"""docs/architecture.md, its picture and CONTRIBUTING.md: packages, functions and files that are where they say."""

from __future__ import annotations

import re

import pytest

from tests.test_imports import PLACES, ROOT

PAGE = (ROOT.parent / "docs" / "architecture.md").read_text()
PICTURE = (ROOT.parent / "docs" / "architecture.svg").read_text()
ROWS = re.findall(r"\| `([\w.]+)` \|(?:[^|\n]*\|)? ?`(nas_bo/[\w/]+\.py)` \|", PAGE)


def test_the_picture_has_the_packages_in_the_order_of_the_law():
    drawn = re.findall(r'id="room-(\w+)"', PICTURE)
    there = {path.name.removesuffix(".py") for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    assert drawn == PLACES and there == set(PLACES) - {"lm_eval"}


@pytest.mark.parametrize(("name", "file"), ROWS)
def test_what_the_page_names_is_in_that_file(name, file):
    text = (ROOT.parent / file).read_text()
    for part in name.split("."):
        assert re.search(rf"^\s*(async )?(def|class) {part}\b", text, re.M), f"{file} has no {part}"


def test_the_paths_of_contributing_exist():
    paths = re.findall(
        r"[ `(]((?:nas_bo|tests|benchmarks|docs|\.ci)/[\w./-]+)", (ROOT.parent / "CONTRIBUTING.md").read_text()
    )
    missing = [path for path in paths if not re.search("NAME|KIND", path) and not (ROOT.parent / path).exists()]
    assert len(paths) > 20 and not missing, missing


def test_the_page_names_functions():
    assert len(ROWS) > 20
