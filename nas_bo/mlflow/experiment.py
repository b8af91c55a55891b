"""What an Ax experiment says, as data; the counterpart of `records` for Ax, which is not imported.

Metrics that are objectives become ``obj/``, others ``metric/``; standard errors ``sem/``; progressions are curves under
``train/``; outcome constraints and thresholds become ``constraint/``; the node and the generator that made the point are tags.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from types import SimpleNamespace
from typing import Any

from nas_bo.mlflow import content, records
from nas_bo.mlflow.records import Subject
from nas_bo.report import Summary
from nas_bo.report.labels import labels_of
from nas_bo.trial import PREFIX, Column, State, Trial, from_attributes

ENDED = ("COMPLETED", "FAILED", "EARLY_STOPPED", "ABANDONED")
_AS_OPTUNA = {"COMPLETED": "COMPLETE", "FAILED": "FAIL", "EARLY_STOPPED": "PRUNED", "ABANDONED": "PRUNED"}

Terms = tuple[tuple[str, float], ...]  # (metric, weight): the value is their weighted sum


@dataclass(frozen=True)
class Wanted:
    """The objectives of an experiment with what each consists of, and its constraints.

    Attributes:
        limits: (name, terms, sign, bound), violated by ``sign * (value - bound)`` where that is positive.
    """

    columns: list[Column]
    terms: list[Terms]
    limits: list[tuple[str, Terms, float, float]]


class AxSource:
    """An Ax experiment as a `source.Source`."""

    def __init__(self, experiment: Any) -> None:
        self.experiment = experiment
        self._all: dict[int, list[dict[str, Any]]] | None = None

    def subject(self) -> Subject | None:
        """None before there is an objective."""
        if self.experiment.optimization_config is None:
            return None
        name = str(self.experiment._name or "ax")  # `name` raises where there is none
        began = self.experiment.time_created.isoformat(timespec="seconds")
        key = hashlib.sha256(f"{name}\n{began}".encode()).hexdigest()[:12]
        return Subject(name, key, self._wanted().columns, sampler=self._generator())

    def finished(self) -> list[Any]:
        return [t for _, t in sorted(self.experiment.trials.items()) if t.status.name in ENDED]

    def running(self) -> int:
        return sum(t.status.name not in (*ENDED, "STALE") for t in self.experiment.trials.values())

    def complete(self, trial: Any) -> bool:
        """Whether nothing more will come: Ax may mark a trial before it has attached its data."""
        names = {m for terms in self._wanted().terms for m, _ in terms}
        return trial.status.name != "COMPLETED" or names <= {r["metric_name"] for r in self._rows(trial.index)}

    def content(self, trial: Any, subject: Subject) -> content.Content:
        name, rows = trial.status.name, self._rows(trial.index)
        ours, arms = self._trial(trial), list(trial.arms)
        params = dict(arms[0].parameters) if len(arms) == 1 else {}
        plain = {k: v for k, v in (trial.run_metadata or {}).items() if not str(k).startswith(PREFIX)}
        frozen = SimpleNamespace(
            number=trial.index, params=params, state=SimpleNamespace(name=_AS_OPTUNA[name]), user_attrs=plain,
            intermediate_values={}, datetime_start=trial.time_run_started or trial.time_created,
            datetime_complete=trial.time_completed,
        )  # fmt: skip
        made = content.of_trial(frozen, ours, subject.columns, "", (), ours=False)
        if name == "ABANDONED" and made.tags["nas.state"] == "pruned":
            made.tag("nas.state", "abandoned")
        kept = from_attributes(trial.run_metadata or {})
        if kept.get("id"):
            made.tag("nas.arch", kept["id"])  # the same as in a study of Optuna
        known = {c.name for c in subject.columns}
        for row in rows:
            metric, step = row["metric_name"], row.get("step", math.nan)
            if not _missing(step):
                made.metric(f"train/{metric}", row["mean"], int(step))
            elif metric not in known:
                made.metric(f"metric/{metric}", row["mean"])
            if not _missing(row.get("sem")) and row["sem"] > 0 and _missing(step):
                made.metric(f"sem/{metric}", row["sem"])
        for run in trial.generator_runs:
            made.metric("cost/generate.seconds", run.gen_time)
            made.metric("cost/fit.seconds", run.fit_time)
            for tag, value in (("ax.node", run._generation_node_name), ("ax.generator", run._generator_key)):
                if value:  # the second says when Ax has replaced a repeated point by one of its own
                    made.tag(tag, str(value))
        if len(arms) > 1:
            made.files["arms.json"] = _arms(arms, rows)
        return made

    def summary(self, subject: Subject, title: str) -> Summary:
        self._read_all()
        trials = [self._trial(t) for t in self.finished()]
        labels = labels_of(trials)
        return Summary(title, subject.columns, trials, labels, facts={"generator": subject.sampler})

    # ---- reading ---------------------------------------------------------------------------------------------

    def _trial(self, trial: Any) -> Trial:
        wanted, name = self._wanted(), trial.status.name
        kept = from_attributes(trial.run_metadata or {})
        arms = list(trial.arms)
        last: dict[str, float] = {}
        for row in self._rows(trial.index) if len(arms) == 1 else ():
            last[row["metric_name"]] = float(row["mean"])  # rows of one metric are in the order of their steps
        values = {}
        for column, terms in zip(wanted.columns, wanted.terms, strict=True):
            if all(m in last for m, _ in terms):
                values[column.name] = sum(w * last[m] for m, w in terms)
        violations = {
            limit: max(0.0, sign * (sum(w * last[m] for m, w in terms) - bound))
            for limit, terms, sign, bound in wanted.limits
            if all(m in last and math.isfinite(last[m]) for m, _ in terms)
        }
        reason = str(kept.get("reason") or getattr(trial, "status_reason", None) or "")
        whole = len(values) == len(wanted.columns) and all(map(math.isfinite, values.values()))
        state = {"FAILED": State.FAILED, "EARLY_STOPPED": State.STOPPED, "ABANDONED": State.INFEASIBLE}.get(name)
        if state is None:
            state = State.COMPLETE if whole else State.FAILED
            reason = reason or ("" if whole else "no finite value of every objective")
        begun, ended = trial.time_run_started or trial.time_created, trial.time_completed
        seconds = float(kept.get("seconds") or ((ended - begun).total_seconds() if begun and ended else 0.0))
        arch = records.architecture(arms[0].parameters if arms else {}, None)
        return Trial(arch, values, violations, state, reason, kept.get("info") or {}, trial.index, seconds)

    def _rows(self, index: int) -> list[dict[str, Any]]:
        if self._all is not None:
            return self._all.get(index, [])
        return _records(self.experiment.lookup_data(trial_indices=[index]))

    def _read_all(self) -> None:
        """One look at all data, for work on many trials."""
        self._all = {}
        for row in _records(self.experiment.lookup_data()):
            self._all.setdefault(int(row["trial_index"]), []).append(row)

    def _wanted(self) -> Wanted:
        config = self.experiment.optimization_config
        objective = config.objective
        columns: list[Column] = []
        terms: list[Terms] = []
        for part in objective.expression.split(","):
            sub = type(objective)(expression=part.strip(), metric_name_to_signature=objective.metric_name_to_signature)
            weights = [float(w) for _, w in sub.metric_weights]
            names = list(sub.metric_names)
            if len(names) == 1:
                columns.append(Column(names[0], direction="minimize" if weights[0] < 0 else "maximize"))
                terms.append(((names[0], 1.0),))
            else:
                columns.append(Column(sub.expression, direction="maximize"))
                terms.append(tuple(zip(names, weights, strict=True)))
        limits = []
        for constraint in config.all_constraints:
            if constraint.relative:
                continue  # relative to a status quo, which Ax knows
            parts: Terms = tuple(
                (m, float(w)) for m, (_, w) in zip(constraint.metric_names, constraint.metric_weights, strict=True)
            )
            sign, bound = (1.0 if constraint.op.name == "LEQ" else -1.0), float(constraint.bound)
            if len(parts) == 1:
                metric, weight = parts[0]
                parts, bound, sign = ((metric, 1.0),), bound / weight, math.copysign(1.0, weight) * sign
            text = " + ".join(m if w == 1 else f"{w:g}*{m}" for m, w in parts)
            limits.append((f"{text}{'<=' if sign > 0 else '>='}{bound:g}", parts, sign, bound))
            for j, column in enumerate(columns):
                if terms[j] == parts:
                    columns[j] = replace(column, at_most=bound) if sign > 0 else replace(column, at_least=bound)
        return Wanted(columns, terms, limits)

    def _generator(self) -> str:
        nodes = [r._generation_node_name for t in self.experiment.trials.values() for r in t.generator_runs]
        return str(next((n for n in reversed(nodes) if n), "ax"))


ENDING = ("complete_trial", "mark_trial_failed", "mark_trial_abandoned", "mark_trial_early_stopped", "attach_baseline")


@contextmanager
def follow(client: Any, look: Callable[[], None], every: float) -> Iterator[None]:
    """Call `look` after every call of the client that may end a trial, and every so many seconds in ``run_trials``."""

    def after(name: str) -> Callable[..., Any]:
        real = getattr(client, name)

        @wraps(real)
        def called(*args: Any, **kwargs: Any) -> Any:
            try:
                return real(*args, **kwargs)
            finally:
                look()

        return called

    def poll(real: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(real)
        def called(*args: Any, **kwargs: Any) -> Any:
            ended = threading.Event()

            def until_ended() -> None:
                while not ended.wait(every):
                    look()

            thread = threading.Thread(target=until_ended, name="nas_bo.mlflow.ax", daemon=True)
            thread.start()
            try:
                return real(*args, **kwargs)
            finally:
                ended.set()
                thread.join()
                look()

        return called

    changed = {name: after(name) for name in ENDING if hasattr(client, name)}
    if hasattr(client, "run_trials"):
        changed["run_trials"] = poll(client.run_trials)
    for name, call in changed.items():
        setattr(client, name, call)
    try:
        yield
    finally:
        for name in changed:
            delattr(client, name)


def _records(data: Any) -> list[dict[str, Any]]:
    """Rows of all progressions; a final value, which has no step, comes last."""
    frame = getattr(data, "full_df", data.df)
    if "step" in frame.columns:
        frame = frame.sort_values("step", na_position="last", kind="stable")
    rows: list[dict[str, Any]] = frame.to_dict("records")
    return rows


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _arms(arms: list[Any], rows: Sequence[Mapping[str, Any]]) -> str:
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        found.setdefault(str(row["arm_name"]), {})[str(row["metric_name"])] = float(row["mean"])
    return json.dumps(
        [{"arm": a.name, "parameters": a.parameters, "values": found.get(a.name, {})} for a in arms],
        indent=1,
        default=str,
    )
