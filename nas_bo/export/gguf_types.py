"""The types of weights in GGUF files: which tensor has which in a mixture such as Q4_K_M, after `llama-quantize` of llama.cpp.

Types whose blocks are rows of 32 values are made by the package gguf, those of 256 ("K") by llama.cpp itself. Rows that no block divides
get the next type that does, as in llama.cpp, and the export says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from nas_bo.errors import ExportError, MissingExtra
from nas_bo.export import llamacpp

Array = np.ndarray

TYPES = {
    "F32": "F32",
    "F16": "F16",
    "BF16": "BF16",
    "Q8_0": "Q8_0",
    "Q6_K": "Q6_K",
    "Q5_K_M": "Q5_K",
    "Q5_K_S": "Q5_K",
    "Q5_1": "Q5_1",
    "Q5_0": "Q5_0",
    "Q4_K_M": "Q4_K",
    "Q4_K_S": "Q4_K",
    "Q4_1": "Q4_1",
    "Q4_0": "Q4_0",
    "Q3_K_M": "Q3_K",
    "Q2_K": "Q2_K",
}
"""The name of a file's mixture -> the type of most of its matrices."""
WITHOUT_LLAMA_CPP = ("F32", "F16", "BF16", "Q8_0")  # all others have some tensor of a K type
INSTEAD = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
"""Where the length of rows is not divisible by 256; where it is not by 32 either, F16."""
KEPT = ("norm.weight", "shortconv.conv.weight", "ffn_gate_inp.weight")  # the ends of names of what stays in float32


def named(kind: str) -> str:
    """A type as its name here, whatever its case (raises ExportError for one that there is not)."""
    found = kind.upper().replace("-", "_")
    if found not in TYPES:
        raise ExportError(f"there is no type {kind!r} of GGUF files here; there are {', '.join(TYPES)}")
    return found


def type_of(tensor: str, mixture: str, layers: int, tied: bool) -> str:
    """The type of a tensor in a mixture, before it is known whether its rows can be cut into blocks."""
    base = TYPES[mixture]
    if tensor.endswith(KEPT):
        return "F32"
    if tensor.startswith("output.") or (tied and tensor.startswith("token_embd.")):
        return base if base in ("F32", "F16", "BF16", "Q8_0") else "Q6_K"
    index = int(tensor.split(".")[1]) if tensor.startswith("blk.") else 0
    part = tensor.split(".")[-2]
    more = index < layers // 8 or index >= 7 * layers // 8 or (index - layers // 8) % 3 == 2  # its "use_more_bits"
    if mixture in ("Q4_K_M", "Q5_K_M") and part in ("attn_v", "ffn_down") and more:
        return "Q6_K"
    if mixture == "Q4_K_S" and ((part == "attn_v" and index < 4) or (part == "ffn_down" and index < layers // 8)):
        return "Q5_K"
    if mixture == "Q3_K_M":
        early = {"attn_v": 2, "ffn_down": layers // 16}
        if part in early:
            return "Q5_K" if index < early[part] else "Q4_K"
        return "Q4_K" if part == "attn_output" else base
    if mixture == "Q2_K" and part in ("attn_v", "ffn_down", "attn_output"):
        return "Q3_K"
    return base


def rounded(
    tensors: Iterable[tuple[str, Array]], mixture: str, layers: int, tied: bool
) -> Iterator[tuple[str, Array, str]]:
    """(name, array, type) of each tensor: float32 or float16, or bytes of the type, row after row.

    Raises:
        ExportError: llama.cpp ended while it made one.
        MissingExtra: a type needs llama.cpp, and it is not installed.
    """
    if mixture in WITHOUT_LLAMA_CPP:
        yield from ((name, *_as(array, type_of(name, mixture, layers, tied), None)) for name, array in tensors)
        return
    if llamacpp.library() is None:
        raise MissingExtra(llamacpp.PACKAGE, "llamacpp")
    with llamacpp.LlamaCpp(None) as maker:
        for name, array in tensors:
            yield (name, *_as(array, type_of(name, mixture, layers, tied), maker))


def _as(array: Array, kind: str, maker: llamacpp.LlamaCpp | None) -> tuple[Array, str]:
    import gguf

    sizes: Any = gguf.GGML_QUANT_SIZES
    for wanted in (kind, INSTEAD.get(kind, "F16"), "F16"):
        number = gguf.GGMLQuantizationType[wanted]
        block, size = sizes[number]
        if array.shape[-1] % block == 0:
            break
    if wanted in ("F32", "F16"):
        return np.ascontiguousarray(array, np.float32 if wanted == "F32" else np.float16), wanted
    if maker is None or not wanted.endswith("_K"):
        made: Array = gguf.quants.quantize(np.ascontiguousarray(array, np.float32), number)
        return made, wanted
    try:
        return maker.quantized(array, int(number), array.shape[-1] // block * size), wanted
    except OSError as error:
        raise ExportError(
            f"llama.cpp could not make weights of type {wanted} ({error}); choose another --type"
        ) from None
