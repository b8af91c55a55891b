"""The decoder: `build` makes a plain torch module of an architecture."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_bo.architecture import Architecture, Node
from nas_bo.errors import ModelError
from nas_bo.model.blocks.block import MATRICES, Frame, Sharing, role_of
from nas_bo.model.blocks.details import check_length
from nas_bo.model.blocks.skip import absent
from nas_bo.model.blocks.table import block_of, is_ours
from nas_bo.model.connections import skips, sources
from nas_bo.model.counts import norms_of, stepping
from nas_bo.model.layers.common import Linear
from nas_bo.model.layers.rotary import rotary_table
from nas_bo.model.parametrization import BASE_WIDTH, LAST_GAIN, STANDARD, Parametrization
from nas_bo.model.spec import DecoderSpec, LayerSpec, check, failing, own_blocks
from nas_bo.validated import check_values, whole_number
from nas_bo.wording import counted

State = Tensor | tuple[Tensor, ...] | None  # of one layer: what its mixer remembers
ROTARY_TABLE = 1024  # positions whose sines are kept; beyond, they are computed on the way
BALANCE = 0.01  # weight of the balance loss, Fedus et al. 2021, arXiv 2101.03961, section 2.2
VECTOR_RATE = 2.0  # embeddings, gains, taps and biases learn at so many times `lr`
EPSILON = 1e-8  # of AdamW
BRANCH_GAIN = 0.5  # residual branches begin small, so that depth does not change the scale of the stream

Criterion = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Logits (N, V) and targets (N,) -> the loss to train on, and the nats per token of the text."""


def build(
    arch: Architecture | Node | DecoderSpec,
    vocab_size: int,
    ignore: Collection[str] = (),
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    generator: torch.Generator | None = None,
    parametrization: Parametrization = STANDARD,
) -> Decoder:
    """The decoder of an architecture, initialised at random (see `Decoder.initialise`), as it is trained: what its fields say about
    the time after training (`nas_bo.model.after_training`) is not done to it.

    Args:
        arch: what to build; `nas_bo.model.vocabulary` says what may be in it.
        vocab_size: number of token ids.
        ignore: top-level fields of the architecture that are the caller's own.
        device, dtype: as in torch. On "meta" nothing is allocated and nothing initialised.
        generator: source of the initial weights, a CPU generator; None is torch's global one, as with any module.
        parametrization: how they depend on width and depth (`nas_bo.model.parametrization`).

    Raises:
        ModelError: the architecture cannot be built, or vocab_size is below 1.
    """
    spec = (arch if isinstance(arch, DecoderSpec) else check(arch, ignore))._replace(after=None)
    check_values(
        "build", ModelError, whole_number(1).advise("take the vocab_size of the corpus"), vocab_size=vocab_size
    )
    with torch.device(device or "cpu"):
        model = Decoder(spec, vocab_size)
    if dtype is not None:
        model = model.to(dtype)
    if model.embedding.weight.device.type != "meta":
        model.initialise(generator, parametrization)
    return model


@dataclass
class Cache:
    """What decoding remembers: one state per layer, and how many tokens they hold. Made by `Decoder.new_cache`;
    a forward pass with it changes it."""

    batch: int
    length: int
    position: int = 0
    states: list[State] = field(default_factory=list)


class Layer(nn.Module):
    """One pre-norm layer: x + mixer(norm x), then x + mlp(norm x); or both from one norm (`parallel`, Wang and
    Komatsuzaki 2021, GPT-J). Norms may be elsewhere: `nas_bo.model.blocks.details`."""

    def __init__(self, spec: LayerSpec, decoder: DecoderSpec) -> None:
        super().__init__()
        self.mixer = _module(spec.mixer, decoder.frame)
        self.mlp = _module(spec.mlp, decoder.frame)
        self.parallel = decoder.parallel and self.mixer is not None and self.mlp is not None
        norms = norms_of(spec, decoder.frame)
        self.mixer_norm = _norm(decoder) if "mixer_norm" in norms else None
        self.mlp_norm = _norm(decoder) if "mlp_norm" in norms else None
        self.mixer_out_norm = _norm(decoder) if "mixer_out_norm" in norms else None
        self.mlp_out_norm = _norm(decoder) if "mlp_out_norm" in norms else None

    def slot(self, part: str) -> tuple[nn.Module | None, nn.Module | None, nn.Module | None]:
        """The norm before the "mixer" or the "mlp", the block, and the norm after it."""
        if part == "mixer":
            return self.mixer_norm, self.mixer, self.mixer_out_norm
        return self.mlp_norm, self.mlp, self.mlp_out_norm

    def forward(self, x: Tensor, context: _Context, state: State) -> tuple[Tensor, State, Tensor | None]:
        """x (B, T, C) -> (B, T, C), the new state, the balance loss of a mixture."""
        balance = None
        given = normed = x
        if self.mixer is not None:
            normed = x if self.mixer_norm is None else self.mixer_norm(x)
            y, state = self.mixer(normed, context, state)
            x = x + (y if self.mixer_out_norm is None else self.mixer_out_norm(y))
        if self.mlp is not None:
            before = given if self.parallel else x
            if self.mlp_norm is not None:
                before = self.mlp_norm(before)
            elif self.parallel:
                before = normed
            y, balance = self.mlp(before)
            x = x + (y if self.mlp_out_norm is None else self.mlp_out_norm(y))
        return x, state, balance


