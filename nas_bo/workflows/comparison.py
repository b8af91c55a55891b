"""Fronts of several studies side by side: one reference point, who dominates whom, and the front of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nas_bo.errors import SearchError
from nas_bo.hardware.measuring.scale import fastest, rescaled, said, trials_on_scale
from nas_bo.report.progress import reference, volume
from nas_bo.spelling import current, spelled
from nas_bo.trial import ObjectiveSpec, Trial, matrix, non_dominated
from nas_bo.workflows.result import Result

IGNORED = ("seed",)  # conditions in which studies of one objective may differ: luck is what a comparison is about


@dataclass(frozen=True)
class Front:
    """The front of one study among others.

    Attributes:
        members: best in the first objective first.
        common: which of them are on the front of all studies.
        dominated_by: for each member the index of a study and the trial that dominate it, None where nothing does.
        hypervolume: None for one objective.
    """

    members: Sequence[Trial]
    common: Sequence[bool]
    dominated_by: Sequence[tuple[int, Trial] | None]
    hypervolume: float | None


@dataclass(frozen=True)
class Comparison:
    """Studies of the same objectives, compared.

    Attributes:
        again: the values are those after re-training, of all studies; else those of the search, of all.
        reference: of every hypervolume here, by objective in its own direction: a tenth beyond the worst value on any front.
        notes: what was done to values, to make them comparable.
        covered: covered[i][j] is the share of the front of study j that some member of the front of study i dominates.
    """

    results: Sequence[Result]
    columns: Sequence[ObjectiveSpec]
    again: bool
    reference: Mapping[str, float] | None
    fronts: Sequence[Front]
    covered: Sequence[Sequence[float]]
    notes: Sequence[str] = ()


def compare(results: Sequence[Result]) -> Comparison:
    """Compare studies, also of different spaces.

    Raises:
        SearchError: fewer than two, objectives that differ or were obtained differently, or a study without feasible trials.
    """
    if len(results) < 2:
        raise SearchError("a comparison needs at least two studies; give two storages, or STORAGE::STUDY twice")
    columns = results[0].columns
    for other in results[1:]:
        _same(results[0], other)
    for one in results:
        if not one.front:
            raise SearchError(
                f"the study {one.title!r} has no feasible trial, so there is no front to compare; leave it out"
            )
    results, notes = _on_one_scale(results)
    finals = [one.final for one in results]
    again = (
        len({(tuple(spelled(n, columns) for n in f.again), f.factor) for f in finals}) == 1
        and bool(finals[0].again)
        and all(f.members for f in finals)
    )
    members = [list(f.members) if again else one.front for f, one in zip(finals, results, strict=True)]
    points = [matrix(one, columns) for one in members]
    worst = reference([t for one in members for t in one], columns)
    whole = non_dominated(np.concatenate(points))
    fronts, at = [], 0
    for i, chosen in enumerate(members):
        common = whole[at : at + len(chosen)]
        at += len(chosen)
        by = [_dominating(p, i, points, members) for p in points[i]]
        fronts.append(Front(chosen, [bool(c) for c in common], by, volume(points[i], worst)))
    covered = [[float(np.mean([_dominates(a, p) for p in b])) for b in points] for a in points]
    named = None if worst is None else {c.name: c.sign * w for c, w in zip(columns, worst, strict=True)}
    return Comparison(results, columns, again, named, fronts, covered, notes)


def _on_one_scale(results: Sequence[Result]) -> tuple[list[Result], list[str]]:
    """What was measured on one machine is reported by the fastest speed that any of the studies believed of it."""
    infos = [x.info for one in results for x in one.trials] + [x.info for one in results for x in one.retrained]
    scale = fastest(i for one in infos for i in one.values())
    found, notes = [], []
    for one in results:
        trials, factors = trials_on_scale(one.trials, scale)
        again = [rescaled(r.values, r.info, scale) for r in one.retrained]
        factors += [factor for *_, more in again for factor in more]
        retrained = [replace(r, values=v, info=i) for r, (v, i, _) in zip(one.retrained, again, strict=True)]
        found.append(replace(one, trials=trials, retrained=retrained))
        notes += [f"{one.title}: {sentence}" for sentence in said(factors)]
    return found, notes


def _dominates(points: np.ndarray, p: np.ndarray) -> bool:
    return bool((np.all(points <= p, axis=1) & np.any(points < p, axis=1)).any())


def _dominating(
    p: np.ndarray, own: int, points: Sequence[np.ndarray], members: Sequence[Sequence[Trial]]
) -> tuple[int, Trial] | None:
    for i, others in enumerate(points):
        better = np.flatnonzero(np.all(others <= p, axis=1) & np.any(others < p, axis=1))
        if i != own and len(better):
            return i, members[i][int(better[0])]
    return None


def _same(first: Result, other: Result) -> None:
    """Raise SearchError where the numbers of two studies do not mean the same."""
    names = [[(current(c), c.direction) for c in one.columns] for one in (first, other)]
    if names[0] != names[1]:
        said = [", ".join(f"{name} ({direction})" for name, direction in one) for one in names]
        raise SearchError(
            f"the studies {first.title!r} and {other.title!r} have different objectives, {said[0]} against {said[1]}, so their fronts "
            "cannot be compared; compare studies of the same objectives, in the same order"
        )
    conditions = [{} if one.record is None else one.record.conditions for one in (first, other)]
    for name, _ in names[0]:
        before, after = (one.get(spelled(name, one), {}) for one in conditions)
        for what in dict.fromkeys([*before, *after]):
            if what not in IGNORED and before and after and before.get(what) != after.get(what):
                raise SearchError(
                    f"{name} is not the same in both studies: in {first.title!r} it has {what} = {_short(before.get(what))}, in "
                    f"{other.title!r} {_short(after.get(what))}. Such values do not compare; search again in the same way"
                )


def _short(value: object) -> str:
    return f"{value!r:.60}"
