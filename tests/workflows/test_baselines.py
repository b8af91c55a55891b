"""What a search is compared with: chosen, evaluated once, no trial, and told everywhere."""

from __future__ import annotations

import json
import platform
import subprocess
from dataclasses import replace
from importlib.metadata import PackageNotFoundError

import pytest

import nas_bo
from nas_bo import provenance, search
from nas_bo.errors import SearchError, SpaceError
from nas_bo.objectives import Parameters
from nas_bo.problem import Problem
from nas_bo.report import page
from nas_bo.report.against import against
from nas_bo.search_spaces import Hybrid, Llama, TinyGPT
from nas_bo.strategies import Random
from nas_bo.workflows.baselines import baselines, extreme
from nas_bo.workflows.retraining_check import counted
from tests.problems import Toy, cost, loss


def run(**given):
    given = {"trials": 6, "strategy": Random(seed=0), "seed": 0, **given}
    return search(Toy, [loss, cost], **given)


@pytest.mark.parametrize("space", [TinyGPT, Llama, Hybrid])
def test_the_largest_is_no_smaller_than_anything_drawn(space):
    problem = Problem(space, [Parameters()])
    sizes = [counted(space.sample(i)) for i in range(100)]
    assert counted(extreme(problem, largest=True)) >= max(sizes)
    assert counted(extreme(problem, largest=False)) <= min(sizes)


def test_the_largest_keeps_the_limits_that_are_known():
    problem = Problem(TinyGPT, [Parameters(at_most=100_000)])
    assert 90_000 < counted(extreme(problem, largest=True)) <= 100_000


def test_what_can_be_asked_for():
    problem, name = Problem(Toy, [cost]), lambda arch: arch.id[:4]
    one, two = Toy.sample(1), Toy.sample(2)
    assert baselines(None, problem, name) == {}
    assert baselines(one, problem, name) == {one.id[:4]: one} == baselines(dict(one.flat), problem, name)
    assert baselines({"a": one, "b": dict(two.flat)}, problem, name) == {"a": one, "b": two}
    assert baselines([one, {"b": two}], problem, name) == {one.id[:4]: one, "b": two}
    with pytest.raises(SearchError, match="largest, smallest"):
        baselines("huge", problem, name)
    with pytest.raises(SearchError, match="give an architecture instead"):
        baselines("largest", problem, name)  # no decoder of ours
    with pytest.raises(SpaceError):
        baselines({"nonsense": 3}, problem, name)


def test_a_baseline_is_evaluated_once_and_is_no_trial(tmp_path):
    storage = str(tmp_path / "study.db")
    arch = Toy.sample(3)
    plain = run()
    result = run(storage=storage, baseline={"ours today": arch})
    (base,) = result.baselines
    assert base["label"] == "ours today" and base["values"] == {"loss": loss(arch), "cost": cost(arch)}
    assert [t.architecture for t in result.trials] == [t.architecture for t in plain.trials]  # the search is the same
    again = run(storage=storage, baseline={"ours today": arch}, trials=7)
    assert again.baselines == [base] and len(again.trials) == 7
    assert again.to_dict()["baselines"][0]["values"] == base["values"]
    text = page(again.summary())
    assert "Baseline ours today" in text and "<td class=base>baseline" in text
    assert str(again).count("Baseline ours today") == 1


def test_the_sentence_counts_what_is_better():
    result = run(trials=20)
    best = result.front
    worse = {k: v + 1 for k, v in best[0].values.items()}
    summary = result.summary()
    for values, says in (
        (worse, "at least as good in everything"),
        (dict(best[0].values), "it is on the front"),
        ({k: min(t.values[k] for t in best) - 1 for k in worse}, "it would be on the front"),
        ({"loss": 1.0}, "not all objectives were evaluated"),
    ):
        assert says in against(replace(summary, baselines=[{"label": "x", "values": values}]))[0]
    base = {"label": "x", "values": {k: -1.0 for k in worse}, "state": "infeasible", "reason": "violates ms<=5"}
    assert "infeasible (violates ms<=5), so it would be on no front" in against(replace(summary, baselines=[base]))[0]


def test_a_baseline_that_breaks_is_told_and_the_search_goes_on():
    class Broken:
        name, unit, direction, cost = "broken", "", "minimize", "trained"

        def __call__(self, arch):
            if arch == Toy.sample(3):
                raise RuntimeError("no such kernel")
            return 1.0

    result = search(Toy, [Broken(), cost], trials=3, strategy=Random(), baseline=Toy.sample(3))
    assert len(result.trials) == 3 and "no such kernel" in against(result.summary())[0]


def test_git_and_versions_are_known_and_absence_is_no_error(tmp_path):
    assert provenance.git(str(tmp_path)) == {}
    for words in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True)
    state = provenance.git(str(tmp_path))
    assert len(state["commit"]) == 40 and state["dirty"] is False
    (tmp_path / "file").write_text("1")
    subprocess.run(["git", "add", "file"], cwd=tmp_path, check=True)
    assert provenance.git(str(tmp_path))["dirty"] is True
    assert {"python", "torch", "optuna", "mlflow"} <= set(provenance.versions())
    json.dumps(provenance.versions())


def test_the_version_of_nas_bo_is_known_without_an_installation(monkeypatch):
    """A checkout on the path has no metadata, and its studies must say what made them."""

    def missing(package):
        raise PackageNotFoundError(package)

    monkeypatch.setattr(provenance, "version", missing)
    assert provenance.versions() == {"python": platform.python_version(), "nas_bo": nas_bo.__version__}
