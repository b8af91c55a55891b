"""What a study or a model's folder of somebody else names: no command opens it, or trains that long, without being allowed."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from nas_bo import foreign_recipe, search, serialization
from nas_bo.cli.validation_words import _searched
from nas_bo.compress import compress
from nas_bo.errors import DataError, ExportError, NasBoError, ObjectiveError, SearchError
from nas_bo.export import folder as folders
from nas_bo.foreign_recipe import Allowed
from nas_bo.model import build
from nas_bo.objectives import Parameters, ValidationLoss
from nas_bo.optuna import studies
from nas_bo.search_spaces import TinyGPT
from nas_bo.strategies import Random
from nas_bo.workflows.export import continued, export
from nas_bo.workflows.search import load_result
from tests.command import environment
from tests.processes import python

FIELDS = [
    ("data", "/etc/passwd"), ("data", "/dev/zero"), ("data", "../corpus.txt"), ("data", "link/corpus.txt"), ("tokenizer", "~/t.json"),
    ("checkpoints", "/var/tmp/x"), ("teacher", "/models/other"), ("tokens", 1e18), ("sequence", 2**40), ("evaluation_tokens", 10**12),
]  # fmt: skip


def recipe(**fields) -> dict:
    described = serialization.describe(ValidationLoss(tokens=2_000))
    described["fields"] |= fields
    return described


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study and the folder of a model, of which tests change what they say about themselves."""
    folder = tmp_path_factory.mktemp("foreign")
    search(TinyGPT, [Parameters()], trials=3, retrain=0, storage=str(folder / "study.log"), strategy=Random())
    arch = min((TinyGPT.sample(i) for i in range(8)), key=lambda a: len(a.layers))
    folders.write(folder / "model", folders.files(build(arch, 256), arch, {"tokenizer": "bytes"}, ()))
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    """A copy, in the current folder; what this user has named before is not known."""
    work = tmp_path / "work"
    shutil.copytree(made, work)
    (work / "link").symlink_to(tmp_path)
    (tmp_path / "corpus.txt").write_text("def f(x):\n    return x\n" * 2_000)
    monkeypatch.chdir(work)
    monkeypatch.setenv("NAS_BO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(foreign_recipe, "_named", set())
    return work


def study_of(folder, **fields):
    study = studies.load(str(folder / "study.log"))
    about = studies.kept(study, "study")
    about["recipe"]["objectives"] = [recipe(**fields)]
    studies.keep(study, "study", about)
    return load_result(str(folder / "study.log"))


def model_of(folder, **fields):
    path = folder / "model" / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"objective": recipe(**fields)}))
    return path.parent


@pytest.mark.parametrize(("field", "value"), FIELDS)
def test_a_study_opens_nothing_elsewhere_and_asks_for_no_more(field, value, here):
    found = study_of(here, **{field: value})
    for do in (
        lambda: found.train("out"),
        lambda: found.register("m", track="mlflow.db"),
        lambda: found.train("o", ladder=True),
    ):
        with pytest.raises(SearchError, match=f"{field}=.*--(allow-path|budget-limit)"):
            do()
    assert sorted(path.name for path in here.iterdir()) == ["link", "model", "study.log"]


@pytest.mark.parametrize(("field", "value"), FIELDS)
def test_nor_does_the_folder_of_a_model(field, value, here):
    folder = model_of(here, **{field: value})
    with pytest.raises(SearchError, match=f"{field}=.*--(allow-path|budget-limit)"):
        compress(folder, "small", bits=8)
    with pytest.raises(ExportError, match=f"{field}=.*--text"):
        export(folder, "gguf", "gguf", type="Q8_0")
    assert continued(folder, "def ", 4)  # it opens nothing but the folder
    assert sorted(path.name for path in here.iterdir()) == ["link", "model", "study.log"]


@pytest.mark.parametrize(
    "said", [{"tokens": 1e18, "seed": 0}, {"tokens": "many", "seed": 0}, {"tokens": 2_000}, {"tokens": 2_000, "seed": 0, "growth": 5}, 5]
)  # fmt: skip
def test_validate_trains_nothing_that_only_the_study_asks_for(said, here):
    study = studies.load(str(here / "study.log"))
    studies.keep(study, "study", studies.kept(study, "study") | {"conditions": {"bits_per_byte": said}})
    with pytest.raises(ObjectiveError) as error:
        _searched(ValidationLoss(tokens=2_000), studies.load(str(here / "study.log")))
    assert "--budget" not in str(error.value)


def test_a_link_in_a_folder_is_not_copied(here):
    (here.parent / "secret").write_text("key")
    (here / "model" / folders.DRAWING).symlink_to(here.parent / "secret")
    made = export(here / "model", "copy", "folder")
    assert not (made.folder / folders.DRAWING).exists()


