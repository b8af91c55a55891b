"""The words in which a decoder is written, and the reading of them: names of blocks, their fields, what is allowed.

Loads no torch: search spaces, cost counts and command lines read architectures without it.

==================== ==========================================================================================
top level            ``width``; ``layers`` (each with ``mixer`` and ``mlp``) or ``depth``, ``mixer``, ``mlp``;
                     optional ``norm`` "rms" | "layer", ``position`` "rotary" | "none" | "learned", ``parallel``, ``tied``,
                     ``bias``, and the details of `nas_bo.model.blocks.details`: ``norm_place``, ``rope_theta``, ...
mixer attention      ``heads``, ``kv_group`` (query heads per key/value head), ``head_dim`` (None: width / heads),
                     ``window`` (None: the whole past; w: the last w tokens, the present one included), ``qk_norm`` None |
                     "head" | "whole", ``qkv_bias``, ``out_bias``, ``rotary_share``, ``sinks``, ``value_dim``, ``share_kv`` (keys
                     and values are those of the nearest earlier layer that has some)
mixer linear_attention  ``heads``, ``head_dim``
mixer conv           ``kernel``: gated causal depthwise convolution; ``gates`` "silu" | "linear2"
mixer gated_delta    ``heads``, ``head_dim``, ``kernel``: gated delta rule with a short convolution
mixer ssm            ``heads``, ``head_dim``, ``state``, ``kernel``: Mamba-2 with its short convolution
mixer latent_attention  ``heads``, ``latent``, ``head_dim``, ``turned``: keys and values from one latent per token
mlp dense            ``ratio`` (hidden = round(ratio * width), gated or not), ``activation``, ``gated``
mlp moe              ``experts``, ``top_k``, ``ratio`` (of one expert), ``activation``, ``gated``, ``renormalise``
skip                 no block at all, as a mixer or as an mlp
==================== ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, Any, ParamSpec

from nas_bo.architecture import Architecture, Node
from nas_bo.errors import ModelError, near
from nas_bo.model.blocks.block import Block
from nas_bo.model.blocks.table import OURS, known, label_of, register
from nas_bo.model.spec import DecoderSpec, check
from nas_bo.wording import counted

if TYPE_CHECKING:
    from nas_bo.space.domain import Field, Option

P = ParamSpec("P")

# ---- words for search spaces --------------------------------------------------------------------------------------


def _option(name: str, **fields: Field) -> Option:
    """The option with the fields that are not at their default: a constant that says nothing must not enter the id of
    an architecture, or the same network would get another id whenever a block gains a field."""
    from nas_bo.space import option

    defaults = known()[name].fields
    return option(name, **{k: v for k, v in fields.items() if defaults[k] is ... or not _same(v, defaults[k])})


def _same(value: object, default: object) -> bool:
    """Whether a value is the default: 1 is 1.0, and True is not 1."""
    numbers = value.__class__ in (int, float) and default.__class__ in (int, float)
    return value is default or ((numbers or value.__class__ is default.__class__ is str) and bool(value == default))


def _knowing(word: Callable[P, Option]) -> Callable[P, Option]:
    """A word that says which fields it has where it is given another one, too many, or too few: Python says less."""
    kind, call = word.__name__, signature(word)
    fields = list(call.parameters)

    @wraps(word)
    def checked(*args: P.args, **given: P.kwargs) -> Option:
        try:
            call.bind(*args, **given)
        except TypeError as error:
            for name in given:
                if name not in fields:
                    others = [other for other, block in known().items() if name in block.fields]
                    there = f"; {name} is a field of {' and '.join(others)}" if others else ""
                    raise ModelError(
                        f"{kind} has no field {name!r}{near(name, fields)}; it has {', '.join(fields)}{there}"
                    ) from None
            raise ModelError(f"{kind}(): {error}; its fields are {', '.join(fields)}") from None
        return word(*args, **given)

    return checked


@_knowing
def attention(
    heads: Field,
    kv_group: Field = 1,
    head_dim: Field = None,
    window: Field = None,
    *,
    qk_norm: Field = None,
    qkv_bias: Field = None,
    out_bias: Field = None,
    rotary_share: Field = 1.0,
    sinks: Field = False,
    value_dim: Field = None,
    share_kv: Field = False,
) -> Option:
    """Softmax attention (Vaswani et al. 2017, arXiv 1706.03762) with `heads` query heads.

    Every argument is a constant or a choice. `kv_group` query heads share one key/value head (Ainslie et al. 2023,
    arXiv 2305.13245; kv_group == heads is multi-query). `head_dim` None is width / heads. `window` None sees the whole
    past, w the last w tokens including the present one (Beltagy et al. 2020, arXiv 2004.05150).

    `qk_norm` is an rms norm of queries and keys: "head", each head for itself (Qwen3: arXiv 2505.09388, LFM2), or "whole", all
    heads together (OLMo 2: arXiv 2501.00656, OLMoE). `qkv_bias` and `out_bias` None are the `bias` of the decoder; Qwen2 has
    qkv_bias=True alone (arXiv 2407.10671). `rotary_share` is the part of each head that rotary positions turn (GPT-NeoX: arXiv
    2204.06745), 0 for none. `share_kv` takes the keys and values of the nearest earlier attention that has some, of equal shape
    (Brandon et al. 2024, arXiv 2405.12981): queries and the output are all that is left. `sinks` adds a learned term to every softmax (gpt-oss: arXiv 2508.10925). `value_dim` is the head
    dimension of values, None for that of keys.
    """
    return _option("attention", **locals())


@_knowing
def linear_attention(heads: Field, head_dim: Field = None) -> Option:
    """Gated linear attention with one data-dependent decay per head and token: Mamba-2 / SSD (Dao and Gu 2024,
    arXiv 2405.21060). Its state is heads * head_dim * head_dim values whatever the context. `head_dim` None is
    width / heads."""
    return _option("linear_attention", heads=heads, head_dim=head_dim)


@_knowing
def conv(kernel: Field, gates: Field = "silu") -> Option:
    """Gated causal depthwise convolution over the last `kernel` tokens (the short convolution of Hyena, Poli et al.
    2023, arXiv 2302.10866, alone): cheap local mixing. `gates` "silu" is one gate after it; "linear2" is a linear gate before and
    one after, out(C * conv(B * x)), as in LFM2 (Liquid AI 2025, arXiv 2511.23404)."""
    return _option("conv", kernel=kernel, gates=gates)


@_knowing
def gated_delta(heads: Field, head_dim: Field = None, kernel: Field = 4) -> Option:
    """Gated DeltaNet (Yang, Kautz and Hatamizadeh 2024, arXiv 2412.06464): `heads` states of head_dim * head_dim values that forget
    and correct themselves. `kernel` is that of the short convolution of queries, keys and values; `head_dim` None is width / heads."""
    return _option("gated_delta", heads=heads, head_dim=head_dim, kernel=kernel)


@_knowing
def latent_attention(heads: Field, latent: Field, head_dim: Field = None, turned: Field = None) -> Option:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): the cache holds `latent` values per token, and `turned` that rotary
    positions turn (None: half of head_dim, even). `head_dim` None is width / heads."""
    return _option("latent_attention", heads=heads, latent=latent, head_dim=head_dim, turned=turned)


