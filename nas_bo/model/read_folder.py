"""The decoder in a folder of a trained model: `nas_bo.export.folder` says what else is there, and teachers are read from it too."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas_bo.architecture import Architecture
from nas_bo.errors import ExportError
from nas_bo.foreign_document import text_of
from nas_bo.model import counts
from nas_bo.model.decoder import Decoder, build
from nas_bo.model.packed import INTEGERS, unpacked
from nas_bo.model.products import Int8Activations
from nas_bo.model.spec import check
from nas_bo.wording import counted

ARCH, WEIGHTS = "arch.json", "model.safetensors"


def read_decoder(
    folder: Path, about: Mapping[str, Any], device: torch.device | str = "cpu"
) -> tuple[Architecture, Decoder]:
    """The architecture and the decoder, in evaluation mode.

    Args:
        about: the content of its ``model.json``.

    Raises:
        NasBoError: the architecture is none, cannot be built, or has more weights than the file.
        Exception: of JSON, safetensors and torch, where the files do not fit together; the caller says about what.
    """
    from safetensors.torch import load_file

    arch = Architecture.from_json(text_of(folder / ARCH))
    _check_size(folder, arch, about)
    made = build(arch, int(about["vocab_size"]), tuple(about.get("ignore", ())), device=device)
    weights = load_file(str(folder / WEIGHTS), device=str(device))
    if "quantization" in about:
        made = _unpacked(made, weights, about["quantization"])
    else:
        made.load_state_dict(weights)
    return arch, made.eval()


def _check_size(path: Path, arch: Architecture, said: Mapping[str, Any]) -> None:
    """Raise ExportError where the architecture has more parameters than its file of weights, before memory is taken for them: the
    folder may be somebody else's."""
    from safetensors import safe_open

    with safe_open(str(path / WEIGHTS), framework="pt") as file:
        there = sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 (no mapping)
    if "quantization" in said:  # several weights in one integer, each of a bit at least
        there = 8 * (path / WEIGHTS).stat().st_size
    trained = check(arch, tuple(said.get("ignore", ())))._replace(after=None)
    needed = counts.parameters(trained, int(said["vocab_size"]))
    if needed > there:
        raise ExportError(
            f"the architecture in {str(path)!r} has {counted(needed, 'parameter')} and {WEIGHTS} only {there:,}; train or register it again"
        )


def _unpacked(model: Decoder, weights: dict[str, Tensor], said: Mapping[str, Any]) -> Decoder:
    """The decoder with the weights that the integers of a file stand for; it rounds its activations where that was asked for."""
    shapes = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    if said.get("activations"):
        made = Int8Activations(model.spec, model.vocab_size).to(model.embedding.weight.device)
        made.rounded = tuple(name for name, bits in said["bits"].items() if bits in INTEGERS)
        model = made
    model.load_state_dict(unpacked(weights, said, shapes))
    return model
