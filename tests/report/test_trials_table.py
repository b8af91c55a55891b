"""trials.csv can be read back: what is inactive, None, text, a number, a whole number."""

import csv
import io
import json
import math

import pandas as pd
import pytest

from nas_bo import Space, choice, integer, option, real, search
from nas_bo.architecture import Architecture, Node
from nas_bo.report import frame, trials_csv
from nas_bo.strategies import Random
from nas_bo.trial import ObjectiveSpec, State, Trial

LOSS = ObjectiveSpec("loss", "", "minimize")


class Windows(Space):
    mixer = choice(
        option("attention", window=choice(None, 256, 1024), heads=choice(2, 4)), option("conv", kernel=integer(3, 7))
    )
    lr = real(0.5, 1.5)


def trial(flat, number=0, **values):
    return Trial(Architecture(Node(flat), flat), values or {"loss": 2.5}, number=number)


def loss(arch):
    return 1.0


def test_inactive_is_empty_none_is_a_word_and_whole_numbers_are_whole(tmp_path):
    result = search(Windows, [loss], trials=30, strategy=Random(seed=0), retrain=0)
    result.save(tmp_path)
    with (tmp_path / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    table = pd.read_csv(tmp_path / "trials.csv", dtype=object)
    for t, row, i in zip(result.trials, rows, range(len(rows)), strict=True):
        for name in Windows.domains():
            wanted = (
                {None: "none"}.get(t.architecture.flat[name], t.architecture.flat[name])
                if name in t.architecture.flat
                else ""
            )
            assert row[name] == str(wanted)
            assert pd.isna(table[name][i]) == (name not in t.architecture.flat)
    found = result.frame()
    name = next(n for n in found if n.endswith("heads"))
    assert str(found[name].dtype) == "Int64"
    window = next(n for n in found if n.endswith("window"))
    there = [v is None for v, t in zip(found[window], result.trials, strict=True) if window in t.architecture.flat]
    assert any(there) and there == [
        t.architecture.flat[window] is None for t in result.trials if window in t.architecture.flat
    ]
    assert all(
        pd.isna(v) for v, t in zip(found[window], result.trials, strict=True) if window not in t.architecture.flat
    )


TEXTS = [
    "", " a", "none", "None", "NA", "nan", "N/A", "null", "<NA>", "true", "False", "1", "1e5", "-2.5", "inf", '"a"',
    "a,b", "a\nb", "gelu",
]  # fmt: skip


@pytest.mark.parametrize("value", [None, True, False, 0, 8, 2**60 + 1, 2.0, 1e-7, *TEXTS])
def test_every_value_of_a_choice_reads_back(value):
    text = trials_csv([trial({"x": value, "y": 1}, 0), trial({"y": 2}, 1)], [LOSS])
    first, second = csv.DictReader(io.StringIO(text))
    assert second["x"] == "" and first["x"] != "" and (first["y"], second["y"]) == ("1", "2")
    cell = first["x"]
    read = {"none": None, "True": True, "False": False}[cell] if cell in ("none", "True", "False") else cell
    if isinstance(value, str):
        read = json.loads(cell) if cell.startswith('"') else cell
    elif isinstance(read, str):
        read = json.loads(cell)
    assert read == value and type(read) is type(value)
    assert not pd.isna(pd.read_csv(io.StringIO(text))["x"][0])


def test_counts_are_whole_numbers_and_missing_ones_are_empty():
    size, speed = ObjectiveSpec("parameters", "", "minimize", "analytic"), ObjectiveSpec("speed")
    trials = [trial({"y": 1}, 0, parameters=123456.0, speed=2.5), trial({"y": 1}, None, parameters=7.0, speed=math.inf)]
    text = trials_csv([*trials, trial({"y": 1}, 2, parameters=8.0)], [size, speed])
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [r["parameters"] for r in rows] == ["123456", "7", "8"] and [r["speed"] for r in rows] == ["2.5", "inf", ""]
    assert [r["number"] for r in rows] == ["0", "", "2"]
    assert list(frame(trials, [size])["parameters"]) == [123456.0, 7.0]


@pytest.mark.parametrize(
    "evil", ["=1+1", "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "\r=1", '=HYPERLINK("http://x")']
)
def test_no_cell_is_a_formula(evil):
    """A choice, a label, a reason and the name of a parameter, all by somebody else; the choice reads back."""
    arch = Architecture(Node({"a": evil, evil: 1}), {"a": evil, evil: 1})
    trial = Trial(arch, state=State.FAILED, reason=evil)
    rows = list(csv.reader(io.StringIO(trials_csv([trial], [], {arch.id: evil}))))
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    found = dict(zip(*rows, strict=True))
    said = f"'{evil}".replace("\r", "\n")
    assert json.loads(found["a"]) == evil and found["reason"] == found["label"] == said and found[said] == "1"
