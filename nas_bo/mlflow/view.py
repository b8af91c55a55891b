"""How a study looks when it is opened: a shared view of the experiment, the parent's description, metrics over trials.

The state of the view is MLflow's private format (3.17). A version that does not know it shows its usual page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np

from nas_bo.mlflow.content import TAG_LENGTH, clean
from nas_bo.report import Summary, figure, front_markdown
from nas_bo.trial import Column, Trial, matrix, non_dominated

VIEW = "mlflow.sharedViewState."  # + key: an experiment tag that holds the state of the runs page
LAST = "nas.front"  # experiment tag: the key of the study that was reported last
MOST_STEPS = 500


def address(base: str, experiment: str, key: str) -> str:
    """The page that opens on the front; `base` is the address of the UI."""
    page = f"{base.rstrip('/')}/#/experiments/{quote(experiment)}/runs"
    return f"{page}?viewStateShareKey={quote(key)}&compareRunsMode=CHART"


def state(key: str, parent: str, columns: Sequence[Column], params: Sequence[str], metrics: Sequence[str]) -> str:
    """The state of the runs page: a scatter plot of the first two objectives, parallel coordinates, and a table.

    Args:
        params: parameter names for the parallel coordinates, most important first.
        metrics: names of further metrics for the columns of the table.
    """
    objectives = [f"obj/{clean(c.name)}" for c in columns]

    def chart(kind: str, **fields: Any) -> dict[str, Any]:
        fixed = {"type": kind, "uuid": f"nas-{kind.lower()}-{len(charts)}", "metricSectionId": "nas-front"}
        return {**fixed, "runsCountToCompare": 100, "deleted": False, "isGenerated": False, "displayName": "", **fields}

    def axis(name: str) -> dict[str, str]:
        return {"key": name, "type": "METRIC"}

    charts: list[dict[str, Any]] = []
    for j in range(1, min(3, len(objectives))):
        charts.append(chart("SCATTER", xaxis=axis(objectives[j]), yaxis=axis(objectives[0])))
    if len(objectives) == 1:
        charts.append(chart("BAR", metricKey=objectives[0]))
    if params:
        charts.append(
            chart("PARALLEL", selectedParams=list(params)[:6], selectedMetrics=objectives[:3], showAllRuns=True)
        )
    shown = [*objectives, *metrics]
    data = {
        "searchFilter": f'tags.`nas.study_key` = "{key}" AND tags.`nas.kind` = "trial"',
        "orderByKey": f"metrics.`{objectives[0]}`",
        "orderByAsc": columns[0].direction == "minimize",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [
            *(f"metrics.`{m}`" for m in shown),
            *(f"tags.`{t}`" for t in ("nas.pareto", "nas.state")),
            *(f"params.`{p}`" for p in list(params)[:3]),
        ],
        "columnOrder": [],
        "columnWidths": {},
        "runsExpanded": {parent: True},
        "runsPinned": [],
        "runsHidden": [parent],
        "runsVisibilityMap": {parent: False},
        "runsHiddenMode": "SHOWALL",
        "compareRunSections": [
            {
                "uuid": "nas-front",
                "name": "Pareto front",
                "display": True,
                "isReordered": True,
                "columns": 2,
                "cardHeight": 440,
            }
        ],
        "compareRunCharts": charts,
        "isAccordionReordered": True,
        "hideEmptyCharts": True,
        "viewMaximized": False,
        "runListHidden": False,
        "useGroupedValuesInCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "autoRefreshEnabled": True,
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }
    return json.dumps(data, separators=(",", ":"))


def describe(summary: Summary, links: Mapping[int, str], lead: str | None = None) -> str:
    """The parent's description: its first sentence is the result; never longer than MLflow keeps."""
    best, middle = summary.front(), summary.knee()
    first = lead
    if first is None and middle is None:
        first = f"No feasible trial among {len(summary.trials)}."
    elif first is None and middle is not None:
        values = ", ".join(f"{c.name} {figure(middle.values[c.name])} {c.unit}".strip() for c in summary.columns)
        name = summary.labels.get(middle.architecture.id)
        called = f" ({name})" if name else ""
        what = "best" if len(summary.columns) == 1 else "knee"
        head = (
            f"{len(best)} Pareto points of {len(summary.trials)} trials"
            if what == "knee"
            else f"{len(summary.trials)} trials"
        )
        first = f"{head}; {what} = trial {middle.number}{called}: {values}"
    for rows in (8, 4, 2, 0):
        table = (
            front_markdown(summary.trials, summary.columns, summary.labels, links=links, at_most=rows) if rows else ""
        )
        checks = [r.markdown() for r in (summary.trust, summary.validation) if r is not None]
        if not checks and summary.agreement is not None:
            checks = [summary.agreement.text()]
        parts = [f"**{first}**", table, *checks, *map(str, summary.notes)]
        text = "\n\n".join(p for p in parts if p)
        if len(text) <= TAG_LENGTH:
            return text
    return text[: TAG_LENGTH - 1] + "…"


def reference(trials: Sequence[Trial], columns: Sequence[Column]) -> list[float] | None:
    """The reference point of the hypervolume, in minimised values: a tenth beyond the worst feasible ones."""
    feasible = [t for t in trials if t.feasible]
    if not feasible or not 2 <= len(columns) <= 5:
        return None
    points = matrix(feasible, columns)
    spread = points.max(0) - points.min(0)
    worst: list[float] = (
        points.max(0) + 0.1 * np.where(spread > 0, spread, np.maximum(1.0, np.abs(points.max(0))))
    ).tolist()
    return worst


def progress(
    trials: Sequence[Trial], columns: Sequence[Column], worst: Sequence[float] | None, after: int = -1
) -> list[tuple[str, float, int]]:
    """Metrics of the study over its trials as (name, value, trial number): best values, size and volume of the front.

    Args:
        worst: see `reference`; without it no volume.
        after: leave out trials up to this number, which were logged before.
    """
    made: list[tuple[str, float, int]] = []
    kept = np.empty((0, len(columns)))
    known: tuple[float, ...] = ()
    ordered = sorted((t for t in trials if t.feasible and t.number is not None), key=lambda t: t.number or 0)
    every = max(1, len(ordered) // MOST_STEPS)
    for i, t in enumerate(ordered):
        point = matrix([t], columns)
        changed = not any(np.all(p <= point[0]) for p in kept)
        if changed:
            kept = np.concatenate([kept, point])
            kept = kept[non_dominated(kept)]
            known = (
                *(columns[j].sign * float(kept[:, j].min()) for j in range(len(columns))),
                len(kept),
                _volume(kept, worst),
            )
        number = t.number or 0
        if number > after and (changed or i % every == 0 or i == len(ordered) - 1):
            made += [(clean(f"study/best_{c.name}"), known[j], number) for j, c in enumerate(columns)]
            if len(columns) > 1:
                made.append(("study/n_pareto", known[-2], number))
            if known[-1] >= 0:
                made.append(("study/hypervolume", known[-1], number))
    return made


def _volume(points: np.ndarray, worst: Sequence[float] | None) -> float:
    """-1 where it cannot be computed."""
    if worst is None or points.shape[1] != len(worst):
        return -1.0
    try:
        import moocore
    except ImportError:
        return -1.0
    inside = points[np.all(points < np.asarray(worst), axis=1)]
    return float(moocore.hypervolume(inside, ref=np.asarray(worst))) if len(inside) else 0.0
