"""A block of a user's own, tried once before anything is spent: each of its methods answers, its counts are those of its module, and
its module gives finite values of the right shape. What `nas_bo.testing.BlockTests` checks at leisure, in some milliseconds."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from nas_bo.errors import ModelError
from nas_bo.model import counts
from nas_bo.model.blocks.block import Block, Call, Drawable, Row, Steppable, on_change
from nas_bo.model.blocks.skip import SKIP
from nas_bo.model.blocks.table import block_of, label_of, offered, peak_of
from nas_bo.model.connections import borrowing
from nas_bo.model.decoder import Decoder, build
from nas_bo.model.not_finite import TOKENS, check_first_pass
from nas_bo.model.spec import DecoderSpec, LayerSpec, failing, own_blocks

VOCAB = 13
LARGEST = 4_000_000  # parameters of a block whose module is run here

_log = logging.getLogger(__name__)
_tried: set[DecoderSpec] = set()
on_change(_tried.clear)


def try_own_blocks(spec: DecoderSpec) -> None:
    """Try each block of a decoder that is not of nas_bo, in a decoder of its own; each is tried once in a process.

    Raises:
        ModelError: what is wrong with it.
    """
    for one in own_blocks(spec):
        layer = LayerSpec(one, SKIP) if "mixer" in block_of(one).slots else LayerSpec(SKIP, one)
        finer = None if spec.finer is None else spec.finer._replace(tie_layers=1, long_skips=False)
        alone = spec._replace(layers=(layer,), finer=finer)
        if alone not in _tried:
            _try(block_of(one), one, alone)
            _tried.add(alone)


def _try(block: Block[Any], one: Any, alone: DecoderSpec) -> None:
    frame = alone.frame
    with failing(block, "parameters(spec, frame)"):
        size = block.parameters(one, frame)
    calls = [Call("prefill", TOKENS, TOKENS, 2)]
    calls += [Call("decode", 1, TOKENS, 2)] if offered(block, Steppable) else []
    for call in calls:
        with failing(block, f"operations() of a {call.phase}"):
            rows = list(block.operations(one, frame, call))
        for row in rows:
            _check_row(block, row, call.phase)
    with failing(block, "label(), drawn(), peak_values() or state_values()"):
        label_of(one, frame)
        for call in calls:
            peak_of(one, frame, call)
        if offered(block, Drawable):
            offered(block, Drawable).drawn(one, frame)
        if offered(block, Steppable):
            offered(block, Steppable).state_values(one, frame, TOKENS)
    if size <= LARGEST and not borrowing(alone.layers[0].mixer):
        _run(block, alone)
        _count(block, one, alone)


def _check_row(block: Block[Any], row: object, phase: str) -> None:
    if not isinstance(row, Row):
        raise ModelError(
            f"the operations() of the block {block.kind!r} gave {row!r:.80} for a {phase}; each is a nas_bo.model.blocks.Row"
        )
    for name, value in zip(Row._fields[1:], row[1:], strict=True):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
            raise ModelError(
                f"the operation {row.name!r} of the block {block.kind!r} has {name}={value!r} for a {phase}; it is a number of at least 0, "
                "on which FLOPs, memory and latency rest: correct its operations()"
            )


def _run(block: Block[Any], alone: DecoderSpec) -> None:
    """A pass and its gradients on the CPU. Where that fails and there is a GPU, nothing is reported: it may need one."""
    model = build(alone, VOCAB, device="cpu", generator=torch.Generator().manual_seed(0))
    module: Any = next(part for part in (model.layers[0].mixer, model.layers[0].mlp) if part is not None)
    handle = module.register_forward_hook(lambda _module, inputs, output: _check_output(block, inputs[0], output))
    try:
        with failing(block, "the forward() of the module"):
            check_first_pass(model)
    except ModelError as error:
        if not torch.cuda.is_available() or "not finite" in str(error):
            raise ModelError(
                str(error).replace(" (the mixer of layer 0)", "").replace(" (the mlp of layer 0)", "")
            ) from None
    finally:
        handle.remove()


def _check_output(block: Block[Any], taken: torch.Tensor, output: object) -> None:
    what = "(y, state)" if "mixer" in block.slots else "(y, a loss or None)"
    if not isinstance(output, tuple) or len(output) != 2:
        raise ModelError(
            f"the module of the block {block.kind!r} returned a {type(output).__name__} from forward(); it must be {what}, two values"
        )
    y = output[0]
    if not isinstance(y, torch.Tensor) or y.shape != taken.shape:
        said = tuple(y.shape) if isinstance(y, torch.Tensor) else type(y).__name__
        raise ModelError(
            f"the module of the block {block.kind!r} returned {said} for an input of shape {tuple(taken.shape)}; y must have the shape of the "
            "input, (batch, tokens, width)"
        )


def _count(block: Block[Any], one: Any, alone: DecoderSpec) -> None:
    """Warn where the FLOPs are others than torch counts; of a module that the meta device cannot run, nothing is known."""
    try:
        model: Decoder = build(alone, VOCAB, device="meta").eval()
        tokens = torch.zeros(2, TOKENS, dtype=torch.long, device="meta")
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(tokens)
    except Exception:  # whatever a user's module does there
        return
    said, has = counts.flops(alone, VOCAB, TOKENS, 2), counter.get_total_flops()
    if said != has:
        beside = counts.flops(alone._replace(layers=()), VOCAB, TOKENS, 2)
        _log.warning(
            "the block %r counts %s FLOPs for a pass of %s at width %d and torch counts %s for its module; correct its "
            "operations(), on which FLOPs and modelled latency rest",
            block.kind, f"{said - beside:,}", one, alone.width, f"{has - beside:,}",
        )  # fmt: skip
