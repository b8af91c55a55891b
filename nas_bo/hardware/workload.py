"""What one forward pass does: the operations of a phase with their FLOPs and bytes. Every model of this room reads it.

The counts are those of `nas_bo.model.counts`, which equal the built model; here they get a data type, and the traffic of
the cache is separate from that of the activations. Loads no torch.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from nas_bo.errors import ModelError, ObjectiveError
from nas_bo.model import counts
from nas_bo.model.after_training import NOTHING, After, cache_share, deployed, share_kept, weight_bytes
from nas_bo.model.blocks.block import Row, remembered
from nas_bo.model.blocks.details import Details
from nas_bo.model.blocks.skip import SKIP
from nas_bo.model.connections import plain, skips
from nas_bo.model.spec import DecoderSpec, LayerSpec, check
from nas_bo.validated import check_fields, checked, one_of, whole_number
from nas_bo.wording import counted

Phase = Literal["prefill", "decode"]
BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8": 1, "int8": 1}


class Work(NamedTuple):
    """One operation.

    Attributes:
        name: where it is and what it does, such as ``layers.2.mixer.qkv``.
        kind: the same without the number of the layer.
        flops: two per multiply-add.
        weight_bytes: parameters read.
        activation_bytes: values read and written that are neither parameters nor cache.
        cache_bytes: keys, values and states read and written while decoding; 0 in a prefill.
        kernels: eager kernels started, roughly.
        scores: terms of softmaxes over keys, a cost of its own where attention is not a fused kernel; 0 but in attention.
    """

    name: str
    kind: str
    flops: int
    weight_bytes: int
    activation_bytes: int
    cache_bytes: int
    kernels: int
    scores: int = 0

    @property
    def moved_bytes(self) -> int:
        return self.weight_bytes + self.activation_bytes + self.cache_bytes


@dataclass(frozen=True)
class Setting:
    """What is run: one phase at one size in one data type. Two latencies compare only within one setting.

    Args:
        phase: "prefill" is one call on (batch, context) tokens; "decode" is one more token per sequence, which makes
            `context`.
        ignore: top-level fields of the space that are the user's own and no part of the network.
        logits: of a prefill: of the "last" token of each sequence, which are all that a continuation needs, or of "all", as models of the
            user's own give them and as nas_bo before 0.2 measured.

    Raises:
        ObjectiveError: there is no such phase or data type, or a size is not a whole number above 0.
    """

    phase: Phase = checked("prefill", one_of("prefill", "decode"))
    batch: int = checked(1, whole_number(1))
    context: int = checked(128, whole_number(1))
    dtype: str = checked("float32", one_of(*BYTES))
    vocab_size: int = checked(256, whole_number(1))
    ignore: tuple[str, ...] = ()
    logits: counts.Logits = checked("last", one_of("last", "all"))

    def __post_init__(self) -> None:
        check_fields(self, ObjectiveError)
        if self.phase == "decode":
            object.__setattr__(self, "logits", "last")


class Part(NamedTuple):
    """What a model's time is a sum over: one layer, or (`layer` None) all that is not a layer: embedding, last norm, head; or one
    long skip, which is an empty layer with `long_skips` in its details.

    The other fields are those of the whole model that change what a layer does.
    """

    layer: LayerSpec | None
    width: int
    norm: str
    position: str
    parallel: bool
    tied: bool
    bias: bool
    finer: Details | None = None
    after: After | None = None  # what is done to it after training


@dataclass(frozen=True)
class Workload:
    """The operations of one forward pass, in order, and what has to be kept in memory for it."""

    setting: Setting
    operations: tuple[Work, ...]
    parameters: int
    kv_cache_bytes: int
    stored_bytes: int = 0

    @property
    def flops(self) -> int:
        return sum(work.flops for work in self.operations)

    @property
    def moved_bytes(self) -> int:
        return sum(work.moved_bytes for work in self.operations)

    @property
    def kernels(self) -> int:
        return sum(work.kernels for work in self.operations)

    @property
    def parameter_bytes(self) -> int:
        """Of the weights as they are kept: in the data type, or in fewer `bits` where the architecture says so."""
        return self.stored_bytes


def workload(
    arch: counts.Arch,
    phase: Phase = "prefill",
    batch: int = 1,
    context: int = 128,
    dtype: str = "float32",
    vocab_size: int = 256,
    ignore: Collection[str] = (),
    logits: counts.Logits = "last",
) -> Workload:
    """What one forward pass of `arch` does.

    Raises:
        ModelError: the architecture cannot be built.
        ObjectiveError: there is no such phase or data type, or a size is not a whole number above 0.
    """
    setting = Setting(phase, batch, context, dtype, vocab_size, tuple(ignore), logits)
    spec = specified(arch, setting)
    shell, *layers = (works(part, setting) for part in parts(spec))
    rows = [shell[0]]
    given = {to: layers.pop()[0] for _, to in skips(len(spec.layers), spec.details)}
    for index, layer in enumerate(layers):
        if index in given:
            rows.append(given[index]._replace(name=f"layers.{index}.long_skip"))
        rows += [work._replace(name=f"layers.{index}.{work.kind}") for work in layer]
    return Workload(
        setting,
        (*rows, *shell[1:]),
        (parameters := counts.parameters(spec, vocab_size)),
        counts.kv_cache_bytes(spec, context, BYTES[dtype], batch) if phase == "decode" or counts.steps(spec) else 0,
        weight_bytes(spec, vocab_size, BYTES[dtype], parameters),
    )


def specified(arch: counts.Arch, setting: Setting) -> DecoderSpec:
    """A decoder as it is used: of an architecture, what `prune` takes out is not there."""
    return arch if isinstance(arch, DecoderSpec) else deployed(check(arch, setting.ignore))


def as_timed(arch: counts.Arch, setting: Setting) -> DecoderSpec:
    """A decoder as a runtime of this package runs it: all weights and caches in the data type of the setting."""
    return specified(arch, setting)._replace(after=None)


def parts(spec: DecoderSpec) -> list[Part]:
    """What is not a layer, then the layers in order, then the long skips."""
    rest = around(spec)
    between = [Part(EMPTY, *around(spec, skip=True))] * len(skips(len(spec.layers), spec.details))
    after = spec.after or (None,) * (len(spec.layers) + 1)
    each = zip((None, *spec.layers), after, strict=True)
    return [Part(layer, *rest)._replace(after=None if one == NOTHING else one) for layer, one in each] + between


EMPTY = LayerSpec(SKIP, SKIP)


def around(spec: DecoderSpec, skip: bool = False) -> tuple[Any, ...]:
    """The fields of its parts in addition to their layer; of its long skips."""
    return (spec.width, *spec[2:-2], spec.details._replace(tie_layers=1) if skip else plain(spec.finer), None)


@remembered
def works(part: Part, setting: Setting) -> tuple[Work, ...]:
    """The operations of one part. Counted once per distinct part: a search sees the same few layers again and again."""
    layer = part.layer
    alone = DecoderSpec(part.width, () if layer is None else (layer,), *part[2:-1])
    size, batch = BYTES[setting.dtype], setting.batch
    found = []
    rows = counts.rows(alone, setting.vocab_size, setting.phase, setting.context, batch, setting.logits)
    if part.finer is not None and part.finer.long_skips:
        rows = [counts.skip_row("layers.0.", part.width, setting.context if setting.phase == "prefill" else 1)]
    for row in rows:
        if row.name.startswith("layers.0.") != (layer is not None):
            continue
        kind = row.name.removeprefix("layers.0.")
        moved, cache = row.activations * batch * size, row.cached * batch * size
        if cache > moved:
            raise ModelError(
                f"{kind} moves {counted(moved, 'byte')} but its cache {cache}; its `operations` must count both"
            )
        weights, kept = row.weights * size, cache
        if part.after is not None:
            weights, kept = _as_kept(part, alone, kind, row, weights, cache, size)
        found.append(
            Work(
                row.name,
                kind,
                row.flops * batch,
                weights,
                moved - cache,
                kept,
                row.kernels,
                row.scores * batch,
            )
        )
    return tuple(found)


def _as_kept(
    part: Part, alone: DecoderSpec, kind: str, row: Row, weights: int, cache: int, size: int
) -> tuple[int, int]:
    """Bytes of weights and of cache that an operation reads, in the bits that they have after training."""
    after, layer = part.after or NOTHING, part.layer
    if layer is None:
        table = kind in ("embedding", "head")
        return (round(weights * share_kept(None, part.width, alone.frame, after, size)) if table else weights), cache
    if row.flops:  # norms, and what has no matrix, are as they were trained
        weights = round(weights * share_kept(layer, part.width, alone.frame, after, size, kind.partition(".")[0]))
    return weights, round(cache * cache_share(layer.mixer, after, size))
