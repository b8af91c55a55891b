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
from nas_bo.compress.error_feedback import ridge
from nas_bo.compress.stacked_feedback import Inputs, Job, Settled, rounded, settled_together
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
                targets = {
                    name: _target(weight, seen[name], crossed[name], count) if name in crossed else weight
                    for name, weight in there.items()
                }
                found, dead = _calibrated(targets, asked, how, seen, count)
                packed |= found
                unseen += dead
                for name, weight in there.items():
                    weight.copy_(packed[name].weight())
        for name, width in asked.items():
            if width in INTEGERS and name not in packed:
                packed[name] = _packed(
                    rounded(_flat(places[name]), width, group, symmetric=symmetric), places[name], width, how
                )
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
    return rounded(_flat(weight), bits, group).weight(group).view(weight.shape).to(weight.dtype)


class _How(NamedTuple):
    group: int
    symmetric: bool


def _flat(weight: Tensor) -> Tensor:
    """(R, C) float32, experts below each other."""
    return weight.detach().float().reshape(-1, weight.shape[-1])


def _packed(made: Settled, weight: Tensor, bits: int, how: _How) -> Packed:
    zeros = None if how.symmetric else made.zeros
    return Packed.of(made.codes, made.scales, zeros, bits, how.group, tuple(weight.shape))


def _target(weight: Tensor, hessian: Tensor, crossed: Tensor, tokens: int) -> Tensor:
    """The weight that nearly gives, for what the quantized layers before it give (X, H = X^T X / N), what the trained one gives for what
    it is given in the trained model (Y, K = Y^T X / N): W + W (K - H) (H + ridge)^-1."""
    wanted = weight.detach().double() @ (crossed - hessian)
    made: Tensor = weight.detach() + torch.linalg.solve(ridge(hessian, tokens), wanted.t()).t().to(weight.dtype)
    return made


def _calibrated(
    targets: Mapping[str, Tensor], asked: Mapping[str, int], how: _How, seen: Mapping[str, Tensor], tokens: int
) -> tuple[dict[str, Packed], list[str]]:
    """The matrices, or all their experts one by one; and the names of those of which some were given nothing."""
    made: dict[str, list[Settled]] = {name: [] for name in targets}
    jobs: list[Job] = []
    places: list[tuple[str, int]] = []
    for name, target in targets.items():
        each, moments = (target, seen[name]) if target.dim() == 3 else (target.unsqueeze(0), seen[name].unsqueeze(0))
        for index, (one, hessian) in enumerate(zip(each.detach().float(), moments, strict=True)):
            inputs = Inputs.of(hessian, tokens)
            made[name].append(rounded(one, asked[name], how.group, symmetric=how.symmetric))
            if inputs is not None:
                jobs.append(Job(one, inputs, asked[name]))
                places.append((name, index))
    settled = settled_together(jobs, how.group, ROUNDS, symmetric=how.symmetric)
    for (name, index), one in zip(places, settled, strict=True):
        made[name][index] = one
    packed = {
        name: _packed(
            Settled(*(torch.cat(parts) for parts in zip(*each, strict=True))), targets[name], asked[name], how
        )
        for name, each in made.items()
    }
    return packed, [name for name, each in made.items() if sum(name == at for at, _ in places) < len(each)]


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
