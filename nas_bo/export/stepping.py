"""A decoder as a function without a cache of its own, for exports: tokens, their position and the states of its layers go in, logits
and the new states come out. Batch, tokens and what was before are open wherever a block does not need to know them.

Shapes: B batch, T new tokens, P tokens before them, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_bo.model.blocks.table import joined
from nas_bo.model.decoder import Decoder, _Context, build
from nas_bo.model.layers.dense import hidden
from nas_bo.model.layers.moe import Mixture
from nas_bo.model.layers.rotary import rotary_table
from nas_bo.model.spec import DecoderSpec

LONGEST = 1 << 30
"""A window that nothing falls out of: keys and values are then joined to those before instead of written into a place for them."""


@dataclass(frozen=True)
class State:
    """One tensor of what a layer remembers.

    Attributes:
        shape: for no tokens before and a batch of one.
        grows: the axis that is as long as there are tokens before; None where it stays.
    """

    layer: int
    shape: tuple[int, ...]
    grows: int | None


class Stepping(nn.Module):
    """Args:
    model: a decoder whose mixers all decode token by token.
    """

    def __init__(self, model: Decoder) -> None:
        super().__init__()
        layers = tuple(layer._replace(mixer=joined(layer.mixer, LONGEST)) for layer in model.spec.layers)
        self.model = plain(model, model.spec._replace(layers=layers))
        like = self.model.embedding.weight
        before = [None if one is None else one.new_state(1, LONGEST, like) for one in self._mixers()]
        after = list(before)
        with torch.no_grad():
            self._run(torch.zeros((1, 1), dtype=torch.long), torch.zeros(1, dtype=torch.long), after)
        self._counts = [len(flat(state)) for state in before]
        self.states = tuple(
            State(index, tuple(a.shape), next((i for i, (x, y) in enumerate(zip(a.shape, b.shape, strict=True)) if x != y), None))
            for index, (old, new) in enumerate(zip(before, after, strict=True))
            for a, b in zip(flat(old), flat(new), strict=True)
        )  # fmt: skip

    def forward(self, tokens: Tensor, position: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """tokens (B, T) at positions P, P + 1, ..., with position (1,) = P -> (logits (B, T, V), *new states)."""
        kept = unflat(states, self._counts)
        logits = self._run(tokens, position, kept)
        return (logits, *(one for state in kept for one in flat(state)))

    def empty(self, batch: int) -> list[Tensor]:
        """The states before the first token."""
        return [torch.zeros((batch, *one.shape[1:])) for one in self.states]

    def _run(self, tokens: Tensor, position: Tensor, states: list[Tensor | tuple[Tensor, ...] | None]) -> Tensor:
        context = _Open(self.model, position, tokens.shape[1], tokens.device)
        hidden, _ = self.model._through(self.model._embed(tokens, position), context, states)
        return self.model._logits(hidden)

    def _mixers(self) -> Iterator[Any]:
        return (self.model._layer(index).mixer for index in range(len(self.model.spec.layers)))


class _Open(_Context):
    """Positions and numbers of keys are not known while the model is exported, so that nothing is decided by them."""

    def __init__(self, model: Decoder, position: Tensor, length: int, device: torch.device) -> None:
        super().__init__(model, 0, length, device)
        self._position = position

    def rotary(self, head_dim: int) -> tuple[Tensor, Tensor] | None:
        if head_dim not in self._model._rotary_dims:
            return None
        if head_dim not in self._tables:
            like, details = self._model.embedding.weight, self._model.spec.details
            self._tables[head_dim] = rotary_table(details, self._position, self.length, head_dim, like)
        return self._tables[head_dim]

    def mask(self, keys: int, window: int | None) -> Tensor | None:
        new = torch.arange(self.length, device=self.device) + (keys - self.length)
        age = new.unsqueeze(1) - torch.arange(keys, device=self.device)
        seen = age >= 0
        return seen if window is None or window >= LONGEST else seen & (age < window)


class Whole(nn.Module):
    """The same without states: tokens (B, T) -> logits (B, T, V)."""

    def __init__(self, model: Decoder) -> None:
        super().__init__()
        self.model = plain(model)

    def forward(self, tokens: Tensor) -> Tensor:
        position = torch.zeros(1, dtype=torch.long, device=tokens.device)
        context = _Alone(self.model, position, tokens.shape[1], tokens.device)
        return self.model._logits(self.model._through(self.model._embed(tokens, position), context, None)[0])


class _Alone(_Open):
    """Nothing was before, so that full attention is plainly causal."""

    def mask(self, keys: int, window: int | None) -> Tensor | None:
        return None if window is None else super().mask(keys, window)


class _EveryExpert(nn.Module):
    """A mixture of experts each of which computes every token, with a weight of 0 for those that are not chosen."""

    def __init__(self, made: Mixture) -> None:
        super().__init__()
        self.made = made

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        made = self.made
        shares = made.router(x).softmax(-1)  # (B, T, E)
        weights, chosen = shares.topk(made.spec.top_k, -1)
        if made.renormalise:
            weights = weights / weights.sum(-1, keepdim=True)
        weights = torch.zeros_like(shares).scatter(-1, chosen, weights)
        y = torch.zeros_like(x)
        for expert in range(made.spec.experts):
            biases = [None if one is None else one[expert] for one in (made.up_bias, made.out_bias)]
            inner = hidden(F.linear(x, made.up[expert], biases[0]), made.spec)
            y = y + weights[..., expert : expert + 1] * F.linear(inner, made.out[expert], biases[1])
        return y, None


def plain(model: Decoder, spec: DecoderSpec | None = None) -> Decoder:
    """A copy, in float32 on the CPU, in which nothing goes where the data says; `spec` is the same network, said otherwise."""
    made = build(spec or model.spec, model.vocab_size, device="cpu", dtype=torch.float32).eval()
    made.load_state_dict({name: weight.float().cpu() for name, weight in model.state_dict().items()})
    for layer in made.layers:
        if isinstance(layer.mlp, Mixture):
            layer.mlp = _EveryExpert(layer.mlp)
    return made


def flat(state: object) -> tuple[Tensor, ...]:
    """The tensors of what a layer remembers."""
    if state is None:
        return ()
    return state if isinstance(state, tuple) else (state,)


def unflat(states: Sequence[Tensor], counts: Sequence[int]) -> list[Tensor | tuple[Tensor, ...] | None]:
    """What layers remember, of the tensors of all and how many each has."""
    left = iter(states)
    taken = [tuple(next(left) for _ in range(count)) for count in counts]
    return [None if not one else one[0] if len(one) == 1 else one for one in taken]
