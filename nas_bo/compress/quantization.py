"""Weights in few bits: groups of columns with a scale each, rounded to the nearest, or calibrated with error feedback.

=========  ==========================================================================================================
``rtn``    round to nearest: the range of a group is that of its weights
``gptq``   GPTQ (Frantar et al. 2022, arXiv 2210.17323): layer by layer, on what the layers before it, quantized already,
           give for a calibration text, in models of few layers towards what the trained layer gives in the trained model (the
           asymmetric form of Li et al. 2025, arXiv 2504.02692, in closed form); a group's range is the one of least squared error, weighted by
           the inputs, and scales are fitted to the codes by least squares
=========  ==========================================================================================================

What is quantized are the matrices of blocks (of your own as well, see `nas_bo.model.blocks.block.Exact`), embeddings and the head. Norms,
biases, taps and routers stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from nas_bo.compress.calibration import EMBEDDINGS, Calibration, Passes, matrices, moments, windows
from nas_bo.compress.error_feedback import DAMPING, ridge, settle
from nas_bo.errors import CompressError, near
from nas_bo.model.decoder import Decoder, build
from nas_bo.model.packed import INTEGERS, Packed, packed_bytes
from nas_bo.model.products import Int8Activations
from nas_bo.model.spec import DecoderSpec
from nas_bo.validated import check_values, one_of, whole_number

BITS = (*INTEGERS, 16, 32)
"""16 is bfloat16, 32 leaves a weight as it is."""
LEAST_OF_EMBEDDINGS = 8
"""Bits of embeddings and the head where nobody names them: few weights, of which every token reads some."""
SHRUNK = tuple(1 - 0.03 * step for step in range(24))
"""Shares of a group's range that the calibrated form tries."""

ROUNDS = 2  # of codes, then scales for them

CORRECTED_LAYERS = 6
"""In models of at most so many layers the target of a matrix is what the trained layer gives in the trained model; in deeper ones it is its own
weight, since corrections on corrections grow (docs/decisions.md)."""

GROUP = 32
"""Columns that share a scale where nobody says how many."""

Bits = int | Mapping[str, int]


@dataclass(frozen=True, eq=False)
class QuantizedModel:
    """What `quantize` gave.

    Attributes:
        model: a decoder with the weights that the integers stand for; it runs as any other.
        packed: the weights that are integers, by name.
        bits: of every quantized weight by name, those of 16 and 32 as well.
        group, symmetric, method: as asked for.
        activations: 8 where the inputs of the matrices are rounded to 8 bits, for each token; else None.
        unseen: matrices that the calibration gave no input, rounded to the nearest instead.
    """

    model: Decoder
    packed: Mapping[str, Packed]
    bits: Mapping[str, int]
    group: int
    symmetric: bool
    method: str
    activations: int | None = None
    unseen: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """The size of all weights: integers, scales, zero points, and what is not quantized."""
        return sum(one.numel() * one.element_size() for one in self.state().values())

    @property
    def bits_per_weight(self) -> float:
        """Of all weights together, scales and zero points included."""
        return 8 * self.nbytes / sum(one.numel() for one in self.model.parameters())

    def state(self) -> dict[str, Tensor]:
        """What a file holds, by name."""
        found: dict[str, Tensor] = {}
        for name, weight in self.model.state_dict().items():
            if name in self.packed:
                found |= self.packed[name].tensors(name)
            else:
                found[name] = (weight.bfloat16() if self.bits.get(name) == 16 else weight).detach().cpu().contiguous()
        return found

    def about(self) -> dict[str, Any]:
        """What ``model.json`` says about it."""
        return {
            "bits": dict(self.bits),
            "group": self.group,
            "symmetric": self.symmetric,
            "method": self.method,
            "activations": self.activations,
        }


