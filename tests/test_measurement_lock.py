"""Measuring and training of sibling workers: real processes, real locks, a real kill."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import time

import pytest
import torch

from nas_bo import measurement_lock

SPAWN = multiprocessing.get_context("spawn")


def trains(folder, steps, stop) -> None:
    measurement_lock.join(folder)
    with measurement_lock.working() as step:
        while not stop.is_set():
            step()
            steps.append(time.monotonic())
            time.sleep(0.002)


def measures(folder, inside, seconds) -> None:
    measurement_lock.join(folder)
    with measurement_lock.alone():
        inside.append(time.monotonic())
        time.sleep(seconds)
        inside.append(time.monotonic())


@pytest.fixture
def team(tmp_path):
    with SPAWN.Manager() as manager:
        steps, inside, stop = manager.list(), manager.list(), manager.Event()
        trainer = SPAWN.Process(target=trains, args=(tmp_path, steps, stop))
        trainer.start()
        until(lambda: len(steps) > 3)
        yield tmp_path, steps, inside
        stop.set()
        trainer.join(600)
        assert trainer.exitcode == 0


def until(what, seconds=600.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_no_step_is_taken_while_a_sibling_measures_and_then_they_go_on(team):
    folder, steps, inside = team
    measurer = SPAWN.Process(target=measures, args=(folder, inside, 0.3))
    measurer.start()
    measurer.join()
    begun, ended = inside
    until(lambda: steps[-1] > ended)
    assert not [at for at in steps if begun < at < ended]
    assert any(at < begun for at in steps)


def test_a_measurer_that_is_killed_holds_nobody_back(team):
    folder, steps, inside = team
    measurer = SPAWN.Process(target=measures, args=(folder, inside, 60.0))
    measurer.start()
    until(lambda: len(inside) == 1)
    time.sleep(0.05)
    before = len(steps)
    time.sleep(0.1)
    assert len(steps) <= before + 1
    os.kill(measurer.pid, signal.SIGKILL)
    until(lambda: len(steps) > before + 3)


def test_outside_of_workers_nothing_is_held(tmp_path):
    with measurement_lock.working() as step, measurement_lock.alone():
        step()
    measurement_lock.join(tmp_path)
    try:
        with (
            measurement_lock.working(),
            measurement_lock.working() as step,
            measurement_lock.alone(),
        ):  # within a training: it would wait for itself
            step()
        with measurement_lock.alone():
            pass
    finally:
        measurement_lock.leave()


def test_the_device_has_done_its_work_before_a_sibling_measures(tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append(measurement_lock._gate._depth))
    measurement_lock.join(tmp_path)
    try:
        with measurement_lock.working() as step:
            step()
        assert waited == [0]
    finally:
        measurement_lock.leave()


def test_looking_costs_two_calls_of_the_system(tmp_path, monkeypatch):
    """Microseconds, counted: between two steps of a training nothing is waited for, opened or read."""
    measurement_lock.join(tmp_path)
    calls = []
    flock = fcntl.flock
    try:
        with measurement_lock.working() as step:
            monkeypatch.setattr(fcntl, "flock", lambda *a: (calls.append(a), flock(*a)))
            for name in ("open", "stat", "listdir"):
                monkeypatch.setattr(os, name, None)
            for _ in range(10):
                step()
            monkeypatch.undo()
        assert len(calls) == 20
    finally:
        measurement_lock.leave()
