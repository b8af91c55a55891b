"""What a search is to be compared with: architectures that are evaluated with the same objectives and are not trials."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from nas_bo.architecture import Architecture
from nas_bo.errors import SearchError
from nas_bo.problem import Problem
from nas_bo.space import Space
from nas_bo.surrogate.genomes import genomes_of
from nas_bo.trial import Trial
from nas_bo.workflows.retraining_check import counted

if TYPE_CHECKING:
    from nas_bo.pretrained import SubModelLoss

DRAWN = 600  # architectures among which the largest and the smallest are looked for
WORDS = ("largest", "smallest")
STANDARD = "standard"
"""The standard design of the space, at sizes that are chosen when the front is there (`nas_bo.workflows.standard`)."""


@runtime_checkable
class _Inheriting(Protocol):
    """A loss of parts of a trained model, whose parts it has ordered by their importance."""

    def ordered(self) -> object: ...


def baselines(asked: object, problem: Problem, name: Callable[[Architecture], str]) -> dict[str, Architecture]:
    """Label -> architecture.

    Args:
        asked: None; "standard", which adds nothing here (see `wants_standard`); "largest" or "smallest" (the most or fewest parameters within the limits that are known beforehand); an
            architecture, or its flat values; a list of these; or a mapping of labels to these.
        name: architecture -> short name, the label of what has none.

    Raises:
        SearchError: it is none of these.
        SpaceError: an architecture is not of the space.
    """
    if asked is None or asked == STANDARD:
        return {}
    if (
        isinstance(asked, Mapping)
        and all(isinstance(v, (Mapping, Architecture, str)) for v in asked.values())
        and asked
    ):
        known = problem.space.domains()
        if not all(k in known for k in asked):
            return {str(label): _one(one, problem) for label, one in asked.items()}
    if isinstance(asked, Sequence) and not isinstance(asked, str):
        found: dict[str, Architecture] = {}
        for one in asked:
            found |= baselines(one, problem, name)
        return found
    arch = _one(asked, problem)
    return {asked if isinstance(asked, str) else name(arch): arch}


def wants_standard(asked: object) -> bool:
    """Whether the standard design is among what a search is to be compared with."""
    if isinstance(asked, Sequence) and not isinstance(asked, str):
        return any(wants_standard(one) for one in asked)
    return isinstance(asked, str) and asked == STANDARD


def _of_teacher(problem: Problem) -> SubModelLoss | None:
    """The loss of a search inside a trained model; nothing is imported for another search."""
    inherits = [one for one in problem.objectives if isinstance(one, _Inheriting)]
    if not inherits:
        return None
    from nas_bo.pretrained import SubModelLoss

    return next((one for one in inherits if isinstance(one, SubModelLoss)), None)


def comparable(problem: Problem) -> bool:
    """Whether a plain decoder trained from nothing compares with the architectures of `problem`: inside a trained model it does not."""
    return _of_teacher(problem) is None


def inside(problem: Problem) -> dict[str, Architecture]:
    """What a search inside a trained model is compared with: the whole of it, and its controls within the limits that are known beforehand; {}
    of another search."""
    loss = _of_teacher(problem)
    if loss is None:
        return {}
    from nas_bo.pretrained.controls import controls
    from nas_bo.pretrained.space import whole

    influence = loss.ordered().importance["layers", "layers"].scores.tolist()
    found = {f"{loss.teacher.name} (whole)": whole(problem.space)}
    return found | controls(problem.space, influence, problem.admissible)


def _one(asked: object, problem: Problem) -> Architecture:
    if isinstance(asked, str):
        if asked not in WORDS:
            raise SearchError(
                f"search(baseline={asked!r}): it is an architecture, its flat values, or one of the words {', '.join((STANDARD, *WORDS))}"
            )
        return extreme(problem, largest=asked == "largest")
    if not isinstance(asked, (Mapping, Architecture)):
        raise SearchError(
            f"search(baseline={asked!r}): it is an architecture, its flat values, or one of the words {', '.join((STANDARD, *WORDS))}"
        )
    return problem.space.architecture(asked)


def extreme(problem: Problem, *, largest: bool) -> Architecture:
    """The architecture with the most (or fewest) parameters among 600 that are admissible: random ones, and the ends of
    every ordered choice under each combination of the others that was drawn.

    Raises:
        SearchError: parameters cannot be counted, since the space is not of our decoder.
    """
    space: type[Space] = problem.space
    rng = random.Random(0)
    drawn = [space.sample(rng) for _ in range(DRAWN // 2)]
    if space.decisions():
        import numpy as np

        genomes = genomes_of(space)
        ends = genomes.tilted(DRAWN // 2, np.random.default_rng(0))
        top = np.where(genomes.real, 1.0, genomes.size - 1) if largest else np.zeros(len(genomes.paths))
        ends = np.where(genomes.ordered & (ends >= 0), top, ends)
        ends = genomes.complete(ends, np.random.default_rng(0))
        drawn += [genomes.decode(row) for row in np.unique(ends, axis=0)]
    sizes = [(counted(a), a) for a in drawn if space.contains(a) and problem.admissible(a)]
    known = [(size, a) for size, a in sizes if size is not None]
    if not known:
        raise SearchError(
            f"search(baseline={'largest' if largest else 'smallest'!r}): no architecture of {space.title} whose parameters can be "
            "counted is within the limits; give an architecture instead"
        )
    return (max if largest else min)(known, key=lambda pair: pair[0])[1]


def record(label: str, outcome: Trial) -> dict[str, object]:
    """What is kept of an evaluated baseline: JSON-safe."""
    return {
        "label": label,
        "id": outcome.architecture.id,
        "flat": dict(outcome.architecture.flat),
        "values": dict(outcome.values),
        "state": outcome.state.value,
        "reason": outcome.reason,
        "info": {name: dict(info) for name, info in outcome.info.items()},
        "seconds": round(outcome.seconds, 3),
    }
