"""Options that several commands share, and what their defaults mean."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Annotated

import typer

from nas_bo.errors import SearchError

Storage = Annotated[str, typer.Option(help="Where the study is kept: a .db or .log file, or any Optuna storage URL.")]
Study = Annotated[str | None, typer.Option(help="Name of the study. By default that of the space.")]
OneStudy = Annotated[str | None, typer.Option(help="Name of the study. By default the only one in the storage.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Mlflow = Annotated[str, typer.Option(help="MLflow tracking URI or a .db file. 'none' tracks nothing.")]
TextKey = Annotated[
    str | None, typer.Option(help="The field of records in --data that holds the text. By default text.")
]
TokenDtype = Annotated[
    str | None,
    typer.Option(help="Of a .bin in --data: uint8, uint16, uint32 or int64. By default found from the file."),
]
VocabSize = Annotated[
    int | None,
    typer.Option(help="Number of ids of tokens in --data. Without --tokenizer the loss is then in bits per token."),
]


@dataclass(frozen=True)
class Text:
    """The options that say what is trained on, as `nas_bo.objectives.ValidationLoss` takes them."""

    data: str | None = None
    tokenizer: str | None = None
    text_key: str | None = None
    token_dtype: str | None = None
    vocab_size: int | None = None


def duration(option: str, text: str) -> float:
    """Seconds of ``30m``, ``1h30m``, ``2d``, ``90s`` or a number of seconds (raises SearchError)."""
    found = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    days, hours, minutes, seconds = (float(part or 0) for part in (found.groups() if found else ("",) * 4))
    total = 86400 * days + 3600 * hours + 60 * minutes + seconds
    if not total > 0:
        raise SearchError(f"{option} {text!r}: write a time above 0, such as 30m, 2h, 1h30m or 90s")
    return total


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
