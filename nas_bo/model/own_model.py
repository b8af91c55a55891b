"""A model of the user's own: a torch module that a function of theirs builds from an architecture.

A `Build` is that function: ``build(arch) -> nn.Module``. The module takes tokens (batch, length) of dtype long and gives
logits (batch, length, vocabulary): as a tensor, as the first of a tuple, or as the field ``logits`` of what it returns (so
models of Hugging Face fit). Whether decoding can be run is asked of the module: see `CachedDecoder`. Loads torch when used.
"""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from nas_bo.errors import ModelError, NasBoError, ObjectiveError, Unsupported
from nas_bo.model.device import dtype_of
from nas_bo.serialization import Qualified

if TYPE_CHECKING:
    from torch import Tensor, nn

Build = Callable[[Any], Any]  # from an architecture to a torch module, which is checked
SEED = 0  # of weights that are only timed or counted


@runtime_checkable
class CachedDecoder(Protocol):
    """What a model offers beyond ``model(tokens)`` so that its decoding can be run. No base class is needed.

    The cache is any object that `copy.deepcopy` can copy; before each repeat it is set back by a copy.
    """

    def new_cache(self, batch: int, length: int) -> Any:
        """An empty cache for `batch` sequences of at most `length` tokens, on the device of the weights."""

    def __call__(self, tokens: Tensor, *, cache: object) -> object:
        """Logits of `tokens` (batch, new), which come after those that the cache has seen; the cache takes them in."""


@runtime_checkable
class _WithLogits(Protocol):
    logits: object


def check_build(owner: str, build: object) -> None:
    """Raise ObjectiveError unless `build` is None, or something to call with one architecture."""
    if build is None:
        return
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(build, torch.nn.Module):
        raise ObjectiveError(
            f"{owner}(build=...) is a model, a {type(build).__name__}; give the function that builds one from an architecture, "
            f"or the class itself: build={type(build).__name__}"
        )
    if not callable(build):
        raise ObjectiveError(
            f"{owner}(build={build!r:.60}) cannot be called; give a function of the architecture that returns a torch module"
        )
    try:
        inspect.signature(build).bind(None)
    except TypeError as error:
        raise ObjectiveError(
            f"{owner}(build={called(build)}) cannot be called with the architecture alone ({error}); bind the rest with "
            "functools.partial, or write a function of one argument"
        ) from None
    except ValueError:  # a callable that shows no signature
        return


def called(build: object) -> str:
    """What a build is called in messages and conditions; the same in every process."""
    if isinstance(build, partial):
        return called(build.func)
    return build.__qualname__ if isinstance(build, Qualified) else type(build).__qualname__


def built(build: Build, arch: object, device: str = "cpu", dtype: str = "float32", seed: int = SEED) -> nn.Module:
    """The module in evaluation mode on a device, "meta" included; torch's random state is as before.

    Raises:
        ModelError: `build` raises, or what it returns is not a torch module.
        Unsupported: the weights do not fit into memory.
    """
    import torch

    name = called(build)
    with _own_random_state(device, seed), _nowhere() if device == "meta" else nullcontext():
        try:
            model = build(arch)
        except NasBoError:
            raise
        except torch.OutOfMemoryError as error:
            raise Unsupported(f"the weights of {name} do not fit into the memory that is free") from error
        except Exception as error:  # whatever a user's code raises
            raise ModelError(f"{name} raised {_said(error)} while it built the architecture") from error
    if not isinstance(model, torch.nn.Module):
        raise ModelError(
            f"{name} returned {model!r:.60} for an architecture; it must return a torch.nn.Module that maps tokens to logits"
        )
    if device == "meta":
        return _without_numbers(model).eval()
    try:
        return model.to(device=device, dtype=dtype_of(dtype)).eval()
    except torch.OutOfMemoryError as error:
        raise Unsupported(f"the weights of {name} do not fit into the memory that is free on {device}") from error


def logits_of(output: object, model: object) -> Tensor:
    """The logits in what a model returned (raises ModelError)."""
    import torch

    found = output
    if isinstance(output, Mapping) and "logits" in output:
        found = output["logits"]
    elif not isinstance(output, torch.Tensor) and isinstance(output, _WithLogits):
        found = output.logits
    elif isinstance(output, (tuple, list)) and output:
        found = output[0]
    if not isinstance(found, torch.Tensor) or found.dim() != 3:
        shape = (
            f"a tensor of shape {tuple(found.shape)}"
            if isinstance(found, torch.Tensor)
            else f"a {type(found).__name__}"
        )
        raise ModelError(
            f"{type(model).__name__} returned {shape}; it must return logits (batch, length, vocabulary), as a tensor, as the "
            "first of a tuple, or as the field 'logits'"
        )
    return found


