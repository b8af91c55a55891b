"""What processes do that search one study at the same moment; importable by them."""

from __future__ import annotations

from typing import Any

WAITS: list[Any] = []  # a barrier: the first evaluation of each process waits for that of the others


def met(arch: Any) -> float:
    """An objective that ends only when all processes have begun a trial."""
    while WAITS:
        WAITS.pop().wait(300)
    return float(arch.depth)


def search_at_once(storage: str, trials: int, barrier: Any) -> None:
    """A search of a study that others start in the same moment."""
    import optuna

    from nas_bo import search
    from nas_bo.objectives import Parameters
    from nas_bo.search_spaces import TinyGPT
    from nas_bo.strategies import Random

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    barrier.wait(300)
    WAITS.append(barrier)
    search(TinyGPT, [Parameters(), met], strategy=Random(seed=0), trials=trials, storage=storage, retrain=0)
