"""A part that recovers: its loss before and on the way, trainings that are stopped, killed and continued, and what the report says between the
rungs."""

import signal
from dataclasses import replace

import pytest
import torch

from nas_bo import search
from nas_bo.errors import CheckpointError, ExportError, ModelError, ObjectiveError, SearchError
from nas_bo.export import folder
from nas_bo.model import Training
from nas_bo.objectives import Parameters
from nas_bo.pretrained.block_scores import changed
from nas_bo.pretrained.space import whole
from nas_bo.stopping import SuccessiveHalving
from nas_bo.workflows.train import CHECKPOINT
from tests.processes import python

TOKENS = 4_096


@pytest.fixture(scope="module")
def recovering(loss):
    return replace(loss, tokens=TOKENS, rungs=(0.25, 0.5))


@pytest.fixture(scope="module")
def parts(small):
    space = small.space(depth=(0, 1))
    most = whole(space)
    return [changed(space, most, {f"layers.{layer}.mlp": "skip"}) for layer in range(2)]


def test_the_rungs_lead_to_the_value_of_a_call_and_say_what_the_part_was_before(recovering, parts, loss):
    stages = list(recovering.stages(parts[0]))
    assert [share for share, _ in stages] == [0.25, 0.5, 1.0]
    value = recovering(parts[0])
    assert float(stages[-1][1]) == float(value) and value.info["fidelity"] == 1.0
    assert value.info["as_is"] > float(value) and {one.info["as_is"] for _, one in stages} == {value.info["as_is"]}
    assert list(loss.stages(parts[0])) == [(1.0, loss(parts[0]))]


def test_a_stopped_training_continues_bit_for_bit_and_parts_have_files_of_their_own(recovering, parts, tmp_path):
    kept = replace(recovering, checkpoints=str(tmp_path / "runs"))
    stages = kept.stages(parts[0])
    next(stages)
    stages.close()
    assert float(kept(parts[0])) == float(recovering(parts[0])) and kept(parts[0]).info["resumed"]
    first = next(kept.stages(parts[0]))[1]  # it is beyond this rung by now
    assert float(first) == float(next(recovering.stages(parts[0]))[1])
    kept(parts[1])
    replace(kept, repair=False)(parts[1])
    assert len(list((tmp_path / "runs").glob("*.pt"))) == 3


def test_rungs_that_are_none_and_folders_that_cannot_be_are_refused(recovering, parts, loss, tmp_path):
    for rungs in ((0.5, 0.25), (0.0,), (1.5,), ("a",), 0.5, None):
        with pytest.raises(ObjectiveError, match="must rise|at most 1"):
            replace(loss, rungs=rungs)
    with pytest.raises(ObjectiveError, match="path of a folder"):
        replace(loss, checkpoints=5)
    (tmp_path / "file").write_text("")
    with pytest.raises(ObjectiveError, match="cannot be written|can be written"):
        replace(recovering, checkpoints=str(tmp_path / "file"))(parts[0])
    with pytest.raises(ModelError, match="first_weights"):
        Training(recovering.sub_model(parts[0]), loss.corpus(), TOKENS, checkpoint=tmp_path / "c.pt")


def test_first_weights_of_another_name_are_another_run(recovering, parts, tmp_path):
    def begun(part, name):
        how = {"sequence": 32, "checkpoint": tmp_path / "c.pt", "first_weights": name}
        return Training(recovering.sub_model(part), recovering.corpus(), TOKENS, **how)

    begun(parts[0], "one").to(0.5)
    assert begun(parts[0], "one").done == 0.5
    with pytest.raises(CheckpointError, match="of another run"):
        begun(parts[1], "other")


def test_the_trust_report_compares_the_part_as_it_is_and_the_rungs_with_the_longer_training(small, recovering):
    result = search(
        small.space(),
        [replace(recovering, tokens=2_048), Parameters()],
        trials=5,
        stopping=SuccessiveHalving(eta=1.5, least=0.2),
        retrain=2.0,
    )
    names = {one.name for one in result.trust.judged}
    assert "bits_per_byte as it is" in str(names) and "bits_per_byte@50%" in str(names)


def test_where_nothing_is_trained_nothing_can_be_stopped(small, loss):
    with pytest.raises(SearchError, match="give the loss tokens"):
        search(small.space(), [loss], trials=2, stopping=SuccessiveHalving(), retrain=0)


def test_a_recovery_that_is_killed_goes_on_to_the_same_weights(small, loss, tmp_path):
    """With SIGKILL, in the middle of the training that `nas-bo train` makes."""
    study = str(tmp_path / "study.db")
    result = search(small.space(), [loss, Parameters()], trials=2, retrain=0, storage=study)
    code = (
        "import os, signal, sys, nas_bo.model.run as run\n"
        "from nas_bo.cli import resolve\n"
        "run.SAVE_EVERY_S = run.PROGRESS_EVERY_S = -1.0\n"
        "def killed(step, steps, nats):\n"
        "    if step > 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "resolve.stored(sys.argv[1], None).train(sys.argv[2], 'bits_per_byte', 8000, progress=killed)\n"
    )
    out = tmp_path / "out"
    done = python("-c", code, study, out)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (out / CHECKPOINT).exists() and not (out / folder.ABOUT).exists()
    again, other = (result.train(to, "bits_per_byte", 8_000) for to in (out, tmp_path / "whole"))
    assert again.resumed and not other.resumed and not (out / CHECKPOINT).exists()
    one, two = (folder.load(made.folder).model.state_dict() for made in (again, other))
    assert all(torch.equal(one[name], two[name]) for name in two)
    assert result.train(out, "bits_per_byte", 8_000).resumed  # it is whole already
    with pytest.raises(ExportError, match="is not empty"):
        result.train(out, "bits_per_byte", 9_000)
