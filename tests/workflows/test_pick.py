"""One line of text picks one architecture, or says in one paragraph why not."""

from __future__ import annotations

import json
from dataclasses import replace

import optuna
import pytest
from typer.testing import CliRunner

from nas_bo import search
from nas_bo.cli.app import app
from nas_bo.errors import SearchError
from nas_bo.optuna.storages import backend
from nas_bo.space import Space, integer
from nas_bo.trial import ObjectiveSpec, State, Trial
from nas_bo.workflows.pick import described
from nas_bo.workflows.register import picks
from nas_bo.workflows.result import Result, Retrained

COLUMNS = (ObjectiveSpec("val_loss", "bits/byte"), ObjectiveSpec("latency_ms", "ms", cost="measured"))
POINTS = [(2.0, 9.0), (2.2, 4.0), (2.4, 2.0), (2.8, 1.0), (3.5, 5.0), (23.0, 0.5)]


class Numbers(Space):
    n = integer(0, 10_000)


def result(retrained=(), columns=COLUMNS) -> Result:
    trials = []
    for i, (loss, time) in enumerate(POINTS):
        info = {"val_loss": {"parameters": 1000 * (10 - i)}, "peak": {"value": 100.0 - i}}
        values = {"val_loss": loss, "latency_ms": time}
        trials.append(Trial(Numbers.architecture({"n": i}), values, number=i, info=info))
    failed = Trial(Numbers.architecture({"n": 90}), {}, state=State.FAILED, reason="diverged", number=9)
    return Result("mine", columns, [*trials, failed], retrained=retrained)


def test_constraints_of_another_study_bound_a_pick(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = optuna.create_study(study_name="mine", storage=backend("mine.db"))
    for x, room in ((1.0, 0.0), (2.0, -3.0), (3.0, -5.0), (4.0, 1.0)):
        trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 5)})
        trial.set_constraint("memory", room)
        study.tell(trial, x)
    picked = {
        w: CliRunner().invoke(app, ["report", "mine.db", "--json", "--pick", w])
        for w in ("value", "value where memory<=-3")
    }
    assert [json.loads(done.stdout)["trial"] for done in picked.values()] == [0, 1]
    other = CliRunner().invoke(app, ["report", "mine.db", "--pick", "value where memry<=-3"])
    assert other.exit_code == 2 and "did you mean" in other.stderr and "memory" in other.stderr


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("best:val_loss", 0),
        ("best: latency_ms", 5),
        ("val_loss", 0),
        ("val_loss where latency_ms<=2", 2),
        ("val_loss where latency_ms < 2", 3),
        ("val_loss where latency_ms<=2ms", 2),
        ("  val_loss   where latency_ms <= 2.0 ms  ", 2),
        ("latency_ms where val_loss<=2.4 and latency_ms>=3", 1),
        ("latency_ms where val_loss≤8", 3),
        ("val_loss where parameters<=9k and latency_ms<=1e1", 1),
        ("val_loss where parameters <= 0.009M", 1),
        ("val_loss where peak<=97.5", 3),
        ("best:val_loss where latency_ms<=2", 2),
        ("knee where latency_ms<=3", 2),
        ("bits_per_byte where latency_ms<=2", 2),
        ("latency_ms where bits_per_byte<=2.2", 1),
        ("4", 4),
    ],
)
def test_a_pick(text, number):
    assert result().pick(text).number == number


def test_bits_per_byte_is_another_name_of_the_loss():
    assert result().best("bits_per_byte") == result().best("val_loss")
    renamed = tuple(replace(c, name="bits_per_byte") if c.name == "val_loss" else c for c in COLUMNS)
    trials = [replace(t, values={"bits_per_byte": 2.0 + t.number, "latency_ms": 1.0}) for t in result().trials[:3]]
    assert (
        Result("new", renamed, trials).pick("val_loss").number
        == 0
        == Result("new", renamed, trials).best("val_loss").number
    )
    with pytest.raises(SearchError, match="no objective 'bits_per_byte'"):
        Result("x", COLUMNS[1:], result().trials).best("bits_per_byte")


def test_the_command_line_takes_either_name():
    from nas_bo.cli.resolve import _objective

    words = {"val_loss": lambda: "loss", "latency_ms": lambda: "time"}
    assert _objective("bits_per_byte", words) == "loss" == _objective("val_loss", words)


def test_the_knee_as_a_pick_is_the_knee():
    assert result().pick("knee") == result().knee() and result().pick(" knee ") == result().knee()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("val_los where latency_ms<=2", "did you mean 'val_loss'"),
        ("val_loss where latency<=2", "did you mean 'latency_ms'"),
        ("kne", "there is no pick 'kne'.*did you mean 'knee'"),
        ("best:parameters", "it has val_loss, latency_ms"),
        ("val_loss where latency_ms<=0.1", "the nearest is trial 5 "),
        ("val_loss where latency_ms<=3 and val_loss<=2.3", "the nearest is trial 2 .* latency_ms 2, val_loss 2.4"),
        ("val_loss where parameters<=1", "the nearest is trial 5 .* parameters 5,000"),
        ("val_loss where", "ends at 'where'"),
        ("val_loss where latency_ms", "not a comparison"),
        ("val_loss where latency_ms=2", "not a comparison"),
        ("val_loss where latency_ms<=fast", "a bound is a number, in ms"),
        ("val_loss where latency_ms<=2s", "a bound is a number, in ms"),
        ("val_loss where latency_ms<=nan", "a bound is a number"),
        ("where latency_ms<=2", "says nothing to choose by"),
        ("", "says nothing to choose by"),
        ("77", "there is no trial 77 .* on the front are 0, 1, 2, 3, 5"),
        ("-1", "there is no trial -1"),
        ("9", "is failed and not feasible: diverged"),
    ],
)
def test_a_bad_pick_is_one_paragraph(text, said):
    with pytest.raises(SearchError, match=said) as caught:
        result().pick(text)
    assert "\n" not in str(caught.value)


