"""Before the first trial: a few random architectures go through all that is cheap, so that what is wrong is reported once.

Rules, the label of the space, analytic objectives, estimates, and whether the models that objectives will build can be built.
What fails for every architecture is an error; what fails for some is a warning with their share. Nothing is measured or
trained, and no random number that a search uses is drawn.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from nas_bo.architecture import Architecture
from nas_bo.errors import ModelError, NasBoError, ObjectiveError, SpaceError
from nas_bo.objective import ChecksArchitecture, LimitViolated, Objective, Predicting, estimate_of, value_of
from nas_bo.problem import Problem
from nas_bo.space import Space
from nas_bo.wording import counted

_log = logging.getLogger(__name__)

DRAWN = 12  # architectures that the rules allow
TRIES = 200  # draws for them
LEAST, SECONDS = 3, 0.5  # expensive objectives see fewer: no further one is begun after this time
_said: set[tuple[str, str]] = set()


@dataclass
class _Found:
    """What came of one check: the first error, and how often. What is not fatal is a warning also where all fail."""

    what: str
    hint: str
    fatal: bool = True
    seen: int = 0
    failed: int = 0
    error: Exception | None = None
    kinds: set[str] = field(default_factory=set)


def check(problem: Problem, who: str, *, again: bool = False) -> None:
    """Try the cheap parts of `problem`.

    Args:
        who: the call that messages name, such as "search".
        again: the same problem may have been tried just before; what was reported then is not repeated.

    Raises:
        SpaceError, ModelError, ObjectiveError: something fails for every architecture.
    """
    if not again:
        _said.clear()
        problem.conditions()  # a missing corpus or device is reported by itself, not as something that fails for architectures
    from nas_bo.model.spec import check_own_counts

    space = problem.space
    found: dict[str, _Found] = {}
    archs = list(_drawn(space, found))
    began = time.perf_counter()
    for at, arch in enumerate(archs):
        if at >= LEAST and time.perf_counter() - began > SECONDS:
            break
        try:
            check_own_counts(arch)
        except ModelError as error:  # a fault of the block, however few architectures have it
            raise ModelError(f"{who}: {error}") from None
        for what, hint, fatal, one in _checks(problem):
            _try(found.setdefault(what, _Found(what, hint, fatal)), partial(one, arch))
    _judge(space, who, found)


def check_space(space: type[Space], who: str, ignore: tuple[str, ...] = ()) -> None:
    """The same where our decoder will be built of each architecture and there is no objective.

    Raises: as `check`.
    """
    from nas_bo.model.spec import check as spec

    found: dict[str, _Found] = {}
    for arch in _drawn(space, found):
        _try(found.setdefault("model", _Found("the model cannot be built", _RULE)), partial(spec, arch, ignore))
    _said.clear()
    _judge(space, who, found)


_RULE = "leave such architectures out with a rule (@require), or make them impossible by the structure of the space"
_MEND = "fix it, or leave such architectures out with a rule (@require)"
_STEER = "strategies do without it there; fix it"


def _checks(problem: Problem) -> Iterator[tuple[str, str, bool, Callable[[Architecture], object]]]:
    """(what fails, what to do then, whether it is fatal, what is tried)."""
    from nas_bo.report.labels import check_label

    yield "the label of the space fails", "fix it", True, partial(check_label, problem.space)
    for objective in problem.evaluated():
        name, fatal = objective.name, objective not in problem.proxies
        if isinstance(objective, ChecksArchitecture):
            yield f"the model of {name!r} cannot be built", _RULE, fatal, objective.check_architecture
        if objective.cost == "analytic":
            yield f"the analytic objective {name!r} fails", _MEND, fatal, partial(_finite, objective)
        elif isinstance(objective, Predicting):
            yield f"the estimate predict() of {name!r} fails", _STEER, False, partial(estimate_of, objective)


def _finite(objective: Objective, arch: Architecture) -> None:
    try:
        number = float(value_of(objective, arch))
    except LimitViolated:
        return
    if not math.isfinite(number):
        raise ObjectiveError(f"it is {number}, not a finite number")


def _try(found: _Found, call: Callable[[], object]) -> None:
    found.seen += 1
    try:
        call()
    except Exception as error:  # whatever a user's code raises
        found.failed += 1
        found.error = found.error or error
        found.kinds.add(_text(error))


def _drawn(space: type[Space], found: dict[str, _Found]) -> Iterator[Architecture]:
    """Random architectures within the rules; a rule that raises counts as failing and lets nothing pass."""
    rng, given = random.Random(0), 0
    for _ in range(TRIES):
        arch = space.decide(lambda _path, domain: domain.sample(rng))
        answers: list[bool] = []
        for rule in space.rules():
            kept = found.setdefault(f"rule {rule.name}", _Found(f"the rule {rule.name!r} fails", "fix it"))
            _try(kept, lambda: answers.append(rule.holds(arch)))  # noqa: B023  (called at once)
        if sum(answers) == len(space.rules()):
            yield arch
            given += 1
            if given == DRAWN:
                return


def _judge(space: type[Space], who: str, found: dict[str, _Found]) -> None:
    for one in found.values():
        if not one.failed or one.error is None:
            continue
        share = f"{one.failed} of {counted(one.seen, 'random architecture')} of {space.title}"
        if one.failed == one.seen and one.fatal:
            said = "the first error" if len(one.kinds) > 1 else "the error"
            raise _type(one.error)(
                f"{who}: {one.what} for all of {counted(one.seen, 'random architecture')} of {space.title}, so no trial could succeed; "
                f"{said}: {_text(one.error)}"
            ) from one.error
        then = "Their trials would fail; " if one.fatal else ""
        text = f"{one.what} for {share}: {_text(one.error)}. {then}{one.hint}"
        if (space.title, text) not in _said:
            _said.add((space.title, text))
            _log.warning("%s", text)


def _type(error: Exception) -> type[NasBoError]:
    return next((kind for kind in (SpaceError, ModelError) if isinstance(error, kind)), ObjectiveError)


def _text(error: Exception) -> str:
    said = str(error) if isinstance(error, NasBoError) else f"{type(error).__name__}: {error}"
    return " ".join(said.split())[:400]
