"""What an architecture keeps in memory, in closed form: weights, cache and the peak of activations; a training step too.

Activations are those of the eager decoder of `nas_bo.model`: the peak is the largest sum of values that are alive at once,
which a real run decides, storage by storage (`nas_bo.hardware.memory_measure`; the tests compare). Runtimes that fuse need
less. What kernels allocate inside themselves is not counted. Loads no torch.

Notation, in values: N = B * T rows, r = N * C the residual stream, A, K queries and keys of attention, W, H the MLP before
and after its activation, I the inside of linear attention.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from nas_bo.errors import ObjectiveError
from nas_bo.hardware.workload import BYTES, Setting, specified
from nas_bo.model import counts
from nas_bo.model.spec import AttentionSpec, ConvSpec, DecoderSpec, LayerSpec, LinearAttentionSpec, MlpSpec

TABLE = 1024  # positions of the rotary tables; a test keeps it equal to nas_bo.model.transformer.ROTARY_TABLE
INDEX = 8  # bytes of a token id


@dataclass(frozen=True)
class Memory:
    """Bytes, by what they are for. `states` are those of the optimiser."""

    weights: int
    tables: int
    cache: int
    activations: int
    gradients: int = 0
    states: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.tables + self.cache + self.activations + self.gradients + self.states


def inference(arch: counts.Arch, setting: Setting) -> Memory:
    """The peak while a phase runs with the cache of `context` tokens there.

    Raises:
        ModelError: the architecture cannot be built.
    """
    spec = specified(arch, setting)
    size, context, batch = BYTES[setting.dtype], setting.context, setting.batch
    new = context if setting.phase == "prefill" else 1
    flow = batch * new * spec.width
    head = 2 * flow * size + batch * new * setting.vocab_size * size
    made = _tables(spec, context, new, size)
    distinct = list(dict.fromkeys(spec.layers))
    peak = max([head, *(_running(layer, spec, batch, new, context, size) for layer in distinct)])
    if kept := _masks(spec, new, context):
        peak = max(peak, *(_masking(layer, spec, batch, new, context, size) for layer in distinct)) + kept
    return Memory(
        counts.parameters(spec, setting.vocab_size) * size,
        _kept_tables(spec, size),
        counts.kv_cache_bytes(spec, context, size, batch),
        peak + made + batch * new * INDEX,
    )


def training(
    arch: counts.Arch,
    batch: int = 8,
    sequence: int = 64,
    vocab_size: int = 256,
    ignore: Collection[str] = (),
) -> Memory:
    """The peak of a step of `nas_bo.model.train` in float32 with AdamW: 12 bytes per parameter, what the backward pass needs
    of every layer, and the gradients that are there by then. Under autocast activations are smaller.

    Raises:
        ModelError: the architecture cannot be built.
        ObjectiveError: a size is not a whole number of at least 1.
    """
    setting = Setting("prefill", batch, sequence, "float32", vocab_size, tuple(ignore))  # checks the sizes
    spec = specified(arch, setting)
    size, rows = 4, batch * sequence
    flow, logits = rows * spec.width, rows * vocab_size
    parameters = counts.parameters(spec, vocab_size)
    embedded = vocab_size * spec.width
    saved = flow + sum(_saved(layer, spec, batch, sequence) for layer in spec.layers)
    last = (2 if spec.norm == "rms" else 1) * flow
    peak, grown = saved + last + 3 * logits, 0  # values of activations, and of gradients by then
    left, gradients = saved + last, embedded
    for layer in reversed(spec.layers):
        now = left + gradients + _undoing(layer, spec, batch, sequence)
        if now > peak + grown:
            peak, grown = now - gradients, gradients
        left -= _saved(layer, spec, batch, sequence)
        gradients += _parameters(layer, spec)
    now = embedded * (2 if spec.tied else 1) + 2 * flow
    if now + parameters - embedded > peak + grown:
        peak, grown = now - embedded, parameters
    tables = _kept_tables(spec, size) + _masks(spec, sequence, sequence)
    return Memory(
        parameters * size,
        tables + _tables(spec, sequence, sequence, size),
        0,
        peak * size + 2 * rows * INDEX,
        grown * size,
        parameters * 2 * size,
    )


def needed(arch: counts.Arch, setting: Setting, train: tuple[int, int] | None = None) -> int:
    """Bytes of the larger of both phases of inference, or of a training step of (batch, sequence)."""
    if train is not None:
        return training(arch, *train, setting.vocab_size, setting.ignore).total
    return max(inference(arch, Setting(phase, *_sizes(setting))).total for phase in ("prefill", "decode"))


def _sizes(setting: Setting) -> tuple[int, int, str, int, tuple[str, ...]]:
    return setting.batch, setting.context, setting.dtype, setting.vocab_size, setting.ignore


# ---- what is there while a layer runs -----------------------------------------------------------------------------


class _Mlp(NamedTuple):
    wide: int  # values per row before the activation
    hidden: int  # after it


def _mlp(spec: MlpSpec) -> _Mlp:
    return _Mlp(spec.hidden * (1 + spec.gated), spec.hidden)


@lru_cache(maxsize=65536)
def _running(layer: LayerSpec, spec: DecoderSpec, batch: int, new: int, context: int, size: int) -> int:
    """Bytes alive at the worst moment of one layer, its input included."""
    rows = batch * new
    flow = rows * spec.width
    stages = [2 * flow]
    mixer, mlp = layer
    if isinstance(mixer, AttentionSpec):
        a, k = rows * mixer.heads * mixer.head_dim, rows * mixer.kv_heads * mixer.head_dim
        packed, turned = a + 2 * k, (a + k) if spec.position == "rotary" else 0
        stages.append(2 * flow + packed + 3 * turned)
        joined = 0
        if mixer.window is not None:
            past = min(mixer.window, context - 1) if new == 1 else 0
            joined = 2 * batch * (past + new) * mixer.kv_heads * mixer.head_dim
        stages.append(2 * flow + packed + turned + joined + a + flow)
    elif isinstance(mixer, LinearAttentionSpec):
        inner, chunk = rows * mixer.heads * mixer.head_dim, min(counts.CHUNK, new)
        square = batch * mixer.heads * chunk * chunk
        wide = max(1, 4 // size)  # decays and the state are float32 at least
        before = 2 * flow + 4 * inner + wide * rows * mixer.heads + inner
        done = inner * max(0, -(-new // counts.CHUNK) - 1) * chunk // new
        state = batch * mixer.heads * mixer.head_dim**2 * wide
        stages += [
            before + done + 2 * (1 + wide) * square + state,
            before + 2 * inner + 3 * state,
            before + 4 * inner + state,
        ]
    elif isinstance(mixer, ConvSpec):
        stages.append(8 * flow + batch * (mixer.kernel - 1) * spec.width)
    both = isinstance(mlp, MlpSpec) and mixer.kind != "skip"
    if isinstance(mlp, MlpSpec):
        base = 5 * flow if both and not spec.parallel else 4 * flow if both else 2 * flow
        wide, hidden = _mlp(mlp)
        inside = wide + hidden * (2 if mlp.gated or mlp.activation == "relu2" else 1)
        if mlp.experts:
            k = mlp.top_k
            stages += [base + 4 * k * flow + flow, base + 2 * k * flow + rows * k * inside // mlp.experts]
        else:
            stages.append(base + max(rows * inside, rows * hidden + flow))
    return max(stages) * size


def _kept_tables(spec: DecoderSpec, size: int) -> int:
    return sum(2 * TABLE * dim * size for dim in _rotary_dims(spec))


def _tables(spec: DecoderSpec, context: int, new: int, size: int) -> int:
    """Rotary tables that a call makes for itself, beyond those that are kept."""
    return sum(2 * new * dim * size for dim in _rotary_dims(spec)) if context > TABLE else 0


def _masks(spec: DecoderSpec, new: int, keys: int) -> int:
    """Bytes of the masks of windows, which all layers share."""
    windows = {one.mixer.window for one in spec.layers if isinstance(one.mixer, AttentionSpec) and one.mixer.window}
    return new * keys * sum(new > 1 and window < keys for window in windows)


def _masking(layer: LayerSpec, spec: DecoderSpec, batch: int, new: int, keys: int, size: int) -> int:
    """Bytes alive while the first layer with a window makes its mask: ages of keys, and three of truth values."""
    mixer = layer.mixer
    if not isinstance(mixer, AttentionSpec) or mixer.window is None:
        return 0
    a, k = mixer.heads * mixer.head_dim, mixer.kv_heads * mixer.head_dim
    inside = 2 * spec.width + a + 4 * k + (a + k if spec.position == "rotary" else 0)
    return batch * new * inside * size + new * keys * (INDEX + 2)


def _rotary_dims(spec: DecoderSpec) -> set[int]:
    if spec.position != "rotary":
        return set()
    return {layer.mixer.head_dim for layer in spec.layers if isinstance(layer.mixer, AttentionSpec)}


# ---- what a backward pass needs -----------------------------------------------------------------------------------


@lru_cache(maxsize=65536)
def _saved(layer: LayerSpec, spec: DecoderSpec, batch: int, length: int) -> int:
    """Values that one layer keeps for its gradients, its output included."""
    rows = batch * length
    flow = rows * spec.width
    normed = (2 if spec.norm == "rms" else 1) * flow
    mixer, mlp = layer
    total = 0
    if isinstance(mixer, AttentionSpec):
        a, k = rows * mixer.heads * mixer.head_dim, rows * mixer.kv_heads * mixer.head_dim
        total += a + 2 * k + (a + k if spec.position == "rotary" else 0) + a + rows * mixer.heads
    elif isinstance(mixer, LinearAttentionSpec):
        inner, square = rows * mixer.heads * mixer.head_dim, rows * mixer.heads * min(counts.CHUNK, length)
        total += 4 * inner + rows * mixer.heads * 8 + 3 * square + 8 * inner
    elif isinstance(mixer, ConvSpec):
        total += 6 * flow
    if mixer.kind != "skip":
        total += normed + flow
    if isinstance(mlp, MlpSpec):
        wide, hidden = _mlp(mlp)
        kept = rows * ((2 * hidden if mlp.activation == "relu2" else wide) + hidden * (2 if mlp.gated else 1))
        total += kept * mlp.top_k + 2 * mlp.top_k * flow if mlp.experts else kept
        total += flow + (0 if spec.parallel and mixer.kind != "skip" else normed)
    return total


@lru_cache(maxsize=65536)
def _undoing(layer: LayerSpec, spec: DecoderSpec, batch: int, length: int) -> int:
    """Values that come and go while the gradients of one layer are computed, at their worst."""
    rows = batch * length
    flow = rows * spec.width
    stages = [5 * flow]
    if isinstance(layer.mlp, MlpSpec):
        wide, hidden = _mlp(layer.mlp)
        stages.append(2 * flow + rows * (wide + 2 * hidden) * (layer.mlp.top_k if layer.mlp.experts else 1))
    if isinstance(layer.mixer, AttentionSpec):
        mixer = layer.mixer
        stages.append(2 * flow + 2 * rows * (mixer.heads + 2 * mixer.kv_heads) * mixer.head_dim)
    return max(stages)


def _parameters(layer: LayerSpec, spec: DecoderSpec) -> int:
    alone = spec._replace(layers=(layer,))
    return counts.parameters(alone, 1) - counts.parameters(spec._replace(layers=()), 1)


__all__ = ["Memory", "ObjectiveError", "inference", "needed", "training"]
