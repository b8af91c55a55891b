"""Damaged files, lines and command lines: each is read, or refused by one error of nas_bo, and nothing else happens.

The seeds are the same in every run. `python -m tests.fuzz.run --minutes 2` tries as many as there is time for, from another `--seed`.
"""

from __future__ import annotations

import os

import pytest

from tests.fuzz.files import targets, tried

COUNT = int(os.environ.get("NAS_BO_FUZZ", 300)) // 10
KINDS = (
    "weights", "arch.json", "model.json", "checkpoint", "supernet", "tokenizer", "config.json", "gguf", "lines", "recipe", "command",
    "database", "journal",
)  # fmt: skip


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    before = os.getcwd()
    os.chdir(folder)
    yield targets(folder)
    os.chdir(before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_read_or_refused(kind, kinds):
    assert set(kinds) == set(KINDS)
    wrong = {seed: why for seed in range(COUNT) if (why := tried(kinds[kind], seed))}
    assert not wrong, wrong
