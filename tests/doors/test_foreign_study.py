"""A study that nas_bo did not make is refused, or taken as it is; nothing in it is renamed, trained again or added."""

import json

import optuna
import pytest
from typer.testing import CliRunner

from nas_bo import AskTell, search, validate
from nas_bo.cli.app import app
from nas_bo.errors import HostError, NasBoError, SearchError
from nas_bo.objectives import Flops, Parameters
from nas_bo.optuna import merge, studies
from nas_bo.search_spaces import TinyGPT
from nas_bo.strategies import Random
from tests.problems import Toy

NAMES = ["rmse", "euros"]


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def theirs(path, names=NAMES, directions=("minimize", "minimize"), trials=3, waiting=True):
    study = optuna.create_study(study_name="prod", storage=f"sqlite:///{path}", directions=list(directions))
    if names:
        study.set_metric_names(names)
    study.set_user_attr("owner", "the pricing team")
    study.optimize(lambda t: [t.suggest_float("alpha", 0, 1) + k for k in range(len(directions))], n_trials=trials)
    if waiting:
        study.enqueue_trial({"alpha": 0.5})
        study.ask()
    return study


def state(path):
    """All that the database holds."""
    import sqlite3

    with sqlite3.connect(path) as database:
        tables = [row[0] for row in database.execute("select name from sqlite_master where type = 'table' order by 1")]
        return {table: database.execute(f"select * from {table}").fetchall() for table in tables}


DIFFERENT = [
    {},
    {"names": None},
    {"names": ["parameters", "mflops"]},
    {"names": ["mflops", "parameters"], "directions": ("minimize", "maximize")},
    {"names": ["mflops"], "directions": ("minimize",)},
    {"names": ["mflops", "parameters", "watts"], "directions": ("minimize",) * 3},
    {"names": ["mflops", "parameters "]},
    {"names": NAMES, "trials": 0, "waiting": False},
]


@pytest.mark.parametrize("different", DIFFERENT)
@pytest.mark.parametrize("entrance", ["search", "AskTell"])
def test_another_study_is_refused_and_stays_as_it_is(different, entrance, tmp_path):
    path = tmp_path / "p.db"
    theirs(path, **different)
    before = state(path)
    with pytest.raises(HostError, match="'prod' was not made by nas_bo: it has .* this search has mflops .minimize."):
        if entrance == "search":
            search(TinyGPT, [Flops(), Parameters()], trials=2, storage=path, study_name="prod", retrain=0)
        else:
            AskTell(TinyGPT, [Flops(), Parameters()], storage=path, study_name="prod")
    assert state(path) == before


def test_commands_refuse_it_with_one_paragraph_and_leave_it_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    theirs("p.db")
    before = state("p.db")
    line = json.dumps({"number": 3, "values": {"val_loss": 1.0, "latency_ms": 1.0}})
    for words, told in (
        (
            ["search", "--storage", "p.db", "--study", "prod", "--mlflow", "none", "--trials", "2", "--budget", "2000"],
            None,
        ),
        (["ask", "--storage", "p.db", "--study", "prod"], None),
        (["tell", "--storage", "p.db", "--study", "prod"], line),
        (["validate", "--storage", "p.db", "--study", "prod", "--mlflow", "none"], None),
        (["register", "p.db", "--study", "prod"], None),
        (["merge", "p.db", "--into", "other.db"], None),
    ):
        done = CliRunner().invoke(app, words, input=told)
        assert done.exit_code == 2, (words, done.output)
        assert "'prod'" in done.stderr and "not made by nas_bo" in done.stderr and "Traceback" not in done.stderr
        assert state("p.db") == before
    assert not (tmp_path / "nas-bo-out" / "prod").exists() and not (tmp_path / "other.db").exists()


def test_merging_into_it_is_refused(tmp_path):
    path = tmp_path / "p.db"
    theirs(path)
    ours = search(TinyGPT, [Flops(), Parameters()], strategy=Random(seed=0), trials=2, retrain=0)
    before = state(path)
    with pytest.raises(HostError, match="not made by nas_bo"):
        merge([ours.study], str(path), "prod")
    assert state(path) == before


