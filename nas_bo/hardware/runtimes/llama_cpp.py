"""llama.cpp on a CPU, by the package xllamacpp, with weights in float32 or in a type of GGUF files: what is shipped as such a file is
measured as such a file.

The model is written as a GGUF file (`nas_bo.export.gguf`). In float32 its logits must be those of eager torch; with fewer bits they
are compared within what the rounding of random weights may do, and the file in float32 is checked before. Both are run by another
process first, which a file that llama.cpp cannot read may end. Keys and values are float16, llama.cpp's default. A prefill gives the
logits of the last token of each sequence, as the other runtimes do.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nas_bo import temporary
from nas_bo.errors import ExportError, Unsupported
from nas_bo.hardware.runtimes.eager import built
from nas_bo.hardware.runtimes.interface import DECODED, agree
from nas_bo.hardware.runtimes.onnxruntime import only_cpu, versions
from nas_bo.hardware.workload import Setting
from nas_bo.model.counts import Arch

if TYPE_CHECKING:
    from nas_bo.model.decoder import Decoder

BOUND = {
    "F32": 1e-3,
    "F16": 1e-2,
    "BF16": 5e-2,
    "Q8_0": 0.1,
    "Q6_K": 0.15,
    "Q5": 0.25,
    "Q4": 0.45,
    "Q3": 0.7,
    "Q2": 1.0,
}
"""Of the logits' distance from eager as a share of their norm, by the type or how it begins; random weights, the worst case."""
LENGTH = 64  # tokens that are compared, at most
PADDING = 0.5  # weights of zeros that may be added; they are measured with the others, as they are shipped


@dataclass(frozen=True)
class LlamaCppRuntime:
    """Args:
    device: "cpu" or None.
    threads: of llama.cpp.
    type: of the weights, one of `nas_bo.export.gguf_types.TYPES`.
    """

    device: str | None = None
    threads: int = 1
    type: str = "F32"
    name: str = ""
    inside: bool = True  # its threads are its own

    def __post_init__(self) -> None:
        only_cpu("llama.cpp", self.device, self.threads)
        object.__setattr__(self, "device", "cpu")
        object.__setattr__(self, "name", "llama.cpp" if self.type == "F32" else f"llama.cpp-{self.type.lower()}")

    def conditions(self) -> dict[str, object]:
        found = {**versions("llamacpp", "xllamacpp"), **versions("gguf", "gguf")}
        return {"threads": self.threads, "weights": self.type, **found}

    def running(self) -> AbstractContextManager[None]:
        return nullcontext()

    def prepare(self, arch: Arch, setting: Setting) -> InLlamaCpp:
        import torch

        if setting.dtype != "float32":
            raise Unsupported(
                f"{self.name} takes float32 models here, not {setting.dtype}; types of weights are runtimes, such as llama.cpp-q8_0"
            )
        model, tokens = built(arch, setting, "cpu", self.name)
        rows = [[int(one) for one in row] for row in tokens]
        with temporary.folder("gguf") as folder:
            ids = rows[0][: min(LENGTH, len(rows[0]))]
            with torch.inference_mode():
                expected = model(torch.tensor([ids]))[0].float().numpy()
            size = 0
            for kind in dict.fromkeys(("F32", self.type)):
                path = folder / f"{kind}.gguf"
                size = self._written(path, model, kind)
                agree(self.name, self._run(path, ids, setting.vocab_size), expected, _bound(kind))
            try:
                return InLlamaCpp(path, rows, setting, self.threads, size)
            except OSError as error:
                raise Unsupported(f"{self.name} cannot run it ({error})") from None

    def _written(self, path: Path, model: Decoder, kind: str) -> int:
        from nas_bo.export import gguf
        from nas_bo.export.fits import fits, why_not
        from nas_bo.export.homes import GGUF
        from nas_bo.export.text import byte_characters

        found = fits(model.spec, GGUF, vocab_size=model.vocab_size)
        best = found[0]
        if best.reasons or best.padding > PADDING:
            why = why_not(found, 1) if best.reasons else f"{best.home.name} would be {best.padding:.0%} of zeros larger"
            raise Unsupported(
                f"{self.name} has no architecture that holds this one: {why}; search with --servable gguf"
            )
        names = [*byte_characters(), *(f"[unused{i}]" for i in range(256, model.vocab_size))][: model.vocab_size]
        try:
            gguf.file(path, best, model, gguf.Vocabulary(names, [gguf.NEVER]), "measured", kind)
        except ExportError as error:
            raise Unsupported(f"{self.name}: {error}") from None
        return path.stat().st_size

    def _run(self, path: Path, ids: list[int], vocab_size: int) -> np.ndarray:
        from nas_bo.export.llamacpp import LlamaCpp

        try:
            with LlamaCpp(path, vocab_size) as run:
                return run(ids)
        except OSError as error:
            raise Unsupported(f"{self.name} cannot run it ({error})") from None


class InLlamaCpp:
    """The call to be timed: (batch, context) tokens, or 8 more after as many cached ones."""

    def __init__(self, path: Path, rows: list[list[int]], setting: Setting, threads: int, held_bytes: int) -> None:
        from nas_bo.export.llamacpp import Loaded

        context = setting.context
        self._model = Loaded(str(path), len(rows), context + DECODED, threads, exact=False)
        self._context = context
        self._prompt = self._model.call([row[:context] for row in rows], 0, last=setting.logits == "last")
        self._steps = [self._model.call([[row[at]] for row in rows], at) for at in range(context, context + DECODED)]
        self.steps = DECODED if setting.phase == "decode" else 1
        self.held_bytes = held_bytes
        self._model.forget()
        self._prompt()  # what does not fit is known here

    def ready(self) -> Callable[[], object]:
        if self.steps == 1:
            self._model.forget()
            return self._prompt
        if not self._model.forget(self._context):
            self._prompt()
        return self._decode

    def _decode(self) -> None:
        for step in self._steps:
            step()


def _bound(kind: str) -> float:
    return BOUND[kind] if kind in BOUND else BOUND[kind[:2]]
