"""The scale of measured times, on a machine whose clock and speed are made up: a slow minute at the beginning, in the middle,
throughout. What a search, the next one, and a comparison of both show must not depend on it."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest

from nas_bo.hardware.latency.machine_profile import SCALE, _fits, combined
from nas_bo.hardware.measuring import bench, scale
from nas_bo.hardware.measuring.bench import Bench, Timing
from nas_bo.hardware.workload import Setting
from nas_bo.space import Space, integer
from nas_bo.trial import Trial
from tests.hardware.test_bench import TRUE, Model

MODELS = np.exp(np.linspace(math.log(0.2), math.log(4.0), 30))


class World:
    """`slow(seconds)` says how many times longer everything takes then. A visit lets the clock go on by what it took."""

    def __init__(self, monkeypatch, slow, seed=0, day=0.0):
        self.slow, self.seconds, self.rng, self.day = slow, 0.0, random.Random(seed), day
        monkeypatch.setattr(bench, "_visit", self.visit)
        monkeypatch.setattr(bench, "_now", lambda: self.seconds)
        monkeypatch.setattr(bench, "_time_of_day", lambda: self.day + self.seconds)
        monkeypatch.setattr(bench, "busy", lambda: 1.0)
        monkeypatch.setattr(Bench, "_prepared", lambda _, rung: Model(TRUE[rung]))

    def visit(self, prepared, clock, about=0.0):
        ms = prepared.ms * self.slow(self.seconds) * math.exp(self.rng.gauss(0, 0.03))
        self.seconds += 4 * ms / 1e3
        return ms, 1.0

    def search(self, models=MODELS, pause=1.0):
        """What a search does with a new process: look at the anchors, then one model after the other, with trainings between."""
        here = Bench("cpu", Setting())
        here.check(0.3, 3.0)
        found = []
        for ms in models:
            found += here.measure([Model(ms)])
            self.seconds += pause
        return here, found


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_BO_CACHE", str(tmp_path))
    return tmp_path


class Depths(Space):
    depth = integer(1, 99)


def trials_of(here, timings):
    return [
        Trial(
            Depths.architecture({"depth": n + 1}),
            {"latency_ms": t.ms},
            info={
                "latency_ms": {
                    "low": t.interval[0],
                    "high": t.interval[1],
                    "slower": t.slower,
                    scale.NOTED: [scale.noted(here.mark, t.scale, t.ms)],
                }
            },
        )
        for n, t in enumerate(timings)
    ]


def shown(trials):
    """As a report shows them."""
    return scale.trials_on_scale(trials, scale.fastest(t.info["latency_ms"] for t in trials))


def values(trials):
    return np.array([t.values["latency_ms"] for t in trials])


def errors(trials):
    return np.log(values(trials)) - np.log(MODELS)


def quiet(_):
    return 1.0


def test_a_slow_first_minute_does_not_set_the_scale_of_a_search(cache, monkeypatch):
    first = World(monkeypatch, lambda s: 1.65 if s < 20 else 1.0)
    here, timings = first.search()
    raw = trials_of(here, timings)
    assert errors(raw)[0] > 0.35  # measured on the scale of the slow minute
    told, factors = shown(raw)
    assert np.abs(errors(told)).max() < 0.12 and np.ptp(errors(told)) < 0.12
    assert 0 < len(factors) < len(MODELS) and scale.said(factors)
    # the next search of this machine begins with what this one learned, and its values lie in the intervals of the first
    there, again = World(monkeypatch, quiet, seed=1).search()
    assert there.known == pytest.approx(here.known, rel=0.12)
    second, factors = shown(trials_of(there, again))
    assert not factors
    inside = [
        t.info["latency_ms"]["low"] <= v <= t.info["latency_ms"]["high"]
        for t, v in zip(told, values(second), strict=True)
    ]
    assert np.mean(inside) >= 0.8


@pytest.mark.parametrize("slow", [lambda s: 1.0 if s < 20 else 1.65, lambda s: 1.0 + 0.5 * (math.sin(s) > 0)])
def test_a_slow_time_after_a_normal_one_changes_nothing(cache, monkeypatch, slow):
    here, timings = World(monkeypatch, slow).search()
    told, factors = shown(trials_of(here, timings))
    assert not factors and np.abs(errors(told)).max() < 0.12


def test_a_search_that_was_slow_throughout_is_brought_to_one_scale_with_a_quiet_one(tmp_path, monkeypatch):
    """Each with nothing kept; and with what the slow one kept, which the quiet one finds too slow."""
    monkeypatch.setenv("NAS_BO_CACHE", str(tmp_path / "a"))
    slow = trials_of(*World(monkeypatch, lambda s: 1.65).search())
    assert np.median(errors(slow)) > 0.35 and not shown(slow)[1]  # nothing in it says so
    kept = trials_of(*World(monkeypatch, quiet, seed=1).search())
    monkeypatch.setenv("NAS_BO_CACHE", str(tmp_path / "b"))
    own = trials_of(*World(monkeypatch, quiet, seed=2).search())
    for other in (kept, own):
        both = shown([*slow, *other])[0]
        one, two = (errors(part) for part in (both[: len(slow)], both[len(slow) :]))
        assert abs(np.median(one - two)) < 0.02 and np.abs(one).max() < 0.15
        inside = [
            t.info["latency_ms"]["low"] <= v <= t.info["latency_ms"]["high"]
            for t, v in zip(both, values(both[len(slow) :]), strict=False)
        ]
        assert np.mean(inside) >= 0.8


def test_what_is_kept_becomes_faster_at_once_and_slower_only_after_an_hour(cache, monkeypatch, caplog):
    here, _ = World(monkeypatch, lambda s: 1.65).search([])
    slow = dict(here.known)
    fast = World(monkeypatch, quiet, seed=1).search([])[0]
    assert fast.known == pytest.approx({rung: ms / 1.65 for rung, ms in slow.items()}, rel=0.08)
    kept = World(monkeypatch, quiet, seed=2).search([])[0].known  # for now other anchors are near
    for day in (1e6, 1e6 + 1800):  # a slow half hour
        assert World(monkeypatch, lambda s: 1.5, seed=2, day=day).search([])[0].known == kept
    assert World(monkeypatch, quiet, seed=3, day=1e6 + 5000).search([])[0].known == kept
    assert World(monkeypatch, lambda s: 1.5, seed=4, day=1e6 + 5400).search([])[0].known == kept  # counted from here
    assert "latencies are reported at its undisturbed speed" in caplog.text and "are measured again" not in caplog.text
    now = World(monkeypatch, lambda s: 1.5, seed=5, day=1e6 + 9100).search([])[0].known
    assert now == pytest.approx({rung: 1.5 * ms for rung, ms in kept.items()}, rel=0.08)
    assert "has done so for 1.0 hours" in caplog.text
    (path,) = cache.glob("anchors-*.json")
    assert "slow_since" not in json.loads(path.read_text())


def test_processes_that_measure_side_by_side_share_what_one_of_them_finds(cache, monkeypatch):
    world = World(monkeypatch, lambda s: 1.65 if s < 20 else 1.0)
    one, _ = world.search([])
    two = Bench("cpu", Setting())
    world.seconds = 30.0
    while one.known == two.known:
        one.measure([Model(1.0)])
        world.seconds += 1.0
    assert two.measure([Model(1.0)])[0].scale == pytest.approx(one.known)
    assert two.measure([Model(1.0)])[0].ms == pytest.approx(1.0, rel=0.1)


def test_a_profile_is_told_on_the_scale_of_the_measurement_beside_it(cache, monkeypatch):
    class Told:
        def predict_many(self, archs):
            return np.array([1.7]), np.array([0.05])  # of a slow minute

    path = cache / "profile.json"
    path.write_text(json.dumps({SCALE: {"0": 0.7, "1": 1.6}}))
    monkeypatch.setattr("nas_bo.hardware.latency.machine_profile._model", lambda path, changed: Told())
    timing = Timing(0.84, 0.03, 0.05, True, 20, 60, 1.0, 1.0, "", "", {0: 0.35, 1: 0.8})
    found, said = combined(timing, None, path)
    assert said["model_ms"] == pytest.approx(0.85) and 0.84 < found.ms < 0.85
    # and serves on another scale, not with other ratios
    monkeypatch.setattr("nas_bo.hardware.latency.machine_profile.profile_at", lambda path: object())
    here = World(monkeypatch, quiet).search([])[0]
    here.known = {0: 0.35, 1: 0.8, 2: 2.1}
    assert _fits(path, here)
    here.known = {0: 0.35, 1: 0.9, 2: 2.1}
    assert not _fits(path, here)
    here.known = {0: 0.35}
    assert not _fits(path, here)


def test_rates_sums_and_limits_go_with_their_milliseconds():
    slow, fast = {0: 0.7, 1: 1.6}, {1: 0.8, 2: 2.0}
    prefill, decode = scale.noted("a", slow, 10.0), scale.noted("b", {0: 1.0}, 30.0)
    known = scale.fastest([{scale.NOTED: [prefill, decode]}, {scale.NOTED: [scale.noted("a", fast, 1.0)]}])
    assert known == {"a": {0: pytest.approx(0.35), 1: 0.8, 2: 2.0}, "b": {0: 1.0}}
    info = {scale.NOTED: [prefill, decode], "low": 38.0, "high": 42.0, "slower": 1.0, "repeats": 3}
    ms, told, factor = scale.on_scale(40.0, info, known)
    assert ms == pytest.approx(35.0) and factor == pytest.approx(0.875)
    assert (told["low"], told["high"], told["repeats"]) == (pytest.approx(33.25), pytest.approx(36.75), 3)
    assert scale.on_scale(ms, told, known)[2] == 1.0  # once
    rate, told, _ = scale.on_scale(100.0, {**info, "batch_ms": 40.0}, known)
    assert rate == pytest.approx(100 / 0.875) and told["batch_ms"] == pytest.approx(35.0)
    values, infos, _ = scale.rescaled({"loss": 2.0}, {"latency_ms": {**info, "value": 40.0}, "loss": {}}, known)
    assert values == {"loss": 2.0} and infos["latency_ms"]["value"] == pytest.approx(35.0)


@pytest.mark.parametrize(
    "damaged", [3, [3], [{}], [{"of": "a", "known": 3, "ms": 1}], [{"of": "a", "known": {"0": -1}, "ms": 1}]]
)
def test_a_note_that_cannot_be_read_leaves_the_value_as_it_is(damaged):
    info = {scale.NOTED: damaged}
    assert scale.fastest([info]) == {}
    assert scale.on_scale(1.0, info, {}) == (1.0, info, 1.0)
