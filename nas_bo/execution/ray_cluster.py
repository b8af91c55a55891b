"""A Ray cluster, as a search needs it: reached, looked at before the first trial, and found fit or refused in one paragraph."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from nas_bo.elsewhere import MeasuresHere
from nas_bo.errors import MissingExtra, SearchError
from nas_bo.execution.ray_worker import look
from nas_bo.problem import Problem
from nas_bo.provenance import versions
from nas_bo.wording import counted

CONNECT_S = 10.0  # until an address answers
LOOK_S = 180.0  # until every node has answered: a new process loads torch, on a machine that may be busy
CLOCK_S = 5.0  # by which the clock of a node may differ before a warning names it

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Node:
    """A node of the cluster that is alive; several may run on one machine.

    Attributes:
        id: as `ray list nodes` shows it.
        address: IP address of its machine.
        has: name of a resource -> how much of it there is in all; CPU, GPU, and those that its owner named.
    """

    id: str
    host: str
    has: Mapping[str, float]
    address: str = ""

    @property
    def called(self) -> str:
        """What messages name: a host may have several nodes."""
        return " ".join(filter(None, (self.host, self.id[:8], self.address and f"at {self.address}")))

    def holds(self, needs: Mapping[str, float]) -> int:
        """How many workers with these needs it can hold."""
        return min((int(self.has.get(name, 0.0) / amount + 1e-9) for name, amount in needs.items()), default=0)

    def __str__(self) -> str:
        plain = {
            k: v for k, v in self.has.items() if not k.startswith(("node:", "accelerator_type:")) and "memory" not in k
        }
        return (
            f"{self.called} ({', '.join(f'{name} {amount:g}' for name, amount in sorted(plain.items())) or 'nothing'})"
        )


def check_installed() -> None:
    """Raises MissingExtra."""
    if find_spec("ray") is None:
        raise MissingExtra("ray", "ray")


def connect(address: str | None, runtime_env: Mapping[str, object] | None) -> bool:
    """Make this process a driver of the cluster. Returns whether it was none before, so that it is to be left in the end.

    Raises:
        SearchError: there is no cluster at the address, or it does not take this process.
    """
    import ray

    if ray.is_initialized():
        return False
    _check_answers(address or os.environ.get("RAY_ADDRESS") or "")
    more: dict[str, object] = {} if runtime_env is None else {"runtime_env": dict(runtime_env)}
    if address is None and not os.environ.get("RAY_ADDRESS"):
        more["include_dashboard"] = False
    try:
        ray.init(address=address, logging_level=logging.WARNING, **more)
    except Exception as error:
        where = (
            "a local Ray cannot be started"
            if address is None
            else f"no Ray cluster can be reached there (address={address!r})"
        )
        raise SearchError(
            f"Ray(): {where}: {_first(error)}. Start one with `ray start --head` on one machine and `ray start --address=...` on the others, "
            "with the same Python and the same version of ray as here; or leave the address out, for a Ray of this machine alone"
        ) from error
    return True


def _check_answers(address: str) -> None:
    """Ray itself tries for minutes, with many lines of its own, where nobody is there."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except OSError as error:
        raise SearchError(
            f"Ray(address={address!r}): nobody answers there ({error}). Give the address that `ray start --head` printed and `ray status` "
            "knows, 'auto' for the cluster of this machine, or leave it out for a Ray of this machine alone"
        ) from error


def nodes() -> list[Node]:
    """Those that are alive."""
    import ray

    return [
        Node(
            str(one["NodeID"]), str(one["NodeManagerHostname"]), dict(one["Resources"]), str(one["NodeManagerAddress"])
        )
        for one in ray.nodes()
        if one["Alive"]
    ]


def is_dead(node: str) -> bool:
    """Whether the cluster knows that a node has died."""
    return node not in {one.id for one in nodes()}


def fit(needs: Mapping[str, float]) -> list[Node]:
    """The nodes that can hold a worker with these needs.

    Raises:
        SearchError: none can, so that the first trial would wait forever.
    """
    found = nodes()
    able = [node for node in found if node.holds(needs)]
    if not able:
        asked = ", ".join(f"{name} {amount:g}" for name, amount in needs.items())
        raise SearchError(
            f"Ray(): no node of the cluster has what a worker needs ({asked}), so that the first trial would wait forever. There are: "
            f"{'; '.join(map(str, found[:8]))}{'; ...' if len(found) > 8 else ''}. Ask for less (num_cpus, num_gpus, resources), or start "
            "a node that has it, as with `ray start --address=... --resources='{\"pi5\": 1}'`"
        )
    return able


