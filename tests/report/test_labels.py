"""What architectures are called: by their space, by our decoder, or by the fields that differ."""

import logging

import pytest

from nas_bo import AskTell, Space, choice, integer, option, repeat, search
from nas_bo.errors import SpaceError
from nas_bo.model import label
from nas_bo.report.labels import check_label, label_of, labels_of
from nas_bo.search_spaces import TinyGPT
from nas_bo.strategies import Random
from nas_bo.workflows.search import short_name
from tests.own_models import Stacks


class Named(Space):
    width = choice(16, 32, 64)
    depth = integer(1, 9)

    def label(arch):
        return f"w{arch.width}/d{arch.depth}"


class Grid(Space):
    width = choice(16, 32, 64)
    rate = choice(0.1, 0.25)
    form = choice("a", "b")


class Labelled(Space):
    label = choice("good", "bad")
    width = choice(16, 32)


def value(arch) -> float:
    return float(arch.width)


def grid(**values) -> object:
    return Grid.architecture({"width": 16, "rate": 0.1, "form": "a", **values})


def test_a_space_says_how_its_architectures_are_called_everywhere(tmp_path) -> None:
    told = []
    track = f"sqlite:///{tmp_path}/mlflow.db"
    found = search(Named, [value], strategy=Random(), trials=3, track=track, on_progress=told.append)
    names = {f"w{t.architecture.width}/d{t.architecture.depth}" for t in found.trials}
    assert set(found.labels.values()) == names
    assert {p.label for p in told if p.trial} == names
    import mlflow

    client = mlflow.MlflowClient(track)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert names <= {run.data.tags.get("nas.label") for run in runs}


@pytest.mark.parametrize("kind", [staticmethod, classmethod])
def test_it_may_be_a_static_or_a_class_method(kind) -> None:
    hook = staticmethod(lambda arch: f"w{arch.width}") if kind is staticmethod else classmethod(lambda cls, arch: f"w{arch.width}")  # fmt: skip
    space = type("Made", (Grid,), {"label": hook})
    assert label_of(grid(), space) == "w16"


def test_a_field_of_that_name_stays_a_field() -> None:
    arch = Labelled.architecture({"label": "good", "width": 32})
    assert label_of(arch, Labelled) == "label=good width=32"


def test_a_hook_that_fails_costs_no_trial_and_says_so_once(caplog) -> None:
    class Broken(Grid):
        def label(arch):
            return arch.no_such_field

    with pytest.raises(SpaceError, match="Broken.label raised AttributeError"):
        check_label(Broken, grid())
    with caplog.at_level(logging.WARNING):
        assert [label_of(grid(), Broken) for _ in range(2)] == ["width=16 rate=0.1 form=a"] * 2
    assert sum("Broken.label" in r.getMessage() for r in caplog.records) == 1


def test_architectures_of_our_decoder_keep_their_names() -> None:
    archs = [TinyGPT.sample(i) for i in range(5)]
    found = labels_of(archs, TinyGPT)
    assert {found[a.id] for a in archs} == {label(a) for a in archs} == {short_name(a) for a in archs}


def test_others_show_the_fields_that_differ() -> None:
    archs = [grid(), grid(width=64), grid(form="b")]
    assert list(labels_of(archs).values()) == ["width=16 form=a", "width=64 form=a", "width=16 form=b"]
    assert label_of(archs[0]) == "width=16 rate=0.1 form=a"
    assert list(labels_of(archs[:1]).values()) == ["width=16 rate=0.1 form=a"]


def test_layers_are_told_in_runs() -> None:
    two = {"width": 32, "depth": 2, "layers.0.cell": "gru", "layers.1.cell": "gru"}
    mixed = {"width": 16, "depth": 2, "layers.0.cell": "gru", "layers.1.cell": "mlp", "layers.1.cell.mlp.ratio": 2}
    archs = [Stacks.architecture(two), Stacks.architecture(mixed)]
    assert list(labels_of(archs).values()) == ["width=32 layers=2*gru", "width=16 layers=gru,mlp2"]


def test_long_ones_are_cut_and_no_two_are_alike() -> None:
    class Long(Space):
        depth = integer(1, 30)
        layers = repeat(depth, cell=choice(option("recurrent"), option("perceptron")), size=choice(8, 16))

    archs = [Long.sample(seed) for seed in range(12)]
    found = labels_of(archs)
    assert len(set(found.values())) == len({a.id for a in archs})
    assert max(map(len, found.values())) <= 66


def test_a_study_of_another_model_has_no_hashes_in_its_table() -> None:
    found = search(Grid, [value], strategy=Random(), trials=4)
    assert all("=" in name for name in found.labels.values())
    opt = AskTell(Grid, ["loss"], strategy=Random())
    asked = opt.ask()
    opt.tell(asked.number, {"loss": 1.0})
    assert opt.study.trials[0].user_attrs["nas_bo:label"] == label_of(asked.architecture)
