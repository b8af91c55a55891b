"""What an architecture costs, computed from its numbers alone: parameters, FLOPs, cache bytes, operations. No torch.

FLOPs are those that torch's `FlopCounterMode` sees on the meta device, exactly: matrix products, attention (the full
square, also where a mask or a window leaves some of it out) and convolutions, two per multiply-add; elementwise work
counts nothing. Parameters are those of `nas_bo.model.build`, tied ones once.

Notation: B batch, T tokens, C width, N = B * T rows, H heads, G key/value heads, D head dimension, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal, NamedTuple

from nas_bo.architecture import Architecture, Node
from nas_bo.errors import ModelError
from nas_bo.model.after_training import cache_share, deployed
from nas_bo.model.blocks.block import Call, Frame, Remembered, Row, Sparse, Steppable
from nas_bo.model.blocks.details import check_length
from nas_bo.model.blocks.linear_attention import CHUNK as CHUNK
from nas_bo.model.blocks.skip import absent
from nas_bo.model.blocks.table import block_of, offered
from nas_bo.model.connections import skips
from nas_bo.model.spec import DecoderSpec, LayerSpec, check
from nas_bo.validated import check_values, one_of, whole_number

Arch = Architecture | Node | DecoderSpec
Logits = Literal["last", "all"]
"""Of which tokens of a prefill logits are made."""
_PHASE, _SIZE, _LOGITS = one_of("prefill", "decode"), whole_number(1), one_of("last", "all")


class Operation(NamedTuple):
    """One operation of a forward pass, as a roofline reads it.

    Attributes:
        name: where it is and what it does, such as ``layers.2.mixer.qkv``.
        flops: floating-point operations (two per multiply-add), as torch counts them.
        weight_elements: parameters read.
        activation_elements: values read and written that are not parameters, caches included.
        kernels: eager torch kernels started, roughly.
    """

    name: str
    flops: int
    weight_elements: int
    activation_elements: int
    kernels: int


def parameters(arch: Arch, vocab_size: int, ignore: Collection[str] = ()) -> int:
    """Number of parameters, tied embeddings and tied layers once.

    Raises:
        ModelError: the architecture cannot be built.
    """
    spec = _spec(arch, ignore)
    frame = spec.frame
    total = vocab_size * frame.width * (1 if spec.tied else 2) + norm_parameters(frame)
    layers, linked = spec.layers, 0
    if spec.finer is not None:
        total += (spec.finer.max_length or 0) * frame.width
        layers, linked = layers[:: spec.finer.tie_layers], len(skips(len(layers), spec.finer))
    counted = _PARAMETERS[frame]
    for layer in layers:
        total += counted[layer][0]
    return total + linked


def active_parameters(arch: Arch, vocab_size: int, ignore: Collection[str] = ()) -> int:
    """Parameters that one token passes through: all but the idle experts of mixtures."""
    spec = _spec(arch, ignore)
    frame = spec.frame
    idle = sum(layer_parameters(layer, frame)[1] for layer in spec.layers[:: frame.details.tie_layers])
    return parameters(spec, vocab_size) - idle


def flops(arch: Arch, vocab_size: int, tokens: int, batch: int = 1, ignore: Collection[str] = ()) -> int:
    """Forward FLOPs of one uncached call on (batch, tokens), logits at every position.

    Raises:
        ModelError: the architecture cannot be built.
    """
    spec = _spec(arch, ignore)
    frame = spec.frame
    if spec.finer is not None:
        check_length(spec.finer, tokens)
    total = 2 * vocab_size * frame.width * tokens
    counted = _FLOPS[frame, tokens]
    for layer in spec.layers:
        total += counted[layer]
    return total * batch


def kv_cache_bytes(
    arch: Arch, context: int, bytes_per_value: float = 2, batch: int = 1, ignore: Collection[str] = ()
) -> int:
    """Bytes that decoding remembers after `context` tokens: keys and values (of the last `window` tokens where there
    is a window), the last inputs of convolutions, the states of linear attention. Keys and values have the `kv_bits` of the
    architecture, where these are fewer.

    Raises:
        ModelError: the architecture cannot be built, or one of its mixers does not decode token by token.
    """
    spec = _spec(arch, ignore)
    check_length(spec.details, context)
    frame = spec.frame
    if spec.after is None:
        values = sum(_state_values(layer, frame, context) for layer in spec.layers)
        return int(values * batch * bytes_per_value)
    kept = 0.0
    for layer, after in zip(spec.layers, spec.after[1:], strict=True):
        kept += _state_values(layer, frame, context) * cache_share(layer.mixer, after, bytes_per_value)
    return int(kept * batch * bytes_per_value)


def operations(
    arch: Arch,
    vocab_size: int,
    phase: Literal["prefill", "decode"],
    context: int,
    batch: int = 1,
    ignore: Collection[str] = (),
    logits: Logits = "last",
) -> list[Operation]:
    """The operations of one forward pass, in order.

    "prefill" is one call on (batch, context) tokens without a cache, with the logits of the last of them, which are those that a continuation
    needs, or of "all": then its FLOPs sum up to `flops(...)`. "decode" is one call on one more token per sequence, when the cache holds
    context - 1 and this token makes `context`.

    Raises:
        ModelError: the architecture cannot be built, or the phase or sizes are none.
    """
    spec = _spec(arch, ignore)
    check_values("operations", ModelError, _PHASE, phase=phase)
    check_values("operations", ModelError, _SIZE, context=context, batch=batch)
    check_values("operations", ModelError, _LOGITS, logits=logits)
    return [
        Operation(name, flops * batch, weights, activations * batch, kernels)
        for name, flops, weights, activations, kernels, _, _ in rows(spec, vocab_size, phase, context, batch, logits)
    ]


# ---- parameters ---------------------------------------------------------------------------------------------------


def _spec(arch: Arch, ignore: Collection[str]) -> DecoderSpec:
    """A decoder as it is used: of an architecture, what `prune` takes out is not there."""
    if isinstance(arch, DecoderSpec):
        return arch
    spec = check(arch, ignore)
    return spec if spec.after is None else deployed(spec)


def layer_parameters(layer: LayerSpec, frame: Frame) -> tuple[int, int]:
    """(all, idle for any one token), norms included."""
    return _PARAMETERS[frame][layer]


def _count_parameters(layer: LayerSpec, frame: Frame) -> tuple[int, int]:
    total = idle = 0
    for spec in layer:
        block = block_of(spec)
        total += block.parameters(spec, frame)
        sparse = offered(block, Sparse)
        if sparse is not None:
            idle += sparse.idle_parameters(spec, frame)
    return total + len(norms_of(layer, frame)) * norm_parameters(frame), idle


_PARAMETERS = Remembered(_count_parameters)


def norm_parameters(frame: Frame) -> int:
    return 2 * frame.width if frame.norm_bias else frame.width


def norms_of(layer: LayerSpec, frame: Frame) -> tuple[str, ...]:
    """The norms of a layer by name: before its blocks ("mixer_norm", "mlp_norm") and on what they give ("mixer_out_norm",
    "mlp_out_norm"). An mlp parallel to a mixer reads the norm of the mixer, unless each has one."""
    mixer, mlp, place = not absent(layer.mixer), not absent(layer.mlp), frame.details.norm_place
    shared = frame.parallel and mixer and frame.details.parallel_norms == 1
    there = {
        "mixer_norm": mixer and place != "post",
        "mixer_out_norm": mixer and place != "pre",
        "mlp_norm": mlp and place != "post" and not shared,
        "mlp_out_norm": mlp and place != "pre",
    }
    return tuple(name for name, has in there.items() if has)


# ---- FLOPs --------------------------------------------------------------------------------------------------------


def _count_flops(layer: LayerSpec, around: tuple[Frame, int]) -> int:
    """Of one sequence of so many tokens."""
    frame, tokens = around
    call = Call("prefill", tokens, tokens)
    return sum(row.flops for spec in layer for row in block_of(spec).operations(spec, frame, call))


_FLOPS = Remembered(_count_flops)


# ---- caches -------------------------------------------------------------------------------------------------------


def _state_values(layer: LayerSpec, frame: Frame, context: int) -> int:
    return stepping(layer.mixer).state_values(layer.mixer, frame, context)


def stepping(mixer: object) -> Steppable[Any]:
    """The block of a mixer as one that decodes token by token (raises ModelError where it does not)."""
    block = block_of(mixer)
    stepping: Steppable[Any] | None = offered(block, Steppable)
    if stepping is None:
        raise ModelError(
            f"the block {block.kind!r} does not decode token by token: it has no state_values(spec, frame, context), and its "
            'module no new_state(batch, length, like); leave decoding out (phase="prefill"), or add both'
        )
    return stepping


def steps(spec: DecoderSpec) -> bool:
    """Whether the decoder can be run token by token."""
    return all(offered(block_of(layer.mixer), Steppable) is not None for layer in spec.layers)


# ---- operations ---------------------------------------------------------------------------------------------------


def rows(spec: DecoderSpec, vocab: int, phase: str, context: int, batch: int, logits: Logits = "last") -> list[Row]:
    """As `operations`, with FLOPs and activations of one sequence and weights of the whole batch."""
    check_length(spec.details, context)
    frame, width, new = spec.frame, spec.width, context if phase == "prefill" else 1
    scaled, placed = spec.details.embedding_scale is not None, spec.details.max_length is not None
    call = Call(phase, new, context, batch)
    ends = new if logits == "all" else 1
    norm = _norm_row("norm", frame, ends)
    read = (min(vocab, new * batch) + new * placed) * width
    found = [Row("embedding", 0, read, new * width * (1 + 2 * scaled + 3 * placed), 1 + scaled + 3 * placed)]
    given = {to for _, to in skips(len(spec.layers), spec.details)}
    rows_of = _ROWS[frame, call]
    for index, layer in enumerate(spec.layers):
        at = f"layers.{index}."
        if index in given:
            found.append(skip_row(at, width, new))
        found += [Row(at + row[0], *row[1:]) for row in rows_of[layer]]
    found.append(norm)
    capped = spec.details.logit_cap is not None
    moved = ends * (width + vocab * (1 + 6 * capped))
    found.append(Row("head", 2 * ends * width * vocab, vocab * width, moved, 1 + 3 * capped))
    return found


def _layer_rows(layer: LayerSpec, around: tuple[Frame, Call]) -> tuple[Row, ...]:
    frame, call = around
    found = []
    norms = norms_of(layer, frame)
    for part, block in zip(("mixer", "mlp"), layer, strict=True):
        if absent(block):
            continue
        if f"{part}_norm" in norms:
            found.append(_norm_row(f"{part}_norm", frame, call.new))
        if call.phase == "decode" and part == "mixer":
            stepping(block)
        found += [Row(f"{part}.{row[0]}", *row[1:]) for row in block_of(block).operations(block, frame, call)]
        if f"{part}_out_norm" in norms:
            found.append(_norm_row(f"{part}_out_norm", frame, call.new))
        found.append(Row(f"{part}.add", 0, 0, 3 * call.new * frame.width, 1))
    return tuple(found)


_ROWS = Remembered(_layer_rows)


def skip_row(at: str, width: int, new: int) -> Row:
    """A long skip: two streams and a gate make one."""
    return Row(f"{at}long_skip", 0, 1, 3 * new * width, 1)


def _norm_row(name: str, frame: Frame, new: int) -> Row:
    return Row(name, 0, norm_parameters(frame), 2 * new * frame.width, 1 if frame.norm == "layer" else 6)
