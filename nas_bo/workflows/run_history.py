"""The trials of a study that grows: each is read once, and the front is brought up to date by the new ones only.

So what a search does after a trial takes as long after the first as after the ten thousandth, but for lists that are handed on.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Sequence
from typing import cast

import numpy as np

from nas_bo import process
from nas_bo.architecture import Architecture
from nas_bo.execution.interrupts import whole
from nas_bo.hardware.measuring.scale import Known, fastest, seen_on, trials_on_scale
from nas_bo.optuna.heartbeat import silent
from nas_bo.optuna.reading import FrozenTrial, Study, from_frozen
from nas_bo.optuna.running import RELEASED
from nas_bo.problem import Problem
from nas_bo.strategies.strategy import Growing
from nas_bo.study import OWNER
from nas_bo.trial import ObjectiveSpec, State, Trial, front, matrix
from nas_bo.workflows.nodes import Nodes


class GrowingFront:
    """`nas_bo.trial.front` of trials that are added one by one, in whatever order.

    Attributes:
        members: the front, best in the first objective first.
    """

    def __init__(self, columns: Sequence[ObjectiveSpec]) -> None:
        self._columns = columns
        self._rows: list[tuple[tuple[float, ...], int, Trial]] = []  # values to be minimised, place, trial; sorted

    @property
    def members(self) -> list[Trial]:
        return [trial for _, _, trial in self._rows]

    def add(self, place: int, trial: Trial) -> None:
        """Of trials of equal values that of the smallest `place` counts."""
        if not trial.feasible:
            return
        point = matrix([trial], self._columns)[0]
        if self._rows:
            known = np.array([row[0] for row in self._rows])
            same = (known == point).all(1)
            if ((known <= point).all(1) & ~same).any():
                return
            if same.any():
                if self._rows[int(same.argmax())][1] <= place:
                    return
                gone = same
            else:
                gone = (known >= point).all(1)
            if gone.any():
                self._rows = [row for row, out in zip(self._rows, gone, strict=True) if not out]
        insort(self._rows, (tuple(point.tolist()), place, trial), key=lambda row: row[:2])

    def renew(self, trials: Sequence[Trial | None]) -> None:
        """The front of these, by place."""
        known = {id(t): place for place, t in enumerate(trials) if t is not None}
        best = front([t for t in trials if t is not None], self._columns)
        self._rows = [(tuple(matrix([t], self._columns)[0].tolist()), known[id(t)], t) for t in best]


class RunHistory:
    """The trials of a study as trials of nas_bo, as they were at the last `look`, on one scale of times.

    Attributes:
        count: of all trials, waiting ones included.
        finished, failed: how many have ended, and how many of these failed.
        waiting: the numbers of the enqueued ones that nobody has taken, in the order in which they will be.
        running: those that somebody evaluates, as the host has them.
        hopeful: whether one has ended otherwise than by failing.
        nodes: of a cluster, with what has ended there.
    """

    def __init__(self, study: Study, problem: Problem) -> None:
        self._study, self._problem = study, problem
        self.count = self.finished = self.failed = 0
        self.waiting: list[int] = []
        self.running: list[FrozenTrial] = []
        self.hopeful = False
        self.nodes = Nodes()
        self._numbers: list[int] = []
        self._raw: list[Trial | None] = []  # as they were stored; None where it is not an architecture of the space
        self._scaled: list[Trial | None] = []
        self._origin = object()  # of histories that begin alike
        self._none: set[int] = set()  # the places of those that are None
        self._places: dict[str, list[int]] = {}  # by the id of the architecture
        self._open: list[int] = []  # places of trials that had not ended
        self._first: dict[tuple[str, tuple[tuple[int, float], ...]], int] = {}  # where a scale was reported first
        self._scale: dict[str, Known] = {}
        self._front = GrowingFront(problem.columns)
        self._looking = threading.Lock()

    def look(self) -> None:
        """Read what is new; threads may call it."""
        with whole(), self._looking:
            self._look()

    def _look(self) -> None:
        trials = self._study.get_trials(deepcopy=False)
        new = range(self.count, len(trials))
        self._raw += [None] * len(new)
        self._scaled += [None] * len(new)
        self._numbers += [trials[place].number for place in new]
        places, self._open = [*self._open, *new], []
        self.count, self.waiting, self.running, ended = len(trials), [], [], []
        for place in places:
            frozen = trials[place]
            found = from_frozen(frozen, self._problem.space, self._problem.columns)
            if found is not None and self._raw[place] is None:
                self._places.setdefault(found.architecture.id, []).append(place)
            (self._none.add if found is None else self._none.discard)(place)
            self._raw[place] = self._scaled[place] = found
            if frozen.state.is_finished():
                ended.append(place)
                self.failed += found is not None and found.state is State.FAILED
                if found is not None:
                    self.nodes.ended(found.place, found.state is State.FAILED)
                self.hopeful = self.hopeful or (found is not None and found.state is not State.FAILED)
            else:
                self._open.append(place)
                if frozen.state.name == "WAITING":
                    self.waiting.append(frozen.number)
                else:
                    self.running.append(frozen)
        self.finished += len(ended)
        self._admit(ended)

    def _admit(self, places: Sequence[int]) -> None:
        """Bring trials that have ended to one scale with the others, and the best of them to the front."""
        noted = [
            (key, place)
            for place in places
            if (trial := self._raw[place]) is not None
            for info in trial.info.values()
            for key in seen_on(info)
        ]
        earlier = [(key, place) for key, place in noted if place < self._first.get(key, self.count)]
        if earlier:
            for key, place in earlier:
                self._first[key] = min(place, self._first.get(key, place))
            reported = (self._raw[place] for place in sorted(set(self._first.values())))
            scale = fastest(info for trial in reported if trial is not None for info in trial.info.values())
            if scale != self._scale:
                self._scale = scale
                self._origin = object()
                self._scaled = [None if t is None else trials_on_scale([t], scale)[0][0] for t in self._raw]
                self._front.renew(self._scaled)
                return
        for place in places:
            trial = self._raw[place]
            if trial is not None:
                scaled = trials_on_scale([trial], self._scale)[0][0] if self._scale else trial
                self._scaled[place] = scaled
                self._front.add(place, scaled)

    def counts(self) -> dict[str, int]:
        """How many trials have ended, failed, run, wait, and are lost: those that run for a process that is dead or gives no signs of life."""
        quiet = silent(self.running) - {RELEASED}
        owners = Counter(str(t.user_attrs.get(OWNER, "")) for t in self.running)
        lost = sum(n for by, n in owners.items() if by in quiet or process.is_dead(by))
        return {
            "ended": self.finished, "failed": self.failed, "running": len(self.running) - lost, "waiting": len(self.waiting),
            "lost": lost,
        }  # fmt: skip

    @property
    def trials(self) -> list[Trial]:
        """All that are architectures of the space, in the order of their numbers."""
        return [t for t in self._scaled if t is not None]

    def of(self, arch: Architecture) -> list[Trial]:
        """Those of this architecture, in the order of their numbers."""
        found = (self._scaled[place] for place in sorted(self._places.get(arch.id, ())))
        return [t for t in found if t is not None and t.architecture.id == arch.id]

    def before(self, number: int, window: int = 1) -> list[Trial]:
        """Those with smaller numbers; the last ``window - 1`` numbers count as running even if they have ended, where `window` is
        above 1."""
        end = bisect_left(self._numbers, number)
        known = cast(list[Trial], self._scaled[:end])
        if self._none:
            known = [t for t in known if t is not None]
        if window == 1:
            return known if self._none or self._open else Growing(known, self._origin)
        start = bisect_left(self._numbers, number - window + 1)
        late = [t for t in self._scaled[start:end] if t is not None]
        unknown = [Trial(t.architecture, state=State.RUNNING, number=t.number) for t in late]
        return known[: len(known) - len(late)] + unknown

    @property
    def front(self) -> list[Trial]:
        """Best in the first objective first."""
        return self._front.members
