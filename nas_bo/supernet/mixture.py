"""One pass through a supernet in which layers are mixtures of operations: the relaxed network of DARTS (Liu et al. 2019,
arXiv 1806.09055, equation 2), in a residual stream, with a loss at several depths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nas_bo.model.blocks.skip import absent
from nas_bo.model.decoder import BALANCE
from nas_bo.model.spec import DecoderSpec
from nas_bo.supernet.weights import Supernet

Options = Sequence[tuple[Tensor, DecoderSpec]]
"""The options of one block: (weight, a scalar on the device; a decoder that has the option at that place)."""

PARTS = ("mixer", "mlp")


def mixed_losses(
    net: Supernet,
    tokens: Tensor,
    targets: Tensor,
    layers: Sequence[Mapping[str, Options]],
    exits: Sequence[DecoderSpec],
) -> tuple[Tensor, Tensor]:
    """The losses of a mixed network at several depths.

    Layer i adds sum_o weight_o * block_o(x) to the stream, first for the options of its mixer, then for those of its
    mlp. Options of equal block are computed once. All decoders are of one width and not parallel.

    Args:
        net: the shared weights.
        tokens, targets: (B, T).
        layers: for every layer the options of "mixer" and of "mlp".
        exits: decoders, in the order of their depths, whose last norm and head make the logits after so many layers.

    Returns:
        (exits,) nats per token, and the weighted balance losses of mixtures of experts, a scalar to be added in
        training.

    Raises:
        ModelError: a decoder is parallel, or outside of what the supernet covers.
    """
    x = net.embed(tokens, exits[0])
    contexts: dict[DecoderSpec, object] = {}
    losses: list[Tensor] = []
    balance = x.new_zeros(())
    flat = targets.flatten()

    def leave(depth: int) -> None:
        for spec in exits:
            if len(spec.layers) == depth:
                logits = net.logits(x, spec).flatten(0, 1)
                losses.append(F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), flat))

    leave(0)
    for index, layer in enumerate(layers):
        for part in PARTS:
            together: dict[object, tuple[Tensor, DecoderSpec]] = {}
            for weight, spec in layer[part]:
                block = spec.layers[index].slot(part)
                if not absent(block):
                    there = together.get(block)
                    together[block] = (weight if there is None else there[0] + weight, spec)
            added = []
            for weight, spec in together.values():
                if spec not in contexts:
                    contexts[spec] = net.context(tokens, spec)
                y, extra = net.branch(x, index, part, spec, contexts[spec])
                added.append(weight * y)
                if extra is not None:
                    balance = balance + BALANCE * weight * extra
            if added:
                x = x + torch.stack(added).sum(0)
        leave(index + 1)
    return torch.stack(losses), balance
