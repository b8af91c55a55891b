"""One pass along a path of a supernet that says what every other operation would have changed: the derivative of the loss
with respect to one-hot gates between the operations of every block (straight-through gates, Bengio et al. 2013,
arXiv 1308.3432; of a supernet: Dong and Yang 2019, arXiv 1910.04465)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nas_bo.model.spec import DecoderSpec
from nas_bo.supernet.mixture import PARTS
from nas_bo.supernet.weights import Supernet


def swaps(
    net: Supernet,
    tokens: Tensor,
    targets: Tensor,
    path: DecoderSpec,
    blocks: Sequence[Mapping[str, Sequence[object]]],
    exits: Sequence[DecoderSpec],
    leave: int,
) -> tuple[Tensor, Tensor]:
    """The losses of a path at several depths, and the change of one of them for every operation of every block to first order.

    With x + sum_o gate_o * block_o(x) in every block, and the gate of the path's own operation 1 and all others 0, the
    derivative with respect to gate_o is the inner product of block_o(x) and the gradient of the loss there. Operations off
    the path are computed forward only; the weights get no gradient. Not for parallel decoders.

    Args:
        net: the shared weights.
        tokens, targets: (B, T).
        path: the decoder of the path, as deep as the deepest exit.
        blocks: for every layer the blocks (`LayerSpec` fields) that may be there, by "mixer" and "mlp".
        exits: decoders whose last norm and head make the logits after so many layers, in the order of their depths.
        leave: the number of the exit whose loss is differentiated.

    Returns:
        (exits,) nats per token; and the derivatives, of all blocks of all layers in turn, 0 in layers above the exit.

    Raises:
        ModelError: a decoder is parallel, or outside of what the supernet covers.
    """
    depth = len(exits[leave].layers)
    losses: list[Tensor] = [torch.empty(0)] * len(exits)
    flat = targets.flatten()
    probes: list[Tensor] = []
    outputs: list[list[Tensor]] = []
    x = net.embed(tokens, path).detach()

    def look(after: int) -> None:
        for number, spec in enumerate(exits):
            if len(spec.layers) == after:
                with torch.set_grad_enabled(number == leave):
                    logits = net.logits(x, spec).flatten(0, 1)
                    losses[number] = F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), flat)

    look(0)
    for index in range(len(path.layers)):
        if index == depth:
            x = x.detach()
        for part in PARTS:
            own = path.layers[index].slot(part)
            with torch.set_grad_enabled(index < depth):
                y, _ = net.branch(x, index, part, path, net.context(tokens, path))
                if index < depth:
                    probe = torch.zeros_like(x, requires_grad=True)
                    probes.append(probe)
                    outputs.append(
                        [
                            y.detach() if one == own else _output(net, tokens, x, index, part, path, one)
                            for one in blocks[index][part]
                        ]
                    )
                    y = y + probe
                x = x + y
        look(index + 1)
    if depth and losses[leave].requires_grad:
        gradients = torch.autograd.grad(losses[leave], probes)
        found = [(torch.stack(ys) * g).flatten(1).sum(1) for ys, g in zip(outputs, gradients, strict=True)]
    else:
        found = []
    above = sum(len(layer[part]) for layer in blocks[depth:] for part in PARTS)
    changes = torch.cat([*found, x.new_zeros(above)])
    return torch.stack([loss.detach() for loss in losses]), changes


@torch.no_grad()
def _output(
    net: Supernet, tokens: Tensor, x: Tensor, index: int, part: str, path: DecoderSpec, block: object
) -> Tensor:
    """What a block adds to the stream at that place (B, T, C)."""
    layer = path.layers[index]._replace(**{part: block})
    other = path._replace(layers=(*path.layers[:index], layer, *path.layers[index + 1 :]))
    return net.branch(x.detach(), index, part, other, net.context(tokens, other))[0]
