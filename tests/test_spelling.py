"""The loss in bits per byte has two names: new studies say `bits_per_byte`, those of 0.1 `val_loss`, and either is understood."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass, replace

import numpy as np
import optuna
import pytest
from typer.testing import CliRunner

from nas_bo import AskTell, search
from nas_bo.cli.app import app
from nas_bo.errors import HostError, ObjectiveError, SearchError
from nas_bo.objectives import Parameters, Predicted, ValidationLoss, Weighted
from nas_bo.objectives.predicted_inputs import Rung
from nas_bo.optuna import merge, studies
from nas_bo.problem import Problem, Reported, Value
from nas_bo.search_spaces import TinyGPT
from nas_bo.spelling import Values, answering, current, other, spelled
from nas_bo.strategies import Random
from nas_bo.trial import ObjectiveSpec
from nas_bo.workflows.comparison import compare
from nas_bo.workflows.evaluation_store import key
from nas_bo.workflows.search import load_result

BYTE = ObjectiveSpec("bits_per_byte", "bits/byte")


@dataclass(frozen=True)
class Quick(ValidationLoss):
    """Our loss without its training: a number of the architecture and the budget."""

    def __call__(self, arch, /):
        return 2.0 + int(arch.id, 16) % 1000 / 1000 / self.tokens**0.1

    def stages(self, arch):
        yield 0.25, self(arch) + 1
        yield 1.0, self(arch)


@dataclass(frozen=True)
class Own:
    """A user's own objective that happens to be called as ours was."""

    name: str = "val_loss"
    unit: str = "nats"
    direction: str = "minimize"
    cost: str = "analytic"

    def __call__(self, arch, /):
        return float(int(arch.id, 16) % 7)


def run(storage, loss, trials=3, name="s", **more):
    return search(
        TinyGPT,
        [loss, Parameters()],
        strategy=Random(seed=0),
        trials=trials,
        storage=storage,
        study_name=name,
        **more,
    )


# ---- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "also"),
    [
        ("val_loss", "bits_per_byte"),
        ("bits_per_byte", "val_loss"),
        ("val_loss@0.25", "bits_per_byte@0.25"),
        ("val_loss<=3", "bits_per_byte<=3"),
        ("val_loss_2", None),
        ("my val_loss", None),
        (None, None),
    ],
)
def test_the_other_name(name, also):
    assert other(name) == also


def test_a_name_is_understood_where_the_unit_agrees():
    assert spelled("val_loss", [BYTE]) == "bits_per_byte"
    assert (
        spelled("val_loss", ["bits_per_byte"])
        == "bits_per_byte"
        == spelled("val_loss", [ObjectiveSpec("bits_per_byte")])
    )
    for unit in ("nats", "bits/token"):
        assert spelled("bits_per_byte", [ObjectiveSpec("val_loss", unit)]) == "bits_per_byte"
    both = [BYTE, ObjectiveSpec("val_loss", "nats")]
    assert spelled("val_loss", both) == "val_loss" and spelled("bits_per_byte", both) == "bits_per_byte"
    assert (
        current(ObjectiveSpec("val_loss", "bits/byte")) == "bits_per_byte"
        and current(ObjectiveSpec("val_loss", "nats")) == "val_loss"
    )


def test_values_answer_to_both_names_and_list_one():
    values = answering({"bits_per_byte": 2.0, "parameters": 3.0}, [BYTE])
    assert values["val_loss"] == 2.0 == values["bits_per_byte"] == values.get("val_loss") and "val_loss" in values
    assert dict(values) == {"bits_per_byte": 2.0, "parameters": 3.0} == values and len(values) == 2
    assert pickle.loads(pickle.dumps(values))["val_loss"] == 2.0 and json.loads(json.dumps(values)) == dict(values)
    assert values.get("latency_ms", 7) == 7 and "latency_ms" not in Values()
    with pytest.raises(KeyError, match="val_loss"):
        Values({"parameters": 1.0})["val_loss"]
    own = answering({"val_loss": 2.0}, [ObjectiveSpec("val_loss", "nats")])
    assert "bits_per_byte" not in own


