"""A part of a trained model that a search found, as a folder: with the trained weights, trained on where that is asked for. The training is
written to a checkpoint once a minute, so that a call that was killed continues where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_bo import foreign_recipe, provenance, serialization
from nas_bo.errors import ExportError, SearchError
from nas_bo.export import folder as files
from nas_bo.export.card import card
from nas_bo.export.token_roles import files_of
from nas_bo.foreign_recipe import Allow
from nas_bo.model.after_training import compress_options
from nas_bo.model.spec import check
from nas_bo.objectives.validation_loss import ValidationLoss
from nas_bo.pretrained import SubModelLoss
from nas_bo.pretrained.slices import compact, without_empty_layers
from nas_bo.report.drawing import drawing
from nas_bo.trial import Trial
from nas_bo.workflows.pick import described
from nas_bo.workflows.register import trainable
from nas_bo.workflows.result import Result

if TYPE_CHECKING:
    from nas_bo.model.training_loop import Progress

CHECKPOINT = files.UNFINISHED[0]


def loss_of(result: Result, allow: Allow = ()) -> SubModelLoss | None:
    """The objective of a search inside a trained model; None for another search."""
    try:
        found = trainable(result, allow)
    except SearchError:
        return None
    return found if isinstance(found, SubModelLoss) else None


def asked(
    result: Result,
    trial: Trial,
    loss: SubModelLoss,
    tokens: float | None,
    seed: int | None,
    settings: Mapping[str, float | None],
) -> tuple[SubModelLoss, dict[str, Any]]:
    """The loss as which the part that `trial` is learns, `tokens` tokens (None: as many as in the search), and what its folder says before the training.

    Raises:
        SearchError: a setting that such a training does not have.
        NasBoError: the trained model, or the text, is gone.
    """
    from nas_bo.model.counts import parameters

    strange = [name for name, value in settings.items() if value is not None and name not in ("lr", "sequence")]
    if strange:
        raise SearchError(
            f"{strange[0]}: a part of a trained model is trained with the settings of its search, but for lr and sequence"
        )
    given: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    given |= {} if tokens is None else {"tokens": float(tokens)}
    given["seed"] = loss.seed + 1 if seed is None else seed
    loss = replace(loss, checkpoints=None, rungs=(), **given)
    whole = loss.teacher
    size = parameters(whole.spec, whole.vocab_size)
    return loss, {
        **about_of(result, trial, loss, loss.tokens, loss.seed),
        "part_of": {"name": whole.name, "fingerprint": whole.fingerprint, "parameters": size},
    }


def about_of(
    result: Result, trial: Trial, loss: SubModelLoss | ValidationLoss, tokens: float, seed: int
) -> dict[str, object]:
    """What a folder says about its model before it is trained, whatever it is trained from."""
    corpus, after = loss.corpus(), compress_options(check(trial.architecture, loss.ignore))
    return {
        "architecture": trial.architecture.id,
        "study": result.title,
        "searched": {k: v for k, v in described(result, trial).items() if k not in ("architecture", "id")},
        "objective": serialization.describe(loss),
        "tokens": int(tokens),
        "seed": int(seed),
        "corpus": {"name": corpus.name, "sha256": corpus.fingerprint},
        "tokenizer": corpus.tokenizer,
        "units": {loss.name: loss.unit},
        **files.judged_on(corpus, loss.judging),
        **({} if not after else {"compress": after}),
        "trust": None if result.trust is None else str(result.trust),
        "provenance": {
            "versions": provenance.versions(),
            "git": provenance.git(),
            "device": result.facts.get("device"),
        },
    }


def there(folder: Path, about: Mapping[str, object]) -> dict[str, Any] | None:
    """What the folder says about itself where it holds this very part; None where it is free, or holds an unfinished training (raises
    ExportError)."""
    if folder.is_dir():
        names = {path.name for path in folder.iterdir()}
        if files.ABOUT in names:
            said = files.about(folder)
            wanted = {**about, "searched_architecture": about["architecture"]}
            same = ("searched_architecture", "objective", "corpus", "part_of")
            if all(said.get(name) == json.loads(json.dumps(wanted[name])) for name in same):
                return said
        elif not names or CHECKPOINT in names:
            return None
    elif not folder.exists():
        return None
    raise ExportError(f"the folder {str(folder)!r} is not empty; choose another with --to, or remove this one")


def finished(
    trial: Trial, loss: SubModelLoss, folder: Path, about: dict[str, Any], progress: Progress | None = None
) -> bool:
    """Write the part that `trial` is to `folder`, trained as `loss` says; what its ``model.json`` says is added to `about`.

    Returns:
        Whether a training that was begun before was continued.
    """
    from nas_bo.model.counts import parameters
    from nas_bo.model.inference import evaluate

    corpus, begun = loss.corpus(), False
    foreign_recipe.note(serialization.describe(loss))  # allowed when it was built
    if loss.tokens:
        files.write(folder, {})
        run = loss.training(trial.architecture, folder / CHECKPOINT, progress)
        begun = run.done > 0
        made = run.to()
        model, value = made.model, made.bits_per_byte
        about |= {
            "steps": made.steps,
            "settings": made.settings,
            "cpu_seconds": round(made.cpu_seconds, 1),
            "curve": [[at, round(bits, 4)] for at, bits in made.curve],
        }
    else:
        model = loss.sub_model(trial.architecture)
        value = evaluate(model, corpus, loss.held_out_tokens, loss.sequence)
    model, arch = compact(model), without_empty_layers(trial.architecture)
    about |= {
        "architecture": arch.id,
        "searched_architecture": trial.architecture.id,
        "parameters": parameters(arch, model.vocab_size),
        "values": {loss.name: value},
    }
    use = f'```console\n$ nas-bo generate {folder.name} "def "\n$ nas-bo export {folder.name} --format huggingface --to hf\n```\n'
    picture = drawing(arch, vocab_size=model.vocab_size)
    kept = files_of(None if loss.tokenizer is None else Path(loss.tokenizer))
    files.write(folder, {**kept, files.DRAWING: picture.encode(), files.CARD: card(about, use).encode()})
    files.write(folder, files.files(model, arch, about, ()))
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return begun
