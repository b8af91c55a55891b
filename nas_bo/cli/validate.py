"""`nas-bo validate`: options to `nas_bo.validate` and back; what they mean is in `validation`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas_bo.cli import ending
from nas_bo.cli.failure import errors
from nas_bo.cli.options import (
    TRACKING_URI,
    CpusPerTrial,
    GpusPerTrial,
    Json,
    MlflowPatience,
    NamedSpace,
    OneStudy,
    Ray,
    Text,
    TextKey,
    TokenDtype,
    TrialTimeout,
    VocabSize,
    Workers,
    duration,
    on_ray,
    processes,
)  # fmt: skip
from nas_bo.cli.typed_options import within


def validate(
    space: NamedSpace = "tiny_gpt",
    data: Annotated[str | None, typer.Option(help="Text or tokens to train on, as in `nas-bo search`.")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="JSON file of a tokenizer, as in `nas-bo search`.")] = None,
    text_key: TextKey = None,
    token_dtype: TokenDtype = None,
    vocab_size: VocabSize = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="What is judged, repeatable: bits_per_byte@25% (the reference run after a quarter), bits_per_byte@200k (a run of its own), bits_per_byte (as the study has it), an objective of nas_bo, or module:name. Parameters and FLOPs are always judged. By default bits_per_byte@25%, and with --storage bits_per_byte too."
        ),
    ] = None,
    reference_budget: Annotated[
        float,
        typer.Option(
            help="Training tokens of a reference run, whose result counts as the truth.",
            callback=within(1000, what="a number of tokens"),
        ),
    ] = 500_000,
    architectures: Annotated[
        int, typer.Option(help="Number of architectures that are trained at the reference budget.", callback=within(3))
    ] = 12,
    seeds: Annotated[
        int,
        typer.Option(
            help="Number of reference runs of each. Two show the noise, and how well a proxy can do at best.",
            callback=within(1),
        ),
    ] = 2,
    workers: Workers = None,
    ray: Ray = None,
    cpus_per_trial: CpusPerTrial = None,
    gpus_per_trial: GpusPerTrial = None,
    storage: Annotated[
        str | None,
        typer.Option(help="The storage of a search. Its architectures are used, and the report is kept with it."),
    ] = None,
    study: OneStudy = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="With --storage: compare its front with 'standard', the plain decoder of the space, trained and measured like the front, instead of "
            "judging estimates. For searches that were not compared."
        ),
    ] = None,
    mlflow: Annotated[
        str,
        typer.Option(
            help="MLflow tracking URI or a .db file. The report goes to the study's run, if there is one. 'none' tracks nothing.",
            envvar=TRACKING_URI,
        ),
    ] = "mlflow.db",
    seed: Annotated[int, typer.Option(help="The same seed chooses the same architectures.", callback=within(0))] = 0,
    trial_timeout: TrialTimeout = None,
    mlflow_patience: MlflowPatience = "30s",
    device: Annotated[
        str | None, typer.Option(help="Torch device to train on. By default CUDA if there is one.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("nas-bo-out"),
    as_json: Json = False,
) -> None:
    """Check how far cheap estimates of quality can be trusted; the same command continues one that was stopped."""
    moment = "interrupted before the validation began; the same command starts it"
    with errors(lambda: moment):
        from nas_bo.cli import progress, validation_words
        from nas_bo.cli.tracking import tracking
        from nas_bo.workflows.validate import validate as run

        if baseline is not None:
            validation_words.check_baseline(baseline, storage)
            executor = on_ray(ray, workers, cpus_per_trial, gpus_per_trial)
            count = processes(workers) if executor is None else 1
            limit = None if trial_timeout is None else duration("--trial-timeout", trial_timeout)
            moment = "interrupted; what was trained is kept, and the same command continues"
            with progress.show(quiet=as_json) as shown:
                compared = validation_words.compared(str(storage), study, space, count, executor, limit, shown.update)
            ending.finish(compared, out, as_json, str(storage), None, moment)
            return
        text = Text(data, tokenizer, text_key, token_dtype, vocab_size)
        job = validation_words.job(
            validation_words.Asked(space, text, proxy or (), reference_budget, storage, study, seed, device, out)
        )
        tracked = (
            None
            if job.study is None
            else tracking(mlflow, str(storage), duration("--mlflow-patience", mlflow_patience))
        )
        if tracked is not None:
            tracked.tracker.check()
        executor = on_ray(ray, workers, cpus_per_trial, gpus_per_trial)
        count = processes(workers) if executor is None else 1
        limit = None if trial_timeout is None else duration("--trial-timeout", trial_timeout)
        moment = "interrupted; what was evaluated is kept, and the same command continues"
        with progress.show(quiet=as_json) as shown:
            report = run(
                job.space, job.proxies, job.reference, architectures=architectures, seeds=seeds, history=job.study,
                keep=job.keep, workers=count, executor=executor, timeout=limit, track=None if tracked is None else tracked.tracker, seed=seed,
                on_progress=shown.update,
            )  # fmt: skip
        ending.tell("trust", report, validation_words.write(job, report), as_json, tracked)
