"""Structured pruning: a trained model as a smaller one of the same vocabulary, whose weights are a part of its own.

Which entries of which weights belong to a unit is what the block says for supernets (`Sliceable.slices`, `Prunable`). What reads the units
that stay can be corrected for those that go: the matrix that gives the nearest output on the calibration text in the sense of least
squares (Kurtic et al. 2023, arXiv 2302.04089, section 3.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from nas_bo.architecture import Architecture, Node, Primitive
from nas_bo.compress.calibration import Calibration, hessians, windows
from nas_bo.compress.importance import METHODS, Method, importances
from nas_bo.compress.ridges import without_columns
from nas_bo.errors import CompressError, near
from nas_bo.model.blocks.block import Frame, Prunable, Sliceable, role_of
from nas_bo.model.blocks.skip import absent
from nas_bo.model.blocks.table import block_of
from nas_bo.model.connections import FIELDS, borrowing, connected
from nas_bo.model.decoder import Decoder
from nas_bo.model.spec import DecoderSpec, LayerSpec
from nas_bo.validated import check_values, number, one_of
from nas_bo.wording import counted

Share = float | Mapping[str, float]
"""To remove: of every layer, or by the names "layers.3", "layers.3.mlp" and "default" (0 where it is not given)."""
SHARE = number(at_least=0, below=1)


@dataclass(frozen=True, eq=False)
class PrunedModel:
    """What `prune` gave.

    Attributes:
        model: the smaller decoder.
        kept: where -> unit -> the indices that stayed; "layers" -> "layers" -> the layers.
        blocks: where -> the block that is there now, as a part of an architecture, of those that have changed.
    """

    model: Decoder
    kept: Mapping[str, Mapping[str, Sequence[int]]]
    blocks: Mapping[str, Node]

    @property
    def parameters(self) -> int:
        return sum(weight.numel() for weight in self.model.parameters())

    def architecture(self, before: Architecture | Node) -> Architecture:
        """Its architecture, given that of the model that was pruned. It is in no space."""
        tree = before.tree if isinstance(before, Architecture) else before
        tie = self.model.spec.details.tie_layers
        layers = []
        for index, layer in enumerate(_layers(tree)):
            at = f"layers.{index // tie}."
            layers.append(Node({part: self.blocks.get(at + part, layer[part]) for part in ("mixer", "mlp")}))
        stay = self.kept.get("layers", {}).get("layers")
        if stay is not None:
            layers = [layers[index] for index in stay]
        counts = before.counts if isinstance(before, Architecture) else ()
        dropped = ("mixer", "mlp", "layers", "depth", *counts)
        made = Node({**{name: value for name, value in tree.items() if name not in dropped}, "layers": tuple(layers)})
        return Architecture(made, flat_of(made))


def prune(
    model: Decoder,
    channels: Share = 0.0,
    heads: Share = 0.0,
    experts: Share = 0.0,
    layers: float = 0.0,
    method: Method | Literal["random"] = "wanda",
    calibration: Calibration | None = None,
    *,
    repair: bool = True,
) -> PrunedModel:
    """A smaller model with the units of a trained one that matter most.

    Args:
        channels, heads, experts: the share of each that is removed, 0 to below 1; heads go with all that share their keys. At
            least one stays.
        layers: the share of whole layers, those of least block influence.
        method: of `nas_bo.compress.importances`; "random" as a control.
        calibration: a corpus, or windows (B, T + 1) of token ids. Not needed by "weight" and "random" without repair and layers.
        repair: correct what reads the units that stay, by least squares, as far as one half of the calibration predicts the other.

    Raises:
        CompressError: a layer that there is not or that has no such units, a share out of range, nothing to remove, or no
            calibration.
    """
    shares = {"channels": channels, "heads": heads, "experts": experts}
    check_values("prune", CompressError, one_of(*METHODS, "random"), method=method)
    check_values("prune", CompressError, SHARE.advise("0.5 takes half of them away"), layers=layers)
    kept = {unit: _kept(model, unit, share) for unit, share in shares.items()}
    dropped = round(layers * len(model.layers))
    if not any(kept.values()) and not dropped:
        raise CompressError(
            "prune(): nothing is removed; give a share above 0, such as channels=0.5, large enough for at least one unit of a layer"
        )
    _check_connected(model.spec, bool(kept["heads"]), bool(dropped))
    if dropped >= len(model.layers):
        raise CompressError(
            f"prune(layers={layers:g}) removes all {counted(len(model.layers), 'layer')}; use a smaller share"
        )
    text = calibration is not None or repair or dropped or method not in ("weight", "random")
    tokens = windows(model, calibration, "prune") if text else None
    choose = _Choice(model, tokens, method)
    stays: dict[str, dict[str, list[int]]] = {}
    blocks: dict[str, Node] = {}
    made = model
    for unit, counts in kept.items():
        if not counts:
            continue
        chosen = {where: choose(where, unit, count) for where, count in counts.items()}
        inputs = _Inputs(made, tokens, chosen) if repair and unit != "experts" and tokens is not None else None
        made = _without(made, unit, chosen, inputs, blocks)
        for where, keep in chosen.items():
            stays.setdefault(where, {})[unit] = keep.tolist()
    if dropped:
        scores = importances(model, tokens, units=("layers",))["layers", "layers"]
        keep = scores.best(len(model.layers) - dropped)
        made = of_layers(made, keep.tolist())
        stays["layers"] = {"layers": keep.tolist()}
    return PrunedModel(made.eval(), stays, blocks)


# ---- what is asked for --------------------------------------------------------------------------------------------------


def _blocks(spec: DecoderSpec) -> dict[str, Any]:
    """Name -> the spec of every block that is there; layers that share weights once."""
    return {
        f"layers.{index}.{part}": layer.slot(part)
        for index, layer in enumerate(spec.layers[:: spec.details.tie_layers])
        for part in ("mixer", "mlp")
        if not absent(layer.slot(part))
    }


def _units(spec: object, frame: Frame, unit: str) -> int:
    """How many units of a kind a block can lose from; 0 where it has none."""
    block = block_of(spec)
    if not isinstance(block, Prunable) or not isinstance(block, Sliceable):
        return 0
    return block.units(spec, frame).get(unit, 0)


def _kept(model: Decoder, unit: str, share: Share) -> dict[str, int]:
    """Where -> how many units stay, of the blocks that lose some (raises CompressError)."""
    blocks, frame = _blocks(model.spec), model.spec.frame
    counts = {where: _units(spec, frame, unit) for where, spec in blocks.items()}
    asked: dict[str, float] = {}
    if isinstance(share, Mapping):
        for key, value in share.items():
            check_values("prune", CompressError, SHARE, **{f"{unit}[{key!r}]": value})
            hit = [where for where in blocks if key == "default" or where == key or where.startswith(f"{key}.")]
            if not hit:
                raise CompressError(
                    f"prune({unit}=...) names {key!r}{near(key, _names(blocks))}, and the model has no such layer; there are "
                    f"{', '.join(_names(blocks))}"
                )
            able = [where for where in hit if counts[where]]
            if not able and value > 0:
                raise _no_units(unit, key, [blocks[where] for where in hit])
            for where in able:
                if key != "default":
                    asked[where] = value
        for where in counts:
            if counts[where]:
                asked.setdefault(where, share.get("default", 0.0))
    else:
        check_values("prune", CompressError, SHARE.advise("0.5 takes half of them away"), **{unit: share})
        able = [where for where, count in counts.items() if count]
        if share > 0 and not able:
            raise _no_units(unit, "the model", list(blocks.values()))
        asked = dict.fromkeys(able, share)
    left = {where: max(1, round((1 - value) * counts[where])) for where, value in asked.items()}
    return {where: count for where, count in left.items() if count < counts[where]}


def _names(blocks: Mapping[str, object]) -> list[str]:
    return ["default", *dict.fromkeys(where.rpartition(".")[0] for where in blocks), *blocks]


def _no_units(unit: str, where: str, specs: Sequence[Any]) -> CompressError:
    kinds = ", ".join(dict.fromkeys(repr(spec.kind) for spec in specs))
    return CompressError(
        f"prune({unit}=...): {where} has no {unit} that could be removed. Its blocks are {kinds or 'none'}; which units a kind can "
        "lose is what its units(spec, frame) says (nas_bo.model.blocks.Prunable), so ask for other units or other layers"
    )


def _check_connected(spec: DecoderSpec, heads: bool, layers: bool) -> None:
    if layers and connected(spec.layers, spec.details):
        raise CompressError(
            f"prune(layers=...): the layers of this model are connected to others ({', '.join(FIELDS)}), and cannot go one by one; take "
            "channels or heads away instead"
        )
    if heads and any(borrowing(layer.mixer) for layer in spec.layers):
        raise CompressError(
            "prune(heads=...): layers of this model read the keys of others (share_kv), which must stay as many; take channels away "
            "instead"
        )


class _Choice:
    """Which units stay."""

    def __init__(self, model: Decoder, tokens: Tensor | None, method: str) -> None:
        self._draws = torch.Generator().manual_seed(0)
        self._scores: Mapping[tuple[str, str], Any] = {}
        self._model = model
        if method != "random":
            units = ("channels", "heads", "experts")
            self._scores = importances(model, tokens, method, units)  # type: ignore[arg-type]

    def __call__(self, where: str, unit: str, count: int) -> Tensor:
        if (where, unit) in self._scores:
            found: Tensor = self._scores[where, unit].best(count)
            return found
        there = _units(_blocks(self._model.spec)[where], self._model.spec.frame, unit)
        return torch.randperm(there, generator=self._draws)[:count].sort().values


# ---- the smaller model --------------------------------------------------------------------------------------------------


class _Inputs:
    """What the matrices out of some blocks are given: second moments on both halves of the text, by name."""

    def __init__(self, model: Decoder, tokens: Tensor, chosen: Mapping[str, Tensor]) -> None:
        middle = tokens.shape[1] // 2
        parts = tokens.chunk(2) if len(tokens) > 1 else (tokens[:, : middle + 1], tokens[:, middle:])
        wanted = _outs(model, chosen)
        self.tokens = sum(part.shape[0] * (part.shape[1] - 1) for part in parts)
        self.halves = [hessians(model, part, wanted) for part in parts]

    def without(self, name: str, weight: Tensor, kept: Tensor) -> Tensor:
        """`weight` with the columns `kept`, corrected."""
        return without_columns(weight, [half[name] for half in self.halves], self.tokens, kept)


def _outs(model: Decoder, chosen: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The matrices out of these blocks, by name."""
    wanted: dict[str, Tensor] = {}
    for where in chosen:
        module, block = model.get_submodule(where), block_of(_blocks(model.spec)[where])
        for name, weight in module.named_parameters():
            if weight.dim() == 2 and role_of(name, 2, block) == "out":
                wanted[f"{where}.{name}"] = weight
    return wanted


