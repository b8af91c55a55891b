"""A trained model on a text with one of its blocks replaced: how far that moves the loss, by its gradient and by evaluation.

Where only the stream runs between layers, what comes before the replaced block is computed once. Shapes: N tokens, C channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from nas_bo.model.connections import connected
from nas_bo.model.decoder import cross_entropy
from nas_bo.pretrained.repair import PARTS, layer_of

if TYPE_CHECKING:
    from nas_bo.model.decoder import Decoder

ROWS = 512  # tokens of one pass, which keeps all that a gradient needs


class Replaced:
    """A model on a text.

    Args:
        model: the trained decoder.
        windows: (B, T + 1) token ids.

    Attributes:
        loss: of the whole model, in nats per token.
    """

    def __init__(self, model: Decoder, windows: Tensor) -> None:
        self.model = model
        self._alone = not connected(model.spec.layers, model.spec.details)
        self._texts = list(torch.split(windows, max(1, ROWS // (windows.shape[1] - 1))))
        self._entering: list[list[Tensor]] = []  # text -> layer -> (B, T, C)
        self._given: list[
            dict[tuple[int, str], tuple[Tensor, Tensor, Tensor]]
        ] = []  # what a block is given, gives, and the gradient there
        self.loss = sum(self._look(text) for text in self._texts) / windows[:, 1:].numel()

    def _look(self, text: Tensor) -> float:
        """One pass forward and back; the sum of nats over its tokens."""
        entering: list[Tensor] = []
        seen: dict[tuple[int, str], tuple[Tensor, Tensor]] = {}
        hooks: list[RemovableHandle] = []
        for index in range(len(self.model.layers)):
            layer = layer_of(self.model, index)
            hooks.append(layer.register_forward_pre_hook(lambda _m, args: entering.append(args[0].detach())))
            for part in PARTS:
                if (block := layer.slot(part)[1]) is not None:

                    def keep(
                        _m: nn.Module,
                        args: tuple[Tensor, ...],
                        gave: tuple[Tensor, ...],
                        key: tuple[int, str] = (index, part),
                    ) -> None:
                        seen[key] = args[0].detach(), gave[0]

                    hooks.append(block.register_forward_hook(keep))
        try:
            with torch.enable_grad():
                _, nll = self.model.loss(text[:, :-1], text[:, 1:])
                total = nll * text[:, 1:].numel()
                slopes = torch.autograd.grad(total, [gave for _, gave in seen.values()], allow_unused=True)
        finally:
            for hook in hooks:
                hook.remove()
        kept = {}
        for (key, (given, gave)), slope in zip(seen.items(), slopes, strict=True):
            kept[key] = given, gave.detach(), torch.zeros_like(gave) if slope is None else slope.detach()
        self._entering.append(entering)
        self._given.append(kept)
        return float(total.detach())

    @torch.no_grad()
    def moved(self, index: int, part: str, block: nn.Module | None) -> float:
        """Half the mean over tokens of (g . d)^2, in nats: the second-order term of the loss with another block, None for none."""
        total, count = 0.0, 0
        for number, text in enumerate(self._texts):
            given, gave, slope = self._given[number][index, part]
            change = self._output(text, given, part, block, gave) - gave
            products = (slope.float() * change.float()).sum(-1)
            total, count = total + float(products.square().sum()), count + products.numel()
        return total / count / 2

    @torch.no_grad()
    def evaluated(self, index: int, part: str, block: nn.Module | None) -> float:
        """The loss with another block, in nats per token."""
        total, count = 0.0, 0
        for number, text in enumerate(self._texts):
            given, gave, _ = self._given[number][index, part]
            instead = self._output(text, given, part, block, gave)
            total += self._ending(number, index, part, instead) * text[:, 1:].numel()
            count += text[:, 1:].numel()
        return total / count

    def _output(self, text: Tensor, given: Tensor, part: str, block: nn.Module | None, gave: Tensor) -> Tensor:
        if block is None:
            return torch.zeros_like(gave)
        found: Tensor = block(given, self.model.context(text[:, :-1]), None)[0] if part == "mixer" else block(given)[0]
        return found

    def _ending(self, number: int, index: int, part: str, instead: Tensor) -> float:
        """The loss where a block gives `instead`."""
        model, text = self.model, self._texts[number]
        block = layer_of(model, index).slot(part)[1]
        assert block is not None
        hook = block.register_forward_hook(lambda _m, _a, gave: (instead, *gave[1:]))
        try:
            if not self._alone:
                return float(model.loss(text[:, :-1], text[:, 1:])[1])
            context = model.context(text[:, :-1])
            x = self._entering[number][index]
            for each in model.layers[index:]:
                x = each(x, context, None)[0]
        finally:
            hook.remove()
        return float(cross_entropy(model._logits(x).flatten(0, 1), text[:, 1:].flatten())[1])
