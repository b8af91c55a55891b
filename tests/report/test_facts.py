"""The facts at the end of a report, in words."""

from __future__ import annotations

import pytest

from nas_bo.report.page import _facts


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("as it is", "as it is"),
        ({"python": "3.11", "dirty": True, "inner": {"n": 2}}, "python 3.11, dirty yes, inner (n 2)"),
        ([1, None, False], "1, none, no"),
        ({}, "none"),
        ([], "none"),
        ("<b>", "&lt;b&gt;"),
    ],
)
def test_facts_are_words(value, said):
    assert _facts({"what": value}) == f"<dl><dt>what<dd>{said}</dl>"
