"""The site: what checks it finds what is wrong; figures come from results or not at all; every public name is in the reference."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def _load(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_check_finds_what_is_wrong(tmp_path):
    check = _load(ROOT / ".ci" / "check_site.py")
    (tmp_path / "index.html").write_text(
        '<h1 id="top">x</h1><a href="b.html#there">b</a><a href="#top">t</a> <code>{{ a }}</code>'
    )
    (tmp_path / "b.html").write_text('<p id="there"></p><a href="./">home</a><a href="https://example.org">far</a>')
    assert check.problems(tmp_path) == []
    (tmp_path / "b.html").write_text(
        '<p id="here"></p><a href="c.html">c</a><script src="https://cdn.example.org/x.js"></script>{{ n.json: a }}'
    )
    (tmp_path / "x.css").write_text("@import url('https://fonts.example.org/a.css');")
    found = "\n".join(check.problems(tmp_path))
    for word in (
        "b.html#there has no such anchor",
        "c.html leads nowhere",
        "loads https://cdn",
        "not rendered",
        "loads https://fonts",
    ):
        assert word in found
    assert len(found.splitlines()) == 5
    assert check.problems(tmp_path / "nothing") != []


def test_figures_come_from_results(tmp_path, monkeypatch):
    figures = _load(DOCS / "_build" / "figures.py")
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    data = {
        "what": "w",
        "machine": {"processor": "P"},
        "list": [{"a": 1.234, "b": {"c": None}}, {"a": 2}],
        "map": {"x": {"a": 0.5}},
    }
    (tmp_path / "r.json").write_text(json.dumps(data))
    (tmp_path / "t.md").write_text("# Title\n\n## Part\n\ntext\n")
    assert figures.rendered("{{ r.json: list/0/a | .1f }} s, {{ r.json: what }}") == "1.2 s, w"
    made = figures.rendered("{{ r.json: list\n   A = a | .2f\n}}\n\n{{ r.json: map\n   name = key\n   A = a\n}}")
    assert made.count("|---") == 2 or made.count("| --- |") == 2
    assert "| 1.23 |\n| 2.00 |" in made and "| x | 0.5 |" in made
    some = figures.rendered("{{ r.json: list where b by a\n   A = a\n}}")
    assert "| 1.234 |" in some and "| 2 |" not in some
    assert figures.rendered("{{ r.json: list by a\n   A = a\n}}").splitlines()[2:] == ["| 1.234 |", "| 2 |"]
    assert figures.rendered("{{ t.md }}").strip().startswith("### Part")
    assert "| `r.json` | w | P |" in figures.rendered("{{ every result }}")
    for wrong in ("{{ r.json: list/9/a }}", "{{ no.json: a }}", "{{ r.json: what | .1f }}", "{{ no.md }}",
                  "{{ r.json: list\n   A = z\n}}", "{{ r.json: nowhere\n   A = a\n}}", "{{ r.json: list by z\n   A = a\n}}", '--8<-- "examples/no.py"'):  # fmt: skip
        with pytest.raises(figures.NoFigure):
            figures.rendered(wrong)


PAGES = _load(DOCS / "_build" / "pages.py")


def test_pages_with_figures_are_fresh():
    old = [str(page.relative_to(ROOT)) for page, _text in PAGES.stale()]
    assert not old, f"stale: {old}; `python docs/_build/pages.py` makes them again"


def test_pages_can_be_read_as_they_are_in_the_repository():
    """No figure, table or file that is only there once the site is built; pictures are where a page says."""
    for page in [*ROOT.glob("*.md"), *(p for p in DOCS.rglob("*.md") if "_build" not in p.parts)]:
        text = page.read_text()
        assert not PAGES.LEFT.search(text), f"{page.name}: made by docs/_build/pages.py, move it to docs/_build/pages/"
        for target in re.findall(r"!\[[^\]]*\]\((?!https?:)([^)]+)\)", text):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_a_stale_page_is_found(tmp_path, monkeypatch):
    source = tmp_path / "pages" / "a" / "b.md.in"
    source.parent.mkdir(parents=True)
    source.write_text("# Title\n\n{{ sampling.json: repeats }} times\n")
    monkeypatch.setattr(PAGES, "ROOT", tmp_path)
    monkeypatch.setattr(PAGES.charts, "PICTURES", {})
    monkeypatch.setattr(PAGES, "SOURCES", tmp_path / "pages")
    ((page, text),) = PAGES.stale()
    assert (
        page == tmp_path / "a" / "b.md" and text.startswith("# Title\n\n<!-- Made by") and re.search(r"\d times", text)
    )
    page.parent.mkdir()
    page.write_text(text)
    assert PAGES.stale() == []
    monkeypatch.setattr(PAGES.charts, "PICTURES", {"c.svg": lambda: "<svg/>"})
    assert PAGES.stale() == [(tmp_path / "docs" / "pictures" / "c.svg", "<svg/>")]


def test_docstrings_become_markdown():
    pytest.importorskip("griffe", reason="the extra docs is not installed")
    markdown = _load(DOCS / "_build" / "docstrings.py").markdown
    text = "A table::\n\n===== ====\na     b c\n===== ====\nx     y\n===== ====\n\nrows, [a][b]"
    assert markdown(text) == (
        "A table:\n\n\n```text\n===== ====\na     b c\n===== ====\nx     y\n===== ====\n```\n\nrows, [a]\\[b]"
    )
    assert markdown("two == 2, or three") == "two == 2, or three"


REFERENCE = _load(DOCS / "_build" / "reference.py")


@pytest.mark.parametrize("page", REFERENCE.PAGES)
def test_every_public_name_is_in_the_reference(page):
    room = REFERENCE.PAGES[page]
    module = importlib.import_module(f"nas_bo.{room}" if room else "nas_bo")
    text = REFERENCE.completed((DOCS / "reference" / f"{page}.md").read_text(), room)
    missing = set(getattr(module, "__all__", ())) - REFERENCE.written(text) - {"NasBoError"}  # all errors are there
    if page == "search":
        missing -= REFERENCE.written((DOCS / "reference" / "space.md").read_text())
    assert not missing, f"not in docs/reference/{page}.md: {sorted(missing)}"


def test_a_name_that_nobody_wrote_down_is_added():
    text = REFERENCE.completed("::: nas_bo.report.page\n", "report")
    assert "::: nas_bo.report.picture.picture\n" in text and "::: nas_bo.report.page.page" not in text
    assert REFERENCE.completed(text, "report") == text


def test_pages_say_nothing_of_where_they_were_written():
    for path in [*DOCS.rglob("*.md"), ROOT / "mkdocs.yml"]:
        assert not re.search(r"/tmp/|/work/|/root/|/home/", path.read_text()), path.name


def test_every_command_is_in_the_reference():
    import typer.main

    from nas_bo.cli.app import app

    text = _load(DOCS / "_build" / "commands.py").rendered()

    def walk(command, typed):
        for name, sub in getattr(command, "commands", {}).items():
            yield from walk(sub, f"{typed} {name}")
        if not hasattr(command, "commands"):
            yield typed, command

    found = dict(walk(typer.main.get_command(app), "nas-bo"))
    assert set(re.findall(r"^## (.+)$", text, re.M)) == set(found)
    for typed, command in found.items():
        section = text.split(f"## {typed}\n")[1].split("\n## ")[0]
        for parameter in command.params:
            if parameter.name != "help":
                words = [*parameter.opts, parameter.name.upper()]
                assert any(f"`{word}`" in section for word in words), f"{typed} {parameter.name}"
