"""Which stock classes hold an architecture exactly, decided from the architecture alone; and why the others do not.

Loads no torch. `uniform` says what is filled with zeros, `nas_bo.export.weights` does it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from math import gcd
from operator import itemgetter
from typing import Any, NamedTuple

from nas_bo.architecture import Architecture, Node
from nas_bo.export.homes import Home
from nas_bo.export.stock_parts import in_stock_parts
from nas_bo.model.after_training import deployed
from nas_bo.model.blocks.attention import AttentionSpec
from nas_bo.model.blocks.block import Frame
from nas_bo.model.blocks.conv import ConvSpec
from nas_bo.model.blocks.dense import MlpSpec
from nas_bo.model.blocks.details import Details
from nas_bo.model.blocks.skip import absent
from nas_bo.model.blocks.table import stock_part_of
from nas_bo.model.counts import parameters
from nas_bo.model.spec import DecoderSpec, LayerSpec, check
from nas_bo.wording import plural

LEAST_HIDDEN = 8  # channels of an MLP of zeros where there is no other one


@dataclass(frozen=True)
class Fit:
    """Whether a stock class holds an architecture.

    Attributes:
        home: the class.
        reasons: why not, each with its field; () where it does.
        spec: the decoder as the class has it, zeros included; None where it does not fit.
        padding: how many parameters of zeros that adds, as a share of its own.
    """

    home: Home
    reasons: tuple[str, ...]
    spec: DecoderSpec | None = None
    padding: float = 0.0


def fits(
    arch: Architecture | Node | DecoderSpec,
    homes: Sequence[Home],
    ignore: Collection[str] = (),
    vocab_size: int = 256,
    *,
    every: bool = True,
) -> list[Fit]:
    """One per home, the best first: those that hold it before those that do not, fewest zeros before more, fewest reasons before
    more; else in the order of `homes` (raises ModelError for what is not a decoder).

    Args:
        every: False leaves out homes that come after one which holds it without zeros.
    """
    spec, found = _spec(arch, ignore), list[Fit]()
    parts = _parts(spec)
    for home in homes:
        found.append(_fit(spec, parts, home, vocab_size))
        if not every and _order(found[-1]) <= (False, 0.0, 0):
            break
    return sorted(found, key=_order)


def _spec(arch: Architecture | Node | DecoderSpec, ignore: Collection[str]) -> DecoderSpec:
    made = arch if isinstance(arch, DecoderSpec) else deployed(check(arch, ignore))
    return in_stock_parts(made._replace(after=None))


def _order(fit: Fit) -> tuple[bool, float, int]:
    return bool(fit.reasons), round(fit.padding, 9), len(fit.reasons)


def why_not(found: Sequence[Fit], most: int = 3) -> str:
    """The classes that come nearest, and what of the architecture each has no place for."""
    said: dict[str, list[str]] = {}
    for fit in found:
        said.setdefault(_counted(fit.reasons), []).append(fit.home.name)
    return ". ".join(f"{', '.join(names)}: {reasons}" for reasons, names in list(said.items())[:most])


def _counted(reasons: Sequence[str]) -> str:
    """``mixer is conv, where it has attention (layers 0, 2)``"""
    layers: dict[str, list[str]] = {}
    for reason in reasons:
        found = re.fullmatch(r"layers\.(\d+)\.(.*)", reason)
        layers.setdefault(found[2] if found else reason, []).extend([found[1]] if found else [])
    parts = []
    for text, at in layers.items():
        where = ", ".join(at[:4]) + (", ..." if len(at) > 4 else "")
        parts.append(f"{text} ({plural(len(at), 'layer')} {where})" if at else text)
    return "; ".join(parts)


class _Parts(NamedTuple):
    """What is asked of every home.

    Attributes:
        layers: the different ones, each with its indices.
        attention, mlps: of the layers that have one.
    """

    frame: Frame
    layers: dict[LayerSpec, list[int]]
    attention: list[AttentionSpec]
    mlps: list[MlpSpec]


def _parts(spec: DecoderSpec) -> _Parts:
    layers: dict[LayerSpec, list[int]] = {}
    for index, layer in enumerate(spec.layers):
        layers.setdefault(layer, []).append(index)
    return _Parts(spec.frame, layers, attentions(spec), mlps_of(spec))


def _fit(spec: DecoderSpec, parts: _Parts, home: Home, vocab_size: int) -> Fit:
    reasons = tuple(dict.fromkeys(_reasons(spec, parts, home)))
    if reasons:
        return Fit(home, reasons)
    made = uniform(spec, home)
    held = parameters(made, vocab_size) + (_beside(made) if home.shared else 0)
    return Fit(home, (), made, held / max(1, parameters(spec._replace(finer=_untied(spec).finer), vocab_size)) - 1)


def _beside(spec: DecoderSpec) -> int:
    """Zeros in a class with `shared` experts: those of each mixture, and the mixture next to each dense MLP."""
    mixture = next(one for one in mlps_of(spec) if one.experts)
    each = 3 * spec.width * mixture.hidden  # of one expert, gated
    router = spec.width * mixture.experts
    return sum(
        each * shared_experts(spec) if layer.mlp.experts else each * mixture.experts + router for layer in spec.layers
    )


def shared_experts(spec: DecoderSpec) -> int:
    """How many experts of a mixture are as large as the largest dense MLP, at least one."""
    mlps = mlps_of(spec)
    mixture = next(one for one in mlps if one.experts)
    return max(1, *(-(-one.hidden // mixture.hidden) for one in mlps if not one.experts), 1)


def _untied(spec: DecoderSpec) -> DecoderSpec:
    return spec._replace(finer=_plain(spec.details._replace(tie_layers=1)))


def _plain(details: Details) -> Details | None:
    return None if details == Details() else details


def _reasons(spec: DecoderSpec, parts: _Parts, home: Home) -> Iterator[str]:
    """Each begins with the field."""
    details = spec.details
    if spec.norm != home.norm:
        yield f"norm={spec.norm!r}, where it has {home.norm!r}"
    if details.norm_place != home.norm_place:
        yield f"norm_place={details.norm_place!r}, where it has {home.norm_place!r}"
    if spec.position not in home.position:
        yield f"position={spec.position!r}, where it has {' or '.join(map(repr, home.position))}"
    if (details.parallel_norms if spec.parallel else 0) not in home.parallel:
        yield f"parallel={spec.parallel}" + (f" with parallel_norms={details.parallel_norms}" if spec.parallel else "")
    if details.rope_scaling not in home.scalings:
        yield f"rope_scaling={details.rope_scaling!r}"
    if spec.tied not in home.tied:
        yield f"tied={spec.tied}"
    if details.long_skips and len(spec.layers) > 2:
        yield "long_skips=True, which no stock class has"
    if (details.logit_cap is not None) and not home.cap:
        yield f"logit_cap={details.logit_cap:g}"
    if home.scaled != (details.embedding_scale == "sqrt_width") or isinstance(details.embedding_scale, float):
        yield f"embedding_scale={details.embedding_scale!r}"
    if not spec.layers:
        yield "depth=0, where at least one layer is needed"
    if spec.bias and not home.biases:
        yield "bias=True"
    found = [
        (index, reason)
        for layer, places in parts.layers.items()
        for reason in (*_mixer(layer.mixer, spec, parts.frame, home), *_mlp(layer.mlp, parts.frame, home))
        for index in places
    ]
    yield from (f"layers.{index}.{reason}" for index, reason in sorted(found, key=itemgetter(0)))
    yield from _together(spec, parts, home)


def _mixer(mixer: Any, spec: DecoderSpec, frame: Frame, home: Home) -> Iterator[str]:
    if absent(mixer):
        return
    part = stock_part_of(mixer, frame)
    if mixer.kind not in home.mixers:
        yield f"mixer is {mixer.kind}, where it has {' or '.join(home.mixers)}"
    elif part.conv is not None and part.conv.gates != "linear2":
        yield f"mixer.gates={part.conv.gates!r}, where it has 'linear2'"
    elif part.attention is not None:
        yield from _attention(part.attention, spec, frame, home)


def _attention(mixer: AttentionSpec, spec: DecoderSpec, frame: Frame, home: Home) -> Iterator[str]:
    if mixer.share_kv:
        yield "mixer.share_kv=True, which no stock class has"
    if mixer.sinks:
        yield "mixer.sinks=True"
    if mixer.value_dim is not None:
        yield f"mixer.value_dim={mixer.value_dim}, where values are as large as keys"
    if mixer.qk_norm != home.qk_norm:
        yield f"mixer.qk_norm={mixer.qk_norm!r}, where it has {home.qk_norm!r}"
    if spec.position == "rotary" and mixer.rotary_share != 1 and not (home.partial and mixer.rotary_share > 0):
        yield f"mixer.rotary_share={mixer.rotary_share:g}"
    if mixer.window is not None and home.window == "none":
        yield f"mixer.window={mixer.window}, where every token sees all before it"
    into, out = mixer.biases(frame)
    if (into and not home.attention_bias) or (out and home.attention_bias is not True):
        yield f"mixer has biases (qkv_bias={into}, out_bias={out})"


def _mlp(mlp: Any, frame: Frame, home: Home) -> Iterator[str]:
    if absent(mlp):
        return
    accepted = {*home.mlps, "dense"} if home.dense_too else {*home.mlps}
    if mlp.kind not in accepted:
        yield f"mlp is {mlp.kind}, where it has {' or '.join(home.mlps)}"
    elif (mlp := stock_part_of(mlp, frame).mlp) is not None:
        if mlp.gated != home.gated:
            yield f"mlp.gated={mlp.gated}, where it has {home.gated}"
        if mlp.activation not in home.activations:
            yield f"mlp.activation={mlp.activation!r}, where it has {' or '.join(map(repr, home.activations))}"
        if mlp.experts and mlp.top_k < home.least_top_k:
            yield f"mlp.top_k={mlp.top_k}, where it is at least {home.least_top_k}"
        if mlp.experts and home.renormalise not in (None, renormalised(mlp)):
            yield f"mlp.renormalise={renormalised(mlp)}"


def renormalised(mlp: MlpSpec) -> bool:
    return mlp.top_k > 1 if mlp.renormalise is None else mlp.renormalise


def _together(spec: DecoderSpec, parts: _Parts, home: Home) -> Iterator[str]:
    """What all layers must have in common."""
    attention, mlps = parts.attention, parts.mlps
    mixtures = [mlp for mlp in mlps if mlp.experts]
    yield from _differ("mixer.head_dim", [one.head_dim for one in attention])
    yield from _differ("mixer.rotary_share", [one.rotary_share for one in attention])
    yield from _differ("mlp.activation", [one.activation for one in mlps])
    if home.window == "one":
        yield from _differ("mixer.window", [one.window for one in attention])
    elif home.window == "each":
        yield from _differ("mixer.window", [one.window for one in attention if one.window is not None])
    for field in ("experts", "top_k"):
        yield from _differ(f"mlp.{field}", [one._asdict()[field] for one in mixtures])
    yield from _differ("mlp.renormalise", [renormalised(one) for one in mixtures])
    if home.qk_norm == "whole" and (len({one.sizes for one in attention}) > 1 or len(attention) < len(spec.layers)):
        yield "mixer.heads or kv_group differ between layers, and norms over all heads cannot be filled with zeros"
    if "moe" in home.mlps and not mixtures:
        yield "mlp is dense in every layer"
    if mixtures and not home.dense_too and len(mixtures) < len(spec.layers):
        yield "mlp is not a mixture in some layers"
    if spec.details.tie_layers > 1 and home.absent:
        yield f"tie_layers={spec.details.tie_layers}"
    if not attention and "conv" in home.mixers:
        yield "mixer is attention in no layer, and its cache wants one"
    elif not attention:
        yield from ["mixer is absent in every layer"] if all(absent(layer.mixer) for layer in spec.layers) else []
    if home.divides and max((one.heads for one in attention), default=1) > spec.width:
        yield f"mixer.heads={max(one.heads for one in attention)}, where the width is a multiple of them"
    if home.square and attention and len({one.head_dim for one in attention}) == 1:
        dim, heads = attention[0].head_dim, max(one.heads for one in attention)
        if spec.width % dim or heads * dim > spec.width:
            yield f"mixer.head_dim={dim} times heads={heads} is not within width={spec.width}, where it is the width"
        elif home.qk_norm == "whole" and heads * dim != spec.width:
            yield f"mixer.head_dim={dim} times heads={heads} is not width={spec.width}, and norms over all heads cannot be filled with zeros"


def _differ(field: str, values: Sequence[object]) -> Iterator[str]:
    different = list(dict.fromkeys(values))
    if len(different) > 1:
        yield f"{field} differs between layers ({', '.join(map(repr, different[:3]))})"


def attentions(spec: DecoderSpec) -> list[AttentionSpec]:
    frame = spec.frame
    found = (stock_part_of(layer.mixer, frame).attention for layer in spec.layers)
    return [one for one in found if one is not None]


def convs(spec: DecoderSpec) -> list[ConvSpec]:
    found = (stock_part_of(layer.mixer, spec.frame).conv for layer in spec.layers)
    return [one for one in found if one is not None]


def mlps_of(spec: DecoderSpec) -> list[MlpSpec]:
    frame = spec.frame
    found = (stock_part_of(layer.mlp, frame).mlp for layer in spec.layers)
    return [one for one in found if one is not None]


# ---- the decoder as the class has it -----------------------------------------------------------------------------------


def uniform(spec: DecoderSpec, home: Home) -> DecoderSpec:
    """The decoder of which `home` has a configuration: what is missing is filled with zeros, tied layers are copies."""
    if home.name == "deci":
        return _untied(spec)._replace(layers=tuple(_for_deci(spec)))
    if home.absent and _same_heads(spec) and _same_hidden(spec):
        return _untied(spec)
    mixer = _common_mixer(spec, home)
    kernel = max((one.kernel for one in convs(spec)), default=3)
    dense = _common_mlp(spec, home, "dense")
    moe = _common_mlp(spec, home, "moe")
    if home.shared:
        dense = dense._replace(hidden=moe.hidden * -(-dense.hidden // moe.hidden))
    layers = []
    for layer in spec.layers:
        if absent(layer.mixer):
            new_mixer = layer.mixer if home.absent else mixer
            if new_mixer is None:
                new_mixer = ConvSpec("conv", kernel, "linear2")
        elif (attention := stock_part_of(layer.mixer, spec.frame).attention) is not None and mixer is not None:
            new_mixer = attention._replace(heads=mixer.heads, kv_heads=mixer.kv_heads)
        else:
            new_mixer = layer.mixer._replace(kernel=kernel)
        if absent(layer.mlp):
            new_mlp = layer.mlp if home.absent else (dense if "dense" in home.mlps or home.dense_too else moe)
        else:
            new_mlp = layer.mlp._replace(hidden=(moe if layer.mlp.experts else dense).hidden)
        layers.append(LayerSpec(new_mixer, new_mlp))
    return _untied(spec)._replace(layers=tuple(layers))


def _same_heads(spec: DecoderSpec) -> bool:
    return len({(one.heads, one.kv_heads) for one in attentions(spec)}) <= 1


def _same_hidden(spec: DecoderSpec) -> bool:
    return len({one.hidden for one in mlps_of(spec)}) <= 1


def _common_mixer(spec: DecoderSpec, home: Home) -> AttentionSpec | None:
    """Heads enough for every layer: a group as large as the greatest that divides all, keys and values repeated for it."""
    attention = attentions(spec)
    if not attention:
        return None
    group = reduce(gcd, (one.heads // one.kv_heads for one in attention)) if home.grouped else 1
    heads = max(one.heads for one in attention)
    if home.divides:
        heads, group = _dividing(spec.width, heads, group)
    else:
        heads = spec.width // attention[0].head_dim if home.square else -(-heads // group) * group
    return attention[0]._replace(heads=heads, kv_heads=heads // group, window=None)


def _dividing(width: int, least: int, group: int) -> tuple[int, int]:
    """The fewest heads, at least so many, of which the width is a multiple; and the largest group that divides them and `group`."""
    heads = next(one for one in range(least, width + 1) if width % one == 0)
    return heads, gcd(heads, group)


def _common_mlp(spec: DecoderSpec, home: Home, kind: str) -> MlpSpec:
    every = mlps_of(spec)
    mlps = [one for one in every if one.kind == kind]
    if not mlps:
        activation = every[0].activation if every else home.activations[0]
        return MlpSpec(kind, LEAST_HIDDEN, activation, home.gated, 0, 0)
    return mlps[0]._replace(hidden=max(one.hidden for one in mlps))


def _for_deci(spec: DecoderSpec) -> Iterator[LayerSpec]:
    """llama.cpp's graph of `deci` skips the residual where there is attention without an MLP, and takes the size of heads from the
    first layer: those two are filled with zeros, else what it computes is silently wrong."""
    attention = attentions(spec)
    for index, layer in enumerate(spec.layers):
        mixer, mlp = layer
        if index == 0 and absent(mixer):
            mixer = attention[0]._replace(heads=1, kv_heads=1)
        if absent(mlp) and not absent(mixer):
            mlp = MlpSpec("dense", 32, "silu", True, 0, 0)
        yield LayerSpec(mixer, mlp)
