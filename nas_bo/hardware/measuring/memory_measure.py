"""The peak of memory while a model runs, measured: on CUDA by torch's allocator, elsewhere by following every storage.

Off CUDA torch keeps no account, so a dispatch mode notes each storage that an operation returns and when it dies. What
a kernel allocates and frees inside itself is not seen.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nas_bo.hardware.workload import Setting
from nas_bo.model import build, counts
from nas_bo.model.counts import Arch
from nas_bo.model.device import dtype_of, pick_device
from nas_bo.model.schedule import DEFAULTS

if TYPE_CHECKING:
    from torch._ops import OpOverload

Ready = tuple[list[object], Callable[[], object]]  # what is held, and the call that is looked at


class StorageTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of storages that are alive and were made inside it, or were given to `watch`.

    Attributes:
        live, peak: bytes.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live: int = 0
        self.peak: int = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def watch(self, tensors: Iterable[object]) -> None:
        for one in tensors:
            if isinstance(one, torch.Tensor):
                storage = one.untyped_storage()
                if storage not in self._known:
                    self._known.add(storage)
                    size = storage.nbytes()
                    weakref.finalize(storage, self._free, size)
                    self.live += size
        self.peak = max(self.peak, self.live)

    def _free(self, size: int) -> None:
        self.live -= size

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: object,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        made = func(*args, **(kwargs or {}))
        self.watch(tree_leaves(made))
        return made


def measured_inference(arch: Arch, setting: Setting, device: str | None = None) -> int:
    """Peak bytes of a built model in one setting: weights, the cache of `context` tokens, activations, logits of the last token.

    Raises:
        ObjectiveError: the device is not there.
        ModelError: the architecture cannot be built.
    """
    where = pick_device(device)
    decoding = setting.phase == "decode"

    def prepare() -> Ready:
        made = None if setting.dtype == "float32" else dtype_of(setting.dtype)
        model = build(arch, setting.vocab_size, setting.ignore, where, made).eval()
        tokens = torch.zeros(setting.batch, setting.context, dtype=torch.long, device=where)
        steps = decoding or counts.steps(model.spec)
        cache = model.new_cache(setting.batch, setting.context) if steps else None
        if decoding and setting.context > 1:
            model(tokens[:, :-1], cache=cache)
        step = tokens[:, -1:].clone() if decoding else tokens
        kept = [*model.parameters(), *model.buffers(), *tree_leaves(cache.states if cache else ()), step]
        return kept, lambda: model(step, cache=cache, last=True)

    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        return _peak(prepare, where)


def measured_training(
    arch: Arch, batch: int | None = None, sequence: int | None = None, vocab_size: int = 256, device: str | None = None,
    ignore: tuple[str, ...] = (),
) -> int:  # fmt: skip
    """Peak bytes of the second training step of `nas_bo.model.train` in float32 (in the first the optimiser has no state).

    Raises: as `measured_inference`.
    """
    where = pick_device(device)
    size = (int(batch or DEFAULTS["batch_size"]), int(sequence or DEFAULTS["sequence"]) + 1)

    def prepare() -> Ready:
        model = build(arch, vocab_size, ignore, where).train()
        optimizer = torch.optim.AdamW(model.parameter_groups(1e-4), fused=True)
        tokens = torch.zeros(size, dtype=torch.long, device=where)

        def step() -> None:
            loss, _ = model.loss(tokens[:, :-1], tokens[:, 1:])
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        step()
        return [*model.parameters(), *model.buffers(), *tree_leaves(optimizer.state_dict()), tokens], step

    with torch.random.fork_rng(devices=[]):
        return _peak(prepare, where)


def _peak(prepare: Callable[[], Ready], where: str) -> int:
    if torch.device(where).type == "cuda":
        run = prepare()[1]
        run()  # what libraries take for themselves at their first call stays, and is not the model's
        del run
        before = torch.cuda.memory_allocated(where)
        _, run = prepare()
        torch.cuda.synchronize(where)
        torch.cuda.reset_peak_memory_stats(where)
        run()
        torch.cuda.synchronize(where)
        return int(torch.cuda.max_memory_allocated(where) - before)
    kept, run = prepare()
    with StorageTracker() as tracker:
        tracker.watch(kept)
        del kept
        run()
    return int(tracker.peak)
