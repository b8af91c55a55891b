"""Evaluations on a Ray cluster: in actors, each a process that is used again for one evaluation after the other. Imports ray where it is
used.

Ray decides where an actor runs and which GPUs it sees (``CUDA_VISIBLE_DEVICES``); it restarts none and repeats nothing, which is done
here. A problem, and the text that its objectives have read here, are sent once and lie in the object store of each node; what a trial sends is
its architecture and its judge.
"""

from __future__ import annotations

import logging
import pickle
import platform
import re
import threading
import time
import uuid
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from nas_bo import elsewhere, process, temporary
from nas_bo.architecture import Architecture
from nas_bo.errors import SearchError
from nas_bo.execution import ray_cluster, ray_places, ray_worker
from nas_bo.execution.executor import check_not_importing
from nas_bo.execution.processes import TIMEOUT
from nas_bo.execution.sendable import dumps, why_not
from nas_bo.execution.team import END_WITHIN_S, Ending, Overdue, Team
from nas_bo.objective import Judge
from nas_bo.problem import Problem
from nas_bo.validated import Check, check_values, number, whole_number

SHARE = 0.001  # of the resource of a place: what measures there does not take a place from what trains
WAIT_S = 600.0  # for the worker of a place
ROOM_S = 120.0  # of waiting for room, before a warning
PING_S = 30.0  # until a worker without work answers
CUT_OFF_S = 90.0  # until it is known what became of a worker that cannot be reached
LOOK_EVERY_S = 0.5

clock = time.monotonic
_log = logging.getLogger(__name__)

NEEDS = Check(
    "a mapping of names of resources to amounts above 0, such as {'pi5': 1}",
    lambda value: (
        isinstance(value, Mapping) and all(isinstance(k, str) and number(above=0).holds(v) for k, v in value.items())
    ),
).or_none()


@dataclass(frozen=True)
class Work:
    """An evaluation: architecture and judge, packed, where the problem is, and the name under which the outcome is kept."""

    arch: bytes
    judge: bytes
    key: str
    held: Sequence[object]
    name: str


@dataclass(frozen=True)
class _Asked:
    """What a worker is to have."""

    needs: Mapping[str, float]
    runtime_env: Mapping[str, object] | None

    def environment(self) -> dict[str, object]:
        return {} if self.runtime_env is None else {"runtime_env": dict(self.runtime_env)}

    def options(self) -> dict[str, object]:
        """As Ray takes them."""
        own = {name: amount for name, amount in self.needs.items() if name not in ("CPU", "GPU")}
        return {
            "num_cpus": self.needs.get("CPU", 0), "num_gpus": self.needs.get("GPU", 0), "resources": own,
            "max_restarts": 0, "max_task_retries": 0, "enable_task_events": False, **self.environment(),
        }  # fmt: skip


@dataclass
class _Here:
    """What of the cluster this process holds: given back when the executor is closed."""

    connected: bool = False  # this process became a driver by it
    workers: int = 0
    folder: temporary.Late = field(default_factory=lambda: temporary.Late("quiet"))
    places: dict[str, object] = field(default_factory=dict)  # the workers that measure in them
    sent: dict[int, tuple[Problem, str, Sequence[object]]] = field(default_factory=dict)
    carried: dict[Hashable, object] = field(default_factory=dict)  # what objectives have read, in the object store


