"""Reading an architecture: which blocks, fields and values there are, and `check`, which turns an architecture into the
plain values that the builder and the counts read. Loads no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from nas_bo.architecture import AFTER, Architecture, Node
from nas_bo.errors import ModelError, NasBoError, near
from nas_bo.model.after_training import After, after_of, check_tied
from nas_bo.model.blocks.attention import AttentionSpec as AttentionSpec
from nas_bo.model.blocks.block import Frame, Remembered, on_change
from nas_bo.model.blocks.conv import ConvSpec as ConvSpec
from nas_bo.model.blocks.dense import ACTIVATIONS as ACTIVATIONS
from nas_bo.model.blocks.dense import MlpSpec as MlpSpec
from nas_bo.model.blocks.details import PLAIN, Details, check_length, details
from nas_bo.model.blocks.linear_attention import LinearAttentionSpec as LinearAttentionSpec
from nas_bo.model.blocks.skip import SkipSpec as SkipSpec
from nas_bo.model.blocks.table import block_of, is_ours, known, unknown
from nas_bo.model.connections import borrowing, check_connections

HYPERPARAMETERS = ("lr", "weight_decay", "batch_size", "sequence", "warmup", "decay", "clip", "embedding_power")
"""Top-level fields that are not part of the network; `nas_bo.model.train` reads them."""


class LayerSpec(NamedTuple):
    """Both are of the type `Spec` of their block; `nas_bo.model.blocks.table.block_of` finds the block."""

    mixer: Any
    mlp: Any

    def slot(self, part: str) -> Any:
        """What is the "mixer" or the "mlp"."""
        return self.mixer if part == "mixer" else self.mlp


class DecoderSpec(NamedTuple):
    """An architecture after checking: plain values, every default filled in. The builder and the counts read this."""

    width: int
    layers: tuple[LayerSpec, ...]
    norm: str = "rms"
    position: str = "rotary"
    parallel: bool = False
    tied: bool = True
    bias: bool = False
    finer: Details | None = None  # None where all are at their default: counts have it among their keys
    after: tuple[After, ...] | None = (
        None  # what is done after training: around the layers, then to each; None where nothing is
    )

    @property
    def details(self) -> Details:
        return PLAIN if self.finer is None else self.finer

    @property
    def frame(self) -> Frame:
        """What blocks know about it."""
        return Frame(self.width, self.norm, self.position, self.parallel, self.bias, self.finer)


_GLOBALS: dict[str, tuple[Any, ...]] = {
    "norm": ("rms", "layer"),
    "position": ("rotary", "none", "learned"),
    "parallel": (False, True),
    "tied": (True, False),
    "bias": (False, True),
}
_DEFAULTS = ("rms", "rotary", False, True, False)
_DETAILS = frozenset(Details._fields)
_RARE = _DETAILS | AFTER.keys()
_KNOWN = frozenset((*_GLOBALS, *_DETAILS, *AFTER, *HYPERPARAMETERS, "width", "layers", "depth", "mixer", "mlp", "kind"))


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
    spec = read(arch, ignore, connected=True)
    _last = (arch, ignore, spec)
    return spec


# Parameters, then FLOPs, then a label of the same candidate: architectures are frozen, so the last one is remembered.
_last: tuple[Any, Collection[str], Any] = (None, (), None)


@on_change
def _forget() -> None:
    global _last
    _last = (None, (), None)


class BlockFailed(ModelError):
    """A method of a block of a user's own raised what no block should raise: a fault of the block, not of an architecture."""


def own_blocks(spec: DecoderSpec) -> list[Any]:
    """Those blocks of the layers that are not of nas_bo, each once."""
    blocks = dict.fromkeys(one for layer in spec.layers for one in layer)
    return [one for one in blocks if not is_ours(block_of(one))]


def check_own_counts(arch: Architecture | Node) -> None:
    """Raise ModelError where a block of a user's own counts other parameters than its module has. Of what is not a decoder, or
    has other faults, nothing is reported, and without such blocks no torch is loaded."""
    try:
        fields = arch.tree if isinstance(arch, Architecture) else arch
        spec = read(arch, tuple(name for name in fields if name not in _KNOWN))
    except BlockFailed:
        raise
    except ModelError:
        return
    if own_blocks(spec):
        from nas_bo.model.decoder import check_own_blocks
        from nas_bo.model.own_blocks import try_own_blocks

        check_own_blocks(spec)
        try_own_blocks(spec)


