"""`nas-bo ladder`: options to `nas_bo.workflows.ladder` and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas_bo.cli.documents import print_document
from nas_bo.cli.ending import tell
from nas_bo.cli.failure import errors
from nas_bo.cli.options import (
    Allow,
    AllowPath,
    BudgetLimit,
    CpusPerTrial,
    GpusPerTrial,
    Json,
    Mlflow,
    MlflowPatience,
    OneStudy,
    Ray,
    TrialTimeout,
    Workers,
    allowed,
    duration,
    on_ray,
    processes,
)
from nas_bo.cli.output import say
from nas_bo.cli.typed_options import above_zero, within
from nas_bo.errors import SearchError
from nas_bo.foreign_document import text_of

if TYPE_CHECKING:
    from nas_bo.workflows.ladder_settings import LadderOptions


def ladder(
    storage: Annotated[str, typer.Argument(help="The storage of a search.")] = "nas-bo.db",
    rungs: Annotated[
        str,
        typer.Option(
            help="How many sizes, the searched one among them, or the sizes as multiples of it, such as 1,5,20. At least three."
        ),
    ] = "3",
    factor: Annotated[
        float, typer.Option(help="From one rung to the next, in parameters.", callback=within(1.2, 1000, "a number"))
    ] = 4.0,
    tokens_per_parameter: Annotated[
        float,
        typer.Option(help="Training tokens of a rung, per parameter of its median architecture.", callback=above_zero),
    ] = 20.0,
    seeds: Annotated[int, typer.Option(help="Trainings of each architecture on each rung.", callback=within(1))] = 2,
    architectures: Annotated[
        int,
        typer.Option(
            help="At most so many are taken up: of the front, controls off it, plain decoders.", callback=within(3)
        ),
    ] = 12,
    baseline: Annotated[
        str,
        typer.Option(
            help="The plain controls: 'standard', 'none', or a file with an architecture of the space as JSON."
        ),
    ] = "standard",
    parametrization: Annotated[
        str, typer.Option(help="How learning rates follow width and depth: completep or standard.")
    ] = "completep",
    most_repeats: Annotated[
        float, typer.Option(help="How often a training may read the text of the corpus.", callback=above_zero)
    ] = 4.0,
    space: Annotated[
        str | None,
        typer.Option(
            help="What was searched, with a growth rule of its own: a named space, module:Class or file.py:Class."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print sizes, tokens, memory and hours, and train nothing.")
    ] = False,
    workers: Workers = None,
    ray: Ray = None,
    cpus_per_trial: CpusPerTrial = None,
    gpus_per_trial: GpusPerTrial = None,
    trial_timeout: TrialTimeout = None,
    study: OneStudy = None,
    mlflow: Mlflow = "mlflow.db",
    mlflow_patience: MlflowPatience = "30s",
    allow: Allow = None,
    allow_path: AllowPath = None,
    budget_limit: BudgetLimit = 1e9,
    seed: Annotated[int, typer.Option(help="The same seed chooses the same controls.", callback=within(0))] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the report, and for trainings until they end.")] = Path(
        "nas-bo-out"
    ),
    as_json: Json = False,
) -> None:
    """Train the front and controls at larger sizes, and say whether the small winners win there; the same command continues one that was stopped."""
    moment = "interrupted before the first training; the same command starts it"
    with errors(lambda: moment):
        from nas_bo.cli import progress, resolve
        from nas_bo.cli.tracking import tracking
        from nas_bo.optuna import studies
        from nas_bo.workflows.ladder import ladder as climb
        from nas_bo.workflows.ladder import plan_ladder
        from nas_bo.workflows.stored_result import load_result

        sizes, plain = _rungs(rungs), _baseline(baseline)
        may = allowed(allow, allow_path, budget_limit)
        found = None if space is None else resolve.named_space(space)
        result = load_result(studies.load(storage, study, reading=dry_run), found)
        limit = None if trial_timeout is None else duration("--trial-timeout", trial_timeout)
        executor = None if dry_run else on_ray(ray, workers, cpus_per_trial, gpus_per_trial)
        asked: LadderOptions = {
            "rungs": sizes, "factor": factor, "tokens_per_parameter": tokens_per_parameter, "seeds": seeds, "baseline": plain,
            "architectures": architectures, "parametrization": parametrization, "most_repeats": most_repeats, "allow": may, "seed": seed,
            "workers": processes(workers) if executor is None else 1,
        }  # fmt: skip
        if dry_run:
            plan = plan_ladder(result, found, **asked)
            if as_json:
                print_document("ladder-plan", plan.to_dict())
            else:
                say(str(plan))
            return
        tracked = tracking(mlflow, storage, duration("--mlflow-patience", mlflow_patience))
        moment = "interrupted; what was trained is kept, and the same command continues"
        with progress.show(quiet=as_json) as shown:
            asked["executor"], asked["timeout"], asked["checkpoints"] = executor, limit, out
            asked["track"], asked["on_progress"] = None if tracked is None else tracked.tracker, shown.update
            made = climb(result, found, **asked)
        tell("ladder", made, made.save(out), as_json, tracked)


def _rungs(text: str) -> int | list[float]:
    """What `--rungs` means: a number of them, or their sizes (raises SearchError)."""
    try:
        return [float(one) for one in text.split(",")] if "," in text else int(text)
    except ValueError:
        raise SearchError(
            f"--rungs {text}: write how many rungs, such as 3, or their sizes as multiples of the searched one, such as 1,5,20"
        ) from None


def _baseline(text: str) -> object:
    """What `--baseline` means (raises SearchError)."""
    if text in ("standard", "none"):
        return None if text == "none" else text
    try:
        found = json.loads(text_of(Path(text), 2**20))
    except (OSError, ValueError) as error:
        said = (error.strerror if isinstance(error, OSError) else None) or error
        raise SearchError(
            f"--baseline {text}: it is standard, none, or a JSON file with an architecture of the space, and that file cannot be read ({said})"
        ) from None
    flat = found.get("flat", found) if isinstance(found, dict) else found
    if not isinstance(flat, dict):
        raise SearchError(
            f"--baseline {text}: the file holds no architecture; write one with Architecture.to_json(), or its flat values"
        )
    return flat
