"""What an architecture costs, computed from its numbers alone: parameters, FLOPs, cache bytes, operations. No torch.

FLOPs are those that torch's `FlopCounterMode` sees on the meta device, exactly: matrix products, attention (the full
square, also where a mask or a window leaves some of it out) and convolutions, two per multiply-add; elementwise work
counts nothing. Parameters are those of `nas_bo.model.build`, tied ones once.

Notation: B batch, T tokens, C width, N = B * T rows, H heads, G key/value heads, D head dimension, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Literal, NamedTuple

from nas_bo.architecture import Architecture, Node
from nas_bo.errors import ModelError
from nas_bo.model.spec import (
    AttentionSpec,
    ConvSpec,
    DecoderSpec,
    LayerSpec,
    LinearAttentionSpec,
    MlpSpec,
    check,
)

CHUNK = 64  # tokens per chunk of linear attention; a test keeps it equal to nas_bo.model.blocks.CHUNK

Arch = Architecture | Node | DecoderSpec


class Operation(NamedTuple):
    """One operation of a forward pass, as a roofline reads it.

    Attributes:
        name: where it is and what it does, such as ``layers.2.mixer.qkv``.
        flops: floating-point operations (two per multiply-add), as torch counts them.
        weight_elements: parameters read.
        activation_elements: values read and written that are no parameters, caches included.
        kernels: eager torch kernels started, roughly.
    """

    name: str
    flops: int
    weight_elements: int
    activation_elements: int
    kernels: int


def parameters(arch: Arch, vocab_size: int, ignore: Collection[str] = ()) -> int:
    """Number of parameters, tied embeddings once.

    Raises:
        ModelError: the architecture cannot be built.
    """
    spec = arch if isinstance(arch, DecoderSpec) else check(arch, ignore)
    width, layers, norm, _, parallel, tied, bias = spec
    total = vocab_size * width * (1 if tied else 2) + (width * 2 if norm == "layer" and bias else width)
    for layer in layers:
        total += _layer_parameters(layer, width, norm, parallel, bias)[0]
    return total


def active_parameters(arch: Arch, vocab_size: int, ignore: Collection[str] = ()) -> int:
    """Parameters that one token passes through: all but the idle experts of mixtures."""
    spec = _spec(arch, ignore)
    idle = sum(_layer_parameters(layer, spec.width, spec.norm, spec.parallel, spec.bias)[1] for layer in spec.layers)
    return parameters(spec, vocab_size) - idle


def flops(arch: Arch, vocab_size: int, tokens: int, batch: int = 1, ignore: Collection[str] = ()) -> int:
    """Forward FLOPs of one uncached call on (batch, tokens), logits at every position.

    Raises:
        ModelError: the architecture cannot be built.
    """
    spec = arch if isinstance(arch, DecoderSpec) else check(arch, ignore)
    width = spec.width
    total = 2 * vocab_size * width * tokens
    for layer in spec.layers:
        total += _layer_flops(layer, width, tokens)
    return total * batch


def kv_cache_bytes(
    arch: Arch, context: int, bytes_per_value: float = 2, batch: int = 1, ignore: Collection[str] = ()
) -> int:
    """Bytes that decoding remembers after `context` tokens: keys and values (of the last `window` tokens where there
    is a window), the last inputs of convolutions, the states of linear attention."""
    spec = _spec(arch, ignore)
    values = sum(_state_values(layer, spec.width, context) for layer in spec.layers)
    return int(values * batch * bytes_per_value)


def operations(
    arch: Arch,
    vocab_size: int,
    phase: Literal["prefill", "decode"],
    context: int,
    batch: int = 1,
    ignore: Collection[str] = (),
) -> list[Operation]:
    """The operations of one forward pass, in order.

    "prefill" is one call on (batch, context) tokens without a cache; its FLOPs sum up to `flops(...)`. "decode" is one
    call on one more token per sequence, when the cache holds context - 1 and this token makes `context`.

    Raises:
        ModelError: the architecture cannot be built, or the phase or sizes are none.
    """
    spec = _spec(arch, ignore)
    if phase not in ("prefill", "decode"):
        raise ModelError(f"there is no phase {phase!r}; there are 'prefill' and 'decode'")
    if context < 1 or batch < 1:
        raise ModelError(f"context={context!r} and batch={batch!r} must be at least 1")
    return [
        Operation(name, flops * batch, weights, activations * batch, kernels)
        for name, flops, weights, activations, kernels in _operations(spec, vocab_size, phase, context, batch)
    ]


# ---- parameters ---------------------------------------------------------------------------------------------------


def _spec(arch: Arch, ignore: Collection[str]) -> DecoderSpec:
    return arch if isinstance(arch, DecoderSpec) else check(arch, ignore)


@lru_cache(maxsize=65536)
def _layer_parameters(layer: LayerSpec, width: int, norm: str, parallel: bool, bias: bool) -> tuple[int, int]:
    """(all, idle for any one token)."""
    mixer, mlp = layer
    total, idle, norms = 0, 0, 0
    if isinstance(mixer, AttentionSpec):
        into, inner = (mixer.heads + 2 * mixer.kv_heads) * mixer.head_dim, mixer.heads * mixer.head_dim
        total += _linear(width, into, bias) + _linear(inner, width, bias)
    elif isinstance(mixer, LinearAttentionSpec):
        inner = mixer.heads * mixer.head_dim
        total += _linear(width, 4 * inner + mixer.heads, bias) + _linear(inner, width, bias) + 2 * mixer.heads
    elif isinstance(mixer, ConvSpec):
        total += _linear(width, 2 * width, bias) + _linear(width, width, bias) + mixer.kernel * width
    norms += mixer.kind != "skip"
    if isinstance(mlp, MlpSpec):
        one = _linear(width, mlp.hidden * (1 + mlp.gated), bias) + _linear(mlp.hidden, width, bias)
        total += one * mlp.experts + width * mlp.experts if mlp.experts else one
        idle = one * (mlp.experts - mlp.top_k) if mlp.experts else 0
        norms += not (parallel and norms)
    return total + norms * (2 * width if norm == "layer" and bias else width), idle


def _linear(fan_in: int, fan_out: int, bias: bool) -> int:
    return fan_in * fan_out + (fan_out if bias else 0)


# ---- FLOPs --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=65536)
def _layer_flops(layer: LayerSpec, width: int, tokens: int) -> int:
    """Of one sequence of `tokens` tokens."""
    mixer, mlp = layer
    total = 0
    if isinstance(mixer, AttentionSpec):
        inner = mixer.heads * mixer.head_dim
        total += 2 * tokens * width * (2 * inner + 2 * mixer.kv_heads * mixer.head_dim)
        total += 4 * tokens * tokens * inner  # scores, and their sum of values
    elif isinstance(mixer, LinearAttentionSpec):
        inner = mixer.heads * mixer.head_dim
        total += 2 * tokens * width * (5 * inner + mixer.heads) + _scan_flops(mixer, tokens)
    elif isinstance(mixer, ConvSpec):
        total += 2 * tokens * width * (3 * width + mixer.kernel)
    if isinstance(mlp, MlpSpec):
        one = 2 * tokens * width * mlp.hidden * (2 + mlp.gated)
        total += one * mlp.top_k + 2 * tokens * width * mlp.experts if mlp.experts else one
    return total


def _scan_flops(mixer: LinearAttentionSpec, tokens: int) -> int:
    """Chunks of at most 64: the square within each, reading the state in all but the first, writing it in all but the
    last (see `nas_bo.model.blocks.scan`)."""
    inner, dim = mixer.heads * mixer.head_dim, mixer.head_dim
    full, rest = divmod(tokens, CHUNK)
    last = rest or min(CHUNK, tokens)
    square = full * CHUNK * CHUNK + rest * rest
    read, written = max(0, tokens - CHUNK), tokens - last
    return 4 * square * inner + 2 * (read + written) * inner * dim


# ---- caches -------------------------------------------------------------------------------------------------------


def _state_values(layer: LayerSpec, width: int, context: int) -> int:
    mixer = layer.mixer
    if isinstance(mixer, AttentionSpec):
        kept = context if mixer.window is None else min(context, mixer.window)
        return 2 * mixer.kv_heads * mixer.head_dim * kept
    if isinstance(mixer, LinearAttentionSpec):
        return mixer.heads * mixer.head_dim * mixer.head_dim
    return (mixer.kernel - 1) * width if isinstance(mixer, ConvSpec) else 0


# ---- operations ---------------------------------------------------------------------------------------------------

_Row = tuple[str, int, int, int, int]  # FLOPs and activations of one sequence; weights of the whole batch


def _operations(spec: DecoderSpec, vocab: int, phase: str, context: int, batch: int) -> list[_Row]:
    width, bias = spec.width, spec.bias
    new = context if phase == "prefill" else 1
    norm_weights = 2 * width if spec.norm == "layer" and bias else width
    norm_kernels = 1 if spec.norm == "layer" else 6
    rows: list[_Row] = [("embedding", 0, min(vocab, new * batch) * width, new * width, 1)]

    def norm(name: str) -> None:
        rows.append((name, 0, norm_weights, 2 * new * width, norm_kernels))

    def matrix(name: str, fan_in: int, fan_out: int, biased: bool) -> None:
        rows.append((name, 2 * new * fan_in * fan_out, _linear(fan_in, fan_out, biased), new * (fan_in + fan_out), 1))

    for index, (mixer, mlp) in enumerate(spec.layers):
        at = f"layers.{index}"
        if mixer.kind != "skip":
            norm(f"{at}.mixer_norm")
        if isinstance(mixer, AttentionSpec):
            inner, shared = mixer.heads * mixer.head_dim, mixer.kv_heads * mixer.head_dim
            seen = context if mixer.window is None or phase == "prefill" else min(context, mixer.window)
            matrix(f"{at}.mixer.qkv", width, inner + 2 * shared, bias)
            if spec.position == "rotary":
                rows.append((f"{at}.mixer.rotary", 0, 0, 4 * new * (inner + shared), 3))
            rows.append((f"{at}.mixer.attention", 4 * new * seen * inner, 0, 2 * (new * inner + seen * shared), 2))
            matrix(f"{at}.mixer.out", inner, width, bias)
        elif isinstance(mixer, LinearAttentionSpec):
            inner, state = mixer.heads * mixer.head_dim, mixer.heads * mixer.head_dim**2
            matrix(f"{at}.mixer.qkvg", width, 4 * inner + mixer.heads, bias)
            chunks = -(-new // CHUNK)
            work = _scan_flops(mixer, new) if phase == "prefill" else 4 * inner + 4 * inner * mixer.head_dim
            moved = 4 * new * inner + 2 * state * (chunks if phase == "decode" else chunks - 1)
            rows.append((f"{at}.mixer.scan", work, 2 * mixer.heads, moved, 6 + 14 * chunks))
            rows.append((f"{at}.mixer.gate", 0, 0, 5 * new * inner, 8))
            matrix(f"{at}.mixer.out", inner, width, bias)
        elif isinstance(mixer, ConvSpec):
            matrix(f"{at}.mixer.proj", width, 2 * width, bias)
            moved = 2 * new * width + (mixer.kernel - 1) * width * (2 if phase == "decode" else 0)
            rows.append(
                (f"{at}.mixer.conv", 2 * new * width * mixer.kernel, mixer.kernel * width, moved,
                 1 + min(mixer.kernel, 9))
            )  # fmt: skip
            rows.append((f"{at}.mixer.gate", 0, 0, 3 * new * width, 2))
            matrix(f"{at}.mixer.out", width, width, bias)
        if mixer.kind != "skip":
            rows.append((f"{at}.mixer.add", 0, 0, 3 * new * width, 1))
        if isinstance(mlp, MlpSpec):
            if not (spec.parallel and mixer.kind != "skip"):
                norm(f"{at}.mlp_norm")
            rows += _mlp_rows(f"{at}.mlp", mlp, width, new, batch, bias)
            rows.append((f"{at}.mlp.add", 0, 0, 3 * new * width, 1))
    norm("norm")
    rows.append(("head", 2 * new * width * vocab, vocab * width, new * (width + vocab), 1))
    return rows


def _mlp_rows(at: str, mlp: MlpSpec, width: int, new: int, batch: int, bias: bool) -> list[_Row]:
    wide = mlp.hidden * (1 + mlp.gated)
    each = 1  # experts a token passes through
    used = 1  # experts whose weights are read by the batch
    rows: list[_Row] = []
    if mlp.experts:
        each, used = mlp.top_k, min(mlp.experts, mlp.top_k * new * batch)
        rows.append(
            (f"{at}.router", 2 * new * width * mlp.experts, width * mlp.experts, new * (width + mlp.experts), 12)
        )
        rows.append((f"{at}.route", 0, 0, 4 * each * new * width, 4))
    flops = 2 * new * each * width
    rows.append((f"{at}.up", flops * wide, used * _linear(width, wide, bias), each * new * (width + wide), used))
    rows.append((f"{at}.activation", 0, 0, each * new * (wide + mlp.hidden), used * (1 + mlp.gated)))
    rows.append(
        (f"{at}.out", flops * mlp.hidden, used * _linear(mlp.hidden, width, bias), each * new * (mlp.hidden + width),
         used)
    )  # fmt: skip
    return rows
