"""Which block of a decoder gives what is not a finite number: asked of blocks of a user's own, before training and when it fails."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from nas_bo.errors import ModelError
from nas_bo.model.blocks.table import block_of, is_ours
from nas_bo.model.decoder import Decoder, Layer

TOKENS = 16  # of a first look


def has_own_blocks(model: object) -> bool:
    """Whether a decoder has blocks that are not of nas_bo."""
    return isinstance(model, Decoder) and not all(
        is_ours(block_of(one)) for layer in model.spec.layers for one in layer
    )


def check_first_pass(model: Decoder) -> None:
    """Raise ModelError where a block gives no finite numbers, or gradients, with its first weights."""
    device = model.embedding.weight.device
    tokens = torch.randint(model.vocab_size, (2, TOKENS + 1), generator=torch.Generator().manual_seed(0)).to(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        said = blamed(model, lambda: model.loss(tokens[:, :-1], tokens[:, 1:])[0])
    model.zero_grad(set_to_none=True)
    if said is not None:
        raise ModelError(f"{said} with its first weights, on {TOKENS} random tokens; {MEND}")


def watch_own_blocks(model: Decoder, found: list[str]) -> None:
    """From now on `found` gets what should be reported about the first block of a user's own whose input is finite and whose output or
    gradients are not: for models that borrow their weights in every pass."""
    for index, layer in enumerate(model.layers):
        for part in ("mixer", "mlp"):
            assert isinstance(layer, Layer)
            _, module, _ = layer.slot(part)
            if module is not None and not is_ours(block_of(model.spec.layers[index].slot(part))):
                watch(_where(model, index, part), module, found)


def _where(model: Decoder, index: int, part: str) -> str:
    return f"the block {model.spec.layers[index].slot(part).kind!r} (the {part} of layer {index})"


def watch(where: str, module: torch.nn.Module, found: list[str]) -> list[RemovableHandle]:
    """Look at every pass of a module, until `found` has something in it; gives the handles that end this."""
    fine: dict[str, bool] = {}
    handles: list[RemovableHandle] = []

    def backward(gradient: Tensor) -> None:  # of what the block gives: comes before those of its weights
        fine["after"] = bool(gradient.isfinite().all())

    def before(gradient: Tensor) -> None:
        if not found and fine.get("after", False) and not gradient.isfinite().all():
            found.append(f"{where} gives gradients that are not finite")

    def forward(_module: torch.nn.Module, inputs: tuple[Tensor, ...], output: tuple[Tensor, object]) -> None:
        taken, given = inputs[0], output[0]
        while len(handles) > 1:  # of the weights of the last pass
            handles.pop().remove()
        if found:
            return
        if taken.isfinite().all() and not given.isfinite().all():
            found.append(f"{where} gives values that are not finite")
        if given.requires_grad:
            given.register_hook(backward)  # type: ignore[no-untyped-call]
            weights = [weight for weight in module.parameters() if weight.requires_grad]
            handles.extend(weight.register_hook(before) for weight in weights)  # type: ignore[no-untyped-call]

    handles.append(module.register_forward_hook(forward))
    return handles


MEND = (
    "look in its module for a logarithm or root of what may be negative or zero, a division by zero, an exponential of what may be "
    "large, and softmaxes over nothing"
)


def blamed(model: Decoder, loss: Callable[[], Tensor]) -> str | None:
    """What should be reported about the first block whose input is finite and whose output is not, in a pass and its gradients; None
    where there is none. The gradients are left in the weights."""
    found: list[str] = []
    handles = []
    for index, layer in enumerate(model.layers):
        for part in ("mixer", "mlp"):
            assert isinstance(layer, Layer)
            _, module, _ = layer.slot(part)
            if module is not None:
                handles.append(watch(_where(model, index, part), module, found))
    try:
        loss().backward()  # type: ignore[no-untyped-call]
    finally:
        for ones in handles:
            for handle in ones:
                handle.remove()
    return found[0] if found else None
