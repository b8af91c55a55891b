"""Where the weights of a block lie in larger tensors, the *banks* of a supernet (`nas_bo.supernet.slicing` says which)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from types import MappingProxyType
from typing import NamedTuple


class Piece(NamedTuple):
    """Part of a bank: the first `sizes[i]` entries along every axis i; the last ones along the axis `last`; entries
    spread evenly along the axis `spread`; every `step`-th along axis 0."""

    bank: str
    sizes: tuple[int, ...]
    last: int | None = None
    spread: int | None = None
    step: int = 1

    @property
    def needs(self) -> tuple[int, ...]:
        """The least shape of a bank that has these entries."""
        first, *rest = self.sizes
        return ((first - 1) * self.step + 1, *rest)


class Cut(NamedTuple):
    """One parameter of a decoder: its pieces, each reshaped to `shapes[i]` and joined along `axis`."""

    name: str
    pieces: tuple[Piece, ...]
    shapes: tuple[tuple[int, ...], ...]
    axis: int = 0


def plain(name: str, bank: str, sizes: tuple[int, ...], last: int | None = None) -> Cut:
    """A parameter that is the first entries of one bank; the last ones along the axis `last`."""
    return Cut(name, (Piece(bank, sizes, last),), (sizes,))


def rows(
    name: str,
    bank: str,
    parts: Mapping[str, tuple[int, ...]],
    width: int,
    bias: bool,
    turned: tuple[str, ...] = (),
    steps: Mapping[str, int] = MappingProxyType({}),
) -> Iterator[Cut]:
    """A linear layer into a block whose rows are several parts of different meaning, each with its own bank."""
    flat = [prod(sizes) for sizes in parts.values()]
    yield Cut(
        f"{name}.weight",
        tuple(
            Piece(f"{bank}/{part}", (*sizes, width), None, 2 if part in turned else None, steps.get(part, 1))
            for part, sizes in parts.items()
        ),
        tuple((count, width) for count in flat),
    )
    if bias:
        yield Cut(
            f"{name}.bias",
            tuple(
                Piece(f"{bank}/{part}_bias", sizes, None, 2 if part in turned else None, steps.get(part, 1))
                for part, sizes in parts.items()
            ),
            tuple((count,) for count in flat),
        )


def out(name: str, bank: str, width: int, sizes: tuple[int, ...], bias: bool) -> Iterator[Cut]:
    """A linear layer out of a block."""
    yield Cut(f"{name}.weight", (Piece(f"{bank}/out", (width, *sizes)),), ((width, prod(sizes)),))
    if bias:
        yield plain(f"{name}.bias", f"{bank}/out_bias", (width,))
