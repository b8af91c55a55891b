"""The training loop itself: one run, step by step, whose state can be taken out and put back."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from nas_bo.errors import TrainingDiverged
from nas_bo.model import quiet
from nas_bo.model.data import Corpus
from nas_bo.model.inference import EVALUATION_TOKENS, as_tensor, evaluate
from nas_bo.model.schedule import Schedule
from nas_bo.model.transformer import Decoder

CURVE_POINTS = 40
BLOCK = 32  # steps whose batches are gathered and moved to the device together
BF16_FROM = 1_000_000  # non-embedding parameters from which bf16 pays on a CPU that has it
PROGRESS_EVERY_S = 0.3
SAVE_EVERY_S = 60.0
DIVERGED_ABOVE = 2.0
"""A loss so many nats per token above that of guessing, log(vocab_size), after warm-up is a diverged run."""

Progress = Callable[[int, int, float], Any]


class Run:
    """The state of one training run.

    Attributes:
        step: steps done.
        curve: (tokens seen, mean training bits per token since the last point).
        validation: (tokens seen, held-out bits per byte).
    """

    def __init__(
        self,
        model: Decoder,
        corpus: Corpus,
        settings: dict[str, float],
        steps: int,
        seed: int,
        bf16: bool | None = None,
        progress: Progress | None = None,
        evaluation_tokens: int = EVALUATION_TOKENS,
    ) -> None:
        self.model, self.corpus, self.steps, self.seed, self.progress = model, corpus, steps, seed, progress
        self.batch, self.sequence = int(settings["batch_size"]), int(settings["sequence"])
        self.settings, self.clip = settings, settings["clip"]
        self.evaluation_tokens = evaluation_tokens
        self.device = model.embedding.weight.device
        self.bf16 = _use_bf16(model, self.device) if bf16 is None else bf16
        self.schedule = Schedule(steps, settings["warmup"], settings["decay"])
        groups = model.parameter_groups(settings["lr"], settings["weight_decay"], settings.get("embedding_power", 0.0))
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8, fused=True)
        self.rates = [float(group["lr"]) for group in groups]
        self.worst = math.log(model.vocab_size) + DIVERGED_ABOVE
        self.step = 0
        self.curve: list[tuple[int, float]] = []
        self.validation: list[tuple[int, float]] = []
        self._unseen: list[Tensor] = []  # losses since the last point of the curve, still on the device

    def go(self, stops: Collection[int] = (), until: int | None = None, save: Callable[[], None] | None = None) -> None:
        """Train until `until` steps are done (all, when None), evaluating after those in `stops` that lie before.

        `save` is called once a minute, at a moment when the device is waited for anyway.

        Raises:
            TrainingDiverged: the loss is not finite, or after warm-up far above that of guessing.
        """
        until = self.steps if until is None else until
        model, optimizer = self.model, self.optimizer
        parameters = [weight for weight in model.parameters() if weight.requires_grad]
        every = math.ceil(self.steps / CURVE_POINTS)
        model.train()
        reported = saved = time.perf_counter()
        with quiet.working() as step:
            for batch in self._batches(self.step, until):
                step()
                factor = self.schedule.rate(self.step)
                for group, rate in zip(optimizer.param_groups, self.rates, strict=True):
                    group["lr"] = rate * factor
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                    loss, nll = model.loss(batch[:, :-1], batch[:, 1:])
                loss.backward()  # type: ignore[no-untyped-call]
                if self.clip:
                    torch.nn.utils.clip_grad_norm_(parameters, self.clip, foreach=True)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                self.step += 1
                self._unseen.append(nll.detach())
                if len(self._unseen) == every or self.step == self.steps:  # the only wait for the device
                    mean = self._look()
                    now = time.perf_counter()
                    if self.progress is not None and (now - reported > PROGRESS_EVERY_S or self.step == self.steps):
                        self.progress(self.step, self.steps, mean)
                        reported = now
                    if save is not None and now - saved > SAVE_EVERY_S:
                        save()
                        saved = time.perf_counter()
                if self.step in stops and self.step < until:
                    self.validate()
                    model.train()
        model.eval()

    def _batches(self, first: int, until: int) -> Iterator[Tensor]:
        for start in range(first, until, BLOCK):
            count = min(BLOCK, until - start)
            block = self.corpus.batches(start, count, self.batch, self.sequence, self.seed)
            yield from as_tensor(block, self.device).unbind(0)

    def _look(self) -> float:
        losses, self._unseen = self._unseen, []
        values = torch.stack(losses).tolist()
        for index, value in enumerate(values, self.step - len(losses)):
            if not math.isfinite(value) or (index >= self.schedule.warm and value > self.worst):
                raise TrainingDiverged(
                    f"training diverged at step {index + 1} of {self.steps}: the loss is {value:.4g} nats per token, "
                    f"where guessing gives {self.worst - DIVERGED_ABOVE:.2f}; use a lower lr, a longer warmup or a "
                    "tighter clip, or let the search count the trial as failed"
                )
        mean: float = sum(values) / len(values)
        self.curve.append((self.tokens, mean / math.log(2)))
        return mean

    @property
    def tokens(self) -> int:
        """Tokens trained on so far."""
        return self.step * self.batch * self.sequence

    def validate(self) -> float:
        """Held-out bits per byte now; measured once per step.

        Raises:
            TrainingDiverged: it is not finite.
        """
        if self.validation and self.validation[-1][0] == self.tokens:
            return self.validation[-1][1]
        value = evaluate(
            self.model, self.corpus, self.evaluation_tokens, sequence=self.sequence, bf16=self.bf16, threads=None
        )
        if not math.isfinite(value):
            raise TrainingDiverged(
                f"after step {self.step} of {self.steps} the held-out loss is {value}; use a lower lr, or let the "
                "search count the trial as failed"
            )
        self.validation.append((self.tokens, value))
        return value

    def state(self) -> dict[str, Any]:
        """All that `restore` needs to go on to the same bits: tensors, numbers, lists and dicts."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "unseen": torch.stack(self._unseen) if self._unseen else None,
            "curve": [list(point) for point in self.curve],
            "validation": [list(point) for point in self.validation],
            "evaluation_tokens": self.evaluation_tokens,
        }

    def restore(self, step: int, state: Mapping[str, Any]) -> None:
        """Be where `state` was taken, after `step` steps."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._unseen = [] if state["unseen"] is None else list(state["unseen"].to(self.device).unbind(0))
        self.curve = [(int(at), float(value)) for at, value in state["curve"]]
        if state["evaluation_tokens"] == self.evaluation_tokens:  # else they were measured on other text
            self.validation = [(int(at), float(value)) for at, value in state["validation"]]
        self.step = step


def _use_bf16(model: Decoder, device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or not torch.cpu.get_capabilities().get("avx512_bf16", False):
        return False
    embeddings = model.embedding.weight.numel() * (1 if model.head is None else 2)
    return sum(weight.numel() for weight in model.parameters()) - embeddings >= BF16_FROM
