"""The words in which a decoder is written, and the reading of them: names of blocks, their fields, what is allowed.

Loads no torch: search spaces, cost counts and command lines read architectures without it.

==================== ==========================================================================================
top level            ``width``; ``layers`` (each with ``mixer`` and ``mlp``) or ``depth``, ``mixer``, ``mlp``;
                     optional ``norm`` "rms" | "layer", ``position`` "rotary" | "none", ``parallel``, ``tied``, ``bias``
mixer attention      ``heads``, ``kv_group`` (query heads per key/value head), ``head_dim`` (None: width / heads),
                     ``window`` (None: the whole past; w: the last w tokens, the present one included)
mixer linear_attention  ``heads``, ``head_dim``
mixer conv           ``kernel``: gated causal depthwise convolution
mlp dense            ``ratio`` (hidden = round(ratio * width), gated or not), ``activation``, ``gated``
mlp moe              ``experts``, ``top_k``, ``ratio`` (of one expert), ``activation``, ``gated``
skip                 no block at all, as a mixer or as an mlp
==================== ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from nas_bo.architecture import Architecture, Node
from nas_bo.model.spec import (
    MIXER_FIELDS,
    MLP_FIELDS,
    AttentionSpec,
    ConvSpec,
    LinearAttentionSpec,
    MixerSpec,
    MlpSpec,
    SkipSpec,
    check,
)

# ---- words for search spaces --------------------------------------------------------------------------------------


def _option(name: str, **fields: Any) -> Any:
    """The option with the fields that are not at their default: a constant that says nothing must not enter the id of
    an architecture, or the same network would get another id whenever a block gains a field."""
    from nas_bo.space import option

    defaults = (MIXER_FIELDS | MLP_FIELDS)[name]
    said = {k: v for k, v in fields.items() if defaults[k] is ... or v is not defaults[k]}
    return option(name, **said)


def attention(heads: Any, kv_group: Any = 1, head_dim: Any = None, window: Any = None) -> Any:
    """Softmax attention (Vaswani et al. 2017, arXiv 1706.03762) with `heads` query heads.

    Every argument is a constant or a choice. `kv_group` query heads share one key/value head (Ainslie et al. 2023,
    arXiv 2305.13245; kv_group == heads is multi-query). `head_dim` None is width / heads. `window` None sees the whole
    past, w the last w tokens including the present one (Beltagy et al. 2020, arXiv 2004.05150).
    """
    return _option("attention", heads=heads, kv_group=kv_group, head_dim=head_dim, window=window)


def linear_attention(heads: Any, head_dim: Any = None) -> Any:
    """Gated linear attention with one data-dependent decay per head and token: Mamba-2 / SSD (Dao and Gu 2024,
    arXiv 2405.21060). Its state is heads * head_dim * head_dim values whatever the context. `head_dim` None is
    width / heads."""
    return _option("linear_attention", heads=heads, head_dim=head_dim)


def conv(kernel: Any) -> Any:
    """Gated causal depthwise convolution over the last `kernel` tokens (the short convolution of Hyena, Poli et al.
    2023, arXiv 2302.10866, alone): cheap local mixing."""
    return _option("conv", kernel=kernel)


def skip() -> Any:
    """No block: the layer has no mixer, or no MLP."""
    return _option("skip")


def dense(ratio: Any, activation: Any = "gelu", gated: Any = False) -> Any:
    """An MLP of hidden width round(ratio * width). `activation` is "gelu", "silu" or "relu2" (So et al. 2021, arXiv
    2109.08668). `gated` (Shazeer 2020, arXiv 2002.05202) keeps the hidden width, so it has 1.5 times the parameters."""
    return _option("dense", ratio=ratio, activation=activation, gated=gated)


def moe(experts: Any, top_k: Any = 1, ratio: Any = 2, activation: Any = "gelu", gated: Any = False) -> Any:
    """Mixture of experts (Shazeer et al. 2017, arXiv 1701.06538): each token goes to the `top_k` best of `experts`
    MLPs of hidden width round(ratio * width). No token is dropped; training adds the balance loss of the Switch
    Transformer (Fedus et al. 2021, arXiv 2101.03961)."""
    return _option("moe", experts=experts, top_k=top_k, ratio=ratio, activation=activation, gated=gated)


# ---- a short name -------------------------------------------------------------------------------------------------


def label(arch: Architecture | Node, ignore: Collection[str] = ()) -> str:
    """A short human name of at most 60 characters, for runs and tables: ``d64 A4 C7 A2 x2g`` is width 64, attention of
    4 heads, a convolution of kernel 7, attention of 2 heads, each with a gated MLP of twice the width.

    A attention (``/2`` two query heads per key head, ``w64`` window), L linear attention, C convolution, - nothing;
    x dense MLP, m4.2x mixture of 4 experts with 2 active; ``3*C7`` three such layers in a row.
    """
    spec = check(arch, ignore)
    mlps = [_mlp_label(layer.mlp, spec.width) for layer in spec.layers]
    same = len(set(mlps)) == 1
    words = [_mixer_label(one.mixer) + ("" if same else f".{mlp}") for one, mlp in zip(spec.layers, mlps, strict=True)]
    runs: list[tuple[str, int]] = []
    for word in words:
        if runs and runs[-1][0] == word:
            runs[-1] = (word, runs[-1][1] + 1)
        else:
            runs.append((word, 1))
    parts = [word if count == 1 else f"{count}*{word}" for word, count in runs] + (mlps[:1] if same else [])
    text = " ".join([f"d{spec.width}", *parts])
    return text if len(text) <= 60 else f"{text[:47].rsplit(' ', 1)[0]} ... {len(spec.layers)} layers"


def _mixer_label(spec: MixerSpec) -> str:
    if isinstance(spec, AttentionSpec):
        group = f"/{spec.heads // spec.kv_heads}" if spec.kv_heads != spec.heads else ""
        return f"A{spec.heads}{group}" + (f"w{spec.window}" if spec.window else "")
    if isinstance(spec, LinearAttentionSpec):
        return f"L{spec.heads}"
    return f"C{spec.kernel}" if isinstance(spec, ConvSpec) else "-"


def _mlp_label(spec: MlpSpec | SkipSpec, width: int) -> str:
    if isinstance(spec, SkipSpec):
        return "-"
    ratio = f"x{spec.hidden / width:.3g}{'g' if spec.gated else ''}"
    return f"m{spec.experts}.{spec.top_k}{ratio}" if spec.experts else ratio
