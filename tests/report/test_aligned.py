"""Tables of text stand under each other, whatever letters their names have."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from nas_bo.report import Proxy, trust
from nas_bo.report.digits import aligned


@pytest.mark.parametrize("name", ["loss", "損失", "perte\u0301", "потери"])
def test_columns_begin_or_end_together(name):
    rows = [["name", "value", "unit"], [name, "12.5", "ms"], ["longer than that", "3", ""]]
    head, rule, *lines = aligned(rows, right={1}, rule=True)
    assert cell_len(rule) == cell_len(head) == 16 + 2 + 5 + 2 + 4 and not {"-", " "} ^ set(rule)
    for line, row in zip(lines, rows[1:], strict=True):
        before, _, _ = line.rpartition(row[1])
        assert cell_len(before + row[1]) == 16 + 2 + 5 and line == line.rstrip()


def test_a_trust_table_stands_straight_under_a_wide_name():
    values = [3.0, 2.5, 2.7, 2.1, 2.0, 1.8]
    table = trust([Proxy("損失の推定", values), Proxy("plain", values)], values).table().split("\n")
    starts = {cell_len(line[: line.index("1.00")]) for line in table if "1.00" in line}
    assert len(starts) == 1
