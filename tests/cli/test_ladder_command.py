"""`nas-bo ladder` as a user runs it: a dry run, the report, a second run, and words that mean nothing."""

from __future__ import annotations

import json

import pytest

from nas_bo import search
from nas_bo.cli.ladder import _baseline, _rungs
from nas_bo.errors import SearchError
from nas_bo.objectives import Parameters, ValidationLoss
from nas_bo.search_spaces import TinyGPT
from nas_bo.strategies import Random
from tests.command import nas_bo

ASKED = (
    "--rungs",
    "1,1.6,2.6",
    "--tokens-per-parameter",
    "0.06",
    "--architectures",
    "4",
    "--seeds",
    "1",
    "--workers",
    "1",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ladder")
    text = folder / "text.txt"
    text.write_text("".join(f"def f{i}(x):\n    return x + {i * 7919 % 1000}\n" for i in range(1500)))
    objectives = [ValidationLoss(tokens=1100, data=str(text), batch_size=8, sequence=32), Parameters(at_most=40_000)]
    search(
        TinyGPT, objectives, trials=8, strategy=Random(seed=3), retrain=0, storage=str(folder / "study.db"), workers=1
    )
    return folder


def test_it_says_what_it_takes_then_what_came_of_it_and_continues(folder):
    dry = nas_bo("ladder", "study.db", *ASKED, "--dry-run", cwd=folder)
    assert dry.returncode == 0, dry.stderr
    assert (
        "on 3 rungs, 1 seed: " in dry.stdout and "reads the text" in dry.stdout and not (folder / "nas-bo-out").exists()
    )
    done = nas_bo("ladder", "study.db", *ASKED, "--mlflow", "none", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.lstrip().startswith("The order at ") and "promoted" in done.stdout and "ladder.png" in done.stdout
    )
    assert "ladder 12/12" in done.stderr
    again = nas_bo("ladder", "study.db", *ASKED, "--mlflow", "none", "--json", cwd=folder)
    told = json.loads(again.stdout)
    assert told["first_line"] in done.stdout and len(told["promoted"]) >= 3 and told["warnings"] == []
    assert {path.name for path in (folder / "nas-bo-out").iterdir()} == {"ladder.png", "ladder.json", "ladder.txt"}


def test_what_is_wrong_is_one_line_and_names_the_option(folder):
    for words, says in (
        (("--rungs", "two"), "--rungs two: write how many rungs, such as 3"),
        (("--rungs", "1"), "a number of rungs from 3 to 12"),
        (("--factor", "0.5"), "--factor 0.5: it must be a number of at least 1.2"),
        (("--baseline", "nowhere.json"), "--baseline nowhere.json: it is standard, none, or a JSON file"),
        (("--parametrization", "mup"), "there is no parametrization of that name"),
        (("--tokens-per-parameter", "1e6"), "each would be read"),
    ):
        done = nas_bo("ladder", "study.db", *words, "--dry-run", cwd=folder)
        assert done.returncode in (1, 2) and says in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def test_words_of_its_options(tmp_path):
    assert _rungs("4") == 4 and _rungs("1,4,16.5") == [1, 4, 16.5]
    arch = TinyGPT.sample(0)
    (tmp_path / "a.json").write_text(arch.to_json())
    assert TinyGPT.architecture(_baseline(str(tmp_path / "a.json"))).id == arch.id and _baseline("none") is None
    (tmp_path / "b.json").write_text("[1]")
    with pytest.raises(SearchError, match="the file holds no architecture"):
        _baseline(str(tmp_path / "b.json"))
