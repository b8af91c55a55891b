"""`nas-bo devices`: the devices whose figures are known, and where each figure is from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas_bo.architecture import Architecture
from nas_bo.cli import completion
from nas_bo.cli.documents import print_document
from nas_bo.cli.failure import errors
from nas_bo.cli.options import Json
from nas_bo.cli.output import say
from nas_bo.cli.typed_options import within
from nas_bo.errors import DeviceError

if TYPE_CHECKING:
    from nas_bo.hardware.devices.device import Device

UNITS = {
    "gflops": "GFLOP/s",
    "gbytes": "GB/s",
    "memory_bytes": "B",
    "cache_bytes": "B",
    "overhead_us": "us",
    "pj_per_flop": "pJ/FLOP",
    "pj_per_byte": "pJ/B",
    "idle_watts": "W",
}


def text(name: str | None, here: bool, as_json: bool) -> str:
    """What the command prints: the table, or one device (a name, the path of a file, or this machine).

    Raises:
        NasBoError: there is no such device, or the file is wrong.
    """
    from nas_bo.hardware.devices.device import Device

    if here and name is not None:
        raise DeviceError(f"nas-bo devices {name} --here: give a name or --here, not both")
    if name is None and not here:
        devices = [Device.named(one) for one in Device.names()]
        if as_json:
            return json.dumps({one.name: one.to_dict() for one in devices}, indent=1)
        return "\n".join(_row(one) for one in devices)
    found = Device.here() if here else _one(str(name))
    return json.dumps(found.to_dict(), indent=1) if as_json else _said(found)


def drawings(
    name: str | None, here: bool, space: str, arch: Path | None, drawn_in: tuple[str, int, str], folder: Path
) -> list[Path]:
    """Draw an architecture under the roofline of a device, and where its time goes there; the pictures are returned.

    Args:
        arch: a JSON file of an architecture; None draws that of seed 0 of the space.
        drawn_in: phase, context, data type.

    Raises:
        NasBoError: no such device, space or architecture, or the folder cannot be written.
    """
    from nas_bo.cli.resolve import named_space
    from nas_bo.hardware.devices.device import Device
    from nas_bo.hardware.latency.roofline import Roofline
    from nas_bo.hardware.workload import Setting
    from nas_bo.report.hardware_picture import breakdown_picture, roofline_picture

    if here == (name is not None):
        raise DeviceError("nas-bo devices --pictures: give a name, a file, or --here")
    phase, context, dtype = drawn_in
    setting = Setting(phase, context=context, dtype=dtype)  # type: ignore[arg-type]
    found, of = Device.here() if here else _one(str(name)), named_space(space)
    drawn = of.sample(0) if arch is None else architecture(arch)
    made = {
        "roofline.png": roofline_picture(drawn, found, setting),
        "breakdown.png": breakdown_picture(drawn, Roofline.of(found, setting.dtype), setting),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, data in made.items():
            (folder / file).write_bytes(data)
    except OSError as error:
        raise DeviceError(f"{str(folder)!r} cannot be written ({error.strerror}); choose another place") from error
    return [folder / file for file in made]


def architecture(file: Path) -> Architecture:
    """An architecture from its JSON file (raises DeviceError)."""
    try:
        return Architecture.from_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DeviceError(
            f"{str(file)!r} is not JSON of an architecture ({error}); Architecture.to_json() writes one"
        ) from error


def _one(word: str) -> Device:
    from nas_bo.objectives.target import plain_device

    return plain_device(word)


def _row(device: Device) -> str:
    fastest = max(device.gflops.values(), default=0.0)
    memory = "" if device.memory_bytes is None else f"{device.memory_bytes / 1e9:.0f} GB"
    moved = "" if device.gbytes is None else f"{device.gbytes:g} GB/s"
    arithmetic = f"{fastest / 1e3:g} TFLOP/s ({next(k for k, v in device.gflops.items() if v == fastest)})"
    return f"{device.name:<22} {arithmetic:<26} {moved:>12} {memory:>8}   {device.title}"


def _said(device: Device) -> str:
    lines = [f"{device.title or device.name} ({device.name}, {device.kind})"]
    for figure, value in device.known().items():
        unit = UNITS[figure.partition(".")[0]]
        lines.append(f"{figure:<22} {value:>16,.10g} {unit:<8} {device.source(figure) or 'no source'}")
    if device.operations is not None:
        lines.append(
            f"{'operations':<22} {', '.join(device.operations)}   {device.source('operations') or 'no source'}"
        )
    return "\n".join(lines)


def devices(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Show this one: a name of the table, or the path of a file.", autocompletion=completion.devices
        ),
    ] = None,
    here: Annotated[bool, typer.Option("--here", help="Measure this machine, which takes seconds.")] = False,
    pictures: Annotated[
        Path | None,
        typer.Option(help="Draw the roofline of the device, and where an architecture's time goes, in this folder."),
    ] = None,
    space: Annotated[
        str, typer.Option(help="With --pictures: the space of the architecture, as in `nas-bo search`.")
    ] = "tiny_gpt",
    arch: Annotated[
        Path | None,
        typer.Option(help="With --pictures: JSON file of the architecture. By default the space's with seed 0."),
    ] = None,
    phase: Annotated[str, typer.Option(help="With --pictures: prefill or decode.")] = "prefill",
    context: Annotated[int, typer.Option(help="With --pictures: tokens in the context.", callback=within(1))] = 128,
    dtype: Annotated[str, typer.Option(help="With --pictures: data type of weights and activations.")] = "float32",
    as_json: Json = False,
) -> None:
    """List the devices whose figures are known, or show one with the source of each figure."""
    with errors():
        if pictures is not None:
            drawn = drawings(name, here, space, arch, (phase, context, dtype), pictures)
            if as_json:
                print_document("drawings", {"files": [str(path) for path in drawn]})
            else:
                say("\n".join(f"picture  {path}" for path in drawn))
        elif as_json:
            print_document("devices" if name is None and not here else "device", json.loads(text(name, here, True)))
        else:
            say(text(name, here, False))
