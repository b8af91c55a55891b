"""One architecture of a study, trained to the end and put into a folder (`nas_bo.export.folder`).

The run is that of the search at another budget: its text, tokenizer and settings, with the next seed, as the re-training of a
front has it. It is written to a checkpoint once a minute, so that a call that was killed continues where it was.

With a ladder of learning rates several short runs come first, and the rate of the best one is taken. What they gave is kept, so that
a call that was killed does not make them again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from nas_bo import foreign_recipe, serialization
from nas_bo.errors import ExportError, ModelError, SearchError, TrainingDiverged
from nas_bo.export import folder as files
from nas_bo.export.card import card
from nas_bo.export.token_roles import files_of
from nas_bo.foreign_recipe import Allow
from nas_bo.model.distillation import Teaching, as_distillation
from nas_bo.objectives.probe import LearningRateProbe
from nas_bo.objectives.validation_loss import MIN_TOKENS, ValidationLoss
from nas_bo.report.drawing import drawing
from nas_bo.trial import Trial
from nas_bo.wording import counted
from nas_bo.workflows import sub_model
from nas_bo.workflows.export import command
from nas_bo.workflows.register import check_size, trainable
from nas_bo.workflows.result import Result

if TYPE_CHECKING:
    from nas_bo.model.training_loop import Progress
    from nas_bo.pretrained import SubModelLoss

CHECKPOINT, LADDER = files.UNFINISHED
RUNGS = (0.5, 1.0, 2.0, 4.0)  # of a ladder, times the learning rate of the search
RUNG_SHARE, RUNG_TOKENS = 1 / 20, (10_000, 1_000_000)  # of the training that each is, within these numbers of tokens
TOKENS_PER_PARAMETER = 20  # of a run whose budget nobody says: Hoffmann et al. 2022, arXiv 2203.15556
SAMPLES, SAMPLED, PROMPT = 3, 160, 32  # texts, tokens of each, tokens of held-out text before it


@runtime_checkable
class Watching(Protocol):
    """What `progress` may be asked in addition: it is called for a training from its beginning to its end, as
    `nas_bo.mlflow.TrainingRun` is, which tracks it."""

    def began(self, about: Mapping[str, object]) -> None:
        """It begins or continues; `about` is what is known before."""

    def ended(self, folder: Path, about: Mapping[str, object]) -> None:
        """The model is in the folder, also where it was there already; `about` is what its ``model.json`` says."""

    def failed(self, error: BaseException) -> None:
        """It was interrupted, or cannot continue."""


@dataclass(frozen=True)
class Trained:
    """A folder with a trained model.

    Attributes:
        about: what its ``model.json`` says.
        resumed: whether a checkpoint, or the whole model, was there already.
    """

    folder: Path
    about: Mapping[str, Any]
    resumed: bool = False


def train(
    result: Result,
    to: str | Path,
    pick: str | int | Trial = "knee",
    tokens: float | None = None,
    *,
    settings: Mapping[str, float | None] | None = None,
    ladder: bool = False,
    seed: int | None = None,
    teacher: Teaching | None = None,
    allow: Allow = (),
    progress: Progress | None = None,
) -> Trained:
    """Train the architecture that `pick` means for `tokens` tokens, and write it to the folder `to`.

    Args:
        pick: a trial of the result, or what `nas_bo.workflows.pick` reads.
        tokens: the budget; None is 20 per parameter, and at least what the search re-trained its front at.
        settings: of `nas_bo.model.train`, such as ``{"lr": 1e-3, "batch_size": 16}``; what is not there is as in the search.
        ladder: try several learning rates in short runs first (`RUNGS` times that of the search, each a twentieth of the training,
            which makes it a fifth longer), and take the best; not with an "lr" in `settings`.
        seed: None is the seed of the search plus one.
        teacher: a trained model to learn from in addition to the text (`nas_bo.model.Distillation`); None is that of the search, if it
            had one.
        allow: modules of yours that the study may import, or a `nas_bo.foreign_recipe.Allowed` with files and budgets as well.
        progress: called as progress(step, steps, nats per token); may be `Watching` as well.

    Raises:
        SearchError: the study cannot be trained again from what it kept, or the pick means nothing.
        ExportError: the folder holds something else, or cannot be written.
        DataError: the text of the study is gone.
    """
    settings = dict(settings or {})
    if ladder and settings.get("lr") is not None:
        raise SearchError(
            f"lr={settings['lr']:g} and a ladder of learning rates exclude each other; leave one of them out"
        )
    trial = pick if isinstance(pick, Trial) else result.pick(str(pick))
    part = sub_model.loss_of(result, allow)
    if part is not None and teacher is not None:
        raise SearchError(
            "a part of a trained model is trained on as it is; a teacher (--teacher) is for architectures that are trained from the start, so "
            "leave it out"
        )
    if part is not None and ladder:
        raise SearchError(
            "a part of a trained model is trained on at the rate that it has; leave the ladder of learning rates out"
        )
    if part is not None:
        return _recovered(result, trial, part, Path(to), tokens, seed, settings, progress)
    loss = _taught(_loss(result, allow), teacher)
    check_size(trial.architecture, loss.corpus().vocab_size)
    folder, about = Path(to), _asked(result, trial, loss, tokens, seed)
    loss = replace(loss, tokens=float(about["tokens"]), seed=int(about["seed"]))
    there = _there(folder, about, settings, ladder)
    if there is not None:
        with _watched(progress, about) as ended:
            ended(folder, there)
        return Trained(folder, there, resumed=True)
    with _watched(progress, about) as ended:
        kept = files_of(None if loss.tokenizer is None else Path(loss.tokenizer))
        files.write(folder, {})
        foreign_recipe.note(serialization.describe(loss))  # allowed above
        if ladder:
            about["ladder"] = _climbed(folder, trial, loss, settings, about)
            settings["lr"] = about["ladder"]["lr"]
        run = loss.training(trial.architecture, settings, folder / CHECKPOINT, progress)
        begun = run.done > 0
        made = run.to()
        corpus = loss.corpus()
        about |= {
            "values": {loss.name: made.bits_per_byte},
            "tokens": made.tokens,
            "steps": made.steps,
            "parameters": made.parameters,
            "settings": made.settings,
            "cpu_seconds": round(made.cpu_seconds, 1),
            "curve": [[at, round(bits, 4)] for at, bits in made.curve],
        }
        picture = drawing(trial.architecture, vocab_size=corpus.vocab_size, ignore=loss.ignore)
        about["samples"] = _samples(made.model, loss, corpus)
        leaving = command(folder.name, trial.architecture, corpus.vocab_size, loss.ignore)
        use = f'```console\n$ nas-bo generate {folder.name} "def "\n$ {leaving}\n```\n'
        files.write(folder, {**kept, files.DRAWING: picture.encode(), files.CARD: card(about, use).encode()})
        files.write(folder, files.files(made.model, trial.architecture, about, loss.ignore))
        for name in (CHECKPOINT, LADDER):
            (folder / name).unlink(missing_ok=True)
        ended(folder, about)
    return Trained(folder, about, begun)


def _recovered(
    result: Result,
    trial: Trial,
    part: SubModelLoss,
    folder: Path,
    tokens: float | None,
    seed: int | None,
    settings: Mapping[str, float | None],
    progress: Progress | None,
) -> Trained:
    """`train` for a part of a trained model."""
    loss, about = sub_model.asked(result, trial, part, tokens, seed, settings)
    there = sub_model.there(folder, about)
    with _watched(progress, about) as ended:
        begun = there is not None or sub_model.finished(trial, loss, folder, about, progress)
        told = about if there is None else there
        ended(folder, told)
    return Trained(folder, told, begun)


@contextmanager
def _watched(
    progress: Progress | None, about: Mapping[str, object]
) -> Iterator[Callable[[Path, Mapping[str, object]], None]]:
    """What to call at the end; where `progress` watches it hears of that, of the beginning, and of what ends the training before."""
    if not isinstance(progress, Watching):
        yield lambda folder, about: None
        return
    progress.began(about)
    try:
        yield progress.ended
    except BaseException as error:
        progress.failed(error)
        raise


def _climbed(
    folder: Path, trial: Trial, loss: ValidationLoss, settings: Mapping[str, float | None], about: Mapping[str, object]
) -> dict[str, object]:
    """The learning rate that was best in short runs, those runs, and what they were of; kept in the folder."""
    short = min(max(loss.tokens * RUNG_SHARE, RUNG_TOKENS[0]), RUNG_TOKENS[1], loss.tokens)
    asked = {name: about[name] for name in ("architecture", "tokens", "seed", "corpus")}
    asked |= {"settings": dict(settings), "factors": list(RUNGS), "rung": int(short)}
    path = folder / LADDER
    if path.is_file():
        try:
            before: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            before = {}
        if before.get("of") == asked:
            return before
    probe = LearningRateProbe(RUNGS, short)
    how: dict[str, object] = {"device": loss.device, "ignore": loss.ignore, "evaluation_tokens": loss.evaluation_tokens}
    chosen: dict[str, float | None] = {"sequence": loss.sequence, "batch_size": loss.batch_size}
    chosen |= {name: value for name, value in settings.items() if value is not None}
    try:
        rate, tried = probe(trial.architecture, loss.corpus(), loss.seed, chosen, **how)
    except TrainingDiverged as error:
        raise SearchError(f"the ladder of learning rates found none: {error}; give one that is smaller") from None
    found = {"lr": rate, "tried": tried, "of": asked}
    files.write(folder, {LADDER: json.dumps(found).encode()})
    return found


def _loss(result: Result, allow: Allow) -> ValidationLoss:
    """The objective whose run is repeated (raises SearchError)."""
    if result.record is not None and not result.record.about:
        raise SearchError(
            f"the study {result.title!r} was not made by nas_bo, so that nobody knows how its models are trained; train "
            "architectures of a search of nas_bo"
        )
    found = trainable(result, allow)
    if not isinstance(found, ValidationLoss):
        raise SearchError(
            f"the study {result.title!r} trains with {type(found).__name__}, an objective of your own; `nas-bo train` repeats the "
            "runs of ValidationLoss only, so train the architecture with your own code"
        )
    if found.build is not None:
        raise SearchError(
            f"the study {result.title!r} trains modules of your own (build={found.build!r}), which a folder of nas_bo cannot hold; "
            "train the architecture with your own code, or search with the decoder of nas_bo"
        )
    whole = found.larger(1.0)
    return replace(whole, checkpoints=None, rungs=())


def _taught(loss: ValidationLoss, teacher: Teaching | None) -> ValidationLoss:
    """With that teacher; what it says is kept for nobody, since one student learns from it."""
    how = as_distillation(loss.teacher if teacher is None else teacher)
    if how is not None and any(not isinstance(one, str) for one in how.teachers):
        raise SearchError(
            f"the teacher {how.called()} is a module in memory, and a training that may be continued by another process needs one in a "
            "folder; write it to one (nas_bo.export.folder) and give that"
        )
    return loss if how is None else replace(loss, teacher=replace(how, cache_bytes=0))


def _asked(
    result: Result, trial: Trial, loss: ValidationLoss, tokens: float | None, seed: int | None
) -> dict[str, Any]:
    """What is known before training (raises SearchError for a budget that is none, or a text that changed)."""
    from nas_bo.model.counts import parameters

    corpus, how = loss.corpus(), as_distillation(loss.teacher)
    if how is not None:
        how.check_vocabulary(corpus.vocab_size, corpus.name, corpus.tokenizer)
    if tokens is None:
        retrained = loss.tokens * float(1.0 if result.record is None else result.record.factor or 1.0)
        size = parameters(trial.architecture, corpus.vocab_size, loss.ignore)
        tokens = max(float(TOKENS_PER_PARAMETER * size), retrained)
    if not MIN_TOKENS <= tokens < 1e15:
        raise SearchError(f"tokens={tokens:g}: a training has at least {MIN_TOKENS:,} tokens and fewer than 1e15")
    before = result.facts.get(f"{loss.name}: sha256")
    if before not in (None, corpus.fingerprint):
        raise SearchError(
            f"the text of the study {result.title!r} has changed: its tokens have the sha256 {str(before)[:12]}... in the study and "
            f"{corpus.fingerprint[:12]}... now ({corpus.name!r}); put the text of the search back, or search again on this one"
        )
    return {
        **sub_model.about_of(result, trial, loss, tokens, loss.seed if seed is None else seed),
        **({} if how is None else {"teacher": {"folders": list(how.teachers), **how.conditions()}}),
    }


def _there(
    folder: Path, about: Mapping[str, Any], settings: Mapping[str, float | None], ladder: bool
) -> dict[str, Any] | None:
    """What the folder says about itself where it holds this very model; None where it is free (raises ExportError)."""
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise ExportError(f"{str(folder)!r} is a file; give a folder with --to")
    names = {path.name for path in folder.iterdir()}
    if files.ABOUT in names:
        said = files.about(folder)
        steps = int(said.get("settings", {}).get("batch_size", 1) * said.get("settings", {}).get("sequence", 1))
        same = [said.get(name) == about[name] for name in ("architecture", "seed", "corpus", "tokenizer")]
        same.append(said.get("teacher") == about.get("teacher"))
        same.append(said.get("tokens") == max(1, about["tokens"] // steps) * steps)
        same += [said.get("settings", {}).get(name) == value for name, value in settings.items() if value is not None]
        same.append(not ladder or "ladder" in said)
        if all(same):
            return said
        raise ExportError(
            f"the folder {str(folder)!r} holds another model already (trial {said.get('searched', {}).get('trial')}, "
            f"{counted(said.get('tokens', 0), 'token')}, seed {said.get('seed')}); choose another folder with --to, or remove this one"
        )
    if names and not names & {CHECKPOINT, LADDER}:
        raise ExportError(
            f"the folder {str(folder)!r} is not empty and holds no model or training of nas_bo; choose another with --to"
        )
    return None


def _samples(model: Any, loss: ValidationLoss, corpus: Any) -> list[dict[str, str]]:
    """Continuations of held-out text; none where nobody knows the text of tokens, or a block of the user's own decodes nothing."""
    import torch

    from nas_bo.export.text import Text
    from nas_bo.model import generate

    if corpus.tokenizer == "tokens":
        return []
    text = Text(None if loss.tokenizer is None else Path(loss.tokenizer))
    prompts = torch.from_numpy(corpus.held_out(SAMPLES * PROMPT, PROMPT)[:SAMPLES, :PROMPT].astype("int64"))
    device = model.embedding.weight.device
    draws = torch.Generator(device).manual_seed(0)
    most = model.spec.details.max_length
    count = SAMPLED if most is None else max(0, min(SAMPLED, most - PROMPT))
    try:
        rows = generate(model, prompts.to(device), count, temperature=0.7, generator=draws)
    except ModelError:
        return []
    return [{"prompt": text.text(row[:PROMPT]), "text": text.text(row)} for row in rows.tolist()]
