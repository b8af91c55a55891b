"""The weights of a model in a folder of transformers, read one tensor at a time: safetensors in one file or in shards, and GGUF.

Files are only read: pickles are refused, and names that no part of the decoder takes are an error, since a model without them
would give other logits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nas_bo.errors import ExportError
from nas_bo.pretrained.configuration import INDEX, SINGLE

if TYPE_CHECKING:
    from safetensors import safe_open

PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth")
PLAIN = ("F64", "F32", "F16", "BF16")  # as safetensors names data types
MAPPED = 1 << 26  # bytes that are read before a file is opened again: pages that were read count as memory until then
_NOT_WEIGHTS = re.compile(r"(rotary_emb\.inv_freq|attn\.(masked_)?bias|attention\.(masked_)?bias|rotary_emb\.[a-z_]+)$")
_PREFIXES = ("", "transformer.", "model.", "gpt_neox.")

_ALSO = {"lm_head.weight": ("embed_out.weight",)}
"""Names in memory -> what they were before, in files."""

_EXPERTS: Mapping[str, tuple[str, tuple[tuple[str, ...], ...]]] = {
    "mlp.experts.gate_up_proj": (
        "experts",
        (("block_sparse_moe.experts.{}.w1", "block_sparse_moe.experts.{}.w3"), ("mlp.experts.{}.gate_proj", "mlp.experts.{}.up_proj")),
    ),
    "mlp.experts.down_proj": ("experts", (("block_sparse_moe.experts.{}.w2",), ("mlp.experts.{}.down_proj",))),
    "mlp.gate.weight": ("one", (("block_sparse_moe.gate",),)),
}  # fmt: skip
"""Names of mixtures in memory -> those in files: one matrix for each expert."""


class Weights(Mapping[str, Tensor]):
    """The tensors of a folder by the names that transformers gives them in memory.

    Raises:
        ExportError: there are none, only pickles, or a file is damaged.
    """

    def __init__(self, folder: Path, experts: int = 0, mapped: int = MAPPED) -> None:
        self.folder, self.experts, self.most_mapped = folder, experts, mapped
        self.taken: set[str] = set()
        self._open: dict[str, safe_open] = {}
        self._mapped = 0
        self._files = self._index()

    def _index(self) -> dict[str, str]:
        """Name -> file."""
        path = self.folder / INDEX
        if path.is_file():
            try:
                found = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
                files = {str(name): str(file) for name, file in found.items()}
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ExportError(
                    f"{INDEX} cannot be read ({type(error).__name__}: {error!s:.80}); copy the folder again"
                ) from None
            for file in set(files.values()):
                if Path(file).name != file or not (self.folder / file).is_file():
                    raise ExportError(
                        f"{INDEX} names the file {file!r:.80}, which is not in the folder; copy the folder again"
                    )
            return files
        if (self.folder / SINGLE).is_file():
            return dict.fromkeys(self._file(SINGLE).keys(), SINGLE)  # type: ignore[no-untyped-call]
        pickled = [name for name in PICKLES if (self.folder / name).exists()]
        if pickled:
            raise ExportError(
                f"the weights in {str(self.folder)!r} are pickles ({pickled[0]}), and reading a pickle runs code that is in it; convert "
                "them first with transformers, on a machine where you trust it: AutoModelForCausalLM.from_pretrained(folder).save_pretrained(other)"
            )
        raise ExportError(
            f"there are no weights in {str(self.folder)!r}: neither {SINGLE} nor {INDEX}; give the folder of a model"
        )

    def _file(self, name: str) -> safe_open:
        from safetensors import SafetensorError, safe_open

        if name not in self._open:
            try:
                self._open[name] = safe_open(self.folder / name, framework="pt")
            except (SafetensorError, OSError) as error:
                raise ExportError(
                    f"{name} is damaged or no safetensors file ({error!s:.80}); copy the folder again"
                ) from None
        return self._open[name]

    def _read(self, name: str) -> Tensor:
        self.taken.add(name)
        file = self._files[name]
        found: Tensor = self._file(file).get_tensor(name)  # type: ignore[no-untyped-call]
        self._mapped += found.nbytes
        if self._mapped > self.most_mapped:
            self._open.pop(file)
            self._mapped = 0
        return found

    def _named(self, name: str) -> str | None:
        """The name in the files; families have dropped and added prefixes over time."""
        for prefix in _PREFIXES:
            if prefix and name.startswith(prefix) and name[len(prefix) :] in self._files:
                return name[len(prefix) :]
            if prefix + name in self._files:
                return prefix + name
        return next((other for other in _ALSO.get(name, ()) if other in self._files), None)

    def __getitem__(self, name: str) -> Tensor:
        there = self._named(name)
        if there is not None:
            return self._read(there)
        for ending, (how, forms) in _EXPERTS.items():
            if name.endswith(ending):
                before = name[: -len(ending)]
                for form in forms:
                    with suppress(KeyError):
                        return (
                            self._stacked(before, form) if how == "experts" else self._some(f"{before}{form[0]}.weight")
                        )
        raise KeyError(name)

    def _some(self, name: str) -> Tensor:
        there = self._named(name)
        if there is None:
            raise KeyError(name)
        return self._read(there)

    def _stacked(self, before: str, form: tuple[str, ...]) -> Tensor:
        """(E, rows of all in turn, columns)"""
        each = [
            torch.cat([self._some(f"{before}{one.format(expert)}.weight") for one in form])
            for expert in range(self.experts)
        ]
        return torch.stack(each)

    def quantized(self) -> str | None:
        """The first of the weights that is not of a plain floating-point type, with its type; None where all are."""
        for name, file in self._files.items():
            kind = str(self._file(file).get_slice(name).get_dtype())  # type: ignore[no-untyped-call]
            if kind not in PLAIN and not _NOT_WEIGHTS.search(name):
                return f"{name} is {kind}"
        return None

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def left(self, tied: bool) -> list[str]:
        """What was not taken and is a weight."""
        others = [name for name in self._files if name not in self.taken and not _NOT_WEIGHTS.search(name)]
        return [name for name in others if not (tied and name in ("lm_head.weight", "embed_out.weight"))]
