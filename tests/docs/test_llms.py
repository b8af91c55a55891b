"""`llms.txt`: every page of the site in a line, with its title and its first sentence."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.docs.test_site import DOCS, ROOT, _load


class _Loader(yaml.SafeLoader):
    """Names of Python objects in mkdocs.yml are left out."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


@pytest.fixture(scope="module")
def nav() -> list[Any]:
    return yaml.load((ROOT / "mkdocs.yml").read_text(), _Loader)["nav"]


def test_every_page_has_a_line_with_its_title(nav):
    text = _load(DOCS / "_build" / "llms.py").index(nav, DOCS)
    pages = re.findall(r"^- \[(.+?)\]\((.+?)\.html\)(?:: (.+))?$", text, re.M)
    assert text.startswith("# nas_bo\n\n> ") and len(pages) == len(re.findall(r"^- ", text, re.M)) > 30
    assert all((DOCS / f"{page}.md").exists() and title for title, page, _ in pages)
    assert sum(bool(about) for _, _, about in pages) > 0.7 * len(pages)
    found = {page: (title, about) for title, page, about in pages}
    assert found["agents"][0] == "For coding agents" and found["program"][1].startswith("Copy what follows")
    every = "".join(about for _, _, about in pages)
    assert not re.search(r"\]\([^)]*\)|^from |import | = ", every) and max(len(about) for _, _, about in pages) < 260


def test_the_whole_text_has_the_pages_that_people_write(nav):
    text = _load(DOCS / "_build" / "llms.py").whole(nav, DOCS)
    assert "# For coding agents" in text and "# What --json prints" in text and "\n::: " not in text
    assert (ROOT / "mkdocs.yml").read_text().count("docs/_build/llms.py") == 1
