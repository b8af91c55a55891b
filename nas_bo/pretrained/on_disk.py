"""The weights of a trained model in a file instead of memory: its tensors are views of a mapping of that file, and the pages that a block has
read leave the memory of the process when the block has run.

So what needs one layer at a time (importance, calibration, block scores, the loss of a part) takes the memory of the embedding, of one layer and of
the activations, whatever the size of the model. All else sees ordinary tensors. The file belongs to this process alone and is gone with it.
"""

from __future__ import annotations

import mmap
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from nas_bo.cache_folder import cache_folder
from nas_bo.errors import ModelError

if TYPE_CHECKING:
    from nas_bo.model.decoder import Decoder

_kept: WeakKeyDictionary[Decoder, WeightsOnDisk] = WeakKeyDictionary()


class WeightsOnDisk:
    """The file of one model, whose weights lie in it from now on, not set.

    Raises:
        ModelError: there is not enough room in the user's cache folder, or nothing can be written there.
    """

    def __init__(self, model: Decoder, name: str, dtype: torch.dtype) -> None:
        weights = list(model.parameters())
        size = torch.empty((), dtype=dtype).element_size()
        starts = [0]
        for weight in weights:
            starts.append(starts[-1] + -(-weight.numel() * size // mmap.PAGESIZE) * mmap.PAGESIZE)
        folder = cache_folder()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(folder).free
            if free < starts[-1]:
                raise ModelError(
                    f"device_map='disk': the weights of {name} take {starts[-1] / 1e9:.2f} GB and {free / 1e9:.2f} GB are free in {str(folder)!r}; "
                    "make room there, or name another folder with NAS_BO_CACHE"
                )
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  as long as the model
            self._file.truncate(starts[-1])
        except OSError as error:
            raise ModelError(
                f"device_map='disk': no file can be made in {str(folder)!r} ({error.strerror}); name another folder with NAS_BO_CACHE"
            ) from error
        self._map = mmap.mmap(self._file.fileno(), starts[-1])
        for weight, start in zip(weights, starts, strict=False):
            flat = torch.frombuffer(self._map, dtype=dtype, count=weight.numel(), offset=start)
            weight.data = flat.view(weight.shape)
        self.follow(model)
        _kept[model] = self

    def release(self) -> None:
        """Let go of all pages: the next reading takes them from the file, which is mostly in the system's cache."""
        if sys.platform != "win32":
            self._map.madvise(mmap.MADV_DONTNEED)

    def follow(self, model: Decoder) -> None:
        """Release pages whenever a block of `model`, which reads weights of this file, has run, forward or back."""
        for layer in model.layers:
            for block in layer.children():
                block.register_forward_hook(self._after)
                block.register_full_backward_hook(self._after)

    def _after(self, _module: nn.Module, _given: object, _gave: object) -> None:
        self.release()


class Releasing(Mapping[str, Tensor]):
    """Tensors that are copied into the file one after another: at each, what came before leaves memory."""

    def __init__(self, tensors: Mapping[str, Tensor], disk: WeightsOnDisk) -> None:
        self.tensors, self.disk = tensors, disk

    def __getitem__(self, name: str) -> Tensor:
        self.disk.release()
        return self.tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def release(model: Decoder) -> None:
    """Where the weights of a model are on disk, let go of their pages."""
    if (disk := _kept.get(model)) is not None:
        disk.release()


def follow(part: Decoder, model: Decoder) -> None:
    """Where the weights of a model are on disk, also release pages when a part of it has run."""
    if (disk := _kept.get(model)) is not None:
        disk.follow(part)
