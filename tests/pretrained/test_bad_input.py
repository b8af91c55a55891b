"""What cannot be searched inside a trained model is one paragraph of the command, before anything is measured or trained."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from nas_bo.errors import ModelError, ObjectiveError, SpaceError
from nas_bo.objective import as_objective
from nas_bo.objectives import KVCacheBytes, Parameters
from nas_bo.pretrained import CalibrationText, Parts, Pretrained
from nas_bo.pretrained.fit_of_text import check_text
from nas_bo.pretrained.room import check_room, free_bytes
from nas_bo.pretrained.space import whole
from nas_bo.problem import Problem
from nas_bo.space import Space, choice, integer
from nas_bo.workflows.reachable import check_reachable
from tests.command import nas_bo
from tests.pretrained.models import saved, trained

pytest.importorskip("transformers")
CODE = "".join(f"def f{i}(x):\n    return x + {i * 7 % 13}\n" for i in range(3000))
PROSE = "THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG; " * 200


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    path = tmp_path_factory.mktemp("work")
    (path / "t.txt").write_text(CODE)
    trained(path / "whole", str(path / "t.txt"))
    saved(path / "random", seed=3, spread=0.5)
    return path


def refused(work, *options, code=None):
    """The paragraph with which a search ends, that nothing was evaluated, and nothing was shown that helps nobody."""
    (work / "nas-bo.db").unlink(missing_ok=True)
    asked = [
        "search",
        "--data",
        "t.txt",
        "--objective",
        "bits_per_byte",
        "--objective",
        "parameters",
        "--trials",
        "2",
        "--workers",
        "1",
        "--mlflow",
        "none",
    ]
    done = nas_bo(*asked, *options, cwd=work)
    assert done.returncode != 0 and "Traceback" not in done.stderr, done.stderr
    assert "block scores" not in done.stderr and "0." not in done.stdout
    return " ".join(done.stderr.replace("│", " ").split())


def test_folders_that_are_no_models(work, tmp_path):
    (work / "empty").mkdir()
    assert "there is no config.json" in refused(work, "--from", "empty")
    shutil.copytree(work / "random", work / "pickles")
    (work / "pickles" / "model.safetensors").rename(work / "pickles" / "pytorch_model.bin")
    said = refused(work, "--from", "pickles")
    assert "pickle" in said and "save_pretrained" in said
    shutil.copytree(work / "random", work / "mute")
    (work / "mute" / "tokenizer.json").unlink()
    assert "there is no tokenizer.json" in refused(work, "--from", "mute")
    shutil.copytree(work / "random", work / "weightless")
    (work / "weightless" / "model.safetensors").unlink()
    assert "there are no weights" in refused(work, "--from", "weightless")


@pytest.mark.parametrize(
    ("config", "said"),
    [({"model_type": "bloom"}, "family 'bloom' is not understood"), ({"hidden_act": "tanh"}, "hidden_act='tanh'")],
)
def test_families_and_options_that_are_not_understood(work, config, said, tmp_path):
    shutil.copytree(work / "random", tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    assert said in refused(work, "--from", str(tmp_path / "m"))


def test_a_model_that_knows_nothing_of_the_text(work):
    said = refused(work, "--from", "random")
    assert "counting how often each token occurs" in said and "t.txt" in said
    loss = Pretrained(str(work / "random")).loss(data=str(work / "t.txt"), device="cpu")
    with pytest.raises(ObjectiveError, match="learned nothing"):
        loss.check_source()


def test_text_of_another_kind_than_the_held_out_is_said(work, caplog):
    few = CalibrationText(batches=1, sequences=32, sequence=32)
    loss = Pretrained(str(work / "whole")).loss(data=str(work / "t.txt"), calibration=few, sequence=32, device="cpu")
    loss.check_source()
    assert not caplog.records
    prose = np.frombuffer(PROSE.encode(), np.uint8)[: 33 * 64].reshape(1, 64, 33).astype("int64")
    check_text(loss.ordered().model, "whole", loss.corpus(), prose)
    assert "different kinds" in caplog.text and "whole has" in caplog.text


def test_a_limit_that_no_sub_model_meets(work):
    said = refused(work, "--from", "whole", "--max-parameters", "1000")
    assert "within the limits" in said and "parameters 9," in said, (
        said
    )  # what is left when all may go: embedding, norms and the first MLP
    teacher = Pretrained(str(work / "whole"))
    space = teacher.space()
    with pytest.raises(Exception, match="misses p<=1000"):
        check_reachable(
            Problem(space, [Parameters(vocab_size=256)], [Parameters(vocab_size=256, at_most=1000, name="p")])
        )


def test_a_limit_that_only_few_architectures_meet_is_no_reason_to_refuse(work):
    """The least cache of many layers: hardly any random architecture has it."""

    class Deep(Space):
        a = integer(0, 9)
        b = integer(0, 9)
        c = integer(0, 9)
        d = integer(0, 9)
        e = choice("x", "y")

    def total(arch):
        return float(sum(arch.flat[name] for name in "abcd"))

    function = as_objective(total)
    limit = replace(function, cost="analytic", at_most=0.0)
    check_reachable(Problem(Deep, [replace(function, name="again", cost="analytic")], [limit]))
    space = Pretrained(str(work / "whole")).space(depth=False, mlp=False)
    least = KVCacheBytes(context=64)
    with pytest.raises(Exception, match="nearest"):
        check_reachable(Problem(space, [least], [KVCacheBytes(context=64, at_most=1.0, name="cache")]))
    assert float(least(whole(space))) > 1


def test_a_model_that_does_not_fit_in_memory(work, monkeypatch):
    assert free_bytes() > 0
    with pytest.raises(ModelError) as found:
        check_room("big", 1_000_000_000, "float32", 3e9)
    assert "4.40 GB as float32" in str(found.value) and 'dtype="bfloat16"' in str(found.value)
    with pytest.raises(ModelError, match="at most 455M parameters"):
        check_room("big", 1_000_000_000, "float32", 1e9)
    monkeypatch.setattr("nas_bo.pretrained.room.free_bytes", lambda: 1000.0)
    teacher = Pretrained(str(work / "random"))
    with pytest.raises(ModelError, match="random has"):
        teacher.model()


def test_operators_that_cannot_be_read(work):
    assert "linear_attention" in refused(work, "--from", "whole", "--operators", "linear_atention")
    assert "cannot be read" in refused(work, "--from", "whole", "--operators", "gated_delta=3")
    assert "--from" in refused(work, "--operators", "window")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"keep": ("a",)}, "layers by their index"),
        ({"keep": 3}, "layers by their index"),
        ({"operators": "window"}, "tuple of names"),
        ({"operators": None}, "tuple of names"),
        ({"windows": 64}, "numbers of tokens"),
        ({"depth": "no"}, "True, False, or a tuple of layers"),
        ({"depth": (0, "1")}, "True, False, or a tuple of layers"),
    ],
)
def test_parts_that_cannot_be_read(given, said):
    with pytest.raises(SpaceError, match=said):
        Parts(**given)
    lists, tuples = (
        Parts(operators=["window"], windows=[64], mlp=[8]),
        Parts(operators=("window",), windows=(64,), mlp=(8,)),
    )
    assert lists == tuples and hash(lists) == hash(tuples)


def test_a_device_that_is_not_there_is_named(small, loss):
    with pytest.raises(ObjectiveError, match="cuda:99"):
        replace(loss, device="cuda:99").check_source()
