"""AdamW as torch has it (Loshchilov and Hutter, 2019; arXiv:1711.05101), bit for bit, without loading torch's compiler.

torch marks the methods of optimisers as not to be compiled, which loads its compiler when the first of them is called: two
seconds of CPU in every process that trains. What trains here is not compiled, so the methods are taken without the mark.
"""

from __future__ import annotations

from inspect import unwrap
from typing import TYPE_CHECKING

import torch


class AdamW(torch.optim.AdamW):
    if not TYPE_CHECKING:  # where they are what they are in torch
        add_param_group = unwrap(torch.optim.AdamW.add_param_group)
        zero_grad = unwrap(torch.optim.AdamW.zero_grad)
        state_dict = unwrap(torch.optim.AdamW.state_dict)
        load_state_dict = unwrap(torch.optim.AdamW.load_state_dict)
        step = torch.no_grad()(unwrap(torch.optim.AdamW.step))