def test_what_is_allowed_is_opened(here):
    corpus = str(here.parent / "corpus.txt")
    found = study_of(here, data=corpus)
    with pytest.raises(SearchError, match="--allow-path"):
        found.train("out", tokens=2_048, allow=Allowed(paths=["/elsewhere"]))
    trained = found.train("out", tokens=2_048, allow=Allowed(paths=[here.parent]))
    assert trained.about["corpus"]["name"] == "corpus.txt"
    assert compress(trained.folder, "small", bits=8).steps, "it was allowed once"
    gone = study_of(here, data=str(here.parent / "gone"))
    with pytest.raises(DataError, match="gone"):
        gone.train("more", tokens=2_048, allow=Allowed(paths=[str(here.parent / "gone")]))


def test_what_this_user_has_searched_on_needs_no_option(here, monkeypatch):
    corpus = str(here.parent / "corpus.txt")
    search(
        TinyGPT, [ValidationLoss(tokens=2_000, data=corpus)], trials=1, retrain=0, storage="own.log", strategy=Random()
    )
    monkeypatch.setattr(foreign_recipe, "_named", set())  # as in another process
    foreign_recipe.check(recipe(data=corpus))
    foreign_recipe.check(recipe(data=str(here / "link" / "corpus.txt")))
    with pytest.raises(SearchError):
        foreign_recipe.check(recipe(data=f"{corpus}.gz"))
    assert os.stat(foreign_recipe._file()).st_mode & 0o077 == 0
    os.chmod(foreign_recipe._file(), 0o666)  # anybody could have written it
    with pytest.raises(SearchError, match="--allow-path"):
        foreign_recipe.check(recipe(data=corpus))


def test_a_folder_of_this_search_is_known_elsewhere_too(here, monkeypatch):
    inside = str(here / "text.txt")
    foreign_recipe.note(recipe(data=inside))
    foreign_recipe.note(recipe(tokens=5e9, data="text.txt"), inside=True)
    (here.parent / "other").mkdir()
    monkeypatch.chdir(here.parent / "other")
    foreign_recipe.check(recipe(tokens=5e9))
    with pytest.raises(SearchError):
        foreign_recipe.check(recipe(tokens=6e9))
    with pytest.raises(SearchError):
        foreign_recipe.check(recipe(data=inside))
    foreign_recipe.note(recipe(data=inside), inside=True)
    foreign_recipe.check(recipe(data=inside))


def test_hidden_files_and_all_that_a_user_has_need_to_be_allowed(here, monkeypatch):
    for place in (".ssh/id_rsa", "a/.env", ".git"):
        with pytest.raises(SearchError, match=f"hidden.*--allow-path {place}"):
            foreign_recipe.check(recipe(data=place))
        foreign_recipe.check(recipe(data=place), [place])
    monkeypatch.setenv("HOME", str(here))
    foreign_recipe.check(recipe(data="gone"))
    with pytest.raises(SearchError, match="everything of yours.*--allow-path study.log"):
        foreign_recipe.check(recipe(data="study.log"))
    monkeypatch.chdir("/")
    foreign_recipe.check(recipe())
    with pytest.raises(SearchError, match="--allow-path"):
        foreign_recipe.check(recipe(data="/etc/passwd"))


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[" * 1000, b'["path"]\n', b""])
def test_a_damaged_file_of_names_allows_nothing(content, here):
    foreign_recipe.note(recipe(data="/a"))
    foreign_recipe._named.clear()
    foreign_recipe._file().write_bytes(content)
    with pytest.raises(SearchError, match="--allow-path /a"):
        foreign_recipe.check(recipe(data="/a"))
    foreign_recipe.note(recipe(data="/a"))
    foreign_recipe.check(recipe(data="/a"))


def test_an_architecture_that_no_machine_holds_is_not_trained(here, monkeypatch):
    from nas_bo.workflows import register

    monkeypatch.setattr(register, "OF_A_PARAMETER", 2**40)
    with pytest.raises(NasBoError, match="GiB"):
        study_of(here).train("out", tokens=2_048)


def test_the_commands_have_the_options(here):
    study_of(here, data=str(here.parent / "corpus.txt"))
    for command in (["train", "study.log", "--tokens", "2048"], ["register", "study.log"]):
        said = python("-m", "nas_bo", *command, cwd=here, env=environment())
        assert said.returncode and "--allow-path" in said.stderr, said.stderr
    said = python("-m", "nas_bo", *command, "--allow-path", "..", "--budget-limit", "1000", cwd=here, env=environment())
    assert "--budget-limit 2000" in said.stderr, said.stderr
