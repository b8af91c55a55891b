"""Training a decoder: a run whose single dial is the token budget, which may stop early and be continued."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import torch

from nas_bo.architecture import AFTER, Architecture, Node
from nas_bo.errors import CheckpointError, ModelError
from nas_bo.model import checkpoint as files
from nas_bo.model import checkpoint_folder
from nas_bo.model.blocks.details import check_length
from nas_bo.model.data import Corpus
from nas_bo.model.decoder import Decoder
from nas_bo.model.decoder import build as decoder
from nas_bo.model.distillation import as_distillation
from nas_bo.model.inference import check_vocabulary, torch_threads
from nas_bo.model.not_finite import check_first_pass, has_own_blocks
from nas_bo.model.own_training import own_decoder, own_name
from nas_bo.model.parametrization import STANDARD, parametrization_of
from nas_bo.model.run import Run
from nas_bo.model.schedule import DEFAULTS, settings_of
from nas_bo.model.sharding import ALONE, Shard
from nas_bo.model.spec import check
from nas_bo.model.training_loop import Progress
from nas_bo.model.training_settings import TrainingOptions, TrainingSettings, given
from nas_bo.seeds import Seed, whole_seed
from nas_bo.settings import takes
from nas_bo.validated import check_values, number

if TYPE_CHECKING:
    from nas_bo.model.sharded_training import ShardedTraining

__all__ = ["DEFAULTS", "Progress", "Training", "TrainingResult", "TrainingSettings", "train", "training_of"]


@dataclass(frozen=True)
class TrainingResult:
    """What a training run gave.

    Attributes:
        bits_per_byte: on the held-out windows of `evaluate`, after the last step.
        curve: at most 40 points (tokens seen, mean training bits per token since the last point).
        validation: (tokens seen, held-out bits per byte) at the points asked for with `validate_at`, and the end.
        tokens, steps: what was trained on.
        parameters: all of them, tied ones once.
        seconds, cpu_seconds: wall and process time of training and evaluation together, those before a checkpoint
            included.
        model: the trained model, in evaluation mode; if the run is continued it is trained on.
        share: of the run of the asked budget; 1.0 unless it was stopped.
        resumed: tokens that had been trained before, in the checkpoint that this continued from.
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
    share: float = 1.0
    resumed: int = 0


@takes(TrainingSettings)
def train(
    arch: Architecture | Node | Decoder,
    corpus: Corpus,
    tokens: float = 200_000,
    seed: Seed = 0,
    settings: TrainingSettings | None = None,
    *,
    stop_at: float = 1.0,
    **options: Unpack[TrainingOptions],
) -> TrainingResult:
    """Train a decoder on `tokens` tokens and evaluate it.

    AdamW (betas 0.9, 0.95) at the learning rates of `Decoder.parameter_groups`, warm-up, constant, linear decay to
    zero (Hu et al. 2024, arXiv 2404.06395: a prefix of the run before the decay is the same for every budget).
    The same architecture, seed and number of threads give bit for bit the same result; the global random state of
    torch, numpy and Python is neither read nor changed, and every candidate sees the same batches.

    Args:
        arch: an architecture, built here and initialised from `seed`; or a `Decoder`, trained on from where it is.
        corpus: see `load_corpus`.
        tokens: the budget; rounded down to whole steps of batch_size * sequence tokens (at least one step).
        seed: of the initial weights and of the order of the batches.
        settings: what follows, as one value; what is given by name takes precedence.
        lr, weight_decay: at fan-in 128; defaults 3e-3 and 0.1 (decay of matrices only, multiplied by the rate).
        batch_size, sequence: tokens per step; defaults 8 x 64.
        warmup, decay: shares of the steps; defaults 0.05 and 0.25.
        clip: bound of the gradient's global norm, default 1.0; 0 does not clip.
        embedding_power: 0 to 1, default 0; 1 lets the rate of the embedding fall with the width, as those of matrices do
            (`Decoder.parameter_groups`).
            The arguments from `lr` to here, when None, are taken from fields of that name at the top level of the
            architecture (so that they can be searched), else the defaults in `DEFAULTS` hold.
        validate_at: shares of the budget (0 to 1) after which to evaluate as well.
        device: default CUDA if there is one, else the CPU; a `Decoder` stays where it is.
        bf16: autocast; default where it pays: CUDA, and CPUs with bf16 instructions from a million parameters on.
        threads: of torch on the CPU while training (one is the fastest for small models, and repeatable); None leaves
            them alone.
        ignore: top-level fields of the architecture that are the caller's own.
        progress: called as progress(step, steps, nats per token) a few times a second.
        stop_at: the share of the run after which to stop and evaluate; the schedule stays that of all `tokens`.
        checkpoint: a file, or a URL of one that ends in ``.pt`` (any that fsspec opens). If it is there the run continues from it, bit for bit as a run that was never stopped
            (points of `validate_at` before it are not made up for); it is written at the end, once a minute, and before SIGTERM or
            Ctrl-C ends the process.
        evaluation_tokens: how much held-out text to evaluate on.
        build: makes a torch module of your own from the architecture (see `Training`).
        teacher: a trained model to learn from in addition to the text: the folder of one, a torch module, several of them, or a
            `nas_bo.model.Distillation` with more settings. The same batches, the same loop; losses that are reported stay
            those of the text.
        first_weights: a name for the weights of a `Decoder` that is given, such as a digest of where they are from: with it there can be a
            `checkpoint`, which is then of a run that began with the weights of that name.
        gpus_per_trial: processes that train it together, each with a GPU and a part of every weight, for what is larger than one GPU: FSDP2 of
            torch (`nas_bo.model.sharding`). The loss is that of one process within rounding. With ``device="cpu"`` they are processes
            on processors. Not with a `Decoder`, `build`, `teacher`, blocks of your own or mixtures of experts.
        parametrization: how first weights and rates depend on width and depth: "standard" (also None), "completep", or a
            `nas_bo.model.CompleteP` with a base of yours, with which one `lr` serves larger and deeper decoders.

    Raises:
        ModelError: the architecture cannot be built, a setting is out of range, or the teacher has another vocabulary.
        DataError: the corpus is shorter than a window, or its vocabulary is larger than the model's.
        TrainingDiverged: the loss is not finite, or after warm-up far above that of guessing.
        CheckpointError: the checkpoint is of another run, unreadable, or already beyond `stop_at`.
    """
    return training_of(arch, corpus, tokens, seed, settings=given("train", settings, options)).to(stop_at)