def _module(spec: object, frame: Frame) -> nn.Module | None:
    if absent(spec):
        return None
    block = block_of(spec)
    with failing(block, "module(spec, frame)"):
        made = block.module(spec, frame)
    if not is_ours(block):  # whose counts the tests keep equal
        with failing(block, "parameters(spec, frame)"):
            said = block.parameters(spec, frame)
        has = sum(weight.numel() for weight in made.parameters())
        if said != has:
            raise ModelError(
                f"the block {block.kind!r} counts {counted(said, 'parameter')} for {spec} at width {frame.width} and its module has {has}; "
                "correct its parameters(spec, frame), on which size limits, memory and latency rest"
            )
    return made


@contextmanager
def _draws_apart(spec: DecoderSpec) -> Iterator[None]:
    """What blocks of a user's own draw while they are built is the same each time, whatever was drawn before, and nobody else's
    next number is another for it."""
    if not own_blocks(spec):
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def check_own_blocks(spec: DecoderSpec) -> None:
    """Raise ModelError where what a block of a user's own counts is not what its module has."""
    if own := own_blocks(spec):
        with torch.device("meta"), _draws_apart(spec):
            for one in own:
                _module(one, spec.frame)


def _norm(spec: DecoderSpec) -> nn.Module:
    if spec.norm == "layer":
        return nn.LayerNorm(spec.width, eps=spec.frame.norm_eps, bias=spec.frame.norm_bias)
    return nn.RMSNorm(spec.width, eps=spec.frame.norm_eps)


