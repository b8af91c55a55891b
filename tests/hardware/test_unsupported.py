"""What cannot run somewhere is an infeasible trial with the reason, in a search as well."""

from __future__ import annotations

from nas_bo import search
from nas_bo.errors import Unsupported
from nas_bo.problem import Problem
from nas_bo.search_spaces import TinyGPT
from nas_bo.strategies import Random
from nas_bo.trial import State


def only_one_layer(arch) -> float:
    if arch.depth > 1:
        raise Unsupported(f"{arch.depth} layers do not fit")
    return float(arch.width)


def test_an_unsupported_architecture_is_infeasible_with_the_reason_and_the_search_goes_on(tmp_path):
    deep = next(a for a in (TinyGPT.sample(s) for s in range(50)) if a.depth == 3)
    trial = Problem(TinyGPT, [only_one_layer]).evaluate(deep)
    assert trial.state is State.INFEASIBLE and trial.reason == "only_one_layer: 3 layers do not fit"
    result = search(TinyGPT, [only_one_layer], strategy=Random(seed=0), trials=12, storage=f"sqlite:///{tmp_path}/s.db")
    states = {t.state for t in result.trials}
    assert states == {State.COMPLETE, State.INFEASIBLE} and result.front
    assert all("layers do not fit" in t.reason for t in result.trials if t.state is State.INFEASIBLE)
