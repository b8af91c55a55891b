"""Training of a supernet: many architectures take turns on one set of weights, within one budget of tokens."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from nas_bo.architecture import Architecture
from nas_bo.errors import CheckpointError, DataError, ModelError, TrainingDiverged
from nas_bo.model.data import Corpus
from nas_bo.model.decoder import BALANCE
from nas_bo.model.inference import as_tensor, evaluate, torch_threads
from nas_bo.model.not_finite import MEND
from nas_bo.model.schedule import settings_of
from nas_bo.model.training_loop import PROGRESS_EVERY_S, Every, Loop, Pass, bf16_pays, worst_of
from nas_bo.seeds import Seed, whole_seed
from nas_bo.settings import settings_of as given
from nas_bo.settings import takes
from nas_bo.space.space import Space
from nas_bo.supernet.file import read, write
from nas_bo.supernet.sampling import Sampling, Uniform
from nas_bo.supernet.training_settings import SupernetOptions, SupernetSettings
from nas_bo.supernet.weights import Supernet
from nas_bo.validated import check_values, number

LOWER = 0.5  # factor on the learning rate after the first divergence
INHERITED_TOKENS = 8_192
"""Held-out tokens on which an inherited network is scored: few, since thousands of networks are."""


class SupernetDiverged(TrainingDiverged):
    """The supernet diverged twice: also after its rate was lowered.

    Attributes:
        curve: (tokens, mean training bits per token) up to there.
    """

    def __init__(self, message: str, curve: Sequence[tuple[int, float]]) -> None:
        super().__init__(message)
        self.curve = tuple(curve)


@dataclass(frozen=True)
class SupernetResult:
    """What training a supernet gave.

    Attributes:
        supernet: the trained weights.
        curve: about 40 points (tokens so far, mean training bits per token of all passes since the last point).
        validation: (tokens so far, held-out bits per byte of every architecture in `validate`).
        tokens: of all passes together: a batch that four architectures saw counts four times.
        steps, passes: optimiser steps, and the forward and backward passes of single architectures in them.
        lowered: whether the rate was lowered after a divergence.
        seconds, cpu_seconds: of this call; what a resumed run spent before is not in it.
    """

    supernet: Supernet = field(repr=False)
    curve: tuple[tuple[int, float], ...]
    validation: tuple[tuple[int, tuple[float, ...]], ...]
    tokens: int
    steps: int
    passes: int
    lowered: bool
    seconds: float
    cpu_seconds: float
    settings: dict[str, float]


@takes(SupernetSettings)
def train_supernet(
    supernet: Supernet | type[Space],
    corpus: Corpus,
    tokens: float,
    seed: Seed = 0,
    settings: SupernetSettings | None = None,
    **options: Unpack[SupernetOptions],
) -> SupernetResult:
    """Train the shared weights of a space.

    The batches are those of `nas_bo.model.train` in the same order, and so is the schedule: warm-up, constant, linear
    decay. The architectures of a step depend on (seed, step) alone.

    Args:
        supernet: a `Supernet`, trained on from where it is; or a space, whose supernet is made from `seed`.
        tokens: the budget of all passes together.
        settings: what follows, as one value; what is given by name takes precedence.
        sampling: who is trained in a step; default `Uniform()`: one at a time.
        distill: share of the loss of all but the first architecture of a step that is the cross-entropy to the
            predictions of the first one instead of the text (in-place distillation, Yu and Huang 2019, arXiv 1903.05134,
            section 3.3; there 1). Needs a sampling that `leads`.
        lr to clip: as in `train`, for the sizes of the shared weights.
        checkpoint: a file for the state, written every `save_every_s` seconds and at the end. If it is there, the run
            continues from it, bit for bit as if it had never stopped; a finished one is returned at once.
        validate, validate_at: architectures to score by inheritance after these shares of the budget.
        ignore: top-level fields of the space that are the user's own; for a `Supernet`, its own hold.

    Raises:
        ModelError: a setting is out of range, or the space cannot be covered.
        DataError: the corpus is too short, or its vocabulary is larger than the supernet's.
        CheckpointError: the file is of another space, corpus or run.
        SupernetDiverged: the loss is not finite or far above guessing, also after going back to the last good state
            with half the rate. The error has the curve.
    """
    seed = whole_seed(seed, "train_supernet", ModelError)
    check_values("train_supernet", ModelError, number(at_least=1), tokens=tokens)
    made = given(SupernetSettings, "train_supernet", options, settings)
    recipe = settings_of({}, made.recipe())
    distill, drawing = made.distill, Uniform() if made.sampling is None else made.sampling
    if distill and not drawing.leads:
        raise ModelError(
            f"distill={distill!r} needs a first architecture that leads, and {type(drawing).__name__} has none; use "
            "Sandwich(), or distill=0"
        )
    wall, cpu = time.perf_counter(), time.process_time()
    with torch_threads(made.threads):
        if isinstance(supernet, Supernet):
            net = supernet
        else:
            chosen = torch.device(made.device or ("cuda" if torch.cuda.is_available() else "cpu"))
            generator = torch.Generator().manual_seed(seed % (1 << 63))
            net = Supernet(supernet, corpus.vocab_size, made.ignore, generator=generator).to(chosen)
        if net.vocab_size < corpus.vocab_size:
            raise DataError(
                f"the corpus {corpus.name!r} has {corpus.vocab_size} token ids and the supernet only {net.vocab_size}; "
                "make it with the vocab_size of the corpus"
            )
        run = _Run(net, corpus, made, recipe, int(tokens), seed)
        run.resume()
        run.go()
    return SupernetResult(
        net,
        tuple(run.curve),
        tuple(run.validation),
        tokens=run.tokens,
        steps=run.loop.steps,
        passes=run.passes,
        lowered=run.loop.factor < 1,
        seconds=time.perf_counter() - wall,
        cpu_seconds=time.process_time() - cpu,
        settings=recipe,
    )


class _Run:
    """The state of one training run; everything that is random follows from the seed and the step."""

    def __init__(
        self,
        net: Supernet,
        corpus: Corpus,
        made: SupernetSettings,
        settings: dict[str, float],
        tokens: int,
        seed: int,
    ) -> None:
        self.net, self.corpus, self.seed, self.made = net, corpus, seed, made
        self.sampling: Sampling = Uniform() if made.sampling is None else made.sampling
        self.distill = float(made.distill)
        self.batch, self.sequence = int(settings["batch_size"]), int(settings["sequence"])
        self.settings = settings
        self.checkpoint = None if made.checkpoint is None else Path(made.checkpoint)
        self.device = net.embedding.device
        pays = bf16_pays(self.device, lambda: net.extent.size(net.space.sample(0))[0])  # a middling architecture
        self.loop = Loop(
            net.parameter_groups(settings["lr"], settings["weight_decay"]),
            list(net.parameters()),
            max(1, tokens // (self.batch * self.sequence * len(self._drawn(0)))),
            settings,
            self.device,
            bf16=pays if made.bf16 is None else made.bf16,
            worst=worst_of(net.vocab_size),
        )
        self.tokens = self.passes = 0
        self.curve: list[tuple[int, float]] = []
        self.validation: list[tuple[int, tuple[float, ...]]] = []

    def _drawn(self, step: int) -> list[Architecture]:
        return self.sampling.draw(self.net.extent, random.Random(f"{self.seed} {step}"))

    # ---- training -------------------------------------------------------------------------------------------------

    def go(self) -> None:
        loop, progress = self.loop, self.made.progress
        stops = {loop.schedule.after(share) for share in self.made.validate_at}
        loop.at = {*range(loop.every, loop.steps, loop.every), *stops}
        loop.every = loop.steps  # the same steps after a resume, or when it went back
        good = self._state()
        report, keep = Every(PROGRESS_EVERY_S), Every(self.made.save_every_s)

        def look(losses: list[float]) -> None:
            nonlocal good
            if loop.diverged(losses) is not None:
                good = self._back(good)
                return
            mean, last = sum(losses) / len(losses), loop.step == loop.steps
            self.curve.append((self.tokens, mean / math.log(2)))
            if loop.step in stops or last:
                self._validate(self.made.validate)
            good = self._state()
            if self.checkpoint and keep.due(last):
                self._save(good)
            if progress is not None and report.due(last):
                progress(loop.step, loop.steps, mean)

        loop.go(self._batches, self._one, look)
        self.net.eval()

    def _batches(self, first: int, count: int) -> Tensor:
        return as_tensor(self.corpus.batches(first, count, self.batch, self.sequence, self.seed), self.device)

    def _one(self, batch: Tensor) -> Iterator[Pass]:
        """The passes of one step, one for each architecture that is trained in it."""
        inputs, targets = batch[:, :-1], batch[:, 1:]
        archs = self._drawn(self.loop.step)
        teacher: Tensor | None = None
        for arch in archs:
            with self.loop.autocast():
                logits, balances = self.net.logits_and_balance(inputs, arch)
            logits = logits.float().flatten(0, 1)
            nll = F.cross_entropy(logits, targets.flatten())
            loss = nll
            if teacher is not None:
                loss = (1 - self.distill) * nll + self.distill * F.cross_entropy(logits, teacher)
            elif self.distill:
                teacher = logits.detach().softmax(-1)
            if balances:
                loss = loss + BALANCE * torch.stack(balances).sum()
            yield loss / len(archs), nll
        self.passes += len(archs)
        self.tokens += len(archs) * inputs.numel()

    def _back(self, good: dict[str, object]) -> dict[str, object]:
        if self.loop.factor < 1:
            shown = ", ".join(f"{at:,}: {bits:.2f}" for at, bits in self.curve[-5:]) or "nothing yet"
            blamed = f": {self.net.not_finite[0]}; {MEND}" if self.net.not_finite else ""
            raise SupernetDiverged(
                f"the supernet diverged near step {self.loop.step} of {self.loop.steps}, also with its rate lowered to "
                f"{self.loop.factor:g} of lr={self.settings['lr']:g}{blamed}; use a lower lr, a longer warmup or a tighter clip. "
                f"Bits per token by tokens, lately: {shown}",
                self.curve,
            )
        self._put(good)
        self.net.not_finite.clear()
        self.loop.factor = LOWER
        return self._state()

    def _validate(self, archs: Sequence[Architecture]) -> None:
        if archs:
            found = [
                inherited(self.net, arch, self.corpus, sequence=self.sequence, bf16=self.loop.bf16) for arch in archs
            ]
            self.validation.append((self.tokens, tuple(found)))

    # ---- state ----------------------------------------------------------------------------------------------------

    def _state(self) -> dict[str, object]:
        named = {weight: name for name, weight in self.net.banks.items()}
        return {
            "banks": {name: weight.detach().to("cpu", copy=True) for name, weight in self.net.banks.items()},
            "optimizer": {
                named[weight]: {key: value.detach().to("cpu", copy=True) for key, value in state.items()}
                for weight, state in self.loop.optimizer.state.items()
            },
            "numbers": [self.loop.step, self.tokens, self.passes, self.loop.factor],
            "curve": list(self.curve),
            "validation": list(self.validation),
        }

    def _put(self, state: dict[str, Any]) -> None:
        self.net.put(state["banks"], self.checkpoint or "the checkpoint")
        self.loop.optimizer.state.clear()
        for name, kept in state["optimizer"].items():
            weight = self.net.banks[name]
            self.loop.optimizer.state[weight] = {
                key: value.clone() if key == "step" and value.device == weight.device else value.to(weight.device)
                for key, value in kept.items()
            }
        self.loop.step, self.tokens, self.passes, self.loop.factor = state["numbers"]
        self.curve = [(int(at), float(bits)) for at, bits in state["curve"]]
        self.validation = [(int(at), tuple(found)) for at, found in state["validation"]]

    def _identity(self) -> dict[str, object]:
        return {
            "settings": dict(self.settings),
            "steps": self.loop.steps,
            "seed": self.seed,
            "sampling": repr(self.sampling),
            "distill": self.distill,
            "bf16": self.loop.bf16,
        }

    def _save(self, state: dict[str, object]) -> None:
        assert self.checkpoint is not None
        write(
            self.checkpoint,
            {**state, "identity": self.net.identity(self.corpus.fingerprint), "run": self._identity()},
        )

    def resume(self) -> None:
        """Continue from the checkpoint, when there is one (raises CheckpointError when it is of another run)."""
        if self.checkpoint is None or not self.checkpoint.exists():
            return
        content = read(self.checkpoint, self.net.space, self.corpus.fingerprint)
        here, there = self._identity(), content.get("run")
        if not isinstance(there, dict):
            raise CheckpointError(
                f"{str(self.checkpoint)!r} holds the weights of a supernet but no run to continue; load it with "
                "Supernet.load, or give another checkpoint"
            )
        for name, wanted in {**here, "apart": sorted(self.net.apart), "vocab_size": self.net.vocab_size}.items():
            found = there.get(name, content["identity"].get(name))
            if found != wanted:
                raise CheckpointError(
                    f"the checkpoint {str(self.checkpoint)!r} is of another run: {name} is {found!r} there and "
                    f"{wanted!r} here; give the path of this run's own, or delete the file to start again"
                )
        self._put(content)


def inherited(
    net: Supernet,
    arch: Architecture,
    corpus: Corpus,
    tokens: int = INHERITED_TOKENS,
    sequence: int = 64,
    *,
    bf16: bool = False,
) -> float:
    """Held-out bits per byte of an architecture with the weights that it inherits; no training."""
    return evaluate(net.extract(arch), corpus, tokens, sequence, bf16=bf16, threads=None)
