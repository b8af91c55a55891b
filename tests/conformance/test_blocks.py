"""The shipped suite on every block of ours."""

from __future__ import annotations

from nas_bo.model.blocks.table import OURS, known
from nas_bo.testing import BlockTests


class TestAttention(BlockTests):
    block = known()["attention"]
    examples = (
        {"heads": 2},
        {"heads": 4, "kv_group": 2, "head_dim": 6},
        {"heads": 2, "kv_group": 2, "window": 8},
        {"heads": 4, "kv_group": 2, "qk_norm": "head", "qkv_bias": True, "out_bias": False},
        {"heads": 4, "kv_group": 2, "qk_norm": "whole", "rotary_share": 0.5, "window": 8},
        {"heads": 4, "kv_group": 2, "sinks": True, "value_dim": 6},
        {"heads": 2, "sinks": True, "window": 8, "rotary_share": 0},
    )


class TestLinearAttention(BlockTests):
    block = known()["linear_attention"]
    examples = ({"heads": 2}, {"heads": 1, "head_dim": 6})


class TestConv(BlockTests):
    block = known()["conv"]
    examples = (
        {"kernel": 1},
        {"kernel": 4},
        {"kernel": 11},
        {"kernel": 3, "gates": "linear2"},
        {"kernel": 9, "gates": "linear2"},
    )


class TestGatedDelta(BlockTests):
    block = known()["gated_delta"]
    examples = ({"heads": 2}, {"heads": 1, "head_dim": 6, "kernel": 1})


class TestLatentAttention(BlockTests):
    block = known()["latent_attention"]
    examples = ({"heads": 2, "latent": 6}, {"heads": 4, "latent": 3, "head_dim": 6, "turned": 4})


class TestSsm(BlockTests):
    block = known()["ssm"]
    examples = ({"heads": 2, "state": 8}, {"heads": 1, "head_dim": 6, "kernel": 1, "state": 3})


class TestDense(BlockTests):
    block = known()["dense"]
    examples = (
        {"ratio": 2},
        {"ratio": 1.5, "activation": "silu", "gated": True},
        {"ratio": 1, "activation": "relu2"},
        {"ratio": 1, "activation": "gelu_tanh"},
    )


class TestMoe(BlockTests):
    block = known()["moe"]
    examples = (
        {"experts": 4, "top_k": 2},
        {"experts": 3, "ratio": 1, "gated": True},
        {"experts": 4, "top_k": 2, "renormalise": False},
        {"experts": 3, "renormalise": True},
    )


def test_every_block_of_ours_is_tested():
    tested = {
        one.block.kind
        for one in globals().values()
        if isinstance(one, type) and issubclass(one, BlockTests) and one is not BlockTests
    }
    assert tested == {*OURS} - {"skip"}
