"""Asking and telling, from Python and from shells: several at once, from other processes, told twice, told wrongly."""

from __future__ import annotations

import json
import math
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

import optuna
import pytest
from typer.testing import CliRunner

from nas_bo import AskTell, Reported, search
from nas_bo.cli.app import app
from nas_bo.errors import HostError, SearchError
from nas_bo.search_spaces import TinyGPT
from nas_bo.space import Space, choice, integer, repeat, require
from nas_bo.strategies import NSGA2, Random
from nas_bo.trial import State
from tests.processes import for_a_shell

optuna.logging.set_verbosity(optuna.logging.ERROR)


class Small(Space):
    depth = integer(1, 3)
    layers = repeat(depth, width=choice(1, 2, 4))

    @require
    def no_pyramid(arch):
        return arch.layers[0].width <= arch.layers[-1].width


class Tiny(Space):
    a = choice(1, 2)
    b = choice(1, 2)


def size(arch):
    return float(sum(layer.width for layer in arch.layers))


size.cost = "analytic"
size.at_most = 8


def latency(arch) -> float:
    """Not to be evaluated here."""
    raise AssertionError


def session(storage=None, **more) -> AskTell:
    settings = {"objectives": ["loss", size], "limits": [Reported("ms", at_most=5.0)], "strategy": NSGA2(population=4)}
    return AskTell(Small, storage=storage, **{**settings, **more})


def test_a_search_by_asking_and_telling(tmp_path) -> None:
    opt = session(str(tmp_path / "a.db"))
    for _ in range(12):
        asked = opt.ask()
        assert asked.known == {"size": size(asked.architecture)} and asked.known["size"] <= 8
        assert not Small.violations(asked.architecture)
        opt.tell(asked.number, {"loss": 10 - size(asked.architecture), "ms": len(asked.architecture.layers) * 2.0})
    result = opt.result()
    assert [t.number for t in result.trials] == list(range(12)) and result.front
    assert {t.feasible for t in result.trials} == {True, False}  # three layers take six milliseconds
    assert len({t.architecture.id for t in result.trials}) == 12
    assert all(t.info["ms"]["value"] == 2.0 * len(t.architecture.layers) for t in result.trials)
    assert all(len(t.architecture.layers) < 3 for t in result.front)


def test_the_search_is_a_function_of_seed_and_history_and_another_process_may_go_on(tmp_path) -> None:
    def told(opt: AskTell, n: int) -> list[str]:
        found = []
        for _ in range(n):
            asked = opt.ask()
            found.append(asked.architecture.id)
            opt.tell(asked.number, {"loss": -size(asked.architecture), "ms": 1.0})
        return found

    whole = told(session(str(tmp_path / "a.db")), 8)
    assert told(session(str(tmp_path / "b.db")), 3) + told(session(str(tmp_path / "b.db")), 5) == whole


def test_several_open_at_once_are_different_and_may_be_told_in_any_order(tmp_path) -> None:
    opt = session(str(tmp_path / "a.db"))
    with ThreadPoolExecutor(4) as pool:
        asked = list(pool.map(lambda _: session(str(tmp_path / "a.db")).ask(), range(8)))
    assert len({a.architecture.id for a in asked}) == 8 and {a.number for a in asked} == set(range(8))
    assert {a.number for a in opt.open} == set(range(8))
    for a in reversed(asked):
        other = session(str(tmp_path / "a.db"))
        other.tell(a.number, {"loss": 1.0, "ms": 1.0})
    assert opt.open == [] and len(opt.result().trials) == 8


def test_a_trial_that_a_search_evaluates_cannot_be_told_by_others(tmp_path) -> None:
    from nas_bo.optuna import studies

    opt = AskTell(Tiny, ["loss"], storage=str(tmp_path / "a.db"), strategy=Random())
    trial, _ = studies.ask(opt.study, opt.problem, None)
    with pytest.raises(SearchError, match="a search evaluates it"):
        opt.tell(trial.number, {"loss": 1.0})
    studies.release(trial)
    assert opt.tell(trial.number, {"loss": 1.0}).state is State.COMPLETE


