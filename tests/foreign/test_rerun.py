"""A run that somebody else has logged, evaluated again: what it may open, and how much it may ask for."""

from __future__ import annotations

import json
import os
from copy import deepcopy

import pytest

from nas_bo import foreign_recipe, serialization
from nas_bo.architecture import Architecture, Node
from nas_bo.errors import SearchError
from nas_bo.objectives import Parameters, ValidationLoss
from nas_bo.search_spaces import TinyGPT
from nas_bo.workflows.register import check_size
from nas_bo.workflows.rerun import _about, _changed


def described(**fields) -> dict:
    recipe = serialization.describe(ValidationLoss(tokens=2_000))
    recipe["fields"] |= fields
    return {"objectives": [recipe]}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.mark.parametrize("field", ["data", "tokenizer", "checkpoints", "checkpoint", "device", "anything"])
@pytest.mark.parametrize(
    "place", ["/dev/zero", "../x", "/etc/passwd", "~/.ssh/id_rsa", "a/../../x", "link/x", "a\0b", "/"]
)
def test_no_path_outside_of_the_folder_is_opened(field, place, folder):
    (folder / "link").symlink_to(folder.parent)
    with pytest.raises(SearchError, match="--allow-path") as said:
        foreign_recipe.check(described(**{field: place}))
    assert "\0" not in str(said.value) and field in str(said.value)


def test_paths_in_the_folder_and_allowed_ones_are_taken(folder):
    (folder.parent / "data").mkdir()
    for place in ("corpus.txt", "a/b", ".", str(folder / "x"), "bits/byte"):
        foreign_recipe.check(described(data=place))
    for allowed in ([folder.parent], [folder.parent / "data"], ["../data"], [folder.parent / "data" / "x.txt"]):
        foreign_recipe.check(described(data=str(folder.parent / "data" / "x.txt")), allowed)
    with pytest.raises(SearchError):
        foreign_recipe.check(described(data=str(folder.parent / "database")), [folder.parent / "data"])


def test_a_path_deep_inside_is_seen():
    deep = {"tuple": [{"dict": [["k", {"type": "nas_bo.x:Y", "fields": {"file": ["ok", "/dev/zero"]}}]]}]}
    with pytest.raises(SearchError, match="file='/dev/zero'"):
        foreign_recipe.check(described(build=deep))


@pytest.mark.parametrize(
    ("field", "value"),
    [("tokens", 1e18), ("evaluation_tokens", 10**10), ("sequence", -(10**12)), ("batch_size", 2**70)],
)
def test_budgets_have_bounds(field, value):
    with pytest.raises(SearchError, match=f"{field}=.*--budget-limit"):
        foreign_recipe.check(described(**{field: value}))
    foreign_recipe.check(described(**{field: value}), (), 1e30)
    foreign_recipe.check(described(at_most=1e15, seed=2**40))


def test_an_architecture_that_fills_the_memory_is_refused_before_it_is_built():
    flat = TinyGPT.sample(0).flat
    big = Architecture.from_dict({**TinyGPT.sample(0).to_dict()})
    check_size(big, 256)
    with pytest.raises(SearchError, match="GiB"):
        check_size(big, 2**40)
    check_size(Architecture(Node({"x": 1}), {"x": 1}), 256)  # of a model of one's own: not known
    assert flat


ABOUT = {"columns": [{"name": "bits_per_byte"}], "recipe": described(), "versions": {}, "conditions": {}, "space": {}}


@pytest.mark.parametrize(
    "change",
    [
        {"columns": 7},
        {"columns": [{"name": 3}]},
        {"columns": []},
        {"recipe": 5},
        {"recipe": {"objectives": 5}},
        {"recipe": [1]},
        {"conditions": {"bits_per_byte": 5}},
        {"conditions": 5},
        {"versions": 5},
        {"chance": 3},
    ],
)
def test_what_a_study_says_of_itself_has_its_form(change):
    text = json.dumps({**ABOUT, **change})
    with pytest.raises(SearchError) as said:
        _about(text)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("text", ["[]", "3", "null", "{", "[" * 100_000, '"x"'])
def test_what_is_no_study_is_one_line(text):
    with pytest.raises(SearchError):
        _about(text)


@pytest.mark.parametrize(
    "data",
    [
        {"type": "nas_bo.objectives:ValidationLoss", "fields": {"tokens": "many"}},
        {"type": "nas_bo.objectives:ValidationLoss", "fields": {"rungs": 5}},
        {"type": "nas_bo.objectives:ValidationLoss", "fields": [1]},
        {"type": "nas_bo.objectives:ValidationLoss"},
        {"type": 5, "fields": {}},
        {"name": 5},
        {"name": "nas_bo.__main__"},
        {"name": "nas_bo..x:y"},
        {"float": "many"},
        {"float": []},
        {"type": "nas_bo.mlflow.spool:Target", "fields": {}},
    ],
)
def test_odd_descriptions_are_one_error(data):
    with pytest.raises(Exception) as said:
        serialization.rebuild(data)
    assert type(said.value).__module__ == "nas_bo.errors", repr(said.value)


def test_no_digest_of_what_was_read_here_is_said(folder):
    (folder / "secret.txt").write_text("my own text, " * 2_000)
    about = deepcopy(ABOUT) | {
        "recipe": {"objectives": [serialization.describe(ValidationLoss(tokens=2_000, data="secret.txt"))]},
        "conditions": {"bits_per_byte": {"sha256": "0" * 64}},
    }
    changed = _changed(about)
    own = ValidationLoss(tokens=2_000, data="secret.txt").corpus().fingerprint
    assert changed["corpus"] == ("0" * 40, "another text") and own[:8] not in str(changed)


@pytest.mark.skipif(os.name != "posix", reason="pipes")
def test_a_pipe_as_data_is_refused_and_not_waited_for(folder):
    os.mkfifo(folder / "pipe.txt")
    with pytest.raises(Exception, match="pipe") as said:
        ValidationLoss(tokens=2_000, data="pipe.txt").corpus()
    assert type(said.value).__module__ == "nas_bo.errors"


def test_a_recipe_of_ours_passes():
    foreign_recipe.check({"objectives": [serialization.describe(o) for o in (ValidationLoss(), Parameters())]})
