"""One training loop whose single dial is the token budget."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nas_bo.architecture import Architecture, Node
from nas_bo.errors import ModelError, TrainingDiverged
from nas_bo.model.data import Corpus
from nas_bo.model.inference import as_tensor, check_vocabulary, evaluate, torch_threads
from nas_bo.model.transformer import Decoder, build

DEFAULTS: dict[str, float] = {
    "lr": 3e-3,
    "weight_decay": 0.1,
    "batch_size": 8,
    "sequence": 64,
    "warmup": 0.05,
    "decay": 0.25,
    "clip": 1.0,
}
"""What `train` reads from the top level of an architecture when it is there, and uses when it is not."""

CURVE_POINTS = 40
BLOCK = 32  # steps whose batches are gathered and moved to the device together
BF16_FROM = 1_000_000  # non-embedding parameters from which bf16 pays on a CPU that has it
PROGRESS_EVERY_S = 0.3
DIVERGED_ABOVE = 2.0
"""A loss so many nats per token above that of guessing, log(vocab_size), after warm-up is a diverged run."""


@dataclass(frozen=True)
class TrainingResult:
    """What a training run gave.

    Attributes:
        bits_per_byte: on the held-out windows of `evaluate`, after the last step.
        curve: at most 40 points (tokens seen, mean training bits per token since the last point).
        validation: (tokens seen, held-out bits per byte) at the points asked for with `validate_at`, and the end.
        tokens, steps: what was trained on.
        parameters: all of them, tied ones once.
        seconds, cpu_seconds: wall and process time of training and evaluation together.
        model: the trained model, in evaluation mode.
    """

    bits_per_byte: float
    curve: tuple[tuple[int, float], ...]
    validation: tuple[tuple[int, float], ...]
    tokens: int
    steps: int
    parameters: int
    seconds: float
    cpu_seconds: float
    settings: dict[str, float]
    model: Decoder = field(repr=False)


Progress = Callable[[int, int, float], Any]


def train(
    arch: Architecture | Node | Decoder,
    corpus: Corpus,
    tokens: float = 200_000,
    seed: int = 0,
    *,
    lr: float | None = None,
    weight_decay: float | None = None,
    batch_size: int | None = None,
    sequence: int | None = None,
    warmup: float | None = None,
    decay: float | None = None,
    clip: float | None = None,
    validate_at: Collection[float] = (),
    device: torch.device | str | None = None,
    bf16: bool | None = None,
    threads: int | None = 1,
    ignore: Collection[str] = (),
    progress: Progress | None = None,
) -> TrainingResult:
    """Train a decoder on `tokens` tokens and evaluate it.

    AdamW (betas 0.9, 0.95) at the learning rates of `Decoder.parameter_groups`, warm-up, constant, linear decay to
    zero (Hu et al. 2024, arXiv 2404.06395: a prefix of the run before the decay is the same for every budget).
    The same architecture, seed and number of threads give the same result to the bit; the global random state of
    torch, numpy and Python is neither read nor changed, and every candidate sees the same batches.

    Args:
        arch: an architecture, built here and initialised from `seed`; or a `Decoder`, trained on from where it is.
        corpus: see `load_corpus`.
        tokens: the budget; rounded down to whole steps of batch_size * sequence tokens (at least one step).
        seed: of the initial weights and of the order of the batches.
        lr, weight_decay: at fan-in 128; defaults 3e-3 and 0.1 (decay of matrices only, multiplied by the rate).
        batch_size, sequence: tokens per step; defaults 8 x 64.
        warmup, decay: shares of the steps; defaults 0.05 and 0.25.
        clip: bound of the gradient's global norm, default 1.0; 0 does not clip.
            The arguments from `lr` to here, when None, are taken from fields of that name at the top level of the
            architecture (so that they can be searched), else the defaults in `DEFAULTS` hold.
        validate_at: shares of the budget (0 to 1) after which to evaluate as well.
        device: default CUDA if there is one, else the CPU; a `Decoder` stays where it is.
        bf16: autocast; default where it pays: CUDA, and CPUs with bf16 instructions from a million parameters on.
        threads: of torch on the CPU while training (one is the fastest for small models, and repeatable); None leaves
            them alone.
        ignore: top-level fields of the architecture that are the caller's own.
        progress: called as progress(step, steps, nats per token) a few times a second.

    Raises:
        ModelError: the architecture cannot be built, or a setting is out of range.
        DataError: the corpus is shorter than a window, or its vocabulary is larger than the model's.
        TrainingDiverged: the loss is not finite, or after warm-up far above that of guessing.
    """
    given = {"lr": lr, "weight_decay": weight_decay, "batch_size": batch_size, "sequence": sequence}
    settings = _settings(arch, {**given, "warmup": warmup, "decay": decay, "clip": clip})
    if not tokens >= 1 or tokens == math.inf:
        raise ModelError(f"tokens={tokens!r} must be a finite number of at least 1; the default is 200,000")
    batch, length = int(settings["batch_size"]), int(settings["sequence"])
    steps = max(1, int(tokens) // (batch * length))
    wall, cpu = time.perf_counter(), time.process_time()
    with torch_threads(threads):
        if isinstance(arch, Decoder):
            model = arch
        else:
            chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
            generator = torch.Generator().manual_seed(seed % (1 << 63))
            model = build(arch, corpus.vocab_size, ignore, generator=generator).to(chosen)
        check_vocabulary(model, corpus)
        run = _Run(model, corpus, settings, steps, seed, bf16, progress)
        run.go(sorted(max(1, min(steps, round(share * steps))) for share in validate_at))
        run.validate(steps)
    return TrainingResult(
        bits_per_byte=run.validation[-1][1],
        curve=tuple(run.curve),
        validation=tuple(run.validation),
        tokens=steps * batch * length,
        steps=steps,
        parameters=sum(weight.numel() for weight in model.parameters()),
        seconds=time.perf_counter() - wall,
        cpu_seconds=time.process_time() - cpu,
        settings=settings,
        model=model,
    )


def _settings(arch: Any, given: dict[str, float | None]) -> dict[str, float]:
    fields = {} if isinstance(arch, Decoder) else arch
    settings = {}
    for name, default in DEFAULTS.items():
        value = given[name]
        if value is None:
            value = fields.get(name, default) if hasattr(fields, "get") else default
        whole = name in ("batch_size", "sequence")
        low, high = (1, math.inf) if whole else (0.0, 1.0 if name in ("warmup", "decay") else math.inf)
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not low <= value <= high:
            raise ModelError(
                f"{name}={value!r} must be {'an integer of at least 1' if whole else f'a number from {low} to {high}'}"
            )
        settings[name] = value
    return settings


class _Run:
    """The state of one training run."""

    def __init__(
        self,
        model: Decoder,
        corpus: Corpus,
        settings: dict[str, float],
        steps: int,
        seed: int,
        bf16: bool | None,
        progress: Progress | None,
    ) -> None:
        self.model, self.corpus, self.steps, self.seed, self.progress = model, corpus, steps, seed, progress
        self.batch, self.sequence = int(settings["batch_size"]), int(settings["sequence"])
        self.clip = settings["clip"]
        self.device = model.embedding.weight.device
        self.bf16 = _use_bf16(model, self.device) if bf16 is None else bf16
        self.curve: list[tuple[int, float]] = []
        self.validation: list[tuple[int, float]] = []
        self.warm = math.ceil(settings["warmup"] * steps)
        self.cool = math.ceil(settings["decay"] * steps)
        groups = model.parameter_groups(settings["lr"], settings["weight_decay"])
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8, fused=True)
        self.rates = [float(group["lr"]) for group in groups]
        self.worst = math.log(model.vocab_size) + DIVERGED_ABOVE

    def rate(self, step: int) -> float:
        """The factor on the learning rate of step 0, 1, ..."""
        up = (step + 1) / (self.warm + 1) if step < self.warm else 1.0
        left = self.steps - step
        return min(up, left / (self.cool + 1)) if left <= self.cool else up

    def go(self, stops: list[int]) -> None:
        model, optimizer = self.model, self.optimizer
        parameters = [weight for weight in model.parameters() if weight.requires_grad]
        every = math.ceil(self.steps / CURVE_POINTS)
        losses: list[Tensor] = []
        model.train()
        last_report = time.perf_counter()
        for step, batch in enumerate(self._batches()):
            factor = self.rate(step)
            for group, rate in zip(optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * factor
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                loss, nll = model.loss(batch[:, :-1], batch[:, 1:])
            loss.backward()  # type: ignore[no-untyped-call]
            if self.clip:
                torch.nn.utils.clip_grad_norm_(parameters, self.clip, foreach=True)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(nll.detach())
            if len(losses) == every or step + 1 == self.steps:  # the only wait for the device
                mean = self._look(step + 1, losses)
                losses = []
                if self.progress is not None and (
                    time.perf_counter() - last_report > PROGRESS_EVERY_S or step + 1 == self.steps
                ):
                    self.progress(step + 1, self.steps, mean)
                    last_report = time.perf_counter()
            while stops and stops[0] <= step + 1 < self.steps:
                if stops.pop(0) == step + 1:
                    self.validate(step + 1)
                    model.train()
        model.eval()

    def _batches(self) -> Iterator[Tensor]:
        for start in range(0, self.steps, BLOCK):
            count = min(BLOCK, self.steps - start)
            block = self.corpus.batches(start, count, self.batch, self.sequence, self.seed)
            yield from as_tensor(block, self.device).unbind(0)

    def _look(self, step: int, losses: list[Tensor]) -> float:
        values = torch.stack(losses).tolist()
        for index, value in enumerate(values, step - len(losses)):
            if not math.isfinite(value) or (index >= self.warm and value > self.worst):
                raise TrainingDiverged(
                    f"training diverged at step {index + 1} of {self.steps}: the loss is {value:.4g} nats per token, "
                    f"where guessing gives {self.worst - DIVERGED_ABOVE:.2f}; use a lower lr, a longer warmup or a "
                    "tighter clip, or let the search count the trial as failed"
                )
        mean: float = sum(values) / len(values)
        self.curve.append((step * self.batch * self.sequence, mean / math.log(2)))
        return mean

    def validate(self, step: int) -> None:
        value = evaluate(self.model, self.corpus, sequence=self.sequence, bf16=self.bf16, threads=None)
        if not math.isfinite(value):
            raise TrainingDiverged(
                f"after step {step} of {self.steps} the held-out loss is {value}; use a lower lr, or let the search "
                "count the trial as failed"
            )
        self.validation.append((step * self.batch * self.sequence, value))


def _use_bf16(model: Decoder, device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or not torch.cpu.get_capabilities().get("avx512_bf16", False):
        return False
    embeddings = model.embedding.weight.numel() * (1 if model.head is None else 2)
    return sum(weight.numel() for weight in model.parameters()) - embeddings >= BF16_FROM