def test_info_that_is_none_is_refused(tmp_path) -> None:
    opt = AskTell(Tiny, ["loss"], strategy=Random())
    with pytest.raises(SearchError, match=r"info of 'loss' is 'mine'; write"):
        opt.tell(opt.ask().number, {"loss": 1.0}, info={"loss": "mine"})


def test_a_search_that_maximises_goes_on_by_asking(tmp_path, monkeypatch) -> None:
    class Accuracy:
        name, unit, direction, cost = "accuracy", "", "maximize", "trained"

        def __call__(self, arch) -> float:
            return 0.5

    search(TinyGPT, [Accuracy()], trials=1, strategy=Random(), storage=str(tmp_path / "nas-bo.db"), retrain=0)
    asked = inside(tmp_path, monkeypatch, "", "ask", "--strategy", "random")
    assert asked.exit_code == 0 and json.loads(asked.stdout)["tell"] == ["accuracy"], asked.stderr


def test_lines_that_are_not_json_hide_none_of_the_others() -> None:
    from nas_bo.cli.ask import read

    found = list(read(['{"number": 0}\n', "epoch 1\n", "\n", '{"number":\n', ' 1} {"number": 2}\n', "done\n"]))
    assert [d["number"] for d in found if isinstance(d, dict)] == [0, 1, 2]
    assert [str(d).partition(";")[0] for d in found if not isinstance(d, dict)] == [
        "this on stdin is not JSON: 'epoch 1'",
        "this on stdin is not JSON: 'done'",
    ]


def test_asked_trials_belong_to_nobody_that_could_die(tmp_path) -> None:
    """`search` takes up what a dead process left running, but not what somebody will tell."""
    from nas_bo.optuna import studies

    opt = AskTell(Tiny, ["loss"], storage=str(tmp_path / "a.db"), strategy=Random())
    asked = opt.ask()
    assert studies.adopt(opt.study, opt.problem) == []

    def loss(arch) -> float:
        return float(arch.a + arch.b)

    result = search(Tiny, [loss], strategy=Random(), trials=3, storage=str(tmp_path / "a.db"), retrain=0)
    assert [t.number for t in result.trials] == [1, 2] and [a.number for a in opt.open] == [0]
    assert asked.architecture.id not in {t.architecture.id for t in result.trials}


def test_what_becomes_of_a_trial() -> None:
    opt = session()
    numbers = [opt.ask().number for _ in range(5)]
    assert opt.tell(numbers[0], {"loss": 1.0, "ms": 1.0}).state is State.COMPLETE
    late = opt.tell(numbers[1], {"ms": 7.0})  # too slow: nobody trained it
    assert late.state is State.INFEASIBLE and late.violations["ms<=5"] == 2.0 and "ms<=5" in late.reason
    nan = opt.tell(numbers[2], {"loss": math.nan, "ms": 1.0})
    assert nan.state is State.FAILED and nan.reason == "loss is nan, not a finite number"
    lost = opt.tell(numbers[3], failed="out of memory")
    assert lost.state is State.FAILED and lost.reason == "out of memory" and "size" in lost.values
    noted = opt.tell(numbers[4], {"loss": 2.0, "ms": 1.0}, info={"loss": {"seed": 3}})
    assert noted.info["loss"]["seed"] == 3
    states = [t.state.name for t in opt.study.trials]
    assert states == ["COMPLETE", "PRUNED", "FAIL", "FAIL", "COMPLETE"]
    # telling again is harmless where it is the same, and refused where it is not
    assert opt.tell(numbers[0], {"loss": 1.0, "ms": 1.0}).state is State.COMPLETE
    assert opt.tell(numbers[3], failed="out of memory").state is State.FAILED
    with pytest.raises(
        SearchError, match=r"trial 0 has ended already \(complete, loss 1, size .*\); what is reported now"
    ):
        opt.tell(numbers[0], {"loss": 1.5, "ms": 1.0})


