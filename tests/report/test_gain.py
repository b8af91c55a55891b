"""What was gained over a standard design: figures from worlds whose truth is known, and that nothing is claimed beyond them."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from matplotlib.cbook import STEP_LOOKUP_MAP
from matplotlib.text import Annotation, Text

from nas_bo.mlflow import content
from nas_bo.report import Summary, page, picture
from nas_bo.report.gain import gains_of, training_noise
from nas_bo.space import Space, choice, integer, option, repeat
from nas_bo.trial import ObjectiveSpec, Trial

LOSS = ObjectiveSpec("bits_per_byte", "bits/byte")
TIME = ObjectiveSpec("latency_ms", "ms", cost="measured")
SIZE = ObjectiveSpec("parameters", cost="analytic")


class Wide(Space):
    width = integer(0, 40)


def world(gain=0.2, noise=0.01, seed=0, columns=(LOSS, TIME), baselines=(0.5, 1.0, 2.0), again=True):
    """Twelve architectures with the loss 2.5 - 0.4 log(ms), and plain decoders that are worse by `gain` at the same time."""
    rng = np.random.default_rng(seed)
    trials, retrained = [], []
    for i, ms in enumerate(np.geomspace(0.25, 2.5, 12).tolist()):
        arch = Wide.architecture({"width": i})
        loss = 2.5 - 0.4 * math.log(ms)
        times = {"latency_ms": {"low": ms * 0.98, "high": ms * 1.02, "level": 0.9}}
        trials.append(
            Trial(
                arch,
                {"bits_per_byte": loss + noise * rng.normal(), "latency_ms": ms, "parameters": 1e5 * ms},
                info=times,
                number=i,
            )
        )
        retrained.append({"id": arch.id, "values": {"bits_per_byte": loss - 0.2 + noise * rng.normal()}, "factor": 2.0})
    others = []
    for k, ms in enumerate(baselines):
        truth = 2.5 - 0.4 * math.log(ms) + gain
        others.append(
            {
                "label": f"plain {k}", "id": f"b{k}", "standard": True, "state": "complete",
                "values": {"latency_ms": ms, "parameters": 1e5 * ms}, "retrained": {"bits_per_byte": truth - 0.2 + noise * rng.normal()},
                "retrained_info": {"bits_per_byte": {"cpu_seconds": 5.0}},
            }
        )  # fmt: skip
    if not again:
        others = [{**b, "values": {**b["values"], **b["retrained"]}, "standard": False} for b in others]
        others = [{k: v for k, v in b.items() if not k.startswith("retrained")} for b in others]
    return Summary("world", columns, trials, {}, retrained if again else (), baselines=others)


def test_the_interval_of_the_gain_holds_the_truth():
    """The front has steps, so it is a little worse than its own curve: at most half a step, .4 * log(10) / 11 / 2."""
    exact = gains_of(world(noise=0))[0]
    held = []
    for seed in range(20):
        (gain,) = gains_of(world(seed=seed, noise=0.02))
        assert abs(gain.better.value - 0.16) < 0.06 and gain.shown
        held.append(gain.better.low <= exact.better.value <= gain.better.high)
    assert sum(held) >= 17 and exact.better.value == pytest.approx(0.2 - 0.4 * math.log(10) / 11 / 2, abs=0.01)
    (gain,) = gains_of(world())
    assert gain.factor.value == pytest.approx(math.exp(0.16 / 0.4), rel=0.1)
    assert gain.low == pytest.approx(0.5) and gain.high == pytest.approx(2.0) and gain.members == 12
    assert (
        gain.sentence.startswith("Gain: at equal latency 0.1")
        and "bits per byte better (95 % interval 0.1" in gain.sentence
    )
    assert "at equal loss 1." in gain.sentence and "times as fast (95 % interval" in gain.sentence
    assert "3 plain decoders with all layers alike (0, 1, 2), over latency_ms from 0.5" in gain.basis
    assert "2 times the budget" in gain.basis and "3 trainings, 15 s" in gain.basis


def test_no_gain_is_not_shown_and_a_loss_is_called_worse():
    (none,) = gains_of(world(gain=0.04, noise=0.05))
    assert not none.shown and "not shown to be" in none.sentence and "(not shown)" in none.short
    (worse,) = gains_of(world(gain=-0.3))
    assert (
        worse.better.high < 0
        and "bits per byte worse (95 % interval 0.3" in worse.sentence
        and "times as slow" in worse.sentence
    )


def test_nothing_is_claimed_outside_the_range_of_the_baselines():
    (one,) = gains_of(world(baselines=(1.0,)))
    assert (
        one.low == one.high == 1.0
        and one.better.value == pytest.approx(0.2, abs=0.1)
        and "at latency_ms 1" in one.basis
    )
    (below,) = gains_of(world(baselines=(0.05, 0.1)))
    assert not below.known and "costs less than all of the front" in below.sentence
    (beyond,) = gains_of(world(baselines=(5.0, 9.0)))  # what is faster than all of them is there at their times as well
    assert beyond.known and beyond.low == pytest.approx(5.0)


def test_a_larger_baseline_that_is_worse_than_a_smaller_one_is_not_held_against_it():
    best, spoiled = world(), world(baselines=(0.5, 1.0, 2.0))
    spoiled.baselines[2]["retrained"] = {"bits_per_byte": 9.0}
    one, other = gains_of(best)[0], gains_of(spoiled)[0]
    assert (
        other.better.value < 0.6 and other.high == one.high
    )  # beyond the second size a person would take the second size


def test_without_a_second_training_there_is_no_interval_and_that_is_said():
    (gain,) = gains_of(world(again=False))
    assert gain.known and not gain.better.bounded and "nothing was trained twice" in gain.sentence
    assert gain.name == "the baselines" and gain.again == 1.0


def test_a_baseline_that_is_on_the_front_is_no_comparison():
    """It is measured twice, as a trial and as a baseline: the difference is noise, and no gain."""
    summary = world()
    front = {t.architecture.id: t for t in summary.final.members}
    ids = list(front)[2:5]
    own = {**summary.baselines[0]["retrained_info"]}

    def measured_again(key: str) -> dict:
        values = {"latency_ms": 0.97 * front[key].values["latency_ms"]}
        again = {"bits_per_byte": front[key].values["bits_per_byte"]}
        return {"label": key, "id": key, "standard": True, "state": "complete", "values": values, "retrained": again, "retrained_info": own}  # fmt: skip

    (none,) = gains_of(replace(summary, baselines=[measured_again(key) for key in ids]))
    assert not none.known and none.same == tuple(ids) and none.to_dict()["on_the_front"] == ids
    assert none.sentence == (
        f"Gain: none, the search found nothing better than the plain decoder: {' and '.join(ids)} are on its front."
    )
    better = gains_of(summary)[0].better.value
    (one,) = gains_of(replace(summary, baselines=[measured_again(ids[0]), *summary.baselines]))
    assert 0 < one.better.value < better and one.same == (ids[0],) and f"{ids[0]} is on the front." in one.basis
    assert "12 architectures of the front with" in one.basis
    (part,) = gains_of(replace(summary, retrained=summary.retrained[:6]))
    assert "6 architectures of the front of the search (12 are on it, 6 were trained again) with" in part.basis
    (alone,) = gains_of(replace(summary, baselines=[measured_again(ids[0]), summary.baselines[2]]))
    assert alone.better.high >= alone.better.value


def test_what_is_not_trained_took_no_trainings_and_has_the_interval_of_its_times():
    how = {"bits_per_byte": {"how": "a part of a trained model, as it is", "held_out_tokens": 16_384, "seconds": 0.5}}
    summary = world(again=False)
    trials = [replace(t, info={**t.info, **how}) for t in summary.trials]
    (gain,) = gains_of(replace(summary, trials=trials, baselines=[{**b, "info": how} for b in summary.baselines]))
    assert "the baselines took 3 evaluations, 1.5 s" in gain.basis and "training" not in f"{gain}"
    assert gain.better.bounded and gain.better.low < gain.better.value < gain.better.high
    timeless = [replace(t, info=how) for t in summary.trials]
    (gain,) = gains_of(
        replace(summary, trials=timeless, baselines=[{**summary.baselines[0], "info": how}], columns=(LOSS, SIZE))
    )
    assert "No interval is known, since nothing is trained, and no cost has an interval." in gain.sentence


def test_a_trained_model_beyond_the_limits_counts_where_there_is_nothing_else():
    summary = world(again=False)
    values = {"bits_per_byte": 1.0, "latency_ms": 10.0, "parameters": 1e6}
    whole = {
        "label": "whole",
        "id": "w",
        "whole": True,
        "state": "infeasible",
        "reason": "violates x",
        "values": values,
    }
    (without,), (beside,), (alone,) = (
        gains_of(replace(summary, baselines=some)) for some in (summary.baselines, [whole, *summary.baselines], [whole])
    )
    assert str(beside) == str(without) and alone.labels == ("whole",) and alone.better.value < 0
    (within,) = gains_of(replace(summary, baselines=[{**whole, "state": "complete"}, *summary.baselines]))
    assert within.labels[0] == "whole"


def test_too_few_second_trainings_are_counted():
    summary = world()
    (gain,) = gains_of(replace(summary, retrained=summary.retrained[:3]))
    assert "3 architectures were trained twice, and the noise of a training is estimated from 5." in gain.sentence


def test_every_cost_has_a_gain_and_the_measured_one_is_first():
    found = gains_of(world(columns=(LOSS, SIZE, TIME)))
    assert [one.cost.name for one in found] == ["latency_ms", "parameters"]
    assert "% of the parameters (95 % interval" in found[1].sentence
    (alone,) = gains_of(world(columns=(LOSS,)))
    assert alone.cost is None and "the best of the search is 0." in alone.sentence
    most = ObjectiveSpec("throughput", "tokens/s", "maximize", "measured")
    summary = world(columns=(LOSS, TIME))
    turned = [Trial(t.architecture, {"bits_per_byte": t.values["bits_per_byte"], "throughput": 1 / t.values["latency_ms"]}, number=t.number) for t in summary.trials]  # fmt: skip
    bases = [{**b, "values": {"throughput": 1 / b["values"]["latency_ms"]}} for b in summary.baselines]
    (gain,) = gains_of(Summary("t", (LOSS, most), turned, {}, summary.retrained, baselines=bases))
    assert (
        gain.better.value == pytest.approx(gains_of(summary)[0].better.value)
        and "times the throughput" in gain.sentence
    )
    assert gain.low == pytest.approx(0.5) and gain.high == pytest.approx(2.0)


def test_noise_is_that_of_one_training():
    rng = np.random.default_rng(1)
    found = []
    for _ in range(200):
        truth = rng.normal(0, 1, 10)
        found.append(training_noise([(t + 0.05 * rng.normal(), 0.9 * t + 0.05 * rng.normal()) for t in truth])[0])
    assert math.sqrt(np.mean(np.square(found))) == pytest.approx(0.05, rel=0.15)
    assert math.isnan(training_noise([(1.0, 1.0)] * 4)[0])


def test_no_line_of_the_picture_is_longer_than_the_picture(monkeypatch):
    drawn = []
    monkeypatch.setattr(sys.modules["nas_bo.report.picture"], "png", lambda canvas: drawn.append(canvas.figure) or b"")
    picture(world())
    (figure,) = drawn
    (title,) = [text for text in figure.findobj(Text) if "Gain: " in text.get_text()]
    assert title.get_window_extent(figure.canvas.get_renderer()).x1 <= figure.bbox.x1


def test_names_in_the_picture_cover_no_other_name(monkeypatch):
    drawn = []
    monkeypatch.setattr(sys.modules["nas_bo.report.picture"], "png", lambda canvas: drawn.append(canvas.figure) or b"")
    close = world(baselines=(0.9, 0.95, 1.0, 2.4))
    picture(replace(close, baselines=[{**b, "label": f"uniform width {b['label']}"} for b in close.baselines]))
    (figure,) = drawn
    figure.canvas.draw()  # until then names are not where they will be
    names = [one for one in figure.findobj(Annotation) if one.get_text().startswith(("uniform", "knee"))]
    boxes = [Text.get_window_extent(one, figure.canvas.get_renderer()) for one in names]
    assert len(boxes) == 5 and not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    assert all(box.x1 <= figure.bbox.x1 and box.x0 >= 0 for box in boxes)


@pytest.mark.parametrize(("gain", "again"), [(0.2, True), (0.05, True), (0.02, True), (0.05, False)])
def test_names_in_the_picture_cover_no_mark(gain, again, monkeypatch):
    """Neither baselines, nor what was trained again, nor the front; at the final size of the axes."""
    drawn = []
    monkeypatch.setattr(sys.modules["nas_bo.report.picture"], "png", lambda canvas: drawn.append(canvas.figure) or b"")
    close = world(gain, seed=2, baselines=(0.8, 0.9, 1.0), again=again)
    picture(replace(close, labels={t.architecture.id: "d96 C4.x3g 3*C4.- A2.-" for t in close.trials}))
    (axes,) = drawn[0].axes
    drawn[0].canvas.draw()
    names = [one for one in axes.texts if one.get_text().startswith(("plain", "knee"))]
    assert len(names) == 4
    marks = [axes.transData.transform(dots.get_offsets()) for dots in axes.collections]
    marks += [
        axes.transData.transform(np.column_stack(STEP_LOOKUP_MAP[line.get_drawstyle()](*line.get_xydata().T)))
        for line in axes.lines
    ]
    for name in names:
        box = name.get_bbox_patch().get_window_extent()
        assert not any(box.contains(*place) for place in np.vstack(marks)), name.get_text()
        assert not any(
            box.padded(3).contains(*place) for dots in axes.collections if dots.get_label() == "baseline"
            for place in axes.transData.transform(dots.get_offsets())
        ), name.get_text()  # fmt: skip


def test_plain_decoders_have_parameters_and_intervals_in_the_table_of_the_page():
    close = world(columns=(LOSS, TIME))
    counted = {"bits_per_byte": {"parameters": 123_456}}
    trials = [replace(t, info={**t.info, **counted}) for t in close.trials]
    plain = [{**b, "info": {"latency_ms": {"low": 0.4, "high": 0.6}, **counted}} for b in close.baselines[:1]]
    text = page(replace(close, trials=trials, baselines=plain))
    row = text[text.index("<td class=base>") :].split("<tr", 1)[0]
    assert "0.50 ±0.10" in row and "123.5k" in row and "Infinity" in row  # the last: it has no loss of the search


def test_all_reports_begin_with_it():
    summary = world()
    first = gains_of(summary)[0]
    assert summary.opening[0] == first.sentence
    text = page(summary)
    assert text.index("class=gain") < text.index("class=lead") and "Gain: at equal latency" in text
    assert picture(summary).startswith(b"\x89PNG")
    made = content.of_gain(summary)
    named = {name: value for name, value, _ in made.metrics}
    assert (
        named["gain/bits_per_byte.at_equal_latency_ms"] == first.better.value
        and "gain/latency_ms.times_less_low" in named
    )
    assert made.tags["nas.gain"] == first.sentence
    json.dumps(first.to_dict(), allow_nan=False)


def test_what_is_not_known_is_the_first_line_too():
    summary = Summary("x", (LOSS, TIME), world().trials, not_compared="the space X has no plain decoder")
    assert summary.opening == ["Gain: not known, the space X has no plain decoder."] and "class=gain" in page(summary)
    failed = world()
    bases = [{**b, "retrained": {}, "state": "failed", "reason": "out of memory"} for b in failed.baselines]
    (gain,) = gains_of(Summary("x", (LOSS, TIME), failed.trials, {}, failed.retrained, baselines=bases))
    assert gain.sentence == "Gain: not known, no baseline has all values (out of memory)."


# ---- which operations ------------------------------------------------------------------------------------------------


class Mixed(Space):
    depth = integer(2, 3)
    layers = repeat(depth, mixer=choice(option("attention", heads=choice(1, 2)), option("conv", kernel=choice(3, 7))))


def test_what_the_front_has_in_common_is_said_in_one_sentence():
    trials = []
    for i in range(60):
        arch = Mixed.sample(i)
        first = arch.layers[0].mixer.kind == "conv"
        ms = 1.0 + i % 11
        trials.append(Trial(arch, {"bits_per_byte": (1.0 if first else 5.0) + 1 / ms, "latency_ms": ms}, number=i))
    summary = Summary("m", (LOSS, TIME), trials, space=Mixed)
    assert len(summary.front()) >= 5
    assert summary.finding.startswith(
        f"All {len(summary.front())} members of the front have a convolution as the mixer of the first layer ("
    )
    both = [t for t in trials if t.values["latency_ms"] == 1.0][:2] + [
        t for t in trials if t.values["latency_ms"] == 2.0
    ][:2]
    assert Summary("m", (LOSS, TIME), both, space=Mixed).finding == ""  # too few to say anything
    assert (
        Summary("m", (LOSS, TIME), trials, space=None).finding == ""
        and Summary("w", (LOSS, TIME), world().trials, space=Wide).finding == ""
    )
