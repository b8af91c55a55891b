"""How well a trained network takes compression: what few bits cost it, how sparse and how even its activations are, which layers suffer.

Each trains the architecture as `quality` does and looks at the trained model. Objectives of one `quality` share the training within a
process; with ``checkpoints`` in it they share it with `ValidationLoss` as well. What each is worth as a predictor of the real cost of quantization and
pruning is measured by `benchmarks/compression/ranks.py`.
"""

from __future__ import annotations

import statistics
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, Self

from nas_bo.architecture import Architecture
from nas_bo.errors import ObjectiveError
from nas_bo.objective import Value
from nas_bo.objectives.text import BITS_PER_BYTE
from nas_bo.objectives.trained_models import TrainsDecoder, model_of
from nas_bo.objectives.validation_loss import ValidationLoss
from nas_bo.trial import Direction
from nas_bo.validated import check_fields, checked, number, one_of, whole_number

if TYPE_CHECKING:
    from torch import Tensor

    from nas_bo.model.data import Corpus
    from nas_bo.model.decoder import Decoder
    from nas_bo.model.products import Take


@dataclass(frozen=True)
class OfTrainedModel(ABC):
    """A number of a trained model.

    Args:
        quality: how it is trained, and the text: a `ValidationLoss`, `build=` is not possible, or the `SubModelLoss` of a trained model.
        at_most, at_least: hard limits in the objective's own unit.
    """

    quality: TrainsDecoder = field(default_factory=ValidationLoss)
    at_most: float | None = None
    at_least: float | None = None
    name: str = ""
    unit: str = ""
    direction: Direction = "minimize"
    cost: Literal["trained"] = "trained"

    def __post_init__(self) -> None:
        check_fields(self, ObjectiveError)
        own = isinstance(self.quality, ValidationLoss) and self.quality.build is not None
        if own or not isinstance(self.quality, TrainsDecoder):
            raise ObjectiveError(
                f"{type(self).__name__}(quality={self.quality!r:.80}): it looks into the decoder of nas_bo, so quality must be a "
                "ValidationLoss without build=, or a SubModelLoss"
            )
        if self.unit == BITS_PER_BYTE:
            object.__setattr__(self, "unit", self.quality.unit)

    @abstractmethod
    def measured(self, model: Decoder, corpus: Corpus) -> Value:
        """The value of a trained model, in evaluation mode."""

    def conditions(self) -> dict[str, object]:
        own = {name: value for name, value in vars(self).items() if name in self.options()}
        return {**self.quality.conditions(), **own}

    def options(self) -> tuple[str, ...]:
        """Names of the fields that change the value, those of `quality` aside."""
        return ()

    def corpus(self) -> Corpus:
        """The corpus, read once per process (raises DataError)."""
        return self.quality.corpus()

    def remarks(self) -> Mapping[str, object]:
        return self.quality.remarks()

    def check_architecture(self, arch: Architecture) -> None:
        """Raise ModelError where the decoder cannot be built."""
        self.quality.check_architecture(arch)

    def larger(self, factor: float) -> Self | None:
        """The same number after a training of `factor` times the budget; nothing where `quality` trains nothing."""
        longer = self.quality.larger(factor)
        return None if longer is None else replace(self, quality=longer, at_most=None, at_least=None)

    def __call__(self, arch: Architecture, /) -> Value:
        corpus = self.corpus()
        return self.measured(model_of(self.quality, arch), corpus)

    def _texts(self, model: Decoder, corpus: Corpus) -> Tensor:
        """Windows (B, T + 1) of held-out text."""
        from nas_bo.model.inference import as_tensor

        return as_tensor(corpus.held_out(self._tokens, self._sequence), model.embedding.weight.device)

    @property
    def _tokens(self) -> int:
        return min(self.quality.judging[0], 16_384)

    @property
    def _sequence(self) -> int:
        return self.quality.judging[1]


@dataclass(frozen=True)
class QuantizationGap(OfTrainedModel):
    """How much the held-out loss grows when the weights have `bits` bits, in bits per byte.

    Args:
        bits: of all matrices, 2, 3, 4 or 8; see `nas_bo.compress.quantize`, also for `group` and `method`.
    """

    bits: int = checked(3, one_of(2, 3, 4, 8))
    group: int = checked(32, whole_number(1))
    method: Literal["rtn", "gptq"] = checked("rtn", one_of("rtn", "gptq"))
    name: str = ""
    unit: str = BITS_PER_BYTE

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", f"quantization_gap_{self.bits}")
        super().__post_init__()

    def options(self) -> tuple[str, ...]:
        return ("bits", "group", "method")

    def measured(self, model: Decoder, corpus: Corpus) -> Value:
        from nas_bo.compress import held_out, quantize

        calibration = corpus if self.method == "gptq" else None
        made = quantize(model, self.bits, self.group, self.method, calibration)
        before = held_out(model, corpus, self.quality.judging[0], self._sequence)
        after = held_out(made.model, corpus, self.quality.judging[0], self._sequence)
        gap, low, high = after.cost(before)
        return Value(gap, how="trained, quantized", low=low, high=high, level=0.95, loss=before.mean, bytes=made.nbytes)


