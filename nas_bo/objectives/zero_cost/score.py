"""What all zero-cost scores share: the mini-batch, the seeds, and how the value says how it was obtained."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from nas_bo.architecture import Architecture
from nas_bo.errors import ObjectiveError
from nas_bo.model.spec import check
from nas_bo.objective import Value
from nas_bo.objectives.text import carried_text, corpus_of
from nas_bo.seeds import settle
from nas_bo.trial import Direction
from nas_bo.validated import check_fields, checked, whole_number

if TYPE_CHECKING:
    from torch import Tensor

    from nas_bo.model.data import Corpus
    from nas_bo.model.decoder import Decoder


@dataclass(frozen=True)
class ZeroCostScore(ABC):
    """A score of an architecture's untrained network, averaged over initialisations.

    The mini-batch is that of the first training step of `nas_bo.model.train` with seed 0, only larger: the same for
    every architecture and every seed. The same architecture gives bit for bit the same value on the same machine.
    It runs before anything is trained (cost "measured"), so `at_least` or `at_most` make it a filter before training:
    see `quantile_limit`.

    A subclass gives `score`, and a `name`.

    Args:
        seeds: number of initialisations to average over; their standard deviation is the value's `spread`.
        first_seed: of those; the others follow it.
        batch, sequence: windows of the mini-batch, and tokens of each.
        data, tokenizer: as in `nas_bo.model.load_corpus`; None is the source of Python's standard library as bytes.
        device: a torch device; None is CUDA where there is one, else the CPU.
        at_most, at_least: hard limits, in the score's own unit.
        direction: the published one; turn it where `nas-bo validate` says that the sign is the other one here.
        ignore: top-level fields of the architecture that are the user's own.
        vocab_size, token_dtype, text_key: as vocab_size, dtype and text_key in `nas_bo.model.load_corpus`.

    Raises (when called):
        ObjectiveError: the score is not a finite number; the message says for which seed and what to do.
    """

    seeds: int = checked(3, whole_number(1))
    first_seed: int = 0
    batch: int = checked(16, whole_number(1))
    sequence: int = checked(64, whole_number(1))
    data: str | None = None
    tokenizer: str | None = None
    device: str | None = None
    at_most: float | None = None
    at_least: float | None = None
    ignore: tuple[str, ...] = ()
    name: str = ""
    unit: str = ""
    direction: Direction = "maximize"
    cost: Literal["measured"] = "measured"
    vocab_size: int | None = field(default=None, kw_only=True)
    token_dtype: str | None = field(default=None, kw_only=True)
    text_key: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        settle(self, ObjectiveError, "first_seed")
        check_fields(self, ObjectiveError)
        if not self.name:
            raise ObjectiveError(f"{type(self).__name__}: a score needs a name to appear under; give it name=...")

    @abstractmethod
    def score(self, model: Decoder, tokens: Tensor, targets: Tensor, seed: int) -> float:
        """The score of one freshly initialised model, which it may change.

        Args:
            model: in training mode, float32, its gradients empty.
            tokens, targets: (batch, sequence) of dtype long, on the model's device.
            seed: that the model was initialised from, for draws of the score's own.
        """

    def corpus(self) -> Corpus:
        """The corpus, read once per process (raises DataError)."""
        return corpus_of(self)

    def carried(self) -> dict[Hashable, object]:
        """See `nas_bo.objectives.text.carried_text`."""
        return carried_text(self)

    def conditions(self) -> dict[str, object]:
        corpus = self.corpus()
        return {
            "corpus": corpus.name,
            "sha256": corpus.fingerprint,
            "seeds": self.seeds,
            "first_seed": self.first_seed,
            "batch": self.batch,
            "sequence": self.sequence,
        }

    def check_architecture(self, arch: Architecture) -> None:
        """Raise ModelError where the decoder cannot be built."""
        check(arch, self.ignore)

    def __call__(self, arch: Architecture, /) -> Value:
        import torch

        from nas_bo.model.decoder import build
        from nas_bo.model.device import pick_device
        from nas_bo.model.inference import as_tensor, torch_threads

        wall, cpu = time.perf_counter(), time.process_time()
        corpus, device = self.corpus(), torch.device(pick_device(self.device))
        window = as_tensor(corpus.batches(0, 1, self.batch, self.sequence)[0], device)
        values = []
        with torch_threads(1):
            for seed in range(self.first_seed, self.first_seed + self.seeds):
                generator = torch.Generator().manual_seed(seed % (1 << 63))
                model = build(arch, corpus.vocab_size, self.ignore, generator=generator).to(device)
                values.append(self._finite(self.score(model, window[:, :-1], window[:, 1:], seed), seed))
        mean = sum(values) / len(values)
        spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)) if len(values) > 1 else None
        return Value(
            mean,
            how="zero-cost",
            seeds=self.seeds,
            spread=spread,
            values=values,
            seconds=round(time.perf_counter() - wall, 4),
            cpu_seconds=round(time.process_time() - cpu, 4),
        )

    def _finite(self, value: float, seed: int) -> float:
        if math.isfinite(value):
            return float(value)
        raise ObjectiveError(
            f"{self.name} is {value} for the initialisation of seed {seed}: this network gives it nothing to score "
            "(no weights that it reads, no gradient, or an overflow); use another score for this space, or let the "
            "search count the trial as failed"
        )


def log_of(value: float) -> float:
    """The natural logarithm; of 0 it is -inf, and of NaN or a negative number NaN, which the caller refuses."""
    if value > 0:
        return math.log(value)
    return -math.inf if value == 0 else math.nan
