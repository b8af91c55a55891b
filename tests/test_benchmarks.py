"""The synthetic problems of benchmarks/search_efficiency, and its way from runs to raw lines to a report."""

from __future__ import annotations

import json
import math
import random
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from benchmarks import common
from tests.processes import python

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SCRIPT = ("-m", "benchmarks.search_efficiency.run")


def command(*arguments: str) -> str:
    done = python(*SCRIPT, *arguments, cwd=BENCHMARKS.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout


def lines(raw: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in raw.read_text().splitlines()]


@pytest.mark.parametrize("name", ["deep", "deep-noisy", "limits", "mixed", "pipeline"])
def test_a_synthetic_problem_is_a_valid_space_with_a_reference_that_chance_does_not_reach(name: str) -> None:
    from benchmarks.search_efficiency.problems import synthetic

    case, rng = synthetic(name), random.Random(0)
    archs = [case.space.sample(rng) for _ in range(300)]
    assert len({a.id for a in archs}) > 270  # a branch of few choices repeats
    for arch in archs:
        assert case.space.contains(arch)
        assert case.space.architecture(arch.flat).id == arch.id
        values = case.values(arch)
        assert all(math.isfinite(v) and v > 0 for v in values.values())
        assert values == case.values(arch)
        assert case.told(arch, 3) == case.told(arch, 3)
        assert (case.told(arch, 3) != values) == bool(case.noise)
    rows = [row for row in map(case.row, archs) if row is not None]
    assert (len(rows) == len(archs)) == (not case.limits)
    assert 0.1 * case.hv < case.volume(rows) < 0.95 * case.hv


def test_what_is_known_is_analytic_only_where_it_may_be() -> None:
    from benchmarks.search_efficiency.problems import synthetic

    case = synthetic("limits")
    arch = case.space.sample(1)
    assert set(case.problem(0).known(arch)) == {"params_m"}
    assert case.problem(0, known=False).known(arch) == {}
    heavy = next(a for a in map(case.space.sample, range(99)) if case.values(a)["memory_mb"] > case.limits["memory_mb"])
    assert not case.problem(0).admissible(heavy)
    assert case.problem(0, known=False).admissible(heavy)
    trial = case.problem(0, known=False).evaluate(heavy)
    assert not trial.feasible and case.row(heavy) is None


@pytest.mark.parametrize("arm", ["optuna-nsga2", "pymoo-nsga2"])
def test_peers_see_the_limits(arm: str) -> None:
    """More than twice as many feasible points in the end as chance gives: 18 of 100."""
    from benchmarks.search_efficiency import arms as search_arms
    from benchmarks.search_efficiency.problems import synthetic

    pytest.importorskip("pymoo" if arm.startswith("pymoo") else "optuna")
    case = synthetic("limits")
    session = search_arms.every()[arm].make(case, 0)
    feasible = []
    for _ in range(160):
        arch = session.ask()
        assert arch is not None
        session.tell(arch, session.evaluate(arch))
        feasible.append(case.row(arch) is not None)
    assert sum(feasible[100:]) > 2 * 0.18 * 60


def test_runs_are_kept_and_reported(tmp_path: Path) -> None:
    raw, budget = tmp_path / "raw.jsonl", ("--problems", "deep", "--seeds", "2", "--trials", "110")
    arms = ("--arms", "Random", "optuna-random", "--raw", str(raw))
    command(*budget, *arms)
    first = lines(raw)
    assert len(first) == 4
    assert command(*budget, *arms) == ""  # everything is there
    command(*budget, *arms[:2], *arms[3:], "--again", "Random")
    assert len(lines(raw)) == 6
    again = [{k: v for k, v in line.items() if k != "cpu_s"} for line in lines(raw)]
    assert all({k: v for k, v in line.items() if k != "cpu_s"} in again[:4] for line in again[4:])  # deterministic

    command("--cost", "--arms", "Random", "--problems", "deep", "--raw", str(raw))
    table = command("--report", "--raw", str(raw), "--out", str(tmp_path))
    document = json.loads((tmp_path / "search_efficiency.json").read_text())
    regret = document["figures"]["deep"]["arms"]["Random"]["regret"]
    assert [regret[n]["mean"] for n in ("10", "25", "50", "100")] == sorted(
        (regret[n]["mean"] for n in ("10", "25", "50", "100")), reverse=True
    )
    assert 0.05 < regret["100"]["mean"] < 0.25 and regret["100"]["se"] > 0
    assert document["figures"]["deep"]["best_peer_at_100"]["arm"] == "optuna-random"
    assert document["figures"]["deep"]["arms"]["optuna-random"]["evaluations_to_best_peer_at_100"] <= 100
    assert {line["n"] for line in document["ask_cpu_s"]} == {50, 100, 200, 500, 1000}
    assert f"| Random | 2 | {regret['10']['mean']:.5f}"[:-2] in table
    assert (tmp_path / "search_efficiency.png").read_bytes()[:4] == b"\x89PNG"


def test_an_unknown_arm_or_problem_is_named_with_those_there_are(tmp_path: Path) -> None:
    for arguments in (["--arms", "Magic"], ["--problems", "magic"]):
        done = python(*SCRIPT, *arguments, "--raw", tmp_path / "raw", cwd=BENCHMARKS.parent)
        assert done.returncode == 2 and "agic" in done.stderr and "there are" in done.stderr


@pytest.mark.parametrize("question", sorted(p.parent.name for p in BENCHMARKS.glob("*/run.py")))
def test_every_question_has_a_program(question: str) -> None:
    assert callable(import_module(f"benchmarks.{question}.run").main)


def test_a_result_says_where_it_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = common.envelope("nothing, in s", "numpy", repeats=3, figures={"a": 1}, machine={"load": 0.5})
    assert {"processor", "cores", "system", "load"} == set(document["machine"]) and document["repeats"] == 3
    assert {"python", "numpy"} == set(document["versions"]) and list(document)[:3] == ["what", "machine", "versions"]
    for keep in (False, True):
        common.write(document, tmp_path / "one.json", keep=keep)
        assert (tmp_path / "one.json").exists() is keep
    assert json.loads((tmp_path / "one.json").read_text()) == document
    assert capsys.readouterr().out.count("nothing, in s") == 2
