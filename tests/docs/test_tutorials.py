"""The tutorials run as they stand."""

from __future__ import annotations

import pytest

from tests.docs.blocks import ROOT, program, run

TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_code(page, tmp_path):
    done = run(page, tmp_path)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-3000:]


def test_they_are_programs():
    assert {page.stem for page in TUTORIALS} == {"optuna", "ax", "device", "trained"}
    for page in TUTORIALS:
        assert program(page.read_text()).count("\n") > 20, page.name