@pytest.mark.parametrize(
    ("number", "values", "failed", "match"),
    [
        (0, None, None, "either values or a reason"),
        (0, {"loss": 1.0, "ms": 1.0}, "and failed", "either values or a reason"),
        (7, {"loss": 1.0}, None, "trial 7 was not asked for; those that wait for a result: 0"),
        ("0", {"loss": 1.0}, None, "not a number of a trial"),
        (True, {"loss": 1.0}, None, "not a number of a trial"),
        (0, {"loss": 1.0}, None, "no value of 'ms'; tell loss, ms"),
        (0, {"los": 1.0}, None, "did you mean 'loss'"),
        (0, {"size": 1.0}, None, "'size' is computed, not reported"),
        (0, {"loss": "low", "ms": 1.0}, None, "loss is 'low', not a number"),
        (0, {"loss": True, "ms": 1.0}, None, "loss is True, not a number"),
    ],
)
def test_what_cannot_be_told_is_refused_and_the_trial_stays_open(number, values, failed, match) -> None:
    opt = session()
    opt.ask()
    with pytest.raises(SearchError, match=match):
        opt.tell(number, values, failed=failed)
    assert [a.number for a in opt.open] == [0]


def test_a_space_that_is_exhausted_says_so_and_leaves_nothing_running() -> None:
    opt = AskTell(Tiny, ["loss"], strategy=Random())
    for _ in range(4):
        opt.tell(opt.ask().number, {"loss": 1.0})
    with pytest.raises(SearchError, match="Tiny is exhausted"):
        opt.ask()
    assert opt.open == [] and len(opt.result().front) == 1
    opt.study.enqueue_trial({"a": 1, "b": 2})  # wanted once more, by whoever enqueued it
    assert dict(opt.ask().architecture.flat) == {"a": 1, "b": 2}


def test_what_a_session_refuses(tmp_path) -> None:
    with pytest.raises(SearchError, match="cannot evaluate 'latency'"):
        AskTell(Tiny, ["loss", latency])
    with pytest.raises(SearchError, match="must be a list"):
        AskTell(Tiny, "loss")
    session(str(tmp_path / "a.db"))
    with pytest.raises(HostError, match="was begun with the objectives loss, size"):
        session(str(tmp_path / "a.db"), objectives=["loss"], limits=())
    with pytest.raises(HostError, match="belongs to the space 'Small'"):
        AskTell(Tiny, ["loss"], storage=str(tmp_path / "a.db"), study_name="Small")


# ---- the shell ----------------------------------------------------------------------------------------------------


def shell(line: str, cwd) -> subprocess.CompletedProcess[str]:
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    python = for_a_shell()
    env = {**os.environ, "PYTHONPATH": root, "NAS": f"{python} -m nas_bo", "PY": python}
    return subprocess.run(["bash", "-c", line], cwd=cwd, env=env, capture_output=True, text=True, timeout=900)


def inside(folder, monkeypatch, stdin: str, *args: str):
    """The command in this process, which is faster."""
    monkeypatch.chdir(folder)
    return CliRunner().invoke(app, args, input=stdin)


TRAIN = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    layers = asked["architecture"]["tree"]["layers"]
    print(json.dumps({**asked, "values": {"val_loss": 3 - 0.1 * len(layers), "phone_ms": 2.0 * len(layers)}}))
