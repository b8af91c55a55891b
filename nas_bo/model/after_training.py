"""What is done to a decoder after its training, as fields of an architecture: what they mean, and what they make weights and caches cost.

=============== ====================================================================================================
``bits``        of each weight of a matrix: 32, as it was trained; 16, bfloat16; 8, 4, 3 or 2, integers in groups of 32 along the
                inputs, with a scale and a zero point each. At the top it is also that of embedding and head, which have at least 8
``kv_bits``     of each cached key and value, likewise
``sparsity``    share of the weights of each matrix of a layer that are zero, 0 to 0.9, anywhere in it: nothing less to compute, and less
                to keep where a runtime keeps a mask instead of them, which stock ones do not
``prune``       share of the hidden channels of each dense MLP that are taken out, 0 to 0.9: a smaller model
=============== ====================================================================================================

At the top of an architecture they hold for all layers, and `bits` also for what is around them; in a layer, for that layer. They are not part
of `Architecture.training_id`: one training serves all of them (`nas_bo.objectives.after_training`). Loads no torch.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nas_bo.architecture import AFTER
from nas_bo.errors import ModelError
from nas_bo.model.blocks.block import MATRICES, Caching, Exact, Frame, Sliceable, remembered, role_of
from nas_bo.model.blocks.dense import has_channels
from nas_bo.model.blocks.table import block_of, offered
from nas_bo.validated import Check, number, one_of

if TYPE_CHECKING:
    from nas_bo.model.spec import DecoderSpec, LayerSpec

BITS = (32, 16, 8, 4, 3, 2)
GROUP, SCALE_BITS = 32, 16  # weights of a row with one scale, and what it takes; as `nas_bo.compress.quantize` has them
LEAST_AROUND = 8  # bits of embedding and head: few weights, of which every token reads some
MOST = 0.9


class After(NamedTuple):
    """Of one layer, or of what is around the layers."""

    bits: int = 32
    kv_bits: int = 32
    sparsity: float = 0.0
    prune: float = 0.0


NOTHING = After()
_SHARE = number(at_least=0, at_most=MOST)
CHECKS: Mapping[str, Check] = {
    "bits": one_of(*BITS),
    "kv_bits": one_of(*BITS),
    "sparsity": _SHARE,
    "prune": _SHARE,
}


def after_of(
    fields: Mapping[str, object], layers: Sequence[Any], depth: int, ignore: Collection[str]
) -> tuple[After, ...] | None:
    """What is around the layers, then each layer; None where nothing is done.

    Args:
        fields: at the top of the architecture.
        layers: its records; none where one layer is written for all `depth`.

    Raises:
        ModelError: a value that is none.
    """
    above = _read(fields, "the architecture", NOTHING, ignore)
    each = [_read(layer, f"layers.{index}", above, ()) for index, layer in enumerate(layers)] or [above] * depth
    least = above.bits if above.bits > LEAST_AROUND else LEAST_AROUND
    found = (After(bits=least), *each)
    return None if all(one == NOTHING for one in found) else found


def _read(fields: Mapping[str, Any], where: str, base: After, ignore: Collection[str]) -> After:
    given: dict[str, Any] = {}
    for name in AFTER:
        if name in fields and name not in ignore:
            value = fields[name]
            if not CHECKS[name].holds(value):
                raise ModelError(f"{where} has {name}={value!r}; {name} must be {CHECKS[name].must}")
            given[name] = value if name.endswith("bits") else float(value)
    return base._replace(**given) if given else base


def check_tied(after: tuple[After, ...] | None, tie: int) -> None:
    """Raise ModelError where layers that have one set of weights would have them in two forms."""
    if after is None or tie == 1:
        return
    for first in range(1, len(after), tie):
        if len(set(after[first : first + tie])) > 1:
            raise ModelError(
                f"layers {first - 1} to {first + tie - 2} are one module (tie_layers={tie}) and have bits, kv_bits, sparsity or prune that "
                "differ; give them the same, or set these fields at the top of the architecture"
            )


def deployed(spec: DecoderSpec) -> DecoderSpec:
    """The decoder as it is used: without the channels that `prune` takes out, which its `after` then does not name any more."""
    if spec.after is None or not any(one.prune for one in spec.after):
        return spec
    layers = [
        layer._replace(mlp=pruned(layer.mlp, one.prune)) for layer, one in zip(spec.layers, spec.after[1:], strict=True)
    ]
    after: tuple[After, ...] | None = tuple(one._replace(prune=0.0) for one in spec.after)
    if all(one == NOTHING for one in after or ()):
        after = None
    return spec._replace(layers=tuple(layers), after=after)


def pruned(block: Any, share: float) -> Any:
    """A dense MLP without that share of its hidden channels; other blocks as they are."""
    return block._replace(hidden=channels_left(block.hidden, share)) if share and has_channels(block) else block


def channels_left(hidden: int, share: float) -> int:
    """How many hidden channels are left; at least one."""
    return max(1, round((1 - share) * hidden))


def compress_options(spec: DecoderSpec) -> str:
    """The options of `nas-bo compress` that do it to a trained model, "" where there is nothing to do: `bits`; `sparsity` and `prune` where
    all layers have the same. What is cached is the runtime's."""
    if spec.after is None:
        return ""
    around, *layers = spec.after
    found = []
    if any(one.bits < 32 for one in spec.after):
        each = [f"layers.{index}={one.bits}" for index, one in enumerate(layers[:: spec.details.tie_layers])]
        alike = {one.bits for one in spec.after} == {around.bits}
        found.append(f"--bits {around.bits if alike else ','.join([*each, f'default={around.bits}'])}")
    for name, shares in (("prune", {one.prune for one in layers}), ("sparsity", {one.sparsity for one in layers})):
        if len(shares) == 1 and max(shares):
            found.append(f"--{name} {max(shares):g}")
    return " ".join(found)