def quantize(
    model: Decoder,
    bits: Bits = 4,
    group: int = GROUP,
    method: Literal["rtn", "gptq"] = "rtn",
    calibration: Calibration | None = None,
    *,
    symmetric: bool = False,
    activations: int | None = None,
) -> QuantizedModel:
    """A copy of a trained decoder with its weights in few bits.

    Args:
        bits: 2, 3, 4 or 8 (integers), 16 (bfloat16) or 32 (as it is), for all matrices; embeddings and the head have at least 8.
            Or some for each: keys are "mixer", "mlp", "layers.3", "layers.3.mlp", the name of a weight, "embedding", "head" and
            "default" (16 where it is not given); the longest that fits a weight counts.
        group: columns that share a scale.
        method: see above.
        calibration: for "gptq": a corpus, or windows (B, T + 1) of token ids.
        symmetric: no zero points; the weight of a group that is farthest from 0 is exact.
        activations: 8 rounds what matrices are given, token by token.

    Raises:
        CompressError: bits that there are not, a layer that there is not, no calibration, or one that is too short.
    """
    check_values("quantize", CompressError, whole_number(1).advise("32 is usual"), group=group)
    check_values("quantize", CompressError, one_of("rtn", "gptq"), method=method)
    check_values("quantize", CompressError, one_of(False, True), symmetric=symmetric)
    check_values("quantize", CompressError, one_of(None, 8), activations=activations)
    asked = assigned(model, bits)
    if activations is not None and not any(width in INTEGERS for width in asked.values()):
        raise CompressError(
            f"quantize(activations={activations}): what matrices of 8 bits or fewer are given is rounded, and bits={bits!r} gives no matrix so few; "
            "give bits=8, or leave activations out"
        )
    broken = [name for name, weight in model.named_parameters() if not bool(torch.isfinite(weight).all())]
    if broken:
        raise CompressError(
            f"{broken[0]} has weights that are not finite numbers, so the training of this model has failed; take another checkpoint, or "
            "train it again with a lower lr"
        )
    tokens = windows(model, calibration, 'method="gptq"') if method == "gptq" else None
    made = _copy(model, activations)
    places = dict(made.named_parameters())
    packed: dict[str, Packed] = {}
    unseen: list[str] = []
    how = _How(group, symmetric)
    with torch.no_grad():
        if tokens is not None:
            passes, exact = Passes(made, tokens), Passes(model, tokens)
            count = tokens.shape[0] * (tokens.shape[1] - 1)
            for last, names in _stages(made, asked):
                there = {name: places[name] for name in names}
                corrected = last is not None and len(model.spec.layers) <= CORRECTED_LAYERS
                for each in (passes, exact) if corrected else (passes,):
                    each.advance(len(made.layers) - 1 if last is None else last)
                seen, crossed = moments(passes, there, last, exact if corrected else None)
                for name, weight in there.items():
                    target = _target(weight, seen[name], crossed[name], count) if name in crossed else weight
                    packed[name], dead = _calibrated(target, asked[name], how, seen[name])
                    unseen += [name] if dead else []
                    places[name].copy_(packed[name].weight())
        for name, width in asked.items():
            if width in INTEGERS and name not in packed:
                packed[name] = _nearest(places[name], width, how)
                places[name].copy_(packed[name].weight())
            elif width == 16:
                places[name].copy_(places[name].bfloat16())
    if isinstance(made, Int8Activations):
        made.rounded = tuple(name for name, width in asked.items() if width in INTEGERS)
    return QuantizedModel(made, packed, asked, group, symmetric, method, activations, tuple(unseen))


def stored_bytes(
    arch: DecoderSpec | Decoder, vocab_size: int, bits: Bits, group: int = GROUP, *, symmetric: bool = False
) -> int:
    """The size of the weights of a decoder that would be quantized so, in bytes, computed from its shapes; weights that are not
    quantized have 4 bytes each.

    Raises:
        CompressError: as `quantize`.
    """
    model = arch if isinstance(arch, Decoder) else build(arch, vocab_size, device="meta")
    asked = assigned(model, bits)
    return sum(
        packed_bytes(tuple(weight.shape), asked.get(name, 32), group, symmetric)
        for name, weight in model.named_parameters()
    )


# ---- which weight has which bits --------------------------------------------------------------------------------------


def assigned(model: Decoder, bits: Bits) -> dict[str, int]:
    """The bits of every weight that can be quantized, by name (raises CompressError)."""
    names = [*matrices(model), *(name for name, _ in model.named_parameters() if name in EMBEDDINGS)]
    if isinstance(bits, Mapping):
        return _by_key(model, names, bits)
    _check_bits("bits", bits)
    return {name: max(bits, LEAST_OF_EMBEDDINGS) if name in EMBEDDINGS else bits for name in names}


def _by_key(model: Decoder, names: list[str], bits: Mapping[str, int]) -> dict[str, int]:
    fits: dict[str, list[str]] = {name: [] for name in names}
    for key, value in bits.items():
        _check_bits(f"bits[{key!r}]", value)
        hit = [name for name in names if key == "default" or _fits(str(key), name)]
        if not hit:
            known = keys(names)
            raise CompressError(
                f"bits names {key!r}{near(key, known)}, and this model has no matrix there that could be quantized; there are "
                f"{', '.join(known)}"
            )
        for name in hit:
            fits[name].append(str(key))
    default = bits.get("default")
    found = {}
    for name in names:
        own = [key for key in fits[name] if key != "default"]
        if own:
            found[name] = bits[max(own, key=_narrowness)]
        elif default is None:
            found[name] = 16
        else:
            found[name] = max(default, LEAST_OF_EMBEDDINGS) if name in EMBEDDINGS else default
    return found


def _narrowness(key: str) -> tuple[int, int]:
    return key.count("."), len(key)


