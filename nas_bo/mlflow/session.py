"""Session: one study in one MLflow store. It writes, and may raise; `Tracker` decides what a failure means."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from nas_bo.errors import HostError
from nas_bo.mlflow import content, records, view
from nas_bo.report import Summary, TrustReport, frame, front_text, page, picture
from nas_bo.report.trust_picture import trust_picture
from nas_bo.trial import Column, Trial

NOTE = "mlflow.note.content"
PARENT = "mlflow.parentRunId"
TERMINAL = ("FINISHED", "FAILED", "KILLED")


@dataclass
class Child:
    """What is known of a trial's run."""

    run_id: str
    status: str
    pareto: str


@dataclass
class Session:
    """A study's experiment, parent run and children.

    Attributes:
        key: tells the study from others of the same name, see `records.key`.
        children: trial number -> its run.
        doubtful: trials whose run may have been created although the answer never came.
    """

    client: Any
    key: str
    about: dict[str, Any]
    columns: list[Column]
    experiment: str
    parent: str
    tags: Mapping[str, str]
    name: str
    reopen: bool = False
    children: dict[int, Child] = field(default_factory=dict)
    doubtful: set[int] = field(default_factory=set)

    # ---- trials ------------------------------------------------------------------------------------------------

    def log(self, frozen: Any, pareto: bool = False) -> bool:
        """Log one finished trial; False when it is there already."""
        number = frozen.number
        child = self.children.get(number)
        if child is None and number in self.doubtful:
            child = self._find(number)
        if child is not None and child.status in TERMINAL:
            return False
        own = records.space(self.about)
        trial = records.trial(frozen, self.columns, own)
        made = content.of_trial(
            frozen, trial, self.columns, records.label(frozen), _in_space(frozen, own), ours=bool(self.about)
        )
        begin, end = milliseconds(frozen.datetime_start), milliseconds(frozen.datetime_complete)
        metrics = made.metrics
        if child is None:
            self.doubtful.add(number)
            tags = {**self.tags, **made.tags, **self._identity(number), "nas.pareto": _word(pareto)}
            run = self.client.create_run(self.experiment, start_time=begin, tags=tags, run_name=made.name)
            child = self.children[number] = Child(run.info.run_id, "RUNNING", _word(pareto))
        elif self.client.get_run(child.run_id).data.metrics:
            metrics = []  # a process died after this step; logging again would double the curve
        self._batch(child.run_id, metrics, made.params, end or int(time.time() * 1000))
        for file, text in made.files.items():
            self.client.log_text(child.run_id, text, file)
        self.client.set_terminated(child.run_id, status=made.status, end_time=end)
        child.status = made.status
        self.doubtful.discard(number)
        if self.reopen:
            self.client.update_run(self.parent, status="RUNNING")
            self.reopen = False
        return True

    def _identity(self, number: int) -> dict[str, str]:
        return {
            PARENT: self.parent,
            "nas.study": self.name,
            "nas.study_key": self.key,
            "nas.uid": f"{self.name}/{number}",
        }

    def _batch(
        self, run_id: str, metrics: Sequence[tuple[str, float, int]], params: Mapping[str, str], at: int
    ) -> None:
        from mlflow.entities import Metric, Param

        self.client.log_batch(
            run_id, [Metric(n, v, at, s) for n, v, s in metrics], [Param(k, v) for k, v in params.items()]
        )

    def _find(self, number: int) -> Child | None:
        query = f"tags.`{PARENT}` = '{self.parent}' AND tags.`nas.trial` = '{number:03d}'"
        return next((c for n, c in self._search(query) if n == number), None)

    def load(self) -> None:
        """Read which trials are there."""
        for number, child in self._search(f"tags.`{PARENT}` = '{self.parent}' AND tags.`nas.kind` = 'trial'"):
            before = self.children.get(number)
            if before is None or before.status not in TERMINAL:
                self.children[number] = child

    def _search(self, query: str) -> list[tuple[int, Child]]:
        from mlflow.entities import ViewType

        found, token = [], None
        while True:
            runs = self.client.search_runs([self.experiment], query, ViewType.ALL, 1000, ["start_time ASC"], token)
            for run in runs:
                tags = run.data.tags
                if tags.get("nas.trial", "").isdigit():
                    child = Child(run.info.run_id, run.info.status, tags.get("nas.pareto", ""))
                    found.append((int(tags["nas.trial"]), child))
            token = runs.token
            if not token:
                return found

    # ---- the study ---------------------------------------------------------------------------------------------

    def publish_view(self, trials: Sequence[Trial]) -> None:
        """The shared view of the experiment, rewritten so that it fits the trials."""
        own = records.space(self.about)
        top = [n for n in (own.domains() if own else {}) if "." not in n]
        seen = list(dict.fromkeys(n for t in trials for n in t.architecture.flat if "." not in n))
        params = [f"arch/{n}" for n in top] or [content.clean(n) for n in seen]
        counted = ["arch_stat/parameters"] if any("parameters" in i for t in trials for i in t.info.values()) else []
        state = view.state(self.key, self.parent, self.columns, params, counted)
        self.client.set_experiment_tag(self.experiment, view.VIEW + self.key, state)
        self.client.set_experiment_tag(self.experiment, view.LAST, self.key)

    def finish(self, summary: Summary, files: Mapping[str, Path | bytes | str], description: str | None) -> None:
        """Pareto membership, metrics over trials, report, description; the parent is terminated."""
        self.load()
        best = {t.number for t in summary.front()}
        for number, child in self.children.items():
            word = _word(number in best)
            if child.pareto != word:
                self.client.set_tag(child.run_id, "nas.pareto", word)
                child.pareto = word
        self._progress(summary.trials)
        self._trust(summary)
        links = {n: f"#/experiments/{self.experiment}/runs/{c.run_id}" for n, c in self.children.items()}
        text = description or view.describe(summary, links)
        brought = {_inside(name): data for name, data in files.items()}
        self._upload({name: make() for name, make in _report(summary, text).items() if name not in brought} | brought)
        if len(text) > content.TAG_LENGTH:
            text = text[: content.TAG_LENGTH - 40].rsplit("\n", 1)[0] + "\n\n(whole: report/README.md)"
        self.client.set_tag(self.parent, NOTE, text)
        tables = [{"path": "report/pareto_table.json", "type": "table"}]
        self.client.set_tag(self.parent, "mlflow.loggedArtifacts", json.dumps(tables))
        self.publish_view(summary.trials)
        self.client.set_terminated(self.parent, status="FINISHED")
        self.reopen = True

    def _progress(self, trials: Sequence[Trial]) -> None:
        """Step metrics of the parent, continued where the last report ended and with its reference point."""
        tags = self.client.get_run(self.parent).data.tags
        known = json.loads(tags.get("nas.progress", "{}"))
        worst = known.get("reference") or view.reference(trials, self.columns)
        after = known.get("after", -1)
        metrics = view.progress(trials, self.columns, worst, after)
        if metrics:
            for i in range(0, len(metrics), 900):
                self._batch(self.parent, metrics[i : i + 900], {}, int(time.time() * 1000))
            data = {"after": metrics[-1][2], "reference": worst}
            self.client.set_tag(self.parent, "nas.progress", json.dumps(data))

    def _trust(self, summary: Summary) -> None:
        """The figures of the trust reports as metrics of the parent, those that are new; the first line as a tag."""
        known = self.client.get_run(self.parent).data.metrics
        made = content.of_trust(summary)
        fresh = [m for m in made.metrics if known.get(m[0]) != m[1]]
        if fresh:
            self._batch(self.parent, fresh, {}, int(time.time() * 1000))
        for tag, text in made.tags.items():
            self.client.set_tag(self.parent, tag, text)

    def _upload(self, files: Mapping[str, Path | bytes | str]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name, data in files.items():
                target = Path(folder) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(
                    data.read_bytes() if isinstance(data, Path) else data if isinstance(data, bytes) else data.encode()
                )
            self.client.log_artifacts(self.parent, folder)


def _report(summary: Summary, text: str) -> dict[str, Callable[[], Path | bytes | str]]:
    """The files that every study gets, made only where the caller brings none of that name."""

    def table() -> str:
        best = frame(summary.front(), summary.columns, summary.labels)
        shown = ["number", "label", *(c.name for c in summary.columns), "id", "seconds"]
        return str(best[shown].to_json(orient="split", index=False))

    return {
        "report/README.md": lambda: f"# {summary.title}\n\n{text}\n",
        "report/pareto.png": lambda: picture(summary),
        "report/pareto.html": lambda: page(summary),
        "report/pareto.txt": lambda: front_text(summary.trials, summary.columns, summary.labels) + "\n",
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
        "report/trials.csv": lambda: frame(summary.trials, summary.columns, summary.labels).to_csv(index=False),
    }


def _as_json(report: TrustReport) -> str:
    return json.dumps(report.to_dict(), indent=1)


def _inside(name: str) -> str:
    """Where a caller's file goes: into report/, unless it names a folder of its own."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise HostError(f"the artifact name {name!r} leaves the run's folder; give a relative name without '..'")
    return str(path if len(path.parts) > 1 else PurePosixPath("report") / path)


def _in_space(frozen: Any, own: Any) -> list[str]:
    known = own.domains() if own is not None else {}
    return [name for name in frozen.params if name in known]


def _word(flag: bool) -> str:
    return "true" if flag else "false"


def milliseconds(moment: datetime | None) -> int | None:
    return int(moment.timestamp() * 1000) if moment is not None else None
