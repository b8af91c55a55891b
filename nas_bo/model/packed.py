"""Weights as packed integers: what the file of a quantized model holds, and the weights that it stands for.

A weight of R rows and C columns (experts of a mixture are rows below each other) is cut into groups of `group` columns. Each group
has a scale s and, unless it is symmetric, a zero point z; a weight is s * (code - z), with codes of 0 to 2 ** bits - 1. Codes and zero
points are packed without gaps, the first in the highest bits; scales are bfloat16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nas_bo.errors import ModelError

INTEGERS = (2, 3, 4, 8)
"""Bits of a code."""
CODES, SCALES, ZEROS = ".codes", ".scales", ".zeros"
"""What follows the name of a weight in a file."""


def pack(values: Tensor, bits: int) -> Tensor:
    """Integers of 0 to 2 ** bits - 1, of any shape -> (bytes,) uint8."""
    flat = values.to(torch.uint8).cpu().numpy().reshape(-1, 1)
    return torch.from_numpy(np.packbits(np.unpackbits(flat, axis=1)[:, 8 - bits :]))


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """The inverse of `pack`: (count,) uint8."""
    each = np.unpackbits(packed.cpu().numpy(), count=count * bits).reshape(count, bits)
    wide = np.zeros((count, 8), np.uint8)
    wide[:, 8 - bits :] = each
    return torch.from_numpy(np.packbits(wide, axis=1).ravel())


def packed_bytes(shape: tuple[int, ...], bits: int, group: int, symmetric: bool) -> int:
    """The size of a weight: codes, scales and zero points; of 16 and 32 bits, numbers of so many."""
    count = prod(shape)
    if bits not in INTEGERS:
        return count * bits // 8
    scales = count // shape[-1] * -(-shape[-1] // group)
    return -(-count * bits // 8) + 2 * scales + (0 if symmetric else -(-scales * bits // 8))


@dataclass(frozen=True, eq=False)
class Packed:
    """A quantized weight.

    Attributes:
        codes: (bytes,) uint8, of all weights in order.
        scales: (rows, groups) bfloat16.
        zeros: (bytes,) uint8, one zero point for each scale; None where all are 2 ** (bits - 1), the symmetric form.
        shape: of the weight.
    """

    codes: Tensor
    scales: Tensor
    zeros: Tensor | None
    bits: int
    group: int
    shape: tuple[int, ...]

    @staticmethod
    def of(
        codes: Tensor, scales: Tensor, zeros: Tensor | None, bits: int, group: int, shape: tuple[int, ...]
    ) -> Packed:
        """From integers: codes (rows, columns), zeros (rows, groups)."""
        return Packed(
            pack(codes, bits), scales.bfloat16().cpu(), None if zeros is None else pack(zeros, bits), bits, group, shape
        )

    @property
    def nbytes(self) -> int:
        """Of codes, scales and zero points."""
        return sum(one.numel() * one.element_size() for one in self.tensors("").values())

    def numbers(self) -> tuple[Tensor, Tensor, Tensor]:
        """The code, the scale and the zero point of each weight: three of its shape, float32 on the CPU."""
        columns = self.shape[-1]
        rows, groups = prod(self.shape[:-1]), -(-columns // self.group)
        codes = unpack(self.codes, self.bits, rows * columns).view(rows, columns).float()
        if self.zeros is None:
            zeros = torch.full((rows, groups), float(1 << (self.bits - 1)))
        else:
            zeros = unpack(self.zeros, self.bits, rows * groups).view(rows, groups).float()
        scales, zeros = (one.repeat_interleave(self.group, 1)[:, :columns] for one in (self.scales.float(), zeros))
        return codes.view(self.shape), scales.reshape(self.shape), zeros.reshape(self.shape)

    def weight(self) -> Tensor:
        """The weights that it stands for, float32 on the CPU."""
        codes, scales, zeros = self.numbers()
        return scales * (codes - zeros)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """What a file holds in place of the weight `name`."""
        found = {name + CODES: self.codes, name + SCALES: self.scales}
        return found if self.zeros is None else {**found, name + ZEROS: self.zeros}


def unpacked(
    state: Mapping[str, Tensor], about: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Tensor]:
    """The weights of a file of a quantized model by name, those that are not packed as they are; arguments as of `packed_parts`, and
    what it raises."""
    parts = packed_parts(state, about, shapes)
    ours = {tensor for name, part in parts.items() for tensor in part.tensors(name)}
    rest = {name: tensor for name, tensor in state.items() if name not in ours}
    return {**rest, **{name: part.weight() for name, part in parts.items()}}


def packed_parts(
    state: Mapping[str, Tensor], about: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Packed]:
    """The packed weights of a file of a quantized model by name.

    Args:
        about: ``{"bits": {name: bits}, "group": ..., "symmetric": ...}`` as ``model.json`` has it.
        shapes: of the weights, by name.

    Raises:
        ModelError: the file holds other sizes than it says.
    """
    found: dict[str, Packed] = {}
    group = about["group"]
    if not isinstance(group, int) or group < 1:
        raise ModelError(f"the quantized model has groups of {group!r} columns, which cannot be; quantize it again")
    for name, bits in about["bits"].items():
        if bits not in INTEGERS:
            continue
        codes, scales, zeros = (state.get(name + part) for part in (CODES, SCALES, ZEROS))
        shape = shapes.get(name)
        if codes is None or scales is None or shape is None or (zeros is None) != bool(about["symmetric"]):
            raise ModelError(f"the quantized model lacks the codes, scales or zero points of {name}; quantize it again")
        packed = Packed(codes, scales, zeros, bits, group, shape)
        rows, groups = prod(shape[:-1]), -(-shape[-1] // group)
        if tuple(scales.shape) != (rows, groups) or packed.nbytes != packed_bytes(shape, bits, group, zeros is None):
            raise ModelError(
                f"the quantized model has {packed.nbytes} bytes for {name}, of shape {shape} and {bits} bits, which need "
                f"{packed_bytes(shape, bits, group, zeros is None)}; quantize it again"
            )
        found[name] = packed
    return found
