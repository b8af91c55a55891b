"""`nas-bo spaces`: the named search spaces, and what one is like."""

from __future__ import annotations

import random
from dataclasses import asdict
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer

from nas_bo.cli import completion
from nas_bo.cli.documents import print_document
from nas_bo.cli.failure import errors
from nas_bo.cli.options import Json
from nas_bo.cli.output import say
from nas_bo.errors import NasBoError, SpaceError
from nas_bo.wording import counted

if TYPE_CHECKING:
    from nas_bo.architecture import Architecture
    from nas_bo.space import Space

INSPECT = "inspect"
LARGE = 5e6
"""Parameters beyond which `large` warns."""


def spaces(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Describe this one; 'inspect' looks into the next one.", autocompletion=completion.spaces_or_inspect
        ),
    ] = None,
    of: Annotated[
        str | None,
        typer.Argument(
            help="After inspect: a named space, module:Class or file.py:Class.",
            metavar="[SPACE]",
            autocompletion=completion.spaces,
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="With inspect: the storage of a search of it, for coverage and what its front says."),
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="Name of the study in it.", autocompletion=completion.studies)
    ] = None,
    as_json: Json = False,
) -> None:
    """List the named search spaces, describe one, or inspect one: its size, rules, dead choices, and what decides its costs."""
    with errors():
        from nas_bo.cli import resolve
        from nas_bo.search_spaces import NAMED

        if name == INSPECT:
            if of is None:
                raise SpaceError(
                    f"inspect what? Give a space: {', '.join(NAMED)}, or your own as module:Class or file.py:Class"
                )
            _inspect(resolve.named_space(of), storage, study, as_json)
            return
        if of is not None or storage is not None or study is not None:
            raise SpaceError(f"{of or storage or study}: only `nas-bo spaces inspect SPACE` takes more; leave it out")
        if name is None:
            if as_json:
                print_document("spaces", {n: {"size": s.size(rules=False), "title": s.title} for n, s in NAMED.items()})
                return
            for known, space in NAMED.items():
                first = (space.__doc__ or "").strip().partition("\n")[0]
                size = middle_parameters(space)
                of_size = "" if size is None else f"of about {counted(round(size), 'parameter')}"
                say(f"{known:<16} {space.size(rules=False):>12.3g} architectures {of_size:<31}  {first}")
            say(
                "Parameters are those of the middle one of 33 random architectures; `nas-bo spaces inspect` has their range."
            )
            return
        chosen = resolve.named_space(name)
        if as_json:
            print_document("space", chosen.to_dict())
        else:
            say(chosen.describe())


def middle_parameters(space: type[Space]) -> float | None:
    """Parameters of the middle one of 33 random architectures, to three digits; None where the space is not of our decoder."""
    from nas_bo.workflows import retraining_check

    rng = random.Random(0)
    sizes = [retraining_check.counted(space.sample(rng)) for _ in range(33)]
    return None if None in sizes else float(f"{median(size for size in sizes if size is not None):.3g}")


def large(space: type[Space], device: str | None = None) -> str:
    """The warning before architectures of a space are trained on CPUs without a limit on their size; "" where they are small."""
    size = middle_parameters(space)
    if size is None or size < LARGE:
        return ""
    from nas_bo.model.device import pick_device

    if (device or pick_device(None)) != "cpu":
        return ""
    return (
        f"half of the architectures of {space.title} have more than about {counted(round(size), 'parameter')}, and on CPUs the first may take long "
        "to train: --max-parameters excludes the larger ones, and `nas-bo spaces` lists smaller spaces"
    )


def _inspect(space: type[Space], storage: str | None, study: str | None, as_json: bool) -> None:
    from nas_bo.space.design import advise, inspect

    seen: list[Architecture] = []
    advice = None
    if storage is not None:
        from nas_bo.optuna import studies
        from nas_bo.workflows.search import load_result

        result = load_result(studies.load(storage, study, reading=True), space)
        seen = [t.architecture for t in result.trials]
        front = [t.architecture for t in (result.final.members or result.front)]
        advice = advise(space, front, seen)
    found = inspect(space, {"parameters": _parameters, "flops": _flops, "latency_ms (roofline)": _latency}, seen=seen)
    if as_json:
        print_document("inspection", asdict(found) | ({} if advice is None else {"advice": asdict(advice)}))
        return
    say(str(found))
    if advice is not None:
        say(f"\n{advice}")


def _parameters(arch: Architecture) -> float:
    from nas_bo.model import counts

    try:
        return float(counts.parameters(arch, 256))
    except NasBoError as error:  # an architecture of another kind has no such number
        raise ValueError from error


def _flops(arch: Architecture) -> float:
    from nas_bo.model import counts

    try:
        return float(counts.flops(arch, 256, 128))
    except NasBoError as error:
        raise ValueError from error


def _latency(arch: Architecture) -> float:
    from nas_bo.objectives import Latency

    try:
        return Latency().predict(arch)
    except NasBoError as error:
        raise ValueError from error