def test_the_loss_is_called_what_it_is():
    assert (ValidationLoss().name, ValidationLoss().unit) == ("bits_per_byte", "bits/byte")
    tokens = ValidationLoss(data="x.npy")
    assert (tokens.name, tokens.unit) == ("val_loss", "bits/token")
    assert replace(ValidationLoss(), data="x.npy").name == "val_loss"
    assert ValidationLoss(name="val_loss").name == "val_loss" and ValidationLoss(name="mine").name == "mine"


# ---- studies ------------------------------------------------------------------------------------------------------


def test_a_new_study_says_bits_per_byte_and_understands_val_loss(tmp_path):
    found = run(f"{tmp_path}/new.db", Quick(at_most=9))
    assert found.study.metric_names == ["bits_per_byte", "parameters"] == [c.name for c in found.columns]
    assert found.best("val_loss") == found.best("bits_per_byte")
    trial = found.best("val_loss")
    assert trial.values["val_loss"] == trial.values["bits_per_byte"] and "val_loss" not in dict(trial.values)
    assert trial.violations == {"bits_per_byte<=9": 0.0}
    assert found.pick("val_loss where parameters<=1G and val_loss<=9").number == trial.number or found.retrained
    assert all(r.values["val_loss"] == r.values["bits_per_byte"] for r in found.retrained) and found.retrained
    assert found.knee().values["val_loss"] == found.knee().values["bits_per_byte"]
    for text in (str(found), found.files()["front.html"].decode(), json.dumps(found.to_dict())):
        assert "bits_per_byte" in text and "val_loss" not in text


@pytest.mark.parametrize("limits", ["none", "of the objective", "weighted", "limit"])
@pytest.mark.parametrize("first", ["val_loss", "bits_per_byte"])
def test_a_study_goes_on_with_the_name_that_it_has(tmp_path, first, limits):
    also, storage = other(first), f"{tmp_path}/s.db"

    def go(name, trials):
        loss = Quick(name=name, at_most=9 if limits in ("of the objective", "limit") else None)
        objectives = [Weighted([(1.0, loss), (1e-6, Parameters())])] if limits == "weighted" else [loss, Parameters()]
        if limits == "limit":
            objectives = [Parameters()]
        more = {"limits": [loss]} if limits == "limit" else {}
        return search(TinyGPT, objectives, strategy=Random(seed=0), trials=trials, storage=storage, retrain=0, **more)

    before = go(first, 3)
    after = go(also, 6)
    assert len(after.trials) == 6 and len({tuple(t.violations) for t in after.trials}) == 1
    assert after.study.metric_names == before.study.metric_names
    assert studies.kept(after.study, "study")["constraints"] == studies.kept(before.study, "study")["constraints"]
    if limits not in ("weighted", "limit"):
        assert after.study.metric_names[0] == first and all(also not in dict(t.values) for t in after.trials)
        assert after.best(also) == after.best(first) and after.best(also).values[also] == after.best(also).values[first]
    alone = search(
        TinyGPT,
        [Quick(), Parameters()] if limits != "limit" else [Parameters()],
        strategy=Random(seed=0),
        trials=6,
        retrain=0,
    )
    assert [t.architecture.id for t in alone.trials] == [t.architecture.id for t in after.trials]


def test_what_is_not_the_same_loss_is_refused_as_before(tmp_path):
    run(f"{tmp_path}/s.db", Quick(name="val_loss"))
    with pytest.raises(HostError, match="val_loss: tokens = 200000"):
        run(f"{tmp_path}/s.db", Quick(tokens=4000), trials=4)
    run(f"{tmp_path}/own.db", Own())
    with pytest.raises(
        HostError, match="begun with the objectives val_loss, parameters, this search has bits_per_byte"
    ):
        run(f"{tmp_path}/own.db", Quick(), trials=4)


def test_an_objective_of_the_user_has_its_own_name_only(tmp_path):
    found = run(f"{tmp_path}/own.db", Own())
    assert found.study.metric_names == ["val_loss", "parameters"] and "bits_per_byte" not in found.trials[0].values
    with pytest.raises(SearchError, match="no objective 'bits_per_byte'"):
        found.best("bits_per_byte")
    both = search(TinyGPT, [Own(), Quick()], strategy=Random(seed=0), trials=3, storage=f"{tmp_path}/both.db")
    trial = both.best("val_loss")
    assert trial.values["val_loss"] == Own()(trial.architecture) != trial.values["bits_per_byte"]
    again = search(TinyGPT, [Own(), Quick()], strategy=Random(seed=0), trials=4, storage=f"{tmp_path}/both.db")
    assert len(again.trials) == 4


