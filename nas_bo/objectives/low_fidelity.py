"""Quality by low-fidelity training: a short, fixed budget of tokens, the same batches in the same order for everyone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from nas_bo.architecture import Architecture
from nas_bo.errors import ObjectiveError
from nas_bo.objectives.cost import positive
from nas_bo.problem import Value
from nas_bo.trial import Direction

if TYPE_CHECKING:
    from nas_bo.model.data import Corpus

MIN_TOKENS = 1_000  # below a few steps there is nothing to compare


@dataclass(frozen=True)
class ValidationLoss:
    """Bits per byte on held-out text after training for `tokens` tokens.

    Args:
        tokens: the training budget, the single dial of `nas_bo.model.train`.
        data, tokenizer: as in `nas_bo.model.load_corpus`; None is the source of Python's standard library as bytes.
        seed: of initialisation and batches, the same for every architecture.
        device: a torch device; None is CUDA where there is one, else the CPU.
        at_most, at_least: hard limits in bits per byte.
    """

    tokens: float = 200_000
    data: str | None = None
    tokenizer: str | None = None
    seed: int = 0
    device: str | None = None
    at_most: float | None = None
    at_least: float | None = None
    ignore: tuple[str, ...] = ()
    name: str = "val_loss"
    unit: str = "bits/byte"
    direction: Direction = "minimize"
    cost: Literal["trained"] = "trained"

    def __post_init__(self) -> None:
        positive(self, "tokens")
        if self.tokens < MIN_TOKENS:
            raise ObjectiveError(
                f"ValidationLoss(tokens={self.tokens:g}): the budget must be at least {MIN_TOKENS:,} tokens to compare "
                "anything; 200,000 is the default"
            )

    def corpus(self) -> Corpus:
        """The corpus, read once per process (raises DataError)."""
        return _corpus(self.data, self.tokenizer)

    def conditions(self) -> dict[str, Any]:
        corpus = self.corpus()
        return {"corpus": corpus.name, "sha256": corpus.fingerprint, "tokens": int(self.tokens), "seed": self.seed}

    def larger(self, factor: float) -> ValidationLoss:
        """The same measure of quality at `factor` times the budget and with another seed, for re-training winners."""
        return replace(self, tokens=self.tokens * factor, seed=self.seed + 1, at_most=None, at_least=None)

    def __call__(self, arch: Architecture, /) -> Value:
        from nas_bo.model import train

        result = train(arch, self.corpus(), tokens=self.tokens, seed=self.seed, device=self.device, ignore=self.ignore)
        return Value(
            result.bits_per_byte,
            how="trained",
            tokens=result.tokens,
            steps=result.steps,
            seed=self.seed,
            parameters=result.parameters,
            cpu_seconds=round(result.cpu_seconds, 3),
            curve=[[int(at), round(loss, 4)] for at, loss in result.curve],
        )


@lru_cache(maxsize=2)
def _corpus(data: str | None, tokenizer: str | None) -> Corpus:
    from nas_bo.model import load_corpus

    return load_corpus(data, tokenizer)
