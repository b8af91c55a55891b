"""A synthetic task as an objective: how well an architecture has learned it after a hundred or so short batches."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, is_dataclass, replace
from typing import Literal

from nas_bo.architecture import Architecture
from nas_bo.errors import ObjectiveError
from nas_bo.model.spec import check
from nas_bo.objective import Value
from nas_bo.objectives.proxy_task.task import Task
from nas_bo.seeds import settle
from nas_bo.trial import Direction
from nas_bo.validated import check_fields, checked, number, whole_number


@dataclass(frozen=True)
class ProxyTask:
    """Held-out bits per answer of a synthetic task after training on it from scratch.

    Args:
        task: see `Task`; the network is built with the vocabulary of the task.
        steps, rows: training batches, and sequences in each; the budget.
        seeds: initialisations and batch orders to average over.
        first_seed: of those; the others follow it.
        lr: as in `nas_bo.model.train`; fixed, so that architectures are compared and not their hyperparameters.
        decay: share of the steps in which the learning rate falls to zero.
        held_out: sequences that the score is taken on.
        device: a torch device; None is CUDA where there is one, else the CPU.
        at_most, at_least: hard limits in bits.
        ignore: top-level fields of the architecture that are the user's own.

    The value's `info` has the accuracy, that of guessing, and the `score` between them: 0 is guessing, 1 knows all.

    Raises:
        ObjectiveError: a setting is out of range, or `task` is not a task.
        TrainingDiverged: (when called) a loss is not finite.
    """

    task: Task
    steps: int = checked(100, whole_number(1))
    rows: int = checked(8, whole_number(1))
    seeds: int = checked(1, whole_number(1))
    first_seed: int = 0
    lr: float = checked(3e-3, number(above=0))
    decay: float = checked(0.25, number(at_least=0, at_most=1).advise("it is a share of the steps"))
    held_out: int = checked(256, whole_number(1))
    device: str | None = None
    at_most: float | None = None
    at_least: float | None = None
    ignore: tuple[str, ...] = ()
    name: str = ""
    unit: str = "bits/answer"
    direction: Direction = "minimize"
    cost: Literal["trained"] = "trained"

    def __post_init__(self) -> None:
        settle(self, ObjectiveError, "first_seed")
        if isinstance(self.task, type) or not isinstance(self.task, Task):
            raise ObjectiveError(
                f"ProxyTask({self.task!r:.60}): this is not a task; it needs name, vocab_size, options and "
                "batch(rng, rows), as an instance of AssociativeRecall has them"
            )
        check_fields(self, ObjectiveError)
        if not self.name:
            object.__setattr__(self, "name", self.task.name)

    def conditions(self) -> dict[str, object]:
        fields = asdict(self.task) if is_dataclass(self.task) else {"name": self.task.name}
        settings = ("steps", "rows", "seeds", "first_seed", "lr", "decay", "held_out")
        return {"task": fields, **{name: vars(self)[name] for name in settings}}

    def larger(self, factor: float) -> ProxyTask:
        """The same task with `factor` times the steps and other seeds, for re-training winners."""
        steps = max(1, round(self.steps * factor))
        return replace(self, steps=steps, first_seed=self.first_seed + self.seeds, at_most=None, at_least=None)

    def check_architecture(self, arch: Architecture) -> None:
        """Raise ModelError where the decoder cannot be built."""
        check(arch, self.ignore)

    def __call__(self, arch: Architecture, /) -> Value:
        import torch

        from nas_bo.model.decoder import build
        from nas_bo.model.device import pick_device
        from nas_bo.objectives.proxy_task.learning import learn

        device = torch.device(pick_device(self.device))
        runs = []
        for seed in range(self.first_seed, self.first_seed + self.seeds):
            generator = torch.Generator().manual_seed(seed % (1 << 63))
            model = build(arch, self.task.vocab_size, self.ignore, generator=generator).to(device)
            runs.append(learn(model, self.task, self.steps, self.rows, seed, self.lr, self.held_out, self.decay))
        bits = [run.bits for run in runs]
        mean, accuracy = sum(bits) / len(runs), sum(run.accuracy for run in runs) / len(runs)
        spread = math.sqrt(sum((b - mean) ** 2 for b in bits) / (len(bits) - 1)) if len(bits) > 1 else None
        return Value(
            mean,
            how="proxy-task",
            seeds=self.seeds,
            spread=spread,
            accuracy=round(accuracy, 5),
            guessing=round(1 / self.task.options, 5),
            score=round(self.score(mean), 5),
            steps=self.steps,
            tokens=sum(run.tokens for run in runs),
            seconds=round(sum(run.seconds for run in runs), 4),
            cpu_seconds=round(sum(run.cpu_seconds for run in runs), 4),
        )

    def score(self, bits: float) -> float:
        """Bits as a share of what guessing costs that has been saved: 0 guesses, 1 knows every answer; below 0 is
        worse than guessing."""
        return 1 - bits / math.log2(self.task.options)
