"""Finished blocks of other operators for one trained model: made when they are first asked for, and kept in a folder.

Each is made alone, with the rest of the model as it was (`nas_bo.pretrained.operators` says how), and judged by the Kullback-Leibler
divergence of the whole model's predictions from those with it (KL-guided layer selection, arXiv 2512.20569).

Notation: B sequences, T tokens, C width, V vocabulary.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from filelock import FileLock
from torch import Tensor, nn

from nas_bo import temporary
from nas_bo.cache_folder import cache_folder, make_room, used_now
from nas_bo.errors import ModelError
from nas_bo.hardware.measuring import machine
from nas_bo.model.blocks.block import Frame, role_of
from nas_bo.model.blocks.cuts import Cut
from nas_bo.model.blocks.skip import SKIP
from nas_bo.model.blocks.table import block_of
from nas_bo.model.inference import torch_threads
from nas_bo.model.layers.common import Context
from nas_bo.model.spec import DecoderSpec, LayerSpec
from nas_bo.model.training_loop import Loop
from nas_bo.pretrained.operators import BlockDistillation, Operator
from nas_bo.pretrained.repair import fitted
from nas_bo.supernet.slicing import sliceable

if TYPE_CHECKING:
    from nas_bo.model.data import Corpus
    from nas_bo.model.decoder import Decoder

Weights: TypeAlias = Mapping[str, Tensor]

KEPT_BYTES = 4e9  # of all blocks in the user's cache folder; the least recently used go first
REMEMBERED_BYTES = 1 << 28  # of what the whole model says about batches, per library
JUDGED_BATCHES = 4
JUDGED_SEED = 1_000_003  # added to that of the distillation
FITTED_BATCHES = 4  # by which the output matrix is fitted

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class FinishedBlock:
    """A block that may take the place of a trained one.

    Attributes:
        weights: name inside the module -> values.
        kl: of the whole model's predictions from those with it, in bits per byte.
        added: to the loss of the whole model, in bits per byte; less than 0 where the block learned what the whole has not.
    """

    weights: Weights
    kl: float
    added: float


class BlockLibrary:
    """The blocks of one trained model and one way of making them.

    Args:
        model: the trained decoder, with its parts in order.
        corpus: its training text teaches and judges.
        settings: how blocks learn.
        facts: what else a block depends on, JSON-safe.

    Raises:
        ModelError: the model is not in float32.
    """

    def __init__(
        self, model: Decoder, corpus: Corpus, settings: BlockDistillation, facts: Mapping[str, object]
    ) -> None:
        if model.embedding.weight.dtype != torch.float32:
            raise ModelError(
                f"blocks of other operators learn in float32 and the trained model is in {model.embedding.weight.dtype}; give "
                'Pretrained(dtype="float32")'
            )
        self.model, self.corpus, self.settings = model, corpus, settings
        self.facts = {**facts, **settings.conditions()}
        self.folder = Path(settings.folder) if settings.folder is not None else cache_folder() / "blocks"
        self._blocks: dict[tuple[int, Operator], FinishedBlock] = {}
        self._said: dict[tuple[int, int], Tensor] = {}

    def block(self, index: int, spec: Operator) -> FinishedBlock:
        """The block `spec` for the mixer of layer `index`."""
        key = index, spec
        if key not in self._blocks:
            self._blocks[key] = self._kept(index, spec)
        return self._blocks[key]

    def weights(self, index: int, spec: Operator) -> Weights:
        """Those of `block`, by their names in the decoder."""
        return {f"layers.{index}.mixer.{name}": weight for name, weight in self.block(index, spec).weights.items()}

    # ---- files ---------------------------------------------------------------------------------------------------------

    def _kept(self, index: int, spec: Operator) -> FinishedBlock:
        facts = json.loads(json.dumps({**self.facts, "layer": index, "block": list(spec)}))
        name = f"layer{index}-{spec.kind}-{machine.digest(facts)}.safetensors"
        path = self.folder / name
        with ExitStack() as stack:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(path.with_suffix(".lock")))  # one process makes it, the others take it
            except OSError as error:
                _log.warning("blocks cannot be kept in %s (%s); they will be made again", self.folder, error.strerror)
            found = self._read(path, facts)
            if found is None:
                with torch.inference_mode(False), torch.enable_grad():  # whoever asks for a model may want no gradients
                    found = self._made(index, spec)
                self._write(path, found, facts)
        used_now(path)
        return found

    def _read(self, path: Path, facts: Mapping[str, object]) -> FinishedBlock | None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                said = json.loads((file.metadata() or {})["block"])
                if said["facts"] != facts:
                    return None
                device = self.model.embedding.weight.device
                weights = {name: file.get_tensor(name).to(device) for name in file.keys()}  # noqa: SIM118
                return FinishedBlock(weights, float(said["kl"]), float(said["added"]))
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return None  # it is made again

    def _write(self, path: Path, block: FinishedBlock, facts: Mapping[str, object]) -> None:
        from safetensors.torch import save

        about = json.dumps({"facts": facts, "kl": block.kl, "added": block.added})
        plain = {name: weight.detach().cpu().contiguous() for name, weight in block.weights.items()}
        with suppress(OSError), temporary.whole(path) as draft:
            data = save(plain, metadata={"block": about})
            if self.settings.folder is None:
                make_room(self.folder, KEPT_BYTES, len(data))
            draft.write_bytes(data)

    # ---- making ------------------------------------------------------------------------------------------------------------

    def _made(self, index: int, spec: Operator) -> FinishedBlock:
        whole = with_mixer(self.model, index, None, {})
        with torch.no_grad():
            weights = taken_over(self.model, index, spec, self.settings.seed)
            student = with_mixer(self.model, index, spec, weights)
        stages: list[Callable[[], None]] = []
        if self.settings.tokens:
            stages = [lambda: self._fit_output(whole, student, index), lambda: self._train(whole, student, index)]
        best: FinishedBlock | None = None
        with torch_threads(1):
            for stage in [lambda: None, *stages]:  # a block that nearly is the trained one may only lose by learning
                stage()
                kl, added = self._judged(whole, student)
                if best is None or kl < best.kl:
                    learned = {name: w.detach().clone() for name, w in _mixer(student, index).named_parameters()}
                    best = FinishedBlock(learned, kl, added)
        assert best is not None
        return best

    def _batches(self, first: int, count: int, seed: int) -> Tensor:
        """(count, B, T + 1)"""
        found = self.corpus.batches(first, count, self.settings.batch, self.settings.sequence, seed)
        return torch.from_numpy(found.astype("int64")).to(self.model.embedding.weight.device)

    @torch.no_grad()
    def _fit_output(self, whole: Decoder, student: Decoder, index: int) -> None:
        """The output matrix by least squares (`nas_bo.pretrained.repair.fitted`)."""
        out = _mixer(student, index).get_submodule("out")
        weight = out.weight
        if not isinstance(weight, Tensor):
            return
        rows, rest = [], []
        for batch in self._batches(0, min(FITTED_BATCHES, self.settings.steps), self.settings.seed):
            x, context, y = _at_mixer(whole, index, batch[:, :-1])
            given: list[Tensor] = []
            hook = out.register_forward_pre_hook(lambda _m, args: given.append(args[0]))  # noqa: B023
            _mixer(student, index)(x, context, None)
            hook.remove()
            rows.append(given[0].flatten(0, 1))
            rest.append((y - out(given[0])).flatten(0, 1))
        better = fitted(weight, torch.cat(rows), torch.cat(rest))
        if better is not None:
            weight.copy_(better)

    def _train(self, whole: Decoder, student: Decoder, index: int) -> None:
        settings = self.settings
        mixer = _mixer(student, index)
        for weight in mixer.parameters():
            weight.requires_grad_(True)
        groups = []
        for group in student.parameter_groups(settings.lr):
            own = [weight for weight in group["params"] if weight.requires_grad]
            groups += [{**group, "params": own}] if own else []
        at = {"warmup": 0.05, "decay": 0.95, "clip": 1.0}
        device = student.embedding.weight.device
        loop = Loop(groups, [*mixer.parameters()], settings.steps, at, device)
        aligned = round(settings.output * settings.steps)

        def passes(batch: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
            tokens = batch[:, :-1]
            if loop.step < aligned:
                x, context, y = _at_mixer(whole, index, tokens)
                loss = (mixer(x, context, None)[0] - y).square().mean() / y.square().mean().clamp_min(1e-12)
            else:
                loss = _divergence(student(tokens), self._predictions(whole, tokens, settings.seed, loop.step))
            yield loss, loss

        def look(losses: list[float]) -> bool:
            if not all(map(math.isfinite, losses)):
                kind = str(student.spec.layers[index].mixer.kind).replace("_", " ")
                raise ModelError(
                    f"the {kind} in layer {index} diverged while it learned; give BlockDistillation a smaller lr than {settings.lr:g}"
                )
            return False

        loop.go(lambda first, count: self._batches(first, count, settings.seed), passes, look)
        for weight in mixer.parameters():
            weight.requires_grad_(False)

    @torch.no_grad()
    def _judged(self, whole: Decoder, student: Decoder) -> tuple[float, float]:
        """The divergence, and what is added to the loss, in bits per byte, on batches that were not learned from."""
        seed = self.settings.seed + JUDGED_SEED
        kl, added = 0.0, 0.0
        for step, batch in enumerate(self._batches(0, JUDGED_BATCHES, seed)):
            tokens, targets = batch[:, :-1], batch[:, 1:].flatten()
            said, other = self._predictions(whole, tokens, seed, step), student(tokens)
            kl += float(_divergence(other, said))
            added += float(F.cross_entropy(other.flatten(0, 1), targets) - F.nll_loss(said.flatten(0, 1), targets))
        bits = 1 / (JUDGED_BATCHES * math.log(2) * self.corpus.bytes_per_token)
        return max(0.0, kl) * bits, added * bits

    @torch.no_grad()
    def _predictions(self, whole: Decoder, tokens: Tensor, seed: int, step: int) -> Tensor:
        """(B, T, V) logarithms of probabilities; every block sees the same batches, so they are kept where they are small."""
        found = self._said.get((seed, step))
        if found is None:
            found = whole(tokens).log_softmax(-1)
            if (len(self._said) + 1) * found.nbytes <= REMEMBERED_BYTES:
                self._said[seed, step] = found
        return found


def library_of(
    model: Decoder, corpus: Corpus, settings: BlockDistillation, facts: Mapping[str, object]
) -> BlockLibrary:
    """The library of a model, one for each way of making blocks, as long as the model is in memory (see `BlockLibrary`)."""
    known = _libraries.setdefault(model, {})
    key = settings, json.dumps(facts, sort_keys=True, default=str), cache_folder()
    if key not in known:
        known[key] = BlockLibrary(model, corpus, settings, facts)
    return known[key]


_libraries: WeakKeyDictionary[Decoder, dict[tuple[object, ...], BlockLibrary]] = WeakKeyDictionary()


# ---- parts --------------------------------------------------------------------------------------------------------------


def with_mixer(model: Decoder, index: int, spec: Operator | None, weights: Weights) -> Decoder:
    """The model with another mixer in one layer, None for its own; all other weights are those of `model`, and none of them learns."""
    from nas_bo.model.decoder import Decoder
    from nas_bo.pretrained import on_disk

    layers = list(model.spec.layers)
    if spec is not None:
        layers[index] = layers[index]._replace(mixer=spec)
    made = Decoder(model.spec._replace(layers=tuple(layers)), model.vocab_size).to(model.embedding.weight.device)
    theirs = dict(model.named_parameters())
    prefix = f"layers.{index}.mixer."
    for name, place in made.named_parameters():
        own = spec is not None and name.startswith(prefix)
        place.data = weights[name[len(prefix) :]] if own else theirs[name].detach()
        place.requires_grad_(False)
    on_disk.follow(made, model)
    return made.eval()


def taken_over(model: Decoder, index: int, spec: Operator, seed: int) -> dict[str, Tensor]:
    """Name inside the module -> the first values of a block: those of the trained block whose meaning and shape are the same (queries,
    keys, values, output; keys that heads share are repeated), taps that let their input through, and else as weights are drawn."""
    from nas_bo.model.decoder import Decoder

    frame, trained = model.spec.frame, model.spec.layers[index].mixer
    alone: DecoderSpec = model.spec._replace(layers=(LayerSpec(spec, SKIP),))
    drawn = Decoder(alone, 1)
    drawn.initialise(torch.Generator().manual_seed(seed))
    weights = {
        name: weight.detach().to(model.embedding.weight.device) for name, weight in _mixer(drawn, 0).named_parameters()
    }
    theirs = _pieces(
        {name: weight.detach() for name, weight in _mixer(model, index).named_parameters()}, trained, frame
    )
    block = block_of(spec)
    for name, weight in weights.items():
        if role_of(name, weight.dim(), block) == "taps":
            weight.zero_()
            weight[..., -1] = 1.0
    same = spec.kind == trained.kind
    for cut in sliceable(spec).slices(spec, frame, "", ""):
        weights[cut.name] = _filled(weights[cut.name], cut, theirs)
    if same:  # all else that the trained block has: norms of queries and keys, sinks
        for name, weight in _mixer(model, index).named_parameters():
            if weights[name].shape == weight.shape:
                weights[name] = weight.detach().clone()
    return weights


def _pieces(weights: Weights, spec: Operator, frame: Frame) -> dict[str, Tensor]:
    """Meaning ("q", "k", "v", "out") -> values, heads first but for "out"."""
    found: dict[str, Tensor] = {}
    for cut in sliceable(spec).slices(spec, frame, "", ""):
        parts = torch.split(weights[cut.name], [shape[cut.axis] for shape in cut.shapes], cut.axis)
        for piece, part in zip(cut.pieces, parts, strict=True):
            found[piece.bank.rpartition("/")[2]] = part.reshape(piece.sizes)
    return found


def _filled(weight: Tensor, cut: Cut, theirs: Mapping[str, Tensor]) -> Tensor:
    parts = list(torch.split(weight, [shape[cut.axis] for shape in cut.shapes], cut.axis))
    for place, (piece, shape) in enumerate(zip(cut.pieces, cut.shapes, strict=True)):
        name = piece.bank.rpartition("/")[2]
        there = theirs.get(name)
        if there is None:
            continue
        if name != "out" and piece.sizes[0] % there.shape[0] == 0:
            there = there.repeat_interleave(piece.sizes[0] // there.shape[0], 0)
        if there.numel() == parts[place].numel():
            parts[place] = there.reshape(shape)
    return parts[0].clone() if len(parts) == 1 else torch.cat(parts, cut.axis)


class _Enough(Exception):
    """What comes after is not needed."""


@torch.no_grad()
def _at_mixer(model: Decoder, index: int, tokens: Tensor) -> tuple[Tensor, Context, Tensor]:
    """Of tokens (B, T): what the mixer of a layer is given (B, T, C), its context, and what it gives (B, T, C)."""
    seen: list[tuple[Tensor, Context, Tensor]] = []

    def stop(_module: nn.Module, args: tuple[Tensor, Context], given: tuple[Tensor, object]) -> None:
        seen.append((args[0], args[1], given[0]))
        raise _Enough

    hook = _mixer(model, index).register_forward_hook(stop)
    try:
        model(tokens)
    except _Enough:
        pass
    finally:
        hook.remove()
    return seen[0]


def _mixer(model: Decoder, index: int) -> nn.Module:
    return model.layers[index].get_submodule("mixer")


def _divergence(logits: Tensor, said: Tensor) -> Tensor:
    """KL(whole, student) in nats per token; logits and logarithms of probabilities, both (B, T, V)."""
    student = logits.log_softmax(-1).flatten(0, 1)
    return F.kl_div(student, said.flatten(0, 1), log_target=True, reduction="batchmean")
