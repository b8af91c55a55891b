"""A clock that no other work disturbs: what a real model is told to do, counted."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from torch.utils.flop_counter import FlopCounterMode


class Work:
    """Milliseconds of a model of torch: 0.01 for the start of each module, and 0.1 ns for an operation, with made-up noise."""

    kind, said = "thread", "operations"

    def __init__(self, noise: float = 0.0) -> None:
        self.rng, self.noise = random.Random(0), noise
        self._known: dict[Any, float] = {}

    def __call__(self, run: Callable[[], Any]) -> tuple[float, float]:
        prepared = run.__self__  # type: ignore[attr-defined]
        if prepared not in self._known:
            with FlopCounterMode(display=False) as counted:
                run()
            starts = prepared.steps * sum(1 for _ in prepared._model.modules())
            self._known[prepared] = 0.01 * starts + 1e-7 * counted.get_total_flops()
        return self._known[prepared] * (1 + self.noise * self.rng.uniform(-1, 1)), 1.0
