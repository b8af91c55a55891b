"""Rotary positions (Su et al. 2021, arXiv 2104.09864): the angles, and how the scalings of `nas_bo.model.blocks.details` change them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nas_bo.model.blocks.details import Details


def rotary_table(details: Details, start: int | Tensor, length: int, dim: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin (T, 1, D) of positions start, start + 1, ...; the first half of sin is negated: `layers.attention.rotate`."""
    device = like.device
    frequency = details.rope_theta ** (-torch.arange(0, dim, 2, device=device, dtype=torch.float32) / dim)
    factor = details.rope_factor or 1.0
    size = 1.0
    if details.rope_scaling == "linear":
        frequency = frequency / factor
    elif details.rope_scaling == "llama3":
        frequency = frequency * _llama3(details, frequency)
    elif details.rope_scaling == "yarn":
        kept = 1 - _yarn(details, dim).to(device)
        frequency = frequency / factor * (1 - kept) + frequency * kept
        size = 0.1 * math.log(factor) + 1 if factor > 1 else 1.0  # eq. 22
    position = torch.arange(length, device=device, dtype=torch.float32) + start
    angle = position.view(-1, 1, 1) * frequency
    cos, sin = angle.cos(), angle.sin()
    if size != 1:
        cos, sin = cos * size, sin * size
    return torch.cat((cos, cos), 2).to(like.dtype), torch.cat((-sin, sin), 2).to(like.dtype)


def _llama3(details: Details, frequency: Tensor) -> Tensor:
    """(D / 2,) factors: 1 where the first training saw more than `rope_high` turns, 1 / factor below `rope_low`, between them a mean
    of both."""
    assert details.rope_length and details.rope_low and details.rope_high and details.rope_factor
    turns = details.rope_length * frequency / (2 * math.pi)
    share = ((turns - details.rope_low) / (details.rope_high - details.rope_low)).clamp(0, 1)
    return share + (1 - share) / details.rope_factor


def _yarn(details: Details, dim: int) -> Tensor:
    """(D / 2,) from 0, frequencies that are kept, to 1, those that are divided by the factor: a ramp over pairs (section 3.2)."""
    assert details.rope_length and details.rope_low and details.rope_high

    def pair(turns: float) -> float:  # that turns so often within the first training's tokens
        return dim * math.log(details.rope_length / (turns * 2 * math.pi)) / (2 * math.log(details.rope_theta))  # type: ignore[operator]

    low, high = max(math.floor(pair(details.rope_high)), 0), min(math.ceil(pair(details.rope_low)), dim - 1)
    ramp = (torch.arange(dim // 2, dtype=torch.float32) - low) / max(high - low, 0.001)
    return ramp.clamp(0, 1)
