"""`nas-bo train`: an architecture of a study, trained to the end, as a folder."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas_bo.cli import completion
from nas_bo.cli.documents import print_document
from nas_bo.cli.failure import errors
from nas_bo.cli.options import Allow, AllowPath, BudgetLimit, Json, OneStudy, Teacher, allowed
from nas_bo.cli.output import say
from nas_bo.cli.typed_options import within
from nas_bo.errors import SearchError
from nas_bo.wording import counted

if TYPE_CHECKING:
    from nas_bo.mlflow import TrainingRun
    from nas_bo.model.training_loop import Progress

SAID_EVERY_S = 5.0


def train(
    storage: Annotated[str, typer.Argument(help="The storage of a search.")] = "nas-bo.db",
    pick: Annotated[
        str,
        typer.Option(
            help="What is trained: knee, best:NAME, 'bits_per_byte where latency_ms<=2', or the number of a trial.",
            autocompletion=completion.picks,
        ),
    ] = "knee",
    tokens: Annotated[
        float | None,
        typer.Option(
            help="Training tokens, such as 5e7. By default 20 per parameter.",
            callback=within(1000, what="a number of tokens"),
        ),
    ] = None,
    to: Annotated[
        Path, typer.Option(help="The folder, which must be new, or hold this training when it was killed.")
    ] = Path("out"),
    study: OneStudy = None,
    lr: Annotated[
        str | None,
        typer.Option(
            help="Learning rate, or 'ladder': short runs at half, once, twice and four times that of the search, and the best is taken. By default that of the search."
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Sequences per step. By default as in the search.", callback=within(1))
    ] = None,
    sequence: Annotated[
        int | None, typer.Option(help="Tokens per sequence. By default as in the search.", callback=within(1))
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="By default the seed of the search plus one.", callback=within(0))
    ] = None,
    teacher: Teacher = None,
    mlflow: Annotated[
        str | None,
        typer.Option(help="MLflow tracking URI or a .db file: track the training there, in a run next to its trial."),
    ] = None,
    allow: Allow = None,
    allow_path: AllowPath = None,
    budget_limit: BudgetLimit = 1e9,
    as_json: Json = False,
) -> None:
    """Train the chosen architecture to the end and write it to a folder; a training that was killed continues."""
    with errors("interrupted; the same command resumes from the last minute"):
        from nas_bo.cli import resolve
        from nas_bo.export import folder as files
        from nas_bo.workflows.export import command
        from nas_bo.workflows.train import train as run

        ladder = lr == "ladder"
        settings: dict[str, float | None] = {
            "lr": None if ladder or lr is None else _rate(lr),
            "batch_size": batch_size,
            "sequence": sequence,
        }
        tracked = None
        from nas_bo.cli.tracking import store

        where = store(mlflow)
        if where is not None:
            from nas_bo.mlflow import TrainingRun

            tracked = TrainingRun(where)
        progress: Progress | None = tracked if as_json else _Said(tracked)
        made = run(
            resolve.stored(storage, study), to, pick, tokens,
            settings=settings, ladder=ladder, seed=seed, teacher=teacher or None, allow=allowed(allow, allow_path, budget_limit), progress=progress,
        )  # fmt: skip
    about = made.about
    in_mlflow = None if tracked is None or tracked.run_id is None else {"run_id": tracked.run_id, "of": tracked.of}
    if as_json:
        said = {k: v for k, v in about.items() if k not in ("curve", "trust")}
        print_document("trained", {"folder": str(made.folder), "resumed": made.resumed, **said, "mlflow": in_mlflow})
        return
    if "ladder" in about:
        tried = ", ".join(f"{rate:g}: {bits:.4f}" for rate, bits in about["ladder"]["tried"])
        say(
            f"learning rate {about['ladder']['lr']:g}, the best of short runs of {counted(about['ladder']['of']['rung'], 'token')} ({tried})"
        )
    values = ", ".join(f"{name} {value:.4f} {about['units'][name]}" for name, value in about["values"].items())
    text = _text(about.get("held_out", {}).get("tokens", 0), about["values"], about["searched"].get("searched", {}))
    say(f"{made.folder}: trial {about['searched']['trial']}, {about['searched']['label']}")
    say(f"{counted(about['parameters'], 'parameter')} after {counted(about['tokens'], 'token')}: {values}{text}")
    if about.get("compress"):
        say(f"as in the search: nas-bo compress {made.folder} {about['compress']} --to DIR")
    if in_mlflow is not None:
        say(f"in MLflow as run {in_mlflow['run_id']}" + ("" if in_mlflow["of"] else ", of no trial that is there"))
    model = files.load(made.folder)
    leaving = command(made.folder, model.architecture, model.model.vocab_size, model.ignore)
    say(f'next: nas-bo generate {shlex.quote(str(made.folder))} "def "\n      {leaving}')


def _text(tokens: int, values: Mapping[str, float], before: Mapping[str, float]) -> str:
    """Of how much text the values are, and what the search, with its own budget, had said."""
    searched = ", ".join(f"{before[name]:.4f}" for name in values if name in before)
    text = f", on {counted(tokens, 'held-out token')}" if tokens else ""
    return text + (f" (in the search {searched}, after the training that it had there)" if searched else "")


def _rate(text: str) -> float:
    """The number of `--lr` (raises SearchError)."""
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 < rate < math.inf:
        raise SearchError(f"--lr {text}: it must be a number above 0, or 'ladder'")
    return rate


class _Said:
    """A line on stderr every few seconds, in the unit of the values; what watches the training as well hears all of it.

    Args:
        then: such as `nas_bo.mlflow.TrainingRun`.
    """

    def __init__(self, then: TrainingRun | None) -> None:
        self._then, self._began = then, time.monotonic()
        self._last, self._bits, self._unit = self._began, 1 / math.log(2), "bits per token"

    def began(self, about: Mapping[str, object]) -> None:
        units, size = about.get("units"), about.get("bytes_per_token")
        if isinstance(units, Mapping) and "bits/byte" in units.values() and isinstance(size, float):
            self._bits, self._unit = 1 / math.log(2) / size, "bits per byte"
        if self._then is not None:
            self._then.began(about)

    def __call__(self, step: int, steps: int, nats: float) -> None:
        now = time.monotonic()
        if now - self._last >= SAID_EVERY_S or step >= steps:
            self._last = now
            seconds = now - self._began
            say(
                f"step {step:,} of {steps:,}  {self._bits * nats:.3f} {self._unit} in training  {seconds:.0f} s",
                err=True,
            )
        if self._then is not None:
            self._then(step, steps, nats)

    def ended(self, folder: Path, about: Mapping[str, object]) -> None:
        if self._then is not None:
            self._then.ended(folder, about)

    def failed(self, error: BaseException) -> None:
        if self._then is not None:
            self._then.failed(error)
