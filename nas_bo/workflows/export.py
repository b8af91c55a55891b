"""What is done with the folder of a trained model: text from it, and other formats."""

from __future__ import annotations

from pathlib import Path

from nas_bo.errors import ExportError
from nas_bo.export import folder as files


def continued(folder: str | Path, prompt: str, tokens: int = 200, temperature: float = 0.7, seed: int = 0) -> str:
    """`prompt` and what the model in `folder` makes of it.

    Raises:
        ExportError: the folder holds no model, its tokenizer is gone, or the prompt is empty.
    """
    import torch

    from nas_bo.model import generate

    made = files.load(folder)
    text = made.text()
    ids = text.ids(prompt)
    if not ids:
        raise ExportError("the prompt is empty; give at least one character to continue")
    wrong = max(ids)
    if wrong >= made.model.vocab_size:
        raise ExportError(
            f"the tokenizer gives the id {wrong} and the model in {str(made.folder)!r} has only {made.model.vocab_size}; put the "
            "tokenizer that it was trained with back"
        )
    draws = torch.Generator().manual_seed(seed)
    rows = generate(made.model, torch.tensor([ids]), tokens, temperature=temperature, generator=draws)
    return text.text(rows[0].tolist())
