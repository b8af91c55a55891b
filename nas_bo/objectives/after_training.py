"""One training, many uses: the trained decoder is kept, and its loss with other bits, fewer channels and the like is that of the whole
evaluation plus what these change on a part of the held-out text, measured on the same windows with and without.

The decoders are in the user's cache folder (`nas_bo.cache_folder`), so all processes of a search share them, and a search that continues
finds them again. Loads torch when a function is called.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import platform
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

import nas_bo
from nas_bo import temporary
from nas_bo.architecture import Architecture, acting_after
from nas_bo.cache_folder import cache_folder, make_room, used_now
from nas_bo.model.blocks.dense import has_channels
from nas_bo.model.spec import DecoderSpec

if TYPE_CHECKING:
    from torch import Tensor

    from nas_bo.compress.levels import Source
    from nas_bo.model import Decoder
    from nas_bo.model.data import Corpus

FOLDER, MOST_BYTES = "trained", 2e9  # of the cache folder
IN_MEMORY = 8  # decoders
PART = 16  # the windows with and without are so many times fewer than those of an evaluation
LEAST_TOKENS = 4_096
CALIBRATION = 32, 64  # windows of training text on which channels and weights are weighed, and their tokens

logger = logging.getLogger(__name__)


@dataclass
class Kept:
    """A trained decoder and what it was evaluated to.

    Attributes:
        value, info: of the objective, as it was trained.
        sequence: tokens of a window.
    """

    model: Decoder
    value: float
    info: Mapping[str, Any]
    sequence: int
    memo: dict[str, Any] = field(default_factory=dict)


_here: OrderedDict[str, Kept] = OrderedDict()


def acts_after(arch: Architecture, ignore: tuple[str, ...]) -> bool:
    """Whether an architecture says what is done to it after training, be it nothing."""
    return any(path not in ignore for path in acting_after(arch.tree))


def key_of(conditions: Mapping[str, object], training_id: str, **more: object) -> str:
    """A name for a training: what it depends on, the machine and the versions."""
    import torch

    where = [nas_bo.__version__, torch.__version__, platform.machine(), platform.node()]
    text = json.dumps([conditions, more, where], sort_keys=True, default=str)
    return f"{training_id}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def kept(key: str, spec: DecoderSpec, device: str | None, train: Callable[[], Kept]) -> tuple[Kept, bool]:
    """The decoder of that name, trained by `train` where nobody has it yet, and whether it was there.

    Processes that want the same wait for one of them.
    """
    if key in _here:
        _here.move_to_end(key)
        return _here[key], True
    path = cache_folder() / FOLDER / f"{key}.safetensors"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{path}.lock")
        with lock:
            found = _read(path, spec, device)
            there = found is not None
            if found is None:
                found = train()
                _write(path, found)
    except OSError as error:
        logger.warning(
            "trained decoders cannot be kept in %s (%s), so other processes train them again; set NAS_BO_CACHE to a folder with room",
            path.parent,
            error.strerror or error,
        )
        found, there = train(), False
    _here[key] = found
    while len(_here) > IN_MEMORY:
        _here.popitem(last=False)
    return found, there


def _write(path: Path, one: Kept) -> None:
    from safetensors.torch import save

    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in one.model.state_dict().items()}
    said = {"value": one.value, "info": dict(one.info), "sequence": one.sequence, "vocab_size": one.model.vocab_size}
    content = save(weights, metadata={"nas_bo": json.dumps(said)})
    make_room(path.parent, MOST_BYTES, len(content))
    with temporary.whole(path) as draft:
        draft.write_bytes(content)
    with suppress(OSError):
        Path(f"{path}.lock").unlink()  # whoever waits for it finds the decoder


def _read(path: Path, spec: DecoderSpec, device: str | None) -> Kept | None:
    """None where it is not there, or damaged."""
    import torch
    from safetensors import safe_open

    from nas_bo.model import build

    if not path.exists():
        return None
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        with safe_open(str(path), "pt", device=where) as file:
            said = json.loads(file.metadata()["nas_bo"])
            model = build(spec, int(said["vocab_size"]), device=where, generator=torch.Generator().manual_seed(0))
            model.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except Exception as error:  # of safetensors, JSON and torch: it is trained again
        logger.warning("the trained decoder in %s cannot be read (%s); it is trained again", path, error)
        return None
    used_now(path)
    return Kept(model.eval(), float(said["value"]), said["info"], int(said["sequence"]))


def as_used(
    model: Decoder,
    spec: DecoderSpec,
    corpus: Corpus,
    seed: int = 0,
    memo: dict[str, Any] | None = None,
    source: Source | None = None,
) -> Decoder:
    """A copy of a trained decoder with all that `spec.after` says done to it, in the order channels, zeros, bits, caches
    (`nas_bo.compress`). Values are those that the fewer bits can say, kept in float32: outputs are those of the smaller model, not its
    speed. Bits are those of GPTQ, each matrix for itself (`nas_bo.compress.levels`); of layers with zeros to the nearest, which keeps them.

    Args:
        memo: of this model, where what other settings can use again is kept; what is returned is then good until the next call.
        source: what is known about the matrices of `model`, where no channels or weights of it go (`nas_bo.compress.levels.Levels`).

    Raises:
        CompressError: the text is too short to weigh channels and weights on.
    """
    from nas_bo.compress import prune, sparsify
    from nas_bo.compress.levels import Levels
    from nas_bo.model.inference import as_tensor
    from nas_bo.model.layers.common import RoundsCache

    if spec.after is None:
        return model
    around, *each = spec.after[:1] + spec.after[1 :: spec.details.tie_layers]
    names = [f"layers.{index}" for index in range(len(each))]
    sequence = min(CALIBRATION[1], spec.details.max_length or CALIBRATION[1], len(corpus.train) - 1)
    text = as_tensor(corpus.batches(0, 1, CALIBRATION[0], sequence, seed)[0], model.embedding.weight.device)
    made = model
    dense = [has_channels(layer.mlp) for layer in spec.layers[:: spec.details.tie_layers]]
    channels = {name: one.prune for name, one, has in zip(names, each, dense, strict=True) if one.prune and has}
    if channels:
        made = prune(made, channels=channels, calibration=text).model
    for share in sorted({one.sparsity for one in each if one.sparsity}):
        sparse = dict(sparsify(made, share, "wanda", text).model.named_parameters())
        at = tuple(f"{name}." for name, one in zip(names, each, strict=True) if one.sparsity == share)
        mixed = {name: sparse[name] if name.startswith(at) else weight for name, weight in made.state_dict().items()}
        made = copy.deepcopy(made)
        made.load_state_dict(mixed)
    bits = {name: one.bits for name, one in zip(names, each, strict=True) if _has_matrices(made, name)}
    if around.bits < 32 or any(value < 32 for value in bits.values()):
        form = json.dumps([channels, {name: one.sparsity for name, one in zip(names, each, strict=True)}, seed])
        memo = {} if memo is None else memo
        if (
            memo.get("form") != form
        ):  # of the last one only: weights in all widths take several times the model's memory
            known = source if made is model else None
            memo |= {"form": form, "levels": Levels(made, text, source=known), "draft": None}
        zeros = [f"{name}." for name, one in zip(names, each, strict=True) if one.sparsity]
        mixture = {**bits, "default": around.bits}
        if memo["draft"] is None:
            memo["draft"] = memo["levels"].at(mixture, plain=zeros)
        else:  # building a decoder takes a fifth of the time of a look at a small one
            memo["levels"].put(memo["draft"], mixture, plain=zeros)
        made = memo["draft"]
    if any(one.kv_bits < 32 for one in each):
        made = copy.deepcopy(made)
        for layer, one in zip(made.layers, each, strict=True):
            mixer: object = layer.mixer
            if one.kv_bits < 32 and isinstance(mixer, RoundsCache):
                mixer.kv_bits = one.kv_bits
    return made.eval()


def _has_matrices(model: Decoder, name: str) -> bool:
    return any(weight.dim() > 1 for key, weight in model.named_parameters() if key.startswith(f"{name}."))


def change(one: Kept, spec: DecoderSpec, corpus: Corpus, tokens: int, seed: int) -> tuple[float, dict[str, object]]:
    """What is done after training changes the loss by so many bits per byte, and how that was found.

    Args:
        spec: the architecture with what is done.
        tokens: of a whole evaluation.
    """
    import torch

    from nas_bo.model.inference import window_losses

    part = max(LEAST_TOKENS, tokens // PART)
    if "whole" not in one.memo:
        one.memo["whole"] = window_losses(one.model, corpus, part, one.sequence)
    used = as_used(one.model, spec, corpus, seed, one.memo)
    whole: Tensor = one.memo["whole"]
    apart = window_losses(used, corpus, part, one.sequence) - whole
    spread = float(apart.std()) / math.sqrt(len(apart)) if len(apart) > 1 else 0.0
    gap = float(torch.nan_to_num(apart, nan=math.inf).mean())
    return gap, {"trained": one.value, "gap": gap, "gap_sd": spread, "gap_tokens": int(len(apart) * one.sequence)}
