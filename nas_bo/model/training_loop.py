"""The training loop, the only one: its caller says what is trained and on which loss, all around that is here.

AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) at the rates of its groups times the schedule, clipping, the place of a
run among its batches, when to look at the losses, and when a loss counts as diverged. Between two steps a sibling process
that wants to measure is let in (`nas_bo.measurement_lock`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from nas_bo import measurement_lock
from nas_bo.model.adamw import AdamW
from nas_bo.model.schedule import Schedule

CURVE_POINTS = 40
BLOCK = 32  # steps whose batches are gathered and moved to the device together
BF16_FROM = 1_000_000  # parameters, embeddings aside, from which bf16 pays on a CPU that has it
PROGRESS_EVERY_S = 0.3
SAVE_EVERY_S = 60.0
DIVERGED_ABOVE = 2.0
"""A loss so many nats per token above that of guessing, log(vocab_size), after warm-up is a diverged run."""

Progress = Callable[[int, int, float], object]
Pass = tuple[Tensor, Tensor]
"""Of one forward pass: the loss to train on, and the nats per token to report; scalars, or one per stacked run."""


B = TypeVar("B")
B_co = TypeVar("B_co", covariant=True)
L = TypeVar("L", float, list[float])


class Batches(Protocol[B_co]):
    """Those of some successive steps: a tensor, or a sequence."""

    def __len__(self) -> int: ...
    def __getitem__(self, step: int, /) -> B_co: ...


def _clip(weights: Sequence[Tensor], bound: float) -> None:
    torch.nn.utils.clip_grad_norm_(weights, bound, foreach=True)


class Loop:
    """The optimiser steps of one run. Whatever is random is the caller's.

    Args:
        groups: of an optimiser, each with its learning rate and weight decay.
        weights: what is clipped together, in a fixed order.
        steps: of the whole run.
        settings: `warmup`, `decay`, `clip` as in `nas_bo.model.train`.
        device: where the weights are.
        bf16: whether `autocast` computes in bf16.
        worst: nats per token above which a loss after warm-up is a diverged one.
        clip: scales the gradients of weights to a norm.

    Attributes:
        step: how many are done.
        factor: on all learning rates, in addition to the schedule.
        patient: steps in which a loss above `worst` does not count as diverged.
        every, at: the losses are looked at when there are so many, after these steps, and at the end.
        unseen: losses since the last look, on the device.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        weights: Sequence[Tensor],
        steps: int,
        settings: Mapping[str, float],
        device: torch.device,
        *,
        bf16: bool = False,
        worst: float = math.inf,
        clip: Callable[[Sequence[Tensor], float], object] = _clip,
    ) -> None:
        self.optimizer = AdamW(groups, betas=(0.9, 0.95), eps=1e-8, fused=True)
        self.rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.schedule = Schedule(steps, settings["warmup"], settings["decay"])
        self.weights, self.steps, self.device, self.bf16, self.worst = weights, steps, device, bf16, worst
        self.bound, self._clip = settings["clip"], clip
        self.step, self.factor, self.patient = 0, 1.0, self.schedule.warm
        self.every = math.ceil(steps / CURVE_POINTS)
        self.at: Collection[int] = ()
        self.unseen: list[Tensor] = []

    def go(
        self,
        batches: Callable[[int, int], Batches[B]],
        passes: Callable[[B], Iterable[Pass]],
        look: Callable[[list[L]], bool | None],
        until: int | None = None,
        then: Callable[[], None] = lambda: None,
    ) -> None:
        """Train until `until` steps are done (all, when None).

        Args:
            batches: (first, count) -> the batches of so many steps.
            passes: a batch -> the losses of the passes of a step, whose gradients are added up.
            look: takes the losses since the last look, floats in nats per token (per stacked run, if there are some), at
                the only moments when the device is waited for; true ends the run. It may set `step` back.
            then: called before each step, where the state of the run is whole.
        """
        until = self.steps if until is None else until
        first = self.step
        block: Batches[B] = ()
        with measurement_lock.working() as between:
            while self.step < until:
                if not first <= self.step < first + len(block):
                    first = self.step
                    block = batches(first, min(BLOCK, until - first))
                between()
                then()
                self.unseen.append(self.take(passes(block[self.step - first])))
                if len(self.unseen) == self.every or self.step in self.at or self.step == self.steps:
                    losses, self.unseen = torch.stack(self.unseen).tolist(), []
                    if look(losses):
                        return

    def take(self, passes: Iterable[Pass]) -> Tensor:
        """One optimiser step; gives the mean of the losses of its passes, still on the device."""
        rate = self.schedule.rate(self.step) * self.factor
        for group, base in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = base * rate
        losses = []
        for loss, nll in passes:
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(nll.detach())
        if self.bound:
            self._clip(self.weights, self.bound)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return losses[0] if len(losses) == 1 else torch.stack(losses).mean()

    def autocast(self) -> torch.autocast:
        """Around a pass that may be computed in bf16."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def diverged(self, losses: Sequence[float]) -> tuple[int, float] | None:
        """The step (the first is 0) and the loss of the first one that diverged, of those that `look` was given."""
        for step, loss in enumerate(losses, self.step - len(losses)):
            if not math.isfinite(loss) or (step >= self.patient and loss > self.worst):
                return step, loss
        return None


class Every:
    """Says at most once in so many seconds that it is time."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self._last = seconds, time.perf_counter()

    def due(self, last: bool = False) -> bool:
        """Whether it is time; `last` says that there will be no later one."""
        if not last and time.perf_counter() - self._last <= self.seconds:
            return False
        self._last = time.perf_counter()
        return True


def worst_of(vocab_size: int) -> float:
    """Nats per token beyond which a model of so many token ids has diverged."""
    return math.log(vocab_size) + DIVERGED_ABOVE


def bf16_pays(device: torch.device, parameters: Callable[[], int]) -> bool:
    """Whether to train in bf16 where nobody says: on CUDA that has it, and on CPUs that have it from `BF16_FROM` on."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or not torch.cpu.get_capabilities().get("avx512_bf16", False):
        return False
    return parameters() >= BF16_FROM