@_knowing
def ssm(heads: Field, head_dim: Field = None, state: Field = 16, kernel: Field = 4) -> Option:
    """Mamba-2 (Dao and Gu 2024, arXiv 2405.21060) with its short convolution over `kernel` tokens: `heads` heads of `head_dim`
    channels (None: 2 * width / heads), each with `state` values per channel."""
    return _option("ssm", heads=heads, head_dim=head_dim, state=state, kernel=kernel)


def skip() -> Option:
    """No block: the layer has no mixer, or no MLP."""
    return _option("skip")


@_knowing
def dense(ratio: Field, activation: Field = "gelu", gated: Field = False) -> Option:
    """An MLP of hidden width round(ratio * width). `activation` is "gelu", "gelu_tanh" (its approximation in
    GPT-2), "silu" or "relu2" (So et al. 2021, arXiv 2109.08668). `gated` (Shazeer 2020, arXiv 2002.05202) keeps the hidden width, so it has 1.5 times the parameters."""
    return _option("dense", ratio=ratio, activation=activation, gated=gated)


@_knowing
def moe(
    experts: Field,
    top_k: Field = 1,
    ratio: Field = 2,
    activation: Field = "gelu",
    gated: Field = False,
    renormalise: Field = None,
) -> Option:
    """Mixture of experts (Shazeer et al. 2017, arXiv 1701.06538): each token goes to the `top_k` best of `experts`
    MLPs of hidden width round(ratio * width). No token is dropped; training adds the balance loss of the Switch
    Transformer (Fedus et al. 2021, arXiv 2101.03961). `renormalise` divides the weights of the chosen experts by their sum:
    None where there are several, as in Mixtral (arXiv 2401.04088); OLMoE (arXiv 2409.02060) has False."""
    fields = {"experts": experts, "top_k": top_k, "ratio": ratio, "activation": activation, "gated": gated}
    return _option("moe", **fields, renormalise=renormalise)


