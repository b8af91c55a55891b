"""A trained model whose weights are on disk: the same answers, and only the weights of one block in memory."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nas_bo.errors import ModelError
from nas_bo.pretrained import CalibrationText, Parts, Pretrained
from nas_bo.pretrained.block_scores import changed
from nas_bo.pretrained.on_disk import release
from nas_bo.pretrained.ordered import ordered
from nas_bo.pretrained.space import whole
from tests.pretrained.models import saved


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(saved(tmp_path_factory.mktemp("m"), "Llama", hidden_size=64, intermediate_size=512, num_hidden_layers=6))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_BO_CACHE", str(tmp_path / "cache"))


def told(folder, text, device_map, cache, monkeypatch):
    """What a search asks of a trained model: loss of the whole, of parts, and block scores."""
    monkeypatch.setenv("NAS_BO_CACHE", str(cache))  # nothing that was measured before is taken
    teacher = Pretrained(folder, device_map=device_map)
    few = CalibrationText(batches=1, sequences=32, sequence=32)
    loss = teacher.loss(data=text, calibration=few, held_out_tokens=512, sequence=32, device="cpu")
    parts = Parts(mlp=(128, 256))
    space = teacher.space(parts)
    arch = changed(space, whole(space), {"layers.1.mlp.dense.ratio": 2.0, "layers.3.mixer": "skip"})
    scores = teacher.block_scores(loss, parts=parts, batches=1, evaluations=8)
    return [float(loss(whole(space))), float(loss(arch)), float(replace(loss, repair=False)(arch)), float(scores(arch))]


def test_all_answers_are_those_of_the_model_in_memory(folder, text, tmp_path, monkeypatch):
    found = [told(folder, text, where, tmp_path / str(where), monkeypatch) for where in (None, "disk")]
    assert found[0] == pytest.approx(found[1], rel=1e-6)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_pages_leave_memory_when_a_block_has_run(folder, text, tmp_path):
    model = Pretrained(folder, device_map="disk").model()
    size = sum(weight.nbytes for weight in model.parameters())
    assert not [*(tmp_path / "cache").iterdir()], "the file goes with the process"
    seen = []
    for layer in model.layers:
        layer.register_forward_hook(lambda *_: seen.append(resident(tmp_path / "cache")))
    with torch.no_grad():
        model(torch.zeros(1, 8, dtype=torch.long))
    assert len(seen) == 6 and max(seen) < size / 6
    assert resident(tmp_path / "cache") > 0  # of the head
    release(model)
    assert resident(tmp_path / "cache") == 0


def resident(folder: Path) -> int:
    """Bytes in memory of the mapped files in a folder."""
    found, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split(maxsplit=1)[0]
        inside = str(folder) in line if not first.endswith(":") else inside
        found += 1024 * int(line.split()[1]) if inside and first == "Rss:" else 0
    return found


def test_what_cannot_be_on_disk_says_so(folder, small, text, tmp_path, monkeypatch):
    with pytest.raises(ModelError, match="of nas_bo, read as a whole"):
        Pretrained(small.path, device_map="disk")
    with pytest.raises(ModelError, match="device_map"):
        Pretrained(folder, device_map="cuda")  # type: ignore[arg-type]
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NAS_BO_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match="NAS_BO_CACHE"):
        Pretrained(folder, device_map="disk").model()


def test_one_model_in_memory_is_not_taken_for_the_other(folder, text):
    few = CalibrationText(batches=1, sequences=32, sequence=32)
    losses = [Pretrained(folder, device_map=where).loss(data=text, calibration=few) for where in (None, "disk")]
    found = [ordered(one.teacher, one.corpus(), one.calibration).model for one in losses]
    assert found[0] is not found[1]
