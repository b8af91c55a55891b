"""One table of search and re-training, its marks, its legend, and no digits that are not known."""

from __future__ import annotations

import re

import pytest

from nas_bo.model import label
from nas_bo.report import Summary, front_text
from nas_bo.report.digits import known, measured
from nas_bo.report.notation import explained, legend
from nas_bo.report.table import table_markdown, table_text
from nas_bo.search_spaces import Hybrid, TinyGPT
from nas_bo.trial import ObjectiveSpec, Trial

LOSS, TIME = ObjectiveSpec("val_loss", "bits/byte"), ObjectiveSpec("latency_ms", "ms", cost="measured", at_most=10)


def summary(again: bool = True) -> Summary:
    archs = list({a.id: a for a in map(TinyGPT.sample, range(40))}.values())[:5]
    points = [(2.0, 9.0), (2.2, 4.0), (2.4, 2.0), (2.8, 1.0), (3.0, 0.5)]
    trials = []
    for i, (arch, (loss, time)) in enumerate(zip(archs, points, strict=True)):
        info = {"latency_ms": {"low": time * 0.9, "high": time * 1.1}, "val_loss": {"parameters": 1000 + i}}
        trials.append(Trial(arch, {"val_loss": loss, "latency_ms": time}, number=i, info=info))
    ids = [a.id for a in archs]
    retrained = [
        {"id": ids[0], "values": {"val_loss": 1.9, "latency_ms": 9.5}, "info": {"latency_ms": {"low": 9.4, "high": 9.6}}, "factor": 2.0},
        {"id": ids[1], "values": {"val_loss": 2.35, "latency_ms": 4.02}, "factor": 2.0},
        {"id": ids[2], "values": {"val_loss": 2.3, "latency_ms": 2.1}, "factor": 2.0},
        {"id": ids[3], "values": {"val_loss": 2.6, "latency_ms": 1.13}, "factor": 2.0},
    ]  # fmt: skip
    return Summary("mine", [LOSS, TIME], trials, {a.id: label(a) for a in archs}, retrained if again else [])


def test_search_and_re_training_are_one_table():
    lines = table_text(summary()).splitlines()
    assert re.match(r"trial +architecture +val_loss \[bits/byte\] +re-trained x2 +latency_ms \[ms\] <= 10", lines[0])
    rows = {int(re.match(r"[-*o ]*(\d+)", line)[1]): line for line in lines[2:7]}
    assert list(rows) == [0, 2, 3, 1, 4]  # the final front, then what was on the front of the search only
    assert "1.900" in rows[0] and "9.50 ±0.10" in rows[0] and "2.100  " in rows[2]  # no interval of another measurement
    assert (
        rows[1].lstrip().startswith("- 1")
        and "2.350" in rows[1]
        and rows[4].lstrip().startswith("o 4")
        and "0.50 ±0.05" in rows[4]
    )
    assert sum(line.lstrip().startswith("*") for line in rows.values()) == 1
    below = "\n".join(lines[7:])
    assert (
        "* the knee" in below and "- dominated by its final values" in below and "o on the front of the search" in below
    )
    assert "d" in below and "width" in below


def test_without_re_training_there_is_no_column_for_it_and_marks_are_explained():
    text = table_text(summary(again=False))
    assert "re-trained" not in text and "* the knee" in text and "4.0 ±0.4" in text
    shown = table_markdown(summary(again=False), at_most=2)
    assert shown.count("\n| ") == 3 and "3 more on the front." in shown and "width" in shown.splitlines()[-1]


def test_the_markdown_says_the_same_and_links():
    shown = table_markdown(summary(), links={1: "#/runs/x"})
    assert r"[- 1](#/runs/x)" in shown and "re-trained x2" in shown and "±" in shown
    assert len({line.replace(r"\|", "").count("|") for line in shown.splitlines() if line.startswith("|")}) == 1


