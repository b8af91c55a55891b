"""`nas-bo compare`: fronts with one reference point, who dominates whom, and what cannot be compared."""

from __future__ import annotations

import json

import pytest

from nas_bo import search
from nas_bo.errors import SearchError
from nas_bo.objectives import Flops, Latency, Parameters
from nas_bo.search_spaces import Llama, TinyGPT
from nas_bo.strategies import Random
from nas_bo.trial import matrix
from nas_bo.workflows.comparison import compare
from tests.command import nas_bo

CHEAP = [Flops(), Parameters()]


def searched(space=TinyGPT, objectives=CHEAP, seed=0, trials=8, **more):
    return search(space, objectives, strategy=Random(seed=seed), trials=trials, retrain=0, seed=seed, **more)


def test_one_reference_point_and_who_dominates_whom():
    results = [searched(), searched(seed=1, trials=12), searched(seed=2)]
    found = compare(results)
    points = [matrix(f.members, found.columns) for f in found.fronts]
    worst = [found.reference[c.name] for c in found.columns]
    assert all((p < worst).all() for p in points)
    every = [tuple(p) for front in points for p in front]
    for i, front in enumerate(found.fronts):
        for point, common, by in zip(points[i], front.common, front.dominated_by, strict=True):
            beaten = any(all(q <= p for q, p in zip(o, point, strict=True)) and o != tuple(point) for o in every)
            assert common is not beaten and (by is not None) is beaten and (by is None or by[0] != i)
    assert found.covered[0][0] == found.covered[1][1] == 0 and not found.again
    from nas_bo.report.progress import volume

    assert [f.hypervolume for f in found.fronts] == [volume(p, worst) for p in points]


def test_a_study_against_itself_is_even():
    found = compare([searched(), searched()])
    assert found.covered == [[0, 0], [0, 0]] and found.fronts[0].hypervolume == found.fronts[1].hypervolume
    assert all(found.fronts[0].common) and all(found.fronts[1].common)


def test_one_objective_has_no_hypervolume():
    found = compare([searched(objectives=[Parameters()]), searched(objectives=[Parameters()], seed=3)])
    assert found.reference is None and [f.hypervolume for f in found.fronts] == [None, None]


def test_what_cannot_be_compared_is_refused_with_the_reason():
    first = searched()
    with pytest.raises(SearchError, match="at least two"):
        compare([first])
    with pytest.raises(SearchError, match="different objectives, mflops .minimize., parameters .minimize. against"):
        compare([first, searched(objectives=[Parameters(), Flops()])])
    with pytest.raises(SearchError, match="vocab_size = 256, in .* 300"):
        compare([first, searched(objectives=[Flops(vocab_size=300), Parameters(vocab_size=300)])])
    with pytest.raises(SearchError, match="no feasible trial"):
        pi5 = Latency(device="h100", at_most=1e-9)
        compare([searched(objectives=[pi5, Parameters()]), searched(objectives=[pi5, Parameters()])])


def test_the_command_on_two_spaces(tmp_path):
    searched(storage=f"sqlite:///{tmp_path}/a.db")
    searched(Llama, storage=f"sqlite:///{tmp_path}/b.db", study_name="large")
    done = nas_bo("compare", "a.db", "b.db::large", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Reference point: mflops" in done.stdout and "a dominates 100% of the front of b." in done.stdout
    told = json.loads(nas_bo("compare", "a.db", "b.db", "--json", cwd=tmp_path).stdout)
    assert [s["study"] for s in told["studies"]] == ["TinyGPT", "large"] and told["warnings"] == []
    assert told["studies"][0]["dominates"] == [0, 1] and told["studies"][1]["on_common_front"] == 0
    assert all(m["dominated_by"]["study"] == 0 for m in told["studies"][1]["front"])
    missing = nas_bo("compare", "a.db", "c.db", cwd=tmp_path)
    assert missing.returncode == 2 and "no file" in missing.stderr
