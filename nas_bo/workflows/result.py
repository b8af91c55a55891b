"""Result: what a search found, as trials, tables and pictures."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_bo.errors import ReportError, SearchError
from nas_bo.final import Final, intervals
from nas_bo.report import Agreement, Summary, TrustReport, all_drawn, frame, trials_csv
from nas_bo.report.against import against
from nas_bo.report.agreement import of_trust
from nas_bo.report.gain import Gain
from nas_bo.report.table import table_markdown, table_text
from nas_bo.report.trust_picture import trust_picture
from nas_bo.spelling import spelled
from nas_bo.study import StudyRecord
from nas_bo.trial import ObjectiveSpec, State, Trial, front

if TYPE_CHECKING:
    import pandas as pd

    from nas_bo.mlflow import Tracker
    from nas_bo.mlflow.registry import Registered
    from nas_bo.optuna.reading import Study
    from nas_bo.space import Space
    from nas_bo.workflows.train import Trained


@dataclass(frozen=True)
class Retrained:
    """One architecture of the front, trained again at a larger budget and with another seed.

    Attributes:
        values: trained objective -> its value at the larger budget; empty when it failed, with the `reason`.
        info: objective -> how that was obtained.
        factor: how many times the budget of the search.
    """

    id: str
    values: Mapping[str, float]
    reason: str = ""
    info: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    factor: float = 1.0

    def __str__(self) -> str:
        told = ", ".join(f"{name} {value:.4g}" for name, value in self.values.items()) or self.reason
        return f"{self.id} at {self.factor:g} times the budget: {told}"


@dataclass(frozen=True)
class Spent:
    """What a search trained.

    Attributes:
        begun: trials whose training began.
        stopped: those of them that were stopped at a rung.
        trainings: how many whole budgets all of it adds up to; a stopped trial counts the share that it was trained,
            one that was continued from a checkpoint the share that was left.
        tokens: of those trials whose objectives note them ("tokens" in `Trial.info`).
    """

    begun: int = 0
    stopped: int = 0
    trainings: float = 0.0
    tokens: int = 0


def spent(trials: Sequence[Trial]) -> Spent:
    """The sum over `trials`, over every objective that notes tokens or rungs."""
    begun, stopped, trainings, tokens = 0, 0, 0.0, 0
    for trial in trials:
        shares = []
        for name, info in trial.info.items():
            rungs, seen, before = trial.rungs(name), _count(info.get("tokens")), _count(info.get("resumed"))
            if not rungs and not seen:
                continue
            ended = name in trial.values or "value" in info
            share = 1.0 if ended else max(rungs, default=1.0)
            shares.append(share * (1.0 - before / seen if seen > before else 1.0))
            tokens += max(0, seen - before)
        begun += bool(shares)
        stopped += bool(shares) and trial.state is State.STOPPED
        trainings += sum(shares)
    return Spent(begun, stopped, round(trainings, 6), tokens)


def _count(value: object) -> int:
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0 else 0


@dataclass(frozen=True)
class Result:
    """What a search found.

    Attributes:
        title: the name of the study.
        columns: the objectives, in their order.
        trials: every trial that ended, in the order of their numbers.
        labels: architecture id -> short name.
        retrained: the front, and a few others, at a larger budget, as far as they were re-trained.
        trust: what the re-training says about everything that the search used: its loss, rungs and proxies, next to
            the parameter count and FLOPs, each also with size removed; None when nothing was re-trained.
        validation: the report of `nas_bo.validate` on this study, if there is one.
        notes: what a reader should know before believing the figures.
        baselines: ``{"label", "values", ...}`` of what the search was compared with; of the standard design "standard" is true.
        not_compared: why there is no standard design to compare with; "" where there is one, or none was asked for.
        facts: what is needed to run it again.
        space: what was searched.
        vocab_size: of the models, for drawings.
        study: the underlying Optuna study.
        interrupted: whether the search was stopped before it was complete.
        url: where the tracker shows it, if it does.
        chance: objective name -> value of guessing, of those that state it.
        own: the numbers of the trials that this call of `search` evaluated; () of a result that was read.
        record: all that is stored of the study.
    """

    title: str
    columns: Sequence[ObjectiveSpec]
    trials: Sequence[Trial]
    labels: Mapping[str, str] = field(default_factory=dict)
    retrained: Sequence[Retrained] = ()
    trust: TrustReport | None = None
    validation: TrustReport | None = None
    notes: Sequence[str] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
    study: Study | None = field(default=None, repr=False)
    interrupted: bool = False
    url: str | None = None
    baselines: Sequence[Mapping[str, Any]] = ()
    space: type[Space] | None = field(default=None, repr=False)
    vocab_size: int = 256
    chance: Mapping[str, float] = field(default_factory=dict)
    own: Sequence[int] = ()
    record: StudyRecord | None = field(default=None, repr=False)
    not_compared: str = ""

    @property
    def agreement(self) -> Agreement | None:
        """Of version 0.1, which had it next to `trust`; ends with version 0.3."""
        return of_trust(self.trust)

    @property
    def all_failed(self) -> bool:
        """Whether this call of `search` evaluated trials, and all of them failed; of a result that was read, of all trials."""
        states = [t.state for t in self.trials if t.number in set(self.own) or not self.own]
        return bool(states) and all(state is State.FAILED for state in states)

    @property
    def front(self) -> list[Trial]:
        """The feasible trials that no other dominates, with the values of the search; best in the first objective first."""
        return front(self.trials, self.columns)

    def best(self, name: str) -> Trial:
        """The feasible trial that is best in the objective `name`, by the values of the search; of equal ones the first that
        none of them dominates.

        ``bits_per_byte`` is understood where the study calls it ``val_loss``, and the other way round.

        Raises:
            SearchError: no such objective, or no feasible trial.
        """
        name = spelled(name, self.columns)
        for c in self.columns:
            if c.name == name:
                feasible = [t for t in self.trials if t.feasible]
                if not feasible:
                    raise SearchError(f"no trial of {self.title!r} is feasible: {self._why_none()}")
                least = min(c.sign * t.values[name] for t in feasible)
                return front([t for t in feasible if c.sign * t.values[name] == least], self.columns)[0]
        raise SearchError(f"there is no objective {name!r}; there are: {', '.join(c.name for c in self.columns)}")

    @property
    def final(self) -> Final:
        """The front after re-training, with final values, and its knee; see `nas_bo.final`."""
        return self.summary().final

    @property
    def gain(self) -> Gain | None:
        """What the search gained over its baselines, by default the standard design of the space: at equal cost, and at equal quality;
        ``result.gain.better.value`` is the number. None where it was compared with nothing."""
        return next(iter(self.summary().gains), None)

    @property
    def gains(self) -> list[Gain]:
        """The gains in every cost and over every kind of baseline, the first of them `gain`."""
        return list(self.summary().gains)

    def knee(self) -> Trial:
        """The trial to take when nobody says which objective counts more, with its final values.

        It is the member of the final front nearest to the best value of every objective at once, each objective scaled to
        its range over the front (by its logarithm where it spans more than three times), and all trained objectives together
        counting as much as all costs together; what is no better than guessing, or worse than a baseline in everything, is
        left out.

        Raises:
            SearchError: no feasible trial.
        """
        found = self.final.knee
        if found is None:
            raise SearchError(f"no trial of {self.title!r} is feasible: {self._why_none()}")
        return found

    def pick(self, text: str) -> Trial:
        """The trial that `text` asks for, with its final values: ``knee``, ``best:bits_per_byte``,
        ``bits_per_byte where latency_ms<=2 and parameters<=2e5``, or the number of a trial; see `nas_bo.workflows.pick`.

        Raises:
            SearchError: the text cannot be read, names what is not known, or nothing meets it.
        """
        from nas_bo.workflows.pick import pick

        return pick(self, text)

    @property
    def spent(self) -> Spent:
        """What training the trials cost, the re-training of the front not counted."""
        return spent(self.trials)

    def _why_none(self) -> str:
        reasons = [t.reason for t in self.trials if t.reason]
        return f"for example, {reasons[0]}" if reasons else "there are no trials"

    def label(self, trial: Trial) -> str:
        """The short name of the trial's architecture."""
        return self.labels.get(trial.architecture.id, trial.architecture.id[:8])

    def frame(self) -> pd.DataFrame:
        """All trials as a table: a row per trial, a column per choice, objective and violation."""
        return frame(self.trials, self.columns, self.labels)

    def table(self) -> str:
        """The front as text: values of the search and of the re-training in one table, and what its marks and names mean."""
        return table_text(self.summary())

    def summary(self) -> Summary:
        """What pictures and pages are made of."""
        return self._summary

    @cached_property
    def _summary(self) -> Summary:
        return Summary(
            self.title,
            self.columns,
            self.trials,
            self.labels,
            [
                {"id": r.id, "values": dict(r.values), "info": r.info, "factor": r.factor, "reason": r.reason}
                for r in self.retrained
            ],
            notes=self.notes,
            facts=self.facts,
            baselines=self.baselines,
            trust=self.trust,
            validation=self.validation,
            space=self.space,
            vocab_size=self.vocab_size,
            chance=self.chance,
            not_compared=self.not_compared,
        )

    def files(self) -> dict[str, bytes]:
        """The report as files: name -> content."""
        told = self.summary()
        data = self.to_dict()
        return {
            **all_drawn(told),
            "front.md": (table_markdown(told) + "\n").encode(),
            "trials.csv": trials_csv(self.trials, self.columns, self.labels).encode(),
            "result.json": json.dumps(data, indent=1).encode(),
            **({} if self.validation is None else trust_files(self.validation, "validation")),
            **({} if self.trust is None else trust_files(self.trust)),
        }

    def save(self, folder: str | Path) -> list[Path]:
        """Write `files` into `folder`, which is created.

        Raises:
            ReportError: the folder cannot be written.
        """
        folder = Path(folder)
        written = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in self.files().items():
                (folder / name).write_bytes(content)
                written.append(folder / name)
        except (OSError, ValueError) as error:  # ValueError: a path that no file system has
            raise ReportError(
                f"the report cannot be written to {str(folder)!r}: {(error.strerror if isinstance(error, OSError) else None) or error}; choose another --out"
            ) from error
        return written

    def register(
        self,
        name: str,
        *,
        track: Tracker | str | Path | None = None,
        picks: Sequence[str] = ("knee", "fastest", "best_quality"),
        **more: Any,
    ) -> list[Registered]:
        """Train the picks again, bit for bit as in the search's re-training, and put them into MLflow's registry under these
        aliases; see `nas_bo.workflows.register.register`. ``nas_bo.mlflow.load_model("models:/NAME@knee")`` loads them."""
        from nas_bo.workflows.register import register

        return register(self, name, track=track, wanted=picks, **more)

    def train(
        self, to: str | Path, pick: str | int | Trial = "knee", tokens: float | None = None, **more: Any
    ) -> Trained:
        """Train the architecture that `pick` means, or a trial, to the end and write it to the folder `to`; see
        `nas_bo.workflows.train.train`."""
        from nas_bo.workflows.train import train

        return train(self, to, pick, tokens, **more)

    def to_dict(self) -> dict[str, object]:
        """The result as JSON-safe data.

        ``front`` is the front of the search, and whatever else is on the final front; of every member ``values`` are of the
        search, ``retrained`` those that were taken again (None where none were), ``final`` the values that count,
        ``intervals`` the ends of those that were measured, ``on_final_front`` whether it is still there. ``knee`` is the number
        of the trial, ``final_front`` those of the front after re-training, in the order of the first objective.
        """
        final = self.final
        best = {t.architecture.id for t in [*self.front, *final.members]}
        last = {t.architecture.id for t in final.members}
        return {
            "study": self.title,
            "objectives": [{"name": c.name, "unit": c.unit, "direction": c.direction} for c in self.columns],
            "trials": len(self.trials),
            "complete": sum(t.state is State.COMPLETE for t in self.trials),
            "failed": sum(t.state is State.FAILED for t in self.trials),
            "infeasible": sum(t.state is State.INFEASIBLE for t in self.trials),
            "stopped": sum(t.state is State.STOPPED for t in self.trials),
            "spent": asdict(self.spent),
            "interrupted": self.interrupted,
            "knee": None if final.knee is None else final.knee.number,
            "final_front": [t.number for t in final.members],
            "evaluated_again": list(final.again),
            "front": [
                {
                    "trial": t.number,
                    "id": t.architecture.id,
                    "label": self.label(t),
                    "values": dict(t.values),
                    "retrained": next((dict(r.values) for r in self.retrained if r.id == t.architecture.id), None),
                    "final": dict(final.best(t).values),
                    "intervals": intervals(final.best(t)),
                    "on_final_front": t.architecture.id in last,
                    "why_not": final.left.get(t.architecture.id),
                    "architecture": dict(t.architecture.flat),
                }
                for t in self.trials
                if t.architecture.id in best and t.feasible
            ],
            "baselines": [
                {k: b.get(k) for k in ("label", "id", "values", "reason", "standard", "retrained")}
                for b in self.baselines
            ],
            "gain": None if self.gain is None else self.gain.to_dict(),
            "gains": [one.to_dict() for one in self.gains],
            "not_compared": self.not_compared,
            "finding": self.summary().finding,
            "agreement": None if self.trust is None else self.trust.first_line,
            "trust": None if self.trust is None else self.trust.to_dict(),
            "validation": None if self.validation is None else self.validation.to_dict(),
            "notes": list(self.notes),
            "facts": dict(self.facts),
            "url": self.url,
        }

    def __str__(self) -> str:
        checks = [str(report) for report in (self.trust, self.validation) if report is not None]
        told = self.summary()
        first = "\n".join(told.opening)
        return "\n\n".join([*[first] * bool(first), self.table(), *against(told), *checks, *self.notes])

    def _repr_html_(self) -> str:
        """The front as a drawing whose points say their values, and the table, for notebooks."""
        from nas_bo.report.inline import front_svg

        return f"{front_svg(self.summary())}<pre>{html.escape(str(self))}</pre>"


def trust_files(report: TrustReport, stem: str = "trust") -> dict[str, bytes]:
    """A trust report as files: its picture and its data."""
    return {
        f"{stem}.png": trust_picture(report),
        f"{stem}.json": json.dumps(report.to_dict(), indent=1).encode(),
    }
