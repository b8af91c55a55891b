"""A torch module of the user's own with what the training loop asks of a decoder: a loss, and groups of parameters."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from nas_bo.errors import ModelError
from nas_bo.model import own_model
from nas_bo.model.decoder import Criterion, cross_entropy
from nas_bo.model.inference import evaluating
from nas_bo.model.parametrization import STANDARD, Parametrization

BASE_FAN_IN, VECTOR_RATE = 128, 2.0  # as those of our decoder
FUTURE = 0.01  # standard deviations of the logits that may change by rounding when later tokens do


class OwnDecoder(nn.Module):
    """Args:
    module: from tokens to logits, see `nas_bo.model.own_model`.
    vocab_size: of the corpus.
    seed: of what the module draws while it trains (dropout), the same for the same step, also after a resume.
    """

    head = None

    def __init__(self, module: nn.Module, vocab_size: int, seed: int) -> None:
        super().__init__()
        self.module, self.vocab_size, self._seed, self._steps = module, vocab_size, seed, 0
        if next(module.parameters(), None) is None:
            raise ModelError(f"{type(module).__name__} has no parameters, so there is nothing to train")

    @property
    def embedding(self) -> nn.Embedding | _First:
        """What the loop takes for the embedding: whose device and size it asks for."""
        tables = [m for m in self.module.modules() if isinstance(m, nn.Embedding)]
        return tables[0] if tables else _First(next(self.module.parameters()))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, T, V)"""
        logits = own_model.run(self.module, tokens)
        if logits.shape[1] != tokens.shape[1] or logits.shape[2] < self.vocab_size:
            raise ModelError(
                f"{type(self.module).__name__} returned logits of shape {tuple(logits.shape)} for tokens of shape "
                f"{tuple(tokens.shape)}; training needs those of every position, for at least {self.vocab_size} token ids"
            )
        return logits

    @torch.no_grad()
    def check_causal(self, length: int) -> None:
        """Raise ModelError where what comes later changes what is predicted before it: such a model reads its answers, and its
        loss says nothing."""
        draws = torch.Generator().manual_seed(0)
        tokens = torch.randint(self.vocab_size, (2, length), generator=draws)
        other = tokens.clone()
        half = length // 2
        other[:, half:] = (
            other[:, half:] + torch.randint(1, max(2, self.vocab_size), (2, length - half), generator=draws)
        ) % (self.vocab_size)
        where = next(self.parameters()).device
        with evaluating(self):
            seen, changed = (self(one.to(where))[:, :half].float() for one in (tokens, other))
        apart = float((seen - changed).abs().max())
        if apart > FUTURE * max(1e-6, float(seen.std())):
            raise ModelError(
                f"{type(self.module).__name__} sees the future: with other tokens from position {half} on its logits before it differ "
                f"by {apart:.2g}, so it could read what it is to predict; give its attention a causal mask, and pad convolutions on "
                "the left only"
            )

    def loss(self, tokens: Tensor, targets: Tensor, criterion: Criterion | None = None) -> tuple[Tensor, Tensor]:
        """As of our decoder: the loss to train on, and the mean negative log-likelihood in nats per token."""
        if self.training:
            self._steps += 1
        with self._random_state(tokens.device) if self.training else nullcontext():
            logits = self(tokens).flatten(0, 1)
        return (criterion or cross_entropy)(logits, targets.flatten())

    def parameter_groups(
        self,
        lr: float,
        weight_decay: float = 0.0,
        embedding_power: float = 0.0,
        parametrization: Parametrization = STANDARD,
    ) -> list[dict[str, object]]:
        """Matrices at lr * 128 / fan_in, at most 2 lr, and with decay; embeddings (tied heads too), biases, norms at 2 lr. There is no
        other `parametrization` of a module whose weights nobody knows: `nas_bo.model.Training` refuses one."""
        tables = {id(m.weight) for m in self.module.modules() if isinstance(m, nn.Embedding)}
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for weight in self.module.parameters():
            if not weight.requires_grad:
                continue
            matrix = weight.dim() > 1 and id(weight) not in tables
            rate = lr * VECTOR_RATE
            if matrix:
                rate = min(rate, lr * BASE_FAN_IN * weight.shape[0] / max(1, weight.numel()))
            elif id(weight) in tables:
                rate *= (BASE_FAN_IN / weight.shape[-1]) ** embedding_power
            groups.setdefault((rate, matrix), []).append(weight)
        return [
            {"params": weights, "lr": rate, "weight_decay": weight_decay if decays else 0.0}
            for (rate, decays), weights in groups.items()
        ]

    def get_extra_state(self) -> int:
        return self._steps

    def set_extra_state(self, state: int) -> None:
        self._steps = int(state)

    @contextmanager
    def _random_state(self, device: torch.device) -> Iterator[None]:
        """torch's global random state is one of the step inside, and afterwards what it was."""
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(
                int.from_bytes(hashlib.sha256(f"{self._seed} {self._steps}".encode()).digest()[:7], "big")
            )
            yield


class _First:
    def __init__(self, weight: nn.Parameter) -> None:
        self.weight = weight


def own_decoder(build: own_model.Build, arch: object, vocab_size: int, seed: int) -> OwnDecoder:
    """The model of an architecture with weights drawn from `seed` (raises as `nas_bo.model.own_model.built`)."""
    return OwnDecoder(own_model.built(build, arch, seed=seed), vocab_size, seed)


def own_name(build: own_model.Build, arch_id: str) -> str:
    """What checkpoints call an architecture built so."""
    return f"{arch_id}-{hashlib.sha256(own_model.called(build).encode()).hexdigest()[:8]}"
