"""The trained model with its parts in the order of their importance, once per process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nas_bo.compress.importance import METHODS, Importance, Method, importances
from nas_bo.errors import DataError, ModelError
from nas_bo.hardware.measuring import machine
from nas_bo.pretrained.checkpoint import TrainedDecoder
from nas_bo.pretrained.ordering import put_in_order
from nas_bo.validated import check_fields, checked, number, one_of, whole_number
from nas_bo.wording import counted

if TYPE_CHECKING:
    import torch

    from nas_bo.compress.levels import Levels
    from nas_bo.model.data import Corpus
    from nas_bo.model.decoder import Decoder
    from nas_bo.pretrained.repair import Repair


LONGER = 4
"""Times the calibration text, on which a part is repaired that is trained or kept."""
STREAMS = 1 << 30  # bytes, for which the streams of the trained model are kept


@dataclass(frozen=True)
class CalibrationText:
    """The text by which parts of a trained model are judged: windows of the training text, never of the held-out one.

    Attributes:
        batches: how often a score is taken; their mean counts.
        sequences: in one batch.
        sequence: tokens of each.
        method: see `nas_bo.compress.importances`.
        seed: which windows.
    """

    batches: int = checked(4, whole_number(1))
    sequences: int = checked(8, whole_number(1))
    sequence: int = checked(128, whole_number(8))
    method: Method = checked("wanda", one_of(*METHODS))
    seed: int = checked(0, number())

    def __post_init__(self) -> None:
        check_fields(self, ModelError)

    def windows(self, corpus: Corpus) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        """(batches, sequences, sequence + 1) token ids.

        Raises:
            DataError: the text is too short for judging by it.
        """
        needed = self.batches * self.sequences * self.sequence
        if len(corpus.train) < needed:
            raise DataError(
                f"{corpus.name!r} has {counted(len(corpus.train), 'token')} to train on, and {needed:,} are wanted to judge the parts of a model by; "
                "give more text, or CalibrationText with fewer batches"
            )
        found = corpus.batches(0, self.batches, self.sequences, self.sequence, self.seed)
        return np.asarray(found, np.int64)


@dataclass
class OrderedModel:
    """What `ordered` gives.

    Attributes:
        model: the trained decoder, its parts in order.
        importance: their scores, before they were put in order.
        windows: (B, T + 1) the calibration text.
        corpus: of which it is.
        seed: with which it was drawn.
    """

    model: Decoder
    importance: Mapping[tuple[str, str], Importance]
    windows: torch.Tensor
    corpus: Corpus
    seed: int

    @cached_property
    def repair(self) -> Repair:
        """What fits parts of it to the calibration text."""
        return self._repair(self.windows)

    @cached_property
    def levels(self) -> Levels:
        """Its matrices in few bits, quantized when they are first asked for."""
        from nas_bo.compress.levels import Levels

        return Levels(self.model, self.windows)

    @cached_property
    def long_repair(self) -> Repair:
        """The same on `LONGER` times as much text, or as much as there is, and as the streams of the model leave room for."""
        spec, (rows, length) = self.model.spec, self.windows.shape
        room = STREAMS // (4 * spec.width * (2 * len(spec.layers) + 1) * length)
        there = (len(self.corpus.train) - 1) // (length - 1)
        count = max(rows, min(LONGER * rows, room, there))
        more = self.corpus.batches(0, 1, count - rows, length - 1, self.seed + 1)[0] if count > rows else None
        import torch

        windows = self.windows if more is None else torch.cat([self.windows, torch.from_numpy(more.astype("int64"))])
        return self._repair(windows)

    def _repair(self, windows: torch.Tensor) -> Repair:
        from nas_bo.pretrained.repair import Repair

        return Repair(self.model, windows[:, :-1].to(self.model.embedding.weight.device))


_kept: OrderedDict[tuple[object, ...], OrderedModel] = OrderedDict()


def ordered(
    teacher: TrainedDecoder,
    corpus: Corpus,
    calibration: CalibrationText,
    device: str | torch.device = "cpu",
) -> OrderedModel:
    """The model of `teacher` in the order that `calibration` says; the last one stays in memory.

    Raises:
        ExportError, ModelError, DataError: the model cannot be read, or the text is too short.
    """
    import torch

    from nas_bo.pretrained.on_disk import release

    key = (teacher.fingerprint, teacher.dtype, teacher.device_map, corpus.fingerprint, calibration, str(device))
    if key not in _kept:
        _kept.clear()  # two of them may be too much for the memory
        model = teacher.model().to(device)
        windows = torch.from_numpy(calibration.windows(corpus)).flatten(0, 1)
        found = _importances(model, windows, calibration.method, key)
        orders = {key: one.order() for key, one in found.items()}
        for key_of, order in orders.items():
            if key_of[1] != "width":
                put_in_order(model, {key_of: order})
                release(model)
        _kept[key] = OrderedModel(model, found, windows, corpus, calibration.seed)
    return _kept[key]


def _importances(
    model: Decoder, windows: torch.Tensor, method: Method, key: tuple[object, ...]
) -> Mapping[tuple[str, str], Importance]:
    """`importances`, kept in the user's cache folder: each worker of a search needs the same ones."""
    import torch

    facts = {"key": repr(key), "torch": torch.__version__}
    path = machine.path_of("importance", facts)
    kept = machine.read(path)
    if kept.get("facts") == facts:
        return {
            (one["where"], one["unit"]): Importance(
                one["where"], one["unit"], torch.tensor(one["scores"]), torch.tensor(one["spread"]), one["batches"]
            )
            for one in kept["scores"]
        }
    found = importances(model, windows, method)
    rows = [{**vars(one), "scores": one.scores.tolist(), "spread": one.spread.tolist()} for one in found.values()]
    machine.write(path, {"facts": facts, "scores": rows})
    return found
