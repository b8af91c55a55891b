"""Decision accuracy, laws of size, who goes on, and how that is told: from numbers alone."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from nas_bo.errors import ReportError, SearchError
from nas_bo.report.decisions import Accuracy, decision_accuracy
from nas_bo.report.ladder import CONTROL, FRONT, PLAIN, Climber, Ladder, Rung
from nas_bo.report.scaling_law import law

RUNGS = tuple(Rung(4.0**i, 1000 * 4**i, 0.1, 900 * 4**i, 1000 * 4**i, 1100 * 4**i, 10**6) for i in range(3))


def climber(name, losses, kind=FRONT, size=1000, flops=2.0):
    sizes = tuple(size * 4**i for i in range(len(losses)))
    rows = tuple(one if isinstance(one, tuple) else (one, one) for one in losses)
    return Climber(
        name,
        name.upper(),
        kind,
        3 if kind == FRONT else None,
        (name,) * 3,
        sizes,
        tuple(flops * s for s in sizes),
        rows,
        ("",) * 3,
    )


def ladder(*climbers, seeds=2):
    return Ladder("study", "bits_per_byte", "bits/byte", RUNGS, climbers, seeds)


# ---- pairs --------------------------------------------------------------------------------------------------------------


def by_hand(prediction, truth, sizes=None):
    right, count = 0.0, 0
    for i in range(len(truth)):
        for j in range(i):
            if truth[i] == truth[j] or (sizes and max(sizes[i], sizes[j]) > 1.1 * min(sizes[i], sizes[j])):
                continue
            count += 1
            ours = prediction[i] - prediction[j]
            right += 0.5 if ours == 0 else float((ours > 0) == (truth[i] > truth[j]))
    return right / count, count


def test_it_is_the_share_of_pairs_that_a_loop_counts():
    for seed in range(20):
        rng = random.Random(seed)
        n = rng.randint(4, 9)
        prediction, truth = ([rng.randint(0, 6) for _ in range(n)] for _ in range(2))
        sizes = [rng.choice((100, 105, 200)) for _ in range(n)]
        for given in (None, sizes):
            value, count = by_hand(prediction, truth, given)
            found = decision_accuracy(prediction, truth, given)
            assert found.value == pytest.approx(value) and found.pairs == count
            assert found.low <= found.value <= found.high


def test_what_is_not_finite_is_left_out_and_too_little_is_not_known():
    whole = decision_accuracy([1, 2, 3, 4], [1, 3, 2, 4])
    assert decision_accuracy([1, math.nan, 2, 3, 4], [1, 9, 3, 2, 4]).value == whole.value == 5 / 6
    for none in (
        decision_accuracy([1, 2], [1, 2]),
        decision_accuracy([1, 2, 3], [1, 1, 1]),
        decision_accuracy([1, 2, 3], [1, 2, 3], [1, 2, 4]),
    ):
        assert not none.known and none.text() == "not known" and Accuracy.from_dict(none.to_dict()).pairs == none.pairs
    perfect = decision_accuracy(range(6), range(6))
    assert perfect.value == 1 and perfect.high == 1 and perfect.low == pytest.approx(0.025 ** (1 / 5))
    assert decision_accuracy(range(6), range(5, -1, -1)).high == pytest.approx(1 - 0.025 ** (1 / 5))


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """Scores with noise: the share over a very large population is the truth."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=2000)
    noisy = truth + rng.normal(size=2000)
    true = by_hand(noisy[:400], truth[:400])[0]
    held = 0
    for trial in range(60):
        picked = rng.integers(0, 2000, 14)
        found = decision_accuracy(noisy[picked], truth[picked], draws=300, seed=trial)
        held += found.low <= true <= found.high
    assert held >= 50


# ---- laws ----------------------------------------------------------------------------------------------------------------


def test_a_law_is_shown_only_where_it_decides_more_than_the_rung_before():
    """Architectures that cross: a steep one is behind on small rungs and ahead on the last."""
    sizes = [[1000.0 * 4**rung] * 6 for rung in range(3)]
    slopes = [0.05, 0.1, 0.15, 0.2, 0.25, 0.3]
    height = [math.exp(i / 10) for i in range(6)]
    crossing = [[h * 4 ** (-s * rung) for h, s in zip(height, slopes, strict=True)] for rung in range(3)]
    found = law(sizes, crossing, 4)
    assert found.shown and found.held_out.value > found.ranking.value and "its forecast is shown" in found.text()
    expected = [h * 4 ** (-s * 3) for h, s in zip(height, slopes, strict=True)]
    assert found.forecast == pytest.approx(expected, rel=0.02) and found.sizes == pytest.approx([64000] * 6)
    parallel = [[h * 4 ** (-0.1 * rung) for h in height] for rung in range(3)]
    same = law(sizes, parallel, 4)
    assert not same.shown and same.forecast == () and "no forecast is shown" in same.text()
    assert "needs two rungs before the last" in law(sizes[:2], crossing[:2], 4).text()


