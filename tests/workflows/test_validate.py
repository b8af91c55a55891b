"""validate() as a whole: what it chooses, evaluates and keeps; kills, workers, a search before it; bad input."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import time
from dataclasses import replace

import optuna
import pytest

from nas_bo import search, validate
from nas_bo.errors import EverythingFailed, NasBoError, ObjectiveError, SearchError
from nas_bo.objectives import Flops, Growth, LearningRateProbe, Parameters, ValidationLoss, validation_loss
from nas_bo.optuna import studies
from nas_bo.problem import Function
from nas_bo.search_spaces import TinyGPT
from nas_bo.strategies import Random
from nas_bo.study import IDENTITY
from tests.own_models import Attention
from tests.problems import Few, Toy, loss
from tests.processes import Python, python
from tests.workflows.validated import Tripled, Truth, broken, constant, width

optuna.logging.set_verbosity(optuna.logging.ERROR)
TRUTH = Truth(seed=1)
QUARTER = replace(TRUTH, fidelity=0.25)


def run(**given):
    return validate(**{"space": TinyGPT, "proxies": [QUARTER, width], "reference": TRUTH, **given})


def figures(report):
    """Everything but the costs, which are measured."""
    data = report.to_dict()
    for judged in data["proxies"]:
        del judged["share"]
    return data


@pytest.fixture
def log(tmp_path, monkeypatch):
    path = tmp_path / "log"
    path.touch()
    monkeypatch.setenv("NAS_BO_TEST_LOG", str(path))
    return path


def test_proxies_seeds_and_sizes_are_judged_on_architectures_across_the_range(log):
    report = run()
    assert [j.name for j in report.judged] == ["val_loss@25%", "width", "parameters", "flops", "another seed"]
    assert report.n == 12 and report.seeds == 2 and report.noise == pytest.approx(0.01, rel=0.8)
    sizes = sorted(r.parameters for r in report.rows)
    pool = sorted(Parameters()(TinyGPT.sample(i)) for i in range(200))
    assert sizes[0] < pool[40] and sizes[-1] > pool[160]  # both ends of the range
    assert report.proxies[0].share == 0.25 and report.ceiling.tau.value > 0.8
    lines = log.read_text().split("\n")[:-1]
    # the prefix is read on the way of the reference runs; the width is also asked in order to choose
    assert sum(line.startswith("val_loss:1000:1") for line in lines) == 12
    assert sum(line.startswith("val_loss:1000:2") for line in lines) == 12 and len(set(lines)) > 12 * 3


def test_the_same_seed_chooses_the_same_and_another_others():
    assert figures(run()) == figures(run())
    assert {r.id for r in run().rows} != {r.id for r in run(seed=1).rows}


def test_what_is_kept_is_not_evaluated_again(log, tmp_path):
    first = run(keep=tmp_path / "kept.jsonl")
    log.write_text("")
    assert run(keep=tmp_path / "kept.jsonl").to_dict() == first.to_dict() and log.read_text() == ""
    more = run(keep=tmp_path / "kept.jsonl", seeds=3)
    assert more.seeds == 3 and set(log.read_text().split()[::2]) == {"val_loss:1000:3"}


def test_a_killed_validation_goes_on_where_it_was(log, tmp_path):
    (tmp_path / "go.py").write_text(
        "import json, sys\nfrom nas_bo import validate\nfrom nas_bo.search_spaces import TinyGPT\n"
        "from tests.workflows.validated import Truth, width\n"
        "if __name__ == '__main__':\n"
        "    truth = Truth(seed=1, delay=0.1)\n"
        "    report = validate(TinyGPT, [width], truth, keep='kept.jsonl', workers=int(sys.argv[1]))\n"
        "    print(json.dumps(report.to_dict()))\n"
    )
    env = {**os.environ, "PYTHONPATH": os.getcwd()}
    command = ["go.py", "2"]
    process = Python(*command, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL)
    kept, deadline = tmp_path / "kept.jsonl", time.time() + 300
    while not kept.exists() or kept.read_text().count("\n") < 8:
        assert time.time() < deadline and process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = kept.read_text()
    kept.write_text(before + '{"key": "val_lo')  # what a kill in the middle of writing leaves
    log.write_text("")
    again = python(*command, cwd=tmp_path, env=env)
    assert again.returncode == 0, again.stderr
    keys = {line.split('"')[3] for line in before.splitlines()[1:]} - {IDENTITY}
    left = 12 * 3 - len(keys)
    assert (
        left - 2 <= len(log.read_text().splitlines()) <= left
    )  # what each of two workers had kept was not evaluated again
    told = json.loads(again.stdout)
    assert told == validate(TinyGPT, [width], Truth(seed=1, delay=0.1), keep=kept).to_dict()


def test_workers_change_nothing():
    assert figures(run(workers=2)) == figures(run())


def test_a_search_before_it_is_used_and_keeps_the_report(log):
    searched = search(TinyGPT, [Truth(), Flops()], strategy=Random(seed=0), trials=24, retrain=2)
    again = {r.id for r in searched.retrained}
    log.write_text("")
    reference = Truth(2000, seed=1)
    report = validate(TinyGPT, [Truth(seed=0, name="searched")], reference, history=searched, architectures=10)
    assert {r.id for r in report.rows} <= {t.architecture.id for t in searched.trials}
    lines = log.read_text().splitlines()
    used = again & {r.id for r in report.rows}
    assert used and not [x for x in lines if x.startswith("val_loss:2000:1") and x.split()[1] in used]
    assert sum(x.startswith("val_loss:2000:2") for x in lines) == 10
    assert not [x for x in lines if x.startswith("searched")]  # the search has all of these
    from nas_bo.workflows.search import load_result

    found = load_result(searched.study, TinyGPT)
    assert found.validation is not None and found.validation.to_dict() == report.to_dict()
    assert found.trust is not None and str(found).count("estimate  ") == 2
    names = {"trust.png", "trust.json", "validation.png", "validation.json"}
    files = found.files()
    assert names <= set(files) and b"Validated on its own" in files["front.html"]
    log.write_text("")
    validate(TinyGPT, [Truth(seed=0, name="searched")], reference, history=searched.study, architectures=10)
    assert log.read_text() == ""


def reused(searched, reference, tmp_path):
    """How many re-trainings there are of what a validation looks at, and how many of its evaluations it took over."""
    path = tmp_path / "kept.jsonl"
    validate(TinyGPT, [Flops()], reference, history=searched, architectures=3, seeds=1, keep=path)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    seen = {row["key"].rpartition(":")[2] for row in rows}
    taken = [row for row in rows if isinstance(row["data"], dict) and row["data"].get("reused")]
    return sum(r.id in seen for r in searched.retrained), len(taken)


# of a short text, whose held-out part is soon read
QUICKLY = ValidationLoss.quick(tokens=8000, cost=0.7, device="cpu", data=argparse.__file__)


@pytest.fixture(scope="module")
def searched_quickly():
    return search(TinyGPT, [QUICKLY], strategy=Random(seed=0), trials=3, retrain=2, baseline=None)


@pytest.mark.parametrize("version", ["0.1", "now"])
def test_what_was_searched_by_a_quick_estimate_is_not_re_trained(searched_quickly, tmp_path, version):
    """The re-training has all held-out text and no correction for growth, which the estimate had."""
    searched = searched_quickly
    before = {f"retrained:2:{t.id}": studies.kept(searched.study, f"retrained:2:{t.id}") for t in searched.retrained}
    if version == "0.1":  # which did not keep the conditions of a re-training
        for key, kept in before.items():
            studies.keep(searched.study, key, {name: value for name, value in kept.items() if name != "conditions"})
    try:
        there, taken = reused(searched, QUICKLY.larger(2), tmp_path)
    finally:
        for key, kept in before.items():
            studies.keep(searched.study, key, kept)
    assert there == taken > 0


def test_a_re_training_is_known_by_the_conditions_that_its_objective_gave_it(tmp_path):
    """Whatever `larger` of an objective makes larger."""
    searched = search(TinyGPT, [Tripled(), Flops()], strategy=Random(seed=0), trials=3, retrain=2)
    there, taken = reused(searched, Tripled().larger(2), tmp_path)
    assert there == taken > 0


def test_proxies_that_fail_or_say_nothing_are_useless_and_said_to_be():
    report = run(proxies=[QUARTER, broken, Function(constant, "constant")])
    assert report.proxies[1].useless and report.proxies[2].useless
    assert report.first_line.startswith("broken and constant are useless here") and "disk full" in report.text()


def test_a_proxy_with_a_limit_is_ranked_beyond_it():
    report = run(proxies=[Truth(tokens=100, seed=0, at_most=0.0, name="short")])
    assert report.proxies[0].n == 12


def test_a_space_that_is_no_decoder_has_no_sizes():
    report = validate(Toy, [Function(lambda a: -float(a.depth), "deep")], Function(loss, "loss"), seeds=1)
    assert report.parameters is None and report.flops is None and report.ceiling is None and report.n == 12


def test_real_training_is_read_on_its_way():
    """The prefix of the reference is what a run of that fidelity gives, to the bit."""
    truth = ValidationLoss(tokens=8000, seed=1, device="cpu", evaluation_tokens=2048)
    quarter = replace(truth, fidelity=0.25)
    report = validate(TinyGPT, [quarter], truth, architectures=3, seeds=1)
    row = report.rows[0]
    arch = next(a for a in (TinyGPT.architecture(f) for f in chosen(report)) if a.id == row.id)
    assert row.reference == float(truth(arch)) and row.values["bits_per_byte@25%"] == float(quarter(arch))
    assert "looks better than it is" in report.text()


def chosen(report):
    """The flat forms of the architectures of a report, found by drawing as validate() does."""
    import random

    rng = random.Random("validate:0")
    ids = {r.id for r in report.rows}
    return [a.flat for a in (TinyGPT.sample(rng) for _ in range(3 * 16)) if a.id in ids]


BAD = [
    ({"architectures": 2}, SearchError, "at least 3"),
    ({"seeds": 0}, SearchError, "at least 1"),
    ({"reference": Function(loss, "loss")}, ObjectiveError, "no field `seed`"),
    ({"reference": Truth(at_most=3.0)}, ObjectiveError, "has a limit"),
    ({"proxies": [Truth(tokens=10), Truth(tokens=10)]}, ObjectiveError, "two proxies are called"),
    ({"track": "sqlite:///mlflow.db"}, SearchError, "history="),
    ({"history": object()}, SearchError, "the study of a nas_bo search"),
    ({"reference": ValidationLoss(tokens=5000, data="/nowhere/at/all")}, NasBoError, "nowhere"),
]


@pytest.mark.parametrize(("given", "error", "says"), BAD)
def test_bad_arguments_are_refused_before_anything_is_evaluated(log, given, error, says):
    with pytest.raises(error, match=says):
        run(**given)
    assert log.read_text() == ""


def test_another_space_or_corpus_than_the_study_s_is_refused(tmp_path):
    result = search(TinyGPT, [Truth(), Flops()], strategy=Random(seed=0), trials=3, retrain=0)
    with pytest.raises(SearchError, match="give the space of the study"):
        validate(Few, [width], TRUTH, history=result)
    other = ValidationLoss(tokens=5000)
    with pytest.raises(SearchError, match="do not compare"):
        validate(TinyGPT, [width], other, history=result)


def test_files_of_another_kind_are_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("my notes\nof today\n")
    with pytest.raises(SearchError, match="not a file of kept evaluations"):
        run(keep=path)
    assert path.read_text() == "my notes\nof today\n"


def test_a_reference_that_always_fails_ends_with_its_reason():
    with pytest.raises(EverythingFailed, match="disk full"):
        validate(TinyGPT, [width], Function(broken, "broken"), seeds=1, architectures=3)


def test_too_small_a_space_is_said_so():
    report = validate(Few, [Function(lambda a: float(a.b), "b")], Function(lambda a: float(a.b), "c"), seeds=1)
    assert report.n == 4 and "anecdote" in report.first_line


def test_the_searched_loss_is_read_with_all_its_dials(monkeypatch):
    """A study of `ValidationLoss.quick` is validated by that estimate, not by a plain prefix."""
    from types import SimpleNamespace

    from nas_bo.cli.validation_words import _searched

    quick = ValidationLoss.quick(tokens=100_000, cost=0.25, seed=3)
    monkeypatch.setattr(studies, "kept", lambda study, key: {"conditions": {"val_loss": quick.conditions()}})
    found = _searched(ValidationLoss(tokens=400_000, seed=1), SimpleNamespace())
    assert found.conditions() == quick.conditions() and found.growth == quick.growth


def test_the_searched_loss_is_read_with_its_learning_rate_probe(monkeypatch):
    from types import SimpleNamespace

    from nas_bo.cli.validation_words import _searched

    probed = ValidationLoss(tokens=50_000, probe=LearningRateProbe((0.5, 2.0), 10_000))
    kept = json.loads(json.dumps(probed.conditions()))  # as a study keeps them
    monkeypatch.setattr(studies, "kept", lambda study, key: {"conditions": {"val_loss": kept}})
    found = _searched(ValidationLoss(tokens=400_000, seed=1), SimpleNamespace())
    assert found.probe == probed.probe and found.conditions() == probed.conditions()


def test_every_dial_of_a_searched_loss_is_read_from_what_the_study_keeps():
    """One list: a dial that `conditions` names and the reading lacks would validate another loss than was searched."""
    turned = {
        "fidelity": 0.3, "sequence": 32, "batch_size": 4, "data_share": 0.5, "width_factor": 0.5, "evaluation_tokens": 4096,
        "probe": LearningRateProbe((0.5, 2.0), 10_000), "extrapolate": True, "growth": Growth(0.1, 0.2),
        "gpus_per_trial": 2,
    }  # fmt: skip
    assert set(turned) == set(validation_loss._DIALS)
    for name, value in turned.items():
        loss = ValidationLoss(tokens=50_000, **{name: value})
        kept = json.loads(json.dumps(loss.conditions()))
        assert validation_loss.dials_of(kept) == {name: value}


def test_a_searched_loss_of_a_model_of_ones_own_is_not_taken_for_ours(monkeypatch):
    from types import SimpleNamespace

    from nas_bo.cli.validation_words import _searched

    kept = ValidationLoss(tokens=50_000, build=Attention).conditions()
    monkeypatch.setattr(studies, "kept", lambda study, key: {"conditions": {"bits_per_byte": kept}})
    with pytest.raises(ObjectiveError, match=r"model of your own, Attention.*module:name"):
        _searched(ValidationLoss(tokens=400_000, seed=1), SimpleNamespace())
