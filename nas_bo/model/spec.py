"""Reading an architecture: which blocks, fields and values there are, and `check`, which turns an architecture into the
plain values that the builder and the counts read. Loads no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, NamedTuple

from nas_bo.architecture import Architecture, Node
from nas_bo.errors import ModelError

ACTIVATIONS = ("gelu", "silu", "relu2")
HYPERPARAMETERS = ("lr", "weight_decay", "batch_size", "sequence", "warmup", "decay", "clip", "embedding_power")
"""Top-level fields that are no part of the network; `nas_bo.model.train` reads them."""


class AttentionSpec(NamedTuple):
    kind: str
    heads: int
    kv_heads: int
    head_dim: int
    window: int | None


class LinearAttentionSpec(NamedTuple):
    kind: str
    heads: int
    head_dim: int


class ConvSpec(NamedTuple):
    kind: str
    kernel: int


class SkipSpec(NamedTuple):
    kind: str


class MlpSpec(NamedTuple):
    """A dense MLP (experts == 0) or a mixture of `experts` such MLPs. `hidden` is per expert, in units."""

    kind: str
    hidden: int
    activation: str
    gated: bool
    experts: int
    top_k: int


_Items = tuple[tuple[str, Any], ...]  # the fields of one block as a key of the memo
MixerSpec = AttentionSpec | LinearAttentionSpec | ConvSpec | SkipSpec


class LayerSpec(NamedTuple):
    mixer: MixerSpec
    mlp: MlpSpec | SkipSpec


class DecoderSpec(NamedTuple):
    """An architecture after checking: plain values, every default filled in. The builder and the counts read this."""

    width: int
    layers: tuple[LayerSpec, ...]
    norm: str = "rms"
    position: str = "rotary"
    parallel: bool = False
    tied: bool = True
    bias: bool = False


MIXER_FIELDS: dict[str, dict[str, Any]] = {
    "attention": {"heads": ..., "kv_group": 1, "head_dim": None, "window": None},
    "linear_attention": {"heads": ..., "head_dim": None},
    "conv": {"kernel": ...},
    "skip": {},
}
MLP_FIELDS: dict[str, dict[str, Any]] = {
    "dense": {"ratio": ..., "activation": "gelu", "gated": False},
    "moe": {"experts": ..., "top_k": 1, "ratio": 2, "activation": "gelu", "gated": False},
    "skip": {},
}
_GLOBALS: dict[str, tuple[Any, ...]] = {
    "norm": ("rms", "layer"),
    "position": ("rotary", "none"),
    "parallel": (False, True),
    "tied": (True, False),
    "bias": (False, True),
}
_DEFAULTS = ("rms", "rotary", False, True, False)
_KNOWN = frozenset((*_GLOBALS, *HYPERPARAMETERS, "width", "layers", "depth", "mixer", "mlp", "kind"))


def check(arch: Architecture | Node, ignore: Collection[str] = ()) -> DecoderSpec:
    """The architecture as a `DecoderSpec`: every name known, every value possible, every default filled in.

    Args:
        arch: an `Architecture`, or a `Node` written by hand.
        ignore: names of top-level fields that are the user's own and no business of the decoder.

    Raises:
        ModelError: an unknown block, field or value, or sizes that do not fit together.
    """
    global _last
    last = _last
    if arch is last[0] and ignore == last[1]:
        remembered: DecoderSpec = last[2]
        return remembered
    spec = _check(arch, ignore)
    _last = (arch, ignore, spec)
    return spec


# Parameters, then FLOPs, then a label of the same candidate: architectures are frozen, so the last one is remembered.
_last: tuple[Any, Collection[str], Any] = (None, (), None)


def _check(arch: Architecture | Node, ignore: Collection[str]) -> DecoderSpec:
    if isinstance(arch, Architecture):
        fields = arch.tree._fields
    elif isinstance(arch, Node):
        fields = arch._fields
    else:
        raise ModelError(
            f"an Architecture or a Node was expected, this is a {type(arch).__name__}: {arch!r:.60}; "
            "take one from a space, as in space.sample(seed)"
        )
    if not _KNOWN.issuperset(fields):
        counts = arch.counts if isinstance(arch, Architecture) else ()
        for name in fields:
            if name not in _KNOWN and name not in ignore and name not in counts:
                raise ModelError(
                    f"the decoder knows no field {name!r} at the top of an architecture{_near(name, _KNOWN)}; it knows "
                    f"{', '.join(sorted(_KNOWN - {'kind'}))}. If {name!r} is a knob of your own, pass "
                    f"ignore=({name!r},) and the decoder will pass over it"
                )
    width = fields.get("width")
    if width.__class__ is not int or width < 1:
        raise _wrong_size("width", width, "the architecture", present="width" in fields)
    layers = fields.get("layers")
    norm, position, parallel, tied, bias = _globals(fields)
    rotary = position == "rotary"
    if layers is None:
        return DecoderSpec(width, _shorthand(fields, width, rotary), norm, position, parallel, tied, bias)
    specs = []
    for index, layer in enumerate(layers):
        try:
            inner = layer._fields
            mixer, mlp = inner["mixer"], inner["mlp"]
            if len(inner) != 2:
                raise KeyError
            specs.append(_layer(width, rotary, tuple(mixer._fields.items()), tuple(mlp._fields.items())))
        except (AttributeError, KeyError, TypeError):  # unusual writing, or an error: the slow path tells which
            specs.append(_read_layer(layer, width, rotary, f"layers.{index}"))
        except ModelError as error:
            raise ModelError(f"layers.{index}: {error}") from None
    return DecoderSpec(width, tuple(specs), norm, position, parallel, tied, bias)


def _shorthand(fields: dict[str, Any], width: int, rotary: bool) -> tuple[LayerSpec, ...]:
    missing = [name for name in ("depth", "mixer", "mlp") if name not in fields]
    if missing:
        raise ModelError(
            f"the architecture has neither layers nor {' nor '.join(missing)}; write layers=repeat(depth, mixer=..., "
            "mlp=...), or depth, mixer and mlp at the top for the same block in every layer"
        )
    depth = fields["depth"]
    if depth.__class__ is not int or depth < 0:
        raise _wrong_size("depth", depth, "the architecture", least=0)
    layer = Node({"mixer": fields["mixer"], "mlp": fields["mlp"]})
    return (_read_layer(layer, width, rotary, "every layer"),) * depth


def _read_layer(layer: Any, width: int, rotary: bool, where: str) -> LayerSpec:
    if not isinstance(layer, Node):
        raise ModelError(f"{where} is {layer!r:.60}; it must be a record with the fields mixer and mlp")
    for name in ("mixer", "mlp"):
        if name not in layer:
            raise ModelError(f"{where} has no {name}; write {name}=skip() for a layer without one")
    for name in layer:
        if name not in ("mixer", "mlp"):
            raise ModelError(f"{where} has a field {name!r} that the decoder does not know; a layer has mixer and mlp")
    items: list[_Items] = []
    for name in ("mixer", "mlp"):
        block = layer[name]
        if isinstance(block, str):
            items.append((("kind", block),))
        elif isinstance(block, Node):
            items.append(tuple(block.items()))
        else:
            raise ModelError(f"the {name} of {where} is {block!r:.60}; it must be a block such as skip()")
    try:
        return _layer(width, rotary, items[0], items[1])
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from None
    except TypeError:  # a value that cannot be hashed cannot be one of ours
        raise ModelError(
            f"{where} holds a value that is no plain number, text or truth value: {items!r:.200}"
        ) from None


@lru_cache(maxsize=65536)
def _layer(width: int, rotary: bool, mixer: _Items, mlp: _Items) -> LayerSpec:
    """Checked once per distinct layer: a search sees the same few layers again and again."""
    return LayerSpec(_mixer(width, rotary, dict(mixer)), _mlp(width, dict(mlp)))


def _mixer(width: int, rotary: bool, given: dict[str, Any]) -> MixerSpec:
    kind, fields = _fill("mixer", given, MIXER_FIELDS)
    if kind == "skip":
        return SkipSpec("skip")
    if kind == "conv":
        return ConvSpec("conv", _size("kernel", fields["kernel"], kind))
    heads = _size("heads", fields["heads"], kind)
    head_dim = fields["head_dim"]
    if head_dim is None:
        if width % heads:
            raise ModelError(
                f"{kind} with heads={heads} does not divide width={width}; choose heads that divide it or give head_dim"
            )
        head_dim = width // heads
    head_dim = _size("head_dim", head_dim, kind)
    if kind == "linear_attention":
        return LinearAttentionSpec(kind, heads, head_dim)
    if rotary and head_dim % 2:
        raise ModelError(
            f"attention has head_dim={head_dim} at width={width}, and rotary positions turn pairs of values; "
            'choose heads or head_dim so that it is even, or position="none"'
        )
    group = _size("kv_group", fields["kv_group"], kind)
    if heads % group:
        raise ModelError(f"attention with kv_group={group} does not divide heads={heads}; choose a divisor of heads")
    window = fields["window"]
    return AttentionSpec(
        kind, heads, heads // group, head_dim, None if window is None else _size("window", window, kind)
    )


def _mlp(width: int, given: dict[str, Any]) -> MlpSpec | SkipSpec:
    kind, fields = _fill("mlp", given, MLP_FIELDS)
    if kind == "skip":
        return SkipSpec("skip")
    ratio = fields["ratio"]
    if ratio.__class__ not in (int, float) or not 0 < ratio < float("inf") or round(ratio * width) < 1:
        raise ModelError(
            f"{kind} has ratio={ratio!r} at width={width}; it must be a number that makes at least one hidden unit"
        )
    if fields["activation"] not in ACTIVATIONS:
        raise ModelError(
            f"{kind} has activation={fields['activation']!r}{_near(fields['activation'], ACTIVATIONS)}; "
            f"there are {', '.join(ACTIVATIONS)}"
        )
    if fields["gated"].__class__ is not bool:
        raise ModelError(f"{kind} has gated={fields['gated']!r}; it must be True or False")
    experts, top_k = 0, 0
    if kind == "moe":
        experts, top_k = _size("experts", fields["experts"], kind), _size("top_k", fields["top_k"], kind)
        if top_k > experts:
            raise ModelError(f"moe has top_k={top_k} but only experts={experts}; choose top_k at most experts")
    return MlpSpec(kind, round(ratio * width), fields["activation"], fields["gated"], experts, top_k)


def _fill(slot: str, given: dict[str, Any], known: dict[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    kind = given.pop("kind", None)
    if kind not in known:
        raise ModelError(f"there is no {slot} {kind!r}{_near(kind, known)}; there are {', '.join(known)}")
    defaults = known[kind]
    for name in given:
        if name not in defaults:
            raise ModelError(
                f"{kind} has no field {name!r}{_near(name, defaults)}; it has {', '.join(defaults) or 'no fields'}"
            )
    for name, default in defaults.items():
        if default is ... and name not in given:
            raise ModelError(f"{kind} needs the field {name!r}; its fields are {', '.join(defaults)}")
    return kind, {**defaults, **given}


def _globals(fields: dict[str, Any]) -> tuple[str, str, bool, bool, bool]:
    if _GLOBALS.keys().isdisjoint(fields):
        return _DEFAULTS
    values: list[Any] = []
    for name, allowed in _GLOBALS.items():
        value = fields.get(name, allowed[0])
        if not any(value.__class__ is one.__class__ and value == one for one in allowed):
            raise ModelError(
                f"{name}={value!r} is unknown{_near(value, allowed)}; it is one of {', '.join(map(repr, allowed))}"
            )
        values.append(value)
    norm, position, parallel, tied, bias = values
    return norm, position, parallel, tied, bias


def _size(name: str, value: Any, where: str) -> int:
    if value.__class__ is not int or value < 1:
        raise _wrong_size(name, value, where)
    return int(value)


def _wrong_size(name: str, value: Any, where: str, least: int = 1, present: bool = True) -> ModelError:
    if not present:
        return ModelError(f"{where} has no {name}; it needs one, an integer of at least {least}")
    return ModelError(f"{where} has {name}={value!r}; it must be an integer of at least {least}")


def _near(name: object, known: Iterable[object]) -> str:
    close = get_close_matches(str(name), [str(one) for one in known], n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
