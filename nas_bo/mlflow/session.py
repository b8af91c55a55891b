"""Session: one study in one MLflow store. It writes, and may raise; `Tracker` decides what a failure means."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from nas_bo.mlflow import artifacts, content, presentation
from nas_bo.mlflow import tags as names
from nas_bo.process import owner
from nas_bo.report import Summary, TrustReport, all_drawn, frame, trials_csv
from nas_bo.report.digits import logarithmic
from nas_bo.report.table import table_text
from nas_bo.report.trust_picture import trust_picture
from nas_bo.study import StudyRecord
from nas_bo.trial import ObjectiveSpec, Trial

if TYPE_CHECKING:
    from mlflow import MlflowClient as MlflowClient
    from mlflow.entities import Run as Run

PARENT = "mlflow.parentRunId"
TERMINAL = ("FINISHED", "FAILED", "KILLED")


class FilesError(Exception):
    """The files of a run could not be written; its numbers are there."""


@dataclass
class Child:
    """What is known about a trial's run.

    Attributes:
        point: see `content.Content`.
        run: MLflow's own record of a run that was made or read here, and is not finished.
        written: this process has logged its metrics; only files and the end are missing.
    """

    run_id: str
    status: str
    pareto: str
    point: list[float] | None = None
    run: Run | None = None
    written: bool = False


@dataclass
class Session:
    """A study's experiment, parent run and children.

    Attributes:
        parent: the run id of the study's run.
        reopen: the parent has ended; the next trial sets it running again.
        guest: the parent is a run of the user, who ends it.
        key_tag: the tag that has the study's key; another one in studies of version 0.1.
        children: trial number -> its run.
    """

    client: MlflowClient
    subject: StudyRecord
    experiment: str
    parent: str
    tags: Mapping[str, str]
    reopen: bool = False
    guest: bool = False
    key_tag: str = names.KEY
    children: dict[int, Child] = field(default_factory=dict)

    # ---- trials ------------------------------------------------------------------------------------------------

    @property
    def key(self) -> str:
        return self.subject.key

    @property
    def about(self) -> Mapping[str, Any]:
        return self.subject.about

    @property
    def columns(self) -> Sequence[ObjectiveSpec]:
        return self.subject.columns

    def log(self, made: content.Content, pareto: bool = False, *, look: bool = True) -> bool:
        """Log one finished trial; False when it is there already.

        On a server it takes four requests and one for each of at most two files.

        Args:
            look: search for a run of this trial first, which another process or an earlier attempt may have made; a
                caller that has just called `load` need not.
        """
        number = made.number
        child = self.children.get(number)
        if child is None and look:
            child = self._find(number)
        if child is not None and child.status in TERMINAL:
            self.children[number] = child
            return False
        metrics = made.metrics
        if child is None:
            tags = {**self.tags, **made.tags, **self._identity(number), **_marked(pareto)}
            run = self.client.create_run(self.experiment, start_time=made.start, tags=tags, run_name=made.name)
            child = Child(run.info.run_id, "RUNNING", word(pareto), made.point, run)
        elif not child.written:  # a process died while it wrote this run; logging all again would double the curves
            child.run = self.client.get_run(child.run_id)
            metrics = self._missing(child.run, metrics)
        self.children[number] = child
        if not child.written:
            self.batch(child.run_id, metrics, made.params, made.end or int(time.time() * 1000))
            child.written = True
        try:
            artifacts.put(self.client, child.run, made.uploads)
        except Exception as error:
            raise FilesError(str(error) or type(error).__name__) from error
        self.client.set_terminated(child.run_id, status=made.status, end_time=made.end)
        child.status, child.run = made.status, None
        if self.reopen:
            self.client.update_run(self.parent, status="RUNNING")
            self.reopen = False
        return True

    def _missing(self, run: Run, metrics: Sequence[tuple[str, float, int]]) -> list[tuple[str, float, int]]:
        """Those of `metrics` that the run does not have yet."""
        there: dict[str, set[int]] = {}
        for name in {n for n, _, _ in metrics} & set(run.data.metrics):
            there[name] = {m.step for m in self.client.get_metric_history(run.info.run_id, name)}
        return [(n, v, s) for n, v, s in metrics if s not in there.get(n, ())]

    def _identity(self, number: int) -> dict[str, str]:
        return {
            PARENT: self.parent,
            "nas.study": self.subject.name,
            self.key_tag: self.key,
            names.UID: f"{self.subject.name}/{number}",
            names.WRITER: owner(),
        }

    def batch(self, run_id: str, metrics: Sequence[tuple[str, float, int]], params: Mapping[str, str], at: int) -> None:
        from mlflow.entities import Metric, Param

        self.client.log_batch(
            run_id, [Metric(n, v, at, s) for n, v, s in metrics], [Param(k, v) for k, v in params.items()]
        )

    def _find(self, number: int) -> Child | None:
        query = (
            f"tags.`nas.trial` = '{number:03d}' AND tags.`{self.key_tag}` = '{self.key}' AND tags.`nas.kind` = 'trial'"
        )
        return self._search(query).get(number)

    def child(self, number: int) -> Child | None:
        """A trial's run, also one that another process made."""
        if number not in self.children and (found := self._find(number)) is not None:
            self.children[number] = found
        return self.children.get(number)

    def load(self) -> None:
        """Read which trials are there; of two runs of one trial, which two machines may have made, one is deleted."""
        for number, child in self._search(
            f"tags.`{self.key_tag}` = '{self.key}' AND tags.`nas.kind` = 'trial'"
        ).items():
            before = self.children.get(number)
            if before is None or before.status not in TERMINAL:
                self.children[number] = child

    def _search(self, query: str) -> dict[int, Child]:
        """The run of every trial that `query` finds; a deleted one counts, for whoever deleted it wants it away."""
        from mlflow.entities import ViewType

        found: dict[int, list[Run]] = {}
        token = None
        while True:
            runs = self.client.search_runs([self.experiment], query, ViewType.ALL, 1000, ["start_time ASC"], token)
            for run in runs:
                if run.data.tags.get("nas.trial", "").isdigit():
                    found.setdefault(int(run.data.tags["nas.trial"]), []).append(run)
            token = runs.token
            if not token:
                return {number: self._first(twins) for number, twins in found.items()}

    def _first(self, twins: list[Run]) -> Child:
        """The run that stays: the same one in whatever process this is asked."""
        twins.sort(key=lambda r: (r.info.lifecycle_stage != "active", r.info.status not in TERMINAL, r.info.run_id))
        for twin in twins[1:]:
            if twin.info.lifecycle_stage == "active":
                self.client.delete_run(twin.info.run_id)
        first = twins[0]
        point = content.point(first.data.metrics, first.data.tags, self.columns)
        return Child(first.info.run_id, first.info.status, first.data.tags.get("nas.pareto", ""), point)

    # ---- the study ---------------------------------------------------------------------------------------------

    def publish_view(self, trials: Sequence[Trial]) -> None:
        """The shared view of the experiment, rewritten so that it fits the trials."""
        own = self.subject.space
        top = [n for n in (own.domains() if own else {}) if "." not in n]
        spread = {f"hw/{name}.spread": None for t in trials for name, i in t.info.items() if "spread" in i}
        seen = list(dict.fromkeys(n for t in trials for n in t.architecture.flat if "." not in n))
        params = [f"arch/{n}" for n in top] or [content.clean(n) for n in seen]
        counted = ["arch_stat/parameters"] if any("parameters" in i for t in trials for i in t.info.values()) else []
        log = [c.name for c in self.columns if content.log_axis(c) and logarithmic(_values(trials, c.name), c)]
        further = [*counted, *spread, "cost/seconds"]
        state = presentation.state(self.key, self.parent, self.columns, params, further, log, self.key_tag)
        self.client.set_experiment_tag(self.experiment, presentation.VIEW + self.key, state)
        self.client.set_experiment_tag(self.experiment, presentation.LAST, self.key)

    def mark(self, number: int, child: Child, on_front: bool) -> None:
        """Rewrite a trial's ``nas.pareto``, and its colour in MLflow's charts, if it has changed."""
        from mlflow.entities import RunTag

        if child.pareto != word(on_front):
            self.client.log_batch(child.run_id, tags=[RunTag(tag, text) for tag, text in _marked(on_front).items()])
            child.pareto = word(on_front)

    def finish(self, summary: Summary, files: Mapping[str, Path | bytes | str], description: str | None) -> None:
        """Pareto membership, metrics over trials, report, description; the parent is terminated. Children are loaded before."""
        best = {t.number for t in summary.front()}
        for number, child in self.children.items():
            self.mark(number, child, number in best)
        self._progress(summary.trials)
        self._trust(summary)
        links = {n: f"#/experiments/{self.experiment}/runs/{c.run_id}" for n, c in self.children.items()}
        text = description or presentation.describe(summary, links)
        brought = {_inside(name): data for name, data in files.items()}
        files = {name: make() for name, make in _report(summary, text).items() if name not in brought} | brought
        artifacts.put(self.client, self.client.get_run(self.parent), files)
        if len(text) > content.TAG_LENGTH:
            text = text[: content.TAG_LENGTH - 40].rsplit("\n", 1)[0] + "\n\n(whole: report/README.md)"
        noted = self.guest and self.client.get_run(self.parent).data.tags.get(content.NOTE)
        if not noted:  # a user's own words stay
            self.client.set_tag(self.parent, content.NOTE, text)
        tables = [{"path": "report/pareto_table.json", "type": "table"}]
        self.client.set_tag(self.parent, "mlflow.loggedArtifacts", json.dumps(tables))
        self.publish_view(summary.trials)
        if not self.guest:
            self.client.set_terminated(self.parent, status="FINISHED")
            self.reopen = True

    def _progress(self, trials: Sequence[Trial]) -> None:
        """Step metrics of the parent, continued where the last report ended; the hypervolume is that of the report."""
        known = self.progress()
        worst, before = presentation.reference(trials, self.columns), known.get("reference")
        after = known.get("after", -1)
        metrics = presentation.progress(trials, self.columns, worst, after)
        if after >= 0 and worst != before:  # steps were logged with another reference point, or before there was one
            every = presentation.progress(trials, self.columns, worst)
            metrics = [m for m in every if m[0] == "study/hypervolume" and m[2] <= after] + metrics
        if metrics:
            self.tell_progress(metrics, worst, max(m[2] for m in metrics))

    def progress(self) -> dict[str, Any]:
        """What the parent's step metrics have come to: "after" (trial), "reference" point, and "by" whom "at" what time."""
        tags = self.client.get_run(self.parent).data.tags
        data = json.loads(names.value(tags, names.PROGRESS) or "{}")
        return data if data.get("key", self.key) == self.key else {}  # a user's parent may have had several studies

    def tell_progress(
        self, metrics: Sequence[tuple[str, float, int]], reference: Sequence[float] | None, after: int, by: str = ""
    ) -> None:
        """Add steps to the parent's metrics and note how far they go.

        Args:
            by: the process that will add the next ones; "" leaves that open.
        """
        for i in range(0, len(metrics), 900):
            self.batch(self.parent, metrics[i : i + 900], {}, int(time.time() * 1000))
        data = {"after": after, "reference": reference, "key": self.key}
        if by:
            data |= {"by": by, "at": round(time.time())}
        self.client.set_tag(self.parent, names.PROGRESS, json.dumps(data))

    def count(self, counts: Mapping[str, int]) -> None:
        """How many trials have ended, run, ... at the step that ended as many: MLflow shows these next to the machine's own figures."""
        step, now = counts.get("ended", 0), int(time.time() * 1000)
        if counts:
            self.batch(self.parent, [(f"system/trials_{name}", float(n), step) for name, n in counts.items()], {}, now)

    def _trust(self, summary: Summary) -> None:
        """The gain and the figures of the trust reports as metrics of the parent, those that are new; their first lines as tags."""
        known = self.client.get_run(self.parent).data.metrics
        made, gained = content.of_trust(summary), content.of_gain(summary)
        fresh = [m for m in (*gained.metrics, *made.metrics) if known.get(m[0]) != m[1]]
        if fresh:
            self.batch(self.parent, fresh, {}, int(time.time() * 1000))
        for tag, text in (gained.tags | made.tags).items():
            self.client.set_tag(self.parent, tag, text)


