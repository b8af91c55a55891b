"""What a step of compression costs on held-out text, with an interval.

The same windows are read before and after, so the difference of two models is far surer than either loss: most of what differs between
windows is the text.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nas_bo.model.data import Corpus
from nas_bo.model.decoder import Decoder
from nas_bo.model.inference import window_losses

QUANTILE = 1.96


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The loss of a model.

    Attributes:
        windows: (W,) bits per byte of each window of held-out text.
        unit: "bits/byte", or "bits/token" where nobody knows the bytes.
    """

    windows: np.ndarray
    unit: str

    @property
    def mean(self) -> float:
        return float(self.windows.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the mean, over texts of this kind."""
        return _interval(self.windows)

    def cost(self, before: HeldOut) -> tuple[float, float, float]:
        """How much more than `before`, with the 95 % interval of that difference, window by window."""
        difference = self.windows - before.windows
        return float(difference.mean()), *_interval(difference)

    def about(self) -> dict[str, Any]:
        low, high = self.interval
        return {"loss": self.mean, "low": low, "high": high, "unit": self.unit, "windows": len(self.windows)}


def _interval(values: np.ndarray) -> tuple[float, float]:
    mean = float(values.mean())
    half = QUANTILE * float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return mean - half, mean + half


def held_out(model: Decoder, corpus: Corpus, tokens: int = 65_536, sequence: int = 128) -> HeldOut:
    """The loss on about `tokens` tokens of held-out text, in windows of `sequence` tokens, the same for every model.

    Raises:
        DataError: the held-out text is shorter than a window, or its vocabulary larger than the model's.
    """
    most = model.spec.details.max_length
    sequence = min(sequence, len(corpus.validation) - 1, most or sequence)
    return HeldOut(window_losses(model, corpus, tokens, sequence).numpy(), corpus.unit)
