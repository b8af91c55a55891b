"""What an architecture has still to gain when its run is stopped early, by its size and depth.

Larger and deeper models fall behind what they will be: they learn on for longer (in the picture of Kaplan et al. 2020,
arXiv 2001.08361, section 5, the loss of a small model flattens first). A loss taken early therefore ranks small and
shallow models too high. `Growth` takes off what is still to come, relative to a model of middle size:

    log(1 / share) * (flops * log(F / F0) + depth * log(L / L0))        bits per byte

F floating-point operations per token of a forward pass, L layers, share the part of the run that is done.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from nas_bo.architecture import Architecture
from nas_bo.errors import ObjectiveError
from nas_bo.validated import check_fields, checked, number

MIDDLE_FLOPS = 1.8e5  # per token, the middle of the default space; only a shift of all values
MIDDLE_DEPTH = 2.6


@dataclass(frozen=True)
class Growth:
    """A correction of early losses; see above. It leaves a loss at the end of a run alone.

    Args:
        flops, depth: bits per byte that a model e times as costly, or as deep, gains beyond the others while the
            tokens grow e-fold. The defaults were fitted to 32 architectures of the default space, three seeds, in runs
            of 500,000 tokens of the default recipe; elsewhere they are a guess. 0 leaves that part out.
    """

    flops: float = checked(0.075, number())
    depth: float = checked(0.065, number())

    def __post_init__(self) -> None:
        check_fields(self, ObjectiveError)

    def conditions(self) -> dict[str, object]:
        """What must not change while a study continues."""
        return {"flops": self.flops, "depth": self.depth}

    def __call__(
        self, arch: Architecture, share: float, vocab_size: int, sequence: int = 64, ignore: Collection[str] = ()
    ) -> float:
        """Bits per byte to take off a loss after `share` of the run; negative for models below the middle."""
        from nas_bo.model import counts
        from nas_bo.model.spec import check

        per_token = counts.flops(arch, vocab_size, sequence, ignore=ignore) / sequence
        layers = max(1, len(check(arch, ignore).layers))
        size = self.flops * math.log(per_token / MIDDLE_FLOPS) + self.depth * math.log(layers / MIDDLE_DEPTH)
        return math.log(1 / share) * size
