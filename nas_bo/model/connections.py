"""How layers are connected in addition to the residual stream. Loads no torch.

=============== ====================================================================================================
``share_kv``    a field of attention: the layer has no keys and values and reads those of the nearest earlier layer that has
                some (cross-layer attention: Brandon et al. 2024, arXiv 2405.12981)
``tie_layers``  at the top: so many successive layers have one set of weights, each group its own (immediate block-wise
                sharing of MobileLLM: Liu et al. 2024, arXiv 2402.14905)
``long_skips``  at the top: what a layer of the first half gave is added to what the layer that mirrors it in the second half
                is given, times a learned gate that begins at 1: layer i to layer L - 1 - i (U-Net: Ronneberger et al. 2015,
                arXiv 1505.04597; in transformers U-ViT: Bao et al. 2023, arXiv 2209.12152; in language models with these
                gates modded-nanogpt: Jordan et al. 2024). Fewer than three layers have none.
=============== ====================================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nas_bo.architecture import UNSAID, UNSAID_INSIDE, Node
from nas_bo.errors import ModelError
from nas_bo.model.blocks.block import Lending
from nas_bo.model.blocks.details import PLAIN, Details
from nas_bo.model.blocks.table import block_of, offered
from nas_bo.wording import counted

FIELDS = ("share_kv", "tie_layers", "long_skips")


def borrowing(mixer: Any) -> bool:
    """Whether it reads keys and values of an earlier layer."""
    block = offered(block_of(mixer), Lending)
    return block is not None and bool(block.borrows(mixer))


def sources(layers: Sequence[Any]) -> list[int | None]:
    """For every layer the number of that whose keys and values it reads; None for one that reads no other's.

    Raises:
        ModelError: there is none, or its keys and values are of another shape.
    """
    found: list[int | None] = []
    latest: int | None = None
    for index, (mixer, _) in enumerate(layers):
        block = offered(block_of(mixer), Lending)
        if block is None:
            found.append(None)
        elif not block.borrows(mixer):
            latest = index
            found.append(None)
        elif latest is None:
            raise ModelError(
                f"layers.{index}: {block.kind} has share_kv=True and no earlier layer has keys and values that it could read; leave "
                "share_kv out there, or put a layer with attention of its own before it"
            )
        else:
            there = layers[latest].mixer
            _same_shape(index, block.shape(mixer), latest, block_of(there).shape(there))  # type: ignore[attr-defined]
            found.append(latest)
    return found


def _same_shape(index: int, wanted: dict[str, object], latest: int, has: dict[str, object]) -> None:
    for name, value in wanted.items():
        if has[name] != value:
            raise ModelError(
                f"layers.{index}: share_kv=True with {name}={value!r} cannot read the keys and values of layers.{latest}, the nearest "
                f"earlier layer that has some: they are of {name}={has[name]!r}; give both layers the same "
                f"{', '.join(wanted)}, or leave share_kv out in layers.{index}"
            )


def skips(depth: int, details: Details) -> list[tuple[int, int]]:
    """The long skips: (the layer whose output it is, the layer that is given it), the innermost last. The middle pair of an even
    number of layers has none: it would add a stream to itself."""
    return [(at, depth - 1 - at) for at in range((depth - 1) // 2)] if details.long_skips else []


def check_connections(layers: Sequence[object], details: Details) -> None:
    """Raises ModelError for layers that cannot be connected so."""
    sources(layers)
    tie = details.tie_layers
    if tie == 1:
        return
    if len(layers) % tie:
        raise ModelError(
            f"tie_layers={tie} does not divide the {counted(len(layers), 'layer')} of the architecture: weights are shared by groups of {tie} "
            "successive layers; choose a depth that is a multiple, or another tie_layers"
        )
    for index, layer in enumerate(layers):
        first = index - index % tie
        if layer != layers[first]:
            raise ModelError(
                f"tie_layers={tie} gives layers.{index} the weights of layers.{first}, and the two are not alike: {_said(layer)} and "
                f"{_said(layers[first])}; give all layers of a group of {tie} the same fields, or use tie_layers=1"
            )


def _said(layer: Any) -> str:
    return " with ".join(
        f"{one.kind}({', '.join(f'{k}={v!r}' for k, v in one._asdict().items() if k != 'kind')})" for one in layer
    )


def plain(finer: Details | None) -> Details | None:
    """Without what connects layers: all that one layer needs to know. None where all is at its default, as in `DecoderSpec`."""
    if finer is None or (finer.tie_layers == 1 and not finer.long_skips):
        return finer
    alone = finer._replace(tie_layers=1, long_skips=False)
    return None if alone == PLAIN else alone


def connected(layers: Sequence[Any], details: Details) -> bool:
    """Whether there is more than a residual stream between layers, each with its own weights."""
    return details.tie_layers > 1 or details.long_skips or any(borrowing(layer.mixer) for layer in layers)


def connects(value: object) -> bool:
    """Whether a part of the tree of an architecture has one of `FIELDS` at another value than its default."""
    if isinstance(value, tuple):
        return any(map(connects, value))
    if not isinstance(value, Node):
        return False
    defaults = {**UNSAID, **dict(UNSAID_INSIDE.values())}
    return any(connects(one) or (name in FIELDS and one != defaults[name]) for name, one in value.items())
