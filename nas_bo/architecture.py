"""Architecture: one point of a search space. Frozen, hashable, JSON both ways, with an id that never changes.

An architecture has two views of the same thing:

* the *tree* is what a model builder reads: ``arch.layers[3].mixer.heads``;
* the *flat* view is what hosts, CSV files and MLflow see: ``{"layers.3.mixer.attention.heads": 4, ...}``.

Only `Space` builds architectures, so the two views always agree.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from nas_bo.errors import SpaceError
from nas_bo.foreign_document import reading

Primitive = str | int | float | bool | None

SCHEMA = 1  # version of the JSON form of an architecture
UNSAID: Mapping[str, Primitive] = {
    **dict.fromkeys(("norm_eps", "norm_bias", "rope_scaling", "rope_factor", "rope_length", "rope_low", "rope_high")),
    **dict.fromkeys(("embedding_scale", "max_length", "logit_cap")),
    "norm_place": "pre",
    "parallel_norms": 1,
    "rope_theta": 10000.0,
    "tie_layers": 1,
    "long_skips": False,
}
"""Top-level fields of decoders with their defaults: at these values they do not enter an id, which is what it was before there
were these fields."""
UNSAID_INSIDE: Mapping[str, tuple[str, Primitive]] = {"attention": ("share_kv", False)}
"""Likewise a field of a kind of block with its default."""
AFTER: Mapping[str, Primitive] = {"bits": 32, "kv_bits": 32, "sparsity": 0.0, "prune": 0.0}
"""What is done to a decoder after its training (`nas_bo.model.after_training`), with the values that do nothing: fields at its top, or of a
layer, which then says otherwise for itself. None is part of `Architecture.training_id`; those that change nothing are not in the id."""


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))  # made once: `json.dumps` makes one for each id


class Node(Mapping[str, Any]):
    """A read-only record: fields by attribute and by key. A chosen option also has ``kind``, the option's name."""

    __slots__ = ("_fields", "_text")
    _fields: dict[str, Any]
    _text: str | None  # in ids that leave out nothing of it; architectures share records

    def __init__(self, fields: dict[str, Any]) -> None:
        object.__setattr__(self, "_fields", fields)
        object.__setattr__(self, "_text", None)

    def __getattr__(self, name: str) -> Any:
        try:
            return self._fields[name]
        except KeyError:
            raise AttributeError(f"no field {name!r} here; there are: {', '.join(self._fields) or 'none'}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("architectures are frozen; build another one with Space.architecture(...)")

    def __getitem__(self, name: str) -> Any:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __hash__(self) -> int:
        return hash(tuple(self._fields.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Node) and self._fields == other._fields

    def __repr__(self) -> str:
        return f"Node({', '.join(f'{k}={v!r}' for k, v in self._fields.items())})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Node, (self._fields,)


class Architecture:
    """A sampled point of a `Space`.

    Attributes:
        tree: the nested view, a `Node`; its fields are also attributes of the architecture itself.
        flat: the flat view, a read-only mapping from dotted names to plain values, in the order of the space.
        id: 16 hexadecimal digits; equal for two architectures exactly when they are the same network. Inactive
            choices do not exist in it, and neither do the names of layer counts (the layers themselves are there).
            It depends on the values only: not on the process, the hash seed or the version of Python.
        training_id: the id without what acts after training (`AFTER`): equal for all that one training serves.
    """

    __slots__ = ("_id", "_training_id", "counts", "flat", "tree")
    tree: Node
    flat: Mapping[str, Primitive]
    counts: tuple[str, ...]
    _id: str | None
    _training_id: str | None

    def __init__(self, tree: Node, flat: dict[str, Primitive], counts: tuple[str, ...] = ()) -> None:
        object.__setattr__(self, "tree", tree)
        object.__setattr__(self, "flat", MappingProxyType(flat))
        object.__setattr__(self, "counts", counts)
        object.__setattr__(self, "_id", None)
        object.__setattr__(self, "_training_id", None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.tree, name)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("architectures are frozen; build another one with Space.architecture(...)")

    def get(self, name: str, default: Any = None) -> Any:
        """The top-level field of that name, or `default`."""
        return self.tree.get(name, default)

    @property
    def id(self) -> str:
        if self._id is None:
            object.__setattr__(self, "_id", self._digest(without_effect(self.tree)))
        assert self._id is not None
        return self._id

    @property
    def training_id(self) -> str:
        if self._training_id is None:
            after = acting_after(self.tree)
            object.__setattr__(self, "_training_id", self._digest(after) if after else self.id)
        assert self._training_id is not None
        return self._training_id

    def _digest(self, without: frozenset[str]) -> str:
        drop = without.union(self.counts)
        if not UNSAID.keys().isdisjoint(self.tree._fields):
            drop |= {name for name, value in UNSAID.items() if self.tree.get(name, ...) == value}
            layers = self.tree.get("layers")
            if isinstance(layers, tuple) and len(layers) < 3:  # there is nothing to skip
                drop |= {"long_skips"}
        text = _text(self.tree, drop, "")
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __hash__(self) -> int:
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Architecture) and self.id == other.id

    def __repr__(self) -> str:
        return f"Architecture({self.id}: {', '.join(f'{k}={v!r}' for k, v in self.flat.items())})"

    def __reduce__(self) -> tuple[object, ...]:
        return Architecture, (self.tree, dict(self.flat), self.counts)

    def to_dict(self) -> dict[str, Any]:
        """The architecture as plain data; `from_dict` is its inverse."""
        return {
            "schema": SCHEMA,
            "id": self.id,
            "tree": _plain(self.tree),
            "flat": dict(self.flat),
            "counts": list(self.counts),
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=1)

    @staticmethod
    @reading("the JSON of an architecture", SpaceError)
    def from_dict(data: Mapping[str, Any]) -> Architecture:
        """Rebuild an architecture without its space (an exported model must load where the space is unknown).

        Raises:
            SpaceError: the document is not an architecture, is of a newer schema, or was edited so that its id
                no longer fits.
        """
        if not isinstance(data, Mapping) or not {"schema", "id", "tree", "flat"} <= set(data):
            raise SpaceError("this is not the JSON of an architecture: it needs the keys schema, id, tree and flat")
        if data["schema"] != SCHEMA:
            raise SpaceError(
                f"the architecture has schema version {data['schema']!r}, this version of nas_bo reads {SCHEMA}: "
                "upgrade nas_bo, or write the file again with this version"
            )
        arch = Architecture(_node(data["tree"]), dict(data["flat"]), tuple(data.get("counts", ())))
        if arch.id != data["id"]:
            raise SpaceError(
                f"the architecture says id {data['id']!r} but its content has id {arch.id!r}: the file was edited; "
                "build a changed architecture with Space.architecture(...)"
            )
        return arch

    @staticmethod
    @reading("the JSON of an architecture", SpaceError)
    def from_json(text: str) -> Architecture:
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise SpaceError(
                f"this is not JSON ({error}); expected the text written by Architecture.to_json"
            ) from error
        return Architecture.from_dict(data)


NOWHERE: frozenset[str] = frozenset()


def names_after(path: str) -> bool:
    """Whether the decision of that flat name is about what is done after training: ``bits``, ``layers.3.bits``."""
    *above, name = path.split(".")
    return name in AFTER and (not above or (len(above) == 2 and above[0] == "layers" and above[1].isdecimal()))


def acting_after(tree: Node) -> frozenset[str]:
    """The dotted names of the fields of a decoder that act after training; none in what is not a decoder."""
    layers, found = _layers(tree)
    if layers is None:
        return NOWHERE
    for index, layer in enumerate(layers):
        found += [f"layers.{index}.{name}" for name in AFTER if name in layer._fields]
    return frozenset(found) if found else NOWHERE


def without_effect(tree: Node) -> frozenset[str]:
    """Those among them that change nothing: a layer's that says what it would be anyway, or that has no weights to act on."""
    layers, above = _layers(tree)
    if layers is None or not (above or any(not AFTER.keys().isdisjoint(layer._fields) for layer in layers)):
        return NOWHERE
    found = [name for name in above if tree[name] == AFTER[name]]
    for index, layer in enumerate(layers):
        absent = [name for name in ("mixer", "mlp") if _kind(layer._fields.get(name)) == "skip"]
        for name in AFTER:
            nothing = {"kv_bits": "mixer" in absent, "prune": "mlp" in absent}.get(name, len(absent) == 2)
            if name in layer._fields and (nothing or layer[name] == tree.get(name, AFTER[name])):
                found.append(f"layers.{index}.{name}")
    return frozenset(found)


def _layers(tree: Node) -> tuple[tuple[Node, ...] | None, list[str]]:
    """The layers of a decoder and the names of `AFTER` at its top; None for what is not one."""
    layers = tree._fields.get("layers", ())
    if not isinstance(layers, tuple) or not all(
        isinstance(layer, Node) and "mixer" in layer._fields for layer in layers
    ):
        return None, []
    if not layers and "mixer" not in tree._fields:
        return None, []
    return layers, [name for name in AFTER if name in tree._fields]


def _kind(block: object) -> object:
    return block._fields.get("kind") if isinstance(block, Node) else block


def _plain(value: object) -> object:
    """Nodes to dicts and tuples to lists."""
    if isinstance(value, Node):
        return {k: _plain(v) for k, v in value._fields.items()}
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return value


def _text(value: object, drop: frozenset[str], path: str) -> str:
    """The canonical JSON of the plain form of a value at a dotted path, which ends with a dot: without the fields in `drop`, and those
    in `UNSAID_INSIDE`."""
    if isinstance(value, Node):
        inside = drop and frozenset(name for name in drop if name.startswith(path))
        if not inside and value._text is not None:
            return value._text
        fields, at = value._fields, path
        name, default = "", None
        if "kind" in fields:
            at = f"{path}{fields['kind']}."
            name, default = UNSAID_INSIDE.get(fields["kind"], ("", None))
        said = [k for k in sorted(fields) if f"{at}{k}" not in inside and not (k == name and fields[k] is default)]
        parts = [f"{_CANONICAL.encode(k)}:{_text(fields[k], inside, f'{at}{k}.')}" for k in said]
        text = "{" + ",".join(parts) + "}"
        if not inside:
            object.__setattr__(value, "_text", text)
        return text
    if isinstance(value, tuple):
        return "[" + ",".join([_text(v, drop, f"{path}{i}.") for i, v in enumerate(value)]) + "]"
    return repr(value) if type(value) is int else _CANONICAL.encode(value)


def _node(value: object) -> Any:
    if isinstance(value, Mapping):
        return Node({k: _node(v) for k, v in value.items()})
    if isinstance(value, list):
        return tuple(_node(v) for v in value)
    return value
