"""Measuring and training of sibling workers: real processes, real locks, a real kill."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time

import pytest
import torch

from nas_bo.model import quiet

SPAWN = multiprocessing.get_context("spawn")


def trains(folder, steps, stop) -> None:
    quiet.join(folder)
    with quiet.working() as step:
        while not stop.is_set():
            step()
            steps.append(time.monotonic())
            time.sleep(0.002)


def measures(folder, inside, seconds) -> None:
    quiet.join(folder)
    with quiet.alone():
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
        trainer.join(10)
        assert trainer.exitcode == 0


def until(what, seconds=20.0) -> None:
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
    with quiet.working() as step, quiet.alone():
        step()
    quiet.join(tmp_path)
    try:
        with quiet.working(), quiet.working() as step, quiet.alone():  # within a training: it would wait for itself
            step()
        with quiet.alone():
            pass
    finally:
        quiet.leave()


def test_the_device_has_done_its_work_before_a_sibling_measures(tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append(quiet._gate._depth))
    quiet.join(tmp_path)
    try:
        with quiet.working() as step:
            step()
        assert waited == [0]
    finally:
        quiet.leave()


def test_looking_costs_microseconds(tmp_path):
    quiet.join(tmp_path)
    try:
        with quiet.working() as step:
            start = time.process_time()
            for _ in range(1_000):
                step()
            assert (time.process_time() - start) / 1_000 < 100e-6
    finally:
        quiet.leave()
