"""Who a process is, and whether it lives."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from nas_bo.process import is_dead, owner


def test_this_process_lives_and_what_cannot_be_known_is_not_called_dead():
    assert not is_dead(owner())
    for who in ("elsewhere:1:1", "", "nonsense", "asked", f"{platform.node()}:x:1"):
        assert not is_dead(who)


def test_one_that_ended_is_dead_and_so_is_one_whose_number_was_given_again():
    child = subprocess.run(
        [sys.executable, "-c", "from nas_bo.process import owner; print(owner())"], capture_output=True, text=True
    )
    assert is_dead(child.stdout.strip())
    node, number, _ = owner().rsplit(":", 2)
    assert is_dead(f"{node}:{number}:1")


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="only Linux tells")
def test_one_that_its_parent_has_not_noticed_yet_is_dead():
    """It has a number until its parent asks for it, and ends nothing that it has begun."""
    child = subprocess.Popen(
        [sys.executable, "-c", "from nas_bo.process import owner; print(owner(), flush=True)"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        who = child.stdout.read().strip()  # until it ends
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has, and nobody was told
        assert is_dead(who)
    finally:
        child.wait()