def test_validation_and_register_name_it(tmp_path):
    study = theirs(tmp_path / "p.db")
    with pytest.raises(SearchError, match="'prod'.*not made by nas_bo"):
        validate(TinyGPT, [Flops()], Flops(), history=study, seeds=1)
    from nas_bo.workflows.search import load_result

    with pytest.raises(SearchError, match="not made by nas_bo"):
        load_result(study).register("model", track=str(tmp_path / "m.db"))


def test_one_of_the_same_metrics_goes_on_and_keeps_what_is_in_it(tmp_path):
    path = tmp_path / "p.db"
    study = theirs(path, names=["mflops", "parameters"], waiting=False)
    before = [(t.number, t.params, t.values, t.state) for t in study.trials]
    running = study.ask()  # theirs, and it stays so
    result = search(
        TinyGPT, [Flops(), Parameters()], strategy=Random(seed=0), trials=7, storage=path, study_name="prod", retrain=0
    )
    after = studies.load(path, "prod")
    assert after.metric_names == ["mflops", "parameters"] and after.user_attrs["owner"] == "the pricing team"
    assert [(t.number, t.params, t.values, t.state) for t in after.trials[:3]] == before
    assert after.trials[running.number].state.name == "RUNNING" and after.trials[running.number].params == {}
    assert [t.number for t in result.trials] == list(result.own) == [4, 5, 6]
    again = search(
        TinyGPT, [Flops(), Parameters()], strategy=Random(seed=0), trials=7, storage=path, study_name="prod", retrain=0
    )
    assert again.own == () and len(again.trials) == 3


def test_a_parameter_of_the_same_name_is_found_before_the_first_trial(tmp_path):
    path = tmp_path / "p.db"
    study = theirs(path, names=["mflops", "parameters"], trials=0, waiting=False)
    study.optimize(lambda t: [t.suggest_categorical("width", [1, 2]), 1.0], n_trials=1)
    before = state(path)
    with pytest.raises(HostError, match="its parameter 'width' is .* of the space TinyGPT"):
        search(TinyGPT, [Flops(), Parameters()], trials=3, storage=path, study_name="prod", retrain=0)
    assert state(path) == before


def test_an_empty_study_of_the_command_of_optuna_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "WAIT", 0.1)
    optuna.create_study(study_name="prod", storage=f"sqlite:///{tmp_path}/p.db", directions=["minimize"] * 2)
    result = search(
        TinyGPT,
        [Flops(), Parameters()],
        strategy=Random(seed=0),
        trials=2,
        storage=tmp_path / "p.db",
        study_name="prod",
        retrain=0,
    )
    assert len(result.trials) == 2 and result.study.metric_names == ["mflops", "parameters"]


FAILING = [False]


def loss(arch):
    if FAILING[0]:
        raise RuntimeError("no memory")
    return float(arch.depth)


def test_the_trials_of_this_run_decide_the_exit_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    FAILING[0] = False
    wanted = f"search --space tests.problems:Toy --objective {__name__}:loss --mlflow none --retrain 0".split()
    more = [*wanted, "--strategy", "random", "--workers", "1", "--storage", "s.db", "--out", str(tmp_path / "out")]
    assert CliRunner().invoke(app, [*more, "--trials", "3"]).exit_code == 0
    FAILING[0] = True
    failed = CliRunner().invoke(app, [*more, "--trials", "5"])
    assert failed.exit_code == 1, failed.output
    FAILING[0] = False
    assert CliRunner().invoke(app, [*more, "--trials", "5"]).exit_code == 0  # nothing was left to be done
    assert CliRunner().invoke(app, [*more, "--trials", "6"]).exit_code == 0
    assert CliRunner().invoke(app, ["report", "s.db", "--out", str(tmp_path / "out")]).exit_code == 0


def test_ours_of_another_space_is_refused_everywhere(tmp_path):
    path = tmp_path / "s.db"
    search(TinyGPT, [Flops(), Parameters()], strategy=Random(seed=0), trials=1, storage=path, study_name="s", retrain=0)
    for make in (
        lambda: search(Toy, [loss], storage=path, study_name="s", trials=1),
        lambda: AskTell(Toy, ["mflops", "parameters"], storage=path, study_name="s"),
        lambda: AskTell(TinyGPT, [Flops(at_most=1e9), Parameters()], storage=path, study_name="s"),
        lambda: AskTell(TinyGPT, [Flops()], storage=path, study_name="s"),
    ):
        with pytest.raises(NasBoError, match="'s' (belongs to the space|was begun with the)"):
            make()
