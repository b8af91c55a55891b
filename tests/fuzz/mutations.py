"""Damaged copies of JSON documents, drawn from a seed."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

ODD = [None, True, False, 0, -1, 2**63, 10**400, 1.5, float("nan"), float("inf"), "", "x", "../x", "\ud800", "\x1b[2J",
       [], {}, [[]], {"a": 1}, [1, 2], -0.0, "layers.0.mixer", {"kind": "conv"}, "a" * 1000]  # fmt: skip


def damaged(document: Any, rng: random.Random) -> Any:
    """A copy of `document` in which one to three parts are gone, doubled, or replaced by something else."""
    made = copy.deepcopy(document)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = [place for place in _places(made) if place]
        if not places:
            break
        *way, last = rng.choice(places)
        inside = made
        for key in way:
            inside = inside[key]
        kind = rng.random()
        if kind < 0.2:
            del inside[last]
        elif kind < 0.8:
            inside[last] = copy.deepcopy(rng.choice(ODD))
        elif kind < 0.9 and isinstance(inside, dict):
            inside[rng.choice(["x", "", "schema", "title", "a.b", f"{last}x"])] = copy.deepcopy(rng.choice(ODD))
        else:
            inside[last] = copy.deepcopy(rng.choice([each for _, each in _items(inside)]))
    return made


def damaged_bytes(content: bytes, rng: random.Random, head: int | None = None) -> bytes:
    """A copy in which one to four runs of bytes are changed, gone, doubled or new; within the first `head` bytes for the most part."""
    made = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        within = len(made) if head is None or rng.random() < 0.2 else min(head, len(made))
        at, length = rng.randrange(within + 1), rng.choice((1, 1, 4, 8, 64))
        kind = rng.random()
        if kind < 0.3:
            made[at : at + length] = rng.randbytes(min(length, len(made) - at))
        elif kind < 0.45:
            made[at : at + length] = rng.choice((b"\xff", b"\0", b"9", b"[", b"\x7f")) * length
        elif kind < 0.6:
            del made[at : at + length]
        elif kind < 0.75:
            made[at:at] = made[at : at + length]
        elif kind < 0.9:
            made[at:at] = rng.randbytes(length)
        else:
            del made[at:]
    return bytes(made)


def _items(value: Any) -> list[tuple[Any, Any]]:
    return list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    for key, inner in _items(value):
        yield from _places(inner, (*place, key))
