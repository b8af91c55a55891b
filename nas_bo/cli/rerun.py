"""`nas-bo rerun` and `nas-bo register`: from what was logged to a second evaluation, and to a model in the registry."""

from __future__ import annotations

from typing import Annotated

import typer

from nas_bo.cli import completion
from nas_bo.cli.documents import print_document
from nas_bo.cli.failure import errors
from nas_bo.cli.options import TRACKING_URI, Allow, AllowPath, BudgetLimit, Json, OneStudy, allowed
from nas_bo.cli.output import say


def rerun(
    run: Annotated[
        str, typer.Argument(help="Id of a run in MLflow: a trial's, or a study's, which stands for its knee.")
    ],
    mlflow: Annotated[str, typer.Option(help="MLflow tracking URI or a .db file.", envvar=TRACKING_URI)] = "mlflow.db",
    allow: Allow = None,
    allow_path: AllowPath = None,
    budget_limit: BudgetLimit = 1e9,
    log: Annotated[bool, typer.Option(help="Log the evaluation as a run of its own, linked to the first.")] = True,
    as_json: Json = False,
) -> None:
    """Evaluate a run again from what was logged, and say whether the figures agree; exit code 1 where they do not."""
    with errors():
        from nas_bo.workflows.rerun import rerun as evaluate

        may = allowed(allow, allow_path, budget_limit)
        made = evaluate(
            run, track=mlflow, allow=may.modules, log=log, allow_path=may.paths, budget_limit=may.budget, say=_next
        )
    if as_json:
        print_document("rerun", made.to_dict())
    else:
        say(str(made))
    if made.agrees is False:
        raise typer.Exit(1)


def register(
    storage: Annotated[str, typer.Argument(help="The storage of a search.")] = "nas-bo.db",
    name: Annotated[str, typer.Option(help="Name of the model in the registry.")] = "nas-bo",
    pick: Annotated[
        list[str] | None,
        typer.Option(
            help="What is trained, repeatable: knee, fastest, best_quality, best:NAME, 'bits_per_byte where latency_ms<=2', or the number of a trial. By default the first three.",
            autocompletion=completion.picks,
        ),
    ] = None,
    study: OneStudy = None,
    mlflow: Annotated[str, typer.Option(help="MLflow tracking URI or a .db file.", envvar=TRACKING_URI)] = "mlflow.db",
    allow: Allow = None,
    allow_path: AllowPath = None,
    budget_limit: BudgetLimit = 1e9,
    as_json: Json = False,
) -> None:
    """Train the chosen architectures with the budget of the search's re-training and put them into MLflow's model registry, under aliases."""
    with errors():
        from nas_bo.cli import resolve
        from nas_bo.workflows.register import ALIASES
        from nas_bo.workflows.register import register as put

        may = allowed(allow, allow_path, budget_limit)
        result = resolve.stored(storage, study)
        found = put(result, name, track=mlflow, wanted=pick or ALIASES, allow=may, say=_next)
    if as_json:
        print_document("registered", {"models": [vars(one) | {"uri": one.uri} for one in found]})
        return
    units = {c.name: c.unit for c in result.columns}
    for one in found:
        values = ", ".join(f"{key} {value:.5g} {units.get(key, '')}".rstrip() for key, value in one.values.items())
        say(f"{one.name} version {one.version}  {', '.join(one.aliases)}  trial {one.trial}  {values}")
    say(f"load one with nas_bo.mlflow.load_model({found[0].uri!r}, tracking_uri={mlflow!r})")


def _next(what: str, done: int, of: int) -> None:
    """A line on stderr before each evaluation, which may take minutes."""
    say(f"{what}{f' ({done + 1} of {of})' if of > 1 else ''}", err=True)
