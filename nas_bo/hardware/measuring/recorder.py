"""Recording what torch dispatches: operations with their FLOPs and bytes, and the peak of storages alive at once.

`FlopCounterMode` of torch leaves out the fused attention of CPUs, in torch 2.13 also on the meta device without gradients;
here it counts as every other attention does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from nas_bo.hardware.measuring.memory_measure import StorageTracker
from nas_bo.hardware.measuring.meta_operations import read, recall, remember
from nas_bo.hardware.workload import Work

if TYPE_CHECKING:
    from torch._ops import OpOverload, OpOverloadPacket


class Recorder(StorageTracker):  # type: ignore[no-untyped-call]
    """A dispatch mode. To be used without gradients or under autograd, not in inference mode, where composite operations
    reach it in one piece and their FLOPs are not known.

    Args:
        weights: parameters and buffers of the model; reading them counts as weights, and they count in `peak`.
    """

    def __init__(self, weights: Iterable[torch.Tensor]) -> None:
        super().__init__()
        held = list(weights)
        self.watch(held)
        self._weights = {id(one) for one in held}
        self._seen: Counter[tuple[str, int, int, int]] = Counter()
        self._long: list[Work] = []

    def works(self) -> tuple[Work, ...]:
        """The operations so far; equal ones are added up, which no sum over operations sees."""
        return (
            *self._long,
            *(
                Work(name, name, n * flops, n * weights, n * activations, 0, n)
                for (name, flops, weights, activations), n in self._seen.items()
            ),
        )

    def shorten(self, model: torch.nn.Module) -> None:
        """Run recurrent layers of `model` for three tokens instead of all: what they do is linear in the number of tokens, and
        thousands of small operations take torch a second to dispatch. Their activations are not in `peak` then."""
        for module in model.modules():
            if isinstance(module, torch.nn.RNNBase) and not module.proj_size:
                module.forward = partial(self._recurrent, module)

    def _recurrent(self, module: torch.nn.RNNBase, x: object, state: object = None) -> object:
        whole = type(module).forward
        along = 1 if module.batch_first else 0
        if not isinstance(x, torch.Tensor) or x.dim() != 3 or x.shape[along] <= 3:
            return whole(module, x, state)
        length, seen, totals = x.shape[along], self._seen, []
        for steps in (2, 3):
            self._seen = Counter()
            y, last = whole(module, x.narrow(along, 0, steps), state)
            done = [(n, n * f, n * w, n * a) for (_, f, w, a), n in self._seen.items()]
            totals.append([sum(column) for column in zip(*done, strict=True)])
        kernels, flops, weights, activations = (
            two + (length - 2) * (three - two) for two, three in zip(*totals, strict=True)
        )
        self._seen = seen
        self._long.append(Work("recurrent", "recurrent", flops, weights, activations, 0, kernels))
        shape = list(y.shape)
        shape[along] = length
        return y.new_empty(shape), last

    def __torch_dispatch__(
        self, func: OpOverload, types: object, args: Sequence[Any] = (), kwargs: Mapping[str, object] | None = None
    ) -> object:
        given = kwargs or {}
        if func.is_view:
            made = func(*args, **given)
            self.watch(tree_leaves(made))
            return made
        key, inputs = read(func, args, given)
        known = recall(key)
        made = func(*args, **given) if known is None else known.again(args)
        outputs = [one for one in tree_leaves(made) if isinstance(one, torch.Tensor)]
        self.watch(outputs)
        packet = func._overloadpacket
        flops = _flops(packet, args, given, made) if known is None else known.flops
        if key is not None and known is None:
            remember(key, func, args, inputs, made, flops)
        weights = activations = 0
        for one in inputs:
            if id(one) in self._weights or (one._base is not None and id(one._base) in self._weights):
                weights += _bytes(one)
            else:
                activations += _bytes(one)
        activations += sum(_bytes(one) for one in outputs)
        self._seen[str(packet).removeprefix("aten."), flops, weights, activations] += 1
        return made


def _flops(packet: OpOverloadPacket, args: Sequence[Any], given: Mapping[str, object], made: object) -> int:
    if packet in flop_registry:
        return int(flop_registry[packet](*args, **given, out_val=made))
    name = str(packet)
    if "scaled_dot_product" in name and "backward" not in name:  # that of CPUs, which meta may take as well
        query, key, value = (one.shape for one in args[:3])
        grouped = (*query[:2], *key[2:])
        count: Any = sdpa_flop_count  # untyped in torch
        return int(count(query, grouped, (*query[:2], *value[2:])))
    if "rnn_layer" in name:  # oneDNN's recurrent layers: two matrices, used at every token
        rows = args[0].numel() // args[0].shape[-1]
        return int(2 * rows * (args[1].numel() + args[2].numel()))
    return 0


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()