def test_final_values_count_where_there_are_any():
    key = [t.architecture.id for t in result().trials]
    again = [Retrained(key[i], {"val_loss": v}, info={"val_loss": {"seed": 1}}) for i, v in ((0, 1.9), (1, 1.8), (2, 2.3))]  # fmt: skip
    found = result(again)
    assert found.pick("best:val_loss").number == 1 and found.pick("val_loss").values["val_loss"] == 1.8
    assert found.pick("0").values == {"val_loss": 1.9, "latency_ms": 9.0}
    assert found.pick("val_loss where latency_ms<=1.5").number == 3  # only the search has seen something that fast
    assert found.pick("val_loss where latency_ms<=3").values["val_loss"] == 2.3
    told = described(found, found.pick("1"))
    assert told["searched"]["val_loss"] == 2.2 and told["values"]["val_loss"] == 1.8 and told["retrained"]
    assert not described(found, found.pick("3"))["retrained"] and json.dumps(told)


def test_an_interval_is_told_with_its_level():
    key = result().trials[0].architecture.id
    info = {"latency_ms": {"low": 7.5, "high": 8.5, "level": 0.9}}
    found = result([Retrained(key, {"val_loss": 1.9, "latency_ms": 8.0}, info=info)])
    assert described(found, found.pick("0"))["intervals"] == {"latency_ms": {"low": 7.5, "high": 8.5, "level": 0.9}}
    entry = next(e for e in found.to_dict()["front"] if e["trial"] == 0)
    assert entry["final"] == {"val_loss": 1.9, "latency_ms": 8.0} and entry["values"]["latency_ms"] == 9.0
    assert entry["intervals"]["latency_ms"]["low"] == 7.5 and entry["on_final_front"]
    others = [e for e in found.to_dict()["front"] if e["trial"] != 0]
    assert found.to_dict()["final_front"] == [0] and all(e["why_not"] == "not evaluated again" for e in others)


def test_nothing_feasible_says_so():
    empty = Result("mine", COLUMNS, result().trials[-1:])
    for text in ("knee", "val_loss", "val_loss where latency_ms<=2"):
        with pytest.raises(SearchError, match="no trial of 'mine' is feasible|does not have"):
            empty.pick(text)


def test_picks_of_the_registry_read_the_same_text_and_get_names_that_it_allows():
    found = picks(result(), ["knee", "fastest", "4", "best:val_loss", "val_loss where latency_ms<=2 and parameters<9k"])
    assert {alias: t.number for alias, t in found.items()} == {
        "knee": result().knee().number,
        "fastest": 5,
        "trial_4": 4,
        "best_val_loss": 0,
        "val_loss_where_latency_ms_at_most_2_and_parameters_below_9k": 2,
    }


def test_the_command_prints_the_architecture_last_and_writes_nothing(tmp_path, monkeypatch):
    from nas_bo.objectives import Flops, Parameters
    from nas_bo.search_spaces import TinyGPT

    storage = str(tmp_path / "s.db")
    made = search(TinyGPT, [Parameters(), Flops(direction="maximize")], trials=6, storage=storage)
    monkeypatch.chdir(tmp_path)
    run = CliRunner()
    shown = run.invoke(app, ["report", storage, "--pick", "best:parameters"])
    best = made.pick("best:parameters")
    assert shown.exit_code == 0 and not (tmp_path / "nas-bo-out").exists()
    assert shown.stdout.splitlines()[0] == f"trial {best.number}: {made.label(best)}"
    assert json.loads(shown.stdout.splitlines()[-1]) == json.loads(best.architecture.to_json())
    data = json.loads(run.invoke(app, ["report", storage, "--pick", f"mflops where parameters<={best.values['parameters']:g}", "--json"]).stdout)  # fmt: skip
    assert data["trial"] == best.number and data["architecture"] == dict(best.architecture.flat)
    wrong = run.invoke(app, ["report", storage, "--pick", "best:flops"])
    assert wrong.exit_code == 2 and "did you mean 'mflops'" in wrong.stderr and len(wrong.stderr.splitlines()) == 1


def test_of_equal_ones_the_best_is_none_that_another_dominates():
    from nas_bo.strategies import Random
    from tests.problems import Toy, cost

    def capped(arch) -> float:
        return min(3.0, float(arch.width))

    capped.direction = "maximize"  # type: ignore[attr-defined]
    result = search(Toy, [capped, cost], trials=12, retrain=0, strategy=Random(seed=0))
    most = [t for t in result.trials if t.values["capped"] == max(t.values["capped"] for t in result.trials)]
    cheapest = min(t.values["cost"] for t in most)
    assert len(most) > 1 and result.best("capped").values["cost"] == cheapest
    assert result.pick("best:capped").values["cost"] == cheapest
