"""Settings of a search by gradients, and what is cheap to compute of its cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from nas_bo.architecture import Architecture
from nas_bo.errors import SearchError
from nas_bo.objective import Objective, PassesOn, Predicting, owner_of
from nas_bo.once import once
from nas_bo.space import Space
from nas_bo.strategies.one_shot.gradient_result import DartsResult
from nas_bo.strategies.strategy import check_settings
from nas_bo.validated import checked, is_number, number, whole_number

if TYPE_CHECKING:
    from nas_bo.model.data import Corpus


@dataclass(frozen=True)
class GradientSettings(ABC):
    """Settings of a search by gradients; see `Darts` and `ProxylessNAS`.

    Attributes:
        lambdas: weights of the cost, one distribution for each; 0 asks for quality only.
        tokens: the budget of training the shared weights, in tokens of single passes.
        updates: architecture updates, spread over the run after its warm-up, and after it.
        seed: a whole number, or a generator that gives one (see `nas_bo.seeds`).
        rate: the step of Adam on the logits (Kingma and Ba 2015, betas 0.5 and 0.999 as in arXiv 1806.09055, A.1.1).
        regularise: pull of the logits to 0, as a factor: what keeps an early lead from deciding everything.
        warmup: share of the run in which the weights alone are trained.
        settled: share of the updates that is done when the weights are trained: the losses are then those of a
            finished supernet, and cheap.
        held_out: share of the training text for the architecture updates.
        most_skips: share of skips above which a distribution counts as collapsed if the loss alone pulls it there.
        cost: the cost to weigh, any objective that is analytic or has `predict`; None takes the first such objective
            of the problem.
        data, tokenizer: as in `nas_bo.model.load_corpus`; where both are None, the text of the problem's first
            objective that has one.
        device: a torch device; None is CUDA where there is one, else the CPU.
        checkpoint: a file for the result, so that processes share one search; None keeps it in memory only.
        ignore: top-level fields of the space that are the user's own; they stay uniform.
        vocab_size, token_dtype, text_key: as vocab_size, dtype and text_key in `nas_bo.model.load_corpus`.

    Raises:
        SearchError: a setting is out of range.
    """

    lambdas: tuple[float, ...] = (0.0, 0.02, 0.06, 0.12, 0.25, 0.5, 1.0, 2.5)
    tokens: float = checked(2_000_000, number(at_least=1))
    updates: int = checked(240, whole_number(1))
    seed: int = 0
    rate: float = checked(0.1, number(above=0))
    regularise: float = checked(1e-3, number(at_least=0, below=1))
    warmup: float = checked(0.4, number(at_least=0, at_most=1))
    settled: float = checked(0.5, number(at_least=0, at_most=1))
    held_out: float = checked(0.1, number(above=0, below=1))
    most_skips: float = checked(0.9, number(at_least=0, at_most=1))
    cost: Objective | None = None
    data: str | None = None
    tokenizer: str | None = None
    device: str | None = None
    checkpoint: str | None = None
    ignore: tuple[str, ...] = ()
    vocab_size: int | None = field(default=None, kw_only=True)
    token_dtype: str | None = field(default=None, kw_only=True)
    text_key: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_settings(self)
        object.__setattr__(self, "lambdas", _lambdas(type(self).__name__, self.lambdas))

    @abstractmethod
    def search(
        self,
        space: type[Space],
        corpus: Corpus | None = None,
        cost: Objective | Callable[[Architecture], float] | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> DartsResult:
        """Train weights and distributions."""

    def text(self) -> Corpus:
        """The corpus that `data` names (raises DataError)."""
        from nas_bo.model import load_corpus

        return load_corpus(self.data, self.tokenizer, self.vocab_size, dtype=self.token_dtype, text_key=self.text_key)


def _lambdas(kind: str, given: object) -> tuple[float, ...]:
    values = (given,) if isinstance(given, (int, float)) else tuple(given) if isinstance(given, (tuple, list)) else ()
    good = all(is_number(v) and v >= 0 for v in values)
    if not values or not good or len(set(values)) < len(values):
        raise SearchError(f"{kind}(lambdas={given!r}): give one or several different finite numbers of at least 0")
    return tuple(float(v) for v in values)


@runtime_checkable
class Costed(Protocol):
    """A cost that says what a value of it takes."""

    @property
    def cost(self) -> str: ...


def price_of(cost: object) -> Callable[[Architecture], float] | None:
    """What is cheap to compute of a cost: its `predict`, or itself. More is worse."""
    if cost is None:
        return None
    known = cost if isinstance(cost, Objective) else None
    sign = -1.0 if known is not None and known.direction == "maximize" else 1.0
    function: Callable[[Architecture], float]
    if isinstance(cost, Predicting):
        function, kind = cost.predict, "predict"
    elif callable(cost) and (not isinstance(cost, Costed) or cost.cost == "analytic"):
        function, kind = cost, ""
    else:
        said = f"{known.name!r} is {known.cost!r}" if known is not None else f"{cost!r:.60} is not analytic"
        raise SearchError(
            f"the cost {said} and has no predict; thousands of values are needed: take an analytic objective or one with predict, as "
            "Latency() or Parameters()"
        )
    if isinstance(cost, PassesOn):
        return lambda arch: sign * float(function(arch))
    return lambda arch: sign * float(once(owner_of(cost), function, arch, kind))
