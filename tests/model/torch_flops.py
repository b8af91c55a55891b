"""FLOPs as torch counts them, on the CPU: on the meta device Python takes each operation apart first, which takes three times as long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch.utils.flop_counter import FlopCounterMode

from nas_bo.model.layers import conv
from nas_bo.testing.blocks import _attention_flops

OWN = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}  # torch does not count this one


@contextmanager
def counted() -> Iterator[FlopCounterMode]:
    """Of what runs meanwhile; short convolutions are one operation, as on the meta device."""
    with (
        mock.patch.object(conv, "CONV_SHIFTS", 0),
        torch.no_grad(),
        FlopCounterMode(display=False, custom_mapping=OWN) as counter,
    ):
        yield counter
