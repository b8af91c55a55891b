"""Text in a terminal that is narrower than it: sentences are folded between words, and the cells of tables within their columns."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Sequence

RULE = re.compile(r"-+(?:  -+)+")  # below the head of a table
LAST = re.compile(r"(.*\S)? {2,}(\S.*)")  # a line, and its last column
HANGING = 28  # columns that are left for what begins below itself; else it begins at the left
COMMAND = "nas-bo "  # copied from the terminal as it stands


def folded(text: str, wide: int | None = None) -> str:
    """The text in lines that a terminal of `wide` columns, by default this one, does not break within words; addresses, commands
    and JSON stay as they are."""
    wide = max(20, shutil.get_terminal_size().columns if wide is None else wide)
    lines, found, at = text.split("\n"), list[str](), 0
    while at < len(lines):
        end = at
        if RULE.fullmatch("".join(lines[at + 1 : at + 2])):
            end = next((i for i in range(at + 2, len(lines)) if not lines[i].strip()), len(lines))
            found += _table(lines[at:end], wide)
        else:
            found += _line(lines[at], wide)
        at = max(end, at + 1)
    return "\n".join(found)


def _line(line: str, wide: int) -> list[str]:
    if len(line) <= wide or line.lstrip().startswith(("{", "[", '"')):
        return [line]
    parts = LAST.fullmatch(line)
    if parts is None or not (parts[1] or "").strip():
        indent = line[: len(line) - len(line.lstrip())]
        return [line] if line.strip().startswith(COMMAND) else _wrapped(line.strip(), wide, indent, indent)
    first, last = line[: parts.start(2)], parts[2]
    if last.startswith(COMMAND):
        return [line]
    if last.startswith(f"({COMMAND}"):
        return [first.rstrip(), " " * min(9, len(first)) + last]
    if wide - len(first) >= HANGING:
        return _wrapped(last, wide, first, " " * len(first))
    return [*_line(first.rstrip(), wide), *_wrapped(last, wide, "    ", "    ")]


def _wrapped(text: str, wide: int, first: str, rest: str) -> list[str]:
    return textwrap.wrap(
        text, wide, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def _table(lines: Sequence[str], wide: int) -> list[str]:
    """A table with a rule below its head: heads are folded first, then the cells of words."""
    spans = [(m.start(), m.end()) for m in re.finditer("-+", lines[1])]
    if max(map(len, lines)) <= wide or not all(line.isascii() or "…" in line or "±" in line for line in lines):
        return list(lines)
    rows = [[line[a:b] for a, b in spans] for line in (lines[0], *lines[2:])]
    right = [any(row[i].startswith(" ") for row in rows) for i in range(len(spans))]
    rows = [[cell.strip() for cell in row] for row in rows]
    widths = [
        max([max(map(len, head.split(" "))), *(len(row[i]) for row in rows[1:])]) for i, head in enumerate(rows[0])
    ]
    over = sum(widths) + 2 * (len(widths) - 1) - wide
    words = [max(len(word) for row in rows for word in row[i].split(" ")) for i in range(len(widths))]
    least = [
        w if any("±" in row[i] for row in rows) else words[i] for i, w in enumerate(widths)
    ]  # an interval stays whole
    while over > 0 and widths != least:
        at = max(range(len(widths)), key=lambda i: widths[i] - least[i])
        cut = min(over, max(1, (widths[at] - least[at]) // 2))
        widths[at], over = widths[at] - cut, over - cut
    gap = " " if over > 0 else "  "
    found = []
    for row in rows:
        cells = [
            textwrap.wrap(cell, w, break_long_words=False, break_on_hyphens=False) or [""]
            for cell, w in zip(row, widths, strict=True)
        ]
        high = max(map(len, cells))
        for line in zip(
            *(
                [""] * (high - len(cell)) + cell if row is rows[0] else cell + [""] * (high - len(cell))
                for cell in cells
            ),
            strict=True,
        ):
            found.append(
                gap.join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True)).rstrip()
            )
        if row is rows[0]:
            found.append(gap.join("-" * w for w in widths))
    return found
