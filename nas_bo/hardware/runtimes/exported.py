"""A model as a function without a cache of its own, which is what compilers and other runtimes take; and as ONNX.

Decoding becomes one step at a fixed position: a token and the states go in, logits and the new states come out, keys and
values joined to those before as deployed decoders do (a full attention is one whose window is longer than the context).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas_bo import temporary
from nas_bo.errors import MissingExtra, Unsupported
from nas_bo.hardware.runtimes.eager import built
from nas_bo.hardware.runtimes.interface import DECODED
from nas_bo.hardware.workload import Setting, specified
from nas_bo.model.blocks.table import joined
from nas_bo.model.counts import Arch

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Function:
    """A model as a torch module that changes nothing, and what to call it with.

    Attributes:
        module: ``module(*inputs)`` is the logits, for decoding followed by the new states.
        inputs: tokens, for decoding followed by the states.
        expected: the logits that eager torch gives, (batch, tokens, vocabulary); of a prefill after its last token, unless `Setting.logits` says "all".
        weight_bytes: of its parameters.
    """

    module: nn.Module
    inputs: tuple[Tensor, ...]
    expected: np.ndarray
    weight_bytes: int


def function(arch: Arch, setting: Setting, device: str, name: str) -> Function:
    """The model of an architecture in one setting.

    Raises:
        ModelError: it cannot be built.
        Unsupported: the data type is none of torch's, or there is not enough memory.
    """
    import torch

    spec = specified(arch, setting)
    if setting.phase == "decode":
        length = setting.context + DECODED
        spec = spec._replace(layers=tuple(one._replace(mixer=joined(one.mixer, length)) for one in spec.layers))
    from nas_bo.export.stepping import flat

    model, tokens = built(spec, setting, device, name)
    with torch.inference_mode():
        if setting.phase == "prefill":
            inputs: tuple[Tensor, ...] = (tokens[:, : setting.context].contiguous(),)
            module: nn.Module = _last(model) if setting.logits == "last" else model
            expected = module(*inputs)
        else:
            cache = model.new_cache(setting.batch, setting.context + DECODED)
            model(tokens[:, : setting.context], cache=cache)
            states = [[s.contiguous() for s in flat(state)] for state in cache.states]
            module = _step(model, setting, [len(state) for state in states])
            inputs = (
                tokens[:, setting.context : setting.context + 1].contiguous(),
                *(s for one in states for s in one),
            )
            expected = module(*inputs)[0]
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    # tensors made in inference mode cannot be exported
    return Function(module, tuple(one.clone() for one in inputs), expected.float().cpu().numpy(), weights)


def first(outputs: object) -> np.ndarray:
    """The logits among what a function gives, as float32."""
    import torch

    logits = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
    if isinstance(logits, torch.Tensor):
        return logits.float().cpu().numpy()
    return np.asarray(logits, dtype=np.float32)


def to_onnx(made: Function, name: str, kept: Path | None = None) -> bytes:
    """The function as an ONNX file, shapes fixed.

    Args:
        kept: a file where it is read from, or written to once it is made.

    Raises:
        MissingExtra: onnx or onnxscript is not installed.
        Unsupported: torch cannot export it.
    """
    import torch

    from nas_bo.export.onnx import quiet

    if kept is not None and kept.exists():
        return kept.read_bytes()
    for package in ("onnx", "onnxscript"):
        try:
            __import__(package)
        except ImportError:
            raise MissingExtra(package, "onnx") from None
    file = io.BytesIO()
    with quiet(), torch.no_grad():
        try:
            program: Any = torch.onnx.export(made.module, made.inputs, dynamo=True, verbose=False)
            program.save(file)
        except Exception as error:  # torch wraps whatever an operation raises
            cause = error.__cause__ or error
            text = " ".join(str(cause).split())[:200]
            raise Unsupported(f"{name}: torch cannot export it to ONNX ({type(cause).__name__}: {text})") from error
    if kept is not None:
        with temporary.whole(kept) as draft:
            draft.write_bytes(file.getvalue())
    return file.getvalue()


def kept_file(folder: str | None, arch: Arch, setting: Setting) -> Path | None:
    """Where the export of an architecture in one setting is kept in `folder`, by torch's version; None for no folder."""
    if folder is None:
        return None
    from importlib.metadata import version

    said = repr((specified(arch, setting), setting, version("torch"), version("onnxscript")))
    return Path(folder) / f"{hashlib.sha256(said.encode()).hexdigest()[:20]}.onnx"


def _last(model: nn.Module) -> nn.Module:
    """A module tokens (B, T) -> logits (B, 1, V) after the last of them."""
    import torch

    class Last(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, tokens: Tensor) -> Tensor:
            found: Tensor = self.model(tokens, last=True)
            return found

    return Last().eval()


def _step(model: nn.Module, setting: Setting, counts: list[int]) -> nn.Module:
    """A module (token, *states) -> (logits, *new states) at the position after `context` tokens."""
    import torch

    from nas_bo.export.stepping import flat, unflat
    from nas_bo.model.decoder import Cache

    class Step(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, token: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
            cache = Cache(setting.batch, setting.context + DECODED, setting.context, unflat(states, counts))
            logits = self.model(token, cache=cache)
            return (logits, *(s for state in cache.states for s in flat(state)))

    return Step().eval()


class Called:
    """Something to call, ready as it is."""

    steps = 1

    def __init__(self, run: Callable[[], object], held_bytes: int) -> None:
        self._run, self.held_bytes = run, held_bytes

    def ready(self) -> Callable[[], object]:
        return self._run
