"""What an architecture keeps in memory, in closed form: weights, cache and the peak of activations; a training step too.

Activations are those of the eager decoder of `nas_bo.model`: the peak is the largest sum of values that are alive at once,
which a real run decides, storage by storage (`nas_bo.hardware.measuring.memory_measure`; the tests compare). Runtimes that fuse need
less. What kernels allocate inside themselves is not counted. Loads no torch.

Notation, in values: N = B * T rows, r = N * C the residual stream, A, K queries and keys of attention, W, H the MLP before
and after its activation, I the inside of linear attention.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from nas_bo.errors import ObjectiveError
from nas_bo.hardware.workload import BYTES, Phase, Setting, specified
from nas_bo.model import counts
from nas_bo.model.after_training import weight_bytes
from nas_bo.model.blocks.block import Call, Lending, Shared, Sharing, Trained, remembered
from nas_bo.model.blocks.skip import absent
from nas_bo.model.blocks.table import block_of, offered, peak_of
from nas_bo.model.connections import plain, skips, sources
from nas_bo.model.spec import DecoderSpec, LayerSpec, check

TABLE = 1024  # positions of the rotary tables; a test keeps it equal to nas_bo.model.decoder.ROTARY_TABLE
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
    capped = 3 if spec.details.logit_cap is not None else 1
    ends = batch * (spec.width + capped * setting.vocab_size)  # the last token's: nobody who generates asks for others
    head = (flow + ends) * size
    made = _tables(spec, context, new, size)
    inner = spec._replace(finer=plain(spec.finer), after=None)  # what one layer needs to know
    beside = _beside(spec, batch, new, context, counts.steps(spec))
    distinct = list(dict.fromkeys(zip(spec.layers, beside, strict=True)))
    peak = max([head, *(_running(layer, inner, batch, new, context, size) + held * size for layer, held in distinct)])
    for _, to in skips(len(spec.layers), spec.details):  # both streams, and their sum
        peak = max(peak, (3 * flow + beside[to]) * size)
    if kept := _masks(spec, new, context):
        masking = [_masking(layer, inner, batch, new, context, size) + held * size for layer, held in distinct]
        peak = max(peak, *masking) + kept
    parameters = counts.parameters(spec, setting.vocab_size)
    return Memory(
        weight_bytes(spec, setting.vocab_size, size, parameters),
        _kept_tables(spec, size),
        counts.kv_cache_bytes(spec, context, size, batch) if setting.phase == "decode" or counts.steps(spec) else 0,
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
    spec = arch if isinstance(arch, DecoderSpec) else check(arch, setting.ignore)._replace(after=None)
    size, rows = 4, batch * sequence
    flow, logits = rows * spec.width, rows * vocab_size
    parameters = counts.parameters(spec, vocab_size)
    embedded = vocab_size * spec.width
    inner = spec._replace(finer=plain(spec.finer))
    saved = flow + sum(_saved(layer, inner, batch, sequence) for layer in spec.layers)
    last = (2 if spec.norm == "rms" else 1) * flow
    peak, grown = saved + last + 3 * logits, 0  # values of activations, and of gradients by then
    left, gradients = saved + last, embedded
    pending = _pending(spec, rows)
    for index, layer in reversed(list(enumerate(spec.layers))):
        latest = index % spec.details.tie_layers == spec.details.tie_layers - 1
        again = 0 if latest else _parameters(layer, inner)  # gradients of tied weights, before they are added
        now = left + gradients + again + pending[index] + _undoing(layer, inner, batch, sequence)
        if now > peak + grown:
            peak, grown = now - gradients, gradients
        left -= _saved(layer, inner, batch, sequence)
        gradients += _parameters(layer, inner) if latest else 0
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
    phases: tuple[Phase, ...] = ("prefill", "decode") if counts.steps(specified(arch, setting)) else ("prefill",)
    return max(inference(arch, Setting(phase, *_sizes(setting))).total for phase in phases)


def _sizes(setting: Setting) -> tuple[int, int, str, int, tuple[str, ...]]:
    return setting.batch, setting.context, setting.dtype, setting.vocab_size, setting.ignore


# ---- what other layers hold ---------------------------------------------------------------------------------------


def _beside(spec: DecoderSpec, batch: int, new: int, context: int, cached: bool) -> list[int]:
    """Values alive while each layer runs because others need them: streams of long skips, keys and values of earlier layers."""
    depth, rows = len(spec.layers), batch * new
    found = [0] * depth
    for at, to in skips(depth, spec.details):
        for index in range(at + 2, to):  # the next layer has it as its input
            found[index] += rows * spec.width
    for source, last in _readers(spec).items():
        mixer = spec.layers[source].mixer
        block: Lending[Any] = offered(block_of(mixer), Lending)
        held = rows * block.lent_values(mixer, spec.frame, cached) if new == context else 0
        for index in range(source + 1, last + 1):
            found[index] += held
    return found


def _pending(spec: DecoderSpec, rows: int) -> list[int]:
    """Gradients of values that wait while the gradients of each layer are computed: of streams of long skips, of keys and values."""
    depth = len(spec.layers)
    found = [0] * depth
    for at, to in skips(depth, spec.details):
        for index in range(at + 1, to):
            found[index] += rows * spec.width
    for source, last in _readers(spec).items():
        mixer = spec.layers[source].mixer
        block: Lending[Any] = offered(block_of(mixer), Lending)
        shape = block.shape(mixer)
        for index in range(source, last):
            found[index] += rows * shape["kv_heads"] * (shape["head_dim"] + shape["value_dim"])
    return found


def _readers(spec: DecoderSpec) -> dict[int, int]:
    """The layers whose keys and values others read -> the last that does."""
    return {source: index for index, source in enumerate(sources(spec.layers)) if source is not None}


# ---- what is there while a layer runs -----------------------------------------------------------------------------


@remembered
def _running(layer: LayerSpec, spec: DecoderSpec, batch: int, new: int, context: int, size: int) -> int:
    """Bytes alive at the worst moment of one layer, its input included."""
    call = Call("prefill" if new == context else "decode", new, context, batch, size)
    flow = batch * new * spec.width
    mixer, mlp = (peak_of(one, spec.frame, call) for one in layer)
    norms = counts.norms_of(layer, spec.frame)
    peak = (1 + (not absent(layer.mixer) and "mixer_norm" in norms)) * flow + mixer
    base = 1  # streams alive next to the block: what the layer was given, what the mixer read, gave and made of it
    if not absent(layer.mixer):
        base = 3 + ("mixer_norm" in norms)
        if "mixer_out_norm" in norms:
            peak = max(peak, (base + 2) * flow)
    if not absent(layer.mlp):
        base += "mlp_norm" in norms
        peak = max(peak, base * flow + mlp)
        if "mlp_out_norm" in norms:
            peak = max(peak, (base + 4) * flow)
    return peak * size


def _kept_tables(spec: DecoderSpec, size: int) -> int:
    return sum(2 * TABLE * dim * size for dim in _rotary_dims(spec))


def _tables(spec: DecoderSpec, context: int, new: int, size: int) -> int:
    """Rotary tables that a call makes for itself, beyond those that are kept."""
    return sum(2 * new * dim * size for dim in _rotary_dims(spec)) if context > TABLE else 0


def _masks(spec: DecoderSpec, new: int, keys: int) -> int:
    """Bytes of the masks of windows, which all layers share."""
    windows = {one.window for layer in spec.layers if (one := _shared(layer, spec)).window}
    return new * keys * sum(new > 1 and window < keys for window in windows if window is not None)


def _masking(layer: LayerSpec, spec: DecoderSpec, batch: int, new: int, keys: int, size: int) -> int:
    """Bytes alive while the first layer with a window makes its mask: ages of keys, and three of truth values."""
    shared = _shared(layer, spec)
    if shared.window is None:
        return 0
    return batch * new * (2 * spec.width + shared.held) * size + new * keys * (INDEX + 2)


def _rotary_dims(spec: DecoderSpec) -> set[int]:
    return {dim for layer in spec.layers if (dim := _shared(layer, spec).rotary) is not None}


def _shared(layer: LayerSpec, spec: DecoderSpec) -> Shared:
    sharing: Sharing[Any] | None = offered(block_of(layer.mixer), Sharing)
    return Shared() if sharing is None else sharing.shared(layer.mixer, spec.frame)


# ---- what a backward pass needs -----------------------------------------------------------------------------------


@remembered
def _saved(layer: LayerSpec, spec: DecoderSpec, batch: int, length: int) -> int:
    """Values that one layer keeps for its gradients, its output included."""
    flow = batch * length * spec.width
    normed = (2 if spec.norm == "rms" else 1) * flow
    total = 0
    for one in layer:
        block = block_of(one)
        if isinstance(block, Trained):
            total += block.saved_values(one, spec.frame, batch, length)
        else:  # all that its operations read and write, an upper bound
            call = Call("prefill", length, length, batch)
            total += batch * sum(row.activations for row in block.operations(one, spec.frame, call))
    total += flow * ((not absent(layer.mixer)) + (not absent(layer.mlp)))
    return total + normed * len(counts.norms_of(layer, spec.frame))


@remembered
def _undoing(layer: LayerSpec, spec: DecoderSpec, batch: int, length: int) -> int:
    """Values that come and go while the gradients of one layer are computed, at their worst."""
    flow = batch * length * spec.width
    stages = [5 * flow]
    for one in layer:
        block = block_of(one)
        if isinstance(block, Trained):
            stages.append(2 * flow + block.undone_values(one, spec.frame, batch, length))
        else:
            call = Call("prefill", length, length, batch)
            stages.append(2 * flow + 2 * peak_of(one, spec.frame, call))
    return max(stages)


def _parameters(layer: LayerSpec, spec: DecoderSpec) -> int:
    alone = spec._replace(layers=(layer,))
    return counts.parameters(alone, 1) - counts.parameters(spec._replace(layers=()), 1)


__all__ = ["Memory", "ObjectiveError", "inference", "needed", "training"]
