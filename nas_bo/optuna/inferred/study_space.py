"""A study seen as trials of a space: the user's own, with other parameters next to it, or one learned from the study."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from nas_bo.architecture import Architecture
from nas_bo.errors import SpaceError
from nas_bo.optuna.bridge import architecture, distributions
from nas_bo.optuna.coding import Coding, coding, cover
from nas_bo.optuna.inferred.conditions import Plan, arrange
from nas_bo.optuna.inferred.tables import Table, Tally
from nas_bo.optuna.reading import STATES, from_frozen, trial_record
from nas_bo.problem import Problem
from nas_bo.space import Space
from nas_bo.space.domain import Domain
from nas_bo.space.extend import field_names, projected, rules_on_base
from nas_bo.space.neighbours import middle
from nas_bo.space.tree import Decision
from nas_bo.trial import ObjectiveSpec, Trial

MOST_PROPOSED = 256
KEPT_SPACES = 256  # derived spaces that are remembered; each study has a few

_made: OrderedDict[tuple[type[Space] | None, str], type[Space]] = OrderedDict()
_lock = threading.Lock()


def derived(base: type[Space] | None, fields: Mapping[str, Any]) -> type[Space]:
    """The space `base` with more fields; the same object for the same fields, since strategies remember by space.

    Rules of `base` still apply to architectures of `base`.
    """
    if base is not None and not fields:
        return base
    key = (base, repr(fields))
    with _lock:
        if key not in _made:
            if base is None:
                _made[key] = Space.of("OptunaParameters", **fields)
            else:
                _made[key] = Space.of(f"{base.title} and more", rules_on_base(base), **base._fields, **fields)
            while len(_made) > KEPT_SPACES:
                _made.popitem(last=False)
        return _made[key]


@dataclass(eq=False)
class View:
    """How trials of a study and architectures of `space` become each other.

    Attributes:
        base: the user's space, if any; a part of `space` or `space` itself.
        names: flat path in `space` -> the parameter in Optuna and its coding; without what `base` has.
        offered: the distributions by name, of the parameters that some trial had or that `base` can have.
        remembered: finished trials read before, for the objectives by whose names they were read.
        settled: the first trials of the study, as far as all have ended, for the same objectives; None where one is not of the space.
        proposed: what this process proposed for trials that may not have asked for all of it yet, by number.
        asking: held while a proposal is made, so that two threads of one process never get the same.
    """

    space: type[Space]
    base: type[Space] | None
    names: Mapping[str, tuple[str, Coding]]
    offered: Mapping[str, BaseDistribution]
    remembered: dict[tuple[ObjectiveSpec, ...], dict[int, Trial]] = field(default_factory=dict)
    settled: dict[tuple[ObjectiveSpec, ...], list[Trial | None]] = field(default_factory=dict)
    problems: dict[tuple[tuple[ObjectiveSpec, ...], type[Space]], Problem] = field(default_factory=dict)
    proposed: OrderedDict[int, Architecture] = field(default_factory=OrderedDict)
    asking: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def paths(self) -> dict[str, tuple[str, Coding]]:
        """Parameter in Optuna -> flat path and coding."""
        return {name: (path, code) for path, (name, code) in self.names.items()}

    def memory(self, cols: tuple[ObjectiveSpec, ...]) -> dict[int, Trial]:
        """The trials that were read before, by number, for `trial`."""
        return self.remembered.setdefault(cols, {})

    def trial(
        self, frozen: FrozenTrial, cols: Sequence[ObjectiveSpec], memory: dict[int, Trial], partly: bool = False
    ) -> Trial | None:
        """A trial of the study as one of nas_bo, None when it is none of the space.

        What a finished trial did not ask for, though its kind usually does, counts as the middle of its range; with
        `partly` the same holds for running ones.
        """
        ours = memory.get(frozen.number)
        if ours is not None or frozen.state not in STATES:
            return ours
        finished = frozen.state.is_finished()
        with suppress(SpaceError, ValueError):  # ValueError: Optuna's own, for a value outside a distribution
            ours = self._read(frozen, cols, finished or partly)
        known = None if finished or ours is not None else self.proposed.get(frozen.number)
        if known is not None:
            return Trial(known, {}, {}, STATES[frozen.state], number=frozen.number)
        if finished and ours is not None:
            memory[frozen.number] = ours
        return ours

    def propose(self, number: int, arch: Architecture) -> Architecture:
        """Remember `arch` for threads that ask while trial `number` has given only a part of it to the study; under `asking`."""
        self.proposed[number] = arch
        while len(self.proposed) > MOST_PROPOSED:
            self.proposed.popitem(last=False)
        return arch

    def _read(self, frozen: FrozenTrial, cols: Sequence[ObjectiveSpec], partly: bool) -> Trial | None:
        if self.base is not None:
            own = from_frozen(frozen, self.base, cols)
            if own is None:
                return None
            told = {name: {"value": value, **own.info.get(name, {})} for name, value in own.values.items()}
            own = replace(own, info={**own.info, **told})
            if self.base is self.space:
                return own
            flat = dict(own.architecture.flat)
        else:
            flat, own = {}, None
            if not any(name in self.paths for name in frozen.params):
                return None
        flat |= self.flat(frozen.params)
        arch = self.space.decide(partial(_value, flat, partly))
        if own is not None:
            return replace(own, architecture=arch)
        return trial_record(frozen, cols).trial(arch)

    def flat(self, params: Mapping[str, object]) -> dict[str, Any]:
        """Those of `params` that this view names, by flat path."""
        known = ((self.paths[name], value) for name, value in params.items() if name in self.paths)
        return {path: code.encode(value) for (path, code), value in known}

    def fixed(self, params: Mapping[str, object]) -> dict[str, Any]:
        """What is set in advance, by flat path; values that do not fit are skipped, as in Optuna."""
        found = {}
        for name, value in params.items():
            ours = {name: value} if self.base is not None and name in self.base.decisions() else {}
            with suppress(SpaceError, ValueError, TypeError):
                for path, known in (ours or self.flat({name: value})).items():
                    found[path] = self.space.decisions()[path].domain.canonical(known)
        return found

    def project(self, arch: Architecture) -> Architecture:
        """The part of an architecture that the user's own space, rules and objectives know."""
        return arch if self.base is None or self.base is self.space else projected(self.base, arch)

    def params(self, arch: Architecture) -> dict[str, Any]:
        """An architecture as parameters for Optuna; some may be unknown to the study so far."""
        found = {}
        for path, value in arch.flat.items():
            name, code = self.names.get(path, (path, None))
            found[name] = value if code is None else code.decode(value)
        return found


