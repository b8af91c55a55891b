"""The contract of a block: what is in the mixer or the mlp of a layer, and all that is known about it without running it.

A block of your own is a class with these names, without a base class; `nas_bo.model.word` makes a word for spaces of it.
What a block *may* offer beyond `Block` are the small protocols below it. Loads no torch.

Notation: B batch, T new tokens of a call, C width. Counts are of one sequence unless it says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

from nas_bo.errors import ModelError
from nas_bo.model.blocks.cuts import Cut
from nas_bo.model.blocks.details import PLAIN, Details

if TYPE_CHECKING:
    from torch import nn

    from nas_bo.model.blocks.attention import AttentionSpec
    from nas_bo.model.blocks.conv import ConvSpec
    from nas_bo.model.blocks.dense import MlpSpec

Slot = Literal["mixer", "mlp"]
S = TypeVar("S", bound="tuple[Any, ...]")
C = TypeVar("C", bound="tuple[Any, ...]", contravariant=True)
T = TypeVar("T")
A = TypeVar("A")
K = TypeVar("K")
V = TypeVar("V")

MOST = 65536  # values of one function that are remembered


class Frame(NamedTuple):
    """What a block knows about the decoder around it."""

    width: int
    norm: str = "rms"
    position: str = "rotary"
    parallel: bool = False
    bias: bool = False
    finer: Details | None = None

    @property
    def details(self) -> Details:
        return PLAIN if self.finer is None else self.finer

    @property
    def norm_bias(self) -> bool:
        """Whether norms have biases."""
        said = self.details.norm_bias
        return self.norm == "layer" and (self.bias if said is None else said)

    @property
    def norm_eps(self) -> float:
        return self.details.norm_eps or (1e-5 if self.norm == "layer" else 1e-6)


class Call(NamedTuple):
    """One pass: `new` tokens for each of `batch` sequences, which then hold `context`. In a "prefill" they are the same and
    there is no cache; "decode" is one token after context - 1 cached ones. `size` is that of a value in bytes."""

    phase: str
    new: int
    context: int
    batch: int = 1
    size: int = 4


class Row(NamedTuple):
    """One operation of a pass.

    Attributes:
        name: what it does, such as "qkv".
        flops: two per multiply-add, of matrix products, attention and convolutions: as torch counts them.
        weights: parameters read, by the whole batch.
        activations: values read and written that are not parameters, those of the cache included.
        kernels: eager torch kernels started, roughly.
        cached: of the activations, those read from and written to the cache in a "decode".
        scores: terms of softmaxes over keys.
    """

    name: str
    flops: int
    weights: int
    activations: int
    kernels: int
    cached: int = 0
    scores: int = 0


class Drawn(NamedTuple):
    """What a drawing writes into the box of a block. No colour: one by the name of the kind."""

    title: str
    detail: str = ""
    colour: str = ""


class Shared(NamedTuple):
    """What a mixer reads from the tables that all layers share.

    Attributes:
        rotary: the head dimension that rotary positions turn; None asks for none.
        window: a mask of the last so many tokens; None asks for none.
        held: values per token that the block holds when it asks for the mask, its input and the normed input aside.
    """

    rotary: int | None = None
    window: int | None = None
    held: int = 0


class StockPart(NamedTuple):
    """What a block is to models of other libraries: at most one of the three, by which the same is computed from the same weights.

    Attributes:
        attention: softmax attention; its `kind` does not matter, here and below.
        conv: a short convolution.
        mlp: a dense MLP (no experts), or a mixture of such.
        names: name of a parameter in the module of nas_bo for that part -> its name in the module of this block, where they differ.
    """

    attention: AttentionSpec | None = None
    conv: ConvSpec | None = None
    mlp: MlpSpec | None = None
    names: Mapping[str, str] = MappingProxyType({})


# ---- the contract ---------------------------------------------------------------------------------------------------


class Block(Protocol[S]):
    """A kind of block.

    Attributes:
        kind: its name in architectures: letters, digits and underscores.
        slots: where it may be, "mixer" (tokens see each other) or "mlp" (each token for itself).
        fields: names and defaults; `...` for a field that must be given. A field at its default is not in the id.
        Spec: a NamedTuple of plain values whose first field is `kind`: a block after checking, every default filled in.
    """

    @property
    def kind(self) -> str: ...
    @property
    def slots(self) -> tuple[Slot, ...]: ...
    @property
    def fields(self) -> Mapping[str, Any]: ...
    @property
    def Spec(self) -> type[S]: ...

    def check(self, fields: Mapping[str, Any], frame: Frame) -> S:
        """The block of these values (all fields are there). Raises ModelError for what cannot be built, with the reason."""

    def parameters(self, spec: S, frame: Frame) -> int:
        """Number of parameters, without the norm before the block."""

    def operations(self, spec: S, frame: Frame, call: Call) -> Iterable[Row]:
        """What one pass does, in order."""

    def module(self, spec: S, frame: Frame) -> nn.Module:
        """The torch module, the one method that imports torch. Of a mixer ``forward(x, context, state)`` gives (y, state),
        of an mlp ``forward(x)`` gives (y, a loss of its own or None), with x and y (B, T, C)."""


# ---- what a block may offer beyond ------------------------------------------------------------------------------------


@runtime_checkable
class Labelled(Protocol[C]):
    def label(self, spec: C, frame: Frame) -> str:
        """A few letters for short names, without spaces; without it, the kind and the values of the fields."""


@runtime_checkable
class Peaking(Protocol[C]):
    def peak_values(self, spec: C, frame: Frame, call: Call) -> int:
        """The most values alive at once inside the block, for the whole batch, its normed input aside; without it, all that its
        operations read and write."""


@runtime_checkable
class Steppable(Protocol[C]):
    """A mixer that decodes token by token. Its module has ``new_state(batch, length, like)``, what it remembers at first (a
    tensor like `like`, or a tuple of them), and returns a new state where it got one."""

    def state_values(self, spec: C, frame: Frame, context: int) -> int:
        """Values that it remembers after so many tokens."""


@runtime_checkable
class Caching(Protocol):
    """A mixer whose state is keys and values of tokens, of which `kv_bits` says how they are kept.

    Attributes:
        caches_tokens: true. Its module has an attribute `kv_bits`, 32 at first, and rounds what it caches to so many
            (`nas_bo.model.layers.common.rounded`).
    """

    caches_tokens: bool


@runtime_checkable
class Sliceable(Protocol[C]):
    """A block whose weights can be parts of larger ones: supernets need it."""

    def slices(self, spec: C, frame: Frame, bank: str, prefix: str) -> Iterable[Cut]:
        """Every parameter of the module; `bank` and `prefix` begin the names of banks and of parameters."""

    def apart(self, spec: C, frame: Frame) -> Mapping[str, Any]:
        """Values of the fields that may get weights of their own."""


@runtime_checkable
class Sparse(Protocol[C]):
    """A block that sends tokens through a part of its weights."""

    def idle_parameters(self, spec: C, frame: Frame) -> int:
        """Parameters that one token does not pass through."""


@runtime_checkable
class Trained(Protocol[C]):
    """Exact memory of a training step; of other blocks it is estimated from their operations."""

    def saved_values(self, spec: C, frame: Frame, batch: int, length: int) -> int:
        """Values kept for the gradients."""

    def undone_values(self, spec: C, frame: Frame, batch: int, length: int) -> int:
        """Values that come and go while the gradients are computed, at their worst."""


@runtime_checkable
class Sharing(Protocol[C]):
    """A mixer that reads rotary tables or masks from its `context`."""

    def shared(self, spec: C, frame: Frame) -> Shared: ...


@runtime_checkable
class Lending(Protocol[S]):
    """A mixer with keys and values that later layers may read in place of their own. Its module hands them to
    ``context.lend(k, v)``, or reads ``context.lent``."""

    def borrows(self, spec: S) -> bool:
        """Whether it reads those of an earlier layer."""

    def shape(self, spec: S) -> dict[str, Any]:
        """What must be equal in the layer that has them and in the one that reads them."""

    def lender(self, spec: S) -> S:
        """The same mixer with keys and values of its own."""

    def lent_values(self, spec: S, frame: Frame, cached: bool) -> int:
        """Values per token of a prefill that stay alive because later layers read them; `cached`: with a cache."""


@runtime_checkable
class Initialised(Protocol):
    """A block with parameters that do not begin as their names and shapes say (see `role_of`)."""

    @property
    def initial(self) -> Mapping[str, str]:
        """Name of a parameter inside the module -> role."""


@runtime_checkable
class Exact(Protocol):
    """A block with matrices that keep their numbers when others are stored in few bits: what they compute decides where tokens go."""

    @property
    def exact(self) -> tuple[str, ...]:
        """Names of parameters inside the module."""


@runtime_checkable
class Prunable(Protocol[C]):
    """A sliceable block that can lose units one by one: channels of an MLP, heads with the keys that they share, experts."""

    def units(self, spec: C, frame: Frame) -> Mapping[str, int]:
        """Kind of unit -> how many there are. Along every axis of a slice that grows with their number, each has an equal share,
        one after another."""

    def with_units(self, spec: C, frame: Frame, kind: str, count: int) -> Mapping[str, Any]:
        """The fields of the same block with so many of them."""


@runtime_checkable
class Narrowing(Protocol):
    """A block whose fields change with the width of the decoder."""

    def narrowed(self, fields: Mapping[str, Any], width: int, narrow: int) -> dict[str, Any]: ...


@runtime_checkable
class Widening(Protocol):
    """A block whose fields change when the decoder is grown (`nas_bo.model.larger`): its parts keep their size, and are more."""

    def widened(self, fields: Mapping[str, Any], width: int, wide: int) -> dict[str, object]:
        """The fields at the width `wide` of a block with `fields` at `width`."""


@runtime_checkable
class Exportable(Protocol[C]):
    """A block that models of other libraries have too; without it, exports to them refuse the block."""

    def stock_part(self, spec: C, frame: Frame) -> StockPart: ...


@runtime_checkable
class Joining(Protocol[S]):
    """A mixer that writes into its state, and has a form that joins new values to those before."""

    def joined(self, spec: S, length: int) -> S:
        """The same block for at most `length` tokens, which returns new states and changes none."""


@runtime_checkable
class Replaceable(Protocol[C]):
    """A mixer whose place another operator may take in a trained model (`nas_bo.pretrained.operators`)."""

    def successor(self, spec: C) -> Mapping[str, Any]:
        """Fields with which a block of another operator takes it: as many heads, of the same size."""


@runtime_checkable
class Succeeding(Protocol[S]):
    """A mixer that may take the place of a trained one, with what weights fit."""

    def succeeds(self, spec: S, trained: object) -> S | None:
        """The whole block that `spec` is or is a part of, where it is another operator than `trained`, the block after checking whose place
        it takes; None where it is a part of that, or may not take its place."""


@runtime_checkable
class Drawable(Protocol[C]):
    def drawn(self, spec: C, frame: Frame) -> Drawn: ...


# ---- roles of weights -------------------------------------------------------------------------------------------------

ROLES = ("in", "out", "out_each", "taps", "steps", "ones", "zeros")
"""How a parameter of a block begins and learns (`Decoder.initialise` has the numbers): a matrix into or out of a block
("out_each": one of several side by side), taps of a convolution, steps of a decay, ones and zeros. The matrices learn at
the rate of matrices, all else at that of vectors."""
MATRICES = ("in", "out", "out_each")


def role_of(name: str, dims: int, block: object) -> str:
    """The role of a parameter with `dims` axes, by its name inside the module: what the block says; else zeros for a name
    that ends in "bias", ones for other vectors, and a matrix out of the block if "out" is part of its name."""
    if isinstance(block, Initialised) and name in block.initial:
        return block.initial[name]
    if name.endswith("bias"):
        return "zeros"
    if dims < 2:
        return "ones"
    return "out" if "out" in name.split(".") else "in"


# ---- helpers ----------------------------------------------------------------------------------------------------------


def size_of(fields: Mapping[str, Any], name: str, kind: str) -> int:
    """The value of a field that must be an integer of at least 1 (raises ModelError)."""
    value = fields[name]
    if value.__class__ is not int or value < 1:
        raise ModelError(f"{kind} has {name}={value!r}; it must be an integer of at least 1")
    return int(value)


def linear(fan_in: int, fan_out: int, bias: bool) -> int:
    """Parameters of a linear layer."""
    return fan_in * fan_out + (fan_out if bias else 0)


def matrix(name: str, fan_in: int, fan_out: int, bias: bool, new: int) -> Row:
    """A linear layer on `new` tokens as an operation."""
    return Row(name, 2 * new * fan_in * fan_out, linear(fan_in, fan_out, bias), new * (fan_in + fan_out), 1)


_MEMOS: list[Callable[[], None]] = []


def remembered(function: Callable[..., T]) -> Callable[..., T]:
    """`lru_cache` for counts, forgotten when a block is defined again under its name (as notebooks do)."""
    memo = lru_cache(maxsize=MOST)(function)
    _MEMOS.append(memo.cache_clear)
    return memo


class Remembered(dict[A, "_Inside[A, K, V]"]):
    """What a function of (key, around) gave, as ``memo[around][key]``: `around` is hashed once for all layers of an architecture. All is
    forgotten when `MOST` values are there, and when a block is defined again."""

    def __init__(self, function: Callable[[K, A], V]) -> None:
        super().__init__()
        self.function, self.size = function, 0
        _MEMOS.append(self.forget)

    def __missing__(self, around: A) -> _Inside[A, K, V]:
        inside = self[around] = _Inside(self, around)
        return inside

    def forget(self) -> None:
        self.clear()
        self.size = 0


class _Inside(dict[K, V], Generic[A, K, V]):
    __slots__ = ("_around", "_memo")

    def __init__(self, memo: Remembered[A, K, V], around: A) -> None:
        super().__init__()
        self._memo, self._around = memo, around

    def __missing__(self, key: K) -> V:
        memo = self._memo
        found = memo.function(key, self._around)
        if memo.size >= MOST:
            memo.forget()
        memo.size += 1
        self[key] = found
        return found


def on_change(forget: Callable[[], None]) -> None:
    """`forget` is called when a block is defined again."""
    _MEMOS.append(forget)


def forget_all() -> None:
    for forget in _MEMOS:
        forget()
