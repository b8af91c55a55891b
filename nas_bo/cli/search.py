"""`nas-bo search`: options to `nas_bo.search` and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas_bo.cli import completion
from nas_bo.cli.ending import Moment, finish
from nas_bo.cli.failure import errors
from nas_bo.cli.options import (
    CpusPerTrial,
    GpusPerTrial,
    Json,
    Mlflow,
    MlflowPatience,
    NamedSpace,
    Ray,
    Storage,
    StoragePatience,
    Study,
    Teacher,
    Text,
    TextKey,
    TokenDtype,
    TrialTimeout,
    VocabSize,
    Workers,
    duration,
    on_ray,
    processes,
    together_on,
)
from nas_bo.cli.output import note
from nas_bo.cli.spaces import large
from nas_bo.cli.typed_options import within


def search(
    space: NamedSpace = "tiny_gpt",
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Search inside a trained model instead of --space: a folder of transformers (config.json, safetensors, "
            "tokenizer.json) or a GGUF file. Its parts are judged with its weights.",
        ),
    ] = None,
    operators: Annotated[
        str | None,
        typer.Option(
            help="With --from, what may take the place of attention besides what makes it smaller, with commas: linear_attention, "
            "gated_delta, window or window=128. Each such block learns alone for a short time before the search.",
        ),
    ] = None,
    bits: Annotated[
        str | None,
        typer.Option(
            help="With --from, the bits that the weights of each layer may have, with commas: 8,4,3. Embedding and head have the fewest of "
            "them, at least 8. Parts are judged with their weights rounded.",
        ),
    ] = None,
    device_map: Annotated[
        str | None,
        typer.Option(
            help='With --from, "disk" keeps the weights of a model that does not fit in memory in a file of the cache folder, and reads those of '
            "a block when it runs.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Text file, folder, .jsonl, .json, .parquet, or tokens in .bin/.npy. By default the source of Python's standard library."
        ),
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="JSON file of the package tokenizers. By default bytes are the tokens.")
    ] = None,
    text_key: TextKey = None,
    token_dtype: TokenDtype = None,
    vocab_size: VocabSize = None,
    teacher: Teacher = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            help="What is optimised, repeatable: bits_per_byte, latency_ms, decode_ms, throughput, energy, memory, parameters, "
            "active_parameters, mflops, kv_cache_bytes, weight_bytes, of the trained model quantization_gap_2 (3, 4), layer_sensitivity, activation_sparsity, outlier_score, a sum such as 'bits_per_byte+0.1*latency_ms', or module:name of your own. "
            "By default bits_per_byte and latency_ms.",
            autocompletion=completion.objectives,
        ),
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            help="What proposes: auto, bayes, nsga2, regularizedevolution, localsearch, reinforce, random, knapsack, or module:name. By default "
            "auto (bayes, beyond some thousands of trials nsga2), with --from knapsack.",
            autocompletion=completion.strategies,
        ),
    ] = None,
    trials: Annotated[int, typer.Option(help="Number of architectures in all.", callback=within(1))] = 40,
    budget: Annotated[
        float | None,
        typer.Option(
            help="Training tokens per architecture. By default 200,000; with --from none, parts are judged as they are.",
            callback=within(1000, what="a number of tokens"),
        ),
    ] = None,
    workers: Workers = None,
    ray: Ray = None,
    cpus_per_trial: CpusPerTrial = None,
    gpus_per_trial: GpusPerTrial = None,
    storage: Storage = "nas-bo.db",
    study: Study = None,
    mlflow: Mlflow = "mlflow.db",
    seed: Annotated[
        int,
        typer.Option(help="The same seed proposes the same architectures and trains them alike.", callback=within(0)),
    ] = 0,
    max_parameters: Annotated[
        list[str] | None, typer.Option(help="Never train an architecture with more parameters: 30M, 5e6.")
    ] = None,
    max_active_parameters: Annotated[
        list[str] | None,
        typer.Option(help="The same for those that one token passes through, in mixtures of experts fewer: 30M."),
    ] = None,
    parameters_near: Annotated[
        str | None, typer.Option(help="Keep the number of parameters within 20 % of this: 5e6, 30M.")
    ] = None,
    max_memory: Annotated[
        list[str] | None,
        typer.Option(help="Peak memory of inference, weights, cache and activations: 2GB, 1.5GiB."),
    ] = None,
    max_latency_ms: Annotated[
        list[str] | None,
        typer.Option(help="Latency of reading --context tokens: 25. With several targets also pi5=25, repeatable."),
    ] = None,
    max_decode_ms: Annotated[
        list[str] | None, typer.Option(help="Latency of one more token after --context: 5, or pi5=5.")
    ] = None,
    max_energy_mj: Annotated[
        list[str] | None, typer.Option(help="Energy of reading --context tokens, in millijoules: 25, or v100=25.")
    ] = None,
    min_throughput: Annotated[
        list[str] | None, typer.Option(help="Tokens per second of decoding a batch, at least: 500, or pi5=500.")
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="What latency, throughput, energy and memory are predicted for, repeatable: a name that `nas-bo devices` "
            "lists, a device file, or a profile that `nas-bo profile` wrote. Each target has columns of its own. 'here' is this "
            "machine, measured, which is what is meant without any target.",
            autocompletion=completion.targets,
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Data type of what is measured or predicted: float32, bfloat16, int8, ... By default float32."
        ),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            help="Tokens of what is measured or predicted. By default 128 for time and energy, 2048 for memory.",
            callback=within(1),
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            help="Sequences at a time in what is measured or predicted. By default 1, and 8 for throughput.",
            callback=within(1),
        ),
    ] = None,
    servable: Annotated[
        list[str] | None,
        typer.Option(
            help="Only architectures that this can serve without code of nas_bo, repeatable: transformers, gguf (llama.cpp), vllm."
        ),
    ] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            help="What to compare with, repeatable: standard (the plain decoder: attention, all layers alike), largest, smallest, an arch.json, or none. It "
            "is evaluated and is not a trial. By default standard, and with --from the whole model, with narrower MLPs everywhere and with fewer layers."
        ),
    ] = None,
    no_baseline: Annotated[
        bool, typer.Option("--no-baseline", help="Compare with nothing: neither --baseline nor the standard design.")
    ] = False,
    retrain: Annotated[
        float, typer.Option(help="Train the front again at this multiple of the budget. 0 does not.")
    ] = 2.0,
    retrain_others: Annotated[
        int,
        typer.Option(
            help="Train this many off the front as well, so that the check is not among winners only. 0 leaves them out.",
            callback=within(0),
        ),
    ] = 4,
    device: Annotated[
        str | None, typer.Option(help="Torch device to train and measure on. By default CUDA if there is one.")
    ] = None,
    trial_timeout: TrialTimeout = None,
    asynchronous: Annotated[
        bool,
        typer.Option(
            "--asynchronous",
            help="Propose from all that has ended when a worker is free: faster with many workers, but a seed no longer gives the same search.",
        ),
    ] = False,
    hours: Annotated[
        str | None,
        typer.Option(
            help="For how long it begins trials and re-trainings, which get at most half of it: 8h, 2d, 30m. The same command continues. By default as long as it takes."
        ),
    ] = None,
    storage_patience: StoragePatience = "5m",
    mlflow_patience: MlflowPatience = "30s",
    adopt_after: Annotated[
        str | None,
        typer.Option(
            help="Evaluate trials again that another process, of whatever machine, has been running for longer: 30m, 2h, 90s."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("nas-bo-out"),
    as_json: Json = False,
) -> None:
    """Search a space; without any option, tiny_gpt on the source of Python's standard library."""
    moment = Moment(storage, study, lambda told: shown.update(told))
    with errors(moment.text):
        from nas_bo.cli import progress, resolve
        from nas_bo.cli.quantities import Costs
        from nas_bo.cli.tracking import tracking

        limits = {
            "max_parameters": max_parameters, "max_active_parameters": max_active_parameters, "max_memory": max_memory,
            "max_latency_ms": max_latency_ms, "max_decode_ms": max_decode_ms, "max_energy_mj": max_energy_mj,
            "min_throughput": min_throughput,
        }  # fmt: skip
        costs = Costs(
            device, target or (), dtype, context, batch, {k: v for k, v in limits.items() if v}, parameters_near
        )
        text = Text(data, tokenizer, text_key, token_dtype, vocab_size)
        job = resolve.job(
            resolve.Asked(
                space,
                text,
                objective or (),
                strategy,
                budget,
                seed,
                costs,
                source,
                teacher or (),
                operators,
                bits,
                device_map,
                gpus=together_on(gpus_per_trial),
            )
        )
        against = resolve.compared(baseline or [], job, no_baseline)
        resolve.writable(out)
        from nas_bo.execution.executor import workers_of
        from nas_bo.workflows.search import search as run

        tracked = tracking(mlflow, storage, duration("--mlflow-patience", mlflow_patience))
        executor = on_ray(ray, workers, cpus_per_trial, gpus_per_trial, together=True)
        if executor is None and workers is None and together_on(gpus_per_trial) > 1:
            workers = 1
        count = processes(workers) if executor is None else workers_of(executor)
        if source is None and not job.limits and (words := large(job.space, device)):
            note(words)
        elif source is not None and not as_json:
            note(f"reading {source} and putting its weights in the order of their importance")
        with progress.show(quiet=as_json) as shown:
            shown.starting(job.space, count, trials, job.bounds)
            result = run(
                job.space,
                job.objectives,
                limits=[*job.limits, *resolve.servable(servable or [], job)],
                proxies=job.proxies,
                strategy=job.strategy,
                trials=trials,
                workers=count if executor is None else 1,
                asynchronous=asynchronous,
                executor=executor,
                storage=storage,
                study_name=study,
                track=None if tracked is None else tracked.tracker,
                seed=seed,
                baseline=against,
                retrain=retrain,
                retrain_others=retrain_others,
                timeout=None if trial_timeout is None else duration("--trial-timeout", trial_timeout),
                hours=None if hours is None else duration("--hours", hours) / 3600,
                storage_patience=duration("--storage-patience", storage_patience),
                adopt_after=None if adopt_after is None else duration("--adopt-after", adopt_after),
                on_progress=moment,
            )
    finish(result, out, as_json, storage, tracked, moment.text)