"""


@pytest.fixture(scope="module")
def piped(tmp_path_factory):
    """Two processes ask at the same time, a script trains, and both are told; then one fails."""
    folder = tmp_path_factory.mktemp("piped")
    (folder / "train.py").write_text(TRAIN)
    first = shell(
        "$NAS ask --objective val_loss --objective parameters --at-most phone_ms=7 --strategy nsga2 | $PY train.py | $NAS tell",
        folder,
    )
    both = shell("$NAS ask > a.json & $NAS ask > b.json & wait; cat a.json b.json | $PY train.py | $NAS tell", folder)
    return folder, first, both


def test_a_pipeline(piped) -> None:
    folder, first, both = piped
    assert first.returncode == 0, first.stderr
    told = json.loads(first.stdout)
    assert told["number"] == 0 and told["state"] == "complete" and set(told["values"]) == {"val_loss", "parameters"}
    assert both.returncode == 0 and not both.stderr, both.stderr
    assert sorted(json.loads(line)["number"] for line in both.stdout.splitlines()) == [1, 2]
    a, b = (json.loads((folder / f"{name}.json").read_text()) for name in "ab")
    assert a["id"] != b["id"] and a["known"]["parameters"] > 0 and a["tell"] == ["val_loss", "phone_ms"]


def test_a_pipeline_that_breaks_and_one_that_is_told_wrongly(piped, monkeypatch) -> None:
    folder, *_ = piped
    lost = shell("$NAS ask > c.json; $NAS ask --open", folder)
    asked = json.loads((folder / "c.json").read_text())
    assert json.loads(lost.stdout)["id"] == asked["id"]
    wrong = shell("""sed 's/"id": "./"id": "x/' c.json | $PY train.py | $NAS tell""", folder)
    assert wrong.returncode == 2 and "is this another study" in wrong.stderr and not wrong.stdout
    for text, said in (
        ("nonsense", "this on stdin is not JSON"),
        ("", "nothing on stdin"),
        ('{"values": {}}', "no number of a trial"),
        (f'{{"number": {asked["number"]}, "values": {{"val_loss": 1}}}}', "no value of 'phone_ms'"),
        (f'{{"number": {asked["number"]}, "failed": 1}}', "write the reason"),
    ):
        refused = inside(folder, monkeypatch, text, "tell")
        assert refused.exit_code == 2 and said in refused.stderr and not refused.stdout, refused
        assert len(refused.stderr.strip().splitlines()) == 1
    text = f'[{{"number": 99, "values": {{}}}}, {{"number": {asked["number"]}, "failed": "out of memory"}}]'
    some = inside(folder, monkeypatch, text, "tell")
    assert some.exit_code == 2 and "trial 99" in some.stderr and json.loads(some.stdout)["state"] == "failed"
    text = text.partition(",")[2].partition(",")[2].strip(" ]")
    failed = inside(folder, monkeypatch, f"{text}\n{text}", "tell")
    assert [json.loads(line)["reason"] for line in failed.stdout.splitlines()] == ["out of memory"] * 2
    report = json.loads(inside(folder, monkeypatch, "", "report", "--json").stdout)
    assert report["trials"] == 4 and report["complete"] == 3 and report["front"]


def test_what_ask_and_tell_refuse_at_the_command_line(piped, monkeypatch) -> None:
    folder, *_ = piped
    for stdin, line, said in (
        ("", "ask --space llama --study TinyGPT", "belongs to the space"),
        ("", "ask --objective val_loss", "was begun with the objectives"),
        ("", "ask --at-most phone_ms", "write a name and a number"),
        ('{"number": 0}', "tell --storage none.db", "nas-bo ask` makes it"),
        ("", "ask --open --storage none.db", "nas-bo ask` makes it"),
    ):
        refused = inside(folder, monkeypatch, stdin, *line.split())
        assert refused.exit_code == 2 and said in refused.stderr and not refused.stdout, refused
        assert len(refused.stderr.strip().splitlines()) == 1
    assert not (folder / "none.db").exists()


def test_the_loss_is_told_by_either_of_its_names():
    opt = AskTell(TinyGPT, ["val_loss"], strategy=Random(seed=0))
    asked = opt.ask()
    assert opt.tell(asked.number, {"bits_per_byte": 2.5}).values == {"val_loss": 2.5}