@dataclass(frozen=True)
class LayerSensitivity(OfTrainedModel):
    """How much the held-out loss grows when one layer alone has `bits` bits: the sum over layers, or the most of any. The value of
    each is in the value's `info`.

    Args:
        of: "sum" or "max".
    """

    bits: int = checked(2, one_of(2, 3, 4, 8))
    group: int = checked(32, whole_number(1))
    of: Literal["sum", "max"] = checked("sum", one_of("sum", "max"))
    name: str = "layer_sensitivity"
    unit: str = BITS_PER_BYTE

    def options(self) -> tuple[str, ...]:
        return ("bits", "group", "of")

    def measured(self, model: Decoder, corpus: Corpus) -> Value:
        from nas_bo.compress import held_out, quantize
        from nas_bo.compress.calibration import matrices

        there = matrices(model)
        layers = [index for index in range(len(model.layers)) if any(n.startswith(f"layers.{index}.") for n in there)]
        before = held_out(model, corpus, self._tokens, self._sequence)
        gaps = {}
        for index in layers:
            made = quantize(model, {f"layers.{index}": self.bits, "default": 32}, self.group)
            gaps[str(index)] = held_out(made.model, corpus, self._tokens, self._sequence).cost(before)[0]
        total = (sum if self.of == "sum" else max)(gaps.values()) if gaps else 0.0
        return Value(total, how="trained, each layer quantized", layers=gaps)


@dataclass(frozen=True)
class ActivationSparsity(OfTrainedModel):
    """How sparse what the MLPs hold inside is: the share of channels that a token could do without, those with the least values, as long
    as the others keep `energy` of the sum of squares (after TEAL: Liu et al. 2024, arXiv 2408.14690, section 3). The mean over tokens and MLPs.

    Without MLPs it is 0.
    """

    energy: float = checked(0.99, number(above=0, below=1))
    name: str = "activation_sparsity"
    unit: str = "share"
    direction: Direction = "maximize"

    def options(self) -> tuple[str, ...]:
        return ("energy",)

    def measured(self, model: Decoder, corpus: Corpus) -> Value:
        from nas_bo.model.blocks.block import role_of
        from nas_bo.model.blocks.table import block_of

        tie = model.spec.details.tie_layers
        outs = {}
        for name, weight in model.named_parameters():
            place, *rest = name.split(".")
            if place == "layers" and rest[1] == "mlp":
                block = block_of(model.spec.layers[int(rest[0]) * tie].mlp)
                if weight.dim() >= 2 and role_of(".".join(rest[2:]), weight.dim(), block) in ("out", "out_each"):
                    outs[name] = weight
        shares: list[tuple[float, int]] = []

        def take(_name: str, _expert: int, x: Tensor, _y: Tensor) -> None:
            squares = x.float().square().sort(-1).values
            total = squares.sum(-1, keepdim=True)
            idle = (squares.cumsum(-1) <= (1 - self.energy) * total).float().mean()
            shares.append((float(idle), len(x)))

        _pass(model, self._texts(model, corpus), outs, take)
        tokens = sum(count for _, count in shares)
        mean = sum(share * count for share, count in shares) / tokens if tokens else 0.0
        return Value(mean, how="trained")


@dataclass(frozen=True)
class OutlierScore(OfTrainedModel):
    """How far the largest values that matrices are given are from the others: the median over tokens of the largest absolute value
    divided by the median one ("max_to_median"), or the kurtosis of the values of a token ("kurtosis", 3 for normal ones); the mean over matrices. Outliers take
    the range of a scale that all values share (Dettmers et al. 2022, arXiv 2208.07339; Xiao et al. 2022, arXiv 2211.10438).
    """

    of: Literal["max_to_median", "kurtosis"] = checked("max_to_median", one_of("max_to_median", "kurtosis"))
    name: str = "outlier_score"
    unit: str = "ratio"

    def options(self) -> tuple[str, ...]:
        return ("of",)

    def measured(self, model: Decoder, corpus: Corpus) -> Value:
        from nas_bo.compress.calibration import matrices

        seen: dict[str, list[float]] = {}

        def take(name: str, _expert: int, x: Tensor, _y: Tensor) -> None:
            if len(x):
                seen.setdefault(name, []).append(float(self._score(x.float()).median()))

        _pass(model, self._texts(model, corpus), dict(matrices(model)), take)
        each = {name: statistics.fmean(values) for name, values in seen.items()}
        worst = max(each, key=lambda name: each[name], default="")
        return Value(statistics.fmean(each.values()) if each else 0.0, how="trained", worst=worst)

    def _score(self, x: Tensor) -> Tensor:
        """x (N, C) -> (N,)."""
        if self.of == "kurtosis":
            centred = x - x.mean(-1, keepdim=True)
            square = centred.square()
            return square.square().mean(-1) / square.mean(-1).square().clamp(min=1e-24)
        size = x.abs()
        return size.amax(-1) / size.median(-1).values.clamp(min=1e-12)


def _pass(model: Decoder, texts: Tensor, weights: Mapping[str, Tensor], take: Take) -> None:
    """Run the model on windows (B, T + 1) while `take` sees the products with the weights."""
    import torch

    from nas_bo.compress.calibration import batches
    from nas_bo.model.inference import torch_threads
    from nas_bo.model.products import Watching

    with torch_threads(1), torch.no_grad(), Watching(weights, take):
        for batch in batches(texts):
            model(batch[:, :-1])
