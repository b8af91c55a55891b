"""The products of a decoder with its matrices, seen from outside: what each is given and gives, and a decoder that rounds what is given.

They are seen where torch multiplies (`torch.nn.functional.linear`), so blocks of your own are seen as well, as long as they multiply so.
Shapes: N tokens, C columns and R rows of a weight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from nas_bo.model.decoder import Cache, Decoder

Take = Callable[[str, int, Tensor, Tensor], Tensor | None]


class Watching(TorchFunctionMode):
    """While it is entered, `take(name, expert, x, y)` is called for every product with one of the weights: x (N, C) what it is
    given, y (N, R) what it gives; `expert` is 0 for plain matrices. What it returns in place of None is used as y."""

    def __init__(self, weights: Mapping[str, Tensor], take: Take) -> None:
        super().__init__()
        self._take = take
        self._at: dict[int, tuple[str, int]] = {}
        for name, weight in weights.items():
            for expert, one in enumerate(weight.detach().unbind(0) if weight.dim() == 3 else [weight]):
                self._at[one.data_ptr()] = name, expert

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        given = func(*args, **(kwargs or {}))
        if func is not F.linear or len(args) < 2:
            return given
        found = self._at.get(args[1].data_ptr())
        if found is None:
            return given
        x, y = args[0], given
        changed = self._take(*found, x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1]))
        return given if changed is None else changed.view(y.shape)


class Int8Activations(Decoder):
    """A decoder that rounds what its matrices are given to 8 bits, symmetric, with a scale for each token (dynamic quantization: Xiao
    et al. 2022, arXiv 2211.10438, section 2).

    Attributes:
        rounded: names of the weights whose inputs are rounded.
    """

    rounded: tuple[str, ...] = ()

    def _run(self, tokens: Tensor, cache: Cache | None) -> tuple[Tensor, list[Tensor]]:
        with self._rounding():
            return super()._run(tokens, cache)

    def _logits(self, hidden: Tensor) -> Tensor:
        with self._rounding():
            return super()._logits(hidden)

    def _rounding(self) -> Watching:
        weights = {name: weight for name, weight in self.named_parameters() if name in self.rounded}

        def take(name: str, expert: int, x: Tensor, y: Tensor) -> Tensor:
            weight = weights[name]
            one = weight[expert] if weight.dim() == 3 else weight
            return y + _change(x) @ one.t().to(x.dtype)

        return Watching(weights, take)


def _change(x: Tensor) -> Tensor:
    """x (N, C) -> what rounding to 8 bits adds to it."""
    scale = (x.abs().amax(-1, keepdim=True) / 127).clamp(min=1e-12)
    return (x / scale).round() * scale - x
