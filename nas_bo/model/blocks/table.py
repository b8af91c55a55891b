"""The known kinds of blocks: those of nas_bo, one line each, and those that somebody made a word of."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from nas_bo.errors import ModelError, near
from nas_bo.model.blocks.block import (
    Block,
    Call,
    Exportable,
    Frame,
    Joining,
    Labelled,
    Peaking,
    Sliceable,
    StockPart,
    forget_all,
    on_change,
    remembered,
)

OURS = (
    "attention", "linear_attention", "conv", "gated_delta", "latent_attention", "ssm", "dense", "moe", "skip",
)  # fmt: skip
"""Each is a module here with a `BLOCK`. Their order is that of lists in messages."""

NO_PART = StockPart()
_METHODS = ("check", "parameters", "operations", "module")
_BLOCKS: dict[str, Block[Any]] = {kind: import_module(f"nas_bo.model.blocks.{kind}").BLOCK for kind in OURS}
_FIRST = dict(_BLOCKS)


def block_of(spec: Any) -> Block[Any]:
    """The block that a checked block is one of (raises ModelError)."""
    try:
        return _BLOCKS[spec.kind]
    except KeyError:
        raise unknown("block", spec.kind) from None


def known(slot: str | None = None) -> dict[str, Block[Any]]:
    """All kinds, or those that may be in a slot, by name."""
    return {kind: block for kind, block in _BLOCKS.items() if slot is None or slot in block.slots}


def is_ours(block: object) -> bool:
    return any(block is one for one in _FIRST.values())


def unknown(slot: str, kind: object) -> ModelError:
    there = known(None if slot == "block" else slot)
    elsewhere = " (it belongs to other places of a layer)" if isinstance(kind, str) and kind in _BLOCKS else ""
    return ModelError(
        f"there is no {slot} {kind!r}{elsewhere}{near(kind, list(there))}; there are {', '.join(there)}. A block of your "
        "own is known once the module that makes a word of it is imported"
    )


_OFFERED: dict[tuple[str, object], bool] = {}
on_change(_OFFERED.clear)


def offered(block: Block[Any], protocol: Any) -> Any:
    """The block if it has that capability, else None; asked once, since asking a protocol takes longer than most counts."""
    key = block.kind, protocol
    if key not in _OFFERED:
        _OFFERED[key] = isinstance(block, protocol)
    return block if _OFFERED[key] else None


def joined(spec: Any, length: int) -> Any:
    """The same network with its mixer in the form that joins what is new to what was before: full attention as a window of `length`, that
    nothing falls out of (`nas_bo.model.blocks.block.Joining`)."""
    block = offered(block_of(spec), Joining)
    return spec if block is None else block.joined(spec, length)


@remembered
def label_of(spec: Any, frame: Frame) -> str:
    """A few letters for a block."""
    labelled = offered(block_of(spec), Labelled)
    if labelled is not None:
        return labelled.label(spec, frame)  # type: ignore[no-any-return]
    return spec.kind + ",".join(str(value) for value in spec[1:] if value is not None)  # type: ignore[no-any-return]


def peak_of(spec: object, frame: Frame, call: Call) -> int:
    """Values alive at once inside a block, for the whole batch."""
    block = block_of(spec)
    if isinstance(block, Peaking):
        return block.peak_values(spec, frame, call)
    return call.batch * sum(row.activations for row in block.operations(spec, frame, call))


@remembered
def stock_part_of(spec: Any, frame: Frame) -> StockPart:
    """Which part of stock models a block is; an empty one where it is none, or does not say."""
    exportable = offered(block_of(spec), Exportable)
    part: StockPart = NO_PART if exportable is None else exportable.stock_part(spec, frame)
    return part


def apart_fields() -> set[str]:
    """The fields of all blocks whose weights can be shared."""
    return {name for block in _BLOCKS.values() if isinstance(block, Sliceable) for name in block.fields}


# ---- your own blocks ----------------------------------------------------------------------------------------------


def register(block: Any) -> Block[Any]:
    """Enter a block into the table. The same class may be entered again, as notebooks do; the last one counts.

    Raises:
        ModelError: something of the contract is missing, or the kind is another block's.
    """
    name = type(block).__name__
    if isinstance(block, type):
        raise ModelError(f"word({block.__name__}) got a class; give a block, as in word({block.__name__}())")
    lacking = [one for one in ("kind", "slots", "fields", "Spec") if getattr(block, one, None) is None]
    lacking += [f"{one}()" for one in _METHODS if not callable(getattr(block, one, None))]
    if lacking:
        raise ModelError(
            f"the block {name} has no {', '.join(lacking)}; the contract is nas_bo.model.blocks.Block, and "
            "nas_bo.testing.BlockTests checks it"
        )
    _check_names(block, name)
    there = _BLOCKS.get(block.kind)
    if there is not None and (is_ours(there) or _home(there) != _home(block)):
        whose = "of nas_bo" if is_ours(there) else f"of {_home(there)}"
        raise ModelError(
            f"the block {name} has the kind {block.kind!r}, which is a block {whose}; give it another kind"
        )
    for what, one in (("the block", block), ("its Spec", block.Spec)):
        try:
            pickle.loads(pickle.dumps(one))
        except Exception as error:  # whatever __reduce__ of somebody's object raises
            raise ModelError(
                f"the block {name}: {what} cannot be pickled, so no worker process could be handed it ({error}); define both "
                "classes at the top level of a module, and keep open files and locks out of the block"
            ) from None
    _BLOCKS[block.kind] = block
    if there is not None:
        forget_all()
    found: Block[Any] = block
    return found


def _check_names(block: Any, name: str) -> None:
    if not isinstance(block.kind, str) or not re.fullmatch(r"[A-Za-z_]\w*", block.kind, re.ASCII):
        raise ModelError(
            f"the block {name} has kind={block.kind!r}; it must be a name of letters, digits and underscores"
        )
    if isinstance(block.slots, str) or not block.slots or not set(block.slots) <= {"mixer", "mlp"}:
        raise ModelError(f'the block {name} has slots={block.slots!r}; it must be ("mixer",), ("mlp",) or both')
    if not isinstance(block.fields, Mapping) or "kind" in block.fields or not all(map(_is_name, block.fields)):
        raise ModelError(
            f"the block {name} has fields={block.fields!r}; it must be names with defaults (... for none), and not 'kind'"
        )
    names = getattr(block.Spec, "_fields", ())
    if not (isinstance(block.Spec, type) and issubclass(block.Spec, tuple)) or tuple(names)[:1] != ("kind",):
        raise ModelError(f"the block {name} has Spec={block.Spec!r}; it must be a NamedTuple whose first field is kind")


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name.isidentifier()


def _home(block: object) -> str:
    module = type(block).__module__
    return f"{'__main__' if module == '__mp_main__' else module}.{type(block).__qualname__}"
