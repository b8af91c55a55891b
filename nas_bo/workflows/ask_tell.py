"""AskTell: the search as an object that is asked for architectures and receives what became of them.

    opt = AskTell(TinyGPT, ["bits_per_byte", Parameters(at_most=200_000)], storage="study.db")
    asked = opt.ask()                        # asked.number, asked.architecture, asked.known["parameters"]
    opt.tell(asked.number, {"bits_per_byte": my_training(asked.architecture)})

Everything is in the study (an Optuna study, made as `search` makes it): several asks may be open at once, and the one
who tells may be another process, on another machine, tomorrow. `nas-bo ask` and `nas-bo tell` are this for shells.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, SupportsFloat

from nas_bo import optuna as door
from nas_bo.architecture import Architecture
from nas_bo.errors import SearchError, near
from nas_bo.execution import preflight
from nas_bo.objective import Objective, Reported
from nas_bo.optuna import studies
from nas_bo.optuna.reading import FrozenTrial
from nas_bo.optuna.storages import Storage
from nas_bo.problem import Problem
from nas_bo.seeds import Seed, whole_seed
from nas_bo.space import Space
from nas_bo.spelling import spelled
from nas_bo.strategies import Strategy
from nas_bo.trial import State, Trial
from nas_bo.workflows.about import about
from nas_bo.workflows.run_history import RunHistory
from nas_bo.workflows.search import Result, begun_strategy, load_result, short_name

_ASKING = threading.Lock()
REPEATED = 4  # proposals in turn of what is running already before the space counts as exhausted
REFUSED = 20  # points that break a rule (enqueued ones may) before asking gives up


@dataclass(frozen=True)
class Asked:
    """An architecture to evaluate.

    Attributes:
        number: that of its trial in the study; `AskTell.tell` wants it back.
        known: the objectives and limits that need no evaluation, by name, in their own units; they are not reported.
    """

    number: int
    architecture: Architecture
    known: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As plain data; ``Architecture.from_dict(data["architecture"])`` builds the architecture again."""
        arch = self.architecture
        return {"number": self.number, "id": arch.id, "known": dict(self.known), "architecture": arch.to_dict()}


