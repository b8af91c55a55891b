"""A worker process of a Ray cluster, as it is seen from inside. Imports ray where it is used."""

from __future__ import annotations

import os
import pickle
import platform
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from nas_bo import elsewhere, process, temporary
from nas_bo.errors import SearchError
from nas_bo.execution import outcome_spool, process_tree
from nas_bo.execution.ray_places import Places
from nas_bo.execution.worker import answered
from nas_bo.measurement_lock import join
from nas_bo.problem import Problem
from nas_bo.safe_text import told

_own = temporary.Late("quiet")  # of this process, where the user has no folder
KEPT = 64  # problems: a validation has one for each objective


class Evaluator:
    """What a Ray actor of an executor is: evaluates what it is asked, and keeps the problems.

    Args:
        driver, gate: who drives it (`process.owner`), and its folder: its workers on the same machine share that (`nas_bo.measurement_lock`),
            and end when it is killed, without the seconds that Ray takes to notice, in which an evaluation would end for nobody.
        token: names the executor: its workers on another machine share a folder with this name there.
    """

    def __init__(self, driver: str, gate: str, token: str) -> None:
        process_tree.lead()
        process_tree.guard()
        here = process.parted(driver)[0] == platform.node() and Path(gate).is_dir() and not process.is_dead(driver)
        if here:
            threading.Thread(target=_follow, args=(driver,), daemon=True).start()
        self._problems: dict[str, Problem] = {}
        elsewhere.reached_by(Places(token))
        join(gate if here else _shared(token))

    def about(self) -> tuple[str, str, str]:
        """Which process this is, on which node, and the address of that."""
        import ray

        return process.owner(), str(ray.get_runtime_context().get_node_id()), str(ray.util.get_node_ip_address())

    def evaluate(self, arch: bytes, key: str, held: Sequence[object], judge: bytes, name: str) -> bytes:
        """The answer to an evaluation.

        Args:
            key, held: of the problem, and the objects of the store that it and what it has read are in: taken when it is new here.
            name: under which the outcome is kept on this machine.
        """
        return answered(pickle.loads(arch), lambda: (self._problem(key, held), pickle.loads(judge)), name)

    def call(self, asked: bytes) -> bytes:
        """Whether a call raised, and what it gave or raised: packed, as what is asked."""
        function, arguments = pickle.loads(asked)
        try:
            return pickle.dumps((False, function(*arguments)))
        except Exception as error:
            try:
                return pickle.dumps((True, error))
            except Exception:
                return pickle.dumps((True, SearchError(told(error))))

    def _problem(self, key: str, held: Sequence[object]) -> Problem:
        if key not in self._problems:
            import ray

            while len(self._problems) >= KEPT:
                del self._problems[next(iter(self._problems))]
            for one in held[1:]:
                elsewhere.give(*ray.get(one))
            self._problems[key] = pickle.loads(ray.get(held[0]))
        return self._problems[key]


def _follow(driver: str) -> None:
    process.wait_for(driver)
    outcome_spool.finish_writing()
    process_tree.end_all()


def _shared(token: str) -> Path:
    """The folder of this executor's workers on this machine. It says that it is of the node, so that a later process removes it when that
    has ended."""
    inside = temporary.private()
    if inside is None:
        return Path(_own.name)
    folder = inside / f"nas-bo-quiet-{token}"
    folder.mkdir(exist_ok=True)
    with suppress(OSError), (folder / temporary.OWNER).open("x") as note:
        note.write(process.parent())
    return folder


def look() -> Callable[[bytes, Sequence[object]], dict[str, object]]:
    """A function that says what a node has, to be sent there as it is: what it needs of nas_bo may differ there, or not be there.

    It gives host, time, versions, and "trouble": why the problem cannot be used there.
    """

    def looked(sent: bytes, carried: Sequence[object]) -> dict[str, object]:
        import pickle
        import platform
        import time

        found: dict[str, object] = {
            "host": platform.node(),
            "time": time.time(),
            "versions": {},
            "conditions": {},
            "trouble": "",
        }
        try:
            from nas_bo.provenance import versions

            found["versions"] = versions(("nas_bo", "torch"))

            import ray

            from nas_bo import elsewhere

            for one in carried:
                elsewhere.give(*ray.get(one))
            found["conditions"] = pickle.loads(sent).conditions()
        except Exception as error:
            found["trouble"] = f"{type(error).__name__}: {error}"
        return found

    return looked


def end(who: str, grace_s: float = 0.0, answered: Callable[[], bool] = lambda: False) -> None:
    """End a process of this machine (as `process.owner` says it) with all that it has started; where it has `grace_s` seconds it is asked
    first, and ended when it has `answered`."""
    _, pid = process.parted(who)
    if pid is None or process.is_dead(who):
        return
    tree, until = process_tree.Tree.of(pid), time.monotonic() + grace_s
    if grace_s:
        with suppress(OSError):
            os.kill(pid, signal.SIGTERM)
    while not (process.is_dead(who) or answered() or time.monotonic() > until):
        time.sleep(process.LOOK_EVERY_S)
    tree.kill()
