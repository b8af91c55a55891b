"""Drawings of architectures: legible XML, every parameter accounted for, a plain form for what is no decoder of ours."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from nas_bo.architecture import Architecture, Node
from nas_bo.model import counts
from nas_bo.model.connections import skips
from nas_bo.model.spec import check
from nas_bo.report.drawing import BARS, MOST_ROWS, WIDE, _blocks, _norm, drawing
from nas_bo.search_spaces import NAMED
from nas_bo.wording import counted

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return ["".join(t.itertext()) for t in ElementTree.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_named_space_is_drawn_and_the_shares_sum_up(name, seed):
    arch = NAMED[name].sample(seed)
    svg = drawing(arch, vocab_size=300)
    root = ElementTree.fromstring(svg)
    spec = check(arch)
    inside = sum(b.parameters for layer in spec.layers[:: spec.details.tie_layers] for b in _blocks(spec, layer))
    inside += len(skips(len(spec.layers), spec.details))  # their gates
    assert inside + 300 * spec.width * (1 if spec.tied else 2) + _norm(spec) == counts.parameters(arch, 300)
    told = texts(svg)
    assert f"width {spec.width}" in told[1] and f" {counted(len(spec.layers), 'layer')}," in told[1]
    assert told.count("embedding") == 1 and told.count("head") == 1
    shares = [float(m[1]) for t in told if (m := re.fullmatch(r".*, ([\d.]+) %", t))]
    assert 96 < sum(shares) < 102  # each is rounded, what is under 0.1 % is not counted
    for rect in root.iter(f"{SVG}rect"):  # nothing sticks out of the picture
        assert float(rect.get("x", 0)) >= 0 and float(rect.get("x", 0)) + float(rect.get("width")) <= WIDE
        if float(rect.get("x", 0)) < BARS:
            assert float(rect.get("y", 0)) + float(rect.get("height")) <= float(root.get("height"))
    assert len(svg) < 1200 * (len(spec.layers) + 3)


def test_equal_layers_in_a_row_are_one_row():
    layer = Node({"mixer": Node({"kind": "attention", "heads": 4}), "mlp": Node({"kind": "skip"})})
    conv = Node({"mixer": Node({"kind": "conv", "kernel": 4}), "mlp": Node({"kind": "skip"})})
    told = texts(drawing(Node({"width": 64, "layers": (layer,) * 3 + (conv,)})))
    assert "attention  × 3" in told and "0–2" in told and "3" in told and "gated convolution" in told


def test_a_deep_network_is_cut_in_the_middle_and_says_so():
    layers = tuple(
        Node({"mixer": Node({"kind": "conv", "kernel": 3 + i % 2}), "mlp": Node({"kind": "skip"})}) for i in range(90)
    )
    told = texts(drawing(Node({"width": 8, "layers": layers})))
    assert f"{90 - MOST_ROWS} more layers in {90 - MOST_ROWS} kinds of rows" in told
    assert "0" in told and "89" in told and "45" not in told


def test_what_is_no_decoder_is_shown_as_it_is():
    flat = {"depth": 3, "a": "<x & y>", "lr": 0.1}
    other = Architecture(Node({**flat, "cells": (Node({"kind": "mix", "k": 3}),) * 2 + (Node({"kind": "sum"}),)}), flat)
    svg = drawing(other, title="mine <b>")
    told = texts(svg)
    assert told[0] == "mine <b>" and "<x & y>" in told and "cells 0–1" in told and "mix (k 3)" in told
    assert "<b>" not in svg


def test_an_empty_architecture_is_drawn_too():
    assert ElementTree.fromstring(drawing(Architecture(Node({}), {}))).tag == f"{SVG}svg"
