"""Whether a stock tool can serve an architecture without code of nas_bo, decided from the architecture alone, before training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nas_bo.architecture import Architecture
from nas_bo.errors import ObjectiveError
from nas_bo.export.fits import fits, why_not
from nas_bo.export.homes import RUNTIMES
from nas_bo.objective import Value
from nas_bo.trial import Direction
from nas_bo.validated import check_fields, checked, number


@dataclass(frozen=True)
class Servable:
    """How many fields of the architecture have no place in the stock class that comes nearest: 0 where one holds it exactly.

    A limit: ``limits=[Servable("transformers")]``. What does not fit is never trained; that it is a count and no yes or no lets
    strategies find the way to what fits.

    Args:
        runtime: "transformers", "gguf" (llama.cpp) or "vllm", as listed in `nas_bo.export.homes`.
        padding: the most weights of zeros that may be added, as a share, where a class wants all layers of one size; more count as
            one field. What is measured or counted of an architecture in the search does not contain them.
        vocab_size: of the tokenizer that the model is for.
        ignore: top-level fields of the space that are the user's own and no part of the network.
    """

    runtime: str = "transformers"
    padding: float = checked(0.1, number(at_least=0, below=1e6).advise("it is a share of the weights, such as 0.1"))
    vocab_size: int = 256
    ignore: tuple[str, ...] = ()
    at_most: float | None = 0.0
    at_least: float | None = None
    name: str = ""
    unit: str = "misfits"
    direction: Direction = "minimize"
    cost: Literal["analytic"] = "analytic"

    def __post_init__(self) -> None:
        if self.runtime not in RUNTIMES:
            raise ObjectiveError(
                f"Servable({self.runtime!r}): there is no such runtime; there are {', '.join(RUNTIMES)}"
            )
        check_fields(self, ObjectiveError)
        if not self.name:
            object.__setattr__(self, "name", f"servable_{self.runtime}")

    def conditions(self) -> dict[str, object]:
        return {"runtime": self.runtime, "padding": self.padding, "vocab_size": self.vocab_size}

    def __call__(self, arch: Architecture, /) -> Value:
        found = fits(arch, RUNTIMES[self.runtime], self.ignore, self.vocab_size, every=False)
        best = found[0]
        if best.reasons:
            return Value(float(len(best.reasons)), how=why_not(found, 1))
        if best.padding > self.padding:
            return Value(
                1.0, how=f"{best.home.name} with {best.padding:.0%} of zeros, where {self.padding:.0%} are allowed"
            )
        return Value(0.0, how=f"{best.home.name}" + (f" with {best.padding:.1%} of zeros" if best.padding > 0 else ""))
