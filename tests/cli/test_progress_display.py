"""What a terminal shows while a search runs: columns that stay, what joined the front, what has passed and what is left."""

from __future__ import annotations

import io
import math
import re
import threading
from pathlib import Path

import pytest

from nas_bo.cli import progress as display
from nas_bo.cli.folding import folded
from nas_bo.cli.progress import _Lines, _Live, clock, fitting
from nas_bo.cli.train import _Said
from nas_bo.search_spaces import TinyGPT
from nas_bo.space import Space, integer
from nas_bo.trial import State, Trial
from nas_bo.wording import counted as count
from nas_bo.workflows.search import Progress
from nas_bo.workflows.train import Watching


class Numbers(Space):
    n = integer(0, 10_000)


def trial(n: int, loss: float, time: float, **more) -> Trial:
    return Trial(Numbers.architecture({"n": n}), {"val_loss": loss, "latency_ms": time}, number=n, **more)


FIRST, SECOND = trial(0, 2.0, 1.0), trial(1, 3.0, 2.0)
FAILED = Trial(Numbers.architecture({"n": 7}), {}, state=State.FAILED, reason="diverged")
STEPS = [
    Progress("search", 0, 40, None),
    Progress("search", 1, 40, 90.0, FIRST, "d96 C4 -", [FIRST]),
    Progress("search", 2, 40, 3700.0, SECOND, "d64 A4/2.x1g C4.x3g A4/2.x1g C4.x3g", [FIRST]),
    Progress("search", 10, 40, 5.0, FAILED, "d32 -", [FIRST]),
    Progress("search", 11, 40, 5.0, FIRST, "d96 C4 -", [FIRST]),
    Progress("retrain", 0, 1, None),
    Progress("retrain", 1, 1, None, FIRST, "d96 C4 -", [FIRST]),
]


def test_lines_say_what_joined_the_front_and_keep_their_columns(capsys):
    shown = _Lines(False)
    shown.starting(TinyGPT, 1, 1)
    for step in STEPS:
        shown.update(step)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "searching TinyGPT with 1 worker, 1 trial"
    trials = [line for line in lines if re.match(r"(search|retrain) \d+/", line)]
    assert ["  + " in line and line.endswith("joined the front") for line in trials] == [
        True,
        False,
        False,
        True,
        False,
    ]
    assert re.search(r"^search 1/40 +0:00 elapsed, 1:30 left +\+ d96 C4 - +val_loss +2 +latency_ms +1 ", trials[0])
    assert "re-training the front and a few others: 1 architecture" in lines
    wide = max(line.index("val_loss") for line in trials if "val_loss" in line)
    assert [line.index("val_loss") for line in trials[1:] if "val_loss" in line] == [wide] * 3
    assert trials[2].index("failed: diverged") == wide


def test_lines_say_every_half_minute_how_far_a_phase_without_trials_is(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    shown = _Lines(False)
    shown.starting(TinyGPT, 1, 1)
    for seconds, done in ((0.0, 0), (10.0, 5), (31.0, 20), (50.0, 40), (62.0, 58), (63.0, 60)):
        now[0] = seconds
        shown.update(Progress("block scores", done, 60, None))
    lines = capsys.readouterr().err.splitlines()
    assert lines[1].startswith("scoring the blocks of the trained model")
    assert lines[2:] == ["block scores 20/60  0:31 elapsed", "block scores 58/60  1:02 elapsed"]


def test_the_live_display_never_shrinks_and_never_wraps():
    from rich.console import Console

    seen = []

    class Live:
        def update(self, what):
            console = Console(file=io.StringIO(), width=100)
            console.print(what)
            seen.append(console.file.getvalue().splitlines())

    shown = _Live(Live())
    shown.starting(TinyGPT, 2, 40)
    front = [trial(i, 2.0 + i, 9.0 - i) for i in range(20)]
    for n in (1, 5, 20, 3, 1):
        shown.update(Progress("search", n, 40, 10.0, front[n - 1], "d96 C4 -" * 20, front[:n]))
    heights = [len(lines) for lines in seen[1:]]
    assert heights == sorted(heights) and "and 8 more" in "\n".join(seen[3])
    heads = [next(line for line in lines if "architecture" in line) for lines in seen[1:]]
    assert heads[2] == heads[3] == heads[4]
    assert "front so far: 1 trial" in "\n".join(seen[-1]) and "1 trials" not in "\n".join(seen[-1])
    shown.update(
        Progress(
            "search",
            2,
            40,
            10.0,
            front[0],
            "a",
            front[:1],
            {"ended": 2, "running": 4, "queued": 3, "failed": 1, "lost": 0},
        )
    )
    assert seen[-1][0] == "search 2/40, 4 running, 3 queued, 1 failed, 0:00 elapsed, 0:10 left"
    shown.update(Progress("search", 3, 40, 10.0, front[0], "a", front[:1], {"ended": 3, "running": 1, "failed": 0}))
    assert seen[-1][0] == "search 3/40, 0:00 elapsed, 0:10 left"
    assert "0:00 elapsed, 0:10 left" in seen[1][0] and all(len(line) <= 100 for lines in seen for line in lines)


def test_words():
    assert (count(0, "trial"), count(1, "trial"), count(2, "trial")) == ("0 trials", "1 trial", "2 trials")
    assert clock(23) == "0:23" and clock(3765) == "1:02:45"


@pytest.mark.parametrize("wide", [80, 100, 120])
def test_a_terminal_of_any_width_shows_whole_lines_and_all_values(wide, monkeypatch):
    from rich.console import Console

    seen, now = [], [0.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])

    class Live:
        def update(self, what):
            for second in (0.0, 2.0):  # drawn again, without news
                now[0] += second
                console = Console(file=io.StringIO(), width=wide)
                console.print(what)
                seen.append(console.file.getvalue().splitlines())

    shown = _Live(Live())
    shown.starting(TinyGPT, 2, 40)
    assert [len(lines) for lines in seen] == [1, 1] and seen[1] == [
        "starting 2 workers to search TinyGPT, 40 trials, 0:02 elapsed"
    ]
    label = "d96 2*A4/2.x2g C8.- A4/2.x3g " * 4
    for n in (0, 1, 2):
        front = [trial(i, 2.0 + i, 9.0 - i) for i in range(n)]
        shown.update(Progress("search", n, 40, 10.0 * n or None, front[-1] if front else None, label, front))
    assert all(len(line) <= wide for lines in seen for line in lines)
    assert seen[2][2:5] == ["", "", "front so far: 0 trials"]
    first, later = seen[-2:]
    assert first[0] == "search 2/40, 0:06 elapsed, 0:20 left" and later[0] == "search 2/40, 0:08 elapsed, 0:18 left"
    last, head, row = (next(line for line in later if word in line) for word in ("joined", "architecture", "+ 1"))
    assert "…" in last and last.endswith("latency_ms      8  joined the front") and "val_loss" in last
    assert head.index("val_loss") + len("val_loss") == row.rindex("3") + 1 and row.endswith("8") and "…" in row


