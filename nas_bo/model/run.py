"""One run of a decoder on a corpus, whose state can be taken out and put back."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from nas_bo.errors import TrainingDiverged
from nas_bo.model.data import Corpus
from nas_bo.model.decoder import Decoder
from nas_bo.model.distillation import Distillation
from nas_bo.model.inference import as_tensor, evaluate
from nas_bo.model.not_finite import MEND, blamed, has_own_blocks
from nas_bo.model.parametrization import of_settings
from nas_bo.model.schedule import EVALUATION_TOKENS
from nas_bo.model.sharding import ALONE, Sharing
from nas_bo.model.teacher import Lesson, criterion, lessons_of
from nas_bo.model.training_loop import (
    DIVERGED_ABOVE,
    PROGRESS_EVERY_S,
    SAVE_EVERY_S,
    Batches,
    Every,
    Loop,
    Pass,
    Progress,
    bf16_pays,
    worst_of,
)
from nas_bo.preemption import deferred

_Batch = Tensor | tuple[Tensor, Lesson]  # of one step, (B, T + 1), with what a teacher says about it
_Good = tuple[int, dict[str, object], dict[str, object]]  # the step, and the states of model and optimiser after it


class Run:
    """The state of one training run.

    Attributes:
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
        how: Distillation | None = None,
        sharing: Sharing = ALONE,
    ) -> None:
        self.sharing = sharing
        self.model, self.corpus, self.steps, self.seed, self.progress = model, corpus, steps, seed, progress
        self.batch, self.sequence = int(settings["batch_size"]), int(settings["sequence"])
        self.settings, self.evaluation_tokens = settings, evaluation_tokens
        self.device = model.embedding.weight.device
        self.bf16 = bf16_pays(self.device, lambda: _inner_parameters(model)) if bf16 is None else bf16
        self.loop = Loop(
            model.parameter_groups(
                settings["lr"], settings["weight_decay"], settings.get("embedding_power", 0.0), of_settings(settings)
            ),
            [weight for weight in model.parameters() if weight.requires_grad],
            steps,
            settings,
            self.device,
            bf16=self.bf16,
            worst=worst_of(model.vocab_size),
        )
        self.lessons = lessons_of(how, corpus, settings, steps, seed, model, self.bf16)
        self.schedule = self.loop.schedule
        self.curve: list[tuple[int, float]] = []
        self.validation: list[tuple[int, float]] = []
        self._good: _Good | None = None
        self.stacked = False  # its weights are elsewhere

    @property
    def step(self) -> int:
        """Steps done."""
        return self.loop.step

    def go(self, stops: Collection[int] = (), until: int | None = None, save: Callable[[], None] | None = None) -> None:
        """Train until `until` steps are done (all, when None), evaluating after those in `stops` that lie before.

        `save` is called once a minute, at a moment when the device is waited for anyway, and before a signal ends the process.

        Raises:
            TrainingDiverged: the loss is not finite, or after warm-up far above that of guessing.
        """
        until = self.steps if until is None else until
        self._remember()
        report, keep = Every(PROGRESS_EVERY_S), Every(SAVE_EVERY_S)

        def look(losses: list[float]) -> None:
            mean = self.look(losses)
            if self.progress is not None and report.due(self.step == self.steps):
                self.progress(self.step, self.steps, mean)
            if save is not None and self.sharing.agreed(keep.due()):
                save()

        for stop in sorted({stop for stop in stops if self.step < stop < until} | {until}):
            self.model.train()
            alone = save if self.sharing is ALONE else None  # several save together, at a step that all know
            with deferred(alone) as leave_when_asked:
                self.loop.go(self.taught, self._passes, look, stop, leave_when_asked)
            if stop < until:
                self.validate()
        self.model.eval()

    def batches(self, first: int, count: int) -> Tensor:
        """Of so many steps, (count, B, T + 1)."""
        every = as_tensor(self.corpus.batches(first, count, self.batch, self.sequence, self.seed), self.device)
        return self.sharing.rows(every)

    def taught(self, first: int, count: int) -> Batches[_Batch]:
        """The same, with a teacher each with its lesson."""
        if self.lessons is None:
            return self.batches(first, count)
        tokens = self.corpus.batches(first, count, self.batch, self.sequence, self.seed)
        lessons = self.lessons.of(first, tokens)
        return list(zip(as_tensor(tokens, self.device), lessons, strict=True))

    def _passes(self, batch: _Batch) -> Iterator[Pass]:
        learned = None
        if isinstance(batch, Tensor):
            tokens = batch
        else:
            assert self.lessons is not None  # `taught` has them from there
            tokens, lesson = batch
            learned = criterion(self.lessons.how, lesson)
        with self.loop.autocast():
            found = self.model.loss(tokens[:, :-1], tokens[:, 1:], learned)
        yield found

    def look(self, losses: list[float]) -> float:
        """Take in the losses of the last steps; gives their mean (raises TrainingDiverged)."""
        losses = self.sharing.means(losses)
        bad = self.loop.diverged(losses)
        if bad is not None and self._good is not None and not math.isfinite(bad[1]):
            self._blame(self._good, bad[0])
        if bad is not None:
            raise TrainingDiverged(
                f"training diverged at step {bad[0] + 1} of {self.steps}: the loss is {bad[1]:.4g} nats per token, "
                f"where guessing gives {self.loop.worst - DIVERGED_ABOVE:.2f}; use a lower lr, a longer warmup or a "
                "tighter clip, or let the search count the trial as failed"
            )
        mean: float = sum(losses) / len(losses)
        self.curve.append((self.tokens, mean / math.log(2)))
        self._remember()
        return mean

    def _remember(self) -> None:
        """The state to go back to for the question which block was it; only asked where blocks are the user's own."""
        if has_own_blocks(self.model) and not self.stacked:
            self._good = copy.deepcopy((self.step, self.model.state_dict(), self.loop.optimizer.state_dict()))

    def _blame(self, good: _Good, bad: int) -> None:
        """Go through the steps from the last good state on again; raises TrainingDiverged with the block that is not finite."""
        self.loop.step = good[0]
        self.model.load_state_dict(good[1])
        self.loop.optimizer.load_state_dict(good[2])
        while self.step <= bad:
            batch = self.taught(self.step, 1)[0]
            said = blamed(self.model, lambda: next(self._passes(batch))[0])  # noqa: B023  (called at once)
            self.loop.optimizer.zero_grad(set_to_none=True)
            if said is not None:
                raise TrainingDiverged(
                    f"training diverged at step {self.step + 1} of {self.steps}: {said}; {MEND}, use a lower lr, or let the "
                    "search count the trial as failed"
                )
            self.loop.take(self._passes(batch))

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
        """All that `restore` needs to continue bit for bit: tensors, numbers, lists and dicts."""
        unseen = torch.stack(self.loop.unseen).tolist() if self.loop.unseen else []
        return {
            "model": self.sharing.whole(self.model.state_dict()),
            "optimizer": self.sharing.whole(self.loop.optimizer.state_dict()),
            "unseen": torch.tensor(self.sharing.means(unseen)) if unseen else None,
            "curve": [list(point) for point in self.curve],
            "validation": [list(point) for point in self.validation],
            "evaluation_tokens": self.evaluation_tokens,
        }

    def restore(self, step: int, state: Mapping[str, Any]) -> None:
        """Be where `state` was taken, after `step` steps."""
        self.model.load_state_dict(self.sharing.parts(state["model"], self.model.state_dict()))
        weights = (weight for group in self.loop.optimizer.param_groups for weight in group["params"])
        moments = {at: {"exp_avg": weight, "exp_avg_sq": weight} for at, weight in enumerate(weights)}
        self.loop.optimizer.load_state_dict(self.sharing.parts(state["optimizer"], {"state": moments}))
        self.loop.unseen = [] if state["unseen"] is None else list(state["unseen"].to(self.device).unbind(0))
        self.curve = [(int(at), float(value)) for at, value in state["curve"]]
        if state["evaluation_tokens"] == self.evaluation_tokens:  # else they were measured on other text
            self.validation = [(int(at), float(value)) for at, value in state["validation"]]
        self.loop.step = step


def _inner_parameters(model: Decoder) -> int:
    embeddings = model.embedding.weight.numel() * (1 if model.head is None else 2)
    return sum(weight.numel() for weight in model.parameters()) - embeddings