@contextmanager
def failing(block: Any, what: str) -> Iterator[None]:
    """Whatever a block of a user's own raises is a BlockFailed that names the block and the method; those of nas_bo raise their own."""
    try:
        yield
    except NasBoError:
        raise
    except Exception as error:
        if is_ours(block):
            raise
        said = " ".join(str(error).split())
        raise BlockFailed(
            f"{what} of the block {block.kind!r} ({type(block).__module__}.{type(block).__qualname__}) failed with "
            f"{type(error).__name__}: {said:.300}; correct it, nas_bo.testing.BlockTests shows where"
        ) from error


def connections_fit(arch: Architecture | Node) -> bool:
    """Whether layers can be connected as the architecture says (`nas_bo.model.connections`), for rules of spaces. Other faults are
    not looked at: `check` says what they are."""
    try:
        fields = arch.tree if isinstance(arch, Architecture) else arch
        spec = read(arch, tuple(name for name in fields if name not in _KNOWN))
    except ModelError:
        return True
    try:
        _check_connected(spec)
    except ModelError:
        return False
    return True


def _check_connected(spec: DecoderSpec) -> None:
    check_connections(spec.layers, spec.details)
    check_tied(spec.after, spec.details.tie_layers)


def read(arch: Architecture | Node, ignore: Collection[str] = (), connected: bool = False) -> DecoderSpec:
    """As `check`, without its memory.

    Args:
        connected: False where each layer is checked for itself, and not whether they can be connected as the architecture says.
    """
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
                    f"the decoder knows no field {name!r} at the top of an architecture{near(name, sorted(_KNOWN))}; it knows "
                    f"{', '.join(sorted(_KNOWN - {'kind'}))}. If {name!r} is a knob of your own, pass "
                    f"ignore=({name!r},) and the decoder will ignore it"
                )
    width = fields.get("width")
    if width.__class__ is not int or width < 1:
        raise _wrong_size("width", width, "the architecture", present="width" in fields)
    layers = fields.get("layers")
    norm, position, parallel, tied, bias = _globals(fields)
    more: Details | None = None
    rare = not _RARE.isdisjoint(fields)
    if position == "learned" or (rare and not _DETAILS.isdisjoint(fields)):
        more = details(fields, norm, position, parallel, ignore)
        if fields.get("sequence").__class__ is int and "sequence" not in ignore:
            check_length(more, fields["sequence"])
        more = None if more == PLAIN else more
    frame = Frame(width, norm, position, parallel, bias, more)
    if layers is None:
        alike = _shorthand(fields, frame)
        after = None if AFTER.keys().isdisjoint(fields) else after_of(fields, (), len(alike), ignore)
        spec = DecoderSpec(width, alike, norm, position, parallel, tied, bias, more, after)
        if connected:
            _check_connected(spec)
        return spec
    specs, known_layers = [], _LAYERS[frame]
    linked = more is not None
    acting = rare and not AFTER.keys().isdisjoint(fields)
    for index, layer in enumerate(layers):
        try:
            inner = layer._fields
            mixer, mlp = inner["mixer"], inner["mlp"]
            if len(inner) != 2:
                if len(inner.keys() - AFTER.keys()) != 2:
                    raise KeyError
                acting = True
            mixing, feeding = mixer._fields, mlp._fields
            values = (*mixing.values(), *feeding.values())
            one, borrows = known_layers[(*mixing, None, *feeding, *values, *map(type, values))]
            specs.append(one)
            linked = linked or borrows
        except (AttributeError, KeyError, TypeError):  # unusual writing, or an error: the slow path tells which
            specs.append(_read_layer(layer, frame, f"layers.{index}"))
            linked, acting = True, acting or not AFTER.keys().isdisjoint(layer)
        except ModelError as error:
            raise type(error)(f"layers.{index}: {error}") from None
    after = after_of(fields, layers, len(specs), ignore) if acting else None
    found = DecoderSpec(width, tuple(specs), norm, position, parallel, tied, bias, more, after)
    if linked and connected:
        _check_connected(found)
    return found


def _shorthand(fields: dict[str, Any], frame: Frame) -> tuple[LayerSpec, ...]:
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
    return (_read_layer(layer, frame, "every layer"),) * depth


