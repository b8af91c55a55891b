"""`Supernet`: one set of weights for every architecture of a space."""

from __future__ import annotations

import hashlib
import json
import math
from collections import OrderedDict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from nas_bo.architecture import Architecture, names_after
from nas_bo.errors import CheckpointError, ModelError
from nas_bo.model.blocks.block import MATRICES, role_of
from nas_bo.model.blocks.skip import SKIP, absent
from nas_bo.model.blocks.table import known
from nas_bo.model.connections import FIELDS, connected
from nas_bo.model.decoder import BRANCH_GAIN, VECTOR_RATE, Decoder, _Context, _normal, begin
from nas_bo.model.not_finite import watch_own_blocks
from nas_bo.model.parametrization import BASE_WIDTH
from nas_bo.model.spec import DecoderSpec, LayerSpec, check
from nas_bo.space.space import Space
from nas_bo.supernet.coverage import Extent
from nas_bo.supernet.file import FORMAT, read, write
from nas_bo.supernet.slicing import Cut, Piece, Place, can_be_apart, cuts, layer_cuts, outer_cuts, places
from nas_bo.validated import check_values, whole_number

SKELETONS = 64  # decoders without weights that are kept for the next call with the same architecture
WIDTH_GAIN = 0.5
"""Gains before blocks begin at (largest width / width) ** WIDTH_GAIN: a sum over fewer channels is smaller by that."""


