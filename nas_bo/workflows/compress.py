"""`nas_bo.compress.compress` with what rooms above it make: the text of a file, and the picture of the new architecture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_bo.architecture import Architecture
from nas_bo.compress.compression import Compressed
from nas_bo.compress.compression import compress as run
from nas_bo.export import folder as files
from nas_bo.export.text import TOKENIZER
from nas_bo.foreign_recipe import Allow
from nas_bo.report.drawing import drawing

if TYPE_CHECKING:
    from nas_bo.model.training_loop import Progress


def compress(
    folder: str | Path,
    to: str | Path,
    *,
    data: str | Path | None = None,
    allow: Allow = (),
    progress: Progress | None = None,
    **options: Any,  # each as its field says
) -> Compressed:
    """As `nas_bo.compress.compress`, with the picture of the architecture.

    Args:
        data: other text than the model was trained on, as `nas_bo.model.load_corpus` reads it, in the tokens of the model.
        options: of `nas_bo.compress.CompressionSettings`.
    """
    corpus = None
    if data is not None:
        from nas_bo.model import load_corpus

        files.about(folder)  # whether there is a model at all
        own = Path(folder) / TOKENIZER
        corpus = load_corpus(data, own if own.is_file() else None)
    return run(folder, to, corpus=corpus, allow=allow, draw=_drawn, progress=progress, **options)


def _drawn(arch: Architecture, vocab_size: int, ignore: Sequence[str]) -> str:
    return drawing(arch, vocab_size=vocab_size, ignore=ignore)