def place(name: str) -> Node:
    """The node on which what is about `name` is measured: the same one each time.

    Raises:
        SearchError: none was started with this resource.
    """
    found = nodes()
    able = sorted((node for node in found if node.has.get(name, 0.0) > 0), key=lambda node: (node.host, node.id))
    if not able:
        raise SearchError(
            f"on={name!r}: no node of the cluster was started with the resource {name!r}. There are: {'; '.join(map(str, found[:8]))}. Start one "
            f"with `ray start --address=... --resources='{{\"{name}\": 1}}'` on the machine that is to measure"
        )
    return able[0]


def apart(problem: Problem, able: Sequence[Node]) -> list[str]:
    """The machines on which something may be measured, where there is more than one."""
    hosts = sorted({node.host for node in able})
    measured = any(isinstance(one, MeasuresHere) and one.measures_here for one in problem.evaluated())
    return hosts if measured and len(hosts) > 1 else []


def most(needs: Mapping[str, float], able: Sequence[Node]) -> int:
    """How many workers find room now, next to what others run; at least one."""
    import ray

    free = Node("", "", ray.available_resources())
    return max(1, min(free.holds(needs), sum(node.holds(needs) for node in able)))


def check(problem: Problem, held: bytes, carried: Sequence[object], able: Sequence[Node]) -> None:
    """Look at the problem on every node on which it may be evaluated.

    Args:
        held: the problem, packed.
        carried: what its objectives have read, in the object store.

    Raises:
        SearchError: a node has other versions of Python, nas_bo or torch, or cannot read what the objectives read, or reads something
            else; all such nodes in one paragraph.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=1)(look())
    begun, there = time.time(), ray.put(held)
    asked = {
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)).remote(
            there, list(carried)
        ): node
        for node in able
    }
    done, late = ray.wait(list(asked), num_returns=len(asked), timeout=LOOK_S)
    ended = time.time()
    expected = problem.conditions()
    own = versions(("nas_bo", "torch"))
    wrong = []
    for reference in done:
        node = asked[reference]
        try:
            found = ray.get(reference)
        except Exception as error:
            wrong.append(f"{node.called}: no process can be started there ({_first(error)})")
            continue
        wrong += [f"{node.called}: {one}" for one in _differs(found, own, expected)]
        apart = max(begun - found["time"], found["time"] - ended)
        if apart > CLOCK_S:
            _log.warning(
                "the clock of %s differs from the one here by %.0f s: ages of its files are wrong by that; let both follow a time server (NTP)",
                node.called,
                apart,
            )
    if late:
        names = ", ".join(sorted(asked[one].called for one in late))
        _log.warning(
            "%s did not answer within %.0f s and could not be looked at (%s)", counted(len(late), "node"), LOOK_S, names
        )
    if wrong:
        raise SearchError(
            f"Ray(): {counted(len(wrong), 'thing')} would make trials fail, or their values differ from node to node. "
            + "; ".join(wrong[:6])
            + ("; ..." if len(wrong) > 6 else "")
            + ". Install the same versions on all nodes (or give runtime_env), keep data where all of them read it under the same path, or "
            "leave such nodes out with a resource that the others have"
        )


def _differs(
    found: Mapping[str, object], own: Mapping[str, str], expected: Mapping[str, Mapping[str, object]]
) -> list[str]:
    """What is wrong with a node, in words."""
    there, conditions = found["versions"], found["conditions"]
    assert isinstance(there, Mapping) and isinstance(conditions, Mapping)
    other = []
    for name, here in own.items():
        has = there.get(name)
        if has is None and name == "nas_bo":
            other.append(f"nas_bo cannot be imported there ({found['trouble']})")
        elif has is not None and _public(has, name) != _public(here, name):
            other.append(f"it has {name} {has}, this machine {here}")
    if other:
        return other
    if found["trouble"]:
        return [f"the problem cannot be read there ({found['trouble']})"]
    for name, here_ in expected.items():
        text = conditions.get(name, {}).get("sha256")
        if here_.get("sha256") != text:
            return [
                f"the text of {name} is another one there than here (sha256 {text} instead of {here_.get('sha256')})"
            ]
    return []


def _public(version: str, name: str) -> str:
    """What must be equal: of Python the first two numbers, of others all but the build."""
    return ".".join(version.split(".")[:2]) if name == "python" else version.partition("+")[0]


def _first(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
