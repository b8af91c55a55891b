"""Training one decoder on one synthetic task, and its score on sequences that it has not seen."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from nas_bo.errors import TrainingDiverged
from nas_bo.model.inference import as_tensor, torch_threads
from nas_bo.model.schedule import DEFAULTS
from nas_bo.model.training_loop import Loop, Pass
from nas_bo.objectives.proxy_task.task import IGNORED, stream
from nas_bo.wording import counted

if TYPE_CHECKING:
    from nas_bo.model.decoder import Decoder
    from nas_bo.objectives.proxy_task.task import Task

TRAIN, HELD_OUT = 0, 1  # parts of the random stream


@dataclass(frozen=True)
class Learned:
    """What learning a task gave.

    Attributes:
        accuracy: share of held-out targets whose most probable token is right.
        bits: mean negative log-likelihood of held-out targets, in bits.
        curve: the same of every training batch before the step on it. Sequences are fresh ones, so this is a held-out
            loss as well, that of a network still learning.
        tokens: read in training.
        seconds, cpu_seconds: wall and process time.
    """

    accuracy: float
    bits: float
    curve: tuple[float, ...]
    tokens: int
    seconds: float
    cpu_seconds: float


def learn(
    model: Decoder, task: Task, steps: int, rows: int, seed: int, lr: float, held_out: int, decay: float
) -> Learned:
    """Train `model` for `steps` batches of `rows` sequences and score it on `held_out` other sequences.

    The recipe is that of `nas_bo.model.train`: AdamW at the learning rates of `Decoder.parameter_groups`, its warm-up
    and clipping; the last share `decay` of the steps lets the rate fall. Batches depend on (seed, step) alone.

    Raises:
        TrainingDiverged: a loss is not finite.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    device = model.embedding.weight.device
    groups = model.parameter_groups(lr, DEFAULTS["weight_decay"])
    loop = Loop(groups, list(model.parameters()), steps, {**DEFAULTS, "decay": decay}, device)
    loop.every = steps  # the only wait for the device is at the end
    losses: list[float] = []
    tokens = 0

    def batches(start: int, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
        return [task.batch(stream(seed, TRAIN, at), rows) for at in range(start, start + count)]

    def passes(batch: tuple[np.ndarray, np.ndarray]) -> Iterator[Pass]:
        nonlocal tokens
        inputs, targets = batch
        tokens += inputs.size
        yield model.loss(as_tensor(inputs, device), as_tensor(targets, device))

    model.train()
    with torch_threads(1):
        loop.go(batches, passes, losses.extend)
        accuracy, bits = score(model, task, held_out, seed)
    curve = (torch.tensor(losses) / math.log(2)).tolist()
    if not math.isfinite(bits) or not all(map(math.isfinite, curve)):
        raise TrainingDiverged(
            f"learning {task.name!r} diverged within {counted(steps, 'step')}; use a lower lr than {lr:g}, or let the search count "
            "the trial as failed"
        )
    return Learned(accuracy, bits, tuple(curve), tokens, time.perf_counter() - wall, time.process_time() - cpu)


@torch.inference_mode()
def score(model: Decoder, task: Task, rows: int, seed: int) -> tuple[float, float]:
    """(accuracy, bits per target) on `rows` held-out sequences, the same ones for every model."""
    device = model.embedding.weight.device
    model.eval()
    inputs, targets = (as_tensor(part, device) for part in task.batch(stream(seed, HELD_OUT, 0), rows))
    logits = model(inputs).float()
    nll = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
    asked = targets != IGNORED
    right = ((logits.argmax(-1) == targets) & asked).sum() / asked.sum()
    return float(right), float(nll) / math.log(2)
