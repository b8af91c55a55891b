"""Repair: what a part of a trained model lost is made up for by the matrices out of the blocks that stay, without training.

From the first changed block on, the matrix out of each block is fitted by ridge regression on a calibration text (the correction of Kurtic et
al. 2023, "ZipLM", arXiv 2302.04089, section 3.1), block after block, each on what it is really given in the part. Its target is the
stream of the trained model behind it less the stream before it in the part, so that it also corrects what blocks before it got wrong (as
the layer-wise fit on inputs of the compressed model: Frantar et al. 2022, "OBC", arXiv 2208.11580, section 5), and stands in for the
blocks behind it that were left out.

Shapes: N tokens of the text, C channels of the stream, K columns of a matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from nas_bo.compress.ridges import RIDGES, least
from nas_bo.errors import ModelError
from nas_bo.model.blocks.block import role_of
from nas_bo.model.blocks.table import block_of
from nas_bo.model.connections import connected
from nas_bo.model.decoder import Decoder, Layer
from nas_bo.model.products import Watching

PARTS = ("mixer", "mlp")


@dataclass(frozen=True, eq=False)
class _Given:
    """What the trained model does with the text at one block.

    Attributes:
        before: (B, T, C) the stream before it.
        fits: whether there is one matrix out of it.
        product: (N, C) what that gives; None where it is what the block adds to the stream.
    """

    before: Tensor
    fits: bool
    product: Tensor | None


class Repair:
    """The trained model on a calibration text, and parts of it fitted to what it does there.

    Args:
        model: the trained decoder.
        tokens: (B, T) token ids.

    Attributes:
        possible: whether this model can be repaired: not where layers share weights, keys or long skips.
    """

    def __init__(self, model: Decoder, tokens: Tensor) -> None:
        self.model, self.tokens = model, tokens
        self.possible = not connected(model.spec.layers, model.spec.details)
        self._given: list[_Given] = []
        if self.possible:
            self._look()

    @torch.no_grad()
    def _look(self) -> None:
        model = self.model
        context = model.context(self.tokens)
        x = model._embed(self.tokens)
        for index in range(len(model.layers)):
            layer = layer_of(model, index)
            products: dict[str, list[Tensor]] = {part: [] for part in PARTS}

            def take(name: str, _: int, _x: Tensor, y: Tensor, products: dict[str, list[Tensor]] = products) -> None:
                products[name].append(y)

            with Watching(_outs(model, index), take), outputs(layer) as gave:
                after = layer(x, context, None)[0]
            for part in PARTS:
                y = products[part][0] if len(products[part]) == 1 else None
                whole = gave.get(part)
                plain = y is not None and whole is not None and layer.slot(part)[2] is None
                plain = plain and torch.allclose(y.view(whole.shape), whole, atol=1e-5)  # type: ignore[union-attr, arg-type]
                self._given.append(_Given(x, y is not None, None if plain else y))
                x = x if whole is None else x + _normed(layer, part, whole)
            if not torch.allclose(x, after, rtol=1e-3, atol=1e-4 * float(after.abs().max())):
                raise ModelError(
                    f"layer {index} of the trained model does more than add its mixer and its MLP to the stream, so parts of it cannot be "
                    "repaired; take them as they are, with repair=False"
                )
            x = after
        self._given.append(_Given(x, False, None))

    @torch.no_grad()
    def __call__(self, part: Decoder) -> None:
        """Fit the matrices of `part`, whose layers are at their places in the trained model; its weights are its own afterwards."""
        changed = [index for index in range(len(part.layers)) if _changed(part, self.model, index)]
        if not self.possible or not changed:
            return
        context = part.context(self.tokens)
        x = self._given[2 * changed[0]].before
        if part.spec.width < self.model.spec.width:
            return  # a narrower stream cannot be fitted to that of the trained model
        for index in range(changed[0], len(part.layers)):
            x = self._layer(part, index, x, context)

    def _layer(self, part: Decoder, index: int, x: Tensor, context: object) -> Tensor:
        layer = layer_of(part, index)
        outs = _outs(part, index)
        with outputs(layer) as gave:

            def take(name: str, _: int, z: Tensor, y: Tensor) -> Tensor | None:
                at = 2 * index + PARTS.index(name)
                if not self._given[at].fits:
                    return None
                before = x
                if name == "mlp" and (mixed := gave.get("mixer")) is not None:
                    before = x + _normed(layer, "mixer", mixed)
                rest = self._target(part, at, before) - y.float()
                better = fitted(outs[name], z, rest)
                if better is None:
                    return None
                outs[name].data = better
                return y + (z @ (better - was[name]).t()).to(y.dtype)

            was = {name: weight.detach() for name, weight in outs.items()}
            with Watching(outs, take):
                found: Tensor = layer(x, context, None)[0]
        return found

    def _target(self, part: Decoder, at: int, before: Tensor) -> Tensor:
        """(N, C) what the matrix out of block number `at` should give."""
        given = self._given[at]
        if given.product is not None:
            return given.product.float()
        end = at + 1
        while end < 2 * len(part.layers) and layer_of(part, end // 2).slot(PARTS[end % 2])[1] is None:
            end += 1  # left out: this one stands in for it
        return (self._given[end].before - before).flatten(0, 1).float()

    def alone(self, block: nn.Module, spec: object, index: int, part: str) -> None:
        """Fit the matrix out of a smaller `block` that takes the place of one of the trained model, all others being whole."""
        at, outs = 2 * index + PARTS.index(part), _of(block, spec)
        if len(outs) != 1 or not self.possible or not self._given[at].fits:
            return
        given, layer = self._given[at], layer_of(self.model, index)
        product = given.product
        if product is None:
            product = (self._given[at + 1].before - given.before).flatten(0, 1)
        x = given.before
        if part == "mlp" and layer.parallel:
            x = self._given[2 * index].before
        norm = layer.slot(part)[0] or (layer.mixer_norm if layer.parallel else None)
        normed = x if norm is None else norm(x)
        seen: list[Tensor] = []
        weight = outs[0]
        with torch.no_grad(), Watching({"out": weight}, lambda _n, _e, z, y: seen.extend((z, y))):
            block(normed, self.model.context(self.tokens), None) if part == "mixer" else block(normed)
        after = fitted(weight, seen[0], product.float() - seen[1].float())
        if after is not None:
            weight.data = after


def fitted(weight: Tensor, given: Tensor, rest: Tensor, ridges: Sequence[float] = RIDGES) -> Tensor | None:
    """W + D, with the D that minimises |X D^T - R|^2 + r |D|^2, r being one of `ridges` times the mean square in X: that with which each half of
    the rows predicts the other best (twofold cross-validation). None where no change predicts better than all, or a number is not finite.

    Args:
        weight: W (C, K).
        given: X (N, K).
        rest: R (N, C), what is missing.
        ridges: rising.
    """
    x = given.float()
    made = _Regression(x, rest.float())
    scale = float(x.square().mean().clamp(min=1e-20))
    ridge = least(ridges, lambda ridge: made.error(ridge * scale), float(made.right.square().sum()))
    if ridge is None:
        return None
    found = (weight.detach().float() + made.change(ridge * scale)).to(weight.dtype)
    return found if bool(torch.isfinite(found).all()) else None


class _Regression:
    """Ridge regression of R (N, C) on X (N, K), by the smaller one of X^T X and X X^T."""

    def __init__(self, x: Tensor, right: Tensor) -> None:
        self.x, self.right, self.by_rows = x, right, len(x) < x.shape[1]
        half = len(x) // 2
        self.halves = slice(0, half), slice(half, len(x))
        if self.by_rows:
            self.gram = x @ x.t()
        else:
            self.moments = [x[rows].t() @ x[rows] for rows in self.halves]
            self.products = [x[rows].t() @ right[rows] for rows in self.halves]

    def error(self, ridge: float) -> float:
        """The sum of squares that each half leaves of the other."""
        total = 0.0
        for index, rows in enumerate(self.halves):
            others = self.halves[1 - index]
            if self.by_rows:  # X^T (X X^T + r)^-1 R
                said = self.gram[others, rows] @ _solved(self.gram[rows, rows], ridge, self.right[rows])
            else:
                said = self.x[others] @ _solved(self.moments[index], ridge, self.products[index])
            total += float((self.right[others] - said).square().sum())
        return total

    def change(self, ridge: float) -> Tensor:
        """(C, K), of all rows."""
        if self.by_rows:
            return _solved(self.gram, ridge, self.right).t() @ self.x
        return _solved(self.moments[0] + self.moments[1], ridge, self.products[0] + self.products[1]).t()


def _solved(matrix: Tensor, ridge: float, right: Tensor) -> Tensor:
    damped = matrix + ridge * torch.eye(len(matrix), device=matrix.device)
    lower, failed = torch.linalg.cholesky_ex(damped)
    found: Tensor = (
        torch.linalg.solve(damped.double(), right.double()).float()
        if int(failed)
        else torch.cholesky_solve(right, lower)
    )
    return found


def layer_of(model: Decoder, index: int) -> Layer:
    """The module of a layer."""
    return cast(Layer, model.layers[index])


def _outs(model: Decoder, index: int) -> dict[str, Tensor]:
    """Part -> the matrix out of its block, of those that have one."""
    layer = layer_of(model, index)
    found = {}
    for part in PARTS:
        block = layer.slot(part)[1]
        if block is not None and len(outs := _of(block, getattr(model.spec.layers[index], part))) == 1:
            found[part] = outs[0]
    return found


def _of(block: nn.Module, spec: object) -> list[Tensor]:
    kind = block_of(spec)
    return [w for name, w in block.named_parameters() if w.dim() == 2 and role_of(name, 2, kind) == "out"]


def _changed(part: Decoder, whole: Decoder, index: int) -> bool:
    return part.spec.layers[index] != whole.spec.layers[index]


def _normed(layer: Layer, part: str, y: Tensor) -> Tensor:
    norm: Callable[[Tensor], Tensor] | None = layer.slot(part)[2]
    return y if norm is None else norm(y)


@contextmanager
def outputs(layer: Layer) -> Iterator[Mapping[str, Tensor]]:
    """While it is entered, what the blocks of a layer gave last: part -> (B, T, C)."""
    gave: dict[str, Tensor] = {}

    def keep(part: str) -> Callable[..., None]:
        def see(_module: nn.Module, _args: object, output: tuple[Tensor, object]) -> None:
            gave[part] = output[0]

        return see

    hooks = [block.register_forward_hook(keep(part)) for part in PARTS if (block := layer.slot(part)[1]) is not None]
    try:
        yield gave
    finally:
        for hook in hooks:
            hook.remove()
