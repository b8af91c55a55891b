"""Text that a trained model has not seen, of the corpus of its training or of a file, which says what fewer bits of its weights cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from nas_bo import foreign_recipe
from nas_bo.errors import ExportError, NasBoError
from nas_bo.export.check import HeldOut
from nas_bo.export.folder import TrainedModel
from nas_bo.objectives.validation_loss import ValidationLoss
from nas_bo.wording import counted

TOKENS, WINDOW, LEAST = 4096, 128, 256  # that are read, of each window, and that a file must have


def held_out(made: TrainedModel, text: str | Path | None = None) -> HeldOut:
    """Windows of tokens.

    Args:
        text: a file, whole; None is the held-out part of the corpus that the model was trained on.

    Raises:
        ExportError: the file cannot be read, or has too little text; or the corpus is not known, not there, or another one by now.
    """
    most = made.model.spec.details.max_length
    window = min(WINDOW, WINDOW if most is None else most)
    return _corpus(made, window) if text is None else _file(made, Path(text), window)


def _file(made: TrainedModel, path: Path, window: int) -> HeldOut:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ExportError(
            f"the text {str(path)!r} cannot be read ({error.strerror or error}); give a file of text with --text"
        ) from None
    ids = made.text().ids(data.decode(errors="replace"))
    if len(ids) < LEAST:
        raise ExportError(
            f"the text {str(path)!r} has {counted(len(ids), 'token')}, and at least {LEAST} are needed to say what fewer bits cost; give a longer one "
            "with --text"
        )
    if max(ids) >= made.model.vocab_size:
        raise ExportError(
            f"the tokenizer in {str(made.folder)!r} gives the id {max(ids)} and the model has only {made.model.vocab_size}; put the "
            "tokenizer that it was trained with back"
        )
    count = min(TOKENS // window, (len(ids) - 1) // window)
    starts = np.linspace(0, len(ids) - window - 1, count).astype(int)
    windows = np.array([ids[start : start + window + 1] for start in starts], np.int64)
    return HeldOut(windows, len(data) / len(ids), path.name)


def _corpus(made: TrainedModel, window: int) -> HeldOut:
    said = made.about.get("objective")
    instead = "give a file of text that it has not seen with --text"
    if said is None:
        raise ExportError(
            f"the folder {str(made.folder)!r} does not say on which text its model was trained, so that nobody knows what fewer bits cost; "
            f"{instead}"
        )
    try:
        loss: object = foreign_recipe.rebuild(said, (), f"the folder {str(made.folder)!r}")
        if not isinstance(loss, ValidationLoss):
            raise ExportError(f"it was trained by {type(loss).__name__}")
        if loss.tokenizer is not None:
            loss = replace(loss, tokenizer=str(made.tokenizer))
        corpus = loss.corpus()
        windows = corpus.held_out(TOKENS, window)
    except NasBoError as error:
        raise ExportError(
            f"the text on which the model in {str(made.folder)!r} was trained cannot be read, so that nobody knows what fewer bits cost "
            f"({error}); {instead}"
        ) from None
    before = made.about.get("corpus", {}).get("sha256")
    if before not in (None, corpus.fingerprint):
        raise ExportError(
            f"the text on which the model in {str(made.folder)!r} was trained has changed ({corpus.name!r}), so that parts of it may be known "
            f"to the model; put it back, or {instead}"
        )
    return HeldOut(np.asarray(windows, np.int64), corpus.bytes_per_token, f"{corpus.name}, held out")
