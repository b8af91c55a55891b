"""An executor that kills its driver when an evaluation has ended and nothing of it is stored yet."""

from __future__ import annotations

import os
import signal
from typing import Any

from nas_bo.testing.evaluations import loss


def killing(kind: type[Any], after: int) -> type[Any]:
    """An executor that, instead of giving the outcome number `after`, waits until all that was submitted has ended, and ends its process."""

    class Killing(kind):
        submitted = taken = 0

        def submit(self, *evaluation: Any, **more: Any) -> None:
            self.submitted += 1
            super().submit(*evaluation, **more)

        def take(self) -> Any:
            found = super().take()
            self.taken += 1
            if self.taken == after:
                while self.taken < self.submitted:
                    super().take()
                    self.taken += 1
                os.kill(os.getpid(), signal.SIGKILL)
            return found

    return Killing


class Logged:
    """Leaves a line with its budget and the architecture for each evaluation that comes to its end."""

    name, unit, direction, cost = "loss", "nats", "minimize", "trained"

    def __init__(self, log: str, budget: float = 1.0) -> None:
        self.log, self.budget = log, budget

    def __call__(self, arch: Any) -> float:
        with open(self.log, "a") as log:
            log.write(f"{self.budget:g} {arch.id}\n")
        return float(loss(arch)) / self.budget

    def larger(self, factor: float) -> Logged:
        return Logged(self.log, factor)
