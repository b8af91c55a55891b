"""`nas-bo profile`: options to `nas_bo.profile` and back."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas_bo.cli import warnings_shown
from nas_bo.cli.documents import print_document
from nas_bo.cli.failure import errors
from nas_bo.cli.options import Json, NamedSpace, on_ray
from nas_bo.cli.output import note, say
from nas_bo.cli.typed_options import above_zero, within

if TYPE_CHECKING:
    from nas_bo.hardware.latency.profile import Profile
    from nas_bo.workflows.profile import Progress as ProfileProgress


def profile(
    space: NamedSpace = "tiny_gpt",
    out: Annotated[
        Path, typer.Option(help="File to write. An interrupted profile continues from what is next to it.")
    ] = Path("device.json"),
    runtime: Annotated[
        str,
        typer.Option(
            help="What runs the model: eager, cuda-graphs, compile, onnxruntime, onnxruntime-int8, openvino, llama.cpp, or with a type of its files, such as llama.cpp-q4_k_m."
        ),
    ] = "eager",
    phase: Annotated[list[str] | None, typer.Option(help="Prefill or decode, repeatable. By default both.")] = None,
    context: Annotated[
        list[int] | None, typer.Option(help="Tokens in the context, repeatable. By default 128.", callback=within(1))
    ] = None,
    batch: Annotated[
        list[int] | None, typer.Option(help="Sequences at a time, repeatable. By default 1.", callback=within(1))
    ] = None,
    dtype: Annotated[str, typer.Option(help="Data type of weights and activations.")] = "float32",
    vocab_size: Annotated[
        int, typer.Option(help="Vocabulary size of the tokenizer. 256 is that of bytes.", callback=within(2))
    ] = 256,
    architectures: Annotated[
        int, typer.Option(help="Number of architectures that are measured.", callback=within(5))
    ] = 30,
    lookup: Annotated[
        bool, typer.Option("--lookup", help="Measure every single part as well, for lookup models.")
    ] = False,
    device: Annotated[
        str | None, typer.Option(help="Torch device to measure on. By default CUDA if there is one.")
    ] = None,
    threads: Annotated[int, typer.Option(help="Number of threads on a CPU.", callback=within(1))] = 1,
    clock: Annotated[
        str,
        typer.Option(
            help="Clock to measure with: cpu (time of the processor), wall, or auto, which is wall where nothing else runs."
        ),
    ] = "auto",
    precision: Annotated[
        float,
        typer.Option(
            help="Measure an architecture until half the width of its 95 % interval is this share of the value.",
            callback=above_zero,
        ),
    ] = 0.02,
    max_seconds: Annotated[
        float, typer.Option(help="Seconds at most for one architecture in one setting.", callback=above_zero)
    ] = 2.0,
    name: Annotated[
        str | None, typer.Option(help="Name of the device in the file. By default what it calls itself.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed chooses the same architectures.", callback=within(0))] = 0,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="ADDRESS",
            help="Measure a node of a Ray cluster, which --on names: the address of the head, or auto for the cluster of this machine.",
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(help="With --ray, the resource that the node was started with, such as pi5."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure this device once; `nas-bo search --target device.json` then knows its latencies anywhere."""
    moment = "interrupted before anything was measured; the same command starts again"
    with errors(lambda: moment):
        from nas_bo.cli import resolve
        from nas_bo.errors import ProfileError
        from nas_bo.hardware.workload import Setting
        from nas_bo.workflows.profile import profile as run

        chosen = [
            Setting(p, b, c, dtype, vocab_size)  # type: ignore[arg-type]
            for p in phase or ("prefill", "decode")
            for b in batch or (1,)
            for c in context or (128,)
        ]
        if not out.parent.is_dir():
            raise ProfileError(f"--out {out}: there is no folder {str(out.parent)!r}; make it, or choose another file")
        moment = "interrupted; what was measured is kept, and the same command continues"
        warnings_shown.current().listed = True
        if ray is None and on is not None:
            raise ProfileError(
                f"--on {on} is a node of a Ray cluster; give --ray ADDRESS, --ray auto or leave --on out"
            )
        if ray is not None and on is None:
            raise ProfileError(
                "--ray: a profile is of one machine; say which by --on, a resource that its node was started with, such as --on pi5"
            )
        executor = None if ray is None else on_ray(ray, 1, None, None)
        found = run(
            resolve.named_space(space), out, list(dict.fromkeys(chosen)), runtime_name=runtime, device=device, threads=threads,
            architectures=architectures, lookup=lookup, clock=clock, precision=precision, max_seconds=max_seconds, name=name,  # type: ignore[arg-type]
            seed=seed, executor=executor, on=on, on_progress=_Shown(as_json),
        )  # fmt: skip
        drawn = _picture(found, out, seed)
    if as_json:
        print_document("profile", {**found.to_dict(), "file": str(out)})
        return
    use = f"nas-bo search --space {shlex.quote(space)} --target {shlex.quote(str(out))}"
    say(f"\n{found}\n\nprofile  {out}   ({use})")
    if drawn is not None:
        say(f"picture  {drawn}")


def _picture(found: Profile, out: Path, seed: int) -> Path | None:
    """Predicted against measured, next to the file; None where too little was measured to hold some out."""
    from nas_bo.report.hardware_picture import predicted_picture

    made = predicted_picture(found, seed=seed)
    if made is None:
        return None
    path = out.with_name(out.stem + ".png")
    path.write_bytes(made)
    return path


class _Shown:
    """A line on stderr every few seconds, or one that is written over on a terminal."""

    def __init__(self, quiet: bool) -> None:
        self._quiet, self._last, self._phase = quiet, 0.0, ""

    def __call__(self, progress: ProfileProgress) -> None:
        now = time.monotonic()
        fresh = progress.phase != self._phase
        if self._quiet or not (fresh or progress.done == progress.total or now - self._last > 2.0):
            return
        self._last, self._phase = now, progress.phase
        if progress.phase == "device":
            text = "measuring what the device can do"
        elif progress.phase == "waiting":
            text = "something else is measured on this machine; waiting for it to end"
        else:
            text = f"measuring {progress.phase}: {progress.done} of {progress.total} known, {progress.seconds:.0f} s"
        note(text)
