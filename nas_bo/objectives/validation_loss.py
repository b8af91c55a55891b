"""Quality by low-fidelity training: a fixed budget of tokens, the same batches in the same order for everyone, and
dials that make it cheaper: a prefix of the run, less text, shorter sequences, a narrower copy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from nas_bo.architecture import Architecture, Node
from nas_bo.errors import ObjectiveError
from nas_bo.model import checkpoint_folder
from nas_bo.model.blocks.details import check_length
from nas_bo.model.distillation import Teaching, as_distillation
from nas_bo.model.own_model import Build, called, check_build
from nas_bo.model.parametrization import STANDARD, CompleteP, Parametrization, parametrization_of
from nas_bo.model.schedule import DEFAULTS, EVALUATION_TOKENS
from nas_bo.model.spec import check
from nas_bo.objective import Value
from nas_bo.objectives.growth import Growth
from nas_bo.objectives.probe import LearningRateProbe
from nas_bo.objectives.text import BITS_PER_BYTE, BITS_PER_TOKEN, OnText, part_of, unit_of
from nas_bo.objectives.trained_models import offer
from nas_bo.seeds import settle
from nas_bo.spelling import BEFORE, NAME
from nas_bo.trial import Direction, Trial
from nas_bo.validated import check_fields, check_values, checked, each, must, number, whole_number

if TYPE_CHECKING:
    from nas_bo.model.decoder import Decoder
    from nas_bo.model.sharded_training import ShardedTraining
    from nas_bo.model.training import Progress, Training, TrainingResult

MIN_TOKENS = 1_000  # below a few steps there is nothing to compare
QUICK_EVALUATION_TOKENS = 16_384
EXTRAPOLATE_FROM = (0.2, 0.4, 0.6, 0.8, 1.0)  # shares of what is trained at which the curve is measured
WHOLE: dict[str, Any] = {  # the dials that make a run cheaper, as they are in a re-training
    "fidelity": 1.0,
    "data_share": 1.0,
    "width_factor": 1.0,
    "evaluation_tokens": EVALUATION_TOKENS,
    "extrapolate": False,
    "growth": None,
}


@dataclass(frozen=True)
class ValidationLoss(OnText):
    """Bits per byte on held-out text after training for `tokens` tokens, or for a share of such a run: `bits_per_byte`, which
    version 0.1 called `val_loss`. On token files without a tokenizer it is bits per token, and called `val_loss`.

    Args:
        tokens: the training budget, the single dial of `nas_bo.model.train`.
        data, tokenizer: as in `nas_bo.model.load_corpus`; None is the source of Python's standard library as bytes.
        seed: of initialisation and batches, the same for every architecture.
        device: a torch device; None is CUDA where there is one, else the CPU.
        at_most, at_least: hard limits in bits per byte.
        fidelity: the share of the run of `tokens` tokens after which the loss is taken. It is a prefix of that very
            run, with that run's schedule, so that training on costs only the rest.
        checkpoints: a folder, or a URL that fsspec opens (``s3://bucket/runs``). A run is continued from there, bit for bit, when a later
            call asks more of the same architecture, or when it was ended in the middle, also on another machine; processes may share it.
            None starts every run from the start.
        rungs: the shares at which `stages` stops on the way to `fidelity`.
        min_rung: the least rung that is allowed. Rankings at less than a quarter of a run are mostly those of how
            fast something begins to learn; lower it on purpose only.
        sequence, batch_size: of a step; None is what the architecture says, else the defaults of `train`.
        data_share: trains on the first share of the training text only.
        width_factor: trains a copy of so many times the width instead: `nas_bo.model.narrow.narrower` says what of it
            shrinks.
        evaluation_tokens: how much held-out text the loss is taken on.
        probe: picks a learning rate for each architecture by short runs before the real one.
        extrapolate: below the whole run, return not the loss there but that expected at the end of the run
            (`nas_bo.objectives.curves`), with its interval in `info`.
        growth: below the whole run, take off what larger and deeper models have still to gain.
        build: builds a torch module of your own from an architecture (`nas_bo.model.own_model`): it is trained instead of our decoder,
            with the same loop, batches and rates (matrices at lr * 128 / fan_in, at most 2 lr; all else at 2 lr); its first
            weights are those that it draws itself, from `seed`. Not with `width_factor` or `growth`, which know our decoder.
        noise_sd: the standard deviation of one run between seeds, where it is known (`seed_noise` measures it). It is
            kept in the info of every value, for strategies that model noise.
        teacher: a trained model that every architecture learns from in addition to the text: the folder of one (of ``nas-bo train`` or of
            Hugging Face, with the same vocabulary), several of them, a torch module, or a `nas_bo.model.Distillation`. What it says about
            the batches is computed once for all architectures. The value stays the loss on held-out text.
        parametrization: how first weights, learning rates and the like depend on width and depth: "standard" (also None), "completep", or
            a `nas_bo.model.CompleteP` with a base of yours.
        gpus_per_trial: GPUs of one machine that train one architecture together, where it is larger than one of them (see `nas_bo.model.train`);
            the executor gives them: ``Ray(num_gpus=2)``.
        vocab_size, token_dtype, text_key: as vocab_size, dtype and text_key in `nas_bo.model.load_corpus`.
    """

    tokens: float = checked(200_000, number(above=0))
    data: str | None = None
    tokenizer: str | None = None
    seed: int = 0
    device: str | None = None
    at_most: float | None = None
    at_least: float | None = None
    ignore: tuple[str, ...] = ()
    name: str = NAME
    unit: str = BITS_PER_BYTE
    direction: Direction = "minimize"
    cost: Literal["trained"] = "trained"
    fidelity: float = checked(1.0, number(above=0, at_most=1))
    checkpoints: str | None = None
    rungs: tuple[float, ...] = checked((0.25,), each(number(above=0, at_most=1), 0, "numbers above 0 and at most 1"))
    min_rung: float = checked(0.25, number(above=0, at_most=1))
    sequence: int | None = checked(None, whole_number(1).or_none())
    batch_size: int | None = checked(None, whole_number(1).or_none())
    data_share: float = checked(1.0, number(above=0, at_most=1))
    width_factor: float = checked(1.0, number(above=0, at_most=1))
    evaluation_tokens: int = checked(EVALUATION_TOKENS, number(above=0))
    probe: LearningRateProbe | None = None
    extrapolate: bool = False
    growth: Growth | None = None
    noise_sd: float | None = checked(None, number(at_least=0).or_none())
    vocab_size: int | None = field(default=None, kw_only=True)
    token_dtype: str | None = field(default=None, kw_only=True)
    text_key: str | None = field(default=None, kw_only=True)
    build: Build | None = None
    teacher: Teaching | None = field(
        default=None, kw_only=True, repr=False
    )  # in `conditions`, where it is known by its weights
    parametrization: Parametrization | str | None = field(default=None, kw_only=True, repr=False)  # likewise
    gpus_per_trial: int = field(default=1, kw_only=True, repr=False, metadata=must(whole_number(1)))

    @classmethod
    def quick(cls, tokens: float = 200_000, cost: float = 0.25, **dials: Any) -> Self:
        """An estimate of the whole run's ranking at a share `cost` of its price: the first part of the run, with its
        schedule, a quarter of the held-out text, and what larger and deeper models have still to gain taken off.

        `benchmarks/fidelity/run.py` compares it with others. The correction was fitted on the default space and recipe:
        elsewhere check it before use. The value is not a forecast of the final loss: it is the early loss, corrected between architectures.

        Args:
            tokens: of the whole run.
            cost: above 0 and below 1, held-out evaluation included (a forward pass costs a third of a training step).
            dials: any other argument.

        Raises:
            ObjectiveError: the cost leaves too little to train on.
        """
        check_values("ValidationLoss.quick", ObjectiveError, number(above=0, below=1), cost=cost)
        whole, look = tokens + EVALUATION_TOKENS / 3, QUICK_EVALUATION_TOKENS / 3
        fidelity = (cost * whole - look) / tokens if tokens > 0 else 1.0
        if fidelity * tokens < MIN_TOKENS:
            raise ObjectiveError(
                f"ValidationLoss.quick(tokens={tokens:g}, cost={cost:g}) leaves {max(0, fidelity * tokens):.0f} tokens "
                f"to train on, and {MIN_TOKENS:,} are the least; use more tokens or a larger share"
            )
        quick: dict[str, Any] = {
            "fidelity": min(1.0, fidelity),
            "rungs": (),
            "evaluation_tokens": QUICK_EVALUATION_TOKENS,
            "growth": None if dials.get("build") is not None else Growth(),
        }
        return cls(tokens=tokens, **{**quick, **dials})

    def __post_init__(self) -> None:
        settle(self, ObjectiveError)
        object.__setattr__(self, "rungs", tuple(self.rungs))
        check_fields(self, ObjectiveError)
        check_build("ValidationLoss", self.build)
        if self.checkpoints is not None:
            checkpoint_folder.check(self.checkpoints, "ValidationLoss", ObjectiveError)
        if self.teacher is not None:
            object.__setattr__(self, "teacher", as_distillation(self.teacher))
        if self.build is not None and (self.width_factor != 1 or self.growth is not None):
            raise ObjectiveError(
                "ValidationLoss(build=...) with width_factor or growth: both know the decoder of nas_bo only; leave them out"
            )
        if self.gpus_per_trial > 1 and (self.build is not None or self.teacher is not None or self.probe is not None):
            name = next(n for n in ("build", "teacher", "probe") if vars(self)[n] is not None)
            raise ObjectiveError(
                f"ValidationLoss(gpus_per_trial={self.gpus_per_trial}, {name}=...): only decoders of nas_bo that learn from text at a given rate are "
                "trained by several processes; leave one of them out"
            )
        sizes = parametrization_of(self.parametrization, "ValidationLoss")
        if sizes != STANDARD and self.build is not None:
            raise ObjectiveError(
                "ValidationLoss(build=...) with a parametrization: it knows the decoder of nas_bo only; leave one of them out"
            )
        object.__setattr__(self, "parametrization", None if sizes == STANDARD else sizes)
        if self.unit in (BITS_PER_BYTE, BITS_PER_TOKEN):
            object.__setattr__(self, "unit", unit_of(self))
        if self.name == NAME and self.unit != BITS_PER_BYTE:  # it would not be true
            object.__setattr__(self, "name", BEFORE)
        for rung in self.rungs:
            if rung < self.min_rung:
                raise ObjectiveError(
                    f"ValidationLoss(rungs={self.rungs}): the rung {rung:g} is below min_rung={self.min_rung:g}; "
                    "rankings that early mislead, use later rungs, or lower min_rung on purpose"
                )
        if list(self.rungs) != sorted(set(self.rungs)):
            raise ObjectiveError(f"ValidationLoss(rungs={self.rungs}): rungs must rise, as in (0.25, 0.5)")
        if self.extrapolate and self.growth is not None:
            raise ObjectiveError(
                "ValidationLoss(extrapolate=True, growth=...): both say what the rest of the run brings; choose one"
            )
        late = [share for share in (*self.rungs, self.fidelity) if 1 - DEFAULTS["decay"] < share < 1]
        if self.extrapolate and late:
            raise ObjectiveError(
                f"ValidationLoss(extrapolate=True) with a share of {late[0]:g}: the learning rate decays from "
                f"{1 - DEFAULTS['decay']:g} of the run on, and such a curve cannot be drawn out; use at most that, or 1.0"
            )
        least = self.tokens * self.fidelity
        if least < MIN_TOKENS:
            raise ObjectiveError(
                f"ValidationLoss(tokens={self.tokens:g}{'' if self.fidelity == 1 else f', fidelity={self.fidelity:g}'}): "
                f"the budget must be at least {MIN_TOKENS:,} tokens to compare anything; 200,000 is the default"
            )

    def conditions(self) -> dict[str, object]:
        corpus = self.corpus()
        found = {"corpus": corpus.name, "sha256": corpus.fingerprint, "tokens": int(self.tokens), "seed": self.seed}
        for name, default in _DIALS.items():  # not named when not turned, so that older studies can continue
            value = vars(self)[name]
            if value != default:
                found[name] = value.conditions() if isinstance(value, (Growth, LearningRateProbe)) else value
        if self.build is not None:
            found["build"] = called(self.build)
        if isinstance(self.parametrization, Parametrization):
            found["parametrization"] = self.parametrization.settings()
        how = as_distillation(self.teacher)
        if how is not None:
            how.check_vocabulary(corpus.vocab_size, corpus.name, corpus.tokenizer)
            found["teacher"] = how.conditions()
        return found

    def early_correction(self, trials: Sequence[Trial]) -> Callable[[Architecture, float], float]:
        """What to take off losses at rungs before they are compared, learned from trials of whole runs that were looked at on the way; where
        there are few, that of the default space. Nothing of models of the user's own, and of losses that are extrapolated.

        Returns:
            (architecture, share of the budget) -> bits per byte.
        """
        if self.build is not None or self.extrapolate or self.fidelity < 1 or self.unit != BITS_PER_BYTE:
            return lambda arch, share: 0.0
        from nas_bo.objectives.learned_correction import learned_growth, runs_of

        prior, vocab_size = self.growth or Growth(), self.corpus().vocab_size
        sequence = self.sequence or int(DEFAULTS["sequence"])
        runs = runs_of(trials, self.name)
        there = 0.0 if self.growth is None else 1.0  # what rungs have been corrected by already

        def guess(arch: Architecture, share: float) -> float:
            return there * prior(arch, share, vocab_size, sequence, self.ignore)

        runs = [run._replace(early=run.early + guess(run.architecture, run.share)) for run in runs]
        learned = learned_growth(runs, prior, vocab_size=vocab_size, sequence=sequence, ignore=self.ignore)
        return lambda arch, share: learned(arch, share) - guess(arch, share)

    def chance(self) -> float:
        """What guessing costs: of uniform tokens log2(vocabulary) bits each, of uniform bytes 8; the smaller of the two,
        where bytes are known."""
        corpus = self.corpus()
        uniform = math.log2(corpus.vocab_size) / corpus.bytes_per_token
        return uniform if corpus.unit == BITS_PER_TOKEN else min(8.0, uniform)

    def larger(self, factor: float) -> ValidationLoss:
        """The same measure of quality at `factor` times the budget and with another seed, for re-training winners:
        whole runs of the whole model on the whole text."""
        return replace(
            self,
            tokens=self.tokens * factor,
            seed=self.seed + 1,
            at_most=None,
            at_least=None,
            **WHOLE,
        )

    def check_architecture(self, arch: Architecture) -> None:
        """Raise ModelError where the model cannot be built, or one of your own cannot be run."""
        if self.build is None:
            spec = check(arch, self.ignore)
            check_length(spec.details, self.sequence or arch.get("sequence") or int(DEFAULTS["sequence"]))
            if self.gpus_per_trial > 1:
                from nas_bo.model.sharded_training import check_rows_apart

                check_rows_apart(spec, self.gpus_per_trial)
            return
        from nas_bo.hardware.traced import traced
        from nas_bo.hardware.workload import Setting

        traced(self.build, arch, Setting(context=self.sequence or int(DEFAULTS["sequence"])))

    def __call__(self, arch: Architecture, /) -> Value:
        if self._acts_after(arch):
            return self._after(arch)
        return self._value(arch, *self._begin(arch, self._folder()), self.fidelity)

    def stages(self, arch: Architecture) -> Iterator[tuple[float, Value]]:
        """Train, stopping at every rung below `fidelity` and last there: (share of the run, value). Whoever takes no
        further value pays no further training; with `checkpoints` the run can be taken up again later.

        Rungs of fewer than 1,000 tokens are skipped. Raises whatever a call raises.
        """
        least = MIN_TOKENS / self.tokens
        shares = [*(rung for rung in self.rungs if least <= rung < self.fidelity), self.fidelity]
        return self._stages(arch, shares)

    def _stages(self, arch: Architecture, shares: list[float]) -> Iterator[tuple[float, Value]]:
        begun = self._begin(arch, self._folder())
        after = self._acts_after(arch)
        for share in shares[:-1] if after else shares:
            yield share, self._value(arch, *begun, share)
        if after:
            yield shares[-1], self._after(arch, begun)

    def _acts_after(self, arch: Architecture) -> bool:
        from nas_bo.objectives.after_training import acts_after

        return self.build is None and acts_after(arch, self.ignore)

    def _after(
        self, arch: Architecture, begun: tuple[Training | ShardedTraining, dict[str, object]] | None = None
    ) -> Value:
        """The value of an architecture that says what is done to it after training: of the one training that serves all that differ
        in this alone, plus what it changes."""
        import time

        from nas_bo.objectives import after_training

        began = time.process_time()
        corpus = self.corpus()
        chosen = self._chosen(arch)
        spec = check(chosen, self.ignore)

        def train() -> after_training.Kept:
            training, about = begun or self._begin(arch, self._folder())
            value = self._value(arch, training, about, self.fidelity)
            beyond = training.done > self.fidelity + 1e-9  # its checkpoint is
            result = (self._begin(arch, None)[0] if beyond else training).to(self.fidelity)
            sequence = int(result.settings["sequence"])
            return after_training.Kept(result.model.eval(), float(value), value.info, sequence)

        more = {"evaluation_tokens": self.evaluation_tokens, "device": self.device, "noise_sd": self.noise_sd}
        key = after_training.key_of(self.conditions(), arch.training_id, **more)
        one, there = after_training.kept(key, spec._replace(after=None), self.device, train)
        info: dict[str, object] = {**one.info, "training": arch.training_id}
        if there:
            info["reused"] = True
        gap = 0.0
        if spec.after is not None:
            gap, said = after_training.change(one, spec, corpus, self.evaluation_tokens, self.seed)
            info |= {**said, "how": "trained, then as it is used"}
        info["cpu_seconds"] = round(time.process_time() - began, 3)
        return Value(one.value + gap, **info)

    def _chosen(self, arch: Architecture) -> Architecture | Node:
        """What is trained: the architecture, or its narrower copy."""
        from nas_bo.model.narrow import narrower

        return arch if self.width_factor == 1 else narrower(arch, self.width_factor)

    def _begin(self, arch: Architecture, checkpoint: str | None) -> tuple[Training | ShardedTraining, dict[str, Any]]:
        from nas_bo.model.training import training_of
        from nas_bo.model.training_settings import given

        corpus = self.corpus() if self.data_share == 1 else part_of(self, self.data_share)
        chosen = self._chosen(arch)
        settings: dict[str, float | None] = {"sequence": self.sequence, "batch_size": self.batch_size}
        how = self._how()
        about: dict[str, Any] = {}
        if self.probe is not None:
            rate, tried = self.probe(chosen, corpus, self.seed, settings, **how)
            settings["lr"] = rate
            about = {"lr": rate, "probe": tried}
        if self.extrapolate:
            ends = {*(rung for rung in self.rungs if rung < self.fidelity), self.fidelity}
            how["validate_at"] = [end * part for end in ends if end < 1 for part in EXTRAPOLATE_FROM]
        made = given(
            "ValidationLoss", settings, {**how, "checkpoint": checkpoint, "gpus_per_trial": self.gpus_per_trial}
        )
        return training_of(chosen, corpus, self.tokens, self.seed, settings=made), about

    def _how(self) -> dict[str, Any]:
        """What `nas_bo.model.Training` gets by name."""
        return {
            "device": self.device,
            "ignore": self.ignore,
            "evaluation_tokens": self.evaluation_tokens,
            "build": self.build,
            "teacher": self.teacher,
            "parametrization": self.parametrization,
        }

    def training(
        self,
        arch: Architecture,
        settings: Mapping[str, float | None],
        checkpoint: str | Path | None = None,
        progress: Progress | None = None,
    ) -> Training | ShardedTraining:
        """The whole run of `tokens` tokens, to be trained on from `checkpoint`; what of `settings` is not None replaces what the
        objective or the architecture says about it (see `nas_bo.model.Training`)."""
        from nas_bo.model.training import training_of
        from nas_bo.model.training_settings import given

        corpus = self.corpus()
        chosen: dict[str, float | None] = {"sequence": self.sequence, "batch_size": self.batch_size}
        chosen |= {name: value for name, value in settings.items() if value is not None}
        how = self._how()
        if self.probe is not None and chosen.get("lr") is None:
            chosen["lr"] = self.probe(arch, corpus, self.seed, chosen, **how)[0]
        more = {**how, "checkpoint": checkpoint, "progress": progress, "gpus_per_trial": self.gpus_per_trial}
        return training_of(arch, corpus, self.tokens, self.seed, settings=given("ValidationLoss", chosen, more))

    def trained(self, arch: Architecture) -> TrainingResult:
        """The training of a call with its model: bit for bit the same weights that a call evaluates."""
        result = self._begin(arch, None)[0].to(self.fidelity)
        return replace(result, model=result.model.eval())

    @property
    def judging(self) -> tuple[int, int]:
        """How many held-out tokens a value is of, and tokens of a window."""
        return self.evaluation_tokens, self.sequence or int(DEFAULTS["sequence"])

    def judged(self, arch: Architecture, /) -> Decoder:
        """The decoder that a call evaluates; see `nas_bo.objectives.trained_models.TrainsDecoder`."""
        return self.trained(arch).model

    @property
    def gpus_needed(self) -> int:
        """GPUs that a training must see, where one is not enough; else 0."""
        return 0 if self.gpus_per_trial == 1 or self.device == "cpu" else self.gpus_per_trial

    def check_source(self) -> None:
        """Raise ObjectiveError where checkpoints cannot be written."""
        self._folder()

    def _folder(self) -> str | None:
        if self.checkpoints is not None:
            checkpoint_folder.make(self.checkpoints, "ValidationLoss", ObjectiveError)
        return self.checkpoints

    def _value(
        self, arch: Architecture, training: Training | ShardedTraining, about: dict[str, object], share: float
    ) -> Value:
        result = training.measured(share)
        if result is None and training.done > share + 1e-9:  # a checkpoint that is beyond, and was not looked at here
            result = self._begin(arch, None)[0].to(share)
        result = training.to(share) if result is None else result
        if share == self.fidelity and self.build is None:
            offer(self, arch, result.model.eval())
        info: dict[str, object] = {
            "how": "trained",
            "tokens": result.tokens,
            "steps": result.steps,
            "seed": self.seed,
            "parameters": result.parameters,
            "cpu_seconds": round(result.cpu_seconds, 3),
            "curve": [[int(at), round(loss, 4)] for at, loss in result.curve],
            "fidelity": share,
            "validation": [[int(at), loss] for at, loss in result.validation],
            **about,
        }
        if result.resumed:
            info["resumed"] = result.resumed
        if self.noise_sd is not None:
            info["noise_sd"] = self.noise_sd
        if self.extrapolate and share < 1:
            from nas_bo.objectives.curves import extrapolate

            found = extrapolate(_points(result, self.corpus().bytes_per_token), self.tokens)
            info |= {"measured": result.bits_per_byte, "low": found.low, "high": found.high, "sd": found.sd}
            return Value(found.mean, **info)
        if self.growth is not None and share < 1:
            grown = self.growth(arch, share, self.corpus().vocab_size, int(result.settings["sequence"]), self.ignore)
            info |= {"measured": result.bits_per_byte, "growth": grown}
            return Value(result.bits_per_byte - grown, **info)
        return Value(result.bits_per_byte, **info)


def _points(result: TrainingResult, bytes_per_token: float) -> list[tuple[float, float]]:
    """The curve to extrapolate: held-out losses, or, where a checkpoint brings too few of them, training losses moved
    to end at the held-out one."""
    if len(result.validation) >= 3:
        return [(at, bits) for at, bits in result.validation]
    later = [(at, bits / bytes_per_token) for at, bits in result.curve if at >= result.tokens / 5]
    return [(at, bits + result.bits_per_byte - later[-1][1]) for at, bits in later]


_DIALS = {
    each.name: each.default
    for each in fields(ValidationLoss)
    if each.name
    in (
        "fidelity", "sequence", "batch_size", "data_share", "width_factor", "evaluation_tokens", "probe",
        "extrapolate", "growth", "gpus_per_trial",
    )
}  # fmt: skip


def dials_of(conditions: Mapping[str, Any]) -> dict[str, Any]:
    """The dials of the `ValidationLoss` with these conditions, as its arguments.

    Raises:
        ObjectiveError: it trained a model of the user's own, which only the user can build.
    """
    if "build" in conditions:
        raise ObjectiveError(
            f"the loss of the study trained a model of your own, {conditions['build']}, which the study does not hold; give the "
            "objective itself, as module:name or as a ValidationLoss(build=...)"
        )
    if "teacher" in conditions:
        raise ObjectiveError(
            "the loss of the study was trained with a teacher, of which the study holds a digest only; give the objective itself, as "
            "module:name or as a ValidationLoss(teacher=...)"
        )
    found = {name: value for name, value in conditions.items() if name in (*_DIALS, "parametrization")}
    made = {"growth": Growth, "probe": LearningRateProbe, "parametrization": CompleteP}
    return {name: made[name](**value) if name in made else value for name, value in found.items()}