def test_what_does_not_fit_gives_way_in_the_middle_and_sentences_are_folded_between_words():
    assert fitting(("+ ", "abcdefghijklmnop", "  1.0"), 40) == "+ abcdefghijklmnop  1.0"
    assert fitting(("+ ", "abcdefghijklmnop", "  1.0"), 20) == "+ abcdefghijkl…  1.0"[:20]
    assert fitting(("+ ", "abcdefghijklmnop", "  1.0"), 10) == "+ abcdefg…"
    assert folded("one two three four five\n\n six", 20) == "one two three four\nfive\n\n six"
    assert folded("http://127.0.0.1:5000/a-long-address", 20) == "http://127.0.0.1:5000/a-long-address"


@pytest.mark.parametrize(
    ("unit", "shown"), [("bits/byte", "1.000 bits per byte"), ("bits/token", "4.000 bits per token")]
)
def test_a_training_is_reported_in_the_unit_of_its_values(unit, shown, capsys):
    heard = []

    class Tracking:
        began = ended = failed = __call__ = lambda self, *told: heard.append(told)

    said = _Said(Tracking())
    assert isinstance(said, Watching)
    about = {"units": {"val_loss": unit}, "bytes_per_token": 4.0}
    said.began(about)
    said(10, 10, 4 * math.log(2))
    assert capsys.readouterr().err.startswith(f"step 10 of 10  {shown} in training")
    said.ended(Path(), about)
    assert heard == [(about,), (10, 10, 4 * math.log(2)), (Path(), about)]


TABLE = """
trial  architecture                 bits_per_byte [bits/byte]  latency_ms [ms]
-----  ---------------------------  -------------------------  ---------------
   38  d96 C4.x3g 2*C4.- A4.- C8.-                      2.248       1.51 ±0.06
    *  d96 C4 -                                         2.665       0.28 ±0.01

study    nas-bo.db   (nas-bo report /a/very/long/path/to/nas-bo.db)
tiny   3e+07 architectures   One to five layers, each of attention or convolution
{"schema": 1, "id": "54a5e5f576141d6f", "tree": {"depth": 2, "width": 96}}
next     nas-bo train nas-bo.db --pick knee --to a/folder/of/mine
"""


def test_tables_and_columns_are_folded_and_commands_and_json_stay_whole():
    lines = folded(TABLE, 58).split("\n")
    assert lines[1:8] == [
        "                                 bits_per_byte  latency_ms",
        "trial  architecture                [bits/byte]        [ms]",
        "-----  ------------------------  -------------  ----------",
        "   38  d96 C4.x3g 2*C4.- A4.-            2.248  1.51 ±0.06",
        "       C8.-",
        "    *  d96 C4 -                          2.665  0.28 ±0.01",
        "",
    ]
    assert lines[8:10] == ["study    nas-bo.db", "         (nas-bo report /a/very/long/path/to/nas-bo.db)"]
    assert lines[10:12] == [
        "tiny   3e+07 architectures   One to five layers, each of",
        " " * 29 + "attention or convolution",
    ]
    assert lines[12:] == TABLE.split("\n")[-3:] and folded(TABLE, 200) == TABLE


def test_a_terminal_hears_of_a_command_that_says_nothing_for_seconds(monkeypatch, capsys):
    from nas_bo.cli import output

    for terminal, says in ((True, False), (True, True), (False, False)):
        monkeypatch.setattr(output, "SILENT_S", 600.0 if says else 0.0)
        monkeypatch.setattr(output.sys.stderr, "isatty", lambda terminal=terminal: terminal, raising=False)
        with output.patient("working"):
            if says:
                output.spoken()
            for timer in threading.enumerate():
                if isinstance(timer, threading.Timer) and not says:
                    timer.join()
        assert capsys.readouterr().err == ("working\n" if terminal and not says else "")
