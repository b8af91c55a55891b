"""The command `nas-bo`: arguments to `search()` and back, nothing else.

Exit codes: 0 done; 1 the search failed (for example, every trial did); 2 something is wrong with the arguments, the
data, the storage or the tracker, and nothing was started; 3 done, but no trial is feasible; 130 interrupted.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas_bo.command.again import register, rerun
from nas_bo.command.asking import ask, tell
from nas_bo.command.dashboard import dashboard
from nas_bo.command.failure import errors as _errors
from nas_bo.command.merging import merge
from nas_bo.command.mlflow import app as _mlflow
from nas_bo.command.profile import profile
from nas_bo.trial import State

if TYPE_CHECKING:
    from nas_bo.result import Result

app = typer.Typer(
    help="Find language-model architectures that are good and cheap on a given device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(_mlflow, name="mlflow")

Storage = Annotated[str, typer.Option(help="where the study is kept: a .db or .log file, or any Optuna storage URL")]
Study = Annotated[str | None, typer.Option(help="name of the study; by default that of the space")]
Json = Annotated[bool, typer.Option("--json", help="print one JSON document instead of text")]
Mlflow = Annotated[str, typer.Option(help="MLflow tracking URI or a .db file; 'none' tracks nothing")]


@app.command()
def search(
    space: Annotated[
        str, typer.Option(help="a named space (see `nas-bo spaces`), module:Class or file.py:Class")
    ] = "tiny_gpt",
    data: Annotated[
        str | None,
        typer.Option(help="text file, folder, .jsonl, or tokens in .bin/.npy; default: Python's standard library"),
    ] = None,
    tokenizer: Annotated[str | None, typer.Option(help="JSON file of the package tokenizers; default: bytes")] = None,
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
    with _errors():
        from nas_bo.command import progress, resolve

        job = resolve.job(
            space=space, data=data, tokenizer=tokenizer, objectives=objective, strategy=strategy, trials=trials, budget=budget,
            seed=seed, max_parameters=max_parameters, max_latency_ms=max_latency_ms, device=device,
        )  # fmt: skip
        resolve.writable(out)
        from nas_bo.loop import search as run

        track = None if mlflow.lower() == "none" else mlflow
        count = workers if workers is not None else max(1, min(4, _cores()))
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
                track=track,
                seed=seed,
                baseline=resolve.baselines(baseline or []) or None,
                retrain=retrain,
                retrain_others=retrain_others,
                on_progress=shown.update,
            )
    _finish(result, out, as_json, storage, mlflow)


@app.command()
def validate(
    space: Annotated[
        str, typer.Option(help="a named space (see `nas-bo spaces`), module:Class or file.py:Class")
    ] = "tiny_gpt",
    data: Annotated[str | None, typer.Option(help="as in `nas-bo search`")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="as in `nas-bo search`")] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="repeatable: val_loss@25% (the reference run after a quarter), val_loss@200k (a run of its own), val_loss (as the study has it), an objective of nas_bo, or module:name; parameters and FLOPs are always judged; default: val_loss@25%, and val_loss with a study"
        ),
    ] = None,
    reference_budget: Annotated[float, typer.Option(help="training tokens that count as the truth")] = 500_000,
    architectures: Annotated[int, typer.Option(help="how many are trained at the reference budget")] = 12,
    seeds: Annotated[int, typer.Option(help="how often each is; two give the ceiling and the noise")] = 2,
    workers: Annotated[int | None, typer.Option(help="local processes; default: one per core, at most 4")] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="the storage of a search: its architectures are used, and the report is kept with it"),
    ] = None,
    study: Study = None,
    mlflow: Annotated[
        str,
        typer.Option(
            help="MLflow tracking URI or a .db file; the report goes to the run of the study, if there is one"
        ),
    ] = "mlflow.db",
    seed: Annotated[int, typer.Option(help="the same seed chooses the same architectures")] = 0,
    device: Annotated[str | None, typer.Option(help="torch device to train on; default: CUDA if there is one")] = None,
    out: Annotated[Path, typer.Option(help="folder for the report")] = Path("nas-bo-out"),
    as_json: Json = False,
) -> None:
    """Check how far cheap estimates of quality can be trusted; the same command continues one that was stopped."""
    with _errors():
        from nas_bo.command import progress, validation

        job = validation.job(
            space=space, data=data, tokenizer=tokenizer, proxies=proxy, reference_budget=reference_budget,
            storage=storage, study=study, seed=seed, device=device, out=out,
        )  # fmt: skip
        track = None if mlflow.lower() == "none" or job.study is None else mlflow
        count = workers if workers is not None else max(1, min(4, _cores()))
        try:
            with progress.show(quiet=as_json) as shown:
                report = validation.run(job, architectures, seeds, count, track, seed, shown.update)
        except KeyboardInterrupt:
            typer.echo("nas-bo: interrupted; what was evaluated is kept, and the same command continues", err=True)
            raise typer.Exit(130) from None
        written = validation.write(job, report)
    if as_json:
        _say(json.dumps({**report.to_dict(), "files": [str(p) for p in written]}, indent=1))
        return
    _say(f"\n{report}\n")
    for path in written:
        _say(f"{validation.WORDS.get(path.suffix, 'file'):<8} {path}")


@app.command()
def report(
    storage: Annotated[str, typer.Argument(help="the storage of a search")] = "nas-bo.db",
    study: Study = None,
    out: Annotated[Path, typer.Option(help="folder for the report")] = Path("nas-bo-out"),
    as_json: Json = False,
) -> None:
    """Write the table, the picture and the page of a study again."""
    with _errors():
        from nas_bo.command import resolve

        result = resolve.stored(storage, study)
    _finish(result, out, as_json, storage, None)


@app.command()
def spaces(
    name: Annotated[str | None, typer.Argument(help="describe this one")] = None,
    as_json: Json = False,
) -> None:
    """List the named search spaces, or describe one."""
    with _errors():
        from nas_bo.command import resolve
        from nas_bo.search_spaces import NAMED

        if name is None:
            if as_json:
                _say(
                    json.dumps({n: {"size": s.size(rules=False), "title": s.title} for n, s in NAMED.items()}, indent=1)
                )
                return
            for known, space in NAMED.items():
                first = (space.__doc__ or "").strip().splitlines()[0]
                _say(f"{known:<16} {space.size(rules=False):>12.3g} architectures   {first}")
            return
        chosen = resolve.named_space(name)
        _say(chosen.to_json() if as_json else chosen.describe())


@app.command()
def devices(
    name: Annotated[
        str | None, typer.Argument(help="show this one: a name of the table, or the path of a file")
    ] = None,
    here: Annotated[bool, typer.Option("--here", help="measure this machine, which takes seconds")] = False,
    pictures: Annotated[
        Path | None,
        typer.Option(help="draw the roofline of the device, and where an architecture's time goes, in this folder"),
    ] = None,
    space: Annotated[str, typer.Option(help="of what is drawn")] = "tiny_gpt",
    arch: Annotated[
        Path | None, typer.Option(help="JSON file of what is drawn (default: the space's architecture of seed 0)")
    ] = None,
    phase: Annotated[str, typer.Option(help="of what is drawn: prefill or decode")] = "prefill",
    context: Annotated[int, typer.Option(help="of what is drawn: tokens")] = 128,
    dtype: Annotated[str, typer.Option(help="of what is drawn: of weights and activations")] = "float32",
    as_json: Json = False,
) -> None:
    """List the devices whose figures are known, or show one with the source of each figure."""
    with _errors():
        from nas_bo.command import devices as command

        if pictures is None:
            _say(command.text(name, here, as_json))
        else:
            _say(command.pictures(name, here, space, arch, (phase, context, dtype), pictures))


@app.command()
def ui(
    mlflow: Mlflow = "mlflow.db",
    port: Annotated[int, typer.Option(help="port on this machine; 0 takes a free one")] = 5000,
) -> None:
    """Open the MLflow page of the searches on this machine only, and print the address that opens on the front."""
    with _errors():
        from nas_bo.mlflow import open_ui

        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the server ends with us, however we are ended
        with open_ui(mlflow, port) as shown, contextlib.suppress(KeyboardInterrupt):
            _say(f"{shown.front()}\nPress Ctrl-C to stop.")
            shown.process.wait()


app.command()(profile)
app.command()(dashboard)
app.command()(ask)
app.command()(tell)
app.command()(merge)
app.command()(rerun)
app.command()(register)


def main() -> None:
    """Entry point of the command; see the module for the exit codes."""
    try:
        app()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _finish(result: Result, out: Path, as_json: bool, storage: str, mlflow: str | None) -> None:
    with _errors():
        written = result.save(out / result.title)
        if as_json:
            _say(json.dumps({**result.to_dict(), "files": [str(p) for p in written]}, indent=1))
        else:
            _say(f"\n{result}\n")
            for path in written[:2]:
                _say(f"{'picture' if path.suffix == '.png' else 'page':<8} {path}")
            _say(f"study    {storage}   (nas-bo report {storage})")
            if result.url and mlflow is not None:
                hint = "" if mlflow.startswith("http") else f"{mlflow}   (nas-bo ui --mlflow {mlflow}), then "
                _say(f"MLflow   {hint}{result.url}")
    if result.interrupted:
        raise typer.Exit(130)
    if not result.front:
        raise typer.Exit(1 if all(t.state is State.FAILED for t in result.trials) else 3)


def _say(text: str) -> None:
    typer.echo(text)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