def _without(
    model: Decoder,
    unit: str,
    chosen: Mapping[str, Tensor],
    inputs: _Inputs | None,
    blocks: dict[str, Node],
) -> Decoder:
    """The model whose blocks at `chosen` have these units only; `blocks` gets what they are now."""
    spec, tie = model.spec, model.spec.details.tie_layers
    layers = [layer._asdict() for layer in spec.layers]
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    for where, keep in chosen.items():
        _, index, part = where.split(".")
        old = layers[int(index) * tie][part]
        block = block_of(old)
        fields = block.with_units(old, spec.frame, unit, len(keep))  # type: ignore[attr-defined]  # a Prunable, by `_kept`
        new = block.check({**block.fields, **fields}, spec.frame)
        for at in range(int(index) * tie, (int(index) + 1) * tie):
            layers[at][part] = new
        blocks[where] = Node({"kind": old.kind, **fields})
        total = _units(old, spec.frame, unit)
        weights |= _cut(
            weights, old, new, spec.frame, f"{where}.", keep.to(model.embedding.weight.device), total, inputs
        )
    return _filled(spec._replace(layers=tuple(LayerSpec(**layer) for layer in layers)), model, weights)


def _cut(
    weights: Mapping[str, Tensor],
    old: Any,
    new: Any,
    frame: Frame,
    prefix: str,
    keep: Tensor,
    total: int,
    inputs: _Inputs | None,
) -> dict[str, Tensor]:
    """The weights of a block with the units `keep` of `total`."""
    block: Any = block_of(old)
    made = {}
    for before, after in zip(block.slices(old, frame, "", prefix), block.slices(new, frame, "", prefix), strict=True):
        weight = weights[before.name]
        sizes = [shape[before.axis] for shape in before.shapes]
        parts = []
        for part, was, now, shape in zip(
            torch.split(weight, sizes, before.axis), before.pieces, after.pieces, after.shapes, strict=True
        ):
            part = part.reshape(was.sizes)
            for axis, (a, b) in enumerate(zip(was.sizes, now.sizes, strict=True)):
                if a != b:
                    part = part.index_select(axis, _entries(keep, a // total))
            parts.append(part.reshape(shape))
        made[before.name] = parts[0] if len(parts) == 1 else torch.cat(parts, before.axis)
        if inputs is not None and before.name in inputs.halves[0]:
            made[before.name] = inputs.without(before.name, weight, _entries(keep, weight.shape[1] // total))
    return made


def _entries(keep: Tensor, each: int) -> Tensor:
    """Units -> their entries along an axis where each has so many."""
    found: Tensor = (keep.unsqueeze(1) * each + torch.arange(each, device=keep.device)).flatten()
    return found


def of_layers(model: Decoder, keep: Sequence[int]) -> Decoder:
    """The model with these layers only."""
    spec = model.spec._replace(layers=tuple(model.spec.layers[index] for index in keep))
    numbers = {str(old): new for new, old in enumerate(keep)}
    weights = {}
    for name, weight in model.named_parameters():
        place, _, inside = name.partition(".")
        index, _, rest = inside.partition(".")
        if place != "layers":
            weights[name] = weight.detach()
        elif index in numbers:
            weights[f"layers.{numbers[index]}.{rest}"] = weight.detach()
    return _filled(spec, model, weights)


@torch.no_grad()
def _filled(spec: DecoderSpec, like: Decoder, weights: Mapping[str, Tensor]) -> Decoder:
    with torch.device(like.embedding.weight.device):
        made = Decoder(spec, like.vocab_size)
    for name, place in made.named_parameters():
        place.data = weights[name].clone()
    return made


# ---- its architecture ---------------------------------------------------------------------------------------------------


def _layers(tree: Node) -> list[Node]:
    """The layers of an architecture, those of the short form as well."""
    if "layers" in tree:
        return list(tree["layers"])
    return [Node({"mixer": tree["mixer"], "mlp": tree["mlp"]})] * int(tree["depth"])


def flat_of(tree: Node) -> dict[str, Primitive]:
    """The flat view of a tree that is in no space: every field by its dotted name."""
    found: dict[str, Primitive] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, tuple):
            for index, one in enumerate(value):
                walk(one, f"{path}.{index}")
        elif isinstance(value, Node):
            kind = value.get("kind")
            if kind is not None:
                found[path] = kind
            for name, one in value.items():
                if name != "kind":
                    walk(one, ".".join(part for part in (path, kind, name) if part))
        else:
            found[path] = value

    walk(tree, "")
    return found
