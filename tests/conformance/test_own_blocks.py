"""A block of one's own, everywhere: the shipped suite, spaces, hosts, searches, workers, files, pictures; and bad ones."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from nas_bo import profile, search
from nas_bo.errors import ModelError, TrainingDiverged
from nas_bo.hardware.devices.device import Device
from nas_bo.hardware.latency.profile import Profile
from nas_bo.hardware.workload import Setting, workload
from nas_bo.model import (
    attention,
    build,
    check,
    dense,
    generate,
    kv_cache_bytes,
    label,
    load_corpus,
    train,
    train_many,
    word,
)
from nas_bo.model.blocks import Row
from nas_bo.model.spec import LayerSpec
from nas_bo.objectives import Flops, Latency, Parameters
from nas_bo.report.drawing import drawing
from nas_bo.space import Space, choice, repeat
from nas_bo.strategies import Darts, Random
from nas_bo.supernet import Supernet, train_supernet
from nas_bo.supernet.training import SupernetDiverged
from nas_bo.testing import BlockTests
from tests.compatibility.spaces import text
from tests.conformance import own_blocks
from tests.conformance.own_blocks import Mean, Own, Shared, Shift, ShiftSpec, Thin, Undecodable, loss
from tests.processes import python

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


class TestShift(BlockTests):
    block = own_blocks.shift.block
    examples = ({}, {"rank": 7})


class TestThin(BlockTests):
    block = own_blocks.thin.block
    memory = (0.9, 1.6)


class TestMean(BlockTests):
    block = own_blocks.mean.block
    memory = (0.7, 1.6)


def test_the_example_passes_the_suite(tmp_path):
    code = tmp_path / "test_pool.py"
    code.write_text(
        "from new_block import Pool, pool\nfrom nas_bo.testing import BlockTests\n\n\n"
        "class TestPool(BlockTests):\n    block = pool.block\n    examples = ({'window': 1}, {'window': 4})\n"
    )
    ran = python(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", code, cwd=tmp_path,
        env={"PATH": "", "PYTHONPATH": f"{EXAMPLES}:{EXAMPLES.parent}", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert len((EXAMPLES / "new_block.py").read_text().splitlines()) <= 60


def test_the_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / "new_block.py"), run_name="__main__")
    assert "pool2" in capsys.readouterr().out


# ---- everywhere -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_search_goes_on_where_it_stopped(tmp_path, workers):
    asked = {"strategy": Random(seed=1), "storage": str(tmp_path / "own.db"), "retrain": 0, "workers": workers}
    first = search(Own, [loss, Parameters(), Flops()], trials=4, **asked)
    again = search(Own, [loss, Parameters(), Flops()], trials=7, **asked)
    archs = [trial.architecture for trial in again.trials]
    assert archs[:4] == [trial.architecture for trial in first.trials] and len(archs) == 7
    alone = search(Own, [loss, Parameters(), Flops()], trials=7, strategy=Random(seed=1), retrain=0, workers=workers)
    assert archs == [trial.architecture for trial in alone.trials]
    assert any("S" in again.label(trial) for trial in again.trials)
    again.save(tmp_path / "out")
    assert "token shift" in "".join(drawing(arch) for arch in archs)


def test_it_is_trained_generates_and_goes_on(tmp_path):
    corpus = load_corpus(text(tmp_path / "words.txt"))
    arch = Own.architecture(
        {"depth": 1, "width": 16, "layers.0.mixer": "shift", "layers.0.mixer.shift.rank": 4, "layers.0.mlp": "thin"}
    )
    whole = train(arch, corpus, 8192, 3, evaluation_tokens=2048)
    train(arch, corpus, 8192, 3, evaluation_tokens=2048, stop_at=0.5, checkpoint=tmp_path / "run.pt")
    resumed = train(arch, corpus, 8192, 3, evaluation_tokens=2048, checkpoint=tmp_path / "run.pt")
    assert resumed.bits_per_byte == whole.bits_per_byte and resumed.resumed == 4096
    assert generate(whole.model, torch.zeros(2, 3, dtype=torch.long), 5).shape == (2, 8)
    stacked = train_many([arch, arch], corpus, 4096, [0, 1], together=2, evaluation_tokens=2048)
    assert all(one.bits_per_byte < 9 for one in stacked)


def test_its_latency_is_measured_learned_and_looked_up(tmp_path):
    prefill = Setting(context=16)
    found = profile(Own, tmp_path / "d.json", (prefill,), architectures=5, lookup=True, clock="cpu", max_seconds=0.02)
    again = Profile.load(tmp_path / "d.json")
    assert again.to_dict() == found.to_dict()
    archs = [Own.sample(seed) for seed in range(6)]
    for kind in ("learned", "roofline"):
        assert (again.model(prefill, kind=kind).predict_many(archs)[0] > 0).all()
    specs = {one for table in again.tables.values() for part in table if part.layer for one in part.layer}
    assert ShiftSpec("shift", 2) in specs
    assert all(Latency(target=again.device)(arch) > 0 for arch in archs)
    assert not Device("shiftless", "cpu", operations=("attention", "dense", "thin")).supports("shift")


def test_a_supernet_shares_its_weights():
    net = Supernet(Shared, 32)
    tokens = torch.zeros(1, 4, dtype=torch.long)
    for seed in range(4):
        arch = Shared.sample(seed)
        torch.testing.assert_close(net(tokens, arch), net.extract(arch)(tokens))
    with pytest.raises(ModelError, match="'thin' has no slices"):
        Supernet(Own, 32)


def test_one_that_cannot_decode_says_so_before_anything_is_trained():
    arch = Undecodable.sample(0)
    assert workload(arch, "prefill").flops > 0 and label(arch).startswith("d")
    for ask in (lambda: kv_cache_bytes(arch, 9), lambda: workload(arch, "decode")):
        with pytest.raises(
            ModelError, match=r"'mean' does not decode token by token.*new_state\(batch, length, like\)"
        ):
            ask()


# ---- bad blocks -------------------------------------------------------------------------------------------------------


class _Bad(Shift):
    kind = "bad"


class Miscounted(_Bad):
    kind = "miscounted"

    def parameters(self, spec, frame):
        return super().parameters(spec, frame) + 1


class OtherSpec(NamedTuple):
    kind: str


class Stranger(_Bad):
    kind = "stranger"

    def check(self, fields, frame):
        return OtherSpec("stranger")


class Unpickled(_Bad):
    kind = "unpickled"

    def __reduce__(self):
        raise TypeError("cannot pickle a lock")


class Lacking:
    kind = "lacking"
    slots = ("mixer",)
    fields = {}  # noqa: RUF012
    Spec = OtherSpec

    def check(self, fields, frame): ...


class Odd(_Bad):
    def __init__(self, **names):
        self.__dict__.update(names)


def test_bad_blocks_are_refused_with_the_reason():
    class Local(_Bad):
        class Spec(NamedTuple):
            kind: str

    cases = [
        (Lacking(), r"Lacking has no parameters\(\), operations\(\), module\(\).*BlockTests"),
        (Shift, r"got a class; give a block, as in word\(Shift\(\)\)"),
        (Odd(kind="attention"), "kind 'attention', which is a block of nas_bo; give it another kind"),
        (Odd(kind="mean"), "kind 'mean', which is a block of tests.conformance.own_blocks.Mean"),
        (Odd(kind="a.b"), "kind='a.b'; it must be a name of letters"),
        (Odd(slots=("head",)), r"slots=\('head',\)"),
        (Odd(fields={"kind": 1}), "fields="),
        (Odd(Spec=dict), "Spec=.*NamedTuple whose first field is kind"),
        (Unpickled(), "cannot be pickled.*top level of a module"),
        (Local(), "cannot be pickled"),
    ]
    for block, why in cases:
        with pytest.raises(ModelError, match=why) as caught:
            word(block)
        assert "\n" not in str(caught.value)


def test_what_is_said_wrongly_is_found_before_training():
    from nas_bo.architecture import Node
    from nas_bo.model import build

    def arch(kind, **fields):
        layer = Node({"mixer": Node({"kind": kind, **fields}), "mlp": Node({"kind": "skip"})})
        return Node({"width": 8, "layers": (layer,)})

    word(Miscounted())
    with pytest.raises(
        ModelError, match="'miscounted' counts 73 parameters.*its module has 72.*correct its parameters"
    ):
        build(arch("miscounted"), 9)
    word(Stranger())
    with pytest.raises(ModelError, match="Stranger gave .* must give a ShiftSpec whose kind is 'stranger'"):
        check(arch("stranger"))
    with pytest.raises(ModelError, match="no field 'rnk' .did you mean 'rank'"):
        own_blocks.shift(rnk=2)
    with pytest.raises(
        ModelError, match="no mixer 'shfit' .did you mean 'shift'.*once the module that makes a word of it"
    ):
        check(arch("shfit"))
    with pytest.raises(ModelError, match="no mixer 'thin' .it belongs to other places"):
        check(arch("thin"))


class Logarithm(_Bad):
    """Gives NaN for half of what it gets."""

    kind = "logarithm"

    def module(self, spec, frame):
        made = super().module(spec, frame)
        made.register_forward_hook(lambda _m, _i, output: (output[0].log(), output[1]))
        return made


class Root(_Bad):
    """Finite values whose gradients are not: the root of what is zero at first."""

    kind = "root"

    def module(self, spec, frame):
        made = super().module(spec, frame)
        made.register_forward_hook(lambda _m, _i, output: ((output[0] - output[0].detach()).abs().sqrt(), output[1]))
        return made


class Later(_Bad):
    """Gives NaN when its shares, zeros at first, have moved far enough."""

    kind = "later"

    def module(self, spec, frame):
        made = super().module(spec, frame)
        made.register_forward_hook(
            lambda m, _i, output: (output[0] * (float("nan") if m.share.abs().max() > 0.02 else 1.0), output[1])
        )
        return made


class Listed(_Bad):
    kind = "listed"

    def check(self, fields, frame):
        return ShiftSpec(self.kind, [1])


def _two_layers(kind):
    from nas_bo.architecture import Node

    layers = [
        Node({"mixer": Node({"kind": one}), "mlp": Node({"kind": "dense", "ratio": 1})}) for one in ("shift", kind)
    ]
    return Node({"width": 8, "layers": tuple(layers)})


@pytest.mark.parametrize(("block", "why"), [(Logarithm(), "values"), (Root(), "gradients")])
def test_a_block_that_gives_nan_is_named_before_training(tmp_path, block, why):
    word(block)
    corpus = load_corpus(text(tmp_path / "words.txt"))
    with pytest.raises(
        ModelError, match=rf"'{block.kind}' \(the mixer of layer 1\) gives {why}.*first weights.*logarithm"
    ):
        train(_two_layers(block.kind), corpus, 8192)


def test_a_block_that_gives_nan_later_is_named_with_the_step(tmp_path):
    word(Later())
    corpus = load_corpus(text(tmp_path / "words.txt"))
    why = r"diverged at step ([2-9]|\d\d+) of \d+: the block 'later' \(the mixer of layer 1\) gives"
    with pytest.raises(TrainingDiverged, match=why):
        train(_two_layers("later"), corpus, 100_000, lr=3e-3)


def test_a_block_whose_value_is_not_plain_is_refused():
    word(Listed())
    with pytest.raises(ModelError, match=r"Listed gave .* not a plain value.*tuples of them"):
        check(_two_layers("listed"))


def test_a_block_may_be_defined_again():
    """As in a notebook: what was counted of the old one is forgotten."""
    from nas_bo.architecture import Node

    class_ = type("Changing", (_Bad,), {"kind": "changing", "__module__": __name__})
    globals()["Changing"] = class_
    word(class_())
    layer = Node({"mixer": Node({"kind": "changing"}), "mlp": Node({"kind": "skip"})})
    arch = Node({"width": 8, "layers": (layer,)})
    first = workload(arch).parameters
    class_ = type(
        "Changing", (_Bad,), {"kind": "changing", "__module__": __name__, "parameters": lambda self, spec, frame: 5}
    )
    globals()["Changing"] = class_
    word(class_())
    assert workload(arch).parameters == first - 72 + 5
    assert isinstance(check(arch).layers[0], LayerSpec)


def test_the_blocks_here_are_what_their_names_say():
    assert {type(one.block) for one in (own_blocks.shift, own_blocks.thin, own_blocks.mean)} == {Shift, Thin, Mean}


def mixed_with(block):
    made = word(block)

    class Mixed(Space):
        width = 16
        depth = 2
        layers = repeat(depth, mixer=choice(made(rank=2), attention(heads=2)), mlp=dense(ratio=choice(1, 2)))

    return Mixed


@pytest.mark.parametrize(
    ("block", "why"),
    [pytest.param(Logarithm(), "values", marks=pytest.mark.slow), (Root(), "gradients"), (Later(), "values")],
)
def test_a_block_that_gives_nan_is_named_in_a_supernet_and_in_a_gradient_search(tmp_path, block, why):
    corpus = load_corpus(text(tmp_path / "words.txt"))
    space = mixed_with(block)
    said = rf"the block '{block.kind}' \(the mixer of layer [01]\) gives {why} that are not finite; look in its module"
    with pytest.raises(SupernetDiverged, match=said):
        train_supernet(space, corpus, 200_000, lr=3e-3)
    with pytest.raises(TrainingDiverged, match=said):
        Darts(tokens=200_000, updates=4, lambdas=(0,)).search(space, corpus)


def test_wrong_counts_are_found_before_the_first_trial():
    space, began = mixed_with(Miscounted()), []

    def height(arch):
        began.append(arch)
        return 1.0

    why = r"search: the block 'miscounted' counts 81 parameters .* module has 80"
    for objectives in ([Parameters()], [height]):
        with pytest.raises(ModelError, match=why):
            search(space, objectives, trials=3)
    assert not began


class Kinds(_Bad):
    kind = "kinds"

    def check(self, fields, frame):
        if fields["rank"].__class__ is not int:
            raise ModelError(f"rank={fields['rank']!r} is no whole number")
        return super().check(fields, frame)


def test_one_and_true_are_two_values_of_a_field():
    from nas_bo.architecture import Node

    word(Kinds())

    def layer(rank):
        one = Node({"mixer": Node({"kind": "kinds", "rank": rank}), "mlp": Node({"kind": "skip"})})
        return Node({"width": 8, "layers": (one,)})

    check(layer(1))
    for wrong in (True, 1.0):
        with pytest.raises(ModelError, match=f"rank={wrong!r} is no whole number"):
            check(layer(wrong))


class Features(_Bad):
    """Random features that are no parameters, beside layers that draw while they are made."""

    kind = "features"

    def module(self, spec, frame):
        made = super().module(spec, frame)
        made.register_buffer("features", torch.randn(3))
        made.register_forward_hook(lambda m, _i, output: (output[0] * m.features.sum(), output[1]))
        return made


def test_what_was_drawn_before_changes_no_weights_and_building_draws_nothing():
    word(Features())
    arch, states = _two_layers("features"), []
    for drawn in (0, 5):
        torch.manual_seed(drawn)
        before = torch.get_rng_state()
        states.append(build(arch, 64, generator=torch.Generator().manual_seed(1)).state_dict())
        assert torch.equal(before, torch.get_rng_state())
    assert "layers.1.mixer.features" in states[0]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


# ---- bad blocks, before the first trial ---------------------------------------------------------------------------------


class Backwards(_Bad):
    kind = "backwards"

    def operations(self, spec, frame, call):
        yield Row("down", -3, 0, 0, 1)


class Unrowed(_Bad):
    kind = "unrowed"

    def operations(self, spec, frame, call):
        yield ("down", 1, 2)


class Careless(_Bad):
    """Its check fails for what it does not know."""

    kind = "careless"

    def check(self, fields, frame):
        return fields["nothing"]


class Unbuilt(_Bad):
    kind = "unbuilt"

    def module(self, spec, frame):
        raise RuntimeError("no kernel\nfor this")


class Unlabelled(_Bad):
    kind = "unlabelled"

    def label(self, spec, frame):
        return spec.nothing


class Cut(_Bad):
    """Returns a part of its channels."""

    kind = "cut"

    def module(self, spec, frame):
        made = super().module(spec, frame)
        made.register_forward_hook(lambda _m, _i, output: (output[0][..., :2], output[1]))
        return made


class Single(_Bad):
    kind = "single"

    def module(self, spec, frame):
        made = super().module(spec, frame)
        made.register_forward_hook(lambda _m, _i, output: output[0])
        return made


class Raising(_Bad):
    kind = "raising"

    def module(self, spec, frame):
        made = super().module(spec, frame)
        made.register_forward_pre_hook(lambda _m, given: (given[0] @ given[0][:, :5], *given[1:]))
        return made


@pytest.mark.parametrize(
    ("block", "why"),
    [
        (Logarithm(), "'logarithm' gives values that are not finite with its first weights"),
        (
            Backwards(),
            "operation 'down' of the block 'backwards' has flops=-3 for a prefill; it is a number of at least 0",
        ),
        (Unrowed(), r"operations\(\) of the block 'unrowed' gave \('down', 1, 2\) for a prefill; each is a .*Row"),
        (Careless(), r"check\(fields, frame\) of the block 'careless' \(.*Careless\) failed with KeyError: 'nothing'"),
        (
            Unbuilt(),
            r"module\(spec, frame\) of the block 'unbuilt' .* failed with RuntimeError: no kernel for this; correct it",
        ),
        (Unlabelled(), r"label\(\), .* of the block 'unlabelled' .* failed with AttributeError"),
        (Cut(), r"'cut' returned \(2, 16, 2\) for an input of shape \(2, 16, 16\); y must have the shape"),
        (Single(), r"'single' returned a Tensor from forward\(\); it must be \(y, state\), two values"),
        (Raising(), r"forward\(\) of the module of the block 'raising' .* failed with RuntimeError"),
    ],
    ids=lambda one: getattr(one, "kind", ""),
)
def test_what_is_wrong_with_a_block_is_one_paragraph_before_the_first_trial(block, why):
    space, began = mixed_with(block), []

    def height(arch):
        began.append(arch)
        return 1.0

    with pytest.raises(ModelError, match=f"{why}") as caught:
        search(space, [height], trials=3)
    assert not began and "\n" not in str(caught.value)


class Idle(_Bad):
    kind = "idle"

    def operations(self, spec, frame, call):
        yield Row("nothing", 0, self.parameters(spec, frame), 0, 1)


def test_flops_that_torch_counts_otherwise_are_reported_once(caplog):
    space = mixed_with(Idle())
    for _ in range(2):
        search(space, [Parameters()], trials=1, retrain=0)
    said = [one.message for one in caplog.records if "'idle' counts 0 FLOPs" in one.message]
    assert len(said) == 1 and "torch counts 4,096 for its module" in said[0]


def test_a_word_says_which_field_was_meant():
    for call, why in (
        (
            lambda: attention(head=2),
            r"attention has no field 'head' \(did you mean 'heads'\?\); it has heads, kv_group",
        ),
        (lambda: attention(heads=2, kernel=3), "attention has no field 'kernel'.*kernel is a field of conv"),
        (lambda: dense(), r"dense\(\): missing a required argument: 'ratio'; its fields are ratio, activation"),
        (lambda: dense(1, "silu", True, 3), r"dense\(\): too many positional arguments; its fields are"),
    ):
        with pytest.raises(ModelError, match=why):
            call()
