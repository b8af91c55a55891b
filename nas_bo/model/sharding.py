"""How the processes that train one decoder share it: torch's FSDP2 (Zhao et al. 2023, arXiv 2304.11277; `torch.distributed.fsdp.fully_shard`).

Each process keeps a part of every weight, of its gradient and of the optimiser's moments, and computes on its own rows of a batch. The
weights of a layer are put together while it is computed. All processes see the same mean losses, and so decide alike.
"""

from __future__ import annotations

from typing import Protocol, TypeVar, cast

import torch
from torch import Tensor

from nas_bo.model.decoder import Decoder

S = TypeVar("S")


class Sharing(Protocol):
    """What a run asks of those that compute it.

    Attributes:
        first: whether this process is the one that writes files and says how far it is.
    """

    @property
    def first(self) -> bool: ...

    def rows(self, batches: Tensor) -> Tensor:
        """Those of this process, of batches (steps, B, T + 1)."""

    def means(self, losses: list[float]) -> list[float]:
        """The means over all processes."""

    def agreed(self, here: bool) -> bool:
        """What the first one says."""

    def whole(self, state: S) -> S:
        """The same with whole tensors, on the CPU, where processes have parts; nested dicts and lists."""

    def parts(self, whole: S, like: object) -> S:
        """The inverse of `whole`: parts where `like` has them."""


class Alone:
    """One process that has it all."""

    first = True

    def rows(self, batches: Tensor) -> Tensor:
        return batches

    def means(self, losses: list[float]) -> list[float]:
        return losses

    def agreed(self, here: bool) -> bool:
        return here

    def whole(self, state: S) -> S:
        return state

    def parts(self, whole: S, like: object) -> S:
        return whole


ALONE = Alone()


class Shard:
    """One of several processes, each with a device of its own. torch.distributed has been started in it, with gloo for the CPU.

    Args:
        device: of this process; "cpu" where there is no GPU.
    """

    def __init__(self, device: torch.device) -> None:
        from torch import distributed
        from torch.distributed.device_mesh import init_device_mesh

        self._rank, self._count, self.device = distributed.get_rank(), distributed.get_world_size(), device
        self._mesh = init_device_mesh(device.type, (self._count,))
        self.first = self._rank == 0

    def split(self, model: Decoder) -> None:
        """Leave this process its part of every weight, on its device."""
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        for layer in model.layers:
            fully_shard(layer, mesh=self._mesh)
        fully_shard(model, mesh=self._mesh)
        register_fsdp_forward_method(model, "loss")

    def rows(self, batches: Tensor) -> Tensor:
        return batches.chunk(self._count, dim=1)[self._rank]

    def means(self, losses: list[float]) -> list[float]:
        from torch import distributed

        both = torch.tensor(losses, dtype=torch.float64)
        distributed.all_reduce(both)
        found: list[float] = (both / self._count).tolist()
        return found

    def agreed(self, here: bool) -> bool:
        from torch import distributed

        said = torch.tensor(int(here))
        distributed.broadcast(said, src=0)
        return bool(said)

    def whole(self, state: S) -> S:
        from torch.distributed.tensor import DTensor

        found: object = state
        if isinstance(state, dict):
            found = {name: self.whole(part) for name, part in state.items()}
        elif isinstance(state, list):
            found = [self.whole(part) for part in state]
        elif isinstance(state, DTensor):
            found = state.full_tensor().cpu()
        elif isinstance(state, Tensor):
            found = state.cpu()
        return cast(S, found)

    def parts(self, whole: S, like: object) -> S:
        from torch.distributed.tensor import DTensor, distribute_tensor

        found: object = whole
        if isinstance(whole, dict):
            there = like if isinstance(like, dict) else {}
            found = {name: self.parts(part, there.get(name)) for name, part in whole.items()}
        elif isinstance(whole, Tensor) and isinstance(like, DTensor):
            found = distribute_tensor(whole.to(self.device), like.device_mesh, like.placements)
        return cast(S, found)
