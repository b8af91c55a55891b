"""The weights of a smaller decoder inside a trained one: the first heads, hidden units, experts and channels of each layer, as its
blocks say (`nas_bo.model.blocks.block.Sliceable`), which are the most important ones after `nas_bo.pretrained.ordering`.

Layers keep their place: one that is left out is a skip. Slices are views wherever a parameter is made of one piece.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nas_bo.architecture import Architecture, Node
from nas_bo.compress.pruning import flat_of, of_layers
from nas_bo.errors import ModelError
from nas_bo.model.blocks.block import Replaceable
from nas_bo.model.blocks.cuts import Cut, Piece
from nas_bo.model.blocks.skip import absent
from nas_bo.model.blocks.table import block_of, offered
from nas_bo.model.counts import norms_of
from nas_bo.model.spec import DecoderSpec
from nas_bo.pretrained.operators import KINDS, replacing
from nas_bo.supernet.slicing import sliceable
from nas_bo.wording import counted

if TYPE_CHECKING:
    from nas_bo.model.decoder import Decoder
    from nas_bo.pretrained.block_library import BlockLibrary

_OF_THE_TOP = ("norm", "position", "parallel", "tied", "bias")


def weights_of(teacher: Decoder, spec: DecoderSpec, library: BlockLibrary | None = None) -> dict[str, Tensor]:
    """The parameters of the decoder `spec` by name, taken from those of `teacher`, and of other operators in place of its attention from
    `library`. Without a library windows are put on the weights as they are.

    Raises:
        ModelError: `spec` is not within the teacher, or another operator without a library; the message names the field.
    """
    check_within(teacher.spec, spec)
    weights = dict(teacher.named_parameters())
    width = spec.width
    found = {"embedding.weight": weights["embedding.weight"][:, :width]}
    for name in ("positions.weight", "head.weight"):
        if name in weights:
            found[name] = weights[name][:, :width]
    for name, weight in weights.items():
        if name.startswith("norm."):
            found[name] = weight[:width]
        elif name == "skip_gates":
            found[name] = weight
    for index, (layer, whole) in enumerate(zip(spec.layers, teacher.spec.layers, strict=True)):
        prefix = f"layers.{index}."
        for part, small, large in (("mixer", layer.mixer, whole.mixer), ("mlp", layer.mlp, whole.mlp)):
            if absent(small):
                continue
            block = sliceable(small)
            there: Mapping[str, Tensor] = weights
            other = replacing(small, large) if part == "mixer" else None
            if other is not None and library is not None:
                large, there = other, library.weights(index, other)
            elif large.kind != small.kind:
                raise ModelError(
                    f"layer {index} of the sub-model has {small.kind} in place of {large.kind}, and no blocks of it were made; take the "
                    "sub-model from the loss (SubModelLoss.sub_model), which has them"
                )
            ours = block.slices(small, spec.frame, part, f"{prefix}{part}.")
            theirs = block.slices(large, teacher.spec.frame, part, f"{prefix}{part}.")
            for cut, whole_cut in zip(ours, theirs, strict=True):
                found[cut.name] = _cut(there[cut.name], cut, whole_cut)
        for norm in norms_of(layer, spec.frame):
            for form in ("weight", "bias"):
                if f"{prefix}{norm}.{form}" in weights:
                    found[f"{prefix}{norm}.{form}"] = weights[f"{prefix}{norm}.{form}"][:width]
    return found


def weight_of(weight: Tensor, name: str, whole: DecoderSpec, spec: DecoderSpec) -> Tensor:
    """What `spec` has of one parameter of a block of `whole`, of the same kind there (raises ModelError)."""
    _, index, part, _ = name.split(".", 3)
    found = []
    for frame, block in (
        (spec.frame, spec.layers[int(index)].slot(part)),
        (whole.frame, whole.layers[int(index)].slot(part)),
    ):
        cuts = sliceable(block).slices(block, frame, part, f"layers.{index}.{part}.")
        found.append(next(cut for cut in cuts if cut.name == name))
    return _cut(weight, *found)


@torch.no_grad()
def sliced(teacher: Decoder, spec: DecoderSpec, copy: bool = False, library: BlockLibrary | None = None) -> Decoder:
    """The decoder `spec` with weights of `teacher` (`weights_of`), in evaluation mode; with `copy` they are its own (raises ModelError)."""
    from nas_bo.model.decoder import Decoder
    from nas_bo.pretrained import on_disk

    weights = weights_of(teacher, spec, library)
    model = Decoder(spec, teacher.vocab_size).to(teacher.embedding.weight.device)
    for name, place in model.named_parameters():
        weight = weights[name].detach()
        place.data = weight.clone() if copy else weight
    if not copy:
        on_disk.follow(model, teacher)
    return model.eval()


def compact(model: Decoder) -> Decoder:
    """The same function without the layers that have neither mixer nor MLP, with weights of its own."""
    layers = model.spec.layers
    return of_layers(model, [i for i, layer in enumerate(layers) if not (absent(layer.mixer) and absent(layer.mlp))])


def without_empty_layers(arch: Architecture) -> Architecture:
    """The architecture of `compact`; it belongs to no space."""
    fields = dict(arch.tree)
    fields["layers"] = tuple(layer for layer in fields["layers"] if not (absent(layer.mixer) and absent(layer.mlp)))
    made = Node(fields)
    return Architecture(made, flat_of(made))


def check_within(whole: DecoderSpec, spec: DecoderSpec) -> None:
    """Raise ModelError where a decoder is not within another one."""
    own, its = spec._asdict(), whole._asdict()
    for name in _OF_THE_TOP:
        if own[name] != its[name]:
            raise ModelError(
                f"the sub-model has {name}={own[name]!r} and the trained one {its[name]!r}; they must be equal"
            )
    if spec.details != whole.details:
        raise ModelError(
            "the sub-model has other norms, positions or scales than the trained one; take them from its arch"
        )
    if len(spec.layers) != len(whole.layers):
        raise ModelError(
            f"the sub-model has {counted(len(spec.layers), 'layer')} and the trained one {len(whole.layers)}; layers keep their place, and one that "
            "is left out has a skip() as mixer and mlp"
        )
    if spec.width > whole.width:
        raise ModelError(
            f"the sub-model has width={spec.width} and the trained one {whole.width}; it must not be larger"
        )
    for index, (small, large) in enumerate(zip(spec.layers, whole.layers, strict=True)):
        for part in ("mixer", "mlp"):
            one, other = small.slot(part), large.slot(part)
            if not absent(one) and one.kind != other.kind and (part == "mlp" or replacing(one, other) is None):
                raise ModelError(
                    f"layer {index} of the sub-model has {one.kind} as {part}, where the trained one has {other.kind}; it may be that or a skip"
                    + (f", or {' or '.join(KINDS)}" if offered(block_of(other), Replaceable) else "")
                )


def _cut(weight: Tensor, cut: Cut, whole: Cut) -> Tensor:
    """The part `cut` of a parameter of which `whole` says what it is made of."""
    if cut.pieces == whole.pieces:
        return weight
    pieces = torch.split(weight, [shape[whole.axis] for shape in whole.shapes], whole.axis)
    parts = []
    for piece, shape, have, tensor in zip(cut.pieces, cut.shapes, whole.pieces, pieces, strict=True):
        parts.append(_piece(tensor.reshape(have.sizes), piece, have, cut.name).reshape(shape))
    return parts[0] if len(parts) == 1 else torch.cat(parts, cut.axis)


def _piece(tensor: Tensor, piece: Piece, have: Piece, name: str) -> Tensor:
    for axis, size in _narrower(piece, have, name):
        if (
            axis == 0 and piece.step != have.step
        ):  # keys of groups of another size: those that its first query heads read
            rows = [row * piece.step // have.step for row in range(size)]
            tensor = tensor.index_select(0, torch.tensor(rows, device=tensor.device))
        elif axis == piece.spread:
            places = [place * have.sizes[axis] // size for place in range(size)]
            tensor = tensor.index_select(axis, torch.tensor(places, device=tensor.device))
        else:
            tensor = tensor.narrow(axis, have.sizes[axis] - size if axis == piece.last else 0, size)
    return tensor


def _narrower(piece: Piece, have: Piece, name: str) -> Iterator[tuple[int, int]]:
    for axis, (size, most) in enumerate(zip(piece.sizes, have.sizes, strict=True)):
        regrouped = axis == 0 and piece.step != have.step
        if size > most or (regrouped and (size - 1) * piece.step // have.step >= most):
            raise ModelError(
                f"{name} of the sub-model has the sizes {piece.sizes}, and the trained one {have.sizes}; no size may be larger"
            )
        if size != most or regrouped:
            yield axis, size