def training_of(
    arch: Architecture | Node | Decoder, corpus: Corpus, tokens: float, seed: Seed, *, settings: TrainingSettings
) -> Training | ShardedTraining:
    """The run, in this process or in as many as its settings say."""
    if settings.gpus_per_trial > 1:
        from nas_bo.model.sharded_training import ShardedTraining

        return ShardedTraining(arch, corpus, tokens, whole_seed(seed, "train", ModelError), settings)
    return Training(arch, corpus, tokens, seed, settings=settings)


class Training:
    """A run that is trained in pieces: ``t = Training(arch, corpus, 500_000); t.to(0.25); t.to(1.0)``.

    Args: as of `train`; `settings` may also be a mapping of those from `lr` to `embedding_power`, missing ones and None as there. A `checkpoint`
    that is a folder, or another URL, gets one file per run, named after its identity. `build` makes a torch module of the user's own of the
    architecture (`nas_bo.model.own_model`), which is trained instead of our decoder.

    Attributes:
        done: the share of the run that is trained.
    """

    def __init__(
        self,
        arch: Architecture | Node | Decoder,
        corpus: Corpus,
        tokens: float = 200_000,
        seed: Seed = 0,
        *,
        settings: TrainingSettings | Mapping[str, float | None] | None = None,
        shard: Shard | None = None,
        **options: Unpack[TrainingOptions],
    ) -> None:
        made = given("Training", settings, options)
        if made.gpus_per_trial > 1 and shard is None:
            raise ModelError(
                f"gpus_per_trial={made.gpus_per_trial}: this is a run of one process; use train() or ValidationLoss(gpus_per_trial=...)"
            )
        device, threads, ignore, build, checkpoint = made.device, made.threads, made.ignore, made.build, made.checkpoint
        seed = whole_seed(seed, "train", ModelError)
        sizes = parametrization_of(made.parametrization)
        if build is not None and sizes != STANDARD:
            raise ModelError(
                "parametrization= was given with build=, a model of your own, of whose weights nobody knows what they do; leave it out"
            )
        self.settings = settings_of({} if isinstance(arch, Decoder) else arch, made.recipe()) | sizes.settings()
        if shard is not None:
            self.settings["gpus_per_trial"] = made.gpus_per_trial
        check_values("train", ModelError, number(at_least=1).advise("the default is 200,000"), tokens=tokens)
        how = as_distillation(made.teacher)
        if how is not None:
            how.check_vocabulary(corpus.vocab_size, corpus.name, corpus.tokenizer)
        if checkpoint is not None and isinstance(arch, Decoder) and made.first_weights is None:
            raise ModelError(
                "checkpoint= was given with a Decoder, whose first weights nobody can name; pass the architecture, or first_weights= with a name "
                "that other weights do not have"
            )
        if build is None:
            spec = arch.spec if isinstance(arch, Decoder) else check(arch, ignore)
            check_length(spec.details, int(self.settings["sequence"]))
        steps = max(1, int(tokens) // (int(self.settings["batch_size"]) * int(self.settings["sequence"])))
        self._threads, self._validate_at = threads, made.validate_at
        self._seconds = self._cpu_seconds = 0.0
        self._spent: dict[int, tuple[float, float]] = {}  # seconds and CPU seconds until a step that was asked for
        self._resumed = 0
        wall, cpu = time.perf_counter(), time.process_time()
        with torch_threads(threads):
            model: Any
            chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
            if isinstance(arch, Decoder):
                model = arch
            elif build is not None:
                model = own_decoder(build, arch, corpus.vocab_size, seed).to(chosen)
            else:
                generator = torch.Generator().manual_seed(seed % (1 << 63))
                model = decoder(arch, corpus.vocab_size, ignore, generator=generator, parametrization=sizes)
                if shard is not None:
                    shard.split(model)
                model = model.to(chosen)
            check_vocabulary(model, corpus)
            if build is not None and not isinstance(arch, Decoder):
                model.check_causal(min(32, int(self.settings["sequence"])))
            if has_own_blocks(model):
                check_first_pass(model)
            more = made.bf16, made.progress, made.evaluation_tokens, how
            self._run = Run(model, corpus, self.settings, steps, seed, *more, ALONE if shard is None else shard)
            if build is not None:
                self._run.loop.worst = math.inf  # its first weights are the user's, who may begin far above guessing
            self._path: str | Path | None = None
            if checkpoint is not None:
                name = made.first_weights if isinstance(arch, Decoder) else _name(arch, ignore)
                assert name is not None  # checked above
                name = name if build is None else own_name(build, name)
                name = name if how is None else f"{name}-taught-{how.key}"
                self._identity = files.Identity(name, corpus.fingerprint, self.settings, steps, seed, self._run.bf16)
                self._path = checkpoint_folder.of(checkpoint, self._identity.key)
                self._restore(self._path)
        self._clock(wall, cpu)
        self._began = wall, cpu

    @property
    def done(self) -> float:
        return self._run.step / self._run.steps

    def measured(self, share: float) -> TrainingResult | None:
        """What `to(share)` gave, here or before the checkpoint, though the run may be further by now (its `model` is
        then the later one); None if it was never asked for."""
        step = self._run.schedule.after(share)
        if step not in self._spent:
            return None
        return self._result(step)

    def to(self, share: float = 1.0) -> TrainingResult:
        """Train until that share of the run is done, evaluate, and write the checkpoint.

        Raises:
            ModelError: the share is not above 0 and at most 1.
            CheckpointError: the run is beyond it already.
            TrainingDiverged: as `train`.
        """
        check_values("train", ModelError, number(above=0, at_most=1).advise("it is a share of the run"), stop_at=share)
        run, until = self._run, self._run.schedule.after(share)
        if run.step > until:
            raise CheckpointError(
                f"this run is at step {run.step} of {run.steps} already and stop_at={share:g} asks for step {until}; "
                "ask for a larger share, or use another checkpoint"
            )
        self._began = wall, cpu = time.perf_counter(), time.process_time()
        stops = {run.schedule.after(point) for point in self._validate_at}
        with torch_threads(self._threads):
            run.go(stops, until, None if self._path is None else self._save)
            run.validate()
        self._clock(wall, cpu)
        self._began = time.perf_counter(), time.process_time()
        if until not in self._spent:
            self._spent[until] = self._seconds, self._cpu_seconds
            self._save()
        return self._result(until)

    def _result(self, step: int) -> TrainingResult:
        run, tokens = self._run, step * self._run.batch * self._run.sequence
        seconds, cpu_seconds = self._spent[step]
        return TrainingResult(
            bits_per_byte=dict(run.validation)[tokens],
            curve=tuple(point for point in run.curve if point[0] <= tokens),
            validation=tuple(point for point in run.validation if point[0] <= tokens),
            tokens=tokens,
            steps=step,
            parameters=sum(weight.numel() for weight in run.model.parameters()),
            seconds=seconds,
            cpu_seconds=cpu_seconds,
            settings=self.settings,
            model=run.model,
            share=step / run.steps,
            resumed=self._resumed,
        )

    def _clock(self, wall: float, cpu: float) -> None:
        self._seconds += time.perf_counter() - wall
        self._cpu_seconds += time.process_time() - cpu

    def _restore(self, path: str | Path) -> None:
        there = files.load(path, self._identity, self._run.device if self._run.sharing is ALONE else "cpu")
        if there is None:
            return
        state = there["state"]
        self._run.restore(there["step"], state)
        self._seconds, self._cpu_seconds = float(state["seconds"]), float(state["cpu_seconds"])
        if self._run.validation:
            self._spent = {int(step): (float(wall), float(cpu)) for step, wall, cpu in state["spent"]}
        self._resumed = self._run.tokens

    def _save(self) -> None:
        if self._path is not None:
            wall, cpu = (
                now() - then for now, then in zip((time.perf_counter, time.process_time), self._began, strict=True)
            )
            spent = [[step, *both] for step, both in self._spent.items()]
            state = {"seconds": self._seconds + wall, "cpu_seconds": self._cpu_seconds + cpu, "spent": spent}
            whole = {**self._run.state(), **state}
            if self._run.sharing.first:
                files.save(self._path, self._identity, self._run.step, whole)


def _name(arch: Architecture | Node, ignore: Collection[str]) -> str:
    if isinstance(arch, Architecture):
        return arch.id if any(name in ignore for name in AFTER) else arch.training_id
    return hashlib.sha256(repr(check(arch, ignore)).encode()).hexdigest()[:16]