def _report(summary: Summary, text: str) -> dict[str, Callable[[], Path | bytes | str]]:
    """The files that every study gets, made only where the caller brings none of that name."""

    def table() -> str:
        best = frame(summary.front(), summary.columns, summary.labels)
        shown = ["number", "label", *(c.name for c in summary.columns), "id", "seconds"]
        return str(best[shown].to_json(orient="split", index=False))

    return {
        "report/README.md": lambda: f"# {summary.title}\n\n{text}\n",
        "report/pareto.png": lambda: all_drawn(summary)["front.png"],
        "report/pareto.html": lambda: all_drawn(summary)["front.html"],
        "report/pareto.txt": lambda: table_text(summary) + "\n",
        "report/pareto_table.json": table,
        **{
            f"report/{stem}{end}": make
            for stem, report in (("trust", summary.trust), ("validation", summary.validation))
            if report is not None
            for end, make in (
                (".png", partial(trust_picture, report)),
                (".json", partial(_as_json, report)),
                (".txt", report.text),
            )
        },
        **{
            f"pictures/{name}": partial(_same, data)
            for name, data in all_drawn(summary).items()
            if name not in ("front.png", "front.html")
        },
        "report/trials.csv": lambda: trials_csv(summary.trials, summary.columns, summary.labels),
    }


def _same(data: bytes) -> bytes:
    return data


def _as_json(report: TrustReport) -> str:
    return json.dumps(report.to_dict(), indent=1)


def _inside(name: str) -> str:
    """Where a caller's file goes: into report/, unless it names a folder of its own."""
    path = artifacts.inside(name)
    return str(path if len(path.parts) > 1 else PurePosixPath("report") / path)


def _values(trials: Sequence[Trial], name: str) -> list[float]:
    return [t.values[name] for t in trials if math.isfinite(t.values.get(name, math.nan))]


def _marked(on_front: bool) -> dict[str, str]:
    return {"nas.pareto": word(on_front), names.COLOR: names.color(on_front)}


def word(flag: bool) -> str:
    return "true" if flag else "false"
