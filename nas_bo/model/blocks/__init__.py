"""Blocks of the decoder: one file for each kind, with all that is known about it without torch, and the contract of all.

The torch modules are in `nas_bo.model.layers`; their names are found here too, as in version 0.1.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from nas_bo.model.blocks.block import Block as Block
from nas_bo.model.blocks.block import Caching as Caching
from nas_bo.model.blocks.block import Call as Call
from nas_bo.model.blocks.block import Drawable as Drawable
from nas_bo.model.blocks.block import Drawn as Drawn
from nas_bo.model.blocks.block import Exact as Exact
from nas_bo.model.blocks.block import Exportable as Exportable
from nas_bo.model.blocks.block import Frame as Frame
from nas_bo.model.blocks.block import Initialised as Initialised
from nas_bo.model.blocks.block import Joining as Joining
from nas_bo.model.blocks.block import Labelled as Labelled
from nas_bo.model.blocks.block import Lending as Lending
from nas_bo.model.blocks.block import Narrowing as Narrowing
from nas_bo.model.blocks.block import Peaking as Peaking
from nas_bo.model.blocks.block import Prunable as Prunable
from nas_bo.model.blocks.block import Replaceable as Replaceable
from nas_bo.model.blocks.block import Row as Row
from nas_bo.model.blocks.block import Shared as Shared
from nas_bo.model.blocks.block import Sharing as Sharing
from nas_bo.model.blocks.block import Sliceable as Sliceable
from nas_bo.model.blocks.block import Sparse as Sparse
from nas_bo.model.blocks.block import Steppable as Steppable
from nas_bo.model.blocks.block import StockPart as StockPart
from nas_bo.model.blocks.block import Succeeding as Succeeding
from nas_bo.model.blocks.block import Trained as Trained
from nas_bo.model.blocks.block import Widening as Widening
from nas_bo.model.blocks.block import linear as linear
from nas_bo.model.blocks.block import matrix as matrix
from nas_bo.model.blocks.block import size_of as size_of

_LAYERS = {
    "Attention": "attention",
    "rotate": "attention",
    "LinearAttention": "linear_attention",
    "scan": "linear_attention",
    "CHUNK": "linear_attention",
    "Conv": "conv",
    "CONV_SHIFTS": "conv",
    "Dense": "dense",
    "activate": "dense",
    "Mixture": "moe",
    "Linear": "common",
    "Context": "common",
}


def __getattr__(name: str) -> Any:
    if name in _LAYERS:
        return getattr(import_module(f"nas_bo.model.layers.{_LAYERS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
