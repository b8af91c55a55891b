"""What a terminal shows while a search runs: columns that stay, what joined the front, what has passed and what is left."""

from __future__ import annotations

import io
import re

from nas_bo.cli.progress import _Lines, _Live, clock
from nas_bo.search_spaces import TinyGPT
from nas_bo.space import Space, integer
from nas_bo.trial import State, Trial
from nas_bo.wording import counted as count
from nas_bo.workflows.search import Progress


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
    assert "0:00 elapsed, 0:10 left" in seen[1][0] and all(len(line) <= 100 for lines in seen for line in lines)


def test_words():
    assert (count(0, "trial"), count(1, "trial"), count(2, "trial")) == ("0 trials", "1 trial", "2 trials")
    assert clock(23) == "0:23" and clock(3765) == "1:02:45"
