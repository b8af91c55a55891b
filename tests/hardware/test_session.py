"""Sessions with real models on the real clock, and with a runtime whose machine can be made slow, noisy or wild."""

from __future__ import annotations

import itertools
import math
import random
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch

from nas_bo.errors import ObjectiveError, Unsupported
from nas_bo.hardware.devices.device import Device
from nas_bo.hardware.measuring.clock import Clock, clock_for
from nas_bo.hardware.measuring.drift import drift_of, polish
from nas_bo.hardware.measuring.measure import check_idle, interval
from nas_bo.hardware.measuring.session import LEAST, Session, Visit, Wanted
from nas_bo.hardware.runtimes import runtime
from nas_bo.hardware.workload import Setting
from nas_bo.objectives import Latency
from nas_bo.search_spaces import TinyGPT
from tests.hardware.clocks import Work

PREFILL, DECODE = Setting(context=32), Setting("decode", context=32)
ARCHS = [TinyGPT.sample(seed) for seed in range(6)]


class Told(Clock):
    """Reads the time that a run says that it took."""

    def __call__(self, run):
        return 1e3 * run(), 1.0


@pytest.fixture
def told(monkeypatch):
    monkeypatch.setattr("nas_bo.hardware.measuring.session.clock_for", lambda *_: Told("thread", "told"))


class Invented:
    """Says the time that an architecture is to take."""

    name, device, threads, inside = "invented", "cpu", 1, False

    def __init__(self, slow=lambda: 1.0, refuse=()) -> None:
        self.slow, self.refuse = slow, refuse

    def conditions(self):
        return {}

    def running(self):
        return nullcontext()

    def prepare(self, arch, setting):
        if arch in self.refuse:
            raise Unsupported("it has no such operation")
        return Takes(1e-4 * (1 + ARCHS.index(arch)), self.slow)


class Takes:
    steps, held_bytes = 1, 0

    def __init__(self, seconds, slow) -> None:
        self.seconds, self.slow = seconds, slow

    def ready(self):
        lasts = self.seconds * self.slow()
        return lambda: lasts


def wanted(archs=ARCHS, settings=(PREFILL,)):
    return [Wanted(arch, setting) for setting in settings for arch in archs]


def test_real_models_are_measured_in_both_phases():
    asked = wanted(ARCHS[:3], (PREFILL, DECODE))
    first, second = (
        Session(runtime("eager", "cpu"), clock="cpu", max_seconds=0.6, seed=s).measure(asked) for s in (0, 1)
    )
    assert set(first.measured) == {w.key for w in asked} and not first.unsupported
    for key, found in first.measured.items():
        assert 0 < found.low_ms <= found.median_ms <= found.high_ms
        assert found.repeats >= 3 * LEAST and found.clock == "thread CPU time, one thread"
        assert second.measured[key].median_ms > 0


def test_a_decoded_token_is_less_work_than_a_prefill(monkeypatch):
    """Real models; the clock counts what they are told to do, since times of a shared machine prove nothing."""
    monkeypatch.setattr("nas_bo.hardware.measuring.session.clock_for", lambda *_: Work())
    asked = wanted(ARCHS[:3], (PREFILL, DECODE))
    first, second = (Session(runtime("eager", "cpu"), seed=s).measure(asked).measured for s in (0, 1))
    assert {k: m.median_ms for k, m in first.items()} == {k: m.median_ms for k, m in second.items()}
    for arch in ARCHS[:3]:
        assert first[Wanted(arch, DECODE).key].median_ms < first[Wanted(arch, PREFILL).key].median_ms


def test_decoding_again_starts_from_the_same_context():
    """The cache is set back, so that the 50th repeat is not at another context than the first."""
    import torch

    prepared = runtime("eager", "cpu").prepare(ARCHS[0], DECODE)
    with torch.inference_mode():
        for _ in range(5):
            prepared.ready()()
            assert prepared._cache.position == DECODE.context + prepared.steps
        prepared.ready()
        logits = prepared._model(prepared._tokens[:, 32:33], cache=prepared._cache)
        whole = prepared._model(prepared._tokens[:, :33])
    assert torch.allclose(logits[:, -1], whole[:, -1], atol=1e-4)


def test_a_quiet_machine_settles_at_once_and_a_noisy_one_needs_more(told):
    quiet = Session(Invented(), clock="cpu", precision=0.05).measure(wanted(ARCHS[:3]))
    rng = random.Random(0)
    noisy = Session(Invented(lambda: rng.uniform(0.8, 1.3)), clock="cpu", precision=0.03).measure(wanted(ARCHS[:3]))
    assert all(m.settled for m in quiet.measured.values())
    repeats = [sum(m.repeats for m in o.measured.values()) for o in (quiet, noisy)]
    assert repeats[0] < repeats[1]


