"""The closed forms against torch itself."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_bo.architecture import Node
from nas_bo.errors import ModelError
from nas_bo.model import active_parameters, blocks, build, counts, flops, kv_cache_bytes, operations, parameters
from tests.model.architectures import ATTENTION, CONV, DENSE, LINEAR, MOE, SKIP, WINDOW, architectures, decoder, layer
from tests.model.torch_flops import counted

VOCAB = 17


def torch_flops(model: torch.nn.Module, tokens: int, batch: int) -> int:
    with counted() as counter:
        model(torch.zeros(batch, tokens, dtype=torch.long))
    return counter.get_total_flops()


@settings(max_examples=30, deadline=None)
@given(architectures(), st.integers(1, 150), st.integers(1, 3))
def test_parameters_and_flops_are_exact(arch: Node, tokens: int, batch: int) -> None:
    model = build(arch, VOCAB)
    assert parameters(arch, VOCAB) == sum(weight.numel() for weight in model.parameters())
    assert flops(arch, VOCAB, tokens, batch) == torch_flops(model, tokens, batch)


@settings(max_examples=30, deadline=None)
@given(architectures(), st.integers(1, 150), st.integers(1, 3))
def test_prefill_operations_add_up(arch: Node, tokens: int, batch: int) -> None:
    rows = operations(arch, VOCAB, "prefill", tokens, batch, logits="all")
    assert sum(row.flops for row in rows) == flops(arch, VOCAB, tokens, batch)
    ends = operations(arch, VOCAB, "prefill", tokens, batch)
    model = build(arch, VOCAB)
    with counted() as counter:
        model(torch.zeros(batch, tokens, dtype=torch.long), last=True)
    assert sum(row.flops for row in ends) == counter.get_total_flops()
    assert len({row.name for row in rows}) == len(rows)
    assert all(min(row[1:]) >= 0 for row in rows)


@settings(max_examples=30, deadline=None)
@given(architectures(), st.integers(2, 90), st.integers(1, 3))
def test_decode_operations_and_cache_bytes_match_a_real_cache(arch: Node, context: int, batch: int) -> None:
    model = build(arch, VOCAB)
    tokens = torch.zeros(batch, context, dtype=torch.long)
    cache = model.new_cache(batch, context)
    with torch.no_grad():
        model(tokens[:, :-1], cache=cache)
    with counted() as counter:
        model(tokens[:, -1:], cache=cache)
    assert sum(row.flops for row in operations(arch, VOCAB, "decode", context, batch)) == counter.get_total_flops()
    held = 0
    for state in cache.states:
        for tensor in state if isinstance(state, tuple) else () if state is None else (state,):
            held += tensor.numel()
    assert kv_cache_bytes(arch, context, 4, batch) == held * 4


@settings(max_examples=30, deadline=None)
@given(architectures())
def test_prefill_weights_are_the_active_parameters(arch: Node) -> None:
    rows = operations(arch, VOCAB, "prefill", 1)
    tied_twice = 0 if arch.get("tied", True) is False else VOCAB * arch.width
    embedding = (VOCAB - 1) * arch.width  # one token reads one row of the embedding, and one learned position
    embedding += (arch.get("max_length", 1) - 1) * arch.width
    assert sum(row.weight_elements for row in rows) + embedding - tied_twice == active_parameters(arch, VOCAB)


def test_known_sizes() -> None:
    arch = decoder(layer(ATTENTION, DENSE), width=64)
    assert parameters(arch, 256) == 256 * 64 + 64 + 4 * 64 * 64 + 2 * 64 * 128 + 2 * 64
    assert flops(arch, 256, 1) == 2 * (256 * 64 + 4 * 64 * 64 + 2 * 64 * 128) + 4 * 64
    assert active_parameters(arch, 256) == parameters(arch, 256)
    mixture = decoder(layer(SKIP, MOE), width=64)
    assert parameters(mixture, 256) - active_parameters(mixture, 256) == 2 * 3 * 64 * 64


def test_cache_grows_with_context_only_where_it_must() -> None:
    def bytes_of(mixer: Node, context: int) -> int:
        return kv_cache_bytes(decoder(layer(mixer, SKIP)), context)

    assert bytes_of(ATTENTION, 200) == 2 * bytes_of(ATTENTION, 100) == 2 * 100 * 2 * 32 * 2
    assert bytes_of(WINDOW, 200) == bytes_of(WINDOW, 5) == 5 * 2 * 2 * 6 * 2
    assert bytes_of(LINEAR, 200) == bytes_of(LINEAR, 1) == 2 * 16 * 16 * 2
    assert bytes_of(CONV, 200) == 3 * 32 * 2
    assert bytes_of(SKIP, 200) == 0


def test_the_chunk_is_the_same_on_both_sides() -> None:
    assert counts.CHUNK == blocks.CHUNK


def test_operations_refuse_what_is_no_phase() -> None:
    arch = decoder(layer(ATTENTION, DENSE))
    with pytest.raises(ModelError, match=r"phase='train'.*must be 'prefill' or 'decode'"):
        operations(arch, VOCAB, "train", 4)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="context=0"):
        operations(arch, VOCAB, "prefill", 0)
