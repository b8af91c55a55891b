"""The workload against the counts, which `tests/model/test_counts.py` compares with built models."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_bo.architecture import Node
from nas_bo.errors import ObjectiveError
from nas_bo.hardware.latency.roofline import Roofline
from nas_bo.hardware.workload import BYTES, workload
from nas_bo.model import kv_cache_bytes, operations, parameters
from tests.model.architectures import ATTENTION, CONV, DENSE, WINDOW, architectures, decoder, layer

VOCAB = 17


@settings(max_examples=40, deadline=None)
@given(architectures(), st.sampled_from(("prefill", "decode")), st.integers(1, 90), st.integers(1, 3))
def test_it_is_the_same_list_as_the_counts(arch: Node, phase: str, context: int, batch: int) -> None:
    rows = operations(arch, VOCAB, phase, context, batch)  # type: ignore[arg-type]
    whole = workload(arch, phase, batch, context, "float16", VOCAB)  # type: ignore[arg-type]
    assert (whole.flops, whole.parameters) == (sum(row.flops for row in rows), parameters(arch, VOCAB))
    assert whole.parameter_bytes == 2 * whole.parameters
    held, moved = whole.kv_cache_bytes, sum(work.cache_bytes for work in whole.operations)
    assert held == kv_cache_bytes(arch, context, 2, batch)
    assert phase == "prefill" or held <= moved <= 2 * held
    got = whole.operations
    assert [work.name for work in got] == [row.name for row in rows]
    assert [work.moved_bytes for work in got] == [2 * (row.weight_elements + row.activation_elements) for row in rows]
    assert all(min(work[2:]) >= 0 for work in got)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_the_roofline_adds_up_over_the_workload(phase: str) -> None:
    arch = decoder(layer(ATTENTION, DENSE), layer(ATTENTION, DENSE), width=64)
    roofline = Roofline()
    whole = roofline.milliseconds(arch, 256, phase, 32, 2)  # type: ignore[arg-type]
    works = workload(arch, phase, 2, 32).operations  # type: ignore[arg-type]
    assert roofline.operations_ms(works).sum() == pytest.approx(whole)


@pytest.mark.parametrize(
    "wrong", [{"phase": "train"}, {"dtype": "float12"}, {"context": 0}, {"batch": 1.5}, {"vocab_size": True}]
)
def test_wrong_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ObjectiveError, match=next(iter(wrong))):
        workload(decoder(layer(ATTENTION, DENSE)), **wrong)


def test_every_data_type_has_a_size() -> None:
    arch = decoder(layer(ATTENTION, DENSE))
    sizes = {name: workload(arch, dtype=name).moved_bytes / BYTES[name] for name in BYTES}
    assert len(set(sizes.values())) == 1


def test_softmax_terms_are_heads_times_queries_times_keys() -> None:
    arch = decoder(layer(ATTENTION, DENSE), layer(WINDOW, DENSE), layer(CONV, DENSE), width=32)
    for phase, expected in (("prefill", [2 * 40 * 40, 4 * 40 * 40]), ("decode", [2 * 40, 4 * 5])):
        found = workload(arch, phase, 3, 40).operations  # type: ignore[arg-type]
        assert [work.scores for work in found if work.kind == "mixer.attention"] == [3 * n for n in expected]
        assert not any(work.scores for work in found if work.kind != "mixer.attention")
