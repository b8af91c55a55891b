"""A run that several processes train together (FSDP2): the loss of one process, checkpoints that continue it, and what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from nas_bo.errors import ModelError, ObjectiveError, SearchError, TrainingDiverged
from nas_bo.execution.selection import executor_of
from nas_bo.model import Corpus, load_corpus, train
from nas_bo.model.sharding import Shard
from nas_bo.model.training import Training
from nas_bo.objectives import LearningRateProbe, ValidationLoss
from nas_bo.problem import Problem
from nas_bo.search_spaces import TinyGPT
from tests.model.architectures import ATTENTION, CONV, DENSE, GATED, LINEAR, MOE, decoder, layer

ARCH = decoder(layer(CONV, GATED), layer(ATTENTION, DENSE), layer(LINEAR, DENSE), width=16)
OTHER = decoder(
    *[layer(ATTENTION, DENSE)] * 4, width=16, tied=False, norm="layer", position="learned", max_length=64, tie_layers=2,
    long_skips=True,
)  # fmt: skip
HOW = {"device": "cpu", "evaluation_tokens": 2048}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text("".join(f"the square of {i} is {i * i}; " for i in range(4000)))
    return load_corpus(path)


@pytest.fixture
def shard(tmp_path, monkeypatch):
    """This process, as the only one of a group."""
    distributed = torch.distributed
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield Shard(torch.device("cpu"))
    distributed.destroy_process_group()


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor], within: float) -> bool:
    return one.keys() == two.keys() and all(torch.allclose(one[name], two[name], atol=within, rtol=0) for name in one)


@pytest.mark.parametrize("arch", [ARCH, OTHER], ids=["tied head", "shared layers"])
def test_parts_of_weights_train_to_the_same_loss_and_are_stored_whole(
    corpus: Corpus, shard, tmp_path: Path, arch
) -> None:
    whole = train(arch, corpus, 4000, **HOW)
    path = tmp_path / "run.pt"

    def begun() -> Training:
        return Training(arch, corpus, 4000, shard=shard, checkpoint=path, **HOW)

    begun().to(0.5)
    stored = torch.load(path, weights_only=True)["state"]
    assert all(type(weight) is torch.Tensor for weight in stored["model"].values())
    second = begun()
    assert second.done == pytest.approx(4 / 7)
    found = second.to()
    assert found.bits_per_byte == pytest.approx(whole.bits_per_byte, rel=1e-5) and found.resumed == 4 * 512
    assert same(whole.model.state_dict(), shard.whole(dict(found.model.state_dict())), 1e-4)


@pytest.mark.slow  # 20 s of two processes
def test_two_processes_give_what_one_gives(corpus: Corpus, tmp_path: Path) -> None:
    one = train(ARCH, corpus, 4000, validate_at=(0.5,), **HOW)
    calls: list[tuple[int, int, float]] = []
    more = {"gpus_per_trial": 2, "progress": lambda *call: calls.append(call), **HOW}
    two = train(ARCH, corpus, 4000, validate_at=(0.5,), **more)
    assert two.bits_per_byte == pytest.approx(one.bits_per_byte, rel=1e-5)
    assert [value for _, value in two.curve] == pytest.approx([value for _, value in one.curve], rel=1e-5)
    assert [at for at, _ in two.validation] == [at for at, _ in one.validation]
    assert same(one.model.state_dict(), two.model.state_dict(), 1e-4) and calls[-1][:2] == (7, 7)
    pieces = [train(ARCH, corpus, 4000, stop_at=share, checkpoint=tmp_path / "run.pt", **more) for share in (0.5, 1.0)]
    assert pieces[1].resumed == pieces[0].tokens
    assert pieces[1].bits_per_byte == two.bits_per_byte and same(
        pieces[1].model.state_dict(), two.model.state_dict(), 0
    )


@pytest.mark.slow  # 20 s of two processes
def test_an_objective_looks_at_its_rungs_and_what_a_process_raises_is_raised_here(
    corpus: Corpus, tmp_path: Path
) -> None:
    path = tmp_path / "text.txt"
    path.write_text("".join(f"the square of {i} is {i * i}; " for i in range(4000)))
    arch = next(a for a in map(TinyGPT.sample, range(20)) if a.layers[0].mlp.kind == "dense")
    loss = ValidationLoss(4000, str(path), device="cpu", rungs=(0.5,), gpus_per_trial=2, evaluation_tokens=2048)
    assert loss.conditions()["gpus_per_trial"] == 2 and pickle.loads(pickle.dumps(loss)) == loss
    shares = [share for share, _ in loss.stages(arch)]
    assert shares == [0.5, 1.0]
    with pytest.raises(TrainingDiverged, match="diverged"):
        train(ARCH, corpus, 4000, lr=1e9, clip=0.0, gpus_per_trial=2, **HOW)


def test_what_several_processes_cannot_train_is_refused(corpus: Corpus) -> None:
    for arch, more, said in (
        (decoder(layer(CONV, MOE), width=16), {}, "a mixture of experts"),
        (ARCH, {"batch_size": 3}, "batch_size=3"),
        (ARCH, {"teacher": "somewhere"}, "teacher="),
        (ARCH, {"device": "cuda:1"}, "device='cuda:1'"),
    ):
        with pytest.raises(ModelError, match=said):
            train(arch, corpus, 4000, gpus_per_trial=2, **{**HOW, **more})
    loss = ValidationLoss(gpus_per_trial=2, device="cpu")
    with pytest.raises(ModelError, match="a mixture of experts"):
        loss.check_architecture(decoder(layer(CONV, MOE), width=16))
    with pytest.raises(ModelError, match="a run of one process"):
        Training(ARCH, corpus, 4000, gpus_per_trial=2, **HOW)
    with pytest.raises(ModelError, match="gpus_per_trial must be"):
        train(ARCH, corpus, 4000, gpus_per_trial=0, **HOW)
    with pytest.raises(ObjectiveError, match="gpus_per_trial=2, probe="):
        ValidationLoss(gpus_per_trial=2, probe=LearningRateProbe())


def test_where_there_are_not_so_many_gpus_a_search_does_not_begin(monkeypatch) -> None:
    many = 1 + torch.cuda.device_count()
    problem = Problem(TinyGPT, [ValidationLoss(gpus_per_trial=many + 1)])
    with pytest.raises(SearchError, match=rf"trained on {many + 1} GPUs .*, and this process sees {many - 1}"):
        executor_of(None, 1, problem, "search")
    executor_of(None, 1, Problem(TinyGPT, [ValidationLoss(gpus_per_trial=many + 1, device="cpu")]), "search").close()