def _read_layer(layer: Any, frame: Frame, where: str) -> LayerSpec:
    if not isinstance(layer, Node):
        raise ModelError(f"{where} is {layer!r:.60}; it must be a record with the fields mixer and mlp")
    for name in ("mixer", "mlp"):
        if name not in layer:
            raise ModelError(f"{where} has no {name}; write {name}=skip() for a layer without one")
    for name in layer:
        if name not in ("mixer", "mlp") and name not in AFTER:
            raise ModelError(
                f"{where} has a field {name!r} that the decoder does not know{near(name, list(AFTER))}; a layer has mixer and mlp, and may "
                f"have {', '.join(AFTER)}"
            )
    items: list[dict[str, Any]] = []
    for name in ("mixer", "mlp"):
        block = layer[name]
        if isinstance(block, str):
            items.append({"kind": block})
        elif isinstance(block, Node):
            items.append(block._fields)
        else:
            raise ModelError(f"the {name} of {where} is {block!r:.60}; it must be a block such as skip()")
    try:
        return _checked(frame, items[0], items[1])
    except ModelError as error:
        raise type(error)(f"{where}: {error}") from None
    except TypeError:  # a value that cannot be hashed cannot be one of nas_bo's
        raise ModelError(
            f"{where} holds a value that is not a plain number, text or truth value: {items!r:.200}"
        ) from None


def _checked(frame: Frame, mixer: dict[str, Any], mlp: dict[str, Any]) -> LayerSpec:
    values = (*mixer.values(), *mlp.values())
    return _LAYERS[frame][(*mixer, None, *mlp, *values, *map(type, values))][0]


def _layer(key: tuple[Any, ...], frame: Frame) -> tuple[LayerSpec, bool]:
    """A checked layer, and whether it reads keys and values of another.

    Args:
        key: names of the fields of the mixer, None, names of those of the mlp, then all their values, then the types of these: 1 is not True.
    """
    number, first = len(key) // 3, key.index(None)
    names, values = key[: number + 1], key[number + 1 : 2 * number + 1]
    mixer = dict(zip(names[:first], values, strict=False))
    mlp = dict(zip(names[first + 1 :], values[first:], strict=True))
    layer = LayerSpec(_block("mixer", frame, mixer), _block("mlp", frame, mlp))
    return layer, borrowing(layer.mixer)


_LAYERS = Remembered(_layer)  # a search sees the same few layers again and again


def _block(slot: str, frame: Frame, given: dict[str, Any]) -> Any:
    kind = given.pop("kind", None)
    block = known(slot).get(kind)
    if block is None:
        raise unknown(slot, kind)
    defaults = block.fields
    for name in given:
        if name not in defaults:
            others = [other for other, one in known(slot).items() if name in one.fields]
            there = f"; {name} is a field of {' and '.join(others)}" if others else ""
            raise ModelError(
                f"{kind} has no field {name!r}{'' if there else near(name, list(defaults))}; it has "
                f"{', '.join(defaults) or 'no fields'}{there}"
            )
    for name, default in defaults.items():
        if default is ... and name not in given:
            raise ModelError(f"{kind} needs the field {name!r}; its fields are {', '.join(defaults)}")
    if is_ours(block):
        spec = block.check({**defaults, **given}, frame)
    else:
        with failing(block, "check(fields, frame)"):
            spec = block.check({**defaults, **given}, frame)
    if not isinstance(spec, block.Spec) or spec.kind != kind:  # of somebody's own block
        raise ModelError(
            f"the block {type(block).__name__} gave {spec!r:.100} for its check; it must give a {block.Spec.__name__} whose "
            f"kind is {kind!r}"
        )
    try:
        hash(spec)
    except TypeError as error:
        raise ModelError(
            f"the block {type(block).__name__} gave {spec!r:.100} for its check, which is not a plain value ({error}); its fields must be "
            "numbers, texts, truth values, None, or tuples of them"
        ) from None
    return spec


def _globals(fields: dict[str, Any]) -> tuple[str, str, bool, bool, bool]:
    if _GLOBALS.keys().isdisjoint(fields):
        return _DEFAULTS
    values: list[Any] = []
    for name, allowed in _GLOBALS.items():
        value = fields.get(name, allowed[0])
        if not any(value.__class__ is one.__class__ and value == one for one in allowed):
            raise ModelError(
                f"{name}={value!r} is unknown{near(value, allowed)}; it is one of {', '.join(map(repr, allowed))}"
            )
        values.append(value)
    norm, position, parallel, tied, bias = values
    return norm, position, parallel, tied, bias


def _wrong_size(name: str, value: Any, where: str, least: int = 1, present: bool = True) -> ModelError:
    if not present:
        return ModelError(f"{where} has no {name}; it needs one, an integer of at least {least}")
    return ModelError(f"{where} has {name}={value!r}; it must be an integer of at least {least}")
