"""What a ladder of sizes will train: which architectures, how large on every rung, on how many tokens, and what that takes.

Everything that can be wrong is found here, before the first training.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nas_bo.architecture import Architecture
from nas_bo.errors import ModelError, NasBoError, SearchError
from nas_bo.hardware import memory
from nas_bo.model import counts
from nas_bo.model.larger import grown, larger
from nas_bo.model.parametrization import STANDARD, CompleteP, parametrization_of
from nas_bo.model.schedule import settings_of
from nas_bo.model.spec import check
from nas_bo.objectives.validation_loss import MIN_TOKENS, ValidationLoss
from nas_bo.problem import Problem
from nas_bo.report.digits import aligned, figure
from nas_bo.report.labels import labels_of
from nas_bo.report.ladder import CONTROL, FRONT, PLAIN, Climber, Rung
from nas_bo.report.ranks import FEWEST, FEWEST_PAIRS, about_equal
from nas_bo.space import Space
from nas_bo.wording import counted
from nas_bo.workflows import retraining_check, sub_model
from nas_bo.workflows.baselines import baselines, wants_standard
from nas_bo.workflows.evaluation_store import Records
from nas_bo.workflows.register import trainable
from nas_bo.workflows.result import Result
from nas_bo.workflows.standard import standard

if TYPE_CHECKING:
    from nas_bo.workflows.ladder_settings import LadderSettings

GROWS = 1.2  # the least factor from one rung to the next
DRAWN = 400  # random architectures among which controls of about equal size are looked for
CLOSE = 0.04  # log units of size within which a trial is preferred to an architecture that was never trained
TIMED_STEPS, SLOWEST_STEP_S = 3, 4.0  # of a measured throughput; a rung whose steps take longer is extrapolated
EVALUATION_PASS = 1 / 3  # a token of an evaluation costs a third of one of a training step


class Grown(Space):
    """Stands for where architectures of a ladder are from, which their own space does not hold any more."""


@dataclass(frozen=True)
class Member:
    """One architecture that climbs.

    Attributes:
        kind: as of `nas_bo.report.ladder.Climber`.
        rungs: what it is on every rung; the first is the architecture itself, at the searched size.
    """

    architecture: Architecture
    kind: str
    trial: int | None
    rungs: tuple[Architecture, ...] = ()


@dataclass(frozen=True)
class LadderPlan:
    """What will be trained. ``print(plan)`` tells sizes, tokens, hours and memory.

    Attributes:
        loss: the objective of the study as a whole run, without its budget.
        members: the architectures.
        rungs: the sizes.
        labels: id of a searched architecture -> its name.
        notes: what a reader should know.
    """

    title: str
    loss: ValidationLoss
    settings: LadderSettings
    members: tuple[Member, ...]
    rungs: tuple[Rung, ...]
    labels: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def trainings(self) -> int:
        return len(self.rungs) * len(self.members) * self.settings.seeds

    @property
    def hours(self) -> float:
        """Of all rungs with the workers that were asked for; nan where nothing was measured."""
        return sum(rung.seconds for rung in self.rungs) / self.settings.workers / 3600

    def objective(self, member: Member, rung: int, seed: int) -> ValidationLoss:
        """What is evaluated on a rung: the loss of a run of its tokens, with rates for its size."""
        base = self.loss.parametrization
        if base is None and parametrization_of(self.settings.parametrization, "ladder") != STANDARD:
            spec = check(member.architecture, self.loss.ignore)
            base = CompleteP(spec.width, max(1, len(spec.layers)))
        return replace(
            self.loss, tokens=float(self.rungs[rung].tokens), seed=self.loss.seed + seed, parametrization=base
        )

    def climber(self, member: Member, losses: Sequence[Sequence[float]], reasons: Sequence[str]) -> Climber:
        vocab, ignore = self.loss.corpus().vocab_size, self.loss.ignore
        return Climber(
            member.architecture.id,
            self.labels[member.architecture.id],
            member.kind,
            member.trial,
            tuple(arch.id for arch in member.rungs),
            tuple(counts.parameters(arch, vocab, ignore) for arch in member.rungs),
            tuple(flops_of(arch, self.loss) for arch in member.rungs),
            tuple(tuple(row) for row in losses),
            tuple(reasons),
        )

    def to_dict(self) -> dict[str, object]:
        vocab = self.loss.corpus().vocab_size
        return {
            "study": self.title,
            "seeds": self.settings.seeds,
            "tokens_per_parameter": self.settings.tokens_per_parameter,
            "trainings": self.trainings,
            "hours": None if math.isnan(self.hours) else self.hours,
            "rungs": [{**vars(r), "seconds": None if math.isnan(r.seconds) else r.seconds} for r in self.rungs],
            "architectures": [
                {
                    "id": m.architecture.id,
                    "label": self.labels[m.architecture.id],
                    "kind": m.kind,
                    "trial": m.trial,
                    "sizes": [counts.parameters(arch, vocab, self.loss.ignore) for arch in m.rungs],
                }
                for m in self.members
            ],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        many, seeds = counted(len(self.members), "architecture"), counted(self.settings.seeds, "seed")
        head = ("rung", "parameters", "from", "to", "tokens", "reads the text", "memory", "hours")
        rows = [
            (
                str(number),
                figure(r.middle),
                figure(r.least),
                figure(r.most),
                figure(r.tokens),
                f"{r.repeats:.2g} times",
                f"{r.bytes / 2**30:.2f} GiB",
                "not measured"
                if math.isnan(r.seconds)
                else f"{r.seconds / 3600 / self.settings.workers:.2g}{_mark(r)}",
            )
            for number, r in enumerate(self.rungs, 1)
        ]
        total = (
            ""
            if math.isnan(self.hours)
            else f", {_time(3600 * self.hours)} with {counted(self.settings.workers, 'worker')}"
        )
        kinds = ", ".join(
            f"{sum(m.kind == kind for m in self.members)} {name}"
            for kind, name in ((FRONT, "of the front"), (CONTROL, "off it"), (PLAIN, "plain"))
        )
        lines = [
            f"{self.title}: {many} ({kinds}) on {counted(len(self.rungs), 'rung')}, {seeds}: {counted(self.trainings, 'training')}{total}",
            "",
            *aligned([head, *rows], right=range(1, 8)),
        ]
        if any(r.how == "extrapolated" for r in self.rungs):
            lines.append("* extrapolated by FLOPs from the rung before: its steps take too long to be timed")
        return "\n".join([*lines, *self.notes])


def _time(seconds: float) -> str:
    """``0.4 min``, ``3.2 h``."""
    return f"{seconds / 60:.2g} min" if seconds < 3570 else f"{seconds / 3600:,.3g} h"


def _mark(rung: Rung) -> str:
    return "*" if rung.how == "extrapolated" else ""


def plan_of(result: Result, settings: LadderSettings, records: Records) -> LadderPlan:
    """The plan of a ladder on a study; see `nas_bo.workflows.ladder.ladder` for what is raised."""
    loss = loss_of(result, settings)
    space = result.space
    if space is None or not result.trials:
        raise SearchError(
            f"the study {result.title!r} has no trial that ended, so there is nothing to take up; search first"
        )
    notes: list[str] = []
    members = _members(result, space, loss, settings, records, notes)
    vocab, made = loss.corpus().vocab_size, []
    for member in members:
        size = counts.parameters(member.architecture, vocab, loss.ignore)
        try:
            climbed = [_grown(space, member.architecture, factor * size, loss, settings) for factor in settings.factors]
        except ModelError as error:
            raise SearchError(f"ladder(): {member.architecture.id[:8]} of {space.title} cannot grow: {error}") from None
        made.append(replace(member, rungs=tuple(climbed)))
    rungs = _rungs(made, loss, settings)
    _check_pairs(made, loss)
    labels = labels_of([m.architecture for m in made], space)
    return LadderPlan(result.title, loss, settings, tuple(made), tuple(rungs), labels, tuple(notes))


def loss_of(result: Result, settings: LadderSettings) -> ValidationLoss:
    """The objective whose runs are repeated at other sizes (raises SearchError)."""
    if result.record is not None and not result.record.about:
        raise SearchError(
            f"the study {result.title!r} was not made by nas_bo, so that nobody knows how its models are trained; give a study of a search of "
            "nas_bo"
        )
    if sub_model.loss_of(result, settings.allow) is not None:
        raise SearchError(
            f"the study {result.title!r} searched parts of a trained model, which cannot be grown; a ladder is for architectures that are "
            "trained from the start"
        )
    found = trainable(result, settings.allow)
    if not isinstance(found, ValidationLoss):
        raise SearchError(
            f"the study {result.title!r} trains with {type(found).__name__}, an objective of your own; a ladder repeats runs of ValidationLoss "
            "only"
        )
    if found.build is not None:
        raise SearchError(
            f"the study {result.title!r} trains modules of your own (build={found.build!r}), of which nobody knows how they grow; a ladder is for "
            "the decoder of nas_bo"
        )
    return replace(found.larger(1.0), checkpoints=None, rungs=(), noise_sd=None, probe=None)


# ---- which architectures ---------------------------------------------------------------------------------------------


def _members(
    result: Result,
    space: type[Space],
    loss: ValidationLoss,
    settings: LadderSettings,
    records: Records,
    notes: list[str],
) -> list[Member]:
    """The front, controls of about the size of its members, and plain decoders; the same ones when the call continues."""
    asked = [settings.architectures, settings.seed, repr(settings.baseline), space.fingerprint()]
    key = f"ladder members:{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:12]}"
    before = records.get(key)
    if before is None:
        chosen, said = _chosen(result, space, loss, settings)
        before = {"said": said, "members": [[m.kind, m.trial, dict(m.architecture.flat)] for m in chosen]}
        records.put(key, before)
    notes += before["said"]
    return [Member(space.architecture(flat), kind, trial) for kind, trial, flat in before["members"]]


def _chosen(
    result: Result, space: type[Space], loss: ValidationLoss, settings: LadderSettings
) -> tuple[list[Member], list[str]]:
    problem, notes = Problem(space, [loss]), []
    front = list(result.final.members) or result.front
    if not front:
        raise SearchError(
            f"no trial of the study {result.title!r} is feasible, so there is no front to take up; search first"
        )
    knee = result.final.knee or front[0]
    plain: list[Architecture] = []
    if settings.baseline is not None:
        try:
            own = baselines(settings.baseline, problem, lambda arch: arch.id)
        except NasBoError as error:
            raise SearchError(f"ladder(baseline=...): {_after_who(error)}") from None
        for label, arch in own.items():
            inside = space.contains(arch)
            if not inside:
                raise SearchError(
                    f"ladder(baseline=...): {label!r} is outside of the space {space.title}: {inside.reason}"
                )
        plain = list(own.values())
    if wants_standard(settings.baseline):
        found = standard(problem, front, knee, None, max(1, settings.architectures // 5))
        plain += found.architectures
        if not found.architectures:
            notes.append(f"There is no plain decoder as a control: {found.why}.")
    others = settings.architectures - len(plain)
    beside = max(min(FEWEST_PAIRS, others - 1), others // 2)  # controls: as many as pairs are needed, at least
    most = max(1, settings.architectures - len(plain) - beside)
    climbing = retraining_check.thin(front, most)
    if knee not in climbing and not any(t.architecture.id == knee.architecture.id for t in climbing):
        climbing[len(climbing) // 2] = knee
    chosen = [Member(t.architecture, FRONT, t.number) for t in climbing]
    chosen += [Member(arch, PLAIN, None) for arch in plain]
    room = settings.architectures - len(climbing) - len(plain)
    chosen += _controls(result, space, loss, chosen, room, settings.seed)
    return list({m.architecture.training_id: m for m in reversed(chosen)}.values())[::-1], notes


def _controls(
    result: Result, space: type[Space], loss: ValidationLoss, beside: Sequence[Member], n: int, seed: int
) -> list[Member]:
    """At most `n` architectures of about the size of those that climb: of the trials, else of the space."""
    rng = random.Random(f"ladder:{seed}")
    pool = [Member(t.architecture, CONTROL, t.number) for t in result.trials if t.feasible]
    rng.shuffle(pool)
    pool += [Member(space.sample(rng), CONTROL, None) for _ in range(DRAWN)]
    taken, partners = {m.architecture.training_id for m in beside}, [_size(m.architecture, loss) for m in beside]
    sized = [(m, size) for m in pool if (size := _size_or_none(m.architecture, loss)) is not None]
    having = [sum(about_equal(one, other) for other in partners) for one in partners]  # itself, and others
    found: list[Member] = []
    while len(found) < n and min(having) < len(partners) + len(found):
        lonely = min(range(len(partners)), key=lambda i: (having[i], partners[i]))
        near = [
            (apart > CLOSE, member.trial is None, apart, member)
            for member, size in sized
            if member.architecture.training_id not in taken
            and about_equal(size, partners[lonely])
            and (apart := abs(math.log(size / partners[lonely]))) < math.inf
        ]
        if not near:
            having[lonely] = len(partners) + n  # nothing of that size is left
            continue
        member = min(near, key=lambda one: one[:3])[3]  # sizes drift apart by rounding when they grow
        taken.add(member.architecture.training_id)
        having[lonely] += 1
        found.append(member)
    return found


def _size_or_none(arch: Architecture, loss: ValidationLoss) -> float | None:
    try:
        return _size(arch, loss)
    except NasBoError:
        return None


def _size(arch: Architecture, loss: ValidationLoss) -> float:
    return float(counts.parameters(arch, loss.corpus().vocab_size, loss.ignore))


def _after_who(error: NasBoError) -> str:
    return str(error).removeprefix("search(baseline=").partition("): ")[2] or str(error)


# ---- how large, and on how much ----------------------------------------------------------------------------------------


def _grown(
    space: type[Space], arch: Architecture, parameters: float, loss: ValidationLoss, settings: LadderSettings
) -> Architecture:
    vocab = loss.corpus().vocab_size
    if parameters <= _size(arch, loss):
        return arch
    if settings.grow is not None:
        return larger(arch, parameters, vocab, loss.ignore, settings.grow)
    return grown(space, arch, parameters, vocab, loss.ignore)


def _rungs(members: Sequence[Member], loss: ValidationLoss, settings: LadderSettings) -> list[Rung]:
    """The rungs (raises SearchError for those that do not grow, for tokens that the text cannot give, and for memory that is not there)."""
    corpus = loss.corpus()
    found: list[Rung] = []
    for number, factor in enumerate(settings.factors):
        sizes = [counts.parameters(m.rungs[number], corpus.vocab_size, loss.ignore) for m in members]
        middle = round(statistics.median(sizes))
        if found and middle < GROWS * found[-1].middle:
            raise SearchError(
                f"ladder(): rung {number + 1} has {counted(middle, 'parameter')} in the median and the rung before it {found[-1].middle:,}; a rung must be at "
                f"least {GROWS:g} times as large as the one before, so give larger factors, or a growth rule that grows"
            )
        tokens = int(settings.tokens_per_parameter * middle)
        if tokens < MIN_TOKENS:
            raise SearchError(
                f"ladder(tokens_per_parameter={settings.tokens_per_parameter:g}): rung {number + 1} would train on {tokens:,} tokens, and "
                f"{MIN_TOKENS:,} are the least; give more tokens per parameter"
            )
        repeats = tokens / len(corpus.train)
        if repeats > settings.most_repeats:
            raise SearchError(
                f"ladder(): rung {number + 1} ({counted(middle, 'parameter')}) needs {tokens:,} tokens and {corpus.name!r} has {len(corpus.train):,} to train "
                f"on, so that each would be read {repeats:.1f} times, and at most {settings.most_repeats:g} are allowed (beyond 4 repeated text "
                "teaches little: arXiv 2305.16264); give more text, fewer tokens per parameter, fewer rungs, or allow more with most_repeats="
            )
        needed = max(_bytes(m.rungs[number], loss) for m in members)
        found.append(Rung(factor, tokens, repeats, min(sizes), middle, max(sizes), needed))
    _check_memory(found, loss, settings)
    return found


def _settings(arch: Architecture, loss: ValidationLoss) -> dict[str, float]:
    return settings_of(arch, {"sequence": loss.sequence, "batch_size": loss.batch_size})


def _bytes(arch: Architecture, loss: ValidationLoss) -> int:
    how = _settings(arch, loss)
    return memory.training(
        arch, int(how["batch_size"]), int(how["sequence"]), loss.corpus().vocab_size, loss.ignore
    ).total


def _check_memory(rungs: Sequence[Rung], loss: ValidationLoss, settings: LadderSettings) -> None:
    """Raise SearchError where the trainings of a rung do not fit together; of other machines nobody knows."""
    if settings.executor is not None:
        return
    there = _memory_of(loss.device)
    for number, rung in enumerate(rungs, 1):
        needed = rung.bytes * settings.workers
        if needed > there:
            beside = (
                f"{counted(settings.workers, 'training')} at a time need"
                if settings.workers > 1
                else "a training needs"
            )
            raise SearchError(
                f"ladder(): on rung {number} ({counted(rung.most, 'parameter')}) {beside} {needed / 2**30:,.1f} GiB, and this machine has "
                f"{there / 2**30:,.1f}; use fewer workers or rungs, smaller factors, or a larger machine"
            )


def _memory_of(device: str | None) -> int:
    import torch

    if (device or ("cuda" if torch.cuda.is_available() else "cpu")).startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[1])
    import psutil

    return int(psutil.virtual_memory().total)


def _check_pairs(members: Sequence[Member], loss: ValidationLoss) -> None:
    """Raise SearchError where an order cannot be judged."""
    if len(members) < FEWEST:
        raise SearchError(
            f"ladder(): there are {counted(len(members), 'architecture')} to take up, and an order needs {FEWEST}; search more trials, or give "
            "more architectures"
        )
    sizes = [_size(m.rungs[-1], loss) for m in members]
    pairs = sum(about_equal(a, b) for i, a in enumerate(sizes) for b in sizes[:i])
    if pairs < FEWEST_PAIRS:
        raise SearchError(
            f"ladder(): on the last rung there {'is' if pairs == 1 else 'are'} {counted(pairs, 'pair')} of about equal size (within 10 %) among "
            f"{counted(len(members), 'architecture')}, and {FEWEST_PAIRS} are the least to tell the design from the size; allow more architectures, so "
            "that controls of equal size are found, or give such a baseline"
        )


# ---- what it takes -----------------------------------------------------------------------------------------------------


def timed(plan: LadderPlan) -> LadderPlan:
    """The plan with the seconds of every rung: a few steps of its architecture of median cost are trained and timed here, the others
    follow by their FLOPs. A rung whose steps would take longer than seconds is extrapolated from the one before."""
    found, per_flop = [], math.nan
    for number, rung in enumerate(plan.rungs):
        flops = [flops_of(m.rungs[number], plan.loss) for m in plan.members]
        middle = sorted(range(len(flops)), key=lambda i: flops[i])[len(flops) // 2]
        arch = plan.members[middle].rungs[number]
        how = _settings(arch, plan.loss)
        step = how["batch_size"] * how["sequence"]
        slow = not math.isnan(per_flop) and per_flop * flops[middle] * step > SLOWEST_STEP_S
        if not slow:
            per_flop = (
                _seconds_of_a_token(plan.objective(plan.members[middle], number, 0), arch, int(step)) / flops[middle]
            )
        tokens = rung.tokens + EVALUATION_PASS * plan.loss.evaluation_tokens
        seconds = per_flop * sum(flops) * tokens * plan.settings.seeds
        found.append(replace(rung, seconds=seconds, how="extrapolated" if slow else "measured"))
    return replace(plan, rungs=tuple(found))


def flops_of(arch: Architecture, loss: ValidationLoss) -> float:
    """Of a token of a forward pass."""
    sequence = int(_settings(arch, loss)["sequence"])
    return counts.flops(arch, loss.corpus().vocab_size, sequence, ignore=loss.ignore) / sequence


def _seconds_of_a_token(objective: ValidationLoss, arch: Architecture, step: int) -> float:
    steps = max(TIMED_STEPS + 1, -(-MIN_TOKENS // step))  # of a run that is not trained to its end
    run = replace(objective, tokens=float(steps * step), evaluation_tokens=1).training(arch, {})
    first = run.to(1 / steps)  # the first step also allocates
    return (run.to((TIMED_STEPS + 1) / steps).seconds - first.seconds) / TIMED_STEPS / step