class Decoder(nn.Module):
    """A decoder-only language model. A plain module: its state_dict is all it is, and it keeps nothing between calls.

    Attributes:
        spec: the checked architecture.
        vocab_size: number of token ids.
    """

    def __init__(self, spec: DecoderSpec, vocab_size: int) -> None:
        super().__init__()
        self.spec = spec
        self.vocab_size = vocab_size
        self.embedding = nn.Embedding(vocab_size, spec.width, _weight=torch.empty(vocab_size, spec.width))
        most = spec.details.max_length
        self.positions = nn.Embedding(most, spec.width, _weight=torch.empty(most, spec.width)) if most else None
        tie = spec.details.tie_layers
        with _draws_apart(spec):
            self.layers = nn.ModuleList(Layer(layer, spec) for layer in spec.layers[::tie])  # each runs `tie` times
        self.norm = _norm(spec)
        self.head = None if spec.tied else Linear(spec.width, vocab_size, bias=False)
        self._skips = skips(len(spec.layers), spec.details)
        self.skip_gates = nn.Parameter(torch.empty(len(self._skips))) if self._skips else None
        read = sources(spec.layers)
        self._last_reader = {source: index for index, source in enumerate(read) if source is not None}
        self._rotary_dims = _rotary_dims(spec)
        for dim in self._rotary_dims:
            cos, sin = rotary_table(spec.details, 0, ROTARY_TABLE, dim, self.embedding.weight)
            self.register_buffer(f"rotary_cos_{dim}", cos, persistent=False)
            self.register_buffer(f"rotary_sin_{dim}", sin, persistent=False)

    def forward(self, tokens: Tensor, cache: Cache | None = None, last: bool = False) -> Tensor:
        """tokens (B, T) of dtype long -> logits (B, T, V) of the token after each, or (B, 1, V) after the last alone.

        With a `cache` the tokens continue those the cache has seen, and the cache is brought up to date; the logits
        equal those of one call over all tokens. Use it under `torch.no_grad()` or `torch.inference_mode()`.

        Raises:
            ModelError: the cache is full, or made for another batch.
        """
        hidden = self._run(tokens, cache)[0]
        return self._logits(hidden[:, -1:] if last else hidden)

    def loss(self, tokens: Tensor, targets: Tensor, criterion: Criterion | None = None) -> tuple[Tensor, Tensor]:
        """tokens, targets (B, T) -> (loss to train on, mean negative log-likelihood in nats per token), both scalars.
        They are the same tensor unless there are mixtures, whose balance losses are added with weight 0.01, or a `criterion`, which
        makes both of the logits (B * T, V)."""
        hidden, balances = self._run(tokens, None)
        loss, nll = (criterion or cross_entropy)(self._logits(hidden).flatten(0, 1), targets.flatten())
        return (loss + BALANCE * torch.stack(balances).sum(), nll) if balances else (loss, nll)

    def new_cache(self, batch: int, length: int) -> Cache:
        """An empty cache for `batch` sequences of at most `length` tokens. Its size in bytes is that which
        `nas_bo.model.counts.kv_cache_bytes` gives.

        Raises:
            ModelError: one of the mixers does not decode token by token, or there are learned positions for fewer tokens.
        """
        check_length(self.spec.details, length)
        for layer in self.spec.layers:
            stepping(layer.mixer)
        weight = self.embedding.weight
        mixers: list[Any] = [self._layer(index).mixer for index in range(len(self.spec.layers))]
        states = [None if mixer is None else mixer.new_state(batch, length, weight) for mixer in mixers]
        return Cache(batch, length, 0, states)

    def _run(self, tokens: Tensor, cache: Cache | None) -> tuple[Tensor, list[Tensor]]:
        start = 0 if cache is None else cache.position
        if cache is not None:
            if tokens.shape[0] != cache.batch:
                raise ModelError(
                    f"the cache is for a batch of {cache.batch}, the tokens have {counted(tokens.shape[0], 'row')}"
                )
            if start + tokens.shape[1] > cache.length:
                raise ModelError(
                    f"the cache holds {start} of at most {counted(cache.length, 'token')} and {tokens.shape[1]} more do not fit; "
                    "make a longer one with new_cache(batch, length)"
                )
        context = self.context(tokens, start)
        found = self._through(self._embed(tokens, start), context, None if cache is None else cache.states)
        if cache is not None:
            cache.position += tokens.shape[1]
        return found

    def context(self, tokens: Tensor, start: int = 0) -> _Context:
        """What the layers read besides the stream, for tokens (B, T) that follow `start` others."""
        return _Context(self, start, tokens.shape[1], tokens.device)

    def _through(self, x: Tensor, context: _Context, states: list[Any] | None) -> tuple[Tensor, list[Tensor]]:
        """The stream (B, T, C) before the first layer -> that after the last, and the balance losses; `states` become the new ones."""
        balances = []
        ends = {to: (gate, at) for gate, (at, to) in enumerate(self._skips)}
        begins = {at for at, _ in self._skips}
        streams: dict[int, Tensor] = {}
        for index in range(len(self.spec.layers)):
            if index in ends and self.skip_gates is not None:
                gate, at = ends[index]
                x = torch.addcmul(x, streams.pop(at), self.skip_gates[gate])
            context.lending = index in self._last_reader
            x, state, balance = self._layer(index)(x, context, None if states is None else states[index])
            if index in begins:
                streams[index] = x
            context.forget(index, self._last_reader)
            if states is not None:
                states[index] = state
            if balance is not None:
                balances.append(balance)
        return x, balances

    def _layer(self, index: int) -> Any:
        """The module that runs as layer `index` of the architecture."""
        return self.layers[index // self.spec.details.tie_layers]

    def _embed(self, tokens: Tensor, start: int | Tensor = 0) -> Tensor:
        """tokens (B, T), which follow `start` others -> the stream (B, T, C) before the first layer."""
        x: Tensor = self.embedding(tokens)
        scale = self.spec.details.embedding_scale
        if scale is not None:
            x = x * (math.sqrt(self.spec.width) if isinstance(scale, str) else scale)
        if self.positions is None:
            return x
        if isinstance(start, Tensor):  # of a model that is exported: nothing to be checked yet
            x = x + self.positions(start + torch.arange(tokens.shape[1], device=tokens.device))
        else:
            end = start + tokens.shape[1]
            check_length(self.spec.details, end)
            x = x + self.positions.weight[start:end]
        return x

    def _logits(self, hidden: Tensor) -> Tensor:
        weight = self.embedding.weight if self.head is None else self.head.weight
        logits = F.linear(self.norm(hidden), weight)
        cap = self.spec.details.logit_cap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    # ---- initialisation and learning rates ------------------------------------------------------------------------

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None, parametrization: Parametrization = STANDARD) -> None:
        """Draw all weights again, so that one learning rate serves every width and depth (after Yang et al. 2022,
        arXiv 2203.03466, table 8; residual branches after Radford et al. 2019).

        ==================================  ======================================  =====================  ============
        weight                              initial value (L layers)                learning rate          weight decay
        ==================================  ======================================  =====================  ============
        embedding (also as tied head)       N(0, 2.25 / width)                      2 lr                   0
        learned positions                   N(0, 2.25 / width)                      2 lr                   0
        untied head                         N(0, 1 / fan_in)                        lr * 128 / fan_in      yes
        matrix into a block                 N(0, 1 / fan_in)                        lr * 128 / fan_in      yes
        matrix out of a block               N(0, 1 / fan_in) / (2 sqrt(2 L))        lr * 128 / fan_in      yes
        router of a mixture                 N(0, 1 / fan_in)                        lr * 128 / fan_in      yes
        taps of a convolution               N(0, 1 / kernel)                        2 lr                   0
        gain of the last norm               min(1, 4 / sqrt(width))                 2 lr                   0
        gains of other norms, biases        1, 0                                    2 lr                   0
        sinks of attention                  0                                       2 lr                   0
        gates of long skips                 1                                       2 lr                   0
        step and decay of linear attention  memory of 3 to 500 tokens over heads    2 lr                   0
        ==================================  ======================================  =====================  ============

        Another `parametrization` changes these by factors (`nas_bo.model.parametrization`): with `CompleteP` one learning rate serves
        depths as well.
        """
        roles = {name: self.role(name, weight) for name, weight in self.named_parameters()}
        parametrization.check(self.spec, roles)
        shrink = BRANCH_GAIN / math.sqrt(2 * max(1, len(self.spec.layers)))
        for name, weight in self.named_parameters():
            role = roles[name]
            if role == "embedding":
                _normal(weight, 1.5 / math.sqrt(weight.shape[-1]), generator)
            elif role == "gain":  # so that the logits at first do not grow with the width
                weight.fill_(min(1.0, LAST_GAIN / math.sqrt(len(weight))))
            elif role in MATRICES:
                _normal(weight, (1.0 if role == "in" else shrink) / math.sqrt(weight.shape[-1]), generator)
            else:
                begin(weight, role, generator)
            factor = parametrization.factors(name, role, self.spec).initial
            if factor != 1:
                weight.mul_(factor)

    def parameter_groups(
        self,
        lr: float,
        weight_decay: float = 0.0,
        embedding_power: float = 0.0,
        parametrization: Parametrization = STANDARD,
    ) -> list[dict[str, Any]]:
        """Groups for a torch optimiser, as in the table of `initialise`: matrices at lr * 128 / fan_in (their count
        is small: one group per distinct fan_in), all else at 2 lr and without decay.

        With `embedding_power` the embedding learns at 2 lr * (128 / width) ** embedding_power: at 1 its rate falls with the
        width as those of matrices do, and one `lr` serves small and large models better
        (`benchmarks/learning_rates/run.py`). The default is 0, which all figures of `benchmarks/` rest on.

        Another `parametrization` changes rates, decays and epsilon by factors (`nas_bo.model.parametrization`).
        """
        groups: dict[tuple[float, bool, float, float], list[nn.Parameter]] = {}
        for name, weight in self.named_parameters():
            role = self.role(name, weight)
            matrix, fan_in = role in MATRICES, weight.shape[-1] if weight.dim() else 1
            if matrix:
                rate = lr * BASE_WIDTH / fan_in
            elif role == "embedding":
                rate = lr * VECTOR_RATE * (BASE_WIDTH / fan_in) ** embedding_power
            else:
                rate = lr * VECTOR_RATE
            factor = parametrization.factors(name, role, self.spec, embedding_power)
            groups.setdefault((rate * factor.rate, matrix, factor.decay, factor.epsilon), []).append(weight)
        return [
            {
                "params": weights,
                "lr": rate,
                "weight_decay": weight_decay * decay if decays else 0.0,
                **({} if epsilon == 1 else {"eps": EPSILON * epsilon}),
            }
            for (rate, decays, decay, epsilon), weights in groups.items()
        ]

    def role(self, name: str, weight: Tensor) -> str:
        """One of `nas_bo.model.blocks.block.ROLES`, "embedding", or the "gain" of the last norm."""
        place, _, inside = name.partition(".")
        if place == "layers":
            index, part, inside = inside.split(".", 2)
            spec = self.spec.layers[int(index) * self.spec.details.tie_layers]
            if part in ("mixer", "mlp"):
                return role_of(inside, weight.dim(), block_of(spec.slot(part)))
        if name in ("embedding.weight", "positions.weight", "norm.weight", "head.weight"):
            return {"embedding": "embedding", "positions": "embedding", "norm": "gain", "head": "in"}[place]
        return role_of(inside, weight.dim(), None)


