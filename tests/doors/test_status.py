"""Trials that run elsewhere, or nowhere any more: named, listed by `nas-bo status`, and evaluated again when they are asked for."""

import json
import os
import shutil
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import optuna
import pytest
from typer.testing import CliRunner

from nas_bo import AskTell, search
from nas_bo.cli.app import app
from nas_bo.errors import SearchError
from nas_bo.execution import InProcess
from nas_bo.optuna import running, studies
from nas_bo.problem import Problem
from nas_bo.process import Place, owner
from nas_bo.strategies import Random
from nas_bo.study import ALIVE, PLACE
from nas_bo.workflows.search import load_result
from tests.problems import Toy
from tests.processes import python


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def depth(arch):
    return float(arch.depth)


def run(path, trials, **more):
    return search(Toy, [depth], strategy=Random(seed=0), trials=trials, storage=path, retrain=0, **more)


def left(path, owner, minutes, seed=4):
    """A trial that the process `owner` has been evaluating for so many minutes."""
    study = studies.load(path)
    trial, _ = studies.ask(study, Problem(Toy, [depth]), Toy.sample(seed))
    trial.set_user_attr(running.OWNER, owner)
    trial.set_user_attr(running.SINCE, (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat())
    return trial.number


@pytest.mark.parametrize("name", ["s.db", "s.log"])
def test_a_trial_of_another_machine_is_named_and_evaluated_again_when_it_is_old_enough(name, tmp_path, caplog):
    path = str(tmp_path / name)
    run(path, 2)
    number = left(path, "elsewhere:123:456", 45)
    for more in ({}, {"adopt_after": 3600}):
        caplog.clear()
        result = run(path, 4, **more)
        assert [t.number for t in result.trials] == [0, 1, 3] and result.own == ((3,) if not more else ())
        assert f"trial {number} by elsewhere (process 123) since" in caplog.text and "adopt_after" in str(result)
    result = run(path, 4, adopt_after=1800)
    assert result.own == (number,) and result.trials[number].architecture.id == Toy.sample(4).id
    assert "elsewhere" not in str(result)


def test_a_trial_that_becomes_old_while_the_search_runs_is_taken_up_at_its_end(tmp_path):
    path = str(tmp_path / "s.db")
    run(path, 1)
    number = left(path, "elsewhere:123:456", 10)

    def older(progress):
        if progress.trial is not None:  # time passes
            study = studies.load(path)
            trial = next(t for t in study.trials if t.number == number)
            if trial.state.name == "RUNNING":
                then = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
                optuna.Trial(study, trial._trial_id).set_user_attr(running.SINCE, then)

    assert number in run(path, 4, adopt_after=3600, on_progress=older).own


def test_what_was_asked_for_is_left_to_whoever_tells_it(tmp_path):
    path = str(tmp_path / "s.db")
    opt = AskTell(Toy, ["depth"], strategy=Random(seed=0), storage=path, study_name="s")
    asked = opt.ask()
    assert studies.adopt(opt.study, opt.problem, 1e-9) == []
    opt.tell(asked.number, {"depth": 1.0})


@pytest.mark.parametrize("after", [0, -1, True, "30m", float("nan")])
def test_a_time_that_is_none_is_refused(after):
    with pytest.raises(SearchError, match="adopt_after"):
        run(None, 1, adopt_after=after)


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("s.db", 2)
    dead = python("-c", "from nas_bo.process import owner; print(owner())")
    left("s.db", "elsewhere:123:456", 45, seed=4)
    left("s.db", dead.stdout.strip(), 90, seed=5)
    left("s.db", owner(), 0, seed=6)
    study = studies.load("s.db")
    study.enqueue_trial({"depth": 1})
    optuna.create_study(study_name="theirs", storage="sqlite:///s.db").optimize(
        lambda t: 1 / t.number, 2, catch=ZeroDivisionError
    )
    before = (tmp_path / "s.db").read_bytes()
    done = CliRunner().invoke(app, ["status", "s.db", "--json"])
    ours, theirs = json.loads(done.stdout)["studies"]
    counts = {k: ours[k] for k in ("trials", "finished", "failed", "running", "waiting")}
    assert counts == {"trials": 6, "finished": 2, "failed": 0, "running": 3, "waiting": 1} and ours["made_by_nas_bo"]
    assert [(e["trial"], e["machine"], e["alive"]) for e in ours["evaluated"]] == [
        (2, "elsewhere", None), (3, os.uname().nodename, False), (4, os.uname().nodename, True),
    ]  # fmt: skip
    assert (theirs["finished"], theirs["failed"], theirs["made_by_nas_bo"]) == (1, 1, False)
    text = CliRunner().invoke(app, ["status", "s.db", "--study", "Toy"])
    assert (
        text.exit_code == 0
        and "trial 2     on elsewhere, process 123, since" in text.output
        and "45 min ago" in text.output
    )
    assert "which is dead" in text.output and "theirs" not in text.output
    assert (tmp_path / "s.db").read_bytes() == before
    for words in (["status", "none.db"], ["status", "s.db", "--study", "other"]):
        assert CliRunner().invoke(app, words).exit_code == 2
    wrong = ["search", "--space", "tests.problems:Toy", "--objective", f"{__name__}:depth", "--adopt-after", "soon"]
    refused = CliRunner().invoke(app, [*wrong, "--storage", "s.db", "--mlflow", "none"])
    assert (
        refused.exit_code == 2
        and "--adopt-after 'soon'" in refused.stderr
        and (tmp_path / "s.db").read_bytes() == before
    )


@pytest.mark.parametrize("name", ["s.db", "s.log"])
def test_files_that_cannot_be_written_are_read(name):
    """In a folder that cannot be written either; as another user where the tests run as root, who may write anything."""
    folder = Path(tempfile.mkdtemp())  # pytest's own are closed to other users
    try:
        run(folder / name, 2)
        (folder / name).chmod(0o444)
        folder.chmod(0o555)
        code = (
            "import os\n"
            "from nas_bo.optuna import storages\n"
            f"read = lambda: len(storages.load({str(folder / name)!r}, reading=True).trials)\n"
            "read()\n"  # imports everything
            # root writes everywhere: without its capabilities it may what the modes say
            "import ctypes\n"
            "if os.getuid() == 0: assert ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()) == 0\n"
            f"assert not os.access({str(folder / name)!r}, os.W_OK)\n"
            "print(read())\n"
        )
        done = python("-c", code)
        assert done.stdout.strip() == "2", done.stderr
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_an_infinite_value_counts_alike_in_status_report_and_page(tmp_path, monkeypatch):
    """In a study of ours, which something else told an infinity, and in one of others."""
    monkeypatch.chdir(tmp_path)
    run("s.db", 2)
    ours = studies.load("s.db")
    trial, _ = studies.ask(ours, Problem(Toy, [depth]), Toy.sample(4))
    ours.tell(trial, float("inf"))
    theirs = optuna.create_study(study_name="theirs", storage="sqlite:///s.db", directions=["minimize"] * 2)
    for values in ((1.0, 2.0), (float("-inf"), 0.0), (0.0, float("inf"))):
        theirs.add_trial(optuna.trial.create_trial(values=values))
    said = json.loads(CliRunner().invoke(app, ["status", "s.db", "--json"]).stdout)["studies"]
    for study, one, expected in zip((ours, theirs), said, ((2, 1), (1, 2)), strict=True):
        result = load_result(study)
        told = result.to_dict()
        assert (one["finished"], one["failed"]) == (told["complete"], told["failed"]) == expected
        assert len(result.front) == 1 and "inf, not a finite number" in str(result)
    assert "1 finished, 2 failed" in load_result(theirs).facts["study"]


def test_each_machine_is_a_row_and_what_is_lost_is_said(tmp_path):
    path = str(tmp_path / "s.db")
    run(path, 2)
    mine = owner().rsplit(":", 2)[0]
    left(path, owner(), 1, seed=4)
    silent = left(path, "elsewhere:123:456", 45, seed=5)
    left(path, "elsewhere:123:457", 45, seed=6)  # never gave a sign: nobody knows
    old = (datetime.now(UTC) - timedelta(minutes=30)).isoformat()
    study = studies.load(path)
    storage = study._storage
    storage.set_trial_user_attr(study.trials[silent]._trial_id, running.SINCE, old)
    storage.set_trial_user_attr(study.trials[silent]._trial_id, ALIVE, old)
    seen = CliRunner().invoke(app, ["status", path, "--json"])
    (one,) = json.loads(seen.output)["studies"]
    assert one["lost"] == 1
    assert {m["machine"]: (m["ended"], m["failed"], m["running"], m["lost"]) for m in one["machines"]} == {
        mine: (2, 0, 1, 0),
        "elsewhere": (0, 0, 1, 1),
    }
    text = CliRunner().invoke(app, ["status", path]).output
    assert "lost: 1 of the running ones" in text and "of them failed" in text
    assert any(line.split() == ["elsewhere", "0", "0", "1", "1"] for line in text.splitlines())


class Cluster(InProcess):
    """Says of its evaluations that two nodes of a cluster take turns; those of a width of 8 fail."""

    def take(self):
        key, outcome = super().take()
        self.at = (
            Place("b0" * 28, "second", "10.0.0.2", 8) if key % 2 else Place("a0" * 28, "first", "10.0.0.1", 7 + key)
        )
        return key, replace(outcome, place=self.at)

    def places(self):
        return {10: Place("b0" * 28, "second", "10.0.0.2", 9)}


def narrow_fails(arch):
    return 1 / (arch.width - 8)


@pytest.mark.parametrize("name", ["s.db", "s.log"])
def test_each_node_of_a_cluster_is_a_row(name, tmp_path):
    """Read from the storage: a trial says where it ended in what it writes anyway, a running one next to its sign of life."""
    path, seen = str(tmp_path / name), []
    search(
        Toy, [narrow_fails], strategy=Random(seed=0), trials=8, storage=path, retrain=0, executor=Cluster(), on_progress=seen.append
    )  # fmt: skip
    living, dead = (left(path, by, 1, seed) for by, seed in ((owner(), 4), ("elsewhere:123:456", 5)))
    study, old = studies.load(path), (datetime.now(UTC) - timedelta(minutes=30)).isoformat()
    for number, sign in ((living, datetime.now(UTC).isoformat()), (dead, old)):
        trial = optuna.Trial(study, study.trials[number]._trial_id)
        for key, value in {
            running.SINCE: old,
            ALIVE: sign,
            PLACE: Place("b0" * 28, "second", "10.0.0.2", 9).noted,
        }.items():
            trial.set_user_attr(key, value)
    (one,) = json.loads(CliRunner().invoke(app, ["status", path, "--json"]).output)["studies"]
    failed = [t.number % 2 for t in study.trials if t.state.name == "FAIL"]
    assert failed and one["nodes"] == [
        {"id": "a0" * 28, "host": "first", "address": "10.0.0.1", "workers": 4, "running": 0, "ended": 4, "failed": failed.count(0), "lost": 0},
        {"id": "b0" * 28, "host": "second", "address": "10.0.0.2", "workers": 2, "running": 1, "ended": 4, "failed": failed.count(1), "lost": 1},
    ]  # fmt: skip
    text = CliRunner().invoke(app, ["status", path]).output.splitlines()
    assert any(
        line.split() == ["second", "b0b0b0b0", "10.0.0.2", "2", "1", "4", str(failed.count(1)), "1"] for line in text
    )
    live = seen[-1].nodes
    assert [(n.host, n.workers, n.running, n.ended) for n in live] == [("first", 4, 0, 4), ("second", 2, 1, 4)]
    assert [t.place.host for t in load_result(study).trials if t.number < 4] == ["first", "second"] * 2


def test_what_says_no_place_is_in_no_row(tmp_path):
    path = str(tmp_path / "s.db")
    run(path, 2)
    for noted in ("first", ["a", "b", "c"], ["a", "b", "c", "7"], [1, 2, 3, 4]):
        optuna.Trial(studies.load(path), left_id(path, noted)).set_user_attr(PLACE, noted)
    (one,) = json.loads(CliRunner().invoke(app, ["status", path, "--json"]).output)["studies"]
    assert one["nodes"] == [] and one["running"] == 4 and "node" not in CliRunner().invoke(app, ["status", path]).output


def left_id(path, seed):
    number = left(path, owner(), 1, seed=len(str(seed)))
    return studies.load(path).trials[number]._trial_id
