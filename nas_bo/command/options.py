"""Options that several commands share, and what their defaults mean."""

from __future__ import annotations

import os
from typing import Annotated

import typer

Storage = Annotated[str, typer.Option(help="Where the study is kept: a .db or .log file, or any Optuna storage URL.")]
Study = Annotated[str | None, typer.Option(help="Name of the study. By default that of the space.")]
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


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
