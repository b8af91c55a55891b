"""Summary: everything that a picture or a page shows of one search, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

from nas_bo.final import Final, settle
from nas_bo.moved import warn
from nas_bo.report.digits import figure
from nas_bo.report.trust import TrustReport
from nas_bo.trial import ObjectiveSpec, Trial, front

if TYPE_CHECKING:
    from nas_bo.report.agreement import Agreement
    from nas_bo.report.gain import Gain
    from nas_bo.report.importance import Importance
    from nas_bo.space import Space

Record: TypeAlias = Mapping[str, Any]
"""Plain data of a study: what was noted with a value, or of a baseline."""


@dataclass(frozen=True)
class Summary:
    """What is reported of a search.

    Attributes:
        columns: the objectives; values, axes and tables follow their order.
        trials: all trials, in the order of their numbers.
        labels: architecture id -> short name ("d64 A4 C7"); what has none is called by its number.
        retrained: ``{"id": architecture id, "values": {objective: value}, "info": {...}, "factor": 2.0}``: values at a larger
            budget, or measured again; failed ones have none.
        space: what was searched, if it is known: for the importance of its choices.
        vocab_size: of the models, for drawings.
        trust, validation: reports of how far the estimates can be trusted: that of the search, and that of a validation.
        baselines: ``{"label": name, "values": {objective: value}}``, models to compare with.
        agreement: of version 0.1; its text becomes a note.
        notes: sentences for the reader, shown under the title.
        facts: what is needed to run it again (device, seed, versions, ...), shown as a list.
        chance: objective name -> value of guessing, see `nas_bo.chance`.
        not_compared: why there is no standard design to compare with; "" where there is one, or none was asked for.
    """

    title: str
    columns: Sequence[ObjectiveSpec]
    trials: Sequence[Trial]
    labels: Mapping[str, str] = field(default_factory=dict)
    retrained: Sequence[Record] = ()
    agreement: InitVar[Agreement | None] = None
    notes: Sequence[str] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
    baselines: Sequence[Record] = ()
    trust: TrustReport | None = None
    validation: TrustReport | None = None
    space: type[Space] | None = None
    vocab_size: int = 256
    chance: Mapping[str, float] = field(default_factory=dict)
    not_compared: str = ""

    def __post_init__(self, agreement: Agreement | None) -> None:
        if agreement is not None:
            warn("nas_bo.report.Summary(agreement=...)", "nas_bo.report.Summary(trust=...)", 4)
            object.__setattr__(self, "notes", [*self.notes, agreement.text()])

    @cached_property
    def importances(self) -> list[Importance]:
        """Which choices matter, per objective, where there is enough to say; seconds at the first call."""
        from nas_bo.report.importance import importance

        if self.space is None:
            return []
        found = (importance(self.trials, c, self.space) for c in self.columns)
        return [one for one in found if one is not None]

    @cached_property
    def final(self) -> Final:
        """The front after re-training, with final values, and its knee."""
        return settle(self.trials, self.columns, self.retrained, self.baselines, self.chance)

    @cached_property
    def gains(self) -> list[Gain]:
        """What the search gained over its baselines, the one that counts most first; see `nas_bo.report.gain`."""
        from nas_bo.report.gain import gains_of

        return gains_of(self)

    @cached_property
    def finding(self) -> str:
        """Which operations the front has in common, in a sentence; see `nas_bo.report.finding`."""
        from nas_bo.report.finding import finding

        return finding(self)

    @cached_property
    def opening(self) -> list[str]:
        """The first lines of a report: what was gained, by which operations, and what that rests on. Also what is not known."""
        first = self.gains[:1]
        if not first:
            return [f"Gain: not known, {self.not_compared}."] if self.not_compared else []
        return [line for line in (first[0].sentence, self.finding, first[0].basis) if line]

    @property
    def drawn(self) -> dict[str, bytes]:
        """Of version 0.1: `nas_bo.report.all_drawn` of this; ends with version 0.3."""
        warn("nas_bo.report.Summary.drawn", "nas_bo.report.all_drawn(summary)")
        made: dict[str, bytes] = import_module("nas_bo.report").all_drawn(self)
        return made

    def front(self) -> list[Trial]:
        """The front of the search, with the values of the search."""
        return front(self.trials, self.columns)

    def knee(self) -> Trial | None:
        """The knee of the final front, with its final values."""
        return self.final.knee

    def kind(self, trial: Trial) -> str:
        """What a trial of `trials` is in pictures: "knee", "final" (on the final front), "front" (on that of the search only,
        where the two differ), "trial" or "out" (infeasible)."""
        return self._kinds.get(id(trial), "trial" if trial.feasible else "out")

    @cached_property
    def _kinds(self) -> dict[int, str]:
        by_id, kinds = self.by_id(), {}
        for t in self.front():
            kinds[id(t)] = "front"
        for t in self.final.members:
            kinds[id(by_id[t.architecture.id])] = "final" if self.final.again else "front"
        if self.final.knee is not None:
            kinds[id(by_id[self.final.knee.architecture.id])] = "knee"
        return kinds

    def by_id(self) -> dict[str, Trial]:
        """The trial of every architecture; of several with one architecture the one on the front, else the first."""
        return {t.architecture.id: t for t in [*reversed(self.trials), *self.front()]}

    def label(self, trial: Trial) -> str:
        return label(trial, self.labels)


def vocabulary(about: Record) -> int:
    """The vocabulary of the models, as an objective noted it in what a search keeps about itself; 256 where none did."""
    noted = [c.get("vocab_size") for c in about.get("conditions", {}).values() if isinstance(c, Mapping)]
    return next((v for v in noted if isinstance(v, int) and v > 0), 256)


def label(trial: Trial, labels: Mapping[str, str]) -> str:
    """The short name of a trial: its label, else "trial 7", else the start of its architecture's id."""
    known = labels.get(trial.architecture.id, "")
    return known or (f"trial {trial.number}" if trial.number is not None else trial.architecture.id[:8])


__all__ = ["Summary", "figure", "label", "vocabulary"]
