"""Measuring against anchors, on a machine whose speed is made up: what it does meanwhile must not be seen in the result."""

from __future__ import annotations

import itertools
import json
import math
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest

from nas_bo.hardware.latency.machine_profile import combined
from nas_bo.hardware.measuring import anchors, bench, machine
from nas_bo.hardware.measuring.bench import Bench, Timing
from nas_bo.hardware.workload import Setting

TRUE = {0: 0.35, 1: 0.8, 2: 2.1, 3: 9.0}  # milliseconds of the anchors on the made-up machine


@dataclass
class Model:
    """Prepared, but only its time is known."""

    ms: float
    steps: int = 1
    held_bytes: int = 0

    def ready(self):
        return lambda: None


class Machine:
    """Changes its speed by steps of a random walk; every visit has noise of its own, now and then a large one."""

    def __init__(self, seed: int, walk: float = 0.08, noise: float = 0.03, slow: float = 1.0) -> None:
        self.rng, self.walk, self.noise, self.slow = random.Random(seed), walk, noise, slow
        self.state = 0.0

    def visit(self, prepared, clock, about=0.0):
        self.state = 0.97 * self.state + self.rng.gauss(0, self.walk)
        busy = abs(self.state)  # never faster than undisturbed
        outlier = 0.5 if self.rng.random() < 0.03 else 0.0
        ms = prepared.ms * self.slow * math.exp(busy + outlier + self.rng.gauss(0, self.noise))
        return ms, 1.0


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_BO_CACHE", str(tmp_path))
    return tmp_path


def made(monkeypatch, world: Machine) -> Bench:
    """A bench whose anchors and clock are those of the made-up machine."""
    monkeypatch.setattr(bench, "_visit", world.visit)
    monkeypatch.setattr(Bench, "_prepared", lambda self, rung: Model(TRUE[rung]))
    monkeypatch.setattr(bench, "CALIBRATE_S", 0.2)
    monkeypatch.setattr(bench, "busy", lambda: 1.0)
    return Bench("cpu", Setting())


def test_sessions_of_a_machine_that_changes_its_speed_agree_and_intervals_hold_the_next(cache, monkeypatch):
    truth = np.exp(np.linspace(math.log(0.2), math.log(4.0), 40))
    sessions = []
    for seed in (1, 2):
        here = made(monkeypatch, Machine(seed))
        sessions.append(here.measure([Model(ms) for ms in truth], max_seconds=0.02))
    first, second = ([t.ms for t in s] for s in sessions)
    apart = np.abs(np.log(first) - np.log(second))
    assert np.median(apart) < 0.02
    assert np.median(np.abs(np.log(first) - np.log(truth))) < 0.05
    inside = [low <= ms <= high for (low, high), ms in zip((t.interval for t in sessions[0]), second, strict=True)]
    assert np.mean(inside) >= 0.8
    # one model by itself would have been the speed of its moment
    alone, moment = made(monkeypatch, Machine(3)), Machine(3)
    raw = np.log([np.median([moment.visit(Model(ms), None)[0] for _ in range(30)]) for ms in truth]) - np.log(truth)
    ours = np.log([alone.measure([Model(ms)], max_seconds=0.02)[0].ms for ms in truth]) - np.log(truth)
    assert np.std(ours) < np.std(raw) / 3


def test_a_machine_that_is_slower_all_along_gives_the_same_times_and_says_by_how_much(cache, monkeypatch):
    quiet = made(monkeypatch, Machine(1, walk=0.01))
    before = quiet.measure([Model(1.0)], max_seconds=0.02)[0]
    busy = made(monkeypatch, Machine(2, walk=0.01, slow=1.6))
    after = busy.measure([Model(1.0)], max_seconds=0.02)[0]
    assert abs(math.log(after.ms / before.ms)) < 0.05
    assert after.slower / before.slower == pytest.approx(1.6, rel=0.1)


