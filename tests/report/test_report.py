"""Tables, pictures and the page, on trials made by hand."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import struct
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from nas_bo.architecture import Architecture, Node
from nas_bo.errors import SearchError
from nas_bo.report import Summary, all_drawn, figure, frame, front_markdown, front_text, page, picture
from nas_bo.report.picture import logarithmic
from nas_bo.trial import ObjectiveSpec, State, Trial, front, knee

LOSS = ObjectiveSpec("val_loss", "nats")
LATENCY = ObjectiveSpec("latency_ms", "ms", cost="measured", at_most=25)
SIZE = ObjectiveSpec("parameters", cost="analytic")
SPEED = ObjectiveSpec("speed", "tok/s", "maximize", "measured")
EVIL = "</script><img src=x onerror=alert(1)>"


def trial(number: int, values: dict[str, float], **more) -> Trial:
    flat = {"depth": number, "width": 64}
    return Trial(Architecture(Node(flat), flat), values, number=number, seconds=1.5, **more)


def summary(columns=(LOSS, LATENCY), n: int = 20, **more) -> Summary:
    trials = []
    for i in range(n):
        cost = 1.0 + 40 * i / n
        values = {
            "val_loss": 4 - 0.05 * cost + 0.1 * (i % 3),
            "latency_ms": cost,
            "parameters": 1e5 * (i + 1),
            "speed": 1e4 / cost,
        }
        info = {"latency_ms": {"how": "measured", "device": "cpu", "repeats": 9, "spread": 0.03, "seconds": 0.5}}
        violations = {"latency_ms<=25": max(0.0, cost - 25)}
        trials.append(trial(i, {c.name: values[c.name] for c in columns}, violations=violations, info=info))
    trials.append(trial(n, {}, state=State.FAILED, reason=f"val_loss: diverged {EVIL}"))
    trials.append(trial(n + 1, {"latency_ms": 99.0}, state=State.INFEASIBLE, violations={"latency_ms<=25": 74.0}))
    labels = {t.architecture.id: f"d64 L{t.number}" for t in trials[:-2]} | {trials[-2].architecture.id: EVIL}
    return Summary("A search", list(columns), trials, labels, **more)


FIGURES = [
    (2.43, "2.430"), (0, "0"), (64.0, "64"), (14.3, "14.30"), (1250.4, "1,250"), (99_990, "99,990"),
    (250_000, "250.0k"), (999_999, "1.000M"), (1_234_567, "1.235M"), (3.2e9, "3.200G"), (-1_500_000, "-1.500M"),
    (0.000123, "0.0001230"), (None, ""), (math.nan, "nan"), (math.inf, "inf"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "text"), FIGURES)
def test_figures_are_short_and_of_one_kind(value, text):
    assert figure(value) == text


def test_text_table_is_aligned_and_has_units_limits_and_the_knee():
    s = summary()
    lines = front_text(s.trials, s.columns, s.labels).splitlines()
    assert "val_loss [nats]" in lines[0] and "latency_ms [ms] <= 25" in lines[0]
    assert len(lines) == 2 + len(s.front())
    ends = [m.end() for m in re.finditer(r"-+", lines[1])]
    for line in lines[2:]:  # numbers are flushed right: every one ends where its rule ends
        assert all(len(line) == end or line[end : end + 1] in ("", " ") for end in (ends[0], ends[2], ends[3]))
        assert line[ends[2] - 1].isdigit() and line[ends[3] - 1].isdigit()
    middle = knee(s.trials, s.columns)
    assert [line.split()[1] for line in lines if line.lstrip().startswith("*")] == [str(middle.number)]


def test_a_front_of_nothing_says_so():
    assert "no feasible trial" in front_text([], [LOSS]) and "No feasible" in front_markdown([], [LOSS])
    nothing = Summary("Nothing", [LOSS, LATENCY], [trial(0, {}, state=State.FAILED, reason="broke")])
    assert picture(nothing).startswith(b"\x89PNG") and "No trial is feasible" in page(nothing)


def test_markdown_escapes_links_and_says_what_it_left_out():
    s = summary()
    best = s.front()
    text = front_markdown(
        s.trials, s.columns, {best[0].architecture.id: "a|b <i>"}, links={best[0].number: "#/runs/1"}, at_most=2
    )
    assert r"a\|b &lt;i&gt;" in text and "(#/runs/1)" in text and f"{len(best) - 2} more on the front" in text
    assert {line.replace(r"\|", "").count("|") for line in text.splitlines() if line.startswith("|")} == {5}


def test_the_frame_has_every_trial_choice_and_reason():
    s = summary()
    table = frame(s.trials, s.columns, s.labels)
    assert len(table) == len(s.trials)
    assert list(table.columns[:7]) == ["number", "state", "feasible", "id", "label", "depth", "width"]
    assert table["reason"].iloc[-2].startswith("val_loss: diverged")
    assert table["state"].iloc[-1] == "infeasible" and table["violation:latency_ms<=25"].iloc[-1] == 74
    assert frame([], s.columns).empty


def test_a_choice_named_like_an_objective_keeps_both():
    flat = {"val_loss": 3, "state": "x"}
    row = frame([Trial(Architecture(Node(flat), flat), {"val_loss": 2.5})], [LOSS]).iloc[0]
    assert (row["val_loss"], row["arch:val_loss"], row["arch:state"], row["state"]) == (2.5, 3, "x", "complete")


def size(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n")
    return struct.unpack(">II", png[16:24])


@pytest.mark.parametrize(
    ("columns", "wide"),
    [
        ([LOSS], False),
        ([LOSS, LATENCY], False),
        ([LOSS, SPEED], False),
        ([LOSS, LATENCY, SIZE], True),
        ([LOSS, LATENCY, SIZE, SPEED], True),
    ],
)
def test_pictures_for_any_number_of_objectives(columns, wide):
    s = summary(columns)
    again = [{"id": s.front()[0].architecture.id, "values": {"val_loss": 1.0}}]
    more = Summary(
        s.title,
        columns,
        s.trials,
        s.labels,
        again,
        baselines=[{"label": "a $b$ model", "values": {c.name: 2.0 for c in columns}}],
    )
    width, height = size(picture(more))
    assert (width > 1500) == wide and height > 500
    assert size(picture(more, width=4, height=3, dpi=100))[1] == 300


def test_drawing_leaves_matplotlib_as_it_was():
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    picture(summary())
    assert plt.get_fignums() == before


def test_log_axes_are_for_positive_costs_that_span_much():
    assert logarithmic([1.0, 6.0], LATENCY) and not logarithmic([1.0, 4.0], LATENCY)
    assert (
        not logarithmic([0.0, 60.0], LATENCY) and not logarithmic([1.0, 60.0], SPEED) and not logarithmic([], LATENCY)
    )


def test_no_objective_is_refused_with_a_remedy():
    with pytest.raises(SearchError, match="give Summary its columns"):
        picture(Summary("x", [], []))


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] == "script":
            self.raw.setdefault(self.tags[-1][1].get("id") or "code", data)


def test_the_page_stands_alone_and_escapes_everything():
    s = summary(notes=[EVIL], facts={"device": EVIL, "versions": {"torch": "2"}})
    text = page(s)
    parsed = Page(text)
    assert not [a for _, attrs in parsed.tags for a in attrs if a in ("src", "href", "onerror")]
    assert not re.search(r"url\(|@import|(src|href)\s*=", text.split("<script>")[0].replace("src=x", ""))
    assert EVIL not in text and "img" not in {tag for tag, _ in parsed.tags}
    assert len(text) < 60_000
    data = json.loads(parsed.raw["data"])
    assert len(data["trials"]) == len(s.trials) and data["trials"][-2]["label"] == EVIL
    assert [t["kind"] for t in data["trials"]].count("knee") == 1
    front_rows = sum(t["kind"] in ("front", "knee") for t in data["trials"])
    assert front_rows == len(front(s.trials, s.columns))


def test_the_page_begins_with_the_front_and_is_honest_about_trust():
    text = page(summary())
    order = [
        text.index(h)
        for h in ("The front<", "How far to trust", "How the numbers", "All trials<", "Failed and infeasible")
    ]
    assert order == sorted(order)
    assert "was not re-evaluated" in text and "measured; device cpu; repeats 9" in text and "median 3.0%" in text
    assert "violates latency_ms&lt;=25 by 74" in text


def test_a_long_history_is_cut_and_says_so(monkeypatch):
    monkeypatch.setattr(sys.modules[page.__module__], "MOST_ROWS", 400)  # of 2,000
    s = summary(n=420)
    text = page(s)
    assert "earlier trials off the front are not listed" in text and len(text) < 300_000
    assert all(f"data-v={t.number}>" in text for t in s.front())


def again(s: Summary) -> Summary:
    best = s.front()
    records = [
        {
            "id": t.architecture.id,
            "values": {"val_loss": t.values["val_loss"] - 0.3, "latency_ms": t.values["latency_ms"] * 1.02},
            "info": {
                "latency_ms": {"low": t.values["latency_ms"], "high": t.values["latency_ms"] * 1.05, "level": 0.9}
            },
            "factor": 2.0,
        }
        for t in best[1:]
    ]
    return Summary(s.title, s.columns, s.trials, s.labels, records)


def test_the_page_and_the_picture_tell_the_final_front_from_that_of_the_search():
    s = again(summary())
    text = page(s)
    data = json.loads(Page(text).raw["data"])
    kinds = [t["kind"] for t in data["trials"]]
    assert kinds.count("knee") == 1 and kinds.count("final") == len(s.final.members) - 1
    assert kinds.count("front") == len(s.front()) - len(s.final.members) > 0
    assert sum(r["final"] for r in data["retrained"]) == len(s.final.members)
    assert all(r["ends"][0] is None and len(r["ends"][1]) == 2 for r in data["retrained"])
    assert "are the final front" in text and "re-trained x2" in text and "±" in text
    assert "was not re-evaluated" not in text and "not evaluated again" in text
    assert f"The knee is <b>{s.label(s.knee())}</b>" in text and figure(s.knee().values["val_loss"]) in text
    assert size(picture(s))[1] > 500
    for t in data["trials"]:
        assert "ends" not in t  # what was measured without an interval has no bar


def test_what_was_only_timed_again_is_not_drawn_as_evaluated_again():
    s = again(summary())
    whole = json.loads(Page(page(s)).raw["data"])["retrained"]
    waits = next(t for t in s.final.searched if t.architecture.id not in s.final.known)
    timed = {"id": waits.architecture.id, "values": {"latency_ms": 1.0}, "info": {}, "factor": 2.0}
    one = dataclasses.replace(s, retrained=[*s.retrained, timed])
    assert json.loads(Page(page(one)).raw["data"])["retrained"] == whole


def test_on_a_narrow_screen_every_value_has_the_head_of_its_column_and_no_head_can_end_the_style():
    evil = ObjectiveSpec('x"}</style><script>', "ms")
    s = Summary("x", [evil], [trial(0, {evil.name: 1.0})])
    text = page(s)
    assert text.count("<style>@media(max-width:640px)") >= 2 and "</style><script>" not in text.replace("</style></head>", "")  # fmt: skip
    assert 'content:"trial"' in text and "max-height:460px" not in text


def test_one_trial_is_not_one_trials():
    s = Summary("x", [LOSS, LATENCY], [trial(0, {"val_loss": 1.0, "latency_ms": 1.0})])
    assert "1 trial, 1 feasible" in page(s) and "1 trials" not in page(s)


def test_the_picture_of_one_objective_has_its_star_at_the_final_value(monkeypatch):
    from matplotlib.axes import Axes

    from nas_bo import search
    from nas_bo.report import picture
    from nas_bo.strategies import Random
    from nas_bo.workflows.result import Retrained
    from tests.problems import Toy, loss

    result = search(Toy, [loss], trials=6, retrain=0, strategy=Random(seed=0))
    best = result.best(result.columns[0].name)
    value = best.values[result.columns[0].name] - 0.5
    again = Retrained(best.architecture.id, {result.columns[0].name: value}, factor=2.0)
    stars = []
    scatter = Axes.scatter

    def seen(self, x, y, *args, **style):
        stars.extend([(x[0], y[0])] * (style.get("marker") == "*"))
        return scatter(self, x, y, *args, **style)

    monkeypatch.setattr(Axes, "scatter", seen)
    picture(replace(result, retrained=[again]).summary())
    assert stars == [(best.number, value)]


def test_everything_is_drawn_once_and_its_old_name_says_the_new_one():
    s = summary()
    assert all_drawn(s) is all_drawn(s) and {"front.png", "front.html"} <= set(all_drawn(s))
    with pytest.warns(DeprecationWarning, match=r"nas_bo\.report\.all_drawn\(summary\)"):
        assert s.drawn is all_drawn(s)
