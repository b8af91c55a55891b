"""Runs of equal shape as one: their weights are stacked, and every kernel works on all of them (`torch.func.vmap`).

What it saves is kernels, not arithmetic: on a CPU little (`benchmarks/grouped_training/run.py`), so there it is off unless asked
for; on a GPU, which such models leave idle, it is on. Only runs of one shape can be stacked, above all several seeds of one
architecture. Models of different shapes share a GPU as processes, as the workers of `search` do.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from nas_bo.architecture import Architecture, Node
from nas_bo.errors import ModelError, TrainingDiverged
from nas_bo.model.blocks.block import Sparse
from nas_bo.model.blocks.table import block_of
from nas_bo.model.data import Corpus
from nas_bo.model.decoder import Decoder
from nas_bo.model.inference import torch_threads
from nas_bo.model.schedule import settings_of
from nas_bo.model.spec import DecoderSpec, check
from nas_bo.model.training import Training, TrainingResult
from nas_bo.model.training_loop import Loop, Pass
from nas_bo.model.training_settings import Machine, TrainingSettings, given
from nas_bo.seeds import Seed, whole_seed
from nas_bo.validated import check_values, whole_number
from nas_bo.wording import counted

TOGETHER = 16  # runs that are stacked on a GPU


def train_many(
    archs: Sequence[Architecture | Node],
    corpus: Corpus,
    tokens: float = 200_000,
    seeds: Seed | Sequence[Seed] = 0,
    *,
    settings: TrainingSettings | Mapping[str, float | None] | None = None,
    together: int | None = None,
    **options: Unpack[Machine],
) -> list[TrainingResult | TrainingDiverged]:
    """`train` for several runs, those of equal shape and settings stacked.

    What a stacked run gives does not depend on which runs it is stacked with: on a CPU bit for bit, also not on how many
    (from two on). Against the run alone it differs as much as another order of additions does, and so it may on a GPU by
    the number of runs. Mixtures of experts are trained alone, since how many rows go where differs between runs.

    Args:
        archs: one per run.
        corpus, tokens, device, bf16, threads, ignore, evaluation_tokens: as in `train`.
        seeds: one per run, or one for all; a generator gives one (see `nas_bo.seeds`).
        settings: a mapping of those from `lr` to `embedding_power`, as in `train`, or all settings as one value.
        together: how many runs are stacked at most; 1 stacks none; None is 16 on a GPU and 1 on a CPU.

    Returns:
        For every run, in the order given, its result, or the error of one that diverged, which disturbs no other. The
        seconds of stacked runs are equal parts.

    Raises:
        ModelError: as `train`; no runs, or not as many seeds; together is below 1.
        DataError: as `train`.
    """
    made = given("train_many", settings, options)
    for name in ("validate_at", "checkpoint", "build", "teacher"):
        if vars(made)[name]:
            raise ModelError(
                f"train_many(settings=...) with {name}: stacked runs have none; train them one by one with train"
            )
    threads = made.threads
    wanted: Any = seeds  # one, or several in whatever holds them
    several = isinstance(wanted, Sequence) or np.ndim(wanted) > 0
    each = [whole_seed(seed, "train_many", ModelError, "seeds") for seed in (wanted if several else [wanted])]
    each = each if several else each * len(archs)
    if not archs or len(each) != len(archs):
        raise ModelError(
            f"train_many got {counted(len(archs), 'architecture')} and {counted(len(each), 'seed')}; it needs at least one architecture, and one "
            "seed for all or as many as architectures"
        )
    kind = torch.device(made.device or ("cuda" if torch.cuda.is_available() else "cpu")).type
    if together is None:
        together = 1 if kind == "cpu" else TOGETHER
    check_values("train_many", ModelError, whole_number(1), together=together)
    groups: dict[tuple[DecoderSpec, tuple[float, ...]], list[int]] = {}
    for index, arch in enumerate(archs):
        key = check(arch, made.ignore), tuple(settings_of(arch, made.recipe()).values())
        groups.setdefault(key, []).append(index)
    outcomes: dict[int, TrainingResult | TrainingDiverged] = {}
    for (spec, _), members in groups.items():
        size = 1 if any(isinstance(block_of(one), Sparse) for layer in spec.layers for one in layer) else together
        for start in range(0, len(members), size):
            some = members[start : start + size]
            runs = [Training(archs[i], corpus, tokens, each[i], settings=made) for i in some]
            errors = _stacked(runs, threads) if len(runs) > 1 else [None]
            for i, run, error in zip(some, runs, errors, strict=True):
                outcomes[i] = _finish(run) if error is None else error
    return [outcomes[index] for index in range(len(archs))]


def _finish(training: Training) -> TrainingResult | TrainingDiverged:
    try:
        return training.to()
    except TrainingDiverged as error:
        return error


class _Loss(nn.Module):
    """The losses of a decoder as what a functional call calls."""

    def __init__(self, model: Decoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.loss(tokens, targets)


def _stacked(trainings: Sequence[Training], threads: int | None) -> list[TrainingDiverged | None]:
    """Train all to the end, without evaluating them; the errors of those that diverged."""
    wall, cpu = time.perf_counter(), time.process_time()
    runs = [training._run for training in trainings]
    first, count = runs[0], len(runs)
    for run in runs:
        run.stacked = True
    modules = [_Loss(run.model.train()) for run in runs]
    weights: dict[str, Tensor] = {
        name: weight.detach().requires_grad_() for name, weight in stack_module_state(modules)[0].items()
    }
    at = {weight: weights[name] for name, weight in modules[0].named_parameters()}
    groups = [
        {**group, "params": [at[weight] for weight in group["params"]]} for group in first.loop.optimizer.param_groups
    ]
    loop = Loop(groups, list(weights.values()), first.steps, first.settings, first.device, bf16=first.bf16, clip=_clip)

    def losses(some: dict[str, Tensor], tokens: Tensor, targets: Tensor) -> Pass:
        found: Pass = functional_call(modules[0], some, (tokens, targets))
        return found

    def batches(start: int, steps: int) -> Tensor:  # (steps, M, B, T + 1)
        return torch.stack([run.batches(start, steps) for run in runs], 1)

    def passes(batch: Tensor) -> Iterator[Pass]:
        with loop.autocast():
            loss, nll = vmap(losses)(weights, batch[..., :-1], batch[..., 1:])
        yield loss.sum(), nll

    errors: list[TrainingDiverged | None] = [None] * count

    def look(rows: list[list[float]]) -> bool:
        for i, column in enumerate(zip(*rows, strict=True)):
            runs[i].loop.step = loop.step
            if errors[i] is None:
                try:
                    runs[i].look(list(column))
                except TrainingDiverged as error:
                    errors[i] = error
        return all(errors)

    # Attention as matrix products: its own kernels are called one by one on a CPU, and on CUDA, where they can be stacked, they
    # fail ("LSE is not correctly aligned") or give gradients with which runs diverge (torch 2.11).
    with torch_threads(threads), sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop")
        loop.go(batches, passes, look)
    with torch.no_grad():
        for name, stacked in weights.items():
            for module, weight in zip(modules, stacked.unbind(0), strict=True):
                module.get_parameter(name).copy_(weight)
    for training in trainings:
        training._run.stacked = False
        training._seconds += (time.perf_counter() - wall) / count
        training._cpu_seconds += (time.process_time() - cpu) / count
    return errors


def _clip(weights: Sequence[Tensor], bound: float) -> None:
    """Scale the gradients of every run, (M, ...) each, to a global norm of at most `bound`."""
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)  # (M,)
    scale = (bound / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(scale.view(-1, *(1 for _ in gradient.shape[1:])))
