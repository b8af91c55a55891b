"""`nas-bo compress`: a trained model made smaller, as a folder."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from nas_bo.cli.documents import print_document
from nas_bo.cli.failure import errors
from nas_bo.cli.options import Allow, AllowPath, BudgetLimit, Json, allowed
from nas_bo.cli.output import say
from nas_bo.cli.typed_options import above_zero, within
from nas_bo.errors import CompressError, NasBoError


def compress(
    folder: Annotated[Path, typer.Argument(help="A folder of `nas-bo train`.")],
    to: Annotated[Path, typer.Option(help="The folder that is written; it must not exist.")] = Path("small"),
    bits: Annotated[
        str | None,
        typer.Option(
            help="Bits of a weight: 2, 3, 4, 8, 16 or 32; or some for each, such as mlp=3,mixer=4,layers.0=8,default=4."
        ),
    ] = None,
    group: Annotated[int, typer.Option(help="Columns that share a scale.", callback=within(1))] = 32,
    method: Annotated[
        str, typer.Option(help="How weights are rounded: gptq looks at text, rtn rounds to the nearest.")
    ] = "gptq",
    symmetric: Annotated[bool, typer.Option("--symmetric", help="Groups have a scale and no zero point.")] = False,
    activations: Annotated[
        int | None,
        typer.Option(help="Bits of what matrices are given, rounded token by token: 8. By default it is not rounded."),
    ] = None,
    prune: Annotated[
        float,
        typer.Option(help="The share of MLP channels, and of experts, that goes.", callback=within(0, what="a share")),
    ] = 0.0,
    heads: Annotated[
        float, typer.Option(help="The share of heads that goes, with their keys.", callback=within(0, what="a share"))
    ] = 0.0,
    layers: Annotated[
        float, typer.Option(help="The share of whole layers that goes.", callback=within(0, what="a share"))
    ] = 0.0,
    score: Annotated[
        str, typer.Option(help="How units are scored: wanda, activation, taylor, weight, or random as a control.")
    ] = "wanda",
    sparsity: Annotated[
        str | None, typer.Option(help="The share of weights that become zero, or 2:4. No runtime on a CPU skips them.")
    ] = None,
    tokens: Annotated[
        float,
        typer.Option(
            help="Training tokens after units were removed, such as 1e6.",
            callback=within(0, what="a number of tokens"),
        ),
    ] = 0.0,
    distill: Annotated[
        str | None,
        typer.Option(help="The folder of a trained model that this training learns from, such as FOLDER itself."),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(help="Its learning rate. By default 0.3 of that of the first training.", callback=above_zero),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the order of its text.", callback=within(0))] = 0,
    data: Annotated[
        Path | None, typer.Option(help="Other text than that of the first training, in the tokens of the model.")
    ] = None,
    allow: Allow = None,
    allow_path: AllowPath = None,
    budget_limit: BudgetLimit = 1e9,
    as_json: Json = False,
) -> None:
    """Prune and quantize a trained model, and say what each step costs on held-out text."""
    with errors():
        from nas_bo.cli.train import _Said
        from nas_bo.export import folder as files
        from nas_bo.workflows.compress import compress as run

        lines = _Said(None)
        if data is None:
            with suppress(NasBoError):  # the run says what is wrong, after what is wrong with the options
                lines.began(files.about(folder))
        made = run(
            folder, to, data=data, allow=allowed(allow, allow_path, budget_limit), progress=None if as_json else lines,
            bits=None if bits is None else _bits(bits), group=group, method=method, symmetric=symmetric,
            activations=activations, prune=prune, heads=heads, layers=layers, score=score,
            sparsity=_sparsity(sparsity), tokens=tokens, teacher=distill, lr=lr, seed=seed,
        )  # fmt: skip
    if as_json:
        said = {
            "folder": str(made.folder),
            "unit": made.unit,
            "steps": [asdict(step) for step in made.steps],
            "remarks": list(made.remarks),
        }
        print_document("compressed", said)
    else:
        say(str(made))


def _bits(text: str) -> int | dict[str, int]:
    """``4``, or ``mlp=3,mixer=4`` (raises CompressError)."""
    try:
        if "=" not in text:
            return int(text)
        pairs = [part.partition("=") for part in text.split(",")]
        found = {key.strip(): int(value) for key, _, value in pairs}
    except ValueError:
        raise CompressError(
            f"--bits {text!r}: write a number of bits such as 4, or pairs such as mlp=3,mixer=4,default=4"
        ) from None
    if len(found) < len(pairs):
        twice = next(
            key.strip() for at, (key, _, _) in enumerate(pairs) if key.strip() in [k.strip() for k, _, _ in pairs[:at]]
        )
        raise CompressError(f"--bits {text!r} names {twice} twice; leave one of them out")
    return found


def _sparsity(text: str | None) -> float | str | None:
    if text is None or ":" in text:
        return text
    try:
        return float(text)
    except ValueError:
        raise CompressError(f"--sparsity {text!r}: write a share between 0 and 1 such as 0.5, or 2:4") from None
