"""`nas-bo compare`: fronts with one reference point, who dominates whom, and what cannot be compared."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest

from nas_bo import search
from nas_bo.errors import SearchError
from nas_bo.hardware.measuring import scale
from nas_bo.objectives import Flops, Latency, Parameters
from nas_bo.problem import Value
from nas_bo.search_spaces import Llama, TinyGPT
from nas_bo.strategies import Random
from nas_bo.trial import matrix
from nas_bo.workflows.comparison import compare
from nas_bo.workflows.stored_result import load_result
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
        pi5 = Latency(target="h100", at_most=1e-9)
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


@dataclass(frozen=True)
class Timed:
    """Milliseconds on a scale that depends on when they are taken: `slow` times too many, in the first `until` calls."""

    slow: float
    until: int = 10**6
    name: str = "latency_ms"
    unit: str = "ms"
    direction: str = "minimize"
    cost: str = "measured"
    calls: list[int] = field(default_factory=list, compare=False)

    def __call__(self, arch):
        self.calls.append(1)
        by = self.slow if len(self.calls) <= self.until else 1.0
        ms = by * Flops()(arch) / 10
        known = scale.noted("this machine", {1: 0.8 * by, 2: 2.0 * by}, ms)
        return Value(ms, how="measured", low=ms * 0.98, high=ms * 1.02, **{scale.NOTED: [known]})


def test_two_runs_of_one_machine_are_compared_on_one_scale_and_it_is_said():
    plain = [searched(objectives=[Parameters(), Timed(slow)]) for slow in (1.6, 1.0)]
    found = compare(plain)
    assert found.covered == [[0, 0], [0, 0]] and all(found.fronts[0].common)
    ours, other = (matrix(f.members, found.columns) for f in found.fronts)
    assert ours == pytest.approx(other)
    (note,) = found.notes
    assert note.startswith(f"{plain[0].title}: ") and "multiplied by 0.62" in note
    from nas_bo.cli.compare import document, text

    assert note in text(found, ["a.db", "b.db"]) and document(found, ["a.db", "b.db"])["notes"] == [note]
    assert matrix(plain[0].front, found.columns) == pytest.approx(ours * [1, 1.6])  # the results are as they were


def test_a_report_shows_what_was_measured_before_the_scale_was_known_on_the_final_one(tmp_path):
    slow = searched(
        objectives=[Parameters(), Timed(1.6, until=4)], trials=10, baseline="largest", storage=str(tmp_path / "s.db")
    )
    right = searched(objectives=[Parameters(), Timed(1.0)], trials=10, baseline="largest")
    for shown in (slow, load_result(str(tmp_path / "s.db"))):
        values = [t.values["latency_ms"] for t in shown.trials]
        assert values == pytest.approx([t.values["latency_ms"] for t in right.trials])
        assert [t.info["latency_ms"]["low"] for t in shown.trials] == pytest.approx([0.98 * ms for ms in values])
        assert shown.baselines[0]["values"]["latency_ms"] == pytest.approx(right.baselines[0]["values"]["latency_ms"])
        assert sum("when 3 of the measurements were made" in note for note in shown.notes) == 1
        assert [t.number for t in shown.front] == [t.number for t in right.front]