class Ray(Team[Work]):
    """Evaluations on a Ray cluster (extra `ray`), in workers that stay: imports, text and data are loaded once in each.

    A worker that dies costs at most its evaluation, which is tried once more. What was evaluated on a node that died is tried elsewhere,
    and counts as failed when three nodes died of it. Before the first trial every node is looked at: versions, data, clock. Spaces and
    objectives of a script or a notebook are sent with their code; those of a module are imported, so that nodes must have it
    (`runtime_env`).

    Args:
        address: of the head as `ray start --head` prints it, "auto" for the cluster of this machine; None is what ``ray.init()`` means by
            that: the cluster of ``RAY_ADDRESS`` or of this machine, else a new one of this machine alone. Where this process is a driver
            already, it is that cluster.
        workers: how many; None is as many as find room when the first is needed. It is part of the seed: say it for a search that is to
            be the same another time.
        num_cpus, num_gpus: of each worker. A worker without a GPU sees none. Parts of a GPU are allowed.
        resources: others of each worker, by the names that nodes were started with.
        runtime_env: as Ray takes it: packages, files and environment variables of the workers.
        timeout: seconds that an evaluation may take; None for any time. A search with a `timeout` of its own sets it.

    Raises:
        MissingExtra: ray is not installed.
        SearchError: an argument is not what it must be. Whether there is a cluster is seen when a call first needs it.
    """

    alone: ClassVar[bool] = False
    ahead: ClassVar[bool] = True

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        num_cpus: float = 1,
        num_gpus: float = 0,
        resources: Mapping[str, float] | None = None,
        runtime_env: Mapping[str, object] | None = None,
        timeout: float | None = None,
    ) -> None:
        some = number(at_least=0)
        check_values("Ray", SearchError, whole_number(1).or_none(), workers=workers)
        check_values("Ray", SearchError, some, num_cpus=num_cpus, num_gpus=num_gpus)
        check_values("Ray", SearchError, NEEDS, resources=resources)
        check_values("Ray", SearchError, TIMEOUT, timeout=timeout)
        needs = {
            name: amount for name, amount in {"CPU": num_cpus, "GPU": num_gpus, **(resources or {})}.items() if amount
        }
        if not needs:
            raise SearchError(
                "Ray(num_cpus=0): a worker that needs nothing fits any number of times; give num_cpus, num_gpus or resources"
            )
        ray_cluster.check_installed()
        check_not_importing("Ray")
        super().__init__(timeout)
        self.address, self._workers, self._asked = address, workers, _Asked(needs, runtime_env)
        self._token, self._here = uuid.uuid4().hex[:12], _Here()

    def __repr__(self) -> str:
        where = "" if self.address is None else repr(self.address)
        return f"Ray({where})"

    @property
    def workers(self) -> int:
        if self._workers is not None:
            return self._workers
        if not self._here.workers:
            self._connect()
            needs = self._asked.needs
            self._here.workers = ray_cluster.most(needs, ray_cluster.fit(needs))
        return self._here.workers

    @property
    def gate(self) -> str:
        """Of the workers on this machine, and of this process."""
        return self._here.folder.name

    def check_problem(self, problem: Problem) -> None:
        """Raises SearchError where the problem cannot be sent, no node can hold a worker, or one would evaluate something else."""
        self._connect()
        asked, given = elsewhere.gpus_needed(problem.evaluated()), self._asked.needs.get("GPU", 0)
        if asked > given:
            raise SearchError(
                f"Ray(num_gpus={given:g}): an objective trains each candidate on {asked} GPUs (gpus_per_trial), and a worker has fewer; give "
                f"Ray(num_gpus={asked})"
            )
        able = ray_cluster.fit(self._asked.needs)
        room = sum(node.holds(self._asked.needs) for node in able)
        if self._workers is not None and self._workers > room:
            _log.warning(
                "Ray(workers=%d): the cluster has room for %d; the others wait until a node comes", self._workers, room
            )
        try:
            held = dumps(problem)
        except Exception as error:
            raise SearchError(
                f"{self!r} needs a space and objectives that can be sent to other machines, and this cannot: "
                f"{why_not(problem, dumps) or error}. Make it where it is used, in a method, or define it at the top level of a module"
            ) from error
        places = sorted(
            {one.on for one in problem.evaluated() if isinstance(one, elsewhere.Placed) and one.on is not None}
        )
        at = {place: ray_cluster.place(place) for place in places}
        looked_at = list({node.id: node for node in (*able, *at.values())}.values())
        ray_cluster.check(problem, held, self._carried(problem), looked_at)
        if hosts := ray_cluster.apart(problem, able):
            _log.warning(
                "%s: each trial is measured on the machine on which it runs, one of %s, and machines that differ give values that do not "
                "compare; give on= (a resource that one of them was started with), or resources= to keep the workers on machines that are alike",
                ", ".join(
                    o.name for o in problem.evaluated() if isinstance(o, elsewhere.MeasuresHere) and o.measures_here
                ),
                ", ".join(hosts),
            )
        for place, node in at.items():
            if place not in self._here.places:
                arguments = (process.owner(), self.gate, self._token)
                self._here.places[place] = _start(place, node.id, self._token, arguments, self._asked.environment())
        elsewhere.reached_by(ray_places.Places(self._token))

    def _connect(self) -> None:
        if not self._here.connected:
            self._here.connected = ray_cluster.connect(self.address, self._asked.runtime_env)

    # ---- what a team asks of its kind ------------------------------------------------------------------------------

    def _count(self) -> int:
        return self.workers

    def _packed(self, problem: Problem, arch: Architecture, judge: Judge | None, name: str) -> Work:
        key, held = self._held(problem)
        return Work(pickle.dumps(arch), dumps(judge), key, held, name)

    def _held(self, problem: Problem) -> tuple[str, Sequence[object]]:
        """The key of a problem, and where it lies in the object store; put there once."""
        known = self._here.sent.get(id(problem))
        if known is None:
            packed = dumps(problem)
            self._connect()
            import ray

            known = problem, uuid.uuid4().hex, [ray.put(packed), *self._carried(problem)]
            self._here.sent[id(problem)] = known
        return known[1:]

    def _carried(self, problem: Problem) -> list[object]:
        """Where in the object store lies what the objectives have read, each with its name; put there once."""
        import ray

        found: dict[Hashable, object] = {}
        for one in problem.evaluated():
            if isinstance(one, elsewhere.Carries):
                found |= one.carried()
        here = self._here.carried
        here |= {name: ray.put((name, what)) for name, what in found.items() if name not in here}
        return [here[name] for name in found]

    def _started(self, place: int) -> _Child:
        return _Child(self._asked, self.gate, self._token)

    def _cannot_start(self, how: str) -> str:
        return (
            f"no worker can be started on the Ray cluster ({how}). Look at `ray status` and at the logs of the node; what a worker needs: "
            f"{', '.join(f'{name} {amount:g}' for name, amount in self._asked.needs.items())}"
        )

    def _closed(self) -> None:
        here, self._here = self._here, _Here()
        if here.places:
            elsewhere.reached_by(None)
            import ray

            for worker in here.places.values():
                with suppress(Exception):  # the cluster may be gone
                    ray.kill(worker)
        here.folder.remove()
        if here.connected:
            import ray

            ray.shutdown()


