"""Calls on another machine, for what is about that machine: a latency is measured on the device that it is about; and what other machines
are given, so that they need not have the files.

Objectives know places by name only. The executor of a search that reaches other machines says how they are reached, in its own
process and in those of its workers; outside of these there is no other place.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Protocol, runtime_checkable

from nas_bo.errors import ObjectiveError


class Reach(Protocol):
    """How a place is reached."""

    def __call__(self, place: str, function: Callable[..., object], *arguments: object) -> object:
        """``function(*arguments)``, called in a process that stays, on a machine with this place; raises what it raises."""


@runtime_checkable
class Placed(Protocol):
    """An objective that is evaluated in a place of its own; None is wherever the evaluation runs.

    Attributes:
        on: the name of the place: of a Ray cluster, a resource that the node was started with.
    """

    @property
    def on(self) -> str | None: ...


@runtime_checkable
class MeasuresHere(Protocol):
    """An objective whose value is about the machine on which it is evaluated, so that machines that differ give values that do not compare."""

    @property
    def measures_here(self) -> bool: ...


@runtime_checkable
class NeedsGpus(Protocol):
    """An objective that must see several GPUs.

    Attributes:
        gpus_needed: how many; 0 where one, or none, is enough.
    """

    @property
    def gpus_needed(self) -> int: ...


@runtime_checkable
class Carries(Protocol):
    """An objective that has read what other machines can be given."""

    def carried(self) -> Mapping[Hashable, object]:
        """Name -> what was read: arrays of numbers, or bytes. It is sent to each machine once, and is what `given` says there. What is better
        read where it lies, as a file that is mapped into memory, is left out."""


def gpus_needed(objectives: Iterable[object]) -> int:
    """What the most demanding of these must see."""
    return max((one.gpus_needed for one in objectives if isinstance(one, NeedsGpus)), default=0)


MOST_CARRIED = 2_000_000_000
"""Bytes of one text or file that other machines are given: more would fill the store of a cluster, and is read where it lies."""

_reach: Reach | None = None


def call(place: str, function: Callable[..., object], *arguments: object) -> object:
    """Call a function, which can be imported there, in a place.

    Raises:
        ObjectiveError: this process knows no other places.
    """
    if _reach is None:
        raise ObjectiveError(
            f"on={place!r} is measured on a node of a Ray cluster that was started with the resource {place!r} (ray start --address=... "
            f"--resources='{{\"{place}\": 1}}'), and this evaluation does not run on a cluster; give search(executor=Ray(...)), or leave on= out"
        )
    return _reach(place, function, *arguments)


def reached_by(reach: Reach | None) -> None:
    """From now on places are reached so from this process; None: not at all."""
    global _reach
    _reach = reach


_given: dict[Hashable, object] = {}


def give(name: Hashable, what: object) -> None:
    """From now on `given` says this in this process."""
    _given[name] = what


def given(name: Hashable) -> object:
    """What another machine has read under this name (`Carries`); None where nothing was sent."""
    return _given.get(name)