def _fits(key: str, name: str) -> bool:
    parts = name.split(".")
    return name == key or name.startswith(f"{key}.") or (parts[0] == "layers" and key == parts[2])


def keys(names: list[str]) -> list[str]:
    """What a mapping of bits may name, the weights themselves aside."""
    layers = sorted(
        {tuple(name.split(".")[1:3]) for name in names if name.startswith("layers.")}, key=lambda k: (int(k[0]), k[1])
    )
    found = [f"layers.{index}.{part}" for index, part in layers]
    at = dict.fromkeys(f"layers.{index}" for index, _ in layers)
    parts = dict.fromkeys(part for _, part in layers)
    return ["default", *parts, *(name.split(".")[0] for name in names if name in EMBEDDINGS), *at, *found]


def _check_bits(what: str, value: object) -> None:
    if type(value) is not int or value not in BITS:
        raise CompressError(
            f"quantize({what}={value!r}): weights can have {', '.join(map(str, BITS[:-1]))} or {BITS[-1]} bits, where 16 is bfloat16 "
            "and 32 leaves them as they are"
        )


# ---- one matrix -------------------------------------------------------------------------------------------------------


def nearest(weight: Tensor, bits: int, group: int = GROUP) -> Tensor:
    """A weight as `bits` (2, 3, 4 or 8) say it, rounded to the nearest, in its own data type."""
    return _nearest(weight, bits, _How(group, False)).weight().to(weight.dtype)


class _How(NamedTuple):
    group: int
    symmetric: bool


class _Grid(NamedTuple):
    """Of each group (R, G): the scale and the zero point."""

    scales: Tensor
    zeros: Tensor


def _grouped(weight: Tensor, group: int) -> Tensor:
    """(R, C) -> (R, G, group), the last group filled with zeros."""
    rows, columns = weight.shape
    return torch.nn.functional.pad(weight, (0, -columns % group)).view(rows, -1, group)


def _grid(parts: Tensor, bits: int, symmetric: bool, share: float = 1.0) -> _Grid:
    """Of groups (R, G, group), whose range is taken times `share`."""
    most = (1 << bits) - 1
    if symmetric:  # the weight farthest from 0 has the code 0, as in llama.cpp's Q4_0
        far = parts.gather(-1, parts.abs().argmax(-1, keepdim=True)).squeeze(-1) * share
        scales = (far / -(1 << (bits - 1))).bfloat16().float()
        zeros = torch.full_like(scales, float(1 << (bits - 1)))
    else:
        low, high = parts.amin(-1).clamp(max=0) * share, parts.amax(-1).clamp(min=0) * share
        scales = ((high - low) / most).bfloat16().float()
        zeros = torch.where(scales > 0, -low / scales, 0.0).round().clamp(0, most)
    return _Grid(torch.where(scales == 0, torch.ones_like(scales), scales), zeros)


def _codes(w: Tensor, scales: Tensor, zeros: Tensor, bits: int) -> Tensor:
    return (w / scales + zeros).round().clamp(0, (1 << bits) - 1)


def _nearest(weight: Tensor, bits: int, how: _How) -> Packed:
    flat = weight.detach().float().reshape(-1, weight.shape[-1])
    parts = _grouped(flat, how.group)
    grid = _grid(parts, bits, how.symmetric)
    codes = _codes(parts, grid.scales.unsqueeze(-1), grid.zeros.unsqueeze(-1), bits)
    return _packed(codes.flatten(1)[:, : flat.shape[1]], grid, weight, bits, how)


def _packed(codes: Tensor, grid: _Grid, weight: Tensor, bits: int, how: _How) -> Packed:
    zeros = None if how.symmetric else grid.zeros
    return Packed.of(codes, grid.scales, zeros, bits, how.group, tuple(weight.shape))


def _best_grid(flat: Tensor, bits: int, how: _How, importance: Tensor) -> _Grid:
    """Of the shares of the range the one of least squared error, each group for itself; weights of a column count as `importance` (C,)."""
    parts = _grouped(flat, how.group)
    heavy = _grouped(importance.float().unsqueeze(0), how.group)
    best: _Grid | None = None
    least = torch.empty(0)
    for share in SHRUNK:
        grid = _grid(parts, bits, how.symmetric, share)
        scales, zeros = grid.scales.unsqueeze(-1), grid.zeros.unsqueeze(-1)
        error = ((scales * (_codes(parts, scales, zeros, bits) - zeros) - parts).square() * heavy).sum(-1)
        if best is None:
            best, least = grid, error
            continue
        better = error < least
        best = _Grid(*(torch.where(better, new, old) for new, old in zip(grid, best, strict=True)))
        least = torch.minimum(least, error)
    assert best is not None
    return best