@pytest.mark.parametrize("first", ["val_loss", "bits_per_byte"])
def test_what_is_told_goes_by_either_name(tmp_path, first):
    def opened(name):
        return AskTell(TinyGPT, [name, "ms"], strategy=Random(seed=0), storage=f"{tmp_path}/told.db")

    a = opened(first)
    a.tell(a.ask().number, {other(first): 2.0, "ms": 1.0}, info={other(first): {"how": "trained"}})
    b = opened(other(first))
    told = b.tell(b.ask().number, {other(first): 3.0, "ms": 1.0})
    assert b.study.metric_names == [first, "ms"] and dict(told.values) == {first: 3.0, "ms": 1.0}
    assert b.result().trials[0].info[first] == {"how": "trained"} and b.result().best(other(first)).number == 0


# ---- several studies ----------------------------------------------------------------------------------------------


def test_studies_of_both_names_are_compared_and_merged(tmp_path):
    old = run(f"{tmp_path}/old.db", Quick(name="val_loss", at_most=2.9), name="old")
    new = search(TinyGPT, [Quick(at_most=2.9), Parameters()], strategy=Random(seed=1), trials=3, study_name="new")
    for results in ([old, new], [new, old]):
        found = compare(results)
        assert found.again and [c.name for c in found.columns] == [c.name for c in results[0].columns]
    for name, others in (("a", [old.study, new.study]), ("b", [new.study, old.study])):
        made = merge(others, f"{tmp_path}/{name}.db", "all")
        assert (made.added, made.known) == (6, 0) and made.study.metric_names == others[0].metric_names
        result = load_result(made.study)
        first = result.columns[0].name
        assert {tuple(t.violations) for t in result.trials} == {(f"{first}<=2.9",)}
        assert {tuple(t.constraints) for t in made.study.trials} == {(f"{first}<=2.9",)}
        assert all(set(t.info) == {first, "parameters"} for t in result.trials)
        assert merge(others, f"{tmp_path}/{name}.db", "all").added == 0
    more = merge([old.study], f"{tmp_path}/b.db", "all")  # of the new name already
    assert (more.added, more.known) == (0, 3)
    assert len(run(f"{tmp_path}/b.db", Quick(at_most=2.9), trials=7, name="all").trials) == 7


def test_own_objectives_of_that_name_are_neither_compared_nor_merged_with_ours(tmp_path):
    mine, ours = run(f"{tmp_path}/mine.db", Own(), name="mine"), run(f"{tmp_path}/ours.db", Quick(), name="ours")
    with pytest.raises(SearchError, match="different objectives"):
        compare([mine, ours])
    with pytest.raises(HostError, match="objectives"):
        merge([mine.study, ours.study])


def test_predictors_learn_from_studies_of_either_name(tmp_path):
    for name in ("val_loss", "bits_per_byte"):
        found = run(None, Quick(name=name), trials=12, name=name)
        assert Predicted.fit(found, space=TinyGPT).name == f"predicted_{name}"
        assert Predicted.fit(found.trials, other(name), space=TinyGPT).name == f"predicted_{name}"
        assert Predicted.fit(found.trials, Quick(name=other(name)), space=TinyGPT).name == f"predicted_{name}"
        trial = replace(found.trials[0], info={name: {"rungs": [[0.25, 3.0]]}})
        assert Rung(other(name), 0.25).read(trial) == 3.0 and trial.rungs(other(name)) == {0.25: 3.0}


def test_what_a_validation_kept_under_the_old_name_is_found():
    for name in ("", "@25%", " searched"):
        assert key(Quick(name=f"bits_per_byte{name}")) == key(Quick(name=f"val_loss{name}"))
    assert key(Quick()) != key(Quick(tokens=4000)) and key(Own()) != key(Own(name="bits_per_bytes"))


# ---- the command --------------------------------------------------------------------------------------------------


def said(*args):
    done = CliRunner().invoke(app, [*args])
    return done.exit_code, " ".join((done.output or "").split())


