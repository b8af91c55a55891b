"""How much each part of a trained decoder matters, from a text: hidden units, groups of heads, experts, channels, layers.

======================= ==============================================================================================
"wanda"                 size of what a part gives times size of the weights that read it (Sun et al. 2024, "Wanda", arXiv
                        2306.11695, eq. 1, summed over the structure)
"activation"            mean absolute value of what it gives (Muralidharan et al. 2024, "Minitron", arXiv 2407.14679, section 2.2)
"taylor"                |gradient times weight| of the weights that read it (Molchanov et al. 2019, arXiv 1906.10771, eq. 8)
"weight"                size of the weights that read it
======================= ==============================================================================================

Experts are scored by router weight times size of their output (Lasby et al. 2025, "REAP", arXiv 2510.13999, eq. 9) with every
method but "weight"; layers by how much they turn the stream (Men et al. 2024, "ShortGPT", arXiv 2403.03853, eq. 1).

Notation: C width, G groups of heads, E experts, F hidden units, N tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_bo.errors import ModelError
from nas_bo.model.blocks.attention import AttentionSpec
from nas_bo.model.blocks.dense import MlpSpec
from nas_bo.model.layers.dense import hidden as activated
from nas_bo.pretrained.ordering import Orders
from nas_bo.validated import check_values, one_of

if TYPE_CHECKING:
    from nas_bo.model.decoder import Decoder

Method: TypeAlias = Literal["wanda", "activation", "taylor", "weight"]
METHODS: tuple[Method, ...] = ("wanda", "activation", "taylor", "weight")
Batches: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.integer]]


@dataclass(frozen=True)
class Importance:
    """Scores, higher for what matters more; those of different kinds of parts do not compare.

    Attributes:
        hidden: layer -> (F,), of a mixture (E, F).
        groups: layer -> (G,).
        experts: layer -> (E,).
        width: (C,).
        influence: layer -> 1 - cosine between the stream before and after it.
        spread: of each of these, by "hidden.3" or "width": the mean standard error over batches, as a share of the mean score; 0 for
            a single batch.
    """

    hidden: Mapping[int, Tensor]
    groups: Mapping[int, Tensor]
    experts: Mapping[int, Tensor]
    width: Tensor
    influence: Mapping[int, float]
    spread: Mapping[str, float] = field(default_factory=dict)

    def orders(self, width: bool = True) -> Orders:
        """The most important first; equal ones stay in their order."""
        return Orders(
            {k: _descending(v) for k, v in self.hidden.items()},
            {k: _descending(v) for k, v in self.groups.items()},
            {k: _descending(v) for k, v in self.experts.items()},
            _descending(self.width) if width else None,
        )


def _descending(scores: Tensor) -> Tensor:
    return torch.argsort(scores, dim=-1, descending=True, stable=True)


def importance(model: Decoder, batches: Batches, method: Method = "wanda") -> Importance:
    """The importance of every part of `model`.

    Args:
        batches: (batches, sequences, tokens + 1) ids, as `Corpus.batches` gives them.

    Raises:
        ModelError: the method is none, or there is no batch.
    """
    check_values("importance", ModelError, one_of(*METHODS), method=method)
    if len(batches) < 1:
        raise ModelError("importance: there is no batch to judge by; give at least one")
    found: list[dict[str, Tensor]] = []
    for batch in batches:
        tokens = torch.from_numpy(batch.astype("int64")).to(model.embedding.weight.device)
        found.append(_of_batch(model, tokens[:, :-1], tokens[:, 1:], method))
    means = {name: torch.stack([one[name] for one in found]).mean(0) for name in found[0]}
    spread = {name: _spread([one[name] for one in found]) for name in found[0]}
    by_layer: dict[str, dict[int, Tensor]] = {"hidden": {}, "groups": {}, "experts": {}, "influence": {}}
    for name, mean in means.items():
        what, _, index = name.partition(".")
        if index:
            by_layer[what][int(index)] = mean
    influence = {index: float(one) for index, one in by_layer.pop("influence").items()}
    return Importance(**by_layer, width=means["width"], influence=influence, spread=spread)


def _spread(scores: Sequence[Tensor]) -> float:
    if len(scores) < 2:
        return 0.0
    every = torch.stack(list(scores))
    return float((every.std(0) / len(scores) ** 0.5).mean() / every.mean(0).abs().mean().clamp_min(1e-30))


def _of_batch(model: Decoder, tokens: Tensor, targets: Tensor, method: Method) -> dict[str, Tensor]:
    """tokens, targets (B, T)"""
    seen: dict[str, Tensor] = {}
    with _watched(model, seen), torch.set_grad_enabled(method == "taylor"):
        if method == "taylor":
            weights = dict(model.named_parameters())
            _, nll = model.loss(tokens, targets)
            gradients = torch.autograd.grad(nll, list(weights.values()), allow_unused=True)
            moved = {
                name: (weight * gradient).abs().detach()
                for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
                if gradient is not None
            }
        else:
            model(tokens)
            moved = {}
    with torch.no_grad():
        return dict(_scores(model, seen, moved, method))


def _scores(
    model: Decoder, seen: Mapping[str, Tensor], moved: Mapping[str, Tensor], method: Method
) -> Iterator[tuple[str, Tensor]]:
    weights = dict(model.named_parameters())

    def read_by(name: str, values: Tensor) -> Tensor:
        """Scores of the columns of a matrix, whose inputs had the sizes `values`."""
        if method == "taylor":
            return moved[name].sum(0) if name in moved else torch.zeros_like(values)
        if method == "activation":
            return values
        norms: Tensor = torch.linalg.vector_norm(weights[name].float(), dim=0)
        return norms if method == "weight" else values * norms

    width = torch.zeros(model.spec.width, device=model.embedding.weight.device)
    for index, (mixer, mlp) in enumerate(model.spec.layers[:: model.spec.details.tie_layers]):
        prefix = f"layers.{index}."
        if isinstance(mixer, AttentionSpec) and not mixer.share_kv:
            each = read_by(f"{prefix}mixer.out.weight", seen[f"{prefix}mixer.out"])
            yield f"groups.{index}", each.view(mixer.kv_heads, -1).sum(1)
        if isinstance(mlp, MlpSpec) and not mlp.experts:
            yield f"hidden.{index}", read_by(f"{prefix}mlp.out.weight", seen[f"{prefix}mlp.out"])
        elif isinstance(mlp, MlpSpec):
            units = seen[f"{prefix}units"]  # (E, F)
            norms = weights[f"{prefix}mlp.out"].float().norm(dim=1)
            by_method = {"weight": norms, "activation": units}.get(method, units * norms)
            yield f"hidden.{index}", by_method
            yield f"experts.{index}", norms.sum(1) if method == "weight" else seen[f"{prefix}reap"]
        for name in ("mixer.qkv.weight", "mixer.q.weight", "mixer.proj.weight", "mlp.up.weight", "mlp.router.weight"):
            if prefix + name in weights and (values := seen.get(f"{prefix}{name.split('.')[0]}_in")) is not None:
                width += read_by(prefix + name, values)
        if f"{prefix}influence" in seen:
            yield f"influence.{index}", seen[f"{prefix}influence"]
    yield "width", width + read_by("embedding.weight" if model.head is None else "head.weight", seen["last"])


@contextmanager
def _watched(model: Decoder, seen: dict[str, Tensor]) -> Iterator[None]:
    """While the block lasts, a pass of `model` leaves in `seen` the sizes of what its parts read: sqrt of the mean square over
    tokens, (channels,)."""

    def size(x: Tensor) -> Tensor:
        rows = x.detach().reshape(-1, x.shape[-1]).float()
        return rows.square().mean(0).sqrt()

    handles = []
    for index, layer in enumerate(model.layers):
        prefix = f"layers.{index}."

        def around(
            module: nn.Module, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...], prefix: str = prefix
        ) -> None:
            before, after = inputs[0].detach().float(), output[0].detach().float()
            seen[f"{prefix}influence"] = (1 - F.cosine_similarity(before, after, -1)).mean()

        handles.append(layer.register_forward_hook(around))
        for part in ("mixer", "mlp"):
            block = getattr(layer, part)
            if block is None:
                continue

            def before(module: nn.Module, inputs: tuple[Tensor, ...], name: str = f"{prefix}{part}") -> None:
                seen[f"{name}_in"] = size(inputs[0])
                if isinstance(spec := getattr(module, "spec", None), MlpSpec) and spec.experts:
                    _mixture(module, inputs[0].detach(), spec, seen, name.removesuffix("mlp"))

            handles.append(block.register_forward_pre_hook(before))
            if isinstance(out := getattr(block, "out", None), nn.Module):

                def into(module: nn.Module, inputs: tuple[Tensor, ...], name: str = f"{prefix}{part}.out") -> None:
                    seen[name] = size(inputs[0])

                handles.append(out.register_forward_pre_hook(into))
    handles.append(model.norm.register_forward_hook(lambda _module, _inputs, output: seen.update(last=size(output))))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def _mixture(module: nn.Module, x: Tensor, spec: MlpSpec, seen: dict[str, Tensor], prefix: str) -> None:
    """Of a mixture: sizes of the hidden units of every expert over the tokens that it gets, and REAP's score."""
    rows = x.reshape(-1, x.shape[-1])
    weights = dict(module.named_parameters())
    chances = F.linear(rows, weights["router.weight"]).float().softmax(-1)
    best, chosen = chances.topk(spec.top_k, -1)
    units, reap = [], []
    for expert in range(spec.experts):
        at, place = (chosen == expert).nonzero(as_tuple=True)
        if not len(at):
            units.append(rows.new_zeros(spec.hidden).float())
            reap.append(rows.new_zeros(()).float())
            continue
        bias = (weights["up_bias"][expert], weights["out_bias"][expert]) if "up_bias" in weights else (None, None)
        inside = activated(F.linear(rows[at], weights["up"][expert], bias[0]), spec)
        given = F.linear(inside, weights["out"][expert], bias[1]).float()
        units.append(inside.float().square().mean(0).sqrt())
        reap.append((best[at, place] * given.norm(dim=-1)).mean())
    seen[f"{prefix}units"], seen[f"{prefix}reap"] = torch.stack(units), torch.stack(reap)