def run(model: Callable[..., object], tokens: Tensor, **cache: object) -> Tensor:
    """Logits of tokens (B, T) -> (B, T, V).

    Raises:
        ModelError: the model raises, or gives no logits.
        Unsupported: there is not enough memory.
    """
    import torch

    try:
        output = model(tokens, **cache)
    except NasBoError:
        raise
    except torch.OutOfMemoryError as error:
        raise Unsupported(f"{tuple(tokens.shape)} tokens do not fit into the memory that is free") from error
    except Exception as error:  # whatever a user's code raises
        raise ModelError(
            f"{type(model).__name__} raised {_said(error)} on tokens of shape {tuple(tokens.shape)} and dtype long"
        ) from error
    found = logits_of(output, model)
    if found.shape[0] != tokens.shape[0]:
        raise ModelError(
            f"{type(model).__name__} returned logits of shape {tuple(found.shape)} for tokens of shape {tuple(tokens.shape)}; "
            "the batch comes first"
        )
    return found


class Decoding:
    """A model after it has read a prompt, ready to decode; `again` sets it back to just after the prompt.

    Raises:
        ObjectiveError: the model has no cache.
    """

    def __init__(self, model: nn.Module, tokens: Tensor, length: int) -> None:
        self._model, self._huggingface = model, not isinstance(model, CachedDecoder)
        self._start: object
        if not isinstance(model, CachedDecoder):
            self._name = past_name(model)
            if self._name is None:
                raise ObjectiveError(no_cache(model))
            self._start = getattr(model(tokens, use_cache=True), self._name)  # by the name that its `forward` takes
        else:
            self._start = model.new_cache(tokens.shape[0], length)
            run(model, tokens, cache=self._start)
        self.cache: object = None

    def again(self) -> None:
        self.cache = copy.deepcopy(self._start)

    def step(self, token: Tensor) -> object:
        """Logits (B, 1, V) of the next token (B, 1)."""
        if self._huggingface:
            return self._model(token, use_cache=True, **{str(self._name): self.cache})
        return self._model(token, cache=self.cache)


def decodes(model: nn.Module) -> bool:
    """Whether a model has a cache to decode with."""
    return isinstance(model, CachedDecoder) or past_name(model) is not None


def past_name(model: nn.Module) -> str | None:
    """How a decoder of Hugging Face calls its cache, as an argument and in what it returns; None for other models."""
    taken = inspect.signature(type(model).forward).parameters
    names = ("past_key_values", "cache")  # the second since transformers 5.24
    return next((name for name in names if "use_cache" in taken and name in taken), None)


def no_cache(model: object) -> str:
    return (
        f"decoding needs a cache, and {type(model).__name__} has none: give it new_cache(batch, length) and let "
        "model(tokens, cache=cache) continue from it (nas_bo.model.CachedDecoder), or measure phase='prefill'"
    )


def _without_numbers(model: nn.Module) -> nn.Module:
    """The model with all weights on the meta device, tied ones still tied (`Module.to` would untie them)."""
    import torch

    made: dict[int, Any] = {}  # of weights and buffers alike
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, one in held.items():
                if one is None or one.is_meta:
                    continue
                if id(one) not in made:
                    plain = torch.empty_like(one, device="meta")
                    made[id(one)] = (
                        torch.nn.Parameter(plain, one.requires_grad) if isinstance(one, torch.nn.Parameter) else plain
                    )
                held[name] = made[id(one)]
    return model


@contextmanager
def _nowhere() -> Iterator[None]:
    """Tensors are made without numbers, and no time goes into drawing them: torch works that out in Python."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    drawing = {torch.ops.aten.normal_.default, torch.ops.aten.uniform_.default}

    class Undrawn(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self,
            func: Callable[..., object],
            types: object,
            args: tuple[object, ...] = (),
            kwargs: Mapping[str, object] | None = None,
        ) -> object:
            first = args[0] if args else None
            if func in drawing and isinstance(first, torch.Tensor) and first.is_meta:
                return first
            return func(*args, **(kwargs or {}))

    with torch.device("meta"), Undrawn():  # type: ignore[no-untyped-call]
        yield


@contextmanager
def _own_random_state(device: str, seed: int) -> Iterator[None]:
    import torch

    there = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=there):
        if there:
            torch.manual_seed(seed % (1 << 63))
        else:  # `torch.manual_seed` looks at every kind of device, which takes longer than building a small model without numbers
            torch.default_generator.manual_seed(seed % (1 << 63))
        yield


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
