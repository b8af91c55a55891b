"""Operations on tensors without numbers, each worked out once: torch finds what one gives in Python, which takes it a tenth of a
millisecond to more than one, and the models of a search have nearly all of their operations in common.

What an operation gives there depends on the sizes, strides and types of what it reads, and on its other arguments.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch._ops import OpOverload

REMEMBERED = 16_384  # operations per process


@dataclass(frozen=True)
class _Form:
    """Of a tensor."""

    shape: torch.Size
    strides: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, one: torch.Tensor) -> _Form:
        return cls(one.shape, one.stride(), one.dtype)

    def empty(self) -> torch.Tensor:
        return torch.empty_strided(self.shape, self.strides, dtype=self.dtype, device="meta")


@dataclass(frozen=True)
class Outcome:
    """What an operation gives.

    Attributes:
        parts: the forms of new tensors, and other values as they are; none where its first tensor is given back, changed in its numbers
            alone.
        alone: there is one part, not a tuple of parts.
        flops: of the operation.
    """

    parts: tuple[object, ...]
    alone: bool
    flops: int

    def again(self, args: Sequence[object]) -> object:
        """The same for other tensors of the same forms."""
        if not self.parts:
            return args[0]
        made = [part.empty() if isinstance(part, _Form) else part for part in self.parts]
        return made[0] if self.alone else tuple(made)


_known: dict[Hashable, Outcome] = {}


def read(
    func: OpOverload, args: Sequence[object], given: Mapping[str, object]
) -> tuple[Hashable | None, list[torch.Tensor]]:
    """On what the outcome of an operation of torch's own depends, and the tensors among its arguments, those in lists included.

    The first is None where it is not known: where a tensor has numbers or is not a plain one, and where there is none.
    """
    found: list[Hashable] = [func, torch.get_default_dtype()]
    tensors: list[torch.Tensor] = []
    plain = func.namespace == "aten"
    values = [*args, *given.values()]
    found += given
    while values:
        one = values.pop()
        if isinstance(one, torch.Tensor):
            tensors.append(one)
            plain = plain and _is_plain(one)
            if plain:
                found.append((one.shape, one.stride(), one.dtype))
        elif isinstance(one, (list, tuple)):
            found.append((type(one), len(one)))
            values += one
        else:
            found.append((type(one), one))  # 1, 1.0 and True are equal, and give different types
    return tuple(found) if plain and tensors else None, tensors


def _is_plain(one: torch.Tensor) -> bool:
    strided = one.is_meta and one.layout is torch.strided and not one.dtype.is_complex
    return strided and type(one) in (torch.Tensor, torch.nn.Parameter)


def recall(key: Hashable | None) -> Outcome | None:
    return None if key is None else _known.get(key)


def remember(
    key: Hashable, func: OpOverload, args: Sequence[object], tensors: Sequence[torch.Tensor], made: object, flops: int
) -> None:
    """Keep what an operation gave, if it is new tensors, or its first argument whose form is as before."""
    parts = _changed(key, func, args, made) if func._schema.is_mutable else _new(tensors, made)
    if parts is None:
        return
    if len(_known) >= REMEMBERED:
        _known.clear()
    _known[key] = Outcome(parts, isinstance(made, torch.Tensor), flops)


def _changed(key: Hashable, func: OpOverload, args: Sequence[object], made: object) -> tuple[object, ...] | None:
    written = [argument.alias_info is not None and argument.alias_info.is_write for argument in func._schema.arguments]
    if not args or made is not args[0] or not written[0] or any(written[1:]):
        return None
    return () if key == read(func, args, {})[0] else None


def _new(tensors: Sequence[torch.Tensor], made: object) -> tuple[object, ...] | None:
    storages = {one.untyped_storage()._cdata for one in tensors}
    parts = made if isinstance(made, tuple) else (made,)
    found: list[object] = []
    for part in parts:
        if isinstance(part, torch.Tensor):
            form = _Form.of(part) if type(part) is torch.Tensor and part.is_meta else None
            storage = part.untyped_storage()
            if (
                form is None
                or storage._cdata in storages
                or storage.nbytes() != form.empty().untyped_storage().nbytes()
            ):
                return None
            storages.add(storage._cdata)
            found.append(form)
        elif part is None or isinstance(part, (bool, int, float)):
            found.append(part)
        else:
            return None
    return tuple(found) or None