def _target(weight: Tensor, hessian: Tensor, crossed: Tensor, tokens: int) -> Tensor:
    """The weight that nearly gives, for what the quantized layers before it give (X, H = X^T X / N), what the trained one gives for what
    it is given in the trained model (Y, K = Y^T X / N): W + W (K - H) (H + ridge)^-1."""
    wanted = weight.detach().double() @ (crossed - hessian)
    made: Tensor = weight.detach() + torch.linalg.solve(ridge(hessian, tokens), wanted.t()).t().to(weight.dtype)
    return made


def _calibrated(weight: Tensor, bits: int, how: _How, hessian: Tensor) -> tuple[Packed, bool]:
    """The matrix, or all experts one by one; and whether some of it was given nothing."""
    experts = (
        list(zip(weight.detach().unbind(0), hessian.unbind(0), strict=True))
        if weight.dim() == 3
        else [(weight.detach(), hessian)]
    )
    codes, grids, dead = [], [], False
    for each, seen in experts:
        flat = each.float()
        if not bool((seen.diagonal() > 0).any()):
            dead = True
            parts = _grouped(flat, how.group)
            grid = _grid(parts, bits, how.symmetric)
            nearest = _codes(parts, grid.scales.unsqueeze(-1), grid.zeros.unsqueeze(-1), bits)
            codes.append(nearest.flatten(1)[:, : flat.shape[1]])
        else:
            grid = _best_grid(flat, bits, how, seen.diagonal())
            for _ in range(ROUNDS):
                found = _fed_back(flat, bits, how, grid, seen)
                grid = _fitted(flat, found, how, grid, seen)
            codes.append(found)
        grids.append(grid)
    joined = _Grid(*(torch.cat(parts) for parts in zip(*grids, strict=True)))
    return _packed(torch.cat(codes), joined, weight, bits, how), dead


def _fitted(flat: Tensor, codes: Tensor, how: _How, grid: _Grid, hessian: Tensor) -> _Grid:
    """The scales of each row for which the codes give the nearest output: they minimise (w - S c)^T H (w - S c), a system of G
    equations, where c are the codes without their zero points and S has the scale of each column's group."""
    rows, columns = flat.shape
    groups = grid.scales.shape[1]
    parts = (codes - grid.zeros.repeat_interleave(how.group, 1)[:, :columns]).double()
    target = flat.double()
    inner = torch.empty(rows, groups, groups, dtype=torch.float64, device=flat.device)
    wanted = torch.empty(rows, groups, dtype=torch.float64, device=flat.device)
    for at in range(groups):
        own = slice(at * how.group, min((at + 1) * how.group, columns))
        seen = parts[:, own] @ hessian[own]  # (R, C)
        inner[:, at] = _grouped(seen * parts, how.group).sum(-1)
        wanted[:, at] = (seen * target).sum(1)
    old = grid.scales.double()
    damped = DAMPING * inner.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-30)
    inner.diagonal(dim1=1, dim2=2).add_(damped.unsqueeze(1))
    found = torch.linalg.solve(inner, wanted + damped.unsqueeze(1) * old)
    kept = torch.where(found.sign() == old.sign(), found, old).bfloat16().float()
    return _Grid(torch.where(kept == 0, grid.scales, kept), grid.zeros)


def _fed_back(flat: Tensor, bits: int, how: _How, grid: _Grid, hessian: Tensor) -> Tensor:
    """(R, C) codes. Columns are rows here: each is read and written once, in one piece."""
    codes = torch.empty_like(flat.t(), memory_format=torch.contiguous_format)
    scales, zeros = grid.scales.t().contiguous(), grid.zeros.t().contiguous()
    most = (1 << bits) - 1

    def settled(w: Tensor, column: int) -> Tensor:
        s, z = scales[column // how.group], zeros[column // how.group]
        code = torch.div(w, s, out=codes[column]).add_(z).round_().clamp_(0, most)
        return (code - z).mul_(s)

    settle(flat, hessian, settled)
    return codes.t()


# ---- the model --------------------------------------------------------------------------------------------------------


def _stages(model: Decoder, asked: Mapping[str, int]) -> list[tuple[int | None, list[str]]]:
    """(the module after which passes may end, the weights that are calibrated together), in the order of a pass."""
    there = matrices(model)
    found: list[tuple[int | None, list[str]]] = []
    for index in range(len(model.layers)):
        for part in ("mixer", "mlp"):
            names = [n for n in there if n.startswith(f"layers.{index}.{part}.") and asked[n] in INTEGERS]
            if names:
                found.append((index, names))
    if asked.get("head.weight") in INTEGERS:
        found.append((None, ["head.weight"]))
    return found


def _copy(model: Decoder, activations: int | None) -> Decoder:
    """The same model, in float32."""
    kind = Decoder if activations is None else Int8Activations
    with torch.device(model.embedding.weight.device):
        made = kind(model.spec, model.vocab_size)
    made.load_state_dict(model.state_dict())
    return made.eval()
