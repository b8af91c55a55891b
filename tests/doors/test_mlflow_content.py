"""What a trial becomes in MLflow, and which addresses are accepted: pure functions, no store."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution

from nas_bo.architecture import Architecture
from nas_bo.errors import HostError
from nas_bo.mlflow import Tracker, content, open_ui, presentation, tracking_uri
from nas_bo.optuna import reading
from nas_bo.space import Space, choice, integer, option, repeat
from nas_bo.study import StudyRecord, attributes, write_attributes
from nas_bo.trial import ObjectiveSpec, State, Trial

TINY = Space.of(
    "Tiny",
    depth=integer(1, 3),
    width=choice(64, 128),
    layers=repeat("depth", mixer=choice(option("attention", heads=choice(2, 4)), option("conv"))),
    rules={"no_conv_only": lambda arch: True},
)
COLUMNS = [
    ObjectiveSpec("val_loss", "nats"),
    ObjectiveSpec("latency_ms", "ms", cost="measured", at_most=25),
    ObjectiveSpec("parameters", cost="analytic"),
]


def our_study(name: str = "ours", started: str = "2026-11-23T10:00:00", **more) -> optuna.Study:
    """A study as search() leaves it."""
    study = optuna.create_study(study_name=name, directions=["minimize"] * 3, **more)
    about = {
        "space": TINY.to_dict(),
        "columns": [vars(c) for c in COLUMNS],
        "conditions": {},
        "strategy": "NSGA2()",
        "seed": 0,
        "device": "cpu, 2 cores",
        "versions": {"nas_bo": "0.1"},
        "started": started,
        "fingerprint": TINY.fingerprint(),
    }
    for key, text in write_attributes("nas_bo:study", about).items():
        study.set_user_attr(key, text)
    return study


def add(study: optuna.Study, seed: int, loss: float | None, latency: float = 10.0, **info) -> optuna.trial.FrozenTrial:
    """A finished trial of `our_study`; without a loss it failed."""
    arch = TINY.sample(seed)
    values = {"latency_ms": latency, "parameters": 1000.0 * arch.width} | ({} if loss is None else {"val_loss": loss})
    violations = {"latency_ms<=25": max(0.0, latency - 25), "rule:no_conv_only": 0.0}
    state = State.FAILED if loss is None else State.COMPLETE
    curve = [[1000 * k, 5.0 - 0.1 * k] for k in range(30)]
    noted = {
        "val_loss": {"how": "trained", "seconds": 1.5, "curve": curve, "parameters": 1234, "seed": 0} | info,
        "latency_ms": {"how": "measured", "device": "cpu", "repeats": 9, "spread": 0.03},
        "parameters": {"seconds": 0.001},
    }
    reason = "val_loss: diverged at step 3" if loss is None else ""
    ours = Trial(arch, values, violations, state, reason, noted, seconds=2.5)
    study.enqueue_trial(dict(arch.flat))
    trial = study.ask()
    assert TINY.decide(lambda path, domain: trial.suggest_categorical(path, domain.values)) == arch
    for key, text in attributes(ours).items():
        trial.set_user_attr(key, text)
    trial.set_user_attr("nas_bo:label", f"d{arch.width} L{arch.depth}")
    for name, amount in violations.items():
        trial.set_constraint(name, amount)
    if loss is None:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    else:
        study.tell(trial, [values[c.name] for c in COLUMNS])
    return study.trials[-1]


def made_of(frozen: optuna.trial.FrozenTrial, cols=COLUMNS, space=TINY) -> content.Content:
    about = {} if space is None else {"space": space.to_dict()}
    return content.of_trial(StudyRecord("s", "k", cols, about), reading.trial_record(frozen, cols))


@given(st.text(min_size=1, max_size=400))
def test_every_name_becomes_one_that_mlflow_accepts(name):
    from mlflow.utils.validation import _validate_metric_name, _validate_tag_name

    text = content.clean(name)
    _validate_metric_name(text)
    _validate_tag_name(text)
    assert len(text) <= content.KEY_LENGTH


@given(st.text(max_size=30), st.text(max_size=30))
def test_different_names_stay_different(a, b):
    if a and b and a != b and "<=" not in a + b and ">=" not in a + b:
        assert content.clean(a) != content.clean(b)


def test_good_names_stay_and_limits_read_well():
    assert content.clean("obj/val_loss") == "obj/val_loss"
    assert content.clean("constraint/latency_ms<=25") == "constraint/latency_ms at most 25"


@given(st.integers(0, 5000), st.integers(2, 300))
def test_thinned_curves_keep_their_ends_and_their_order(n, most):
    kept = content.thin(list(range(n)), most)
    assert len(kept) <= max(most, 0) or n <= most
    assert kept == sorted(set(kept)) and (not n or (kept[0], kept[-1]) == (0, n - 1))


def test_a_trial_of_ours():
    made = made_of(add(our_study(), 1, 2.5))
    names = [name for name, _, _ in made.metrics]
    assert names[:3] == ["obj/val_loss", "obj/latency_ms", "obj/parameters"] and made.status == "FINISHED"
    assert [(s, v) for n, v, s in made.metrics if n == "train/loss"][1] == (1000, 4.9)
    assert {"arch_stat/parameters", "hw/latency_ms.spread", "cost/val_loss.seconds", "cost/seconds"} <= set(names)
    assert not [n for n in names if n.startswith("constraint/") and n != "constraint/violated"]
    assert made.params["arch/code"].startswith("d") and "arch/layers.0.mixer" in made.params
    assert made.tags["nas.how.latency_ms"] == "measured; device cpu; repeats 9; spread 0.03000"
    assert made.tags["nas.state"] == "complete" and made.name.startswith("000 d")
    assert list(made.files) == ["arch.json", "arch.svg"]
    assert made.files["arch.svg"].startswith("<svg") and "width</text>" in made.files["arch.svg"]
    note = made.tags["mlflow.note.content"]
    assert (
        "| latency\\_ms [ms] | 10 | measured; device cpu; repeats 9; spread 0.03000 |".replace("[ms]", "\\[ms\\]")
        in note
    )
    assert "| parameters | 128.0k | computed from the architecture |" in note
    assert made.tags["nas.how.parameters"] == "computed from the architecture"


def test_short_series_are_metrics_over_steps_and_cost_no_file():
    info = {
        "samples": [1.5, 2.5], "validation": [[1000, 3.5], [2000, 2.5]], "rungs": [[0.25, 4.0]], "low": 2.4, "high": 2.6,
        "probe": [["0.1", 2]], "parts": {"a": 1.0, "b": 2}, "cpu_seconds": 3.25,
    }  # fmt: skip
    made = made_of(add(our_study(), 1, 2.5, **info))
    seen = {(n, s): v for n, v, s in made.metrics}
    assert (seen["hw/val_loss.samples", 0], seen["hw/val_loss.samples", 1]) == (1.5, 2.5)
    assert seen["val/val_loss", 2000] == 2.5 and seen["val/val_loss.rungs", 25] == 4.0
    assert seen["hw/val_loss.low", 0] == 2.4 and seen["part/val_loss.b", 0] == 2 and seen["cost/val_loss.cpu_seconds", 0] == 3.25  # fmt: skip
    assert json.loads(made.files["trial.json"])["samples"] == ["val_loss"]  # the probe is no series
    del info["probe"]
    assert "trial.json" not in made_of(add(our_study(), 1, 2.5, **info)).files


def test_states_reasons_and_violations_are_told():
    study = our_study()
    failed, broken = made_of(add(study, 1, None)), made_of(add(study, 2, 2.5, latency=30.0))
    assert (failed.status, failed.tags["nas.state"]) == ("FAILED", "fail")
    assert failed.tags["nas.error"] == "val_loss: diverged at step 3"
    assert ("obj/latency_ms", 10.0, 0) in failed.metrics  # what was measured before it failed
    assert list(failed.files) == ["arch.json", "error.txt"]
    assert failed.files["error.txt"].startswith("val_loss: diverged at step 3\n") and "latency_ms = 10.0" in failed.files["error.txt"]  # fmt: skip
    assert failed.tags["mlflow.note.content"].startswith("val\\_loss: diverged at step 3")
    assert broken.tags["nas.state"] == "infeasible"
    assert ("constraint/latency_ms at most 25", 5.0, 0) in broken.metrics


def test_what_is_long_is_spilled_whole():
    curve = [[k, 5.0] for k in range(1000)]
    samples = [0.123456789] * 2000
    made = made_of(add(our_study(), 1, 2.5, curve=curve, samples=samples))
    assert 100 < sum(n == "train/loss" for n, _, _ in made.metrics) <= content.MOST_POINTS
    spilled = json.loads(made.files["trial.json"])
    assert spilled["curves"]["val_loss"] == curve and spilled["info"]["val_loss"]["samples"] == samples
    assert all(len(v) <= content.TAG_LENGTH for v in made.tags.values())


def test_what_is_spilled_costs_no_request_where_there_is_an_architecture():
    made = made_of(add(our_study(), 1, 2.5, samples=[0.125] * 2000))
    assert set(made.files) == {"arch.json", "arch.svg", "trial.json"} and set(made.uploads) == {"arch.json", "arch.svg"}
    assert json.loads(made.uploads["arch.json"])["trial"] == json.loads(made.files["trial.json"])
    assert Architecture.from_json(made.uploads["arch.json"]) == TINY.sample(1)  # read as before
    plain = made_of(foreign([1.0], {"lr": 0.1}, {"note": "x" * 9000}), [ObjectiveSpec("value")], None)
    assert set(plain.uploads) == {"trial.json"} and plain.uploads == plain.files


def foreign(values, params, user=None, state=optuna.trial.TrialState.COMPLETE, **more):
    distributions = {
        k: CategoricalDistribution([v]) if isinstance(v, str) else FloatDistribution(-1e9, 1e9)
        for k, v in params.items()
    }
    return optuna.trial.create_trial(
        values=values, params=params, distributions=distributions, user_attrs=user or {}, state=state, **more
    )


def test_a_foreign_trial_keeps_its_names_and_loses_nothing():
    long = "x" * 9000
    params = {"lr": 0.1, "a very/odd <name>": 2.0, "text": "y" * 7000}
    made = made_of(
        foreign([1.0], params, {"note": long, "small": {"a": 1}, "mlflow.user": "me"}), [ObjectiveSpec("value")], None
    )
    assert made.params["lr"] == "0.1" and "text" not in made.params
    assert (
        json.loads(made.tags["small"]) == {"a": 1}
        and "note" not in made.tags
        and made.tags["optuna.mlflow.user"] == "me"
    )
    spilled = json.loads(made.files["trial.json"])
    assert spilled["tags"]["note"] == long and spilled["params"]["text"] == params["text"]
    assert "arch.json" not in made.files


def test_a_hundred_and_fifty_parameters_fit_one_request():
    made = made_of(foreign([1.0], {f"p{i}": float(i) for i in range(150)}), [ObjectiveSpec("value")], None)
    assert len(made.params) == content.MOST_PARAMS and len(json.loads(made.files["trial.json"])["params"]) == 50


def test_infinite_values_are_a_tag_and_no_metric():
    made = made_of(foreign([math.inf], {"lr": 0.1}), [ObjectiveSpec("value")], None)
    assert "obj/value" not in [n for n, _, _ in made.metrics]
    assert made.tags["nas.state"] == "fail" and made.tags["nas.not_finite"] == "value = inf"


def test_a_study_is_known_by_name_and_start():
    keys = {reading.head(s).key for s in (our_study(), our_study(started="2026-11-24T10:00:00"), our_study("b"))}
    assert len(keys) == 3
    empty = optuna.create_study(study_name="plain")
    assert reading.head(empty).key == ""
    empty.enqueue_trial({"x": 1})  # number 0, and it waits
    assert reading.head(empty).key == ""
    empty.tell(empty.ask(), 1.0)
    first = reading.head(empty).key
    empty.tell(empty.ask(), 1.0)
    assert first and reading.head(empty).key == first


@pytest.mark.parametrize(
    "uri", ["ftp://x/y", "http://", "sqlite://", "sqlite:///:memory:", "./mlruns", "file:///mlruns"]
)
def test_malformed_addresses_are_refused_with_an_example(uri):
    with pytest.raises(HostError, match=r"sqlite:///|http://127"):
        Tracker(uri=uri)


def test_addresses_do_not_depend_on_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    default = f"sqlite:///{tmp_path}/mlflow.db"
    assert {
        tracking_uri.resolve(u) for u in (None, "mlflow.db", Path("mlflow.db"), "sqlite:///mlflow.db", default)
    } == {default}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000/")
    assert Tracker().uri == "http://127.0.0.1:5000"


def test_check_names_the_cause(tmp_path, monkeypatch):
    Tracker(uri=tmp_path / "new" / "mlflow.db").check()  # a folder that can be made
    assert not (tmp_path / "new" / "mlflow.db").exists()
    (tmp_path / "text.db").write_text("this is not a database, but it is long enough")
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError, match="not an SQLite database"):
        Tracker(uri=tmp_path / "text.db").check()
    with pytest.raises(HostError, match="cannot be written"):
        Tracker(uri=tmp_path / "file" / "mlflow.db").check()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(HostError, match=r"no MLflow server answers.*nas-bo ui"):
        Tracker(uri=f"http://127.0.0.1:{port}").check()
    with pytest.raises(HostError, match="is a server already"):
        open_ui(f"http://127.0.0.1:{port}")


def test_a_read_only_folder_is_said_to_be_one(tmp_path):
    where = tmp_path / "locked"
    where.mkdir(mode=0o500)
    try:
        (where / "probe").touch()
        where = Path("/proc")  # the super-user may write anywhere else
    except OSError:
        pass
    if not where.exists():
        pytest.skip("no folder here that this user may not write to")
    with pytest.raises(HostError, match="choose a folder that you may write to"):
        Tracker(uri=where / "mlflow.db").check()


def test_passwords_are_not_shown():
    tracker = Tracker(uri="http://me:secret@127.0.0.1:9/path")
    assert "secret" not in repr(tracker) and "127.0.0.1:9" in repr(tracker)
    with pytest.raises(HostError) as caught:
        tracker.check()
    assert "secret" not in str(caught.value)


def test_reserved_tags_are_refused():
    with pytest.raises(HostError, match="use another name"):
        Tracker(uri="mlflow.db", tags={"nas.kind": "mine"})


def test_patience_changes_the_environment_only_inside(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    before = dict(os.environ)
    with tracking_uri.patience("http://x", 5):
        with tracking_uri.patience("http://x", 5):
            pass
        assert (
            os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0" and os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
        )
    assert dict(os.environ) == before
    with tracking_uri.patience("sqlite:///x", 5):
        assert dict(os.environ) == before


def test_the_view_is_small_and_complete():
    text = presentation.state("abc", "p" * 32, COLUMNS, ["arch/depth"], ["arch_stat/parameters"])
    data = json.loads(text)
    assert len(text) < 6000 and [c["type"] for c in data["compareRunCharts"]] == ["SCATTER", "SCATTER", "PARALLEL"]
    assert data["compareRunCharts"][0]["yaxis"]["key"] == "obj/val_loss" and data["orderByAsc"] is True


def test_objectives_with_names_that_mlflow_does_not_take_are_found_again():
    cols = [ObjectiveSpec("loss (nats)"), ObjectiveSpec("val_loss@10%")]
    made = made_of(foreign([1.0, 2.0], {"x": 0.5}), cols, None)
    metrics = {name: value for name, value, _ in made.metrics}
    assert content.point(metrics, made.tags, cols) == made.point == [1.0, 2.0]
    shown = json.loads(presentation.state("abc", "p" * 32, cols, [], []))["compareRunCharts"][0]
    assert {shown["xaxis"]["key"], shown["yaxis"]["key"]} <= set(metrics)


def test_progress_goes_on_where_it_ended():
    cols = COLUMNS[:2]
    trials = [
        reading.trial_record(foreign([5 - 0.1 * i, 1 + i % 4], {"x": float(i)}), cols).of(None) for i in range(12)
    ]
    trials = [Trial(t.architecture, t.values, number=i) for i, t in enumerate(trials)]
    worst = presentation.reference(trials, cols)
    whole = presentation.progress(trials, cols, worst)
    parts = presentation.progress(trials[:6], cols, worst) + presentation.progress(trials, cols, worst, after=5)
    assert whole == parts
    volumes = [v for n, v, _ in whole if n == "study/hypervolume"]
    assert volumes == sorted(volumes) and volumes[-1] > 0
    assert [v for n, v, _ in whole if n == "study/best_val_loss"][-1] == pytest.approx(3.9)


def test_importing_the_door_imports_neither_mlflow_nor_optuna():
    heavy = {"mlflow", "optuna", "matplotlib", "pandas", "scipy", "torch"}
    code = f"import sys, nas_bo.mlflow, nas_bo.report; print({heavy} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
