"""Files of a graph of fixed operations (ONNX, OpenVINO) compared with the decoder: at several lengths, at once and token by token.

A graph has one or both of two forms: ids (batch, tokens) -> logits (batch, tokens, vocabulary); and ids, the position of the first of
them and the states of the layers -> logits, the new states.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from nas_bo.errors import ExportError
from nas_bo.export.check import CONTINUED, POSITIONS, Check, Cost, HeldOut, Logits, compared, own, prompt, weighed

if TYPE_CHECKING:
    from nas_bo.model import Decoder

LENGTHS = (1, 2, 300)  # that are tried in addition to those of the check


class Graph(Protocol):
    """A file that a runtime has loaded.

    Attributes:
        inputs: their names and shapes, in the order of the file; an axis that is open has the name "batch", "tokens" or "past".
    """

    @property
    def inputs(self) -> Sequence[tuple[str, Sequence[int | str]]]: ...

    def run(self, given: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Inputs by name -> outputs, the logits first."""


def agreement(
    model: Decoder, runtime: str, whole: Graph | None, cached: Graph | None, held_out: HeldOut | None = None
) -> Check | Cost:
    """How the graphs compare with the decoder, of two the worse one.

    Args:
        runtime: and its version.
        whole, cached: the graph without and with states; one of them at least.
        held_out: where logits cannot be equal, the text that says what fewer bits cost.
    """
    runs: list[_Whole] = [] if whole is None else [_Whole(whole)]
    runs += [] if cached is None else [_Cached(cached)]
    if held_out is not None:
        return max((weighed(model, runtime, run, held_out) for run in runs), key=lambda cost: cost.after)
    checks = [compared(model, runtime, run) for run in runs]
    worst = max(checks, key=lambda check: (not check.greedy, check.difference))
    longest = len(prompt(model))  # past every window
    lengths = (*LENGTHS, *([longest] if longest > POSITIONS else []))
    apart = [_apart(model, run, length) for run in runs for length in lengths]
    steps = [_one_by_one(model, run, longest + CONTINUED) for run in runs if isinstance(run, _Cached)]
    return replace(worst, difference=max(worst.difference, *apart, *steps), cached=bool(steps))


@contextmanager
def running(program: str, instead: str) -> Iterator[None]:
    """Around whatever a program does with the files: what it raises is an ExportError that names another format."""
    try:
        yield
    except ExportError:
        raise
    except Exception as error:  # they have no common base
        said = " ".join(str(error).split())[:200]
        raise ExportError(
            f"{program} cannot run what was written ({type(error).__name__}: {said}), so it is not handed over; export to {instead}, and "
            "please report this"
        ) from None


def axes(whole: bool, cached: bool) -> str:
    """What of the two forms there is, and what is open in them, for people."""
    said = "batch and length open" if whole else "the batch open, one token a call"
    return said + (
        ", without and with a cache" if whole and cached else ", with a cache" if cached else ", without a cache"
    )


class _Whole:
    """Without states: (tokens,) ids -> (tokens, vocabulary) logits."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def __call__(self, ids: Sequence[int]) -> Logits:
        found: Logits = self.batch(np.array([ids], np.int64))[0]
        return found

    def batch(self, tokens: Logits) -> Logits:
        return self._graph.run({"tokens": tokens})[0]


class _Cached(_Whole):
    """With states, as a user runs it."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self._names, shapes = zip(*graph.inputs, strict=True)
        self._shapes = shapes[2:]
        self.one = shapes[0][1] == 1  # token a call
        self.forget(1)

    def forget(self, batch: int) -> None:
        self._at = 0
        sizes = {"batch": batch, "past": 0}
        self._states = [
            np.zeros([sizes[axis] if isinstance(axis, str) else axis for axis in shape], np.float32)
            for shape in self._shapes
        ]

    def more(self, tokens: Logits) -> Logits:
        """(B, T) ids after those before -> logits."""
        if self.one and tokens.shape[1] > 1:
            return np.concatenate([self.more(tokens[:, i : i + 1]) for i in range(tokens.shape[1])], 1)
        given = [tokens, np.array([self._at], np.int64), *self._states]
        logits, *self._states = self._graph.run(dict(zip(self._names, given, strict=True)))
        self._at += tokens.shape[1]
        return logits

    def batch(self, tokens: Logits) -> Logits:
        self.forget(len(tokens))
        return self.more(tokens)


def _apart(model: Decoder, run: _Whole, length: int) -> float:
    """The largest difference on a batch of so many tokens each."""
    most = model.spec.details.max_length or length
    tokens = np.random.default_rng(length).integers(0, model.vocab_size, (3, min(length, most)))
    return _difference(run.batch(tokens), own(model, tokens))


def _one_by_one(model: Decoder, run: _Cached, length: int) -> float:
    """The same of so many tokens, of which the last ones go in one by one."""
    length = min(length, model.spec.details.max_length or length)
    tokens = np.random.default_rng(0).integers(0, model.vocab_size, (1, length))
    run.forget(1)
    last = max(0, length - CONTINUED)
    parts = [tokens[:, :last], *(tokens[:, i : i + 1] for i in range(last, length))]
    return _difference(np.concatenate([run.more(part) for part in parts if part.size], 1), own(model, tokens))


def _difference(found: Logits, expected: Logits) -> float:
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - expected).max())