def _value(flat: Mapping[str, object], partly: bool, path: str, domain: Domain) -> Any:
    if path in flat:
        return flat[path]
    if not partly:
        raise SpaceError(f"{path!r} was not asked for yet")
    return middle(domain)


class Evidence:
    """The parameters of a study's complete trials, and the view that they lead to; a memo, never more.

    The view depends on the set of complete trials only, not on the order in which they were read.
    """

    def __init__(self, base: type[Space] | None) -> None:
        self.base = base
        self.hints: OrderedDict[int, dict[str, object]] = OrderedDict()  # proposals that no trial had before, by trial
        self._own = {} if base is None else distributions(base)
        self._read: set[int] = set()
        self._settled = 0  # so many of the first trials have ended and were looked at
        self._dists: dict[str, BaseDistribution | None] = {}
        self._codings: dict[str, tuple[BaseDistribution, Coding | None]] = {}
        self._first: dict[str, tuple[int, int]] = {}  # the trial and the place in it where a name occurred first
        self._tally = Tally()
        self._view: View | None = None
        self._key = ""
        self._lock = threading.RLock()

    def view(self, trials: Sequence[FrozenTrial]) -> View:
        """The view that the complete ones of `trials` lead to."""
        with self._lock:
            first = self._settled  # 0 where these are not all trials from the first one on
            first = first if 0 < first <= len(trials) and trials[first - 1].number == first - 1 else 0
            new = [t for t in trials[first:] if t.state is TrialState.COMPLETE and t.number not in self._read]
            for trial in trials[first:]:
                if trial.number != self._settled or not trial.state.is_finished():
                    break
                self._settled += 1
            for trial in new:
                self._add(trial)
            if new or self._view is None:
                table, given = self._table()
                names = () if self.base is None else {*field_names(self.base), *(r.name for r in self.base.rules())}
                try:
                    self._set(arrange(table, names, given), table)
                except Exception:
                    self._view = None  # it must fail in the same way in every process
                    raise
            assert self._view is not None
            return self._view

    def _add(self, trial: FrozenTrial) -> None:
        self._read.add(trial.number)
        if self.base is not None:
            try:
                architecture(self.base, trial.params)
            except SpaceError:
                return
        for place, name in enumerate(trial.params):
            dist = trial.distributions[name]
            known = self._dists.setdefault(name, dist)
            if known is not None and known != dist and name not in self._own:
                self._dists[name] = cover((known, dist))
            self._first[name] = min((trial.number, place), self._first.get(name, (trial.number, place)))
        self._tally.add({name: trial.distributions[name].to_internal_repr(v) for name, v in trial.params.items()})

    def _table(self) -> tuple[Table, dict[str, str]]:
        """The parameters that are not the space's own, after those of its top level, on which they may depend."""
        given: dict[str, str] = {}
        codings: dict[str, Coding] = {}
        if self.base is not None:
            for name, item in self.base._level.fields:
                if isinstance(item, Decision) and not self._own[name].single():
                    given[name], codings[name] = name, Coding(self._own[name], item.domain)
        for name in sorted(self._dists, key=self._first.__getitem__):
            dist = self._dists[name]
            code = None if name in self._own or dist is None else self._coding(name, dist)
            if code is not None:
                codings[name] = code
        return self._tally.table(codings), given

    def _coding(self, name: str, dist: BaseDistribution) -> Coding | None:
        before = self._codings.get(name)
        if before is None or before[0] is not dist:
            before = self._codings[name] = dist, coding(dist)
        return before[1]

    def _set(self, plan: Plan, table: Table) -> None:
        key = repr((plan.fields, [(path, name, code.distribution) for path, name, code in plan.leaves]))
        if self._view is not None and key == self._key:
            return
        names = {path: (name, code) for path, name, code in plan.leaves}
        known = dict(zip(table.names, table.codings, strict=True))
        offered = {name: known[name].distribution for name, _ in names.values() if name in known}
        self._view = View(derived(self.base, plan.fields), self.base, names, {**self._own, **offered})
        self._key = key

    def hint(self, number: int, values: dict[str, object]) -> None:
        with self._lock:
            self.hints[number] = values
            while len(self.hints) > 256:
                self.hints.popitem(last=False)


def flat_view(search_space: Mapping[str, BaseDistribution]) -> View:
    """The view of a search space that somebody else made up: everything always exists."""
    known = {name: code for name, dist in sorted(search_space.items()) if (code := coding(dist)) is not None}
    plan = arrange(Table(tuple(known), tuple(known.values()), 1, np.ones(len(known), dtype=int), {}))
    names = {path: (name, code) for path, name, code in plan.leaves}
    return View(derived(None, plan.fields), None, names, dict(search_space))
