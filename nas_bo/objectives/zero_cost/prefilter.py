"""A cheap score as a filter before training: the limit is a quantile of random architectures."""

from __future__ import annotations

from dataclasses import is_dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from nas_bo.errors import ObjectiveError
from nas_bo.objective import AtLeast, AtMost
from nas_bo.seeds import generator_of
from nas_bo.validated import check_values, number, whole_number

if TYPE_CHECKING:
    from nas_bo.objective import Objective
    from nas_bo.seeds import Seed
from nas_bo.space import Space
from nas_bo.wording import counted

ATTEMPTS = 50  # draws per architecture wanted, before a space counts as too small

Kept = TypeVar("Kept", bound="Objective")


def quantile_limit(objective: Kept, space: type[Space], q: float = 0.25, n: int = 40, seed: Seed = 0) -> Kept:
    """The objective with a limit that turns away the worst share `q` of random architectures of the space.

    Evaluates `objective` on `n` different architectures and sets ``at_least`` (``at_most`` if it is minimised) to the
    quantile. Pass the result among the ``limits`` of a `Problem`: an architecture beyond it is never trained. Check
    first that the score ranks as the training does in this space: a filter with the wrong sign turns away the best.

    Raises:
        ObjectiveError: q or n out of range, an objective that is not a dataclass with limits, fewer than `n` architectures
            in the space, or a score that is the same for all of them.
    """
    share = number(above=0, below=1).advise("it is the share to turn away")
    check_values("quantile_limit", ObjectiveError, share, q=q)
    check_values("quantile_limit", ObjectiveError, whole_number(4).advise("40 is the default"), n=n)
    if not is_dataclass(objective) or not (isinstance(objective, AtLeast) and isinstance(objective, AtMost)):
        raise ObjectiveError(
            f"quantile_limit: {objective!r:.80} has no at_least and at_most to set; wrap it in nas_bo.problem.Function"
        )
    archs, rng = {}, generator_of(seed, "quantile_limit", ObjectiveError)
    for _ in range(ATTEMPTS * n):
        arch = space.sample(rng)
        archs[arch.id] = arch
        if len(archs) == n:
            break
    else:
        raise ObjectiveError(
            f"quantile_limit(n={n}): only {counted(len(archs), 'different architecture')} came out of {ATTEMPTS * n} draws from "
            f"{space.__name__}; ask for fewer"
        )
    from nas_bo.objective import value_of

    values = np.array([float(value_of(objective, arch)) for arch in archs.values()])
    if not np.isfinite(values).all():
        raise ObjectiveError(
            f"quantile_limit: {objective.name} is not finite for {(~np.isfinite(values)).sum()} of {counted(n, 'architecture')}; "
            "use another score for this space"
        )
    if values.min() == values.max():
        raise ObjectiveError(
            f"quantile_limit: {objective.name} is {values[0]:g} for all of {counted(n, 'architecture')}, so it can turn none away; "
            "use another score for this space"
        )
    maximised = objective.direction == "maximize"
    bound = float(f"{np.quantile(values, q if maximised else 1 - q):.6g}")  # short, since limits are known by name
    changes: dict[str, float] = {"at_least" if maximised else "at_most": bound}
    return replace(objective, **changes)
