"""Models of the user's own in eager PyTorch: `prepare` calls their `build` where other runtimes build our decoder."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas_bo.errors import Unsupported
from nas_bo.hardware.runtimes.eager import DTYPES, SEED, Eager
from nas_bo.hardware.runtimes.interface import DECODED
from nas_bo.hardware.workload import Setting
from nas_bo.model import own_model

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class OwnModel:
    """Args:
    build: from an architecture to a torch module (`nas_bo.model.own_model`).
    device: a torch device; None is CUDA where there is one, else the CPU.
    threads: of the CPU.
    """

    build: own_model.Build
    device: str | None = None
    threads: int = 1
    name: str = "eager"
    inside: bool = False

    def __post_init__(self) -> None:
        own_model.check_build(type(self).__name__, self.build)
        object.__setattr__(self, "device", self._eager.device)

    def conditions(self) -> dict[str, object]:
        return {**self._eager.conditions(), "build": own_model.called(self.build)}

    def running(self) -> AbstractContextManager[None]:
        return self._eager.running()

    def weight_bytes(self, arch: object, setting: Setting) -> float:
        """Before anything is built: see `nas_bo.hardware.runtimes.interface.Weighs`."""
        from nas_bo.hardware.traced import size

        return size(self.build, arch).parameter_bytes(setting.dtype)

    def prepare(self, arch: object, setting: Setting) -> OwnPrepared:
        """As of every runtime.

        Raises:
            ModelError: the function raises, or what it builds is not a model of tokens.
            ObjectiveError: decoding of a model without a cache.
        """
        import torch

        if setting.dtype not in DTYPES:
            raise Unsupported(f"{self.name} runs models in {', '.join(DTYPES)}, not in {setting.dtype}")
        model = own_model.built(self.build, arch, str(self.device), setting.dtype)
        shape = (setting.batch, setting.context + DECODED)
        tokens = torch.randint(setting.vocab_size, shape, generator=torch.Generator().manual_seed(SEED))
        with torch.inference_mode():
            return OwnPrepared(model, tokens.to(str(self.device)), setting)

    @property
    def _eager(self) -> Eager:
        return Eager(self.device, self.threads)


class OwnPrepared:
    """The call to be timed: (batch, context) tokens, or 8 more after as many cached ones."""

    def __init__(self, model: nn.Module, tokens: Tensor, setting: Setting) -> None:
        self._model, self._tokens, self._context = model, tokens, setting.context
        self.steps = DECODED if setting.phase == "decode" else 1
        self.held_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
        self._prompt = tokens[:, : setting.context]
        if self.steps > 1:
            self._decoding = own_model.Decoding(model, self._prompt, setting.context + DECODED)
            self._decoding.again()
            own_model.logits_of(self._decoding.step(self._next(self._context)), model)
        else:
            own_model.run(model, self._prompt)  # what is wrong with it is known here

    def ready(self) -> Callable[[], object]:
        if self.steps == 1:
            return self._prefill
        self._decoding.again()
        return self._decode

    def _prefill(self) -> object:
        return self._model(self._prompt)

    def _decode(self) -> object:
        logits: object = None
        for at in range(self._context, self._context + DECODED):
            logits = self._decoding.step(self._next(at))
        return logits

    def _next(self, at: int) -> Tensor:
        return self._tokens[:, at : at + 1]
