"""A narrower copy of an architecture: the same layers at a fraction of the width, to train in its place."""

from __future__ import annotations

from nas_bo.architecture import Architecture, Node
from nas_bo.errors import ModelError
from nas_bo.model.blocks.block import Narrowing
from nas_bo.model.blocks.table import known
from nas_bo.validated import check_values, number
from nas_bo.wording import counted

NARROWEST = 8


def narrower(arch: Architecture | Node, factor: float) -> Node:
    """The architecture with its width times `factor`, rounded. Kept are the layers, their operations, the number of
    heads and groups and the MLP ratios, so that hidden units shrink with the width; the head dimension shrinks too,
    rounded up to an even number (rotary positions turn pairs). All other fields stay.

    Raises:
        ModelError: the factor is not above 0 and at most 1, there is no width, or fewer than 8 channels are left.
    """
    check_values("narrower", ModelError, number(above=0, at_most=1), width_factor=factor)
    tree = arch.tree if isinstance(arch, Architecture) else arch
    width = tree.get("width")
    if isinstance(width, bool) or not isinstance(width, int):
        raise ModelError(f"width_factor={factor:g} needs an architecture with an integer width; this one has {width!r}")
    narrow = round(width * factor)
    if narrow < NARROWEST:
        raise ModelError(
            f"width_factor={factor:g} leaves {narrow} of {counted(width, 'channel')}, and {NARROWEST} are the least; use at least "
            f"{NARROWEST / width:.3g}"
        )
    if narrow == width:
        return tree
    fields = {name: _narrow(value, width, narrow) for name, value in tree.items()}
    return Node({**fields, "width": narrow})


def _narrow(value: object, width: int, narrow: int) -> object:
    if isinstance(value, tuple):
        return tuple(_narrow(one, width, narrow) for one in value)
    if not isinstance(value, Node):
        return value
    fields = {name: _narrow(one, width, narrow) for name, one in value.items()}
    block = known().get(value.get("kind", ""))
    return Node(block.narrowed(fields, width, narrow) if isinstance(block, Narrowing) else fields)
