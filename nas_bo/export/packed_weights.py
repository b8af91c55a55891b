"""Weights of `nas-bo compress` in a folder of transformers, as the packed integers that they are: the form "pack-quantized" of
compressed-tensors, which transformers and vLLM read.

Stock classes join, split and pad the matrices of the decoder. So scales take the same way as the weights, one for each weight, and a
matrix is packed where they are those of groups of columns there, too, and give its weights exactly. All else is stored as numbers, of
16 bits where these are exact. Zero points are refused: transformers 5.24 with compressed-tensors 0.20 reads them as sizes that do not
fit, or, of several widths, as something else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas_bo.errors import ExportError, MissingExtra
from nas_bo.export.folder import WEIGHTS, TrainedModel
from nas_bo.export.names import Names, copy_out
from nas_bo.export.weights import filled
from nas_bo.model.packed import packed_parts
from nas_bo.model.spec import DecoderSpec
from nas_bo.wording import counted

FORM = "pack-quantized"
LEAST = 8  # columns that share a scale: fewer, and the scales would be larger than what they save


@dataclass(frozen=True, eq=False)
class Integers:
    """A matrix (rows, columns) as integers.

    Attributes:
        codes: (rows, columns) int8, of -(2 ** (bits - 1)) to 2 ** (bits - 1) - 1.
        scales: (rows, columns / group).
    """

    codes: Tensor
    scales: Tensor
    bits: int
    group: int

    def tensors(self, module: str) -> dict[str, Tensor]:
        """By the names that compressed-tensors has for them."""
        from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

        return {
            f"{module}.weight_packed": pack_to_int32(self.codes, self.bits),
            f"{module}.weight_scale": self.scales.bfloat16().contiguous(),
            f"{module}.weight_shape": torch.tensor(self.codes.shape),
        }


def check(made: TrainedModel) -> None:
    """Whether the weights of a model are integers that can be packed.

    Raises:
        ExportError: they are not.
        MissingExtra: what packs them is not installed.
    """
    said, folder = made.about.get("quantization"), str(made.folder)
    if not said:
        raise ExportError(
            f"the model in {folder!r} has no weights of few bits that could be packed; make one with `nas-bo compress {folder} --bits 4 "
            "--symmetric --to DIR`, or leave --type packed out"
        )
    if not said["symmetric"]:
        raise ExportError(
            f"the weights in {folder!r} have zero points, with which transformers and compressed-tensors do not read packed weights rightly; "
            "compress the trained model once more with --symmetric, or leave --type packed out"
        )
    if find_spec("compressed_tensors") is None:
        raise MissingExtra("compressed-tensors", "packed")


def of_stock(made: TrainedModel, stock: nn.Module, spec: DecoderSpec, table: Names) -> dict[str, Integers]:
    """The matrices of a stock model that can be packed, by the names of its modules.

    Args:
        made: a quantized model.
        stock: with its weights, which `copy_out` wrote by `spec` and `table`.
    """
    from safetensors.torch import load_file

    shapes = {name: tuple(weight.shape) for name, weight in made.model.named_parameters()}
    parts = packed_parts(load_file(str(made.folder / WEIGHTS)), made.about["quantization"], shapes)
    scales = {name: part.numbers()[1] for name, part in parts.items()}
    bits = {name: torch.full(part.shape, float(part.bits)) for name, part in parts.items()}
    scales, bits = (_moved(made, stock, spec, table, numbers) for numbers in (scales, bits))
    group = int(made.about["quantization"]["group"])
    found: dict[str, Integers] = {}
    for name, module in stock.named_modules():
        if isinstance(module, nn.Linear) and name != "lm_head":  # servers keep the head as numbers
            at = f"{name}.weight"
            one = _integers(module.weight.detach(), scales[at], bits[at], group)
            if one is not None:
                found[name] = one
    return found


def _moved(
    made: TrainedModel, stock: nn.Module, spec: DecoderSpec, table: Names, numbers: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Numbers of the weights where the weights are in the stock model; 0 where there are none."""
    bearer, target = deepcopy(made.model), deepcopy(stock)
    with torch.no_grad():
        for name, weight in bearer.named_parameters():
            weight.copy_(numbers[name]) if name in numbers else weight.zero_()
    copy_out(filled(bearer, spec), spec, target, table)
    return {name: weight.detach() for name, weight in target.named_parameters()}


def _integers(weight: Tensor, scales: Tensor, bits: Tensor, group: int) -> Integers | None:
    """A matrix as integers; None where it is none, or its groups have other columns there."""
    most, group = int(bits.max()), math.gcd(group, weight.shape[1])
    if most == 0 or group < LEAST:
        return None
    groups = (weight.shape[0], weight.shape[1] // group, group)
    scale = scales.view(groups).amax(-1)  # where there are zeros of a padding they have the scale 0
    scale = torch.where(scale == 0, 1.0, scale)
    codes = torch.round(weight.view(groups) / scale[..., None])
    middle = 1 << (most - 1)
    if codes.min() < -middle or codes.max() >= middle or not torch.equal(scale[..., None] * codes, weight.view(groups)):
        return None
    return Integers(codes.view(weight.shape).to(torch.int8), scale, most, group)


def write(stock: Any, folder: Path, found: Mapping[str, Integers]) -> str:
    """Write ``config.json``, the weights and the settings for generation, and say what was packed."""
    from safetensors.torch import save_file

    if not found:
        raise ExportError(
            f"no matrix of this model can be packed in a {type(stock).__name__}, which turns them or puts their columns elsewhere; leave "
            "--type packed out"
        )
    state: dict[str, Tensor] = {}
    for name, weight in stock.state_dict().items():
        module = name.removesuffix(".weight")
        if module in found:
            state |= found[module].tensors(module)
        elif name != "lm_head.weight" or not stock.config.tie_word_embeddings:
            half = weight.bfloat16()
            state[name] = (half if torch.equal(half.float(), weight) else weight).contiguous()
    kinds = sorted({(one.bits, one.group) for one in found.values()})
    linear = [name for name, module in stock.named_modules() if isinstance(module, nn.Linear)]
    groups = {
        f"group_{at}": {
            "targets": ["Linear"] if len(kinds) == 1 else [name for name, one in found.items() if (one.bits, one.group) == kind],
            "weights": {"num_bits": kind[0], "type": "int", "symmetric": True, "strategy": "group", "group_size": kind[1]},
        }
        for at, kind in enumerate(kinds)
    }  # fmt: skip
    stock.config.save_pretrained(folder)
    stock.generation_config.save_pretrained(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["architectures"] = [type(stock).__name__]
    config["quantization_config"] = {
        "quant_method": "compressed-tensors",
        "format": FORM,
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": [name for name in linear if name not in found],
    }
    path.write_text(json.dumps(config, indent=2) + "\n")
    save_file(state, str(folder / WEIGHTS), metadata={"format": "pt"})
    size = (folder / WEIGHTS).stat().st_size
    widths = " and ".join(str(one) for one in sorted({bits for bits, _ in kinds}))
    return f"{len(found)} of {counted(len(linear), 'matrix', 'matrices')} in {widths} bits, {size / 1e6:.3g} MB"
