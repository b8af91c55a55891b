"""Operations without numbers that are worked out once give what torch gives each time."""

import random

import pytest
import torch
from torch import nn

from nas_bo.hardware import traced as tracing
from nas_bo.hardware.measuring import meta_operations, recorder
from nas_bo.hardware.measuring.recorder import Recorder
from nas_bo.hardware.traced import size, traced, training_peak
from nas_bo.hardware.workload import Setting
from nas_bo.model import build, own_model
from nas_bo.search_spaces import Hybrid
from tests.own_models import Attention, Stack, Stacks, huggingface

SETTING = Setting(context=8)


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(meta_operations, "_known", {})
    for each in (tracing._size, tracing._traced, tracing._training_peak):
        each.cache_clear()


def ours(arch):
    return build(arch, 256)


def kept(made, arch):
    found = traced(made, arch, SETTING)
    return sorted(map(repr, found.operations)), found.peak_bytes, training_peak(made, arch, 2, 8, 256)


@pytest.mark.parametrize("made", [Stack, Attention, huggingface, ours])
def test_traces_are_the_same_whether_or_not_operations_are_remembered(made, monkeypatch) -> None:
    space, rng = (Hybrid if made is ours else Stacks), random.Random(0)
    archs = [space.sample(rng) for _ in range(1 if made is ours else 3)]
    remembered = [kept(made, arch) for arch in archs]
    for each in (tracing._traced, tracing._training_peak):
        each.cache_clear()
    monkeypatch.setattr(recorder, "recall", lambda key: None)
    assert [kept(made, arch) for arch in archs] == remembered


def test_an_operation_that_is_known_is_not_worked_out_again(monkeypatch) -> None:
    worked = []
    plain = recorder._flops
    monkeypatch.setattr(recorder, "_flops", lambda packet, *rest: worked.append(str(packet)) or plain(packet, *rest))
    one = Stacks.architecture({"width": 32, "depth": 1, "layers.0.cell": "mlp", "layers.0.cell.mlp.ratio": 2})
    two = Stacks.architecture({"width": 32, "depth": 2, **{f"layers.{i}.cell": "mlp" for i in (0, 1)}, **{f"layers.{i}.cell.mlp.ratio": 2 for i in (0, 1)}})  # fmt: skip
    traced(Stack, one, SETTING)
    assert worked
    worked.clear()
    traced(Stack, two, SETTING)
    assert set(worked) <= {"aten._unsafe_view"}  # gives what lies in the storage of another


def outcome(call):
    """What a call gives twice, the second time from memory where there is something to remember."""
    found = []
    for _ in range(2):
        with Recorder([]) as seen:
            made = call()
        parts = made if isinstance(made, (tuple, list)) else [made]
        found.append(([(p.shape, p.stride(), p.dtype, p.untyped_storage().nbytes()) for p in parts], seen.works()))
    assert found[0] == found[1]
    return found[0][0]


def meta(*shape, **given):
    return torch.empty(*shape, device="meta", **given)


def test_arguments_that_are_equal_and_not_the_same_are_told_apart() -> None:
    whole = meta(3, dtype=torch.long)
    assert outcome(lambda: whole * 2)[0][2] is torch.long
    assert outcome(lambda: whole * 2.0)[0][2] is torch.float32
    x = meta(2, 3, 4)
    shapes = [outcome(lambda d=d, k=k: x.sum(d, keepdim=k))[0][0] for d in ([0, 1], [0], [1]) for k in (True, False)]
    assert shapes == [(1, 1, 4), (4,), (1, 3, 4), (3, 4), (2, 1, 4), (2, 4)]
    assert outcome(lambda: torch.cat([x, x], 1))[0][0] == (2, 6, 4)
    assert outcome(lambda: torch.cat([x, x, x], 1))[0][0] == (2, 9, 4)
    assert outcome(lambda: x.transpose(0, 2) + 1)[0][1] != outcome(lambda: x.transpose(0, 2).contiguous() + 1)[0][1]
    assert outcome(lambda: x.to(torch.float64))[0][2] is torch.float64
    assert outcome(lambda: x.to(torch.bfloat16))[0][2] is torch.bfloat16


def test_the_default_type_is_part_of_the_question() -> None:
    whole = meta(3, dtype=torch.long)
    assert outcome(lambda: whole / 2)[0][2] is torch.float32
    torch.set_default_dtype(torch.float64)
    try:
        assert outcome(lambda: whole / 2)[0][2] is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_what_changes_a_tensor_in_place_gives_that_tensor_back() -> None:
    for _ in range(2):
        x, y = meta(4, 2), meta(4, 2)
        with Recorder([]):
            assert x.add_(y) is x
            assert x.sigmoid_() is x
            assert torch.add(x, y, out=y) is y
            assert x.t_() is x and x.shape == (2, 4)
            assert x.shape == (2, 4) and x.t_().shape == (4, 2)
    for _ in range(2):
        with Recorder([]), pytest.raises(RuntimeError):
            meta(4, 2).add_(meta(3, 2))


def test_parts_of_one_storage_stay_in_one_storage() -> None:
    for _ in range(2):
        with Recorder([]) as seen:
            parts = torch.unsafe_split(meta(6, 2), 2)
        assert len({part.untyped_storage()._cdata for part in parts}) == 1
        assert seen.peak == 4 * 12


def test_tensors_with_numbers_are_worked_out_each_time() -> None:
    for value in (1.0, 2.0):
        with Recorder([]):
            assert (torch.full((2,), value) * 2).tolist() == [2 * value] * 2


def test_the_memory_is_bounded(monkeypatch) -> None:
    monkeypatch.setattr(meta_operations, "REMEMBERED", 5)
    with Recorder([]):
        for n in range(1, 20):
            meta(n) + 1
    assert 0 < len(meta_operations._known) <= 5


def test_a_model_without_numbers_is_built_once_for_its_size_and_its_run() -> None:
    built = []

    def made(arch):
        built.append(arch)
        return Stack(arch)

    archs = [Stacks.sample(random.Random(seed)) for seed in (1, 2)]
    assert archs[0].id != archs[1].id
    size(made, archs[0]), traced(made, archs[0], SETTING)
    traced(made, archs[1], SETTING), size(made, archs[1])
    assert built == archs
    traced(made, archs[1], Setting(context=4))  # not the one that was run already
    assert built == [*archs, archs[1]]


def test_weights_without_numbers_are_not_drawn_and_others_are(monkeypatch) -> None:
    class Drawing(nn.Module):
        def __init__(self, arch) -> None:
            super().__init__()
            self.inner = nn.Embedding(7, 3)
            self.real = nn.Parameter(torch.zeros(5, device="cpu").normal_())
            self.drawn = float(self.real.detach().abs().sum())
            with pytest.raises(ValueError):
                nn.init.kaiming_uniform_(nn.Parameter(torch.zeros(3)))

    model = own_model.built(Drawing, None, "meta")
    assert model.drawn > 0 and model.inner.weight.is_meta and model.real.is_meta
    state = torch.random.get_rng_state()
    again = own_model.built(Drawing, None, "meta")
    assert again.drawn == model.drawn and torch.equal(torch.random.get_rng_state(), state)
