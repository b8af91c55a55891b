"""Architectures for the tests of room 2: written by hand, and drawn by Hypothesis over the whole vocabulary."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from nas_bo.architecture import Node


def block(kind: str, **fields: Any) -> Node:
    return Node({"kind": kind, **fields})


def layer(mixer: Node, mlp: Node) -> Node:
    return Node({"mixer": mixer, "mlp": mlp})


def decoder(*layers: Node, width: int = 32, **fields: Any) -> Node:
    return Node({"width": width, "layers": layers, **fields})


ATTENTION = block("attention", heads=2, kv_group=1, head_dim=None, window=None)
WINDOW = block("attention", heads=4, kv_group=2, head_dim=6, window=5)
LINEAR = block("linear_attention", heads=2, head_dim=None)
CONV = block("conv", kernel=4)
LONG_CONV = block("conv", kernel=11)
SKIP = block("skip")
DENSE = block("dense", ratio=2, activation="gelu", gated=False)
GATED = block("dense", ratio=1.5, activation="silu", gated=True)
MOE = block("moe", experts=4, top_k=2, ratio=1, activation="relu2", gated=True)

MIXERS = {
    "attention": ATTENTION,
    "multi_query": block("attention", heads=4, kv_group=4),
    "window": WINDOW,
    "linear_attention": LINEAR,
    "conv": CONV,
    "long_conv": LONG_CONV,
    "kernel_1": block("conv", kernel=1),
    "skip": SKIP,
}


@st.composite
def _attention(draw: st.DrawFn) -> Node:
    group = draw(st.sampled_from((1, 2, 3)))
    fields: dict[str, Any] = {"heads": group * draw(st.sampled_from((1, 2, 4)))}
    fields["head_dim"] = draw(st.sampled_from((2, 6, 8)))
    if group > 1 or draw(st.booleans()):
        fields["kv_group"] = group
    if draw(st.booleans()):
        fields["window"] = draw(st.one_of(st.none(), st.integers(1, 80)))
    if fields["head_dim"] > 2:
        fields["rotary_share"] = draw(st.sampled_from((0, {6: 0.34, 8: 0.5}[fields["head_dim"]], 1.0)))
    for name, values in {
        "qk_norm": (None, "head", "whole"),
        "qkv_bias": (None, False, True),
        "out_bias": (None, False, True),
        "sinks": (False, True),
        "value_dim": (None, 3, 8),
    }.items():
        if draw(st.booleans()):
            fields[name] = draw(st.sampled_from(values))
    return block("attention", **fields)


_mixers = st.one_of(
    _attention(),
    st.builds(
        lambda heads, dim: block("linear_attention", heads=heads, head_dim=dim),
        st.sampled_from((1, 2, 4)),
        st.sampled_from((None, 3, 8)),
    ),
    st.builds(lambda kernel: block("conv", kernel=kernel), st.integers(1, 12)),
    st.just(SKIP),
)


@st.composite
def _mlp(draw: st.DrawFn) -> Node:
    kind = draw(st.sampled_from(("dense", "moe", "skip")))
    if kind == "skip":
        return SKIP
    fields: dict[str, Any] = {
        "ratio": draw(st.one_of(st.integers(1, 3), st.floats(0.3, 3.0))),
        "activation": draw(st.sampled_from(("gelu", "silu", "relu2", "gelu_tanh"))),
        "gated": draw(st.booleans()),
    }
    if kind == "moe":
        fields["experts"] = draw(st.integers(1, 5))
        fields["top_k"] = draw(st.integers(1, fields["experts"]))
        fields["renormalise"] = draw(st.sampled_from((None, False, True)))
    return block(kind, **fields)


@st.composite
def architectures(draw: st.DrawFn) -> Node:
    """Any architecture of the vocabulary, small."""
    fields: dict[str, Any] = {"width": draw(st.sampled_from((4, 8, 24)))}
    if draw(st.booleans()):
        fields["layers"] = tuple(layer(draw(_mixers), draw(_mlp())) for _ in range(draw(st.integers(0, 4))))
    else:
        fields |= {"depth": draw(st.integers(0, 3)), "mixer": draw(_mixers), "mlp": draw(_mlp())}
    for name, values in {
        "norm": ("rms", "layer"),
        "position": ("rotary", "none"),
        "parallel": (False, True),
        "tied": (False, True),
        "bias": (False, True),
    }.items():
        if draw(st.booleans()):
            fields[name] = draw(st.sampled_from(values))
    return Node({**fields, **draw(_details(fields))})


@st.composite
def _details(draw: st.DrawFn, fields: dict[str, Any]) -> dict[str, Any]:
    """Details that fit the other fields at the top."""
    found: dict[str, Any] = {}
    if draw(st.booleans()):
        return found
    if fields.get("position", "rotary") == "rotary":
        found |= draw(
            st.sampled_from(
                (
                    {},
                    {"rope_theta": 500000.0},
                    {"rope_scaling": "linear", "rope_factor": 2.0},
                    {"rope_scaling": "llama3", "rope_factor": 8.0, "rope_length": 16},
                    {"rope_scaling": "yarn", "rope_factor": 4.0, "rope_length": 16},
                )
            )
        )
    elif draw(st.booleans()):
        found |= {"position": "learned", "max_length": 160}
    if fields.get("parallel"):
        found["parallel_norms"] = draw(st.sampled_from((1, 2)))
    else:
        found["norm_place"] = draw(st.sampled_from(("pre", "post", "sandwich")))
    if fields.get("norm") == "layer":
        found["norm_bias"] = draw(st.sampled_from((None, False, True)))
    for name, values in {
        "norm_eps": (None, 1e-5),
        "embedding_scale": (None, 2.0, "sqrt_width"),
        "logit_cap": (None, 5.0),
    }.items():
        if draw(st.booleans()):
            found[name] = draw(st.sampled_from(values))
    return found