def cross_entropy(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """logits (N, V), targets (N,) -> the mean in nats per token, twice: to train on, and to report."""
    nll = F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), targets)
    return nll, nll


def begin(weight: Tensor, role: str, generator: torch.Generator | None) -> None:
    """The first values of what is not a matrix of a product, by its role."""
    if role == "taps":
        _normal(weight, 1 / math.sqrt(weight.shape[-1]), generator)
    elif role == "steps":
        step = torch.logspace(math.log10(0.002), math.log10(0.3), len(weight), dtype=torch.float64)
        weight.copy_(step.expm1().log())  # the inverse of softplus
    else:
        weight.fill_({"ones": 1.0, "zeros": 0.0}[role])


def _normal(weight: Tensor, std: float, generator: torch.Generator | None) -> None:
    # Drawn on the CPU in float32, so that the same seed gives the same weights on every device and in every dtype.
    weight.copy_(torch.randn(weight.shape, generator=generator, dtype=torch.float32, device="cpu") * std)


def _rotary_dims(spec: DecoderSpec) -> list[int]:
    """Of all rotary tables that the mixers ask for."""
    dims = set()
    for mixer in {layer.mixer for layer in spec.layers}:
        block = block_of(mixer)
        if isinstance(block, Sharing):
            dims.add(block.shared(mixer, spec.frame).rotary)
    return sorted(dim for dim in dims if dim is not None)


