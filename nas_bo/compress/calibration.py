"""Calibration: a little training text through a trained model, and what its matrices are given on the way.

The inputs of a matrix are seen where torch multiplies by it (`nas_bo.model.products`), so blocks of your own are calibrated as well.
Shapes: R rows and C columns of a weight, N tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TypeAlias

import torch
from torch import Tensor, nn

from nas_bo.errors import CompressError
from nas_bo.model.blocks.block import MATRICES, Exact
from nas_bo.model.blocks.table import block_of
from nas_bo.model.connections import connected
from nas_bo.model.data import Corpus
from nas_bo.model.decoder import Decoder
from nas_bo.model.inference import as_tensor, check_vocabulary, evaluating
from nas_bo.model.products import Watching
from nas_bo.wording import counted

Calibration: TypeAlias = Corpus | Tensor
"""A corpus, of which training text is taken; or windows (B, T + 1) of token ids, the last of each a target only."""

TOKENS, SEQUENCE = 16_384, 128
"""Of the text that is taken from a corpus, and of each window of it."""
LEAST = 1_024
"""Tokens, below which statistics of inputs say nothing."""
ROWS = 32  # windows of a pass
EMBEDDINGS = ("embedding.weight", "positions.weight", "head.weight")


def windows(model: Decoder, calibration: Calibration | None, who: str, tokens: int = TOKENS, seed: int = 0) -> Tensor:
    """The windows (B, T + 1) of a calibration on the device of the model; of a corpus training text, the same for every model.

    Raises:
        CompressError: there is none, or it has fewer than 1,024 tokens, or others than the model.
        DataError: the corpus has a larger vocabulary than the model, or is shorter than a window.
    """
    device = model.embedding.weight.device
    if calibration is None:
        raise CompressError(
            f"{who} looks at what the model computes on text, and no calibration was given; give a corpus, as in "
            "calibration=load_corpus(), or token ids of shape (windows, length)"
        )
    if isinstance(calibration, Corpus):
        check_vocabulary(model, calibration)
        if len(calibration.train) < LEAST:
            raise _short(who, len(calibration.train))
        most = model.spec.details.max_length
        length = min(SEQUENCE, len(calibration.train) - 1, most or SEQUENCE)
        return as_tensor(calibration.batches(0, 1, max(1, tokens // length), length, seed)[0], device)
    if calibration.dim() != 2 or calibration.shape[1] < 2 or calibration.is_floating_point():
        raise CompressError(
            f"the calibration of {who} has the shape {tuple(calibration.shape)} of {calibration.dtype}; it must be integers of shape "
            "(windows, length), with a length of at least 2"
        )
    count = calibration.shape[0] * (calibration.shape[1] - 1)
    if count < LEAST:
        raise _short(who, count)
    low, high = int(calibration.min()), int(calibration.max())
    if low < 0 or high >= model.vocab_size:
        raise CompressError(
            f"the calibration of {who} has token ids from {low} to {high} and the model has {model.vocab_size}; give text in the tokens "
            "of the model"
        )
    return calibration.to(device).long()


def _short(who: str, count: int) -> CompressError:
    return CompressError(
        f"the calibration of {who} has {counted(count, 'token')}, too few to say what a matrix is given; give at least {LEAST:,}, better {TOKENS:,}"
    )


def matrices(model: Decoder) -> dict[str, nn.Parameter]:
    """The weights that are matrices of products, by name: those of blocks by what each block says about its parameters
    (`nas_bo.model.blocks.block.ROLES`, `Exact`), experts (E, R, C), and last the head where it is not tied."""
    found = {}
    for name, weight in model.named_parameters():
        if weight.dim() < 2 or name in EMBEDDINGS or model.role(name, weight) not in MATRICES:
            continue
        if not _exact(model, name):
            found[name] = weight
    return found


def _exact(model: Decoder, name: str) -> bool:
    place, _, inside = name.partition(".")
    if place != "layers":
        return False
    index, part, inside = inside.split(".", 2)
    if part not in ("mixer", "mlp"):
        return False
    block = block_of(model.spec.layers[int(index) * model.spec.details.tie_layers].slot(part))
    return isinstance(block, Exact) and inside in block.exact


def batches(tokens: Tensor) -> Iterator[Tensor]:
    """The windows in parts of one pass each."""
    yield from torch.split(tokens, ROWS)


class _Enough(Exception):
    """The layers that are looked at have been run."""


Moments = dict[str, Tensor]


class Passes:
    """Windows (B, T + 1) of text through a model, the last of each row unused, again and again while its layers are changed from the first
    to the last: the stream before the layer that is looked at is kept, so what comes before it is not computed again.
    """

    def __init__(self, model: Decoder, tokens: Tensor) -> None:
        self.model, self.parts = model, list(batches(tokens))
        self._at = 0
        self._entering: list[Tensor | None] = [None] * len(self.parts)
        self._alone = not connected(model.spec.layers, model.spec.details)  # layers read nothing but the stream

    def advance(self, index: int) -> None:
        """From now on layers before `index` (a module) stay as they are."""
        while self._alone and self._at < index:
            after: list[Tensor | None] = []
            hook = self.model.layers[self._at].register_forward_hook(lambda _m, _a, out: after.append(out[0]))  # noqa: B023
            try:
                for part in range(len(self.parts)):
                    self.run(part, nullcontext(), self._at)
            finally:
                hook.remove()
            self._entering, self._at = after, self._at + 1

    @torch.no_grad()
    def run(self, part: int, watching: AbstractContextManager[object], last: int | None) -> None:
        """Run one part, as far as the last use of module `last`."""
        model, stream, runs = self.model, self._entering[part], 0

        def stop(*_: object) -> None:
            nonlocal runs
            runs += 1
            if runs == model.spec.details.tie_layers:  # a module runs as several layers
                raise _Enough

        def enter(_module: object, args: tuple[object, ...]) -> tuple[object, ...]:
            return (stream, *args[1:])

        hooks = [] if last is None else [model.layers[last].register_forward_hook(stop)]
        before = list(model.layers[: self._at])
        try:
            if stream is not None:
                hooks.append(model.layers[self._at].register_forward_pre_hook(enter))
                for index in range(self._at):
                    model.layers[index] = _Through()
            with evaluating(model), watching:
                model(self.parts[part][:, :-1])
        except _Enough:
            pass
        finally:
            for index, layer in enumerate(before):
                model.layers[index] = layer
            for hook in hooks:
                hook.remove()


class _Through(nn.Module):
    """In place of a layer whose output is known."""

    def forward(self, x: Tensor, context: object, state: object) -> tuple[Tensor, object, None]:
        return x, state, None


def hessians(model: Decoder, tokens: Tensor, weights: Mapping[str, Tensor]) -> Moments:
    """The second moments of what each of the weights is given, X^T X / N, in float64: (C, C), of experts (E, C, C); 0 for a matrix
    that was given nothing.

    Args:
        tokens: (B, T + 1), the last of each row unused.
    """
    return moments(Passes(model, tokens), weights)[0]


def moments(
    passes: Passes, weights: Mapping[str, Tensor], last: int | None = None, exact: Passes | None = None
) -> tuple[Moments, Moments]:
    """As `hessians`, of passes that end after layer `last` (the module, where layers share weights); and with `exact`, of a model of the
    same spec on the same text, what its matrices of these names are given together with what those of the first are, Y^T X / N, (C, C).
    Experts are left out there: the two models send tokens to different ones."""
    counts, sums, crossed = {}, {}, {}
    for name, weight in weights.items():
        experts, size = (weight.shape[0] if weight.dim() == 3 else 1), weight.shape[-1]
        sums[name] = torch.zeros(experts, size, size, dtype=torch.float64, device=weight.device)
        counts[name] = torch.zeros(experts, device=weight.device)
        if exact is not None and weight.dim() == 2:
            crossed[name] = torch.zeros(size, size, dtype=torch.float64, device=weight.device)
    other: dict[str, list[Tensor]] = {}

    def remember(name: str, _expert: int, x: Tensor, _y: Tensor) -> None:
        other.setdefault(name, []).append(x.float())

    def take(name: str, expert: int, x: Tensor, _y: Tensor) -> None:
        x = x.float()
        sums[name][expert] += x.t() @ x
        counts[name][expert] += len(x)
        if name in crossed:
            crossed[name] += other[name].pop(0).t() @ x

    twins = {} if exact is None else {n: weight for n, weight in exact.model.named_parameters() if n in crossed}
    for part in range(len(passes.parts)):
        if exact is not None:
            other.clear()
            exact.run(part, Watching(twins, remember), last)
        passes.run(part, Watching(weights, take), last)
    means = {name: sums[name] / counts[name].clamp(min=1).view(-1, 1, 1) for name in sums}
    found = {name: mean if weights[name].dim() == 3 else mean[0] for name, mean in means.items()}
    return found, {name: each / counts[name].clamp(min=1) for name, each in crossed.items()}
