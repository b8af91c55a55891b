"""Places of a Ray cluster (`nas_bo.elsewhere`): a resource that a node was started with, and a worker there that measures.

One worker for each place of an executor, on one node, which does one thing at a time. The process that searches starts it; workers
find it by its name.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass

from nas_bo.errors import SearchError
from nas_bo.execution.sendable import dumps


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
