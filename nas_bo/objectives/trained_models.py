"""Trained decoders that a process remembers, so that one training serves all objectives that look at its model.

An objective that trains offers its model; it is kept once another objective of this process has asked for one of the same training. So the
first architecture is trained twice at most, and a search that only trains keeps nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

from nas_bo.architecture import Architecture

if TYPE_CHECKING:
    from nas_bo.model.data import Corpus
    from nas_bo.model.decoder import Decoder

KEPT = 2  # models
_models: OrderedDict[tuple[str, str], Decoder] = OrderedDict()
_asked: set[str] = set()


@runtime_checkable
class TrainsDecoder(Protocol):
    """An objective that trains a decoder of nas_bo, or takes a part of a trained one, and evaluates it on text.

    `ValidationLoss` and `nas_bo.pretrained.SubModelLoss` are such.
    """

    @property
    def unit(self) -> str: ...

    @property
    def judging(self) -> tuple[int, int]:
        """How many held-out tokens a value is of, and tokens of a window."""

    def judged(self, arch: Architecture, /) -> Decoder:
        """The decoder that a call evaluates, in evaluation mode (raises as a call does)."""

    def corpus(self) -> Corpus: ...

    def check_architecture(self, arch: Architecture, /) -> None: ...

    def conditions(self) -> Mapping[str, object]: ...

    def remarks(self) -> Mapping[str, object]: ...

    def larger(self, factor: float, /) -> Self | None: ...


def offer(quality: TrainsDecoder, arch: Architecture, model: Decoder) -> None:
    """Keep a model of a call where another objective asks for those of this training."""
    said = repr(quality)
    if said in _asked:
        _keep((said, arch.id), model)


def model_of(quality: TrainsDecoder, arch: Architecture) -> Decoder:
    """The model that `quality` trains, remembered for the next objective that asks."""
    key = repr(quality), arch.id
    _asked.add(key[0])
    if key not in _models:
        _keep(key, quality.judged(arch))
    _models.move_to_end(key)
    return _models[key]


def _keep(key: tuple[str, str], model: Decoder) -> None:
    _models[key] = model
    while len(_models) > KEPT:
        _models.popitem(last=False)
