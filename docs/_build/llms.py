"""MkDocs hook: `llms.txt` on the site, a list of its pages for language models (llmstxt.org), and `llms-full.txt`, the text of those that are not made of docstrings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HEAD = """\
# nas_bo

> Finds language-model architectures that are good and cheap on a given device. A Python library and a command, `nas-bo`; plugs into Optuna, Ax and MLflow.

Agents that run experiments: read "For coding agents" first. Every command prints JSON with `--json`.
"""


def entries(nav: list[Any], section: str = "") -> Iterator[tuple[str, str]]:
    """(section, page) of every page in the navigation, in its order."""
    for one in nav:
        for title, inner in one.items() if isinstance(one, dict) else [(section, one)]:
            if isinstance(inner, list):
                yield from entries(inner, title)
            else:
                yield section or "Pages", inner


def described(text: str) -> tuple[str, str]:
    """(title, first sentence) of a page."""
    text = re.sub(r"<!--.*?-->|^```.*?^```$", "", text, flags=re.S | re.M)
    title = re.search(r"^# (.+)$", text, re.M)
    paragraphs = [p for p in text.split("\n\n") if p.strip() and not re.match(r"\s*[#|`!:<*\-\d]", p)]
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(paragraphs[0].split())) if paragraphs else ""
    return (title[1] if title else ""), re.split(r"(?<=[.:]) ", plain)[0].rstrip(":")


def index(nav: list[Any], docs: Path) -> str:
    """The text of llms.txt."""
    lines, last = [HEAD], ""
    for section, page in entries(nav):
        if section != last:
            lines.append(f"\n## {section}\n" if last else f"## {section}\n")
            last = section
        title, about = described((docs / page).read_text())
        lines.append(f"- [{title or page}]({page.removesuffix('.md')}.html)" + (f": {about}" if about else ""))
    return "\n".join(lines) + "\n"


def whole(nav: list[Any], docs: Path) -> str:
    """The text of llms-full.txt."""
    texts = [(docs / page).read_text() for _, page in entries(nav)]
    return "\n\n".join(text for text in texts if "\n::: " not in text)


def on_post_build(config: Any) -> None:
    site, docs = Path(config["site_dir"]), Path(config["docs_dir"])
    (site / "llms.txt").write_text(index(config["nav"], docs))
    (site / "llms-full.txt").write_text(whole(config["nav"], docs))
