"""The learned model on a device that is invented: a roofline with other constants, some kinds slower than it says."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from nas_bo.errors import ObjectiveError
from nas_bo.hardware.latency.learned import Learned
from nas_bo.hardware.latency.roofline import Roofline
from nas_bo.hardware.latency.roofline_model import RooflineModel
from nas_bo.hardware.workload import Setting, workload
from nas_bo.search_spaces import TinyGPT

SETTING = Setting("decode", context=64)
ARCHS = [TinyGPT.sample(seed) for seed in range(80)]
SLOW = {"mixer.attention": 2.5, "head": 1.6, "mixer.conv": 0.5}
BASE = Roofline()


def true_ms(arch: object) -> float:
    works = workload(arch, "decode", context=64).operations  # type: ignore[arg-type]
    factors = np.array([SLOW.get(work.kind, 1.0) for work in works])
    return float(1.7 * Roofline(gflops=35.0, overhead_us=5.0).operations_ms(works) @ factors)


TRUTH = np.array([true_ms(arch) for arch in ARCHS])
HELD, TAUGHT = slice(30, None), slice(0, 20)


def learned(n: int = 20, **more: object) -> Learned:
    return Learned(BASE, SETTING, ARCHS[:n], list(TRUTH[:n]), **more)  # type: ignore[arg-type]


def error(predicted: np.ndarray) -> float:
    return float(np.mean(np.abs(predicted / TRUTH[HELD] - 1)))


def test_few_measurements_correct_the_base() -> None:
    plain = np.array([BASE.operations_ms(workload(arch, "decode", context=64).operations).sum() for arch in ARCHS])
    scaled = plain * np.median(TRUTH[TAUGHT] / plain[TAUGHT])
    ten, twenty = (error(learned(n).predict_many(ARCHS[HELD])[0]) for n in (10, 20))
    assert twenty <= ten < error(scaled[HELD]) / 2


def test_intervals_hold_what_they_promise() -> None:
    rng = np.random.default_rng(0)
    noisy = TRUTH * np.exp(rng.normal(0, 0.03, len(TRUTH)))
    model = Learned(BASE, SETTING, ARCHS[:20], list(noisy[:20]))
    mean, half = model.predict_many(ARCHS[HELD])
    assert 0.8 <= np.mean(np.abs(noisy[HELD] - mean) <= half) <= 1.0
    assert np.median(half / mean) < 0.2


def test_intervals_hold_from_ten_measurements() -> None:
    inside, wide = [], []
    for draw in range(5):
        rng = np.random.default_rng(draw)
        order, noisy = rng.permutation(len(TRUTH)), TRUTH * np.exp(rng.normal(0, 0.01, len(TRUTH)))
        taught, asked = order[:10], order[10:]
        model = Learned(BASE, SETTING, [ARCHS[i] for i in taught], list(noisy[taught]))
        mean, half = model.predict_many([ARCHS[i] for i in asked])
        inside.append(np.mean(np.abs(noisy[asked] - mean) <= half))
        wide.append(np.median(half / mean))
    assert np.mean(inside) >= 0.85 and np.median(wide) < 0.08


def test_one_and_many_agree_whatever_was_asked_before() -> None:
    first, second = learned(), learned()
    mean, half = first.predict_many(ARCHS[HELD])
    for arch, expected, wide in reversed(list(zip(ARCHS[HELD], mean, half, strict=True))):
        value = second.predict(arch)
        assert value == pytest.approx(expected) and value.info["how"] == "learned"
        assert value.info["high"] - value == pytest.approx(wide, rel=1e-4)
    copy = pickle.loads(pickle.dumps(first))
    assert copy.predict(ARCHS[70]) == pytest.approx(float(mean[40]))


def test_another_device_helps() -> None:
    other = learned(30)
    few = list(1.3 * TRUTH[:5])
    alone, transferred = (
        float(
            np.mean(np.abs(Learned(base, SETTING, ARCHS[:5], few).predict_many(ARCHS[HELD])[0] / TRUTH[HELD] / 1.3 - 1))
        )
        for base in (BASE, other)
    )
    assert transferred < alone


def test_what_softmaxes_cost_is_learned() -> None:
    """As in a runtime that writes the scores out: of two layers of one width, that with more heads is slower."""
    setting = Setting("prefill", context=128)
    real = Roofline(overhead_us=3.0).columns
    works = [real(workload(arch, "prefill", context=128).operations).sum(0) for arch in ARCHS]
    truth = np.array(works) @ np.array([1.0, 3e-3, 4.0])
    model = Learned(BASE, setting, ARCHS[:20], list(truth[:20]))
    assert np.mean(np.abs(model.predict_many(ARCHS[HELD])[0] / truth[HELD] - 1)) < 0.03
    assert 3.0 < model.posterior.price_ns < 5.0
    fitted = RooflineModel(BASE, setting).fit(ARCHS[:10], list(truth[:10]))
    assert fitted.fitted["score_ns"] == pytest.approx(4.0, rel=0.05)
    found = workload(ARCHS[3], "prefill", context=128).operations
    assert model.operations_ms(found).sum() == pytest.approx(model.predict(ARCHS[3]), rel=0.05)


def test_what_operations_do_to_each_other_is_learned() -> None:
    """The larger a model, the less of it is in the cache when the next token comes."""
    moved = np.array([workload(arch, "decode", context=64).moved_bytes for arch in ARCHS])
    truth = TRUTH * (moved / moved.min()) ** 0.4
    mean, half = Learned(BASE, SETTING, ARCHS[:20], list(truth[:20])).predict_many(ARCHS[HELD])
    assert np.mean(np.abs(mean / truth[HELD] - 1)) < 0.04
    assert np.mean(np.abs(truth[HELD] - mean) <= half) >= 0.8


def test_too_few_or_unequal_are_refused() -> None:
    with pytest.raises(ObjectiveError, match="at least 3"):
        Learned(BASE, SETTING, ARCHS[:2], [1.0, 2.0])
    with pytest.raises(ObjectiveError, match="3 architectures but 2 times"):
        Learned(BASE, SETTING, ARCHS[:3], [1.0, 2.0])
    assert len(learned().predict_many([])[0]) == 0
