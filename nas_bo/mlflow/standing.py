"""Which trials are on the front, and how best values, size and volume of it grew; kept trial by trial.

Every trial costs one comparison with the front, so that a long study is followed as cheaply as a short one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from nas_bo.mlflow.content import clean
from nas_bo.mlflow.presentation import MOST_STEPS
from nas_bo.report.progress import ENOUGH, MOST_OBJECTIVES, beyond, volume
from nas_bo.trial import ObjectiveSpec

VOLUME = "study/hypervolume"


class Standing:
    """The front of a study while it grows.

    Attributes:
        known: trials that were added, feasible or not.
        front: trial number -> values of the trials on the front, to be minimised.
        reference: the reference point of the hypervolume, that of `nas_bo.report.progress.reference`; None before it is
            known.
        after: the last trial whose step was logged.
    """

    def __init__(self, columns: Sequence[ObjectiveSpec]) -> None:
        self.columns = list(columns)
        self.known: set[int] = set()
        self.front: dict[int, np.ndarray] = {}
        self.reference: list[float] | None = None
        self.after = -1
        self._marks: dict[int, bool] = {}
        self._waiting: list[tuple[int, np.ndarray]] = []  # feasible trials whose step is not logged yet
        self._first: dict[int, np.ndarray] = {}
        self._told: list[np.ndarray] = []  # the front as of the last step logged
        self._unsized: list[tuple[int, np.ndarray]] = []  # fronts whose hypervolume is not logged yet
        self._feasible = 0

    def admits(self, point: Sequence[float] | None) -> bool:
        """Whether a trial with this point would be on the front."""
        if point is None:
            return False
        new = np.asarray(point, dtype=float)
        return not any(np.all(p <= new) for p in self.front.values())

    def add(self, number: int, point: Sequence[float] | None) -> None:
        """Add a trial; one without a point is on no front. Of equal points the lowest number counts."""
        if number in self.known:
            return
        self.known.add(number)
        if point is None or len(point) != len(self.columns):
            return
        new = np.asarray(point, dtype=float)
        self._feasible += 1
        if self.reference is None:
            self._first[number] = new
        self._waiting.append((number, new))
        for other, p in self.front.items():
            if np.all(p <= new) and (np.any(p < new) or other < number):
                return
        for other in [n for n, p in self.front.items() if np.all(new <= p)]:
            del self.front[other]
            self._marks[other] = False
        self.front[number] = new
        self._marks[number] = True

    @contextmanager
    def telling(self) -> Iterator[None]:
        """What was asked for inside of this, and could not be logged, is asked for again later."""
        kept = (self._marks, list(self._waiting), list(self._told), self.reference, self.after)
        try:
            yield
        except BaseException:
            self._marks, self._waiting, self._told, self.reference, self.after = kept
            raise

    def marks(self) -> dict[int, bool]:
        """Whether it is on the front, of the trials for which that has changed since this was asked."""
        made, self._marks = self._marks, {}
        return made

    def resume(self, after: int, reference: Sequence[float] | None) -> None:
        """Continue where another process has stopped telling."""
        self.after = max(self.after, after)
        if reference is not None and len(reference) == len(self.columns):
            self.reference = [float(x) for x in reference]

    def steps(self, last: bool = False) -> list[tuple[str, float, int]]:
        """Metrics of the study that are new, as (name, value, trial number); a hypervolume once there is a reference point.

        A trial that ends after one with a higher number has no step of its own; it counts in those that follow.

        Args:
            last: take the reference point from what there is.
        """
        made: list[tuple[str, float, int]] = []
        every = max(1, self._feasible // MOST_STEPS)
        self._waiting.sort(key=lambda pair: pair[0])
        for i, (number, point) in enumerate(self._waiting):
            changed = not any(np.all(p <= point) for p in self._told)
            if changed:
                self._told = [p for p in self._told if not np.all(point <= p)] + [point]
            if number > self.after and (changed or i % every == 0 or i == len(self._waiting) - 1):
                made += self._step(number)
                self.after = number
        self._waiting.clear()
        first = sorted(self._first)[:ENOUGH]
        if self.reference is None and first and (last or self._settled(first)):
            self.reference = beyond(np.asarray([self._first[number] for number in first]))
        if self.reference is not None:
            for number, points in self._unsized:
                size = volume(points, self.reference)
                if size is not None:
                    made.append((VOLUME, size, number))
            self._unsized.clear()
        return made

    def _settled(self, first: Sequence[int]) -> bool:
        """Whether no trial that is still to end can be among the first ones."""
        return len(first) >= ENOUGH and self.known.issuperset(range(first[-1]))

    def _step(self, number: int) -> list[tuple[str, float, int]]:
        points = np.asarray(self._told)
        best = points.min(0)
        made = [(clean(f"study/best_{c.name}"), float(c.sign * best[j]), number) for j, c in enumerate(self.columns)]
        if len(self.columns) > 1:
            made.append(("study/n_pareto", float(len(points)), number))
            if len(self.columns) <= MOST_OBJECTIVES:
                self._unsized.append((number, points))
        return made
