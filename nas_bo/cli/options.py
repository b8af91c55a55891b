"""Options that several commands share, and what their defaults mean."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas_bo.cli import completion
from nas_bo.cli.typed_options import above_zero, within
from nas_bo.errors import SearchError

if TYPE_CHECKING:
    from nas_bo.execution.executor import Executor
    from nas_bo.foreign_recipe import Allowed

Storage = Annotated[str, typer.Option(help="Where the study is kept: a .db or .log file, or any Optuna storage URL.")]
Study = Annotated[
    str | None,
    typer.Option(help="Name of the study. By default that of the space.", autocompletion=completion.studies),
]
OneStudy = Annotated[
    str | None,
    typer.Option(help="Name of the study. By default the only one in the storage.", autocompletion=completion.studies),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
TRACKING_URI = "MLFLOW_TRACKING_URI"
Mlflow = Annotated[
    str, typer.Option(help="MLflow tracking URI or a .db file. 'none' tracks nothing.", envvar=TRACKING_URI)
]
NamedSpace = Annotated[
    str,
    typer.Option(
        help="A named space (see `nas-bo spaces`), module:Class or file.py:Class.", autocompletion=completion.spaces
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        help="Local processes, with --ray workers of the cluster. By default one per core, at most 4.",
        callback=within(1),
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Evaluate on a Ray cluster: the address of its head, auto for the cluster of this machine, or local for one that lasts as long as "
        "the command. --workers then says how many workers; by default as many as find room.",
    ),
]
CpusPerTrial = Annotated[
    float | None,
    typer.Option(help="With --ray, CPUs of each worker. By default 1.", callback=within(0, what="a number")),
]
GpusPerTrial = Annotated[
    float | None,
    typer.Option(
        help="With --ray, GPUs of each worker, or a part of one such as 0.5; by default none. In a search 2 and more train each candidate "
        "together, for candidates larger than one GPU; without --ray on this machine.",
        callback=within(0, what="a number"),
    ),
]
Allow = Annotated[
    list[str] | None, typer.Option(help="A module of yours that defines an objective and may be imported, repeatable.")
]
AllowPath = Annotated[
    list[str] | None,
    typer.Option(
        help="A file or folder outside of this folder that what is read may name, such as its data, repeatable. What you named in a search yourself is allowed."
    ),
]
BudgetLimit = Annotated[
    float,
    typer.Option(help="The most tokens, steps or repeats that what is read may ask for.", callback=above_zero),
]
TrialTimeout = Annotated[
    str | None,
    typer.Option(
        help="How long one evaluation may take: 10m, 2h, 90s. One that takes longer is ended and fails. By default as long as it takes."
    ),
]
StoragePatience = Annotated[
    str, typer.Option(help="For how long a storage that fails in the middle is tried again: 5m, 1h, 30s.")
]
MlflowPatience = Annotated[
    str, typer.Option(help="How long the end waits for a server of MLflow at most; what is not logged then is kept.")
]
TextKey = Annotated[
    str | None, typer.Option(help="The field of records in --data that holds the text. By default text.")
]
TokenDtype = Annotated[
    str | None,
    typer.Option(help="Of a .bin in --data: uint8, uint16, uint32 or int64. By default found from the file."),
]
Teacher = Annotated[
    list[str] | None,
    typer.Option(
        help="Folder of a trained model to learn from in addition to the text, of `nas-bo train` or of Hugging Face with the same vocabulary, repeatable."
    ),
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


def allowed(modules: list[str] | None, paths: list[str] | None, budget: float) -> Allowed:
    """What the options `Allow`, `AllowPath` and `BudgetLimit` allow; modules are looked for in the current folder too."""
    from nas_bo.foreign_recipe import Allowed

    if modules:
        sys.path.insert(0, str(Path.cwd()))
    return Allowed(modules or (), paths or (), budget)


def duration(option: str, text: str) -> float:
    """Seconds of ``30m``, ``1h30m``, ``2d``, ``90s`` or a number of seconds (raises SearchError)."""
    found = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    days, hours, minutes, seconds = (float(part or 0) for part in (found.groups() if found else ("",) * 4))
    total = 86400 * days + 3600 * hours + 60 * minutes + seconds
    if not total > 0:
        raise SearchError(f"{option} {text!r}: write a time above 0, such as 30m, 2h, 1h30m or 90s")
    return total


def processes(workers: int | None) -> int:
    """What `Workers` means: by default one for each core that this process may use, at most four."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(4, cores) if workers is None else workers


def together_on(gpus: float | None) -> int:
    """How many GPUs train a candidate together (raises SearchError)."""
    if gpus is not None and gpus > 1 and gpus != int(gpus):
        raise SearchError(f"--gpus-per-trial {gpus:g}: it is a whole number, or a part of one GPU such as 0.5")
    return max(1, int(gpus or 1))


def on_ray(
    address: str | None, workers: int | None, cpus: float | None, gpus: float | None, *, together: bool = False
) -> Executor | None:
    """What `Ray`, `CpusPerTrial` and `GpusPerTrial` mean; None without the first (raises SearchError, MissingExtra).

    Args:
        together: whether several GPUs without a cluster are those of this machine.
    """
    if address is None:
        if cpus is not None or (gpus is not None and not (together and together_on(gpus) > 1)):
            option = "--cpus-per-trial" if gpus is None else "--gpus-per-trial"
            raise SearchError(
                f"{option}: workers of a Ray cluster are given CPUs and GPUs; give --ray ADDRESS, --ray auto or --ray local too"
            )
        return None
    from nas_bo.execution import Ray as OnRay

    return OnRay(
        None if address == "local" else address,
        workers,
        num_cpus=1 if cpus is None else cpus,
        num_gpus=0 if gpus is None else gpus,
    )
