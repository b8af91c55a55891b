"""What is trained when a process is asked to end continues where it was, in the next one; and what holds a signal back."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import nullcontext

import pytest

from nas_bo import search
from nas_bo.cli.failure import leave_at_once
from nas_bo.execution.interrupts import terminable, whole
from nas_bo.preemption import deferred
from nas_bo.search_spaces import TinyGPT
from nas_bo.strategies import Random
from nas_bo.trial import State
from tests.execution.preempted import STEPS, Preempted

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGTERM: POSIX only")


def continued(tmp_path, checkpoints, **where):
    """A search that is asked to end in the middle of its first training, and its continuation."""
    asked = {
        "strategy": Random(seed=0),
        "trials": 2,
        "retrain": 0,
        "baseline": None,
        "storage": str(tmp_path / "s.db"),
        **where,
    }
    objective = Preempted(str(tmp_path), checkpoints, os.getpid())
    objective.text()
    first = search(TinyGPT, [objective], **asked)
    assert first.interrupted and not first.trials
    found = search(TinyGPT, [objective], **asked)
    assert [t.state for t in found.trials] == [State.COMPLETE] * 2
    return found.trials


@pytest.mark.parametrize("ctrl_c", [signal.default_int_handler, signal.SIG_IGN], ids=["heard", "ignored"])
def test_a_training_goes_on(ctrl_c, tmp_path):
    (tmp_path / "kept").mkdir()
    before = signal.signal(signal.SIGINT, ctrl_c)  # ignored: in what a script starts with `&`
    try:
        first, second = continued(tmp_path, str(tmp_path / "kept"))
    finally:
        signal.signal(signal.SIGINT, before)
    assert first.info["loss"]["resumed"] == 512 and second.info["loss"]["resumed"] == 0
    whole = Preempted(str(tmp_path), None, 0)(first.architecture)
    assert float(whole) == first.values["loss"]


@pytest.mark.slow  # processes that load torch
def test_a_training_of_a_worker_goes_on(tmp_path):
    (tmp_path / "kept").mkdir()
    first, _ = continued(tmp_path, str(tmp_path / "kept"), workers=2)
    assert 512 <= first.info["loss"]["resumed"] < STEPS * 512


@pytest.mark.parametrize(
    ("module", "ends"), [("ray._private.worker", True), ("ray._private.node", True), ("rayon", False)]
)
def test_a_handler_that_ray_has_set_does_not_end_what_is_to_be_kept(module, ends):
    """`ray.init()` sets one, and a node of Ray that is started in this process another; one of the program stays."""
    came = []

    def handler(number, frame):
        came.append(number)

    handler.__module__ = module
    before = signal.signal(signal.SIGTERM, handler)
    try:
        with terminable(), pytest.raises(KeyboardInterrupt) if ends else nullcontext():
            os.kill(os.getpid(), signal.SIGTERM)
        assert len(came) == (not ends) and signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("ctrl_c", [signal.default_int_handler, signal.SIG_IGN], ids=["heard", "ignored"])
def test_a_step_of_a_storage_is_whole(ctrl_c):
    before, steps = signal.signal(signal.SIGINT, ctrl_c), []
    try:
        with terminable(), pytest.raises(KeyboardInterrupt):
            with whole():
                os.kill(os.getpid(), signal.SIGTERM)
                steps.append("ended")
            steps.append("went on")
        with terminable(), pytest.raises(KeyboardInterrupt), whole():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)  # a second one does not wait
            pytest.fail("it was held back")
    finally:
        signal.signal(signal.SIGINT, before)
    assert steps == ["ended"]


def test_the_end_of_a_command_does_not_hear_a_ctrl_c_that_is_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        leave_at_once()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_holds_a_signal_back(monkeypatch):
    saved = []
    with terminable():
        with pytest.raises(KeyboardInterrupt), deferred(lambda: saved.append(1)) as leave_when_asked:
            leave_when_asked()
            os.kill(os.getpid(), signal.SIGTERM)
            assert not saved  # within a step
            leave_when_asked()
        assert saved == [1]
        with pytest.raises(KeyboardInterrupt), deferred(lambda: saved.append(2)):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)  # a second one does not wait
            pytest.fail("it was held back")
        with pytest.raises(KeyboardInterrupt), deferred(lambda: saved.append(3)):
            os.kill(os.getpid(), signal.SIGTERM)  # after the last step: nothing is left to be saved
        assert saved == [1]
        before = signal.getsignal(signal.SIGTERM)
        with deferred(None):
            assert signal.getsignal(signal.SIGTERM) is before
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert sys.exc_info() == (None, None, None)