# ---- bytes ------------------------------------------------------------------------------------------------------------


def stored_bits(rows: int, columns: int, bits: int, sparsity: float = 0.0, whole: int = 32) -> int:
    """Bits of a matrix (rows, columns): the numbers that are kept, a scale and a zero point per group where they are integers, and,
    where that is less, a mask instead of the zeros.

    Args:
        whole: bits of the data type that it has otherwise.
    """
    each = min(bits, whole)
    scales = rows * math.ceil(columns / GROUP) * (SCALE_BITS + each) if each < 16 and bits < whole else 0
    full = rows * columns * each
    kept = rows * columns - round(rows * columns * sparsity)
    return (min(full, kept * each + rows * columns) if sparsity else full) + scales


@remembered
def matrices(block: object, frame: Frame) -> tuple[tuple[int, int], ...]:
    """(rows, columns) of the matrices of a block, experts below one another: what `bits` and `sparsity` act on. Of a block of a user's
    own that does not say its weights, all of them are taken for one."""
    owner = block_of(block)
    sliceable: Sliceable[Any] | None = offered(owner, Sliceable)
    if sliceable is None:
        total = owner.parameters(block, frame)
        return ((1, total),) if total else ()
    exact = owner.exact if isinstance(owner, Exact) else ()
    found = []
    for cut in sliceable.slices(block, frame, "", ""):
        if cut.name in exact or len(cut.shapes[0]) < 2:
            continue
        if role_of(cut.name, len(cut.shapes[0]), owner) in MATRICES:
            columns = cut.shapes[0][-1]
            found.append((sum(math.prod(shape) for shape in cut.shapes) // columns, columns))
    return tuple(found)


@remembered
def block_bytes(block: object, frame: Frame, after: After, size: int) -> tuple[int, int]:
    """(bytes of the matrices of a block as they are kept, parameters in them); `size` bytes has a value of the data type."""
    shapes = matrices(block, frame)
    bits = sum(stored_bits(*shape, after.bits, after.sparsity, 8 * size) for shape in shapes)
    return math.ceil(bits / 8), sum(rows * columns for rows, columns in shapes)


def weight_bytes(spec: DecoderSpec, vocab_size: int, size: int, parameters: int) -> int:
    """Bytes of all weights as they are kept.

    Args:
        size: bytes of a value that is not rounded.
        parameters: of the decoder, all of them.
    """
    if spec.after is None:
        return parameters * size
    around = spec.after[0]
    tables = 1 if spec.tied else 2
    total = tables * math.ceil(stored_bits(vocab_size, spec.width, around.bits, 0.0, 8 * size) / 8)
    counted = tables * vocab_size * spec.width
    if spec.details.max_length:
        total += math.ceil(stored_bits(spec.details.max_length, spec.width, around.bits, 0.0, 8 * size) / 8)
        counted += spec.details.max_length * spec.width
    tie = spec.details.tie_layers
    for layer, after in zip(spec.layers[::tie], spec.after[1::tie], strict=True):
        for block in layer:
            found, weights = block_bytes(block, spec.frame, after, size)
            total, counted = total + found, counted + weights
    return total + (parameters - counted) * size


def share_kept(layer: LayerSpec | None, width: int, frame: Frame, after: After, size: int, part: str = "") -> float:
    """Bytes of weights as they are kept, as a share of those in the data type; of a `part` of a layer, "mixer" or "mlp", or (layer None)
    of the embedding."""
    if layer is None:
        return stored_bits(1, width, after.bits, 0.0, 8 * size) / (8 * size * width)
    found, weights = block_bytes(layer.mixer if part == "mixer" else layer.mlp, frame, after, size)
    return found / (weights * size) if weights else 1.0


def cache_share(mixer: object, after: After, size: float) -> float:
    """Bytes of keys and values as they are kept, as a share of those in the data type; 1 for what caches other things."""
    if after.kv_bits >= 8 * size or offered(block_of(mixer), Caching) is None:
        return 1.0
    each = after.kv_bits + ((SCALE_BITS + after.kv_bits) / GROUP if after.kv_bits < 16 else 0)
    return each / (8 * size)
