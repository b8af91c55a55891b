"""The loss of a part of a trained model, as it is or after some training that lets it recover."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from nas_bo.architecture import Architecture
from nas_bo.errors import DataError, ObjectiveError
from nas_bo.model import checkpoint_folder
from nas_bo.model.spec import check
from nas_bo.objective import Value
from nas_bo.objectives.text import OnText
from nas_bo.objectives.trained_models import offer
from nas_bo.pretrained.checkpoint import TrainedDecoder
from nas_bo.pretrained.operators import BlockDistillation, replacing
from nas_bo.pretrained.ordered import CalibrationText, OrderedModel, ordered
from nas_bo.pretrained.slices import check_within, sliced
from nas_bo.trial import Direction
from nas_bo.validated import check_fields, checked, each, number, whole_number

if TYPE_CHECKING:
    from nas_bo.model.decoder import Decoder
    from nas_bo.model.spec import DecoderSpec
    from nas_bo.model.training import Progress, Training, TrainingResult
    from nas_bo.pretrained.block_library import BlockLibrary


@dataclass(frozen=True)
class SubModelLoss(OnText):
    """Bits per byte on held-out text of a part of a trained model, with the trained weights; of the space that
    `nas_bo.pretrained.Pretrained.space` gives. What is done after training, such as fewer bits, is done to the part before it is judged, and
    after the training where there is one.

    Args:
        teacher: the trained model.
        data, text_key, token_dtype: as in `nas_bo.model.load_corpus`; the tokenizer is the teacher's.
        tokens: train the part for so many tokens before it is judged; 0 does not.
        lr: of that training, at a fan-in of 128; it falls linearly to zero.
        distill: learn from the trained model's predictions as well (`nas_bo.model.Distillation`), in that training.
        calibration: how the order of importance is found, and the text of `repair`.
        repair: fit the matrices out of the blocks that stay to what the trained model does on the calibration text
            (`nas_bo.pretrained.repair`), before anything is judged or trained.
        held_out_tokens: how much held-out text it is judged on.
        sequence: tokens of one window, there and in training.
        seed: of the order of the batches.
        operators: how blocks of other operators learn that take the place of attention (`nas_bo.pretrained.Parts`), and attention
            with another window.
        device: a torch device; None is CUDA where there is one, else the CPU.
        at_most, at_least: hard limits in bits per byte.
        checkpoints: a folder, or a URL as in `ValidationLoss`. A training that was ended is continued from there, bit for bit; processes may share it. None starts every
            training from the start.
        rungs: the shares of the training at which `stages` looks at the loss on the way, so that it may be stopped there.

    What the trained model says about the batches is computed once for all parts (`nas_bo.model.Distillation`). With training the value's
    `info` has "as_is" too, the loss of the part before it.
    """

    teacher: TrainedDecoder
    data: str | None = None
    tokens: float = checked(0.0, number(at_least=0))
    lr: float = checked(1e-3, number(above=0))
    distill: bool = True
    calibration: CalibrationText = field(default_factory=CalibrationText)
    held_out_tokens: int = checked(16_384, whole_number(1))
    sequence: int = checked(128, whole_number(8))
    seed: int = 0
    operators: BlockDistillation = field(default_factory=BlockDistillation)
    device: str | None = None
    at_most: float | None = None
    at_least: float | None = None
    ignore: tuple[str, ...] = ()
    repair: bool = True
    name: str = "bits_per_byte"
    unit: str = "bits/byte"
    direction: Direction = "minimize"
    cost: Literal["trained"] = field(default="trained")
    token_dtype: str | None = field(default=None, kw_only=True)
    text_key: str | None = field(default=None, kw_only=True)
    checkpoints: str | None = field(default=None, kw_only=True)
    rungs: tuple[float, ...] = checked((0.25,), each(number(above=0, at_most=1), 0, "numbers above 0 and at most 1"))

    def __post_init__(self) -> None:
        if isinstance(self.rungs, list):
            object.__setattr__(self, "rungs", tuple(self.rungs))
        check_fields(self, ObjectiveError)
        if list(self.rungs) != sorted(set(self.rungs)):
            raise ObjectiveError(f"SubModelLoss(rungs={self.rungs}): rungs must rise, as in (0.25, 0.5)")
        if self.checkpoints is not None:
            checkpoint_folder.check(self.checkpoints, "SubModelLoss", ObjectiveError)
        longest = self.teacher.spec.details.max_length
        if longest is not None and self.sequence > longest:
            raise ObjectiveError(
                f"SubModelLoss(sequence={self.sequence}): {self.teacher.name} has only {longest} positions; take fewer"
            )

    @property
    def tokenizer(self) -> str | None:
        return self.teacher.tokenizer

    @property
    def vocab_size(self) -> int | None:
        """Of files of tokens; text has that of the tokenizer."""
        return self.teacher.vocab_size if str(self.data).lower().endswith((".bin", ".npy")) else None

    def conditions(self) -> dict[str, object]:
        corpus = self.corpus()
        if corpus.vocab_size > self.teacher.vocab_size:
            raise DataError(
                f"the tokenizer of {self.teacher.name} gives {corpus.vocab_size} ids and its embedding has {self.teacher.vocab_size}; it is not its own"
            )
        self.calibration.windows(corpus)
        return {
            "teacher": self.teacher.fingerprint,
            "corpus": corpus.name,
            "sha256": corpus.fingerprint,
            "tokens": int(self.tokens),
            "lr": self.lr,
            "distill": self.distill,
            "held_out_tokens": self.held_out_tokens,
            "sequence": self.sequence,
            "seed": self.seed,
            "calibration": repr(self.calibration),
            "operators": self.operators.conditions(),
            "repair": self.repair,
        }

    def check_architecture(self, arch: Architecture, /) -> None:
        """Raise ModelError where the architecture is not a part of the trained model."""
        check_within(self.teacher.spec, check(arch, self.ignore))

    def check_source(self) -> None:
        """Load the trained model and compare the text with it.

        Raises:
            ObjectiveError: the model has learned nothing about the text (`nas_bo.pretrained.fit_of_text`), or checkpoints cannot be written.
            ExportError, ModelError: the model cannot be read, or does not fit in memory.
        """
        from nas_bo.pretrained.fit_of_text import check_text

        if self.checkpoints is not None:
            checkpoint_folder.make(self.checkpoints, "SubModelLoss", ObjectiveError)
        corpus = self.corpus()
        check_text(self.ordered().model, self.teacher.name, corpus, self.calibration.windows(corpus))

    def larger(self, factor: float, /) -> Self | None:
        """With `factor` times the training; nothing where there is none."""
        return replace(self, tokens=self.tokens * factor, seed=self.seed + 1) if self.tokens else None

    def ordered(self) -> OrderedModel:
        """The trained model with its parts in order (raises ObjectiveError for a device that is not there)."""
        from nas_bo.model.device import pick_device

        return ordered(self.teacher, self.corpus(), self.calibration, device=pick_device(self.device))

    def library(self) -> BlockLibrary:
        """Blocks of other operators than those of the trained model, made when they are first needed."""
        from nas_bo.pretrained.block_library import library_of

        found = self.conditions()
        facts = {name: found[name] for name in ("teacher", "sha256", "calibration")}
        return library_of(self.ordered().model, self.corpus(), self.operators, facts)

    def sub_model(self, arch: Architecture, copy: bool = True, *, longer: bool = True) -> Decoder:
        """The part, with the trained weights and repaired; without `copy` weights are shared (raises ModelError).

        Args:
            longer: repair it on four times the calibration text, as one that is kept; False as one of many that are judged.
        """
        spec, held = check(arch, self.ignore)._replace(after=None), self.ordered()
        part = sliced(held.model, spec, copy, self.library() if self._has_others(spec) else None)
        if self.repair:
            (held.long_repair if longer else held.repair)(part)
        return part

    def _has_others(self, spec: DecoderSpec) -> bool:
        """Whether it has blocks of other operators than the trained model."""
        pairs = zip(spec.layers, self.teacher.spec.layers, strict=False)
        return any(replacing(one.mixer, own.mixer) is not None for one, own in pairs)

    def as_used(self, part: Decoder, arch: Architecture, *, trained: bool = True) -> Decoder:
        """A part with all done to it that `arch` says is done after training, such as fewer bits; itself where that is nothing.

        Args:
            trained: on, so that none of its weights are those of the trained model; False takes what its matrices have in common with it from
                matrices of the trained model that were quantized once (`nas_bo.pretrained.rounded`).
        """
        from nas_bo.objectives.after_training import as_used
        from nas_bo.pretrained.rounded import OfTheWhole

        spec = check(arch, self.ignore)
        if spec.after is None:
            return part
        source = None if trained or self._has_others(spec) else OfTheWhole(self.ordered().levels, part)
        return as_used(part, spec, self.corpus(), self.seed, source=source)

    def training(
        self, arch: Architecture, checkpoint: str | Path | None = None, progress: Progress | None = None
    ) -> Training:
        """The run of `tokens` tokens that a part recovers in, to be trained on from `checkpoint`, a file or a folder of one for each run
        (raises ObjectiveError where there is none)."""
        return self._training(self.sub_model(arch), arch, checkpoint, progress)

    def _training(
        self, part: Decoder, arch: Architecture, checkpoint: str | Path | None, progress: Progress | None = None
    ) -> Training:
        from nas_bo.model.distillation import Distillation
        from nas_bo.model.training import Training

        if not self.tokens:
            raise ObjectiveError("SubModelLoss(tokens=0) trains nothing; give it tokens")
        return Training(
            part,
            self.corpus(),
            self.tokens,
            self.seed,
            lr=self.lr,
            warmup=0.0,
            decay=1.0,
            sequence=self.sequence,
            evaluation_tokens=self.held_out_tokens,
            teacher=Distillation(self.ordered().model) if self.distill else None,
            checkpoint=checkpoint,
            progress=progress,
            first_weights=self._first_weights(arch),
        )

    def _first_weights(self, arch: Architecture) -> str:
        """A name of the weights that a part begins with."""
        spec = check(arch, self.ignore)._replace(after=None)
        others = self._has_others(spec)
        said = [self.teacher.fingerprint, self.teacher.dtype, repr(spec), repr(self.calibration), str(self.repair)]
        said += [repr(sorted(self.operators.conditions().items()))] if others else []
        return f"{arch.training_id}-part-{hashlib.sha256(' '.join(said).encode()).hexdigest()[:12]}"

    def trained(self, arch: Architecture, /) -> TrainingResult:
        """The training behind a value, with its model (raises ObjectiveError where there is none)."""
        return self.training(arch).to()

    @property
    def judging(self) -> tuple[int, int]:
        """How many held-out tokens a value is of, and tokens of a window."""
        return self.held_out_tokens, self.sequence

    def judged(self, arch: Architecture, /) -> Decoder:
        """The decoder that a call evaluates; see `nas_bo.objectives.trained_models.TrainsDecoder`."""
        part = self.trained(arch).model if self.tokens else self.sub_model(arch, longer=False)
        return self.as_used(part, arch, trained=self.tokens > 0).eval()

    def stages(self, arch: Architecture, /) -> Iterator[tuple[float, Value]]:
        """The loss at each of `rungs` of the training, and at its end: (share of the run, value). Whoever takes no further value pays no
        further training. Without training there is the end alone."""
        if not self.tokens:
            yield 1.0, self(arch)
            return
        training, about = self._begun(arch)
        for share in (*(rung for rung in self.rungs if rung < 1), 1.0):
            yield share, self._value(arch, training, about, share)

    def _begun(self, arch: Architecture) -> tuple[Training, dict[str, object]]:
        """The training, and the loss of the part before it."""
        from nas_bo.model.inference import evaluate, torch_threads

        if self.checkpoints is not None:
            checkpoint_folder.make(self.checkpoints, "SubModelLoss", ObjectiveError)
        part, clock = self.sub_model(arch), time.process_time()
        with torch_threads(1):
            as_is = evaluate(
                self.as_used(part, arch, trained=False), self.corpus(), self.held_out_tokens, self.sequence
            )
        about: dict[str, object] = {"as_is": as_is, "as_is_cpu_seconds": round(time.process_time() - clock, 3)}
        return self._training(part, arch, self.checkpoints), about

    def _value(self, arch: Architecture, training: Training, about: dict[str, object], share: float) -> Value:
        found = training.measured(share)
        if found is None and training.done > share + 1e-9:  # a checkpoint that is beyond, and was not looked at here
            found = self.training(arch).to(share)
        found = training.to(share) if found is None else found
        more: dict[str, object] = {"resumed": found.resumed} if found.resumed else {}
        value, used = found.bits_per_byte, self.as_used(found.model, arch)
        if share == 1:
            offer(self, arch, used.eval())
        if used is not found.model:
            from nas_bo.model.inference import evaluate

            more["trained"] = value
            value = evaluate(used, self.corpus(), self.held_out_tokens, self.sequence)
        return Value(
            value,
            how="a part of a trained model, trained on",
            tokens=found.tokens,
            seed=self.seed,
            cpu_seconds=round(found.cpu_seconds, 3),
            fidelity=share,
            **about,
            **more,
        )

    def __call__(self, arch: Architecture, /) -> Value:
        from nas_bo.model.inference import evaluate, torch_threads

        if self.tokens:
            return self._value(arch, *self._begun(arch), 1.0)
        with torch_threads(1):
            part = self.as_used(self.sub_model(arch, copy=False, longer=False), arch, trained=False)
            value = evaluate(part, self.corpus(), self.held_out_tokens, self.sequence)
        if not math.isfinite(value):
            raise ObjectiveError(f"the loss of this part of {self.teacher.name} is {value}")
        return Value(value, how="a part of a trained model, as it is", held_out_tokens=self.held_out_tokens)