class _Context:
    """Rotary tables and masks of one call, made when a layer first asks (see `layers.common.Context`)."""

    def __init__(self, model: Decoder, start: int, length: int, device: torch.device) -> None:
        self.start, self.length, self.device, self._model = start, length, device, model
        self._tables: dict[int, tuple[Tensor, Tensor]] = {}
        self._masks: dict[tuple[int, int | None], Tensor | None] = {}
        self.lending = False  # whether a later layer reads the keys and values of the one that runs
        self._lent: tuple[Tensor, Tensor] | None = None

    @property
    def lent(self) -> tuple[Tensor, Tensor]:
        if self._lent is None:
            raise ModelError("no earlier layer left keys and values for this one; please report this")
        return self._lent

    def lend(self, k: Tensor, v: Tensor) -> None:
        if self.lending:
            self._lent = k, v

    def forget(self, index: int, last_reader: Mapping[int, int]) -> None:
        """Let go of keys and values that no layer after `index` reads."""
        if self._lent is not None and index not in last_reader and index in last_reader.values():
            self._lent = None

    def rotary(self, head_dim: int) -> tuple[Tensor, Tensor] | None:
        model = self._model
        if head_dim not in model._rotary_dims:
            return None
        if head_dim not in self._tables:
            end = self.start + self.length
            if end <= ROTARY_TABLE:
                cos, sin = model.get_buffer(f"rotary_cos_{head_dim}"), model.get_buffer(f"rotary_sin_{head_dim}")
                self._tables[head_dim] = cos[self.start : end], sin[self.start : end]
            else:
                like = model.embedding.weight
                self._tables[head_dim] = rotary_table(model.spec.details, self.start, self.length, head_dim, like)
        return self._tables[head_dim]

    def mask(self, keys: int, window: int | None) -> Tensor | None:
        """(T, keys) truth values of what each query sees; None where plain causal attention says the same."""
        if self.length == 1 or (keys == self.length and (window is None or window >= keys)):
            return None
        if (keys, window) not in self._masks:
            age = torch.arange(keys - self.length, keys, device=self.device).unsqueeze(1) - torch.arange(
                keys, device=self.device
            )
            seen = age >= 0
            self._masks[keys, window] = seen if window is None else seen & (age < window)
        return self._masks[keys, window]