# ---- the report ------------------------------------------------------------------------------------------------------------


def test_those_that_nothing_beats_go_on_with_a_plain_control_and_never_one_alone():
    good = climber("good", (3.0, 2.0, 1.0), flops=3)
    cheap = climber("cheap", (3.1, 2.2, 1.4), flops=1)
    worse = climber("worse", (3.2, 2.5, 1.9), CONTROL, flops=3)
    bad = climber("bad", (3.3, 2.6, 2.5), CONTROL, flops=3)
    plain = [climber("p1", (3.4, 2.7, 2.6), PLAIN), climber("p2", (3.4, 2.7, 2.6), PLAIN, size=9000)]
    made = ladder(good, cheap, worse, bad, *plain)
    assert [c.id for c in made.promoted] == ["good", "cheap", "worse"] and made.control is plain[0]
    many = [climber(f"m{i}", (3, 2, 1 + i / 10), flops=9 - i) for i in range(9)]
    chosen = ladder(*many, *plain).promoted
    assert len(chosen) == 5 and {"m0", "m8"} <= {c.id for c in chosen}
    noisy = [climber(f"n{i}", (3, 2, (1 + i / 100, 1.3 + i / 100)), flops=1 + i) for i in range(4)]
    assert len(ladder(*noisy).promoted) == 4  # noise does not tell them apart
    assert ladder(good, cheap).control is None and "control" not in str(ladder(good, cheap))


def test_it_says_what_decides_and_is_read_back():
    rng = random.Random(1)
    climbers = [
        climber(f"c{i}", (3 + i / 10, 2 + i / 10, (1 + i / 10, 1 + i / 10 + rng.random() / 50)), size=1000 + 20 * i)
        for i in range(8)
    ]
    climbers[3] = climber("c3", (3.3, 2.3, (math.nan, 1.3)))
    made = ladder(*climbers, climber("p", (4, 3, 2), PLAIN))
    assert made.decisions[0].overall.value == 1 and made.decisions[0].equal.pairs > 2 and made.ceiling[0].known
    assert (
        made.first_line.startswith("The order at 1,000 parameters decides 1.00")
        and "What wins small wins large here." in made.first_line
    )
    text = str(made)
    assert (
        "promoted" in text
        and "failed" in text
        and "with the plain decoder P as a control" in text
        and "A power law decides" in text
    )
    again = Ladder.from_dict(made.to_dict())
    assert str(again) == text and again.to_dict() == made.to_dict()
    with pytest.raises(SearchError, match="the JSON of a ladder"):
        Ladder.from_dict({"version": 1})


def test_a_few_pairs_of_equal_size_claim_nothing():
    climbers = [climber(f"c{i}", (3 + i / 10, 2 + i / 10, 1 + i / 10), size=1000 * (1 + i // 2)) for i in range(6)]
    assert "do not tell the design from the size: take several up" in ladder(*climbers).first_line
    turned = [climber(f"c{i}", (3 - i / 10, 2 + i / 10, 1 + i / 10)) for i in range(6)]
    assert "The small rung does not decide reliably" in ladder(*turned).first_line
    failed = [climber(f"c{i}", (math.nan, 1.0, 1.0)) for i in range(4)]
    assert "Too few trainings ended" in ladder(*failed).first_line and not ladder(*failed).law.shown


def test_its_files(tmp_path):
    made = ladder(
        *[climber(f"c{i}", (3 + i / 10, 2 + i / 10, 1 + i / 10)) for i in range(6)], climber("p", (4, 3, 2), PLAIN)
    )
    paths = made.save(tmp_path / "out")
    assert [path.name for path in paths] == ["ladder.png", "ladder.json", "ladder.txt"]
    assert paths[0].read_bytes().startswith(b"\x89PNG") and made.first_line in paths[2].read_text()
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match="choose another --out"):
        made.save(tmp_path / "file")