def test_a_measurement_that_never_settles_says_so_with_its_wide_interval(told):
    rng = random.Random(0)
    wild = Invented(lambda: math.exp(rng.gauss(0, 1)))
    asked = wanted(ARCHS[:2])
    outcome = Session(wild, clock="cpu", precision=0.01, max_visits=LEAST + 2).measure(asked)
    for found in outcome.measured.values():
        assert not found.settled and found.repeats == 3 * (LEAST + 2)
        assert (found.high_ms - found.low_ms) / found.median_ms > 0.1


def test_a_machine_that_slows_down_is_seen_and_divided_out(told):
    rng, calls = random.Random(0), itertools.count()
    speed = Invented(lambda: rng.uniform(0.97, 1.03) * (1.0 if next(calls) < 4 * len(ARCHS) * 15 else 1.3))
    outcome = Session(speed, clock="cpu", precision=0.001, max_visits=30).measure(wanted())
    factors = np.array(outcome.drift.factors)
    assert factors[15:].mean() / factors[:15].mean() == pytest.approx(1.3, rel=0.03)
    assert "drifted" in str(outcome.drift)
    times = np.array([outcome.measured[w.key].median_ms for w in wanted()])
    assert np.allclose(times / times[0], np.arange(1, 7), rtol=0.06)


def test_a_session_goes_on_from_the_visits_of_another_and_relates_the_two(told):
    kept: list[Visit] = []
    sessions: list[int] = []

    def keep(session, visits):
        kept.extend(visits)
        sessions.extend([session] * (1 + max(v.round for v in visits) - len(sessions)))

    asked = wanted(ARCHS[:4])
    whole = Session(Invented(), anchors=ARCHS[:2], clock="cpu").measure(asked[:3], keep)
    assert len(kept) == sum(m.repeats for m in whole.measured.values()) // 3
    slower = Invented(lambda: 1.2)
    again = Session(slower, anchors=ARCHS[:2], clock="cpu", before=kept, sessions=sessions)
    outcome = again.measure(asked, keep)
    assert outcome.drift.sessions == pytest.approx((1.0, 1.2), rel=0.04)
    times = [outcome.measured[w.key].median_ms for w in asked]
    assert times[3] / times[0] == pytest.approx(4, rel=0.05)  # measured in the slower session only
    assert sessions == sorted(sessions) and set(sessions) == {0, 1}


def test_what_is_settled_is_not_measured_again(told):
    kept: list[Visit] = []
    asked = wanted(ARCHS[:3])
    Session(Invented(), clock="cpu", precision=0.2).measure(asked, lambda s, v: kept.extend(v))
    rounds = [0] * (1 + max(v.round for v in kept))
    more: list[Visit] = []
    Session(Invented(), clock="cpu", precision=0.2, before=kept, sessions=rounds).measure(
        asked, lambda s, v: more.extend(v)
    )
    assert not more


def test_what_a_runtime_cannot_run_has_its_reason_and_stops_nothing(told):
    outcome = Session(Invented(refuse=ARCHS[1:2]), anchors=ARCHS[1:3], clock="cpu").measure(wanted(ARCHS[:3]))
    assert outcome.unsupported == {Wanted(ARCHS[1], PREFILL).key: "it has no such operation"}
    assert len(outcome.measured) == 2


def test_models_that_do_not_fit_together_are_measured_in_blocks(told):
    session = Session(Invented(), anchors=ARCHS[:1], clock="cpu", hold_bytes=1.0)
    blocks = list(session._blocks(wanted(ARCHS[1:]), []))
    assert [len(b) for b in blocks] == [1] * 5
    assert len(session.measure(wanted()).measured) == 6


def test_intervals_of_the_median_cover_what_they_promise():
    rng = np.random.default_rng(0)
    for n in (6, 9, 20, 51):
        inside = 0
        for _ in range(400):
            low, high = interval(list(rng.lognormal(size=n)))
            inside += low <= 1.0 <= high
        assert inside / 400 > 0.92
    assert interval([3.0, 1.0, 2.0]) == (1.0, 3.0)


def test_polish_finds_the_factor_of_a_round_and_leaves_noise_alone():
    rng = np.random.default_rng(1)
    level = rng.uniform(0.5, 5, size=(20, 1))
    times = level * np.exp(rng.normal(0, 0.03, (20, 12)))
    assert (polish(times) == 1).mean() > 0.8
    times[:, 6:] *= 1.15
    times[3:, 2] = np.nan
    factors = polish(times)
    assert factors[6:].mean() / factors[:6].mean() == pytest.approx(1.15, rel=0.01)
    assert drift_of({}, []).largest == 1.0