def test_what_the_anchors_take_is_kept_for_other_processes_and_only_as_long_as_it_holds(cache, monkeypatch, caplog):
    here = made(monkeypatch, Machine(1, walk=0.02))
    assert here.check(0.5, 2.0, 0.05) is False  # nothing was known
    known = dict(here.known)
    assert len(list(cache.glob("anchors-*.json"))) == 1
    again = made(monkeypatch, Machine(2, walk=0.02))
    assert again.known == pytest.approx(known, rel=1e-4)
    assert again.check(0.5, 2.0, 0.05) is True
    assert again.known == pytest.approx(known, rel=1e-4)
    # one anchor takes twice as long as it did, the others do not
    monkeypatch.setitem(TRUE, 1, 1.6)
    beside = made(monkeypatch, Machine(3, walk=0.02))
    monkeypatch.setattr(bench, "busy", lambda: 2.0)  # other work moves even ratios, and will end
    assert beside.check(0.5, 2.0, 0.05) is True and beside.known == pytest.approx(known, rel=1e-4)
    moved = made(monkeypatch, Machine(3, walk=0.02))
    assert moved.check(0.5, 2.0, 0.05) is False
    assert "the ratio of two anchors changed" in caplog.text
    assert moved.known[1] == pytest.approx(1.6, rel=0.1)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"anchors": 3}', '{"anchors": {"0": -1, "x": 2, "99": 1, "1": "nan"}}']
)
def test_a_damaged_file_costs_a_measurement_and_nothing_else(cache, monkeypatch, content):
    here = made(monkeypatch, Machine(1, walk=0.02))
    path = machine.path_of("anchors", here.facts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    again = made(monkeypatch, Machine(1, walk=0.02))
    assert again.known == {}
    assert again.measure([Model(1.0)], max_seconds=0.02)[0].ms == pytest.approx(1.0, rel=0.1)
    assert json.loads(path.read_text())["anchors"]


def test_a_folder_that_cannot_be_written_costs_nothing_but_the_next_measurement(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NAS_BO_CACHE", str(tmp_path / "file" / "cache"))
    here = made(monkeypatch, Machine(1, walk=0.02))
    assert here.measure([Model(1.0)], max_seconds=0.02)[0].ms == pytest.approx(1.0, rel=0.1)


def test_workers_share_a_scale_also_where_nothing_can_be_kept(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NAS_BO_CACHE", str(tmp_path / "file" / "cache"))
    machine.usable()
    assert machine.cache_folder().is_dir() and "NAS_BO_CACHE" in caplog.text
    assert machine.write(machine.path_of("anchors", {"a": 1}), {"b": 2})


def test_threads_of_one_process_measure_one_after_the_other(cache, monkeypatch):
    inside, most = [], []
    world = Machine(1, walk=0.02)

    def visit(prepared, clock, about=0.0):
        inside.append(1)
        most.append(len(inside))
        found = world.visit(prepared, clock, about)
        inside.pop()
        return found

    here = made(monkeypatch, world)
    monkeypatch.setattr(bench, "_visit", visit)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda ms: here.measure([Model(ms)], max_seconds=0.02)[0].ms, [0.5, 1.0, 2.0, 3.0]))
    assert max(most) == 1
    assert found == pytest.approx([0.5, 1.0, 2.0, 3.0], rel=0.1)


def test_a_new_anchor_is_put_on_the_scale_of_the_known_ones():
    rng = np.random.default_rng(0)
    shift = np.abs(rng.normal(0, 0.1, 200))
    visits = np.exp(np.log([[1.0], [4.0]]) + shift + rng.normal(0, 0.02, (2, 200)))
    alone = anchors.references(visits, [None, None])
    assert alone == pytest.approx([1.0, 4.0], rel=0.05)  # the undisturbed speed, not the usual one
    assert anchors.references(visits, [2.0, None]) == pytest.approx([2.0, 8.0], rel=0.02)


def test_measurement_and_model_are_weighed_by_what_they_do_not_know(monkeypatch, tmp_path):
    class Told:
        def __init__(self, ms, half):
            self.ms, self.half = ms, half

        def predict_many(self, archs):
            return np.array([self.ms]), np.array([self.half])

    timing = Timing(1.0, 0.03, 0.05, True, 20, 60, 1.0, 1.0, "", "")
    path = tmp_path / "profile.json"
    path.write_text("")

    def ask(ms, half):
        monkeypatch.setattr("nas_bo.hardware.latency.machine_profile._model", lambda path, changed: Told(ms, half))
        return combined(timing, None, path)

    near, said = ask(1.04, 0.03)
    assert 1.0 < near.ms < 1.04 and near.sd < timing.sd and said["model_ms"] == 1.04 and 0.3 < said["model_share"] < 0.7
    vague, said = ask(1.04, 0.5)
    assert vague.ms == pytest.approx(1.0, abs=2e-3) and said["model_share"] < 0.05
    wrong, said = ask(2.0, 0.03)
    assert wrong == timing and said["model_share"] == 0.0
    assert combined(timing, None, None) == (timing, {})


def test_the_ladder_is_of_models_that_build_and_rises():
    from nas_bo.model import parameters

    sizes = [parameters(anchors.anchor(rung), 256) for rung in range(len(anchors.LADDER))]
    assert sizes == sorted(sizes) and all(3 < b / a < 8 for a, b in itertools.pairwise(sizes))


def test_a_trial_beside_a_profile_takes_half_the_time_and_the_last_session_all_of_it(monkeypatch):
    from nas_bo.objectives import latency
    from nas_bo.problem import Value
    from nas_bo.search_spaces import TinyGPT

    given = []

    def measured(archs, steps, runtime, profiles, precision, max_seconds, say):
        given.append(max_seconds)
        return [Value(1.0, low=0.9, high=1.1) for _ in archs]

    monkeypatch.setattr(latency, "measured", measured)
    archs, one = [TinyGPT.sample(0), TinyGPT.sample(1)], latency.Latency(max_seconds=0.8)
    one(archs[0])
    object.__setattr__(one, "_profiles", ("profile.json",))
    one(archs[0])
    one.remeasure(archs)
    assert given == [0.8, 0.4, 0.8]
