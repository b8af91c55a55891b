"""Check a built site: `python .ci/check_site.py site`. Every link and anchor inside it leads somewhere, nothing is loaded from
another host, and no figure was left unrendered. Prints what is wrong, and exits with 1."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src"), ("object", "data")}
NOT_LOADED = {"canonical", "prev", "next", "alternate"}  # links of a head that a browser does not follow


class Page(HTMLParser):
    """The anchors of a page, what it links to and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self._code = 0
        self.prose: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        self._code += tag in ("code", "pre", "script")
        for name in ("href", "src", "data"):
            if given.get(name) and not (tag == "link" and given.get("rel") in NOT_LOADED):
                (self.loads if (tag, name) in LOADED else self.links).append(given[name])

    def handle_endtag(self, tag: str) -> None:
        self._code -= tag in ("code", "pre", "script")

    def handle_data(self, data: str) -> None:
        if not self._code:
            self.prose.append(data)


def problems(site: Path) -> list[str]:
    """What is wrong with the site, a line each."""
    pages = {path.resolve(): Page(path.read_text()) for path in sorted(site.rglob("*.html"))}
    found = [] if pages else [f"{site}: there are no pages"]
    for path, page in pages.items():
        if path.name == "404.html":  # its addresses are those of a site at the root of a server
            continue
        name = path.relative_to(site.resolve())
        for target in page.loads:
            if urlsplit(target).netloc:
                found.append(f"{name}: loads {target}")
        for target in (*page.links, *page.loads):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            place = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            place = place / "index.html" if place.is_dir() else place
            if not place.exists():
                found.append(f"{name}: {target} leads nowhere")
            elif parts.fragment and place in pages and unquote(parts.fragment) not in pages[place].anchors:
                found.append(f"{name}: {target} has no such anchor")
        found += [f"{name}: {left} was not rendered" for left in re.findall(r"\{\{.*?\}\}", "".join(page.prose))]
    for sheet in sorted(site.rglob("*.css")):
        for target in re.findall(r"url\(['\"]?(https?:[^)'\"]+)", sheet.read_text()):
            found.append(f"{sheet.relative_to(site)}: loads {target}")
    return found


if __name__ == "__main__":
    lines = problems(Path(sys.argv[1]))
    print("\n".join(lines) or "every link leads somewhere, nothing comes from another host")
    sys.exit(bool(lines))