class _Actor(Protocol):
    """Of ray: the handle of an `Evaluator`."""

    about: _Method
    evaluate: _Method


class _Method(Protocol):
    def remote(self, *arguments: object) -> _Reference: ...


class _Reference(Protocol):
    def future(self) -> Future[object]: ...


class _Child:
    """A worker, as it is seen from here. Its own process has nothing to do with the pending one until `ready`."""

    def __init__(self, asked: _Asked, gate: str, token: str) -> None:
        import ray

        self._woken = threading.Event()
        self._to_end = False
        self._evaluation: _Reference | None = None  # an evaluation that it has not answered yet
        self._grace_s = 0.0  # between the request to end, and the end
        self._error: Exception | None = None
        self.place: process.Place | None = None
        self._who = self._node = ""
        self._own = str(ray.get_runtime_context().get_node_id())  # of this process
        self._needs = ", ".join(f"{name} {amount:g}" for name, amount in asked.needs.items())
        made = ray.remote(ray_worker.Evaluator).options(**asked.options())
        self._actor: _Actor = made.remote(process.owner(), gate, token)

    def ready(self) -> None:
        asked, said = self._actor.about.remote(), False
        while True:
            try:
                found = self._said(asked, None if said else ROOM_S)
                break
            except Overdue:
                said = True
                _log.warning(
                    "a worker has waited %.0f s for room on the Ray cluster, or for its libraries to load (it needs %s); see `ray status` for who has it",
                    ROOM_S,
                    self._needs,
                )
        assert isinstance(found, tuple)
        self._who, self._node, address = found
        host, pid = process.parted(self._who)
        self.place = process.Place(self._node, host, address, pid or 0)

    def answer(self, work: Work, limit: float | None) -> bytes:
        self._evaluation = self._actor.evaluate.remote(work.arch, work.key, list(work.held), work.judge, work.name)
        found = self._said(self._evaluation, limit)
        self._evaluation = None
        assert isinstance(found, bytes)
        return found

    def lives(self) -> bool:
        if self._to_end:
            return False
        try:
            self._said(self._actor.about.remote(), PING_S)
        except Exception:
            return False
        return True

    def terminate(self, grace_s: float = END_WITHIN_S) -> None:
        self._to_end, self._grace_s = True, grace_s if grace_s > END_WITHIN_S else 0.0
        self._woken.set()

    def end(self, wait_s: float = END_WITHIN_S) -> Ending:
        import ray

        found = Ending("it was ended") if self._error is None else self._became(self._error)
        with suppress(Exception):  # the cluster may be gone, and with it what is to end
            if not ray.is_initialized():  # any further call would start another Ray
                return found
            if self._evaluation is not None and not found.of_machine:
                self._end_tree(self._evaluation)
            ray.kill(self._actor, no_restart=True)
        return found

    def _said(self, reference: _Reference, limit: float | None) -> object:
        """What comes of a call. Raises `Overdue`, EOFError where it is to end, and whatever Ray says about one that died."""
        woken = self._woken = threading.Event()
        until = None if limit is None else clock() + limit
        future = reference.future()
        future.add_done_callback(lambda _: woken.set())
        while not (future.done() or self._to_end):
            left = LOOK_EVERY_S if until is None else min(LOOK_EVERY_S, until - clock())
            if left <= 0:
                raise Overdue(limit or 0.0)
            woken.wait(left)
        if not future.done():
            raise EOFError
        try:
            return future.result()
        except Exception as error:
            self._error = error
            raise

    def _became(self, error: Exception) -> Ending:
        """Whether a worker died, or its node. One that cannot be reached is asked after until the cluster knows."""
        from ray.exceptions import ActorUnavailableError

        until = clock() + CUT_OFF_S
        while True:
            if self._to_end:
                return Ending("it was ended")
            if self._node and _quiet(lambda: ray_cluster.is_dead(self._node)):
                return self._of_node("its node has died, or cannot be reached any more")
            if not isinstance(error, ActorUnavailableError):
                died = "node has died" in str(error) or "its node" in str(error)
                return self._of_node("its node has died") if died else Ending(_how(error))
            if clock() > until:
                return Ending("its node cannot be reached", of_machine=True)
            try:
                self._said(self._actor.about.remote(), LOOK_EVERY_S)
                return Ending("the connection to its node was cut", of_machine=True)
            except Exception as later:
                error = error if isinstance(later, Overdue) else later
                time.sleep(LOOK_EVERY_S)

    def _of_node(self, how: str) -> Ending:
        if self._node == self._own:
            how = "so did the Ray node of this process, which Ray ends now; the same call continues"
        return Ending(how, of_machine=True)

    def _end_tree(self, asked: _Reference) -> None:
        """End the process with all that it has started: from here where it is on this machine, else by another worker of its node. A request
        to end may leave the process, where it ends the evaluation alone."""
        if process.parted(self._who)[0] == platform.node():
            ray_worker.end(self._who, self._grace_s, asked.future().done)
            return
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(self._node, soft=False)
        task = ray.remote(num_cpus=0, max_retries=0)(ray_worker.end).options(scheduling_strategy=there)
        ray.wait([task.remote(self._who, self._grace_s), asked], timeout=self._grace_s + 5 * END_WITHIN_S)


