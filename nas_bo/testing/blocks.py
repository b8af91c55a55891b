"""What a block must do, as tests to inherit from."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nas_bo.architecture import Architecture, Node
from nas_bo.errors import ModelError
from nas_bo.model import counts
from nas_bo.model.blocks import Block, Exportable, Frame, Narrowing, Sliceable, Trained
from nas_bo.model.blocks.skip import absent
from nas_bo.model.blocks.table import label_of
from nas_bo.model.spec import DecoderSpec, check
from nas_bo.model.vocabulary import Word, label, skip
from nas_bo.space import Space, choice, repeat

Shape = tuple[int, int, int, int]
VOCAB = 13
LENGTHS = (1, 2, 7, 70, 200)  # tokens of a call; chunks of blocks that work in chunks are often 64
FEWER = (70,)  # of decoders whose other fields are not the defaults
CUTS = ([5, 64, 1], [66, 1, 3], [1] * 70)  # the last one for decoders of default fields only
AROUND: Sequence[Mapping[str, Any]] = (
    {},
    {"bias": True, "norm": "layer"},
    {"position": "none", "parallel": True},
    {"position": "learned", "max_length": 256, "norm_place": "sandwich", "embedding_scale": 2.0, "logit_cap": 8.0},
)  # top-level fields of the decoders around a block


class BlockTests:
    """All that a block must do. Set `block`, and in `examples` fields that reach every branch of it.

    Attributes:
        block: the block.
        examples: fields, each a block of width `width`.
        width: of the decoders.
        memory: how far the peak in closed form may be from that of a real run: (at least, at most) times as much.
        training_memory: the same of a training step, of a block that says what it keeps for its gradients (`Trained`).
    """

    block: Block[Any]
    examples: Sequence[Mapping[str, Any]] = ({},)
    width: int = 16
    memory: tuple[float, float] = (0.9, 1.3)
    training_memory: tuple[float, float] = (0.9, 1.35)

    # ---- what is tested -------------------------------------------------------------------------------------------

    def word(self) -> Word:
        from nas_bo.model.blocks.table import known, register

        return Word(self.block if known().get(self.block.kind) is self.block else register(self.block))

    def archs(self, **globals_: object) -> Iterator[Node]:
        """A decoder for every example: the block twice and next to other blocks, as mixer or as mlp."""
        self.word()
        for fields in self.examples:
            node = Node({"kind": self.block.kind, **fields})
            nothing, dense = Node({"kind": "skip"}), Node({"kind": "dense", "ratio": 2})
            first = Node({"mixer": node, "mlp": dense} if self._mixes else {"mixer": nothing, "mlp": node})
            second = Node({"mixer": node, "mlp": nothing} if self._mixes else {"mixer": nothing, "mlp": node})
            yield Node({"width": self.width, "layers": (first, second), **globals_})

    def specs(self) -> Iterator[tuple[object, Frame]]:
        for decoder in self.decoders():
            yield (decoder.layers[0].mixer if self._mixes else decoder.layers[0].mlp), decoder.frame

    @property
    def _mixes(self) -> bool:
        return "mixer" in self.block.slots

    def decoders(self, around: Sequence[Mapping[str, object]] = AROUND) -> Iterator[DecoderSpec]:
        for globals_ in around:
            yield from map(check, self.archs(**globals_))

    def built(self, spec: DecoderSpec, device: str = "cpu") -> Any:
        import torch

        from nas_bo.model import build

        made = build(spec, VOCAB, device=device, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        return made.eval()

    # ---- the value of a block -------------------------------------------------------------------------------------

    def test_it_is_a_plain_value(self) -> None:
        for spec, frame in self.specs():
            assert isinstance(spec, self.block.Spec) and spec.kind == self.block.kind
            again = self.block.Spec(*json.loads(json.dumps(list(spec))))
            assert again == spec and hash(again) == hash(spec), (
                f"{spec} is not a tuple of plain values: JSON makes {again}"
            )
            assert pickle.loads(pickle.dumps(spec)) == spec
            text = label_of(spec, frame)
            assert isinstance(text, str) and 0 < len(text) <= 24 and " " not in text, f"label {text!r}"

    def test_unknown_fields_are_refused(self) -> None:
        import pytest

        node = Node({"kind": self.block.kind, **self.examples[0], "nonsense": 1})
        nothing = Node({"kind": "skip"})
        layer = {"mixer": node, "mlp": nothing} if self._mixes else {"mixer": nothing, "mlp": node}
        with pytest.raises(ModelError, match="no field 'nonsense'"):
            check(Node({"width": self.width, "layers": (Node(layer),)}))

    def test_it_stands_in_spaces(self) -> None:
        from nas_bo import ax
        from nas_bo import optuna as host

        word = self.word()
        for fields in self.examples:
            option = word(**fields)

            class Around(Space):
                width = self.width
                layers = repeat(
                    2, **({"mixer": choice(option, skip()), "mlp": skip()} if self._mixes else
                          {"mixer": skip(), "mlp": choice(option, skip())})
                )  # fmt: skip

            slot = "mixer" if self._mixes else "mlp"
            flat = {f"layers.0.{slot}": self.block.kind, f"layers.1.{slot}": "skip"}
            arch = Around.architecture(flat)
            assert Architecture.from_json(arch.to_json()) == arch
            for path, value in arch.flat.items():  # as a host stores it and gives it back
                known_as = host.distributions(Around)[path]
                assert known_as.to_external_repr(known_as.to_internal_repr(value)) == value
            assert host.architecture(Around, arch.flat) == arch
            assert ax.architecture(Around, ax.params(Around, arch)) == arch
            first, second = (layer.slot(slot) for layer in check(arch).layers)
            assert isinstance(first, self.block.Spec) and absent(second)
            inside = {name for name in arch.layers[0][slot] if name != "kind"}
            assert inside == {n for n, v in fields.items() if v != self.block.fields[n]}, "a default entered the id"

    def test_other_processes_know_it(self) -> None:
        module = type(self.block).__module__
        for arch in self.archs():
            spec = check(arch)
            code = f"import sys, pickle, {module}; s = pickle.load(sys.stdin.buffer); from nas_bo.model import flops; print(flops(s, 13, 9))"
            said = subprocess.run(
                [sys.executable, "-c", code], input=pickle.dumps(spec), capture_output=True, check=True
            )
            assert int(said.stdout) == counts.flops(spec, VOCAB, 9)
            break

    def test_it_has_a_label_and_a_drawing(self) -> None:
        from nas_bo.report.drawing import drawing

        for arch in self.archs():
            assert label(arch).startswith(f"d{self.width}")
            assert drawing(arch).startswith("<svg")

    # ---- counts ---------------------------------------------------------------------------------------------------

    def test_parameters_are_those_of_the_module(self) -> None:
        for spec in self.decoders():
            model = self.built(spec, "meta")
            assert counts.parameters(spec, VOCAB) == sum(weight.numel() for weight in model.parameters()), spec
            assert counts.active_parameters(spec, VOCAB) <= counts.parameters(spec, VOCAB)

    def test_flops_are_those_of_the_module(self) -> None:
        """On the CPU: on the meta device, Python takes each operation apart first. Short convolutions are one operation, as there."""
        from unittest import mock

        import torch
        from torch.utils.flop_counter import FlopCounterMode

        from nas_bo.model.layers import conv

        own = {
            torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops
        }  # torch does not count this one
        with mock.patch.object(conv, "CONV_SHIFTS", 0):
            for number, spec in enumerate(self.decoders()):
                model = self.built(spec)
                for length in LENGTHS if number < len(self.examples) else FEWER:
                    tokens = torch.zeros(2, length, dtype=torch.long)
                    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=own) as counter:
                        model(tokens)
                    assert counts.flops(spec, VOCAB, length, 2) == counter.get_total_flops(), (spec, length)
                    if counts.steps(spec) and length > 1:
                        with torch.no_grad():
                            cache = model.new_cache(2, length)
                            model(tokens[:, 1:], cache=cache)
                            with FlopCounterMode(display=False, custom_mapping=own) as counter:
                                model(tokens[:, :1], cache=cache)
                        rows = counts.operations(spec, VOCAB, "decode", length, 2)
                        assert sum(row.flops for row in rows) == counter.get_total_flops(), (spec, "decode", length)

    def test_rows_are_sound(self) -> None:
        from nas_bo.hardware.latency.roofline import Roofline
        from nas_bo.hardware.workload import workload

        for spec in self.decoders():
            for phase in ("prefill", "decode") if counts.steps(spec) else ("prefill",):
                rows = counts.rows(spec, VOCAB, phase, 9, 2)
                assert len({row.name for row in rows}) == len(rows), "two operations of one name"
                assert all(min(row[1:]) >= 0 and row.cached <= row.activations for row in rows)
                work = workload(spec, phase, 2, 9, vocab_size=VOCAB)
                assert work.flops == sum(row.flops for row in rows) * 2
                said = Roofline().columns(work.operations)
                assert (said >= 0).all()

    def test_weights_are_read_once(self) -> None:
        for spec in self.decoders():
            rows = counts.rows(spec, VOCAB, "prefill", 1, 1)
            read = sum(row.weights for row in rows if row.name.startswith("layers."))
            bare = counts.parameters(spec._replace(layers=()), VOCAB)
            assert read == counts.active_parameters(spec, VOCAB) - bare, spec

    def test_peak_memory_is_that_of_a_run(self) -> None:
        from nas_bo.hardware import memory
        from nas_bo.hardware.measuring.memory_measure import measured_inference
        from nas_bo.hardware.workload import Setting

        for spec in self.decoders():
            for phase in ("prefill", "decode") if counts.steps(spec) else ("prefill",):
                setting = Setting(phase, 2, 100, vocab_size=VOCAB)
                said, seen = memory.inference(spec, setting).total, measured_inference(spec, setting, "cpu")
                assert self.memory[0] * seen <= said <= self.memory[1] * seen, (
                    f"{phase} of {spec}: peak_values and operations say {said:,.0f} bytes, a run took {seen:,.0f}; it must be "
                    f"{self.memory[0]:g} to {self.memory[1]:g} times that"
                )

    def test_memory_of_training_is_that_of_a_step(self) -> None:
        from nas_bo.hardware import memory
        from nas_bo.hardware.measuring.memory_measure import measured_training

        for spec in self.decoders(AROUND[:2]):
            said = memory.training(spec, 4, 60, VOCAB).total
            assert said > 0
            if isinstance(self.block, Trained):
                seen = measured_training(spec, 4, 60, VOCAB, "cpu")
                assert self.training_memory[0] * seen <= said <= self.training_memory[1] * seen, (
                    f"training {spec}: saved_values and undone_values say {said:,.0f} bytes, a step took {seen:,.0f}; it must be "
                    f"{self.training_memory[0]:g} to {self.training_memory[1]:g} times that"
                )

    # ---- the module -----------------------------------------------------------------------------------------------

    def test_no_token_sees_a_later_one(self) -> None:
        import torch

        for spec in self.decoders():
            model = self.built(spec)
            tokens = torch.randint(VOCAB, (2, 70), generator=torch.Generator().manual_seed(1))
            with torch.no_grad():
                full, short = model(tokens), model(tokens[:, :33])
            torch.testing.assert_close(full[:, :33], short)
            assert torch.isfinite(full).all(), f"{spec} gives what is not a finite number"

    def test_token_by_token_is_the_same(self) -> None:
        import pytest
        import torch

        for number, spec in enumerate(self.decoders()):
            model = self.built(spec)
            tokens = torch.randint(VOCAB, (2, 70), generator=torch.Generator().manual_seed(1))
            if not counts.steps(spec):
                with pytest.raises(ModelError, match="does not decode token by token"):
                    model.new_cache(2, 70)
                with pytest.raises(ModelError, match="does not decode token by token"):
                    counts.operations(spec, VOCAB, "decode", 70)
                continue
            with torch.no_grad():
                whole = model(tokens)
                for cuts in CUTS if number < len(self.examples) else CUTS[:-1]:
                    cache = model.new_cache(2, 70)
                    pieces = [model(piece, cache=cache) for piece in torch.split(tokens, cuts, 1)]
                    torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=1e-7, atol=1e-7)
            held = sum(
                t.numel() for s in cache.states for t in (s if isinstance(s, tuple) else () if s is None else (s,))
            )
            assert counts.kv_cache_bytes(spec, 70, 8, 2) == held * 8, spec

    def test_it_learns(self) -> None:
        import torch

        for spec in self.decoders():
            model = self.built(spec).train()
            tokens = torch.randint(VOCAB, (2, 24), generator=torch.Generator().manual_seed(1))
            optimizer = torch.optim.AdamW(model.parameter_groups(3e-3, 0.1))
            losses = []
            for _ in range(15):
                loss, nll = model.loss(tokens[:, :-1], tokens[:, 1:])
                loss.backward()
                losses.append(float(nll.detach()))
                for name, weight in model.named_parameters():
                    assert weight.grad is not None and torch.isfinite(weight.grad).all(), f"{spec}: gradient of {name}"
                optimizer.step()
                optimizer.zero_grad()
            assert losses[-1] < losses[0], (spec, losses)

    def test_what_it_learned_is_in_its_weights(self) -> None:
        """Saved after some steps and loaded into a new module, it gives the same: nothing learned is kept elsewhere."""
        import io

        import torch

        for spec in self.decoders(AROUND[:1]):
            model = self.built(spec).train()
            tokens = torch.randint(VOCAB, (2, 24), generator=torch.Generator().manual_seed(1))
            optimizer = torch.optim.AdamW(model.parameter_groups(3e-3, 0.1))
            for _ in range(3):
                model.loss(tokens[:, :-1], tokens[:, 1:])[0].backward()
                optimizer.step()
                optimizer.zero_grad()
            file = io.BytesIO()
            torch.save(model.state_dict(), file)
            file.seek(0)
            again = self.built(spec)
            again.load_state_dict(torch.load(file, weights_only=True))
            with torch.no_grad():
                torch.testing.assert_close(again(tokens), model.eval()(tokens), rtol=0, atol=0)

    def test_a_narrower_copy_is_the_same_block(self) -> None:
        """Half and three quarters as wide, as evaluations at low fidelity train it: it can be built, and is smaller."""
        from nas_bo.model.narrow import NARROWEST, narrower

        wide = max(2 * self.width, 2 * NARROWEST)
        for arch in (Node({**one._fields, "width": wide}) for one in self.archs()):
            whole = counts.parameters(check(arch), VOCAB)
            for factor in (0.5, 0.75):
                made = narrower(arch, factor)
                try:
                    spec = check(made)
                except ModelError as error:
                    raise AssertionError(
                        f"{self.block.kind} of {arch} cannot be built at {factor:g} of its width ({error}); "
                        f"{'correct' if isinstance(self.block, Narrowing) else 'give it'} narrowed(fields, width, narrow)"
                    ) from error
                assert [tuple(b.kind for b in layer) for layer in spec.layers] == [
                    tuple(b.kind for b in layer) for layer in check(arch).layers
                ]
                assert counts.parameters(spec, VOCAB) < whole, f"{made} has no fewer parameters than {arch}"
                assert counts.parameters(spec, VOCAB) == sum(w.numel() for w in self.built(spec, "meta").parameters())

    def test_its_first_weights_depend_on_the_seed_only(self) -> None:
        import torch

        for spec in self.decoders():
            one, two = self.built(spec), self.built(spec)
            assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True)), spec

    def test_its_stock_part_computes_the_same(self) -> None:
        """Of a block that exports are to write as a part of stock models."""
        import torch

        from nas_bo.export.stock_parts import in_stock_parts
        from nas_bo.export.weights import filled

        for spec in self.decoders() if isinstance(self.block, Exportable) else ():
            stock = in_stock_parts(spec)
            if stock != spec:  # else it is such a part itself
                model = self.built(spec)
                tokens = torch.randint(VOCAB, (2, 24), generator=torch.Generator().manual_seed(1))
                with torch.no_grad():
                    torch.testing.assert_close(
                        filled(model, stock)(tokens).double(), model(tokens), rtol=1e-4, atol=1e-4
                    )

    # ---- shared weights -------------------------------------------------------------------------------------------

    def test_a_supernet_has_it_or_says_why_not(self) -> None:
        import pytest

        from nas_bo.supernet.slicing import cuts

        for spec in self.decoders():
            if not isinstance(self.block, Sliceable):
                with pytest.raises(ModelError, match="slices"):
                    cuts(spec, VOCAB, frozenset())
                continue
            shapes = {name: tuple(weight.shape) for name, weight in self.built(spec, "meta").named_parameters()}
            found = {}
            for cut in cuts(spec, VOCAB, frozenset()):
                joined = [list(shape) for shape in cut.shapes]
                joined[0][cut.axis] = sum(shape[cut.axis] for shape in joined)
                found[cut.name] = tuple(joined[0])
            assert found == shapes, spec

    def test_a_child_of_a_supernet_computes_the_same_with_weights_of_its_own(self) -> None:
        import torch

        from nas_bo.supernet.weights import Supernet

        if not isinstance(self.block, Sliceable):
            return
        tokens = torch.randint(VOCAB, (2, 9), generator=torch.Generator().manual_seed(1))
        for space in self._shared():
            net = Supernet(space, VOCAB, generator=torch.Generator().manual_seed(0)).eval()
            for arch in space.enumerate():
                child = net.extract(arch)
                with torch.no_grad():
                    shared = net(tokens, arch)
                    torch.testing.assert_close(shared, child(tokens))
                    for weight in child.parameters():
                        weight.zero_()
                    assert torch.equal(shared, net(tokens, arch)), "the child changes the weights of the supernet"

    def _shared(self) -> Iterator[type[Space]]:
        """A space of two widths for each example; and one of all values that a field has in the examples, where others are the same."""
        slot, other = ("mixer", "mlp") if self._mixes else ("mlp", "mixer")
        widths = (self.width, 2 * self.width)
        options = [dict(fields) for fields in self.examples]
        for first in self.examples:
            for name in first:
                values = [
                    fields[name]
                    for fields in self.examples
                    if {**fields, name: None} == {**first, name: None} and isinstance(fields.get(name), (int, str))
                ]
                if len(values) > 1 and values[0] == first[name]:
                    options.append({**first, name: choice(*values)})
        for fields in options:
            yield Space.of(
                "Shared", width=choice(*widths), layers=repeat(2, **{slot: self.word()(**fields), other: skip()})
            )


def _attention_flops(query: Shape, key: Shape, value: Shape, *_: object, **__: object) -> int:
    """Of scores and of weighted values, as torch counts attention on other devices: (batch, heads, tokens, channels) each."""
    batch, heads, tokens, channels = query
    return 2 * batch * heads * tokens * key[2] * (channels + value[3])