@pytest.mark.parametrize(
    ("names", "has", "lacks"),
    [
        (["d96 C4 -"], ["d96: width 96", "C4: gated convolution over the last 4 tokens", "-: no MLP"], ["A", "x", "dot"]),
        (["d64 A4/2w8 x2g"], ["A4: attention with 4 heads", "A4/2: 2 query heads share", "w8", "x2: MLP of twice", "g: gated"], ["no MLP", "in a row"]),
        (["d64 3*A1.- C8.x1", "d32 A2 x3"], ["3*A1.-: 3 such layers in a row", "A1: attention with 1 head;", "after a dot", "x1: MLP of the model's width"], ["gated;", "g: gated"]),
        (["d64 L2.m4.2x2 -.x0.5"], ["L2: linear attention with 2 heads", "m4.2: mixture of 4 experts, 2 active", "nothing mixes tokens"], ["no MLP", "g: gated"]),
        (["d64 2*- x2"], ["nothing mixes tokens", "2*-"], ["no MLP"]),
        (["d64 A4.- C3.x2 ... 30 layers"], ["...: more layers", "A4"], ["30"]),
    ],
)  # fmt: skip
def test_a_legend_explains_what_occurs_and_nothing_else(names, has, lacks):
    text = explained(names)
    assert all(part in text for part in has), text
    assert not any(part in text for part in lacks), text


@pytest.mark.parametrize("space", [TinyGPT, Hybrid])
def test_every_sign_of_every_label_is_explained(space):
    for seed in range(40):
        arch = space.sample(seed)
        text = legend([Trial(arch)], {arch.id: label(arch)})
        for sign, words in (("A", ": attention with"), ("C", "convolution"), ("*", "in a row"), ("g", "g: gated"), ("m", "mixture of")):  # fmt: skip
            assert (sign in label(arch).replace("...", "")) == (words in text), (label(arch), text)


def test_labels_of_others_have_no_legend():
    arch = TinyGPT.sample(0)
    assert legend([Trial(arch)], {arch.id: "d64 A4 x2g of mine"}) == "" == legend([Trial(arch)], {})
    assert "width" not in front_text([Trial(arch, {"val_loss": 1.0}, number=0)], [LOSS], {arch.id: "mine"})


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (1.8034, 1.74, 1.866, "1.80 ±0.06"),
        (0.4412, 0.4377, 0.4447, "0.441 ±0.004"),
        (12345, 11900, 12800, "12,300 ±500"),
        (1.0, 0.89, 1.11, "1.00 ±0.11"),
        (250_123, 249_000, 251_000, "250.1k ±1.1k"),
        (5.0, 5.0, 5.0, "5"),
        (97, 12, 310, "100 ±200"),
        (2.5, float("nan"), 3.0, "2.500"),
    ],
)
def test_as_many_digits_as_the_interval_allows(value, low, high, text):
    assert measured(value, low, high) == text


def test_a_value_without_an_interval_keeps_its_digits():
    assert known(2.43, {}) == "2.430" == known(2.43, None) and known(None, {"low": 1, "high": 2}) == ""
    assert known(2.43, {"low": 2.4}) == "2.430" and known(2.43, {"low": 2.4, "high": 2.46}) == "2.43 ±0.03"


def test_what_has_a_limit_and_is_no_objective_has_a_column():
    from nas_bo import search
    from nas_bo.cli.progress import outcome
    from nas_bo.problem import Function
    from nas_bo.strategies import Random
    from tests.problems import Toy, loss

    delay = Function(lambda arch: 10.0 * arch.width, "delay_ms", "ms", cost="measured", at_most=200.0)
    result = search(Toy, [loss], limits=[delay], trials=12, retrain=0, strategy=Random(seed=0))
    best = result.best(result.columns[0].name)
    assert "delay_ms<=200" in result.table() and f"{10 * best.architecture.width}" in result.table()
    rows = result.frame()
    assert list(rows["delay_ms"]) == [10.0 * t.architecture.width for t in result.trials]
    broken = next(t for t in result.trials if not t.feasible)
    assert "delay_ms is 320" in outcome(broken)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_knee_of_a_small_front_is_marked_alike_everywhere(n):
    """Of one that one; of two, which are equally near, the best in the first objective."""
    from nas_bo.architecture import Architecture, Node
    from nas_bo.report.page import page
    from nas_bo.report.summary import Summary
    from nas_bo.report.table import table_text

    columns = [ObjectiveSpec("loss"), ObjectiveSpec("size", cost="analytic")]
    points = [(1.0, 3.0), (2.0, 1.0), (1.1, 1.2)][:n]
    trials = [
        Trial(Architecture(Node({"x": i}), {"x": i}), {"loss": a, "size": b}, number=i)
        for i, (a, b) in enumerate(points)
    ]
    made = Summary("s", columns, trials)
    knee = made.knee().number
    assert knee == (0 if n < 3 else 2) and made.kind(trials[knee]) == "knee"
    text, html = table_text(made), page(made)
    assert sum(line.lstrip().startswith(f"* {knee}") for line in text.splitlines()) == 1
    assert "* the knee" in text and "★ the knee" in html and f"★ {knee}" in html and "knee, trial" in html
