"""What a person sees in MLflow: one hypervolume, the front in its colour, names for values, no tags of the machine's."""

from __future__ import annotations

import json
import math

import optuna
import pytest

from nas_bo.errors import HostError
from nas_bo.mlflow import Tracker, tags
from nas_bo.report.progress import ENOUGH, reference, steps
from tests.doors.test_mlflow import Store, empty_store, uri  # noqa: F401
from tests.doors.test_mlflow_content import add, our_study


def filled(n: int, name: str = "ours") -> optuna.Study:
    study = our_study(name)
    for i in range(n):
        add(study, i, 3.0 - 0.1 * i, latency=5.0 * 1.3**i)
    return study


def reported(study: optuna.Study, tracker: Tracker) -> float:
    """The hypervolume that the report draws."""
    from nas_bo.mlflow import records
    from nas_bo.study import source

    of = source(study)
    summary = records.summary(of.head(), of.ended(), "")
    worst = reference(summary.trials, summary.columns)
    return steps(summary.trials, summary.columns, worst)[-1].hypervolume


@pytest.mark.parametrize("n", [3, 24])
def test_the_hypervolume_is_that_of_the_report(uri, n):  # noqa: F811
    """Worst values that come late do not move it: it was 2.33 in MLflow and 3.66 in the picture of one search."""
    study, store = filled(n), Store(uri)
    tracker = Tracker(uri=uri)
    for trial in study.trials:
        tracker.log(study, trial)
    assert tracker.flush()
    tracker.finish(study)
    (parent,) = store.runs("Tiny", "study")
    assert parent.data.metrics["study/hypervolume"] == pytest.approx(reported(study, tracker), rel=1e-12)
    for i in range(n, n + 12):  # it goes on, with values worse than all before
        add(study, i, 2.0 + 0.3 * i, latency=0.5 * i)
    Tracker(uri=uri).log_study(study, finish=True)
    (parent,) = store.runs("Tiny", "study")
    assert parent.data.metrics["study/hypervolume"] == pytest.approx(reported(study, tracker), rel=1e-12)


def test_the_reference_point_stays_while_a_study_grows():
    from nas_bo.architecture import Architecture, Node
    from nas_bo.trial import ObjectiveSpec, Trial

    columns = [ObjectiveSpec("a"), ObjectiveSpec("b")]
    trials = [
        Trial(Architecture(Node({"i": i}), {"i": i}), {"a": float(i), "b": float(i * i % 7)}, number=i)
        for i in range(30)
    ]
    first = reference(trials[:ENOUGH], columns)
    assert first is not None and first == reference(trials, columns) == reference(trials[::-1], columns)


def test_the_front_has_its_colour_and_latency_its_logarithm(uri):  # noqa: F811
    study, store = filled(12), Store(uri)
    add(study, 12, 9.0, latency=900.0)
    Tracker(uri=uri).log_study(study, finish=True)
    runs = store.runs("Tiny", "trial")
    for run in runs:
        on_front = run.data.tags["nas.pareto"] == "true"
        assert run.data.tags["mlflow.runColor"] == (tags.ON_FRONT if on_front else tags.BESIDE)
        assert run.data.metrics["log10/latency_ms"] == pytest.approx(math.log10(run.data.metrics["obj/latency_ms"]))
    assert {run.data.tags["nas.pareto"] for run in runs} == {"true", "false"}
    known = store.experiment("Tiny").tags
    charts = json.loads(known["mlflow.sharedViewState." + known["nas.front"]])["compareRunCharts"]
    assert [c["xaxis"]["key"] for c in charts if c["type"] == "SCATTER"][:2] == ["log10/latency_ms", "obj/latency_ms"]


def test_a_trial_that_leaves_the_front_changes_its_colour(uri):  # noqa: F811
    study, store, tracker = our_study(), Store(uri), Tracker(uri=uri)
    add(study, 0, 3.0, latency=5.0)
    tracker.log_study(study, finish=True)
    assert store.runs("Tiny", "trial")[0].data.tags["mlflow.runColor"] == tags.ON_FRONT
    add(study, 1, 2.0, latency=4.0)
    tracker.log_study(study, finish=True)
    assert [r.data.tags["mlflow.runColor"] for r in store.runs("Tiny", "trial")] == [tags.BESIDE, tags.ON_FRONT]


def test_what_a_person_sees_is_for_people(uri):  # noqa: F811
    study, store = filled(2), Store(uri)
    Tracker(uri=uri).log_study(study, finish=True)
    for kind in ("study", "trial"):
        for run in store.runs("Tiny", kind):
            shown = {tag for tag in run.data.tags if not tag.startswith("mlflow.")}
            assert not shown & {tags.before(t) for t in (tags.KEY, tags.UID, tags.WRITER, tags.PROGRESS, tags.SPACE)}
            assert tags.KEY in run.data.tags and tags.UID in run.data.tags


def test_a_study_that_version_0_1_logged_goes_on(uri):  # noqa: F811
    """Its runs have the machine's tags under their old names."""
    study, store = filled(3), Store(uri)
    Tracker(uri=uri).log_study(study, finish=True)
    for run in [*store.runs("Tiny", "study"), *store.runs("Tiny", "trial")]:
        for tag in (tags.KEY, tags.UID, tags.WRITER, tags.PROGRESS, tags.SPACE):
            if tag in run.data.tags:
                store.client.set_tag(run.info.run_id, tags.before(tag), run.data.tags[tag])
                store.client.delete_tag(run.info.run_id, tag)
    assert Tracker(uri=uri).log_study(study, finish=True) == 0
    add(study, 3, 1.0)
    assert Tracker(uri=uri).log_study(study, finish=True) == 1
    assert len(store.runs("Tiny", "study")) == 1
    runs = store.runs("Tiny", "trial")
    assert len(runs) == 4 and all(tags.before(tags.KEY) in run.data.tags for run in runs)
    known = store.experiment("Tiny").tags
    assert "tags.`nas.study_key`" in json.loads(known["mlflow.sharedViewState." + known["nas.front"]])["searchFilter"]


def plain(directions: int, named: bool = False) -> optuna.Study:
    study = optuna.create_study(study_name=f"plain{directions}", directions=["minimize"] * directions)
    if named:
        study.set_metric_names([f"own{i}" for i in range(directions)])
    study.optimize(lambda trial: [trial.suggest_float("x", 0, 1)] * directions, n_trials=2)
    return study


def test_values_without_names_can_be_given_some(uri):  # noqa: F811
    store = Store(uri)

    def logged(study: optuna.Study, experiment: str, names: list[str] | None = None) -> set[str]:
        Tracker(uri=uri, experiment=experiment, metric_names=names).log_study(study, finish=True)
        return {name for name in store.runs(experiment, "trial")[0].data.metrics if name.startswith("obj/")}

    assert logged(plain(1), "a") == {"obj/value"}
    assert logged(plain(2), "b") == {"obj/value_0", "obj/value_1"}
    assert logged(plain(2), "c", ["loss", "cost"]) == {"obj/loss", "obj/cost"}
    assert logged(plain(2, named=True), "d", ["loss", "cost"]) == {"obj/own0", "obj/own1"}
    study = plain(2)
    with pytest.raises(HostError, match="different names"):
        Tracker(uri=uri, metric_names=["loss", "loss"])
    tracker = Tracker(uri=uri, experiment="e", metric_names=["loss"])
    assert (
        tracker.log_study(study) <= 0 and store.experiment("e") is None
    )  # it says so, and logs nothing under wrong names