class AskTell:
    """A search whose evaluations run elsewhere.

    Args:
        space: a subclass of `Space`.
        objectives: names of what you will tell (minimised; ``Reported("accuracy", direction="maximize")`` says more),
            and objectives of nas_bo or functions that are ``cost="analytic"``, which are computed when asked.
        limits: objectives that are not optimised, only kept within their bounds; `Reported` ones are reported as well.
        strategy: any object with ``suggest(problem, trials, n)``; by default "auto", as in `search`.
        storage, study_name, seed: as in `search`. Processes that share the study must share the storage.

    Raises:
        NasBoError: for whatever is wrong with the arguments or the storage, and for a study of another space or of
            other objectives.
    """

    def __init__(
        self,
        space: type[Space],
        objectives: Sequence[str | Objective | Callable[[Architecture], float]],
        *,
        limits: Sequence[Objective | Callable[[Architecture], float]] = (),
        strategy: Strategy | Literal["auto"] | None = None,
        storage: Storage | None = None,
        study_name: str | None = None,
        seed: Seed = 0,
    ) -> None:
        seed = whole_seed(seed, "AskTell")
        if isinstance(objectives, str):
            raise SearchError(f"AskTell(objectives={objectives!r}): it must be a list, even when there is only one")
        wanted = [Reported(o) if isinstance(o, str) else o for o in objectives]
        self.problem = Problem(space, wanted, limits)
        every = (*self.problem.objectives, *self.problem.limits)
        dear = [o.name for o in every if o.cost != "analytic" and not _told(o)]
        if dear:
            raise SearchError(
                f"AskTell cannot evaluate {dear[0]!r}: what is measured or trained is reported; give its name instead of the "
                "objective, or use search(), which evaluates"
            )
        preflight.check(self.problem, "AskTell")
        name = space.title + (f"-seed{seed}" if seed else "") if study_name is None else study_name
        self.problem = studies.as_begun(storage, name, self.problem)
        self.strategy = begun_strategy(strategy, seed, storage, name)
        own = (self.problem.objectives, self.problem.limits)
        self._told = [o.name for o in (*own[0], *own[1]) if _told(o)]
        sampler = door.Sampler(space, self.strategy, seed=seed, objectives=own[0], limits=own[1])
        stated = about(self.problem, self.strategy, seed)
        self.study = studies.open_study(storage, name, self.problem.columns, stated, sampler, space)
        self._past = RunHistory(self.study, self.problem)

    @property
    def space(self) -> type[Space]:
        return self.problem.space

    def ask(self) -> Asked:
        """The next architecture to evaluate; its trial runs until its result is reported.

        Raises:
            SearchError: the space is exhausted.
        """
        again = 0
        for _ in range(REFUSED):
            with _ASKING:  # sessions of one process see what the others asked for
                pair = studies.ask_for(self.study, self.problem)
            if pair is None:
                continue
            trial, arch = pair
            same = self._same(trial, arch)
            if not same:
                return Asked(trial.number, arch, self.problem.analytic(arch))
            studies.tell(self.study, trial, "pruned", f"the same as trial {same[0].number}; or {self._exhausted()}")
            again += 1
            # one that runs was perhaps asked for in the same moment by another process; else nothing is left
            if again == REPEATED or all(t.state is not State.RUNNING for t in same):
                raise SearchError(f"{self._exhausted()}. Widen the space, or stop here")
        raise SearchError(
            f"{REFUSED} proposals in turn break the rules of {self.space.title}; see the reasons of the last trials of "
            f"the study {self.study.study_name!r}"
        )

    def _same(self, trial: studies.HostTrial, arch: Architecture) -> list[Trial]:
        """Earlier trials of this architecture, evaluated or running; none where somebody wants it again."""
        if studies.was_enqueued(trial):
            return []
        self._past.look()
        there = self._past.of(arch)
        return [t for t in there if (t.number or 0) < trial.number and t.state is not State.STOPPED]

    def _exhausted(self) -> str:
        return f"the space {self.space.title} is exhausted: no other architecture within its rules and the limits was found"

    def tell(
        self,
        number: int,
        values: Mapping[str, float] | None = None,
        *,
        failed: str | None = None,
        info: Mapping[str, Mapping[str, object]] | None = None,
    ) -> Trial:
        """Tell what became of trial `number`; telling the same once more changes nothing.

        Args:
            values: of every objective and limit that you tell, by name, in its own unit. Some may be missing where
                one that is there is beyond its limit: the trial is infeasible then. A value that is not finite fails it.
            failed: the reason, where there are no values.
            info: how numbers were obtained, by objective; JSON-safe.

        Returns:
            The trial as the study has it now.

        Raises:
            SearchError: no such trial, one that has ended otherwise, a value that is missing or not a number, or a
                name that is not among those reported.
        """
        if (values is None) == (failed is None):
            raise SearchError(f"trial {number}: tell either values or a reason for failing, and not both")
        foreign = [name for name, noted in (info or {}).items() if not isinstance(noted, Mapping)]
        if foreign:
            raise SearchError(
                f"trial {number}: the info of {foreign[0]!r} is {(info or {})[foreign[0]]!r}; write names and what they say, "
                '{"how": "measured"}'
            )
        values = values and {spelled(name, self._told): value for name, value in values.items()}
        info = info and {spelled(name, self._told): noted for name, noted in info.items()}
        frozen = self._frozen(number)
        arch = door.architecture(self.space, frozen.params)
        outcome = self._outcome(number, arch, values, failed, info or {})
        if frozen.state.is_finished():
            there = self._read(frozen)
            if (there.state, dict(there.values)) != (outcome.state, dict(outcome.values)):
                raise SearchError(
                    f"trial {number} has ended already ({there.state.value}{_listed(there.values)}); what is reported now "
                    f"({outcome.state.value}{_listed(outcome.values)}) was not kept"
                )
            return there
        trial = studies.taken_up(self.study, frozen)
        return self._read(studies.tell_outcome(self.study, trial, outcome, short_name(arch, self.space)))

    def _frozen(self, number: int) -> FrozenTrial:
        if isinstance(number, bool) or not isinstance(number, int):
            raise SearchError(f"{number!r} is not a number of a trial; tell the one that asking gave")
        trials = self.study.get_trials(deepcopy=False)
        found = [t for t in trials[max(0, number) : number + 1] if t.number == number] or [
            t for t in trials if t.number == number
        ]
        if not found or found[0].state.name == "WAITING":
            there = ", ".join(str(t.number) for t in self.open) or "none"
            raise SearchError(f"trial {number} was not asked for; those that wait for a result: {there}")
        if owner := studies.evaluated_by(found[0]):
            raise SearchError(
                f"trial {number} was not asked for: a search evaluates it (process {owner}) and tells it itself"
            )
        return found[0]

    def _outcome(
        self,
        number: int,
        arch: Architecture,
        values: Mapping[str, float] | None,
        failed: str | None,
        info: Mapping[str, Mapping[str, object]],
    ) -> Trial:
        known = self.problem.analytic(arch)
        if values is None:
            own = {n: v for n, v in known.items() if n in {c.name for c in self.problem.columns}}
            violations = self.problem.violations(arch, known)
            return Trial(arch, own, violations, State.FAILED, str(failed) or "failed", info, number)
        told = {str(name): self._number(number, str(name), value) for name, value in values.items()}
        every = {**{n: v for n, v in told.items() if math.isfinite(v)}, **known}
        violations = self.problem.violations(arch, every)
        ordered = {c.name: every[c.name] for c in self.problem.columns if c.name in every}
        kept = {n: {**info.get(n, {}), **({} if n in ordered else {"value": v})} for n, v in every.items()}
        strange = [name for name, value in told.items() if not math.isfinite(value)]
        missing = [name for name in self._told if name not in told]
        broken = [name for name, amount in violations.items() if amount > 0]
        if strange:
            reason = f"{strange[0]} is {told[strange[0]]}, not a finite number"
            return Trial(arch, ordered, violations, State.FAILED, reason, kept, number)
        if missing and not broken:
            raise SearchError(
                f"trial {number} has no value of {missing[0]!r}; tell {', '.join(self._told)}, or that it failed, with a reason"
            )
        if missing:
            return Trial(arch, ordered, violations, State.INFEASIBLE, f"violates {', '.join(broken)}", kept, number)
        return Trial(arch, ordered, violations, State.COMPLETE, "", kept, number)

    def _number(self, number: int, name: str, value: object) -> float:
        if name not in self._told:
            computed = name in {o.name for o in (*self.problem.objectives, *self.problem.limits)}
            hint = " is computed, not reported" if computed else f" is not wanted{near(name, self._told)}"
            raise SearchError(f"trial {number}: {name!r}{hint}; tell {', '.join(self._told)}")
        if isinstance(value, bool) or not isinstance(value, SupportsFloat):
            raise SearchError(f"trial {number}: {name} is {value!r}, not a number")
        return float(value)

    def _read(self, frozen: FrozenTrial) -> Trial:
        found = door.from_frozen(frozen, self.space, self.problem.columns)
        assert found is not None
        return found

    @property
    def reported(self) -> list[str]:
        """The names whose values `tell` wants, of objectives and limits; all others are computed."""
        return list(self._told)

    @property
    def open(self) -> list[Asked]:
        """What was asked for, by whatever process, and not reported yet."""
        pairs = [(t.number, door.architecture(self.space, t.params)) for t in studies.asked(self.study) if t.params]
        return [Asked(number, arch, self.problem.analytic(arch)) for number, arch in pairs]

    def result(self) -> Result:
        """What was found so far, as `search` returns it."""
        return load_result(self.study, self.space)


def _told(objective: Objective) -> bool:
    return isinstance(objective, Reported)


def _listed(values: Mapping[str, float]) -> str:
    return "".join(f", {name} {value:.6g}" for name, value in values.items())