class Supernet(nn.Module):
    """Shared weights of every architecture of a space over the block vocabulary.

    A forward pass names its architecture; between calls nothing is remembered but the weights. The model that runs is
    the `Decoder` of that architecture with slices of the shared weights in place of its parameters (`nas_bo.model.
    slicing` says which), so `extract` gives the same numbers.

    Args:
        space: a subclass of `Space`.
        vocab_size: number of token ids.
        ignore: top-level fields of the space that are the user's own.
        apart: fields whose every value gets weights of its own ("heads", "kv_group", "kernel", "width", ...; see
            `nas_bo.supernet.slicing.APART_FIELDS`): less sharing, and less that one value undoes for another.
        generator: source of the initial weights, a CPU generator; None is torch's global one.
        device: where the weights are.

    Raises:
        ModelError: a choice of the space cannot be covered; the message names it.
    """

    def __init__(
        self,
        space: type[Space],
        vocab_size: int = 256,
        ignore: Collection[str] = (),
        *,
        apart: Collection[str] = (),
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        strange = sorted(set(apart) - can_be_apart())
        if strange:
            raise ModelError(
                f"apart has {strange[0]!r}, which is not a field; there are: {', '.join(sorted(can_be_apart()))}"
            )
        check_values(
            "Supernet", ModelError, whole_number(1).advise("take the vocab_size of the corpus"), vocab_size=vocab_size
        )
        after = next((path for path in space.decisions() if names_after(path) and path not in ignore), None)
        if after is not None:
            raise ModelError(
                f"{space.title} chooses {after!r}, which acts after training: shared weights are the same for all its values, so they would "
                "count as one; make the supernet of the space without such fields"
            )
        self.space, self.vocab_size, self.ignore = space, vocab_size, tuple(ignore)
        self.apart = frozenset(apart)
        self.extent = Extent(space, ignore)
        sizes = self._sizes()
        self.banks = nn.ParameterDict(
            {_key(bank): nn.Parameter(torch.empty(sizes[bank], device=device)) for bank in sorted(sizes)}
        )
        self.not_finite: list[str] = []  # what should be reported about the first block of a user's own that was not
        self._skeletons: OrderedDict[tuple[DecoderSpec, torch.device], _Skeleton] = OrderedDict()
        self._cuts: dict[DecoderSpec, list[Cut]] = {}
        self._spreads: dict[tuple[int, int, torch.device], Tensor] = {}
        self.initialise(generator)

    def _sizes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every bank: what the largest slice of it needs along each axis."""
        sizes: dict[str, tuple[int, ...]] = {}
        self._roles: dict[str, str] = {}

        def add(found: list[Cut]) -> None:
            for cut in found:
                for piece in cut.pieces:
                    needs = piece.needs
                    if piece.bank not in sizes:
                        self._roles[_key(piece.bank)] = _role(cut, piece.bank)
                    sizes[piece.bank] = tuple(map(max, sizes.get(piece.bank, needs), needs))

        self._widest = self._depth = 1
        specs = list(dict.fromkeys(self.extent.specs("depth" in self.apart)))
        sets = _subsets({one.mixer.kind for spec in specs for one in spec.layers if not absent(one.mixer)})
        seen: set[object] = set()
        for spec in specs:
            self._widest, self._depth = max(self._widest, spec.width), max(self._depth, len(spec.layers))
            for found in outer_cuts(spec, self.vocab_size, self.apart):
                add(found)
            tie = spec.details.tie_layers
            for number, place in enumerate(places(spec)):
                index = number * tie
                at = (spec._replace(layers=(spec.layers[index],)), place, index, len(spec.layers))
                if at not in seen:
                    seen.add(at)
                    add(layer_cuts(spec, index, place, self.apart))
            for index, layer in enumerate(spec.layers):
                if index % tie:
                    continue
                key = (spec._replace(layers=(layer,)), len(spec.layers) if "depth" in self.apart else 0, index)
                if key not in seen:
                    seen.add(key)
                    for number in range(index // tie + 1):
                        for mixers in sets if "mixers" in self.apart else [layer.mixer.kind]:
                            there = layer if layer.mixer.kind in mixers.split("+") else LayerSpec(SKIP, layer.mlp)
                            one = spec._replace(layers=(*spec.layers[:index], there))
                            add(layer_cuts(one, index, Place(number, number, mixers), self.apart))
        return sizes

    # ---- one architecture -----------------------------------------------------------------------------------------

    def forward(self, tokens: Tensor, arch: Architecture | DecoderSpec) -> Tensor:
        """tokens (B, T) -> logits (B, T, V) of the network of `arch`."""
        return self._call(arch, "forward", tokens)  # type: ignore[no-any-return]

    def loss(self, tokens: Tensor, targets: Tensor, arch: Architecture | DecoderSpec) -> tuple[Tensor, Tensor]:
        """tokens, targets (B, T) -> (loss to train on, nats per token), as `Decoder.loss`."""
        return self._call(arch, "loss", tokens, targets)  # type: ignore[no-any-return]

    def logits_and_balance(self, tokens: Tensor, arch: Architecture | DecoderSpec) -> tuple[Tensor, list[Tensor]]:
        """tokens (B, T) -> logits (B, T, V), and the balance losses of the mixtures."""
        return self._call(arch, "both", tokens)  # type: ignore[no-any-return]

    def weights(self, arch: Architecture | DecoderSpec) -> dict[str, Tensor]:
        """The parameters of the decoder of `arch` by name, contiguous, differentiable with respect to the banks.

        Raises:
            ModelError: the architecture is outside of the space that was covered.
        """
        return {cut.name: self._join(cut) for cut in self._cuts_of(self.spec(arch))}

    def extract(self, arch: Architecture | DecoderSpec) -> Decoder:
        """A plain model of `arch` with a copy of its weights, in evaluation mode; on a CPU its logits equal those of
        the supernet bit for bit.

        Raises:
            ModelError: the architecture is outside of the space that was covered.
        """
        spec = self.spec(arch)
        weights = self.weights(spec)
        model = _empty_decoder(spec, self.vocab_size).to(self.embedding.device)
        with torch.no_grad():
            for name, place in model.named_parameters():
                place.data = weights[name].detach().clone()
        return model.eval()

    def covers(self, arch: Architecture | DecoderSpec) -> bool:
        """Whether there are weights for `arch`."""
        try:
            self._cuts_of(self.spec(arch))
        except ModelError:
            return False
        return True

    def largest(self, like: Architecture | None = None) -> Architecture:
        """The largest architecture of the space; with `like`, the largest with its operations."""
        return self.extent.largest(like)

    def smallest(self, like: Architecture | None = None) -> Architecture:
        """The smallest architecture of the space; with `like`, the smallest with its operations."""
        return self.extent.smallest(like)

    def spec(self, arch: Architecture | DecoderSpec) -> DecoderSpec:
        """The checked form of an architecture (raises ModelError)."""
        return arch if isinstance(arch, DecoderSpec) else check(arch, self.ignore)

    @property
    def embedding(self) -> Tensor:
        """The bank of the token embeddings (the first one, where they are apart)."""
        bank: Tensor = next(bank for name, bank in self.banks.items() if name.startswith("embedding"))
        return bank

    def _call(self, arch: Architecture | DecoderSpec, method: str, *args: Tensor) -> Any:
        spec = self.spec(arch)
        weights = {f"decoder.{name}": weight for name, weight in self.weights(spec).items()}
        return functional_call(self._skeleton(spec), weights, (method, *args))

    def _skeleton(self, spec: DecoderSpec) -> _Skeleton:
        key = spec, self.embedding.device
        found = self._skeletons.get(key)
        if found is None:
            decoder = _empty_decoder(spec, self.vocab_size)
            for place in decoder.parameters():
                place.data = place.data.new_empty(0)
            watch_own_blocks(decoder, self.not_finite)
            found = self._skeletons[key] = _Skeleton(decoder).to(key[1])
            if len(self._skeletons) > SKELETONS:
                self._skeletons.popitem(last=False)
        self._skeletons.move_to_end(key)
        return found

    def _cuts_of(self, spec: DecoderSpec) -> list[Cut]:
        found = self._cuts.get(spec)
        if found is None:
            found = cuts(spec, self.vocab_size, self.apart)
            for cut in found:
                for piece in cut.pieces:
                    self._check(piece, cut.name)
            if len(self._cuts) >= 16 * SKELETONS:
                self._cuts.clear()
            self._cuts[spec] = found
        return found

    def _check(self, piece: Piece, name: str) -> None:
        key = _key(piece.bank)
        if key not in self.banks:
            raise ModelError(
                f"the supernet of {self.space.title} has no weights {piece.bank!r}, which {name} of this architecture "
                "needs; take an architecture of that space, or make the supernet of a larger one"
            )
        there = tuple(self.banks[key].shape)
        if any(need > have for need, have in zip(piece.needs, there, strict=True)):
            raise ModelError(
                f"the supernet of {self.space.title} has {there} weights for {piece.bank!r} and {name} of this "
                f"architecture needs {piece.needs}; take an architecture of that space, or make the supernet of a larger"
            )

    def _join(self, cut: Cut) -> Tensor:
        parts = [self._slice(piece).reshape(shape) for piece, shape in zip(cut.pieces, cut.shapes, strict=True)]
        return parts[0].contiguous() if len(parts) == 1 else torch.cat(parts, cut.axis)

    def _slice(self, piece: Piece) -> Tensor:
        weight: Tensor = self.banks[_key(piece.bank)]
        if piece.step > 1:
            weight = weight[: piece.needs[0] : piece.step]
        for axis, size in enumerate(piece.sizes):
            have = weight.shape[axis]
            if size != have and axis == piece.spread:
                weight = weight.index_select(axis, self._spread(size, have))
            elif size != have:
                weight = weight.narrow(axis, have - size if axis == piece.last else 0, size)
        return weight

    def _spread(self, size: int, have: int) -> Tensor:
        device = self.embedding.device
        if (size, have, device) not in self._spreads:
            self._spreads[size, have, device] = torch.tensor([i * have // size for i in range(size)], device=device)
        return self._spreads[size, have, device]

    # ---- one block, for searches that mix the options of a layer ----------------------------------------------------

    def context(self, tokens: Tensor, spec: DecoderSpec) -> Any:
        """What the layers of one pass over `tokens` (B, T) share: rotary tables and masks; for `branch`."""
        return _Context(self._skeleton(spec).decoder, 0, tokens.shape[1], tokens.device)

    def embed(self, tokens: Tensor, spec: DecoderSpec) -> Tensor:
        """tokens (B, T) -> the stream (B, T, C) before the first layer."""
        found: Tensor = functional_call(
            self._skeleton(spec), self._some(spec, "embedding.", "positions."), ("_embed", tokens)
        )
        return found

    def _some(self, spec: DecoderSpec, *begins: str) -> dict[str, Tensor]:
        """The weights of `spec` whose names begin so, by their names in a skeleton."""
        return {f"decoder.{cut.name}": self._join(cut) for cut in self._cuts_of(spec) if cut.name.startswith(begins)}

    def branch(self, x: Tensor, index: int, part: str, spec: DecoderSpec, context: Any) -> tuple[Tensor, Tensor | None]:
        """What the "mixer" or the "mlp" (`part`) of layer `index` of `spec` adds to the stream x (B, T, C): (B, T, C),
        and the balance loss of a mixture. A skip adds zeros.

        The options of a layer are reached by specs that differ in that layer: a mixture over options o with weights
        p_o, as in differentiable search, is x + sum_o p_o branch(x, index, part, spec_o, context_o).

        Raises:
            ModelError: `spec` is parallel, where the two parts are one, or its layers are connected.
        """
        if spec.parallel:
            raise ModelError("branch: with parallel=True mixer and mlp read one norm; mix whole layers instead")
        if connected(spec.layers, spec.details):
            raise ModelError(
                f"branch: layers with {', '.join(FIELDS)} are connected to others and cannot be mixed one by one; call the supernet "
                "with whole architectures instead"
            )
        block = spec.layers[index].slot(part)
        if absent(block):
            return torch.zeros_like(x), None
        alone = _Branch(*self._skeleton(spec).decoder._layer(index).slot(part))
        names = {f"{part}_norm": "norm", part: "block", f"{part}_out_norm": "out_norm"}
        weights = {}
        for cut in layer_cuts(spec, index, places(spec)[index], self.apart):
            place, _, rest = cut.name.partition(".")
            if place in names:
                weights[f"{names[place]}.{rest}"] = self._join(cut)
        y, extra = functional_call(alone, weights, (x, context if part == "mixer" else None))
        return y, extra if part == "mlp" else None

    def logits(self, x: Tensor, spec: DecoderSpec) -> Tensor:
        """The stream (B, T, C) after the last layer -> logits (B, T, V)."""
        weights = self._some(spec, "embedding.", "head.", "norm.")
        found: Tensor = functional_call(self._skeleton(spec), weights, ("_logits", x))
        return found

    # ---- initialisation and learning rates ------------------------------------------------------------------------

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Draw all weights again: as `Decoder.initialise`, for the sizes of the banks."""
        shrink = BRANCH_GAIN / math.sqrt(2 * max(1, self._depth))
        for name, weight in self.banks.items():
            role = self._roles[name]
            if role == "embedding":
                _normal(weight, 1.5 / math.sqrt(weight.shape[-1]), generator)
            elif role in MATRICES:
                gain = 1 if role == "in" else shrink
                _normal(weight, gain / math.sqrt(_fan_in(role, tuple(weight.shape))), generator)
            elif role == "gain" and name.startswith("norm/"):
                weight.fill_(min(1.0, 4 / math.sqrt(len(weight))))
            elif role == "gain":
                weight.fill_((self._widest / len(weight)) ** WIDTH_GAIN)
            else:
                begin(weight, role, generator)

    def parameter_groups(self, lr: float, weight_decay: float = 0.0) -> list[dict[str, Any]]:
        """Groups for a torch optimiser, as `Decoder.parameter_groups`, for the sizes of the banks."""
        groups: dict[int, list[nn.Parameter]] = {}
        for name, weight in self.banks.items():
            role = self._roles[name]
            fan_in = _fan_in(role, tuple(weight.shape)) if role in MATRICES else 0
            groups.setdefault(fan_in, []).append(weight)
        return [
            {
                "params": weights,
                "lr": lr * BASE_WIDTH / fan_in if fan_in else lr * VECTOR_RATE,
                "weight_decay": weight_decay if fan_in else 0.0,
            }
            for fan_in, weights in groups.items()
        ]

    # ---- files ----------------------------------------------------------------------------------------------------

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that differ when the space, the vocabulary or what is apart differ."""
        said = [self.space.fingerprint(), self.vocab_size, sorted(self.apart), sorted(self.ignore)]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]

    def identity(self, corpus: str | None = None) -> dict[str, Any]:
        """What a file of these weights says about itself."""
        return {
            "format": FORMAT,
            "space": self.space.fingerprint(),
            "title": self.space.title,
            "vocab_size": self.vocab_size,
            "apart": sorted(self.apart),
            "corpus": corpus,
        }

    def save(self, path: str | Path, corpus: str | None = None) -> None:
        """Write the weights; `corpus` is the fingerprint of the text that they were trained on.

        Raises:
            CheckpointError: the file cannot be written.
        """
        write(path, {"identity": self.identity(corpus), "banks": {k: v.detach() for k, v in self.banks.items()}})

    @staticmethod
    def load(
        path: str | Path,
        space: type[Space],
        ignore: Collection[str] = (),
        *,
        corpus: str | None = None,
        device: torch.device | str | None = None,
    ) -> Supernet:
        """Read weights written by `save`, or a checkpoint of `train_supernet`.

        Args:
            corpus: the fingerprint of the text that they must have been trained on; None does not ask.

        Raises:
            CheckpointError: the file is missing, unreadable, of another version, space or corpus.
        """
        content = read(path, space, corpus, device)
        identity = content["identity"]
        net = Supernet(space, identity["vocab_size"], ignore, apart=identity["apart"], device=device)
        net.put(content["banks"], path)
        return net.eval()

    def put(self, banks: Mapping[str, Tensor], path: str | Path = "the checkpoint") -> None:
        """Take over the weights of a file (raises CheckpointError when they are not of these sizes)."""
        if {k: tuple(v.shape) for k, v in banks.items()} != {k: tuple(v.shape) for k, v in self.banks.items()}:
            raise CheckpointError(
                f"{str(path)!r} holds weights of other sizes than this version of nas_bo gives {self.space.title}; "
                "train the supernet again"
            )
        with torch.no_grad():
            for name, bank in self.banks.items():
                bank.copy_(banks[name])


def _subsets(kinds: set[str]) -> list[str]:
    """Of the kinds of mixers, joined as in `slicing.places`; the empty one as well."""
    found: list[tuple[str, ...]] = [()]
    for kind in sorted(kinds):
        found += [(*one, kind) for one in found]
    return ["+".join(one) for one in found]


class _Skeleton(nn.Module):
    """A decoder without weights, one of whose methods a functional call runs."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, method: str, *args: Tensor) -> Any:
        if method == "both":
            hidden, balances = self.decoder._run(args[0], None)
            return self.decoder._logits(hidden), balances
        return getattr(self.decoder, method)(*args)


class _Branch(nn.Module):
    def __init__(self, norm: nn.Module | None, block: nn.Module, out_norm: nn.Module | None) -> None:
        super().__init__()
        self.norm, self.block, self.out_norm = norm, block, out_norm

    def forward(self, x: Tensor, context: object) -> tuple[Tensor, Any]:
        y, extra = self.block(x if self.norm is None else self.norm(x), *(() if context is None else (context,)))
        return y if self.out_norm is None else self.out_norm(y), extra


def _empty_decoder(spec: DecoderSpec, vocab_size: int) -> Decoder:
    return Decoder(spec, vocab_size)  # on the CPU: on the meta device building takes longer, and memory is not touched


def _key(bank: str) -> str:
    return bank.replace(".", "_")  # parameters of a module have no dots in their names


def _role(cut: Cut, bank: str) -> str:
    """As `Decoder._role`, of a bank; "gain" of any norm."""
    name = cut.name.rpartition("layers.")[2].lstrip("0123456789").lstrip(".")  # "mixer.qkv.weight", "mlp_norm.weight"
    place, _, inside = name.partition(".")
    if place in ("mixer", "mlp"):
        return role_of(inside, len(cut.shapes[0]), known()[bank.split("/")[1]])
    if place.endswith("norm"):
        gain = "ones" if place.endswith("out_norm") else "gain"
        return gain if inside == "weight" else "zeros"
    return {"embedding": "embedding", "positions": "embedding", "skip_gates": "ones"}.get(place, "in")


def _fan_in(role: str, sizes: tuple[int, ...]) -> int:
    """Of the matrix that a bank is: heads and their values count together, experts do not."""
    return math.prod(sizes[1:]) if role == "out" else sizes[-1]
