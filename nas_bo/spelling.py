"""Two names of one quantity: the loss in bits per byte is `val_loss` in studies, and may be asked for as `bits_per_byte`."""

from __future__ import annotations

from collections.abc import Iterable

OTHER = {"bits_per_byte": "val_loss", "val_loss": "bits_per_byte"}


def spelled(name: str, known: Iterable[str]) -> str:
    """`name` as it is in `known`: itself where it is there, else its other name where that is; else as it was."""
    there = set(known)
    return name if name in there or OTHER.get(name) not in there else OTHER[name]
