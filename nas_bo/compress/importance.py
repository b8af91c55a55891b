"""How much the parts of a trained model matter: channels of MLPs, heads with the keys that they share, experts, layers, the width.

============= ======================================================================================================
``wanda``     norm of what a unit gives times the norm of the weights that read it (of channels: after Sun et al. 2023,
              arXiv 2306.11695, eq. 1, summed over the rows)
``activation``  mean absolute value of what a unit gives (Minitron: Muralidharan et al. 2024, arXiv 2407.14679, section 2.2)
``taylor``    absolute value of the sum of gradient times weight of what reads it (Molchanov et al. 2019, arXiv 1906.10771, eq. 8,
              before the square)
``weight``    norm of the weights that make a unit times the norm of those that read it; no text is needed
============= ======================================================================================================

Experts are scored by how much they add to the stream: the mean over the tokens that they are given of gate times norm of the output
(REAP: Lasby et al. 2025, arXiv 2510.13999, eq. 9), whatever the method; without text by the norms of their weights. Layers are scored by
block influence, 1 minus the mean cosine between what goes in and what comes out (ShortGPT: Men et al. 2024, arXiv 2403.03853, eq. 1);
channels of the width by the mean absolute value behind the norms (Minitron, section 2.2).

Every score is a mean over batches of the calibration text, with its standard deviation over them. Shapes: U units, N tokens, C columns.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nas_bo.compress.calibration import Calibration, batches, windows
from nas_bo.errors import CompressError
from nas_bo.model.blocks.block import Prunable, Sliceable, role_of
from nas_bo.model.blocks.skip import absent
from nas_bo.model.blocks.table import block_of
from nas_bo.model.decoder import Decoder
from nas_bo.model.inference import evaluating
from nas_bo.model.layers.moe import Mixture
from nas_bo.model.products import Watching
from nas_bo.validated import check_values, one_of

METHODS = ("wanda", "activation", "taylor", "weight")
UNITS = ("channels", "heads", "experts", "layers", "width")
Method = Literal["wanda", "activation", "taylor", "weight"]


@dataclass(frozen=True, eq=False)
class Importance:
    """Scores of the units of one kind in one place; larger matters more.

    Attributes:
        where: "layers.3.mlp", "layers" or "width".
        unit: one of `UNITS`.
        scores: (U,) float32, means over batches.
        spread: (U,) their standard deviations over batches; 0 of a single one, and where no text is needed.
        batches: of calibration text.
    """

    where: str
    unit: str
    scores: Tensor
    spread: Tensor
    batches: int

    def best(self, count: int) -> Tensor:
        """The indices of the `count` units that matter most, in their order; of equal ones the first."""
        return self.order()[:count].sort().values

    def order(self) -> Tensor:
        """The indices of all units, those that matter most first; equal ones in their order."""
        return torch.argsort(self.scores, descending=True, stable=True)


def importances(
    model: Decoder,
    calibration: Calibration | None = None,
    method: Method = "wanda",
    units: Collection[str] = UNITS,
) -> dict[tuple[str, str], Importance]:
    """The scores of a model: (where, unit) -> Importance.

    Args:
        calibration: a corpus, or windows (B, T + 1) of token ids; None for "weight" only, which then leaves out layers and the width.
        method: of channels and heads; see the module.
        units: which kinds are asked for.

    Raises:
        CompressError: no calibration, or too little of it, or a unit or method that there is not.
    """
    check_values("importances", CompressError, one_of(*METHODS), method=method)
    for unit in units:
        check_values("importances", CompressError, one_of(*UNITS), units=unit)
    who = f'method="{method}"'
    tokens = None if calibration is None and method == "weight" else windows(model, calibration, who)
    places = [place for place in _places(model) if place.unit in units]
    found: dict[tuple[str, str], list[Tensor]] = {}
    with evaluating(model):
        if tokens is None:
            for place in places:
                found[place.where, place.unit] = [_of_weights(model, place)]
        else:
            for batch in batches(tokens):
                for key, scores in _of_batch(model, batch, method, places, units).items():
                    found.setdefault(key, []).append(scores)
    return {
        key: Importance(key[0], key[1], *_mean_and_spread(torch.stack(scores)), len(scores))
        for key, scores in found.items()
    }


def _mean_and_spread(scores: Tensor) -> tuple[Tensor, Tensor]:
    """(batches, U) -> (U,), (U,)."""
    spread = scores.std(0) if len(scores) > 1 else torch.zeros_like(scores[0])
    return scores.mean(0).cpu(), spread.cpu()


# ---- places -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Place:
    """Units of a block: U of them, and the matrix that reads what they give: its name, (R, C) with C a multiple of U; or, of
    experts, the mixture and (E, R, C)."""

    where: str
    unit: str
    count: int
    out: str
    weight: nn.Parameter
    mixture: Mixture | None = None


def _places(model: Decoder) -> list[_Place]:
    """The units that blocks of the model can lose."""
    found = []
    for index, layer in enumerate(model.spec.layers[:: model.spec.details.tie_layers]):
        for part in ("mixer", "mlp"):
            spec = layer.slot(part)
            block = block_of(spec)
            if absent(spec) or not isinstance(block, Prunable):
                continue
            where = f"layers.{index}.{part}"
            module = model.get_submodule(where)
            outs = {
                name: weight
                for name, weight in module.named_parameters()
                if weight.dim() >= 2 and role_of(name, weight.dim(), block) in ("out", "out_each")
            }
            for unit, count in block.units(spec, model.spec.frame).items():
                name, weight = next(iter(outs.items()))
                mixture = module if isinstance(module, Mixture) else None
                found.append(_Place(where, unit, count, f"{where}.{name}", weight, mixture))
    return found


def _of_weights(model: Decoder, place: _Place) -> Tensor:
    """(U,) norm of the weights that make each unit times that of those that read it, which no rescaling between the two changes; of
    experts the norm of all their weights."""
    weight = place.weight.detach().float()
    if place.mixture is not None:
        up = place.mixture.up.detach().float()
        both: Tensor = torch.cat((weight.flatten(1), up.flatten(1)), 1).square().sum(1).sqrt()
        return both
    read = weight.square().sum(0).view(place.count, -1).sum(1).sqrt()
    return read * _making(model, place)


def _making(model: Decoder, place: _Place) -> Tensor:
    """(U,) norms of the weights that make each unit: those with an axis that is shorter with one unit less."""
    _, index, part = place.where.split(".")
    spec, frame = model.spec.layers[int(index) * model.spec.details.tie_layers].slot(part), model.spec.frame
    block: Any = block_of(spec)
    total = torch.zeros(place.count, device=place.weight.device)
    sliceable = isinstance(block, Sliceable)
    if place.count == 1 or not sliceable:
        return total + 1
    fewer = block.check({**block.fields, **block.with_units(spec, frame, place.unit, place.count - 1)}, frame)
    begin = f"{place.where}."
    for before, after in zip(block.slices(spec, frame, "", begin), block.slices(fewer, frame, "", begin), strict=True):
        weight = model.get_parameter(before.name).detach().float()
        if before.name == place.out or weight.dim() < 2:
            continue
        parts = torch.split(weight, [shape[before.axis] for shape in before.shapes], before.axis)
        for each, was, now in zip(parts, before.pieces, after.pieces, strict=True):
            for axis, (a, b) in enumerate(zip(was.sizes, now.sizes, strict=True)):
                if a != b:
                    squares = each.reshape(was.sizes).square().movedim(axis, 0).flatten(1).sum(1)
                    total += squares.view(place.count, -1).sum(1)
    return total.sqrt()


# ---- one batch ----------------------------------------------------------------------------------------------------------


def _of_batch(
    model: Decoder, batch: Tensor, method: str, places: list[_Place], units: Collection[str]
) -> dict[tuple[str, str], Tensor]:
    """The scores on one batch (B, T + 1)."""
    squares: dict[str, Tensor] = {}
    sums: dict[str, Tensor] = {}
    norms: dict[str, Tensor] = {}
    gates: dict[str, Tensor] = {}
    experts: dict[str, Tensor] = {}
    routers = {f"{p.where}.router.weight": p for p in places if p.mixture is not None}
    outs = {p.out: p for p in places}

    def take(name: str, expert: int, x: Tensor, y: Tensor) -> None:
        x, y = x.detach().float(), y.detach().float()
        if name in routers:
            gates[routers[name].where] = y
            return
        place = outs[name]
        if place.mixture is not None:
            score = _reap(place.mixture, gates[place.where], expert, y)
            experts.setdefault(place.where, torch.zeros(place.count, device=y.device))[expert] += score
            return
        norms[name] = place.weight.detach().float().norm(dim=0)  # now, when it has just been read
        squares[name] = squares.get(name, torch.zeros_like(x[0])) + x.square().mean(0)
        sums[name] = sums.get(name, torch.zeros_like(x[0])) + x.abs().mean(0)

    streams = _Streams(model, units)
    watched: dict[str, Tensor] = {name: place.weight for name, place in outs.items()}
    watched |= {name: place.mixture.router.weight for name, place in routers.items() if place.mixture is not None}
    with Watching(watched, take), streams:
        if method == "taylor":
            dense = [place.weight for place in places if place.mixture is None]
            with torch.enable_grad():
                _, nll = model.loss(batch[:, :-1], batch[:, 1:])
                found = torch.autograd.grad(nll, dense, allow_unused=True) if dense else ()
            gradients = dict(zip((p.out for p in places if p.mixture is None), found, strict=True))
        else:
            with torch.no_grad():
                model(batch[:, :-1], last=True)
    scores: dict[tuple[str, str], Tensor] = {}
    for place in places:
        if place.mixture is not None:
            scores[place.where, place.unit] = experts[place.where]
            continue
        weight = place.weight.detach().float()
        if method == "wanda":
            each = (squares[place.out].sqrt() * norms[place.out]).view(place.count, -1).norm(dim=1)
        elif method == "activation":
            each = sums[place.out].view(place.count, -1).mean(1)
        elif method == "taylor":
            slope = gradients[place.out]
            change = torch.zeros_like(weight) if slope is None else slope.float() * weight
            each = change.sum(0).view(place.count, -1).sum(1).abs()
        else:
            each = _of_weights(model, place)
        scores[place.where, place.unit] = each
    return {**scores, **streams.scores()}


def _reap(mixture: Mixture, logits: Tensor, expert: int, y: Tensor) -> Tensor:
    """The mean over the tokens of an expert of gate times norm of its output; logits (N, E), y (n, C) in the order of the tokens."""
    if not len(y):
        return y.new_zeros(())
    weights, chosen = logits.softmax(-1).topk(mixture.spec.top_k, -1)
    if mixture.renormalise:
        weights = weights / weights.sum(-1, keepdim=True)
    gate = weights.flatten()[chosen.flatten() == expert]
    found: Tensor = (gate * y.square().sum(-1).sqrt()).mean()
    return found


class _Streams:
    """While it is entered, it sees what goes into layers and comes out, and what norms of the width give."""

    def __init__(self, model: Decoder, units: Collection[str]) -> None:
        self.model, self.units = model, units
        self._hooks: list[Any] = []
        self._influence: dict[int, list[Tensor]] = {}
        self._width: list[Tensor] = []

    def __enter__(self) -> None:
        if "layers" in self.units:
            for index, layer in enumerate(self.model.layers):
                self._hooks.append(layer.register_forward_hook(self._layer(index)))
        if "width" in self.units:
            size = (self.model.spec.width,)
            norms = (nn.RMSNorm, nn.LayerNorm)
            for module in self.model.modules():
                if isinstance(module, norms) and tuple(module.normalized_shape) == size:
                    self._hooks.append(module.register_forward_hook(self._norm))

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _layer(self, index: int) -> Callable[..., None]:
        def see(_module: nn.Module, args: tuple[Any, ...], output: tuple[Tensor, Any, Any]) -> None:
            near = torch.nn.functional.cosine_similarity(args[0].detach().float(), output[0].detach().float(), dim=-1)
            self._influence.setdefault(index, []).append(1 - near.mean())

        return see

    def _norm(self, _module: nn.Module, _args: object, output: Tensor) -> None:
        self._width.append(output.detach().float().abs().flatten(0, 1).mean(0))

    def scores(self) -> dict[tuple[str, str], Tensor]:
        found: dict[tuple[str, str], Tensor] = {}
        if self._influence:
            each = [torch.stack(self._influence[index]).mean() for index in sorted(self._influence)]
            found["layers", "layers"] = torch.stack(each)
        if self._width:
            found["width", "width"] = torch.stack(self._width).mean(0)
        return found
