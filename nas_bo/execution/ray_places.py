"""Places of a Ray cluster (`nas_bo.elsewhere`): a resource that a node was started with, and a worker there that measures.

One worker for each place of an executor, on one node, which does one thing at a time. The process that searches starts it; workers
find it by its name.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass

from nas_bo.errors import SearchError

SHARE = 0.001  # of the resource: what measures does not take a place from what trains there
WAIT_S = 600.0  # for the worker of a place


@dataclass(frozen=True)
class Places:
    """How the places of an executor are reached: `nas_bo.elsewhere.Reach`.

    Args:
        token: of the executor.
    """

    token: str

    def name(self, place: str) -> str:
        return f"nas_bo-{self.token}-{place}"

    def __call__(self, place: str, function: Callable[..., object], *arguments: object) -> object:
        import ray

        from nas_bo.execution.ray import dumps

        try:
            worker = ray.get_actor(self.name(place))
            raised, found = pickle.loads(ray.get(worker.call.remote(dumps((function, arguments)))))
        except (ValueError, ray.exceptions.RayError) as error:
            raise SearchError(
                f"what is to be measured on {place!r} cannot be: its worker, or its node, has died ({str(error).strip().splitlines()[0]})"
            ) from error
        if raised:
            raise found
        return found


def start(place: str, node: str, token: str, arguments: tuple[str, ...], runtime_env: dict[str, object]) -> object:
    """The worker of a place, on a node; it lives as long as what this returns is kept."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from nas_bo.execution.ray_worker import Evaluator

    made = ray.remote(Evaluator).options(
        name=Places(token).name(place), num_cpus=0, resources={place: SHARE}, max_restarts=3, max_task_retries=3,
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


__all__ = ["Places", "start"]
