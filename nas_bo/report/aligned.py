"""Cells under each other, as a terminal shows them: letters that take two places, such as those of Chinese, count as two."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.cells import cell_len


def aligned(rows: Sequence[Sequence[str]], right: Collection[int] = (), rule: bool = False) -> list[str]:
    """A line for each row; the columns in `right` end together, the others begin together.

    Args:
        rule: a line of dashes below the first.
    """
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]

    def padded(i: int, cell: str) -> str:
        space = " " * (widths[i] - cell_len(cell))
        return space + cell if i in right else cell + space

    lines = ["  ".join(padded(i, cell) for i, cell in enumerate(row)).rstrip() for row in rows]
    return [*lines[:1], "  ".join("-" * w for w in widths), *lines[1:]] if rule else lines