def test_the_command_takes_either_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    quick = ["--budget", "1000", "--retrain", "0", "--objective", "parameters", "--mlflow", "none"]
    for name in ("val_loss", "bits_per_byte"):
        code, text = said("search", "--trials", "1", *quick, "--objective", name, "--storage", f"{name}.db", "--json")
        assert code == 0, text
        found = load_result(f"{name}.db")
        assert [c.name for c in found.columns] == ["parameters", "bits_per_byte"]
    code, text = said("report", "val_loss.db", "--pick", "best:val_loss")
    assert code == 0 and "bits_per_byte" in text


def test_a_loss_per_token_is_not_called_bits_per_byte(tmp_path, monkeypatch):
    np.save(tmp_path / "tokens.npy", (np.arange(40_000) * 7919 % 300).astype(np.uint16))
    from nas_bo.cli.options import Text
    from nas_bo.cli.quantities import Costs
    from nas_bo.cli.resolve import Asked, job

    text = Text(str(tmp_path / "tokens.npy"), vocab_size=300, token_dtype="uint16")
    asked = Asked("tiny_gpt", text, ["val_loss", "parameters"], "random", 1000.0, 0, Costs())
    made = job(asked)
    assert (made.objectives[0].name, made.objectives[0].unit) == ("val_loss", "bits/token")
    with pytest.raises(ObjectiveError, match="take val_loss, which is in bits/token"):
        job(replace(asked, objectives=["bits_per_byte"]))


# ---- Ax -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["val_loss", "bits_per_byte"])
def test_ax_takes_either_name(first):
    pytest.importorskip("ax")
    import nas_bo.ax as nas_ax
    from nas_bo.ax.evaluate import Metric, Runner

    also = other(first)
    loss = Quick(name=first)
    client = nas_ax.client(
        TinyGPT, [loss, Parameters()], strategy=Random(seed=0), thresholds={also: 3.0, "parameters": 1e9}
    )
    client.run_trials(max_trials=2)
    assert client._experiment.lookup_data().df.metric_name.isin([first, "parameters"]).all()
    # a host's own configuration with the other name
    client = nas_ax.client(TinyGPT, [Reported(also), "parameters"], strategy=Random(seed=0))
    client.configure_runner(Runner(Problem(TinyGPT, [loss, Parameters()])))
    client.configure_metrics([Metric(also), Metric("parameters")])
    client.run_trials(max_trials=2)
    assert len(client._experiment.lookup_data().df) == 4
    client.get_next_trials(1)
    outcome = Problem(TinyGPT, [loss, Parameters()]).evaluate(
        nas_ax.architecture(TinyGPT, client._experiment.trials[2].arm.parameters)
    )
    nas_ax.tell(client, 2, outcome)
    assert client._experiment.trials[2].status.name == "COMPLETED"


def test_foreign_studies_keep_their_names(tmp_path):
    url = f"sqlite:///{tmp_path}/foreign.db"
    study = optuna.create_study(study_name="s", storage=url, directions=["minimize", "minimize"])
    study.set_metric_names(["val_loss", "parameters"])
    found = run(url, Quick(), trials=2)
    assert found.study.metric_names == ["val_loss", "parameters"] and len(found.trials) == 2


def test_what_is_noted_and_the_frame_are_found_by_the_old_name_with_a_warning():
    @dataclass(frozen=True)
    class Loss:
        name: str = "bits_per_byte"
        unit: str = "bits/byte"
        direction: str = "minimize"
        cost: str = "trained"

        def __call__(self, arch):
            return Value(2.0, how="made up")

    result = search(TinyGPT, [Loss(), Parameters()], strategy=Random(seed=0), trials=2, retrain=0)
    for ask in (lambda: result.trials[0].info["val_loss"], lambda: result.trials[0].info.get("val_loss")):
        with pytest.warns(DeprecationWarning, match="'val_loss' is called 'bits_per_byte' since version 0.2"):
            assert ask()["how"] == "made up"
    assert result.trials[0].info["bits_per_byte"]["how"] == "made up" and result.trials[0].info.get("loss") is None
    frame = result.frame()
    for one in (frame, frame[frame["number"] > 0], pickle.loads(pickle.dumps(frame))):
        with pytest.warns(DeprecationWarning, match="'val_loss' is called 'bits_per_byte'"):
            assert (one["val_loss"] == one["bits_per_byte"]).all()
    assert list(frame[["number", "bits_per_byte"]]) == ["number", "bits_per_byte"]
    with pytest.raises(KeyError):
        frame["loss"]
