"""`nas-bo search`: options to `nas_bo.search` and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas_bo.command.ending import finish
from nas_bo.command.failure import errors
from nas_bo.command.moment import Moment
from nas_bo.command.options import Json, Mlflow, Storage, Study, TextKey, TokenDtype, VocabSize, cores


def search(
    space: Annotated[
        str, typer.Option(help="a named space (see `nas-bo spaces`), module:Class or file.py:Class")
    ] = "tiny_gpt",
    data: Annotated[
        str | None,
        typer.Option(
            help="text file, folder, .jsonl, .json, .parquet, or tokens in .bin/.npy; default: Python's standard library"
        ),
    ] = None,
    tokenizer: Annotated[str | None, typer.Option(help="JSON file of the package tokenizers; default: bytes")] = None,
    text_key: TextKey = None,
    token_dtype: TokenDtype = None,
    vocab_size: VocabSize = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            help="repeatable: val_loss, latency_ms, decode_ms, parameters, mflops, kv_cache_bytes, a sum such as 'val_loss+0.1*latency_ms', or module:name; default: val_loss and latency_ms"
        ),
    ] = None,
    strategy: Annotated[
        str, typer.Option(help="bayes, nsga2, regularizedevolution, localsearch, reinforce, random, or module:name")
    ] = "bayes",
    trials: Annotated[int, typer.Option(help="how many architectures in all")] = 40,
    budget: Annotated[float, typer.Option(help="training tokens per architecture")] = 200_000,
    workers: Annotated[int | None, typer.Option(help="local processes; default: one per core, at most 4")] = None,
    storage: Storage = "nas-bo.db",
    study: Study = None,
    mlflow: Mlflow = "mlflow.db",
    seed: Annotated[int, typer.Option(help="the same seed proposes the same architectures and trains them alike")] = 0,
    max_parameters: Annotated[
        float | None, typer.Option(help="never train an architecture with more parameters")
    ] = None,
    max_latency_ms: Annotated[float | None, typer.Option(help="never train an architecture that is slower")] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(help="repeatable: what to compare with: largest, smallest, or an arch.json; evaluated, no trial"),
    ] = None,
    retrain: Annotated[
        float, typer.Option(help="train the front again at this multiple of the budget; 0 does not")
    ] = 2.0,
    retrain_others: Annotated[
        int,
        typer.Option(
            help="and this many off the front, so that the check is not among winners only; 0 leaves them out"
        ),
    ] = 4,
    device: Annotated[
        str | None,
        typer.Option(
            help="torch device to train and measure on (default: CUDA if there is one); or what latencies are predicted for: a file that `nas-bo profile` wrote, or a device that `nas-bo devices` lists"
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="folder for the report")] = Path("nas-bo-out"),
    as_json: Json = False,
) -> None:
    """Search a space; without any option, tiny_gpt on the source of Python's standard library."""
    moment = Moment(storage, study, lambda told: shown.update(told))
    with errors(moment.text):
        from nas_bo.command import progress, resolve
        from nas_bo.command.tracking import tracking

        job = resolve.job(
            space=space, data=data, tokenizer=tokenizer, text_key=text_key,
            token_dtype=token_dtype, vocab_size=vocab_size, objectives=objective, strategy=strategy, trials=trials, budget=budget,
            seed=seed, max_parameters=max_parameters, max_latency_ms=max_latency_ms, device=device,
        )  # fmt: skip
        resolve.writable(out)
        from nas_bo.loop import search as run

        tracked = tracking(mlflow, storage)
        count = workers if workers is not None else max(1, min(4, cores()))
        with progress.show(quiet=as_json) as shown:
            shown.starting(job.space, count, trials)
            result = run(
                job.space,
                job.objectives,
                limits=job.limits,
                strategy=job.strategy,
                trials=trials,
                workers=count,
                storage=storage,
                study_name=study,
                track=None if tracked is None else tracked.tracker,
                seed=seed,
                baseline=resolve.baselines(baseline or []) or None,
                retrain=retrain,
                retrain_others=retrain_others,
                on_progress=moment,
            )
    finish(result, out, as_json, storage, tracked, moment.text)
