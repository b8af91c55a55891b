"""The pages that have figures or the text of other files: made from `docs/_build/pages/`, and committed, so that they can be read as they are.

    python docs/_build/pages.py            writes README.md and the pages of docs/ that are stale
    python docs/_build/pages.py --check    names them, and exits with 1

`docs/_build/pages/README.md.in` becomes `README.md`, `docs/_build/pages/docs/benchmarks.md.in` `docs/benchmarks.md`; what may be in such a
file, see `figures.py`. Pictures of results in `docs/pictures/` are drawn by `charts.py`. Links and pictures are those of the page: they begin where it lies.

As a hook of MkDocs: a build fails where a page is stale, and pictures of `benchmarks/results/` are copied into the site.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import charts
import figures

sys.path.pop(0)

ROOT = Path(__file__).parents[2]
SOURCES = Path(__file__).parent / "pages"
PICTURE = re.compile(r"(?:\.\./)+benchmarks/results/([\w.-]+\.png)")
LEFT = re.compile(r"\{\{.*?\}\}|^--8<--.*$", re.M | re.S)


def page_of(source: Path) -> Path:
    """The page that a source becomes."""
    return ROOT / source.relative_to(SOURCES).with_suffix("")


def made(source: Path) -> str:
    """The text of its page. Raises figures.NoFigure: what it asks for is not there."""
    try:
        title, _, rest = figures.rendered(source.read_text()).partition("\n")
    except figures.NoFigure as error:
        raise figures.NoFigure(f"{source.relative_to(ROOT).as_posix()}: {error}") from error
    return f"{title}\n\n<!-- Made by docs/_build/pages.py: edit {source.relative_to(ROOT).as_posix()} instead. -->\n{rest}"


def pages() -> Iterator[tuple[Path, str]]:
    """(page or picture, its text as it has to be)."""
    for source in sorted(SOURCES.rglob("*.md.in")):
        yield page_of(source), made(source)
    for name, drawn in charts.PICTURES.items():
        yield ROOT / "docs" / "pictures" / name, drawn()


def stale() -> list[tuple[Path, str]]:
    """The pages that have another text."""
    return [(page, text) for page, text in pages() if not page.exists() or page.read_text() != text]


def on_pre_build(**_: Any) -> None:
    from mkdocs.exceptions import PluginError

    try:
        old = [page.relative_to(ROOT).as_posix() for page, _text in stale()]
    except figures.NoFigure as error:
        raise PluginError(str(error)) from error
    if old:
        raise PluginError(f"stale: {', '.join(old)}. `python docs/_build/pages.py` makes them again")


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File

    for picture in sorted(figures.RESULTS.glob("*.png")):
        files.append(File.generated(config, f"results/{picture.name}", abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    up = "../" * page.file.src_uri.count("/")
    return PICTURE.sub(rf"{up}results/\1", markdown)


def main() -> int:
    old = stale()
    for page, text in old:
        print(page.relative_to(ROOT))
        if "--check" not in sys.argv[1:]:
            page.write_text(text)
    return int(bool(old) and "--check" in sys.argv[1:])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except figures.NoFigure as error:
        sys.exit(str(error))