def _start(place: str, node: str, token: str, arguments: tuple[str, ...], runtime_env: dict[str, object]) -> object:
    """The worker of a place, on a node; it lives as long as what this returns is kept."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    made = ray.remote(ray_worker.Evaluator).options(
        name=ray_places.Places(token).name(place), num_cpus=0, resources={place: SHARE}, max_restarts=3, max_task_retries=3,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False), **runtime_env,
    )  # fmt: skip
    worker = made.remote(*arguments)
    try:
        ray.get(worker.about.remote(), timeout=WAIT_S)
    except ray.exceptions.RayError as error:
        raise SearchError(
            f"no worker can be started on the node that has {place!r}, to measure there: {str(error).strip().splitlines()[0]}"
        ) from error
    kept: object = worker
    return kept


def _quiet(ask: Callable[[], bool]) -> bool:
    try:
        return ask()
    except Exception:  # the head does not answer
        return False


def _how(error: Exception) -> str:
    """What Ray says about the end of a worker, in one sentence."""
    text = " ".join(str(error).split())
    if "connection error code 2" in text:
        return (
            "it ended without a word: out of memory, killed from outside, a crash in native code, or an exit of its own"
        )
    if "low on memory" in text or type(error).__name__ == "OutOfMemoryError":
        return "its node was short of memory, so Ray ended it"
    found = re.search(r"exit type: (\w+)[,. ]*Worker exit detail: (.{1,160}?)(?:\. |$)", text)
    return f"{found[2]} ({found[1]})" if found else text[:240]
