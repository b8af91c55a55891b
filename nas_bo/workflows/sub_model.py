"""A part of a trained model that a search found, as a folder: with the trained weights, trained on where that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas_bo import foreign_recipe, provenance, serialization
from nas_bo.errors import ExportError, SearchError
from nas_bo.export import folder as files
from nas_bo.export.card import card
from nas_bo.export.text import TOKENIZER, tokenizer_json
from nas_bo.foreign_recipe import Allow
from nas_bo.pretrained import SubModelLoss
from nas_bo.pretrained.slices import compact, without_empty_layers
from nas_bo.report.drawing import drawing
from nas_bo.trial import Trial
from nas_bo.workflows.pick import described
from nas_bo.workflows.register import trainable
from nas_bo.workflows.result import Result


def loss_of(result: Result, allow: Allow = ()) -> SubModelLoss | None:
    """The objective of a search inside a trained model; None for another search."""
    try:
        found = trainable(result, allow)
    except SearchError:
        return None
    return found if isinstance(found, SubModelLoss) else None


def finished(
    result: Result,
    trial: Trial,
    loss: SubModelLoss,
    folder: Path,
    tokens: float | None,
    seed: int | None,
    settings: Mapping[str, float | None],
) -> dict[str, Any]:
    """Write the part that `trial` is to `folder`, after training it for `tokens` tokens (None: as often as the search did).

    Returns:
        What its ``model.json`` says.

    Raises:
        ExportError: the folder is not empty.
        SearchError: a setting that such a training does not have.
        NasBoError: the trained model, or the text, is gone.
    """
    from nas_bo.model.counts import parameters
    from nas_bo.model.inference import evaluate

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ExportError(f"the folder {str(folder)!r} is not empty; choose another with --to, or remove this one")
    strange = [name for name, value in settings.items() if value is not None and name not in ("lr", "sequence")]
    if strange:
        raise SearchError(
            f"{strange[0]}: a part of a trained model is trained with the settings of its search, but for lr and sequence"
        )
    given: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    given |= {} if tokens is None else {"tokens": float(tokens)}
    given["seed"] = loss.seed + 1 if seed is None else seed
    loss = replace(loss, **given)
    corpus = loss.corpus()
    foreign_recipe.note(serialization.describe(loss))  # allowed when it was built
    about: dict[str, object] = {}
    if loss.tokens:
        made = loss.trained(trial.architecture)
        model, steps = (
            made.model,
            {"steps": made.steps, "settings": made.settings, "cpu_seconds": round(made.cpu_seconds, 1)},
        )
        about |= steps
        value = made.bits_per_byte
    else:
        model = loss.sub_model(trial.architecture)
        value = evaluate(model, corpus, loss.held_out_tokens, loss.sequence)
    model, arch = compact(model), without_empty_layers(trial.architecture)
    about |= {
        "architecture": arch.id,
        "study": result.title,
        "searched": {k: v for k, v in described(result, trial).items() if k not in ("architecture", "id")},
        "part_of": {
            "name": loss.teacher.name,
            "fingerprint": loss.teacher.fingerprint,
            "parameters": parameters(loss.teacher.spec, loss.teacher.vocab_size),
        },
        "objective": serialization.describe(loss),
        "tokens": int(loss.tokens),
        "seed": loss.seed,
        "parameters": parameters(arch, model.vocab_size),
        "corpus": {"name": corpus.name, "sha256": corpus.fingerprint},
        "tokenizer": corpus.tokenizer,
        "values": {loss.name: value},
        "units": {loss.name: loss.unit},
        "trust": None if result.trust is None else str(result.trust),
        "provenance": {
            "versions": provenance.versions(),
            "git": provenance.git(),
            "device": result.facts.get("device"),
        },
    }
    use = f'```console\n$ nas-bo generate {folder.name} "def "\n$ nas-bo export {folder.name} --format huggingface --to hf\n```\n'
    picture = drawing(arch, vocab_size=model.vocab_size)
    kept = {} if loss.tokenizer is None else {TOKENIZER: tokenizer_json(Path(loss.tokenizer)).encode()}
    files.write(folder, {**kept, files.DRAWING: picture.encode(), files.CARD: card(about, use).encode()})
    files.write(folder, files.files(model, arch, about, ()))
    return about