def test_settings_and_clocks_that_make_no_sense_say_what_to_do():
    with pytest.raises(ObjectiveError, match="precision=0"):
        Session(Invented(), precision=0)
    with pytest.raises(ObjectiveError, match="max_visits=2.*at least 6"):
        Session(Invented(), max_visits=2)
    with pytest.raises(ObjectiveError, match="'auto', 'cpu' or 'wall'"):
        clock_for("sundial", "cpu")  # type: ignore[arg-type]
    with pytest.raises(ObjectiveError, match="clock='cpu' with threads=2"):
        clock_for("cpu", "cpu", threads=2)
    assert clock_for("auto", "cpu", threads=2).kind == "wall"
    assert clock_for("cpu", "cpu", inside=True).kind == "process"
    with pytest.raises(ObjectiveError, match="no runtime 'tpu'"):
        runtime("tpu")
    with pytest.raises(ObjectiveError, match="'cuda:7' cannot be used here"):
        runtime("eager", "cuda:7")


def test_an_accelerator_that_is_busy_is_refused():
    check_idle("cpu")
    check_idle("cuda:0", busy_percent=3.0)
    with pytest.raises(ObjectiveError, match="cuda:0 is 80 % busy with other work"):
        check_idle("cuda:0", busy_percent=80.0)


def test_work_of_our_own_a_moment_ago_is_waited_for_and_a_driver_that_does_not_answer_refuses_nothing(monkeypatch):
    told = iter([100, 60, 0])
    monkeypatch.setattr(torch.cuda, "utilization", lambda device: next(told))
    check_idle("cuda:0")
    assert not list(told)
    monkeypatch.setattr("nas_bo.hardware.measuring.measure.CALM", 0.2)
    monkeypatch.setattr(torch.cuda, "utilization", lambda device: 100)
    with pytest.raises(ObjectiveError, match="100 % busy with other work"):
        check_idle("cuda:0")
    monkeypatch.undo()
    if not torch.cuda.is_available():
        check_idle("cuda:0")  # where nvidia-ml-py is installed, it raises errors of its own


def test_events_are_those_of_the_device_that_works(monkeypatch):
    current, recorded = ["cuda"], []

    @contextmanager
    def device(name):
        current.append(name)
        yield
        current.pop()

    class Event:
        def __init__(self, enable_timing):
            pass

        def record(self):
            recorded.append(current[-1])

        def synchronize(self):
            pass

        def elapsed_time(self, other):
            return 2.0

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: recorded.append(current[-1]))
    clock = clock_for("auto", "cuda:1")
    assert clock(lambda: None)[0] == 2.0 and clock.kind == "cuda"
    assert recorded == ["cuda:1"] * 3


@pytest.mark.parametrize("device", ["meta", "mps", "xpu:0"])
def test_a_device_without_a_clock_is_refused(device):
    with pytest.raises(ObjectiveError, match="there is a clock for 'cpu' and 'cuda' only"):
        clock_for("auto", device)
    with pytest.raises(ObjectiveError, match="there is a clock"):
        Latency(device=device)
    with pytest.raises(ObjectiveError):  # absent, or without a clock
        Device.here(device)


def test_settings_that_differ_in_the_vocabulary_alone_are_told_apart(told):
    class Large(Invented):
        def prepare(self, arch, setting):
            return Takes(1e-4 if setting.vocab_size == 256 else 4e-4, self.slow)

    small, large = Wanted(ARCHS[0], PREFILL), Wanted(ARCHS[0], Setting(context=32, vocab_size=32_000))
    found = Session(Large(), clock="cpu").measure([small, large]).measured
    assert found[large.key].median_ms / found[small.key].median_ms == pytest.approx(4, rel=0.2)


def test_the_last_word_of_progress_is_all_of_them(told):
    said: list[tuple[int, int]] = []
    session = Session(Invented(), anchors=ARCHS[:2], clock="cpu", precision=0.2)
    session.measure(wanted(ARCHS[:4]), progress=lambda done, of: said.append((done, of)))
    assert said[-1] == (4, 4)


def test_a_clock_that_does_not_move_is_an_error():
    class Frozen(Invented):
        def prepare(self, arch, setting):
            return type("Nothing", (Takes,), {"ready": lambda self: lambda: None})(0.0, None)

    class Still(Clock):
        def __call__(self, run):
            return 0.0, 1.0

    session = Session(Frozen(), clock="cpu")
    item = type("Item", (), {"prepared": Frozen().prepare(None, None), "wanted": wanted()[0]})()
    with pytest.raises(ObjectiveError, match="too coarse"):
        session._visit(item, 0, Still("thread", "a clock that stands"))  # type: ignore[arg-type]