class Word:
    """A word of spaces: called with constants and choices it gives the block of these fields.

    Attributes:
        block: the block that it is of.
    """

    def __init__(self, block: Block[Any]) -> None:
        self.block = block
        self.__name__, self.__doc__ = block.kind, type(block).__doc__

    def __call__(self, *values: Field, **fields: Field) -> Option:
        kind, names = self.block.kind, list(self.block.fields)
        if len(values) > len(names):
            raise ModelError(
                f"{kind}() got {counted(len(values), 'value')} and has {counted(len(names), 'field')}: {', '.join(names)}"
            )
        given = {**dict(zip(names, values, strict=False)), **fields}
        for name in given:
            if name not in names:
                has = ", ".join(names) or "no fields"
                raise ModelError(f"{kind} has no field {name!r}{near(name, names)}; it has {has}")
        for name, default in self.block.fields.items():
            if default is ... and name not in given:
                raise ModelError(f"{kind} needs the field {name!r}; its fields are {', '.join(names)}")
        return _option(kind, **given)

    def __repr__(self) -> str:
        return f"{self.block.kind}({', '.join(self.block.fields)})"


def word(block: object) -> Word:
    """The word of a block of your own, to be used in spaces as `attention` and `conv` are: ``pool = word(Pool())``.

    The block is known from then on in this process; in others once they import the module where this is. The contract is
    `nas_bo.model.blocks.Block`; `nas_bo.testing.BlockTests` checks all of it.

    Raises:
        ModelError: something of the contract is missing, the kind is another block's, or it cannot be pickled.
    """
    return Word(register(block))


def __getattr__(name: str) -> Word:
    if name in OURS:
        return Word(known()[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# ---- a short name -------------------------------------------------------------------------------------------------


def _after(spec: DecoderSpec) -> list[str]:
    """What is done after training, as words of a label."""
    if spec.after is None:
        return []
    around, *layers = spec.after
    found = []
    for letter, name, nothing in (("b", "bits", 32), ("v", "kv_bits", 32), ("z", "sparsity", 0.0), ("p", "prune", 0.0)):
        values = [one._asdict()[name] for one in layers]
        first = around.bits if name == "bits" else values[0] if values else nothing
        if any(value != first for value in values):
            found.append(
                f"{letter}{f'{first:g}' if name == 'bits' else ''}:{','.join(f'{value:g}' for value in values)}"
            )
        elif first != nothing:
            found.append(f"{letter}{first:g}")
    return found


def label(arch: Architecture | Node, ignore: Collection[str] = ()) -> str:
    """A short human name of at most 60 characters, for runs and tables: ``d64 A4 C7 A2 x2g`` is width 64, attention of
    4 heads, a convolution of kernel 7, attention of 2 heads, each with a gated MLP of twice the width.

    A attention (``/2`` two query heads per key head, ``w64`` window, ``n`` or ``N`` norms of queries and keys per head or whole,
    ``s`` sinks, ``r4`` 4 values of a head turned, ``v8`` values of 8, ``k`` keys and values of an earlier layer), L linear attention, C convolution, - nothing;
    x dense MLP, m4.2x mixture of 4 experts with 2 active; ``3*C7`` three such layers in a row. ``t2``: each two layers
    have one set of weights; ``u``: long skips. After training: ``b4`` 4 bits a weight, ``b8:4,3`` 8 around two layers of 4 and 3, ``v4``
    4 bits a cached value, ``z0.5`` half of the weights zero, ``p0.5`` half of the channels of MLPs taken out.
    """
    spec = check(arch, ignore)
    frame = spec.frame
    mixers = [label_of(layer.mixer, frame) for layer in spec.layers]
    mlps = [label_of(layer.mlp, frame) for layer in spec.layers]
    same = len(set(mlps)) == 1
    words = [mixer + ("" if same else f".{mlp}") for mixer, mlp in zip(mixers, mlps, strict=True)]
    runs: list[tuple[str, int]] = []
    for word in words:
        if runs and runs[-1][0] == word:
            runs[-1] = (word, runs[-1][1] + 1)
        else:
            runs.append((word, 1))
    parts = [word if count == 1 else f"{count}*{word}" for word, count in runs] + (mlps[:1] if same else [])
    tie = spec.details.tie_layers
    links = [*([f"t{tie}"] if tie > 1 else []), *(["u"] if spec.details.long_skips else [])]
    text = " ".join([f"d{spec.width}", *links, *_after(spec), *parts])
    return text if len(text) <= 60 else f"{text[:47].rsplit(' ', 1)[0]} ... {counted(len(spec.layers), 'layer')}"
