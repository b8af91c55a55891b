"""What a step of compression costs on held-out text, with an interval.

The same windows are read before and after, so the difference of two models is far surer than either loss: most of what differs between
windows is the text.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from nas_bo import measurement_lock
from nas_bo.model.data import Corpus
from nas_bo.model.decoder import Decoder
from nas_bo.model.inference import as_tensor, check_vocabulary, rows_of_pass, torch_threads

QUANTILE = 1.96
LEVEL = 0.95


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


@torch.inference_mode()
def held_out(model: Decoder, corpus: Corpus, tokens: int = 65_536, sequence: int = 128) -> HeldOut:
    """The loss on about `tokens` tokens of held-out text, in windows of `sequence` tokens, the same for every model.

    Raises:
        DataError: the held-out text is shorter than a window, or its vocabulary larger than the model's.
    """
    check_vocabulary(model, corpus)
    most = model.spec.details.max_length
    sequence = min(sequence, len(corpus.validation) - 1, most or sequence)
    texts = corpus.held_out(tokens, sequence)
    device = model.embedding.weight.device
    rows, losses = rows_of_pass(sequence, model.vocab_size), []
    was = model.training
    model.eval()
    try:
        with torch_threads(1), measurement_lock.working() as step:
            for start in range(0, len(texts), rows):
                step()
                batch = as_tensor(texts[start : start + rows], device)
                logits = model(batch[:, :-1]).float()
                each = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="none")
                losses.append(each.view(len(batch), -1).mean(1).double().cpu().numpy())
    finally:
        model.train(was)
    return HeldOut(np.concatenate(losses) / math.log(2) / corpus.bytes_per_token, corpus.unit)
