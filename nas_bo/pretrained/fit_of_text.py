"""Whether a trained model and a text belong together, looked at before parts of the model are judged by the text."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

import numpy as np

from nas_bo.errors import ObjectiveError
from nas_bo.model.inference import losses

if TYPE_CHECKING:
    from nas_bo.model.data import Corpus
    from nas_bo.model.decoder import Decoder

LOOKED_AT = 4096  # tokens of each of the two texts
COUNTED = 1_000_000  # tokens whose frequencies are counted
APART = 0.15  # of the held-out loss, from which the two texts differ
ERRORS = 4.0  # and so many standard errors

_log = logging.getLogger(__name__)


def check_text(
    model: Decoder, name: str, corpus: Corpus, calibration: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
) -> None:
    """Compare the losses of a trained model on the text that judges its parts and on the held-out one.

    Args:
        name: of the trained model.
        calibration: (batches, sequences, T + 1) token ids.

    Raises:
        ObjectiveError: on held-out text it is no better than the frequencies of the tokens, so nothing can be seen from its parts.
    """
    length = calibration.shape[-1]
    windows = calibration.reshape(-1, length)[: max(2, LOOKED_AT // length)]
    known = losses(model, windows, corpus)
    held = losses(model, corpus.held_out(LOOKED_AT, length - 1), corpus)
    unit = corpus.unit
    counting = _counting(corpus)
    if not float(held.mean()) < counting:
        raise ObjectiveError(
            f"{name} has {float(held.mean()):.3f} {unit} on held-out text of {corpus.name!r}, and counting how often each token occurs gives "
            f"{counting:.3f}: it has learned nothing about this text, so nothing can be learned about its parts from it. Give the text that it was made for "
            "(--data), look whether its tokenizer is the one it was trained with, or train it first"
        )
    gap = float(known.mean() - held.mean())
    error = math.sqrt(sum(float(one.var()) / len(one) for one in (known, held) if len(one) > 1))
    if abs(gap) > max(APART * float(held.mean()), ERRORS * error):
        _log.warning(
            "%s has %.3f %s on the text by which its parts are judged (windows of the training part of %r) and %.3f on the held-out rest: the two are of "
            "different kinds, another language or source perhaps, and parts that matter for one need not for the other. Mix them, or give "
            "text of one kind",
            name,
            float(known.mean()),
            unit,
            corpus.name,
            float(held.mean()),
        )


def _counting(corpus: Corpus) -> float:
    """The loss of the frequencies of the training tokens on the held-out ones, one added to each count."""
    counts = np.bincount(np.asarray(corpus.train[:COUNTED], np.int64), minlength=corpus.vocab_size) + 1.0
    bits = -np.log2(counts / counts.sum())
    return float(bits[np.asarray(corpus.validation[:COUNTED], np.int64)].mean()) / corpus.bytes_per_token
