"""Calibration: a little training text through a trained model, and what its matrices are given on the way.

The inputs of a matrix are seen where torch multiplies by it (`nas_bo.model.products`), so blocks of your own are calibrated as well.
Shapes: R rows and C columns of a weight, N tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from nas_bo.errors import CompressError
from nas_bo.model.blocks.block import MATRICES, Exact
from nas_bo.model.blocks.table import block_of
from nas_bo.model.data import Corpus
from nas_bo.model.decoder import Decoder
from nas_bo.model.inference import as_tensor, check_vocabulary
from nas_bo.model.products import Watching

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
        raise CompressError(
            f"the calibration of {who} has {count} tokens, too few to say what a matrix is given; give at least {LEAST:,}, better "
            f"{TOKENS:,}"
        )
    low, high = int(calibration.min()), int(calibration.max())
    if low < 0 or high >= model.vocab_size:
        raise CompressError(
            f"the calibration of {who} has token ids from {low} to {high} and the model has {model.vocab_size}; give text in the tokens "
            "of the model"
        )
    return calibration.to(device).long()


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
    block = block_of(getattr(model.spec.layers[int(index) * model.spec.details.tie_layers], part))
    return isinstance(block, Exact) and inside in block.exact


def batches(tokens: Tensor) -> Iterator[Tensor]:
    """The windows in parts of one pass each."""
    yield from torch.split(tokens, ROWS)


class _Enough(Exception):
    """The layers that are looked at have been run."""


Moments = dict[str, Tensor]


def hessians(model: Decoder, tokens: Tensor, weights: Mapping[str, Tensor], last: int | None = None) -> Moments:
    """The second moments of what each of the weights is given, X^T X / N, in float64: (C, C), of experts (E, C, C); 0 for a matrix
    that was given nothing. Passes end after layer `last` (the module, where layers share weights).

    Args:
        tokens: (B, T + 1), the last of each row unused.
    """
    return moments(model, tokens, weights, last)[0]


@torch.no_grad()
def moments(
    model: Decoder,
    tokens: Tensor,
    weights: Mapping[str, Tensor],
    last: int | None = None,
    exact: Decoder | None = None,
) -> tuple[Moments, Moments]:
    """As `hessians`; and with `exact`, a model of the same spec, what its matrices of these names are given together with what those of
    `model` are, Y^T X / N, (C, C). Experts are left out there: the two models send tokens to different ones."""
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

    twins = {} if exact is None else {name: weight for name, weight in exact.named_parameters() if name in crossed}
    for batch in batches(tokens):
        if exact is not None:
            other.clear()
            _run_to(exact, batch, Watching(twins, remember), last)
        _run_to(model, batch, Watching(weights, take), last)
    means = {name: sums[name] / counts[name].clamp(min=1).view(-1, 1, 1) for name in sums}
    found = {name: mean if weights[name].dim() == 3 else mean[0] for name, mean in means.items()}
    return found, {name: each / counts[name].clamp(min=1) for name, each in crossed.items()}


def _run_to(model: Decoder, batch: Tensor, watching: Watching, last: int | None) -> None:
    """Run the model on (B, T + 1), as far as the last use of module `last`."""
    runs = 0

    def stop(*_: Any) -> None:
        nonlocal runs
        runs += 1
        if runs == model.spec.details.tie_layers:  # a module runs as several layers
            raise _Enough

    hook = None if last is None else model.layers[last].register_forward_hook(stop)
    was = model.training
    model.eval()
    try:
        with watching:
            model(batch[:, :-1])
    except _Enough:
        pass
    finally:
        model.train(was)
        if hook is not None:
            hook.remove()
