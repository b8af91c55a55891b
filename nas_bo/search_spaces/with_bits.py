"""What is done after training, searched with the architecture: fields of `nas_bo.model.after_training` added to a space."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from nas_bo.errors import SpaceError
from nas_bo.model.after_training import CHECKS
from nas_bo.search_spaces.tiny_gpt import TinyGPT
from nas_bo.space import Space, choice
from nas_bo.space.domain import Repeat


def with_bits(
    space: type[Space],
    bits: Sequence[int] = (8, 4, 3, 2),
    kv_bits: Sequence[int] = (8, 4, 3, 2),
    sparsity: Sequence[float] = (),
    prune: Sequence[float] = (),
    *,
    around: int = 8,
    title: str = "",
) -> type[Space]:
    """The space with choices of what is done after training; one training serves all of them. Bind it to its title at the top of a
    module.

    At 4 bits weights lose next to nothing, so what is worth a choice lies below: the defaults are 8, 4, 3 and 2.

    Args:
        bits: of the weights of each layer; of all where the space writes one layer for all.
        kv_bits: of cached keys and values, one choice for all layers.
        sparsity, prune: of each layer likewise. Empty, or with one value: no choice.
        around: bits of embedding and head.
        title: of the new space; "" is that of the other with "Bits".

    Raises:
        SpaceError: the space has such a field already, or a value is none.
    """
    asked = {"bits": bits, "kv_bits": kv_bits, "sparsity": sparsity, "prune": prune}
    for name, values in (*asked.items(), ("bits", (around,))):
        for value in values:
            if not CHECKS[name].holds(value):
                raise SpaceError(f"with_bits({name}={value!r}): {name} must be {CHECKS[name].must}")
    fields: dict[str, Any] = {
        name: choice(*values) if len(values) > 1 else values[0] for name, values in asked.items() if values
    }
    layers = space._fields.get("layers")
    above: dict[str, Any] = {"kv_bits": fields.pop("kv_bits")} if "kv_bits" in fields else {}
    if isinstance(layers, Repeat):
        taken = [name for name in fields if name in layers.fields]
        above |= {"bits": around, "layers": Repeat(layers.count, {**layers.fields, **fields})}
    else:
        taken = []
        above |= fields
    taken += [name for name in above if name in space._fields and name != "layers"]
    if taken:
        raise SpaceError(
            f"with_bits({space.title}): the space has a field {taken[0]!r} already; leave it out of one of the two"
        )
    name = title or f"{space.title}Bits"
    module = sys._getframe(1).f_globals.get("__name__", __name__)  # where pickle is to look for it
    doc = f"{space.title} with {', '.join(n for n, values in asked.items() if values)}: what is done to the weights after training."
    made: type[Space] = type(name, (space,), {**above, "title": name, "__module__": module, "__doc__": doc})
    return made


TinyGPTBits = with_bits(TinyGPT)
"""The default space with the bits of each layer and of the cache: 8, 4, 3 or 2."""
