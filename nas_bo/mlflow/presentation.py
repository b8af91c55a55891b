"""How a study looks when it is opened: a shared view of the experiment, the parent's description, metrics over trials.

The state of the view is MLflow's private format (3.17). A version that does not know it shows its usual page.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from urllib.parse import quote

from nas_bo.mlflow.content import TAG_LENGTH, clean
from nas_bo.mlflow.tags import KEY
from nas_bo.report import Summary, figure
from nas_bo.report.against import against
from nas_bo.report.progress import reference, steps
from nas_bo.report.table import table_markdown
from nas_bo.trial import ObjectiveSpec, Trial
from nas_bo.wording import counted

VIEW = "mlflow.sharedViewState."  # + key: an experiment tag that holds the state of the runs page
LAST = "nas.front"  # experiment tag: the key of the study that was reported last
MOST_STEPS = 500
HIDDEN = (
    "study",
    "retrain",
    "rerun",
    "model",
)  # kinds of runs that are not points of the picture: what is left is trials and baselines

__all__ = ["address", "describe", "progress", "reference", "state"]


def address(base: str, experiment: str, key: str) -> str:
    """The page that opens on the front; `base` is the address of the UI."""
    page = f"{base.rstrip('/')}/#/experiments/{quote(experiment)}/runs"
    return f"{page}?viewStateShareKey={quote(key)}&compareRunsMode=CHART"


def state(
    key: str,
    parent: str,
    columns: Sequence[ObjectiveSpec],
    params: Sequence[str],
    metrics: Sequence[str],
    log: Collection[str] = (),
    key_tag: str = KEY,
) -> str:
    """The state of the runs page: a scatter plot of the first two objectives, parallel coordinates, and a table.

    Args:
        params: parameter names for the parallel coordinates, most important first.
        metrics: names of further metrics for the columns of the table.
        log: names of objectives that are drawn by their logarithm first.
        key_tag: the tag that has the key.
    """
    objectives = [clean(f"obj/{c.name}") for c in columns]

    def chart(kind: str, **fields: object) -> dict[str, object]:
        fixed = {"type": kind, "uuid": f"nas-{kind.lower()}-{len(charts)}", "metricSectionId": "nas-front"}
        return {**fixed, "runsCountToCompare": 100, "deleted": False, "isGenerated": False, "displayName": "", **fields}

    def axis(name: str) -> dict[str, str]:
        return {"key": name, "type": "METRIC"}

    charts: list[dict[str, object]] = []
    for j in range(1, min(3, len(objectives))):
        across = [objectives[j]]
        if columns[j].name in log:
            across.insert(0, clean(f"log10/{columns[j].name}"))
        charts += [chart("SCATTER", xaxis=axis(name), yaxis=axis(objectives[0])) for name in across]
    if len(objectives) == 1:
        charts.append(chart("BAR", metricKey=objectives[0]))
    if params:
        charts.append(
            chart("PARALLEL", selectedParams=list(params)[:6], selectedMetrics=objectives[:3], showAllRuns=True)
        )
    shown = [*objectives, *metrics]
    data = {
        "searchFilter": f'tags.`{key_tag}` = "{key}" AND ' + " AND ".join(f'tags.`nas.kind` != "{k}"' for k in HIDDEN),
        "orderByKey": f"metrics.`{objectives[0]}`",
        "orderByAsc": columns[0].direction == "minimize",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [
            *(f"metrics.`{m}`" for m in shown),
            *(f"tags.`{t}`" for t in ("nas.pareto", "nas.state", "nas.kind")),
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
                "name": "Pareto front (orange)",  # MLflow has no key for colours
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
            f"{counted(len(best), 'Pareto point')} of {counted(len(summary.trials), 'trial')}"
            if what == "knee"
            else counted(len(summary.trials), "trial")
        )
        trained = {c.name for c in summary.columns if c.cost == "trained"}
        again = " (re-trained)" if trained & set(summary.final.again) else ""
        first = f"{head}; {what} = trial {middle.number}{called}: {values}{again}"
    for rows in (8, 4, 2, 0):
        table = table_markdown(summary, links=links, at_most=rows) if rows else ""
        checks = [r.markdown() for r in (summary.trust, summary.validation) if r is not None]
        head, *rest = summary.opening or [""]
        parts = [
            f"**{head}**" if head else "",
            f"**{first}**",
            *rest,
            *against(summary),
            table,
            *checks,
            *map(str, summary.notes),
        ]
        text = "\n\n".join(p for p in parts if p)
        if len(text) <= TAG_LENGTH:
            return text
    return text[: TAG_LENGTH - 1] + "…"


def progress(
    trials: Sequence[Trial], columns: Sequence[ObjectiveSpec], worst: Sequence[float] | None, after: int = -1
) -> list[tuple[str, float, int]]:
    """Metrics of the study over its trials as (name, value, trial number): best values, size and volume of the front.

    Args:
        worst: see `reference`; without it no volume.
        after: leave out trials up to this number, which were logged before.
    """
    made: list[tuple[str, float, int]] = []
    taken = steps(trials, columns, worst)
    every = max(1, len(taken) // MOST_STEPS)
    for i, step in enumerate(taken):
        if step.number > after and (step.changed or i % every == 0 or i == len(taken) - 1):
            made += [(clean(f"study/best_{c.name}"), step.best[j], step.number) for j, c in enumerate(columns)]
            if len(columns) > 1:
                made.append(("study/n_pareto", step.n_pareto, step.number))
            if step.hypervolume is not None:
                made.append(("study/hypervolume", step.hypervolume, step.number))
    return made
