"""A decoder in the parts that stock models have: blocks that say which part they are (`nas_bo.model.blocks.Exportable`) in its place."""

from __future__ import annotations

from typing import Any

from nas_bo.errors import ModelError
from nas_bo.model.blocks.block import Frame, StockPart, remembered
from nas_bo.model.blocks.table import block_of, known, stock_part_of
from nas_bo.model.spec import DecoderSpec, LayerSpec
from nas_bo.wording import counted


def in_stock_parts(spec: DecoderSpec) -> DecoderSpec:
    """The same decoder with every block that is a part of stock models as that part, and all others as they are.

    Raises:
        ModelError: a block of the user's own is not the part that it says it is.
    """
    frame = spec.frame
    layers = tuple(LayerSpec(_part(layer.mixer, frame), _part(layer.mlp, frame)) for layer in spec.layers)
    return spec if layers == spec.layers else spec._replace(layers=layers)


@remembered
def _part(block: Any, frame: Frame) -> object:
    said: object = stock_part_of(block, frame)
    if not isinstance(said, StockPart):
        raise ModelError(f"the block {block.kind!r} gave {said!r:.80} for its stock_part; it must be a StockPart")
    named = {
        kind: spec
        for kind, spec in (
            ("attention", said.attention),
            ("conv", said.conv),
            ("dense" if said.mlp is not None and not said.mlp.experts else "moe", said.mlp),
        )
        if spec is not None
    }
    if not named:
        return block
    (kind, spec), *more = named.items()
    if more or not isinstance(spec, known()[kind].Spec):
        raise ModelError(
            f"the block {block.kind!r} says that it is {said!r:.200}; it must be one part: an AttentionSpec, a ConvSpec or an MlpSpec"
        )
    part = spec._replace(kind=kind)
    counts = known()[kind].parameters(part, frame), block_of(block).parameters(block, frame)
    if counts[0] != counts[1]:
        raise ModelError(
            f"the block {block.kind!r} says that it is {part}, which has {counted(counts[0], 'parameter')} at width={frame.width}, and it counts "
            f"{counts[1]:,}; correct its stock_part, or leave it out: then exports to stock models refuse the block"
        )
    return part
