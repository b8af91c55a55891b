"""Outcomes that lie near the worker until they are stored: whoever continues after a driver was killed is given them.

A worker writes what came of an evaluation before it answers, and looks before it evaluates; so what had ended when its driver was killed is not
evaluated a second time, where a worker of the same machine is given it again. The files lie in a folder of this user alone, so that they may be
pickles. Nothing depends on them: where they cannot be written or read, it is evaluated again. A power cut may take them.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import threading
import time
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from nas_bo import temporary
from nas_bo.architecture import Architecture
from nas_bo.objective import spec_of
from nas_bo.problem import Problem
from nas_bo.provenance import versions
from nas_bo.study import plain
from nas_bo.trial import State, Trial

FOLDER = "outcomes"
OLDEST_S = 7 * 86400.0  # what is older was left where nobody continues, or lies on another machine than its driver
MOST_BYTES = 64 * 2**20  # of all; the oldest go first
SWEEP_EVERY = 256  # outcomes of a process
WRITE_S = 2.0  # that a process waits for before it ends with its driver

writing = threading.Lock()  # held from the end of an evaluation until its file is there, see `finish_writing`
_since_sweep = 0


class Names:
    """Under which names the outcomes of a study are kept: equal in every process that continues it, and in no other study.

    Args:
        study: an id that no other study has; "" of one that nobody continues.
        more: what has to be the same in the next call in addition to the problem, such as the stopping.
    """

    def __init__(self, study: str, more: str = "") -> None:
        self._study, self._more = study, more
        self._problems: dict[int, tuple[Problem, str]] = {}

    def of(self, phase: str, key: Hashable, problem: Problem, arch: Architecture) -> str:
        """The name; "" where the study has no id, so that nothing is kept.

        Args:
            phase: what the evaluation is for; the same architecture is evaluated as a trial and trained again.
        """
        if not self._study:
            return ""
        known = self._problems.get(id(problem))
        if known is None:
            known = self._problems[id(problem)] = (problem, self._described(problem))
        return _digest(self._study, phase, key, arch.id, known[1])

    def _described(self, problem: Problem) -> str:
        proxies = [asdict(spec_of(one)) for one in problem.proxies]
        told = (
            problem.conditions(),
            [asdict(c) for c in problem.columns],
            problem.constraint_names,
            proxies,
            problem.staged,
        )
        return _digest(json.dumps(told, sort_keys=True, default=plain), self._more, versions(("nas_bo",)))


def _digest(*parts: object) -> str:
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:40]


def found(name: str, arch: Architecture) -> bytes | None:
    """What was kept under `name` about `arch`, packed (`nas_bo.execution.worker.unpacked`); None where nothing was, or it cannot be read."""
    file = _file(name)
    if file is None:
        return None
    try:
        answer = file.read_bytes()
        outcome: Trial = pickle.loads(answer)[0]
        if outcome.architecture.id == arch.id:
            return answer
    except FileNotFoundError:
        return None
    except Exception:  # a power cut leaves empty files
        pass
    remove(name)
    return None


def keep(name: str, outcome: Trial, answer: bytes) -> None:
    """Keep a packed outcome; not one that failed, since the end that it is kept for may be the reason."""
    global _since_sweep
    file = None if outcome.state is State.FAILED else _file(name)
    if file is None:
        return
    with suppress(OSError), temporary.whole(file) as draft:  # a full disk must not cost the evaluation
        draft.write_bytes(answer)
    if _since_sweep % SWEEP_EVERY == 0:
        sweep(file.parent)
    _since_sweep += 1


def finish_writing() -> None:
    """For who ends this process since its driver has died: what has come to its end is written first."""
    writing.acquire(timeout=WRITE_S)


def remove(name: str) -> None:
    """It is stored now, where it counts."""
    if (file := _file(name)) is not None:
        with suppress(OSError):
            file.unlink()


def sweep(folder: Path) -> None:
    """Remove what is too old, and of too much the oldest."""
    ages: list[tuple[float, int, Path]] = []
    with suppress(OSError):
        for path in folder.iterdir():
            with suppress(OSError):
                about = path.stat()
                ages.append((time.time() - about.st_mtime, about.st_size, path))
    total = 0
    for age, size, path in sorted(ages):
        total += size
        if age > OLDEST_S or total > MOST_BYTES:
            with suppress(OSError):
                path.unlink()


def _file(name: str) -> Path | None:
    own = temporary.private() if name else None
    return None if own is None else own / FOLDER / name
