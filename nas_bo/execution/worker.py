"""A worker process, as it is seen from inside: evaluates what it is sent until nobody is there to send."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection

from nas_bo.architecture import Architecture
from nas_bo.execution import gpus, outcome_spool, process_tree
from nas_bo.execution.executor import evaluate, failed
from nas_bo.execution.worker_warnings import Ear, Heard, hearing, sendable
from nas_bo.measurement_lock import join
from nas_bo.objective import Judge
from nas_bo.problem import Problem
from nas_bo.safe_text import told
from nas_bo.trial import Trial


def packed(problem: Problem, arch: Architecture, judge: Judge | None, name: str = "") -> bytes:
    """An evaluation to send. What may be unreadable elsewhere is packed by itself, so that it is one failed trial."""
    return pickle.dumps((arch, name, pickle.dumps((problem, judge))))


def unpacked(answer: bytes) -> tuple[Trial, list[Heard]]:
    """What a worker answered: the trial, and what it warned of."""
    found: tuple[Trial, list[Heard]] = pickle.loads(answer)
    return found


def work(connection: Connection, gate: str, sees: str | None = None) -> None:
    """Say that it has begun, then answer whatever comes.

    Args:
        sees: the GPUs that this process may use, in the form of CUDA_VISIBLE_DEVICES; None for those of its driver.

    Ctrl-C goes to the whole process group, but only the driver decides what to do; when the driver is killed, so is this.
    With more than one worker none measures while another trains.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sees is not None:
        os.environ[gpus.VISIBLE] = sees  # before CUDA is asked for anything
    process_tree.lead()
    threading.Thread(target=_follow, daemon=True).start()
    join(gate)
    connection.send_bytes(b"")
    while True:
        try:
            asked = connection.recv_bytes()
        except (EOFError, OSError):
            return
        connection.send_bytes(_answer(asked))


def _follow() -> None:
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        outcome_spool.finish_writing()
        process_tree.end_all()


def _answer(asked: bytes) -> bytes:
    arch, name, sent = pickle.loads(asked)
    return answered(arch, lambda: pickle.loads(sent), name)


def answered(arch: Architecture, read: Callable[[], tuple[Problem, Judge | None]], name: str = "") -> bytes:
    """What a worker answers to an evaluation: see `unpacked`. Nothing that goes wrong with it is raised.

    Args:
        read: gives what is to be evaluated, and may fail.
        name: under which the outcome is kept until it is stored (`nas_bo.execution.outcome_spool`); "" is not at all.
    """
    if (before := outcome_spool.found(name, arch)) is not None:
        return before
    with hearing(ear := Ear()):
        outcome = _evaluated(arch, read)
    with outcome_spool.writing:
        try:
            answer = pickle.dumps((outcome, sendable(ear.heard)))
        except Exception as error:  # an objective's `info` may hold anything
            return pickle.dumps((failed(arch, f"what it gave cannot be sent back: {told(error)}"), []))
        outcome_spool.keep(name, outcome, answer)
    return answer


def _evaluated(arch: Architecture, read: Callable[[], tuple[Problem, Judge | None]]) -> Trial:
    try:
        problem, judge = read()
    except Exception as error:
        text = f"{told(error)}; define space and objectives at the top level of a module"
        return failed(arch, f"the problem cannot be read in a worker process: {text}")
    try:
        return evaluate(problem, arch, judge)
    except KeyboardInterrupt as error:  # not of the keyboard, which does not reach here
        return failed(arch, told(error))
