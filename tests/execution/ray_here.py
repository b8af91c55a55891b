"""A Ray cluster of raylets on this machine, for tests and benchmarks: it starts however busy the machine is.

Ray gives its agents fifteen seconds and the node thirty. Where more processes want to run than there are processors that is not enough,
so the ports that a raylet waits for are written down before it starts, and who asks for the node waits longer.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

PATIENCE_S = 600.0
PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")


class Raylets:
    """The nodes of a cluster; `address` is that of its head."""

    def __init__(self, folder: str) -> None:
        from ray.cluster_utils import Cluster

        self._cluster, self._folder = Cluster(), folder

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add(self, cpus: float, **resources: float) -> object:
        """Start a node; the first is the head."""
        own = {name: _free_port() for name in PORTS}
        head = (
            {}
            if self._cluster.head_node
            else {"no_monitor": True, "include_dashboard": False, "temp_dir": self._folder}
        )
        return self._cluster.add_node(num_cpus=cpus, resources=resources, include_log_monitor=False, **own, **head)

    def kill(self, node: object) -> None:
        """Like a machine that loses its power: the raylet ends at once, and its workers with it."""
        self._cluster.remove_node(node, allow_graceful=False)

    def shutdown(self) -> None:
        self._cluster.shutdown()


@contextmanager
def raylets() -> Iterator[Raylets]:
    """An empty cluster that is gone afterwards."""
    from ray._private import services, utils
    from ray._private.node import Node
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="nbr-", dir="/tmp")  # a short name: sockets lie in it
    start, get = Node.start_raylet, services.get_node

    def with_ports(node, *args, **options):
        for name in PORTS:
            with open(f"{node._session_dir}/{name}_{node._node_id}", "w") as file:
                file.write(str(vars(node._ray_params)[name]))
        return start(node, *args, **options)

    def patient(*args, **options):
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                return get(*args, **options)
            except RuntimeError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.3)

    with (
        mock.patch.dict(
            os.environ, {"RAY_worker_register_timeout_seconds": f"{PATIENCE_S:.0f}", "RAY_USAGE_STATS_ENABLED": "0"}
        ),
        mock.patch.object(Node, "start_raylet", with_ports),
        mock.patch.object(services, "get_node", patient),
        mock.patch.object(utils, "write_ray_address", lambda *_: None),  # nobody else's ray.init() is to find it
        mock.patch.object(Cluster._wait_for_node, "__defaults__", (PATIENCE_S,)),
    ):
        made = Raylets(folder)
        try:
            yield made
        finally:
            made.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as some:
        some.bind(("", 0))
        return int(some.getsockname()[1])
