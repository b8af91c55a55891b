"""Logits of a GGUF file from llama.cpp, in a process of its own, which may crash without taking this one with it.

The library is that of the package xllamacpp, whose shared object has the C functions of llama.cpp. It is used to check exports only.
Structures of parameters are taken as llama.cpp fills them, whatever is in them, so that their layout need not be known.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from nas_bo.export.check import Logits

PACKAGE, LIBRARY = "xllamacpp", "xllamacpp.abi3.so"
F16, F32 = 1, 0  # of ggml
AUTO, OFF = -1, 0  # kinds of scaling, pooling, attention and, the fourth, of flash attention
BEFORE_TYPES = 64  # bytes of llama_context_params that lie before the types of keys and values


def library() -> Path | None:
    """The shared object, or None where the package is not installed."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).with_name(LIBRARY)
    return path if path.is_file() else None


def version() -> str:
    from importlib.metadata import version as installed

    return f"llama.cpp ({PACKAGE} {installed(PACKAGE)})"


class LlamaCpp:
    """A GGUF file in a process of llama.cpp: ``with LlamaCpp(path, vocab) as run: run(ids)``; raises OSError where that ends."""

    def __init__(self, path: Path, vocab_size: int) -> None:
        self._vocab = vocab_size
        self._process = subprocess.Popen(
            [sys.executable, "-m", "nas_bo.export.llamacpp", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def __call__(self, ids: list[int]) -> Logits:
        """(tokens, vocabulary) logits."""
        data = self._asked({"ids": ids}, 4 * len(ids) * self._vocab)
        return np.frombuffer(data, np.float32).reshape(len(ids), self._vocab)

    def tokenized(self, text: str) -> list[int]:
        """The token ids that llama.cpp makes of a text."""
        count = int.from_bytes(self._asked({"text": text}, 4), "little")
        return list(np.frombuffer(self._read(4 * count), np.int32).tolist())

    def _asked(self, what: dict[str, Any], size: int) -> bytes:
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(json.dumps(what).encode() + b"\n")
        stdin.flush()
        return self._read(size)

    def _read(self, size: int) -> bytes:
        stdout = self._process.stdout
        assert stdout is not None
        data = stdout.read(size)
        if len(data) != size:
            raise OSError(f"llama.cpp ended with code {self._process.wait()}")
        return data


# ---- in that process ---------------------------------------------------------------------------------------------------


class _Parameters(ctypes.Structure):
    """Room for any structure of parameters: whoever is given it by value reads as much as it knows."""

    _fields_ = [("words", ctypes.c_int32 * 256)]


class _Batch(ctypes.Structure):
    _fields_ = [
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.POINTER(ctypes.c_int32)),
        ("embd", ctypes.c_void_p),
        ("pos", ctypes.POINTER(ctypes.c_int32)),
        ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    ]


def _exact(parameters: _Parameters) -> None:
    """Keys and values in float32 instead of the float16 that is the default, and no kernel that rounds them (flash attention): both
    fields are found by what is in them."""
    first = BEFORE_TYPES // 4
    pairs = [i for i in range(first, 60, 2) if list(parameters.words[i : i + 2]) == [F16, F16]]
    if len(pairs) == 1:
        parameters.words[pairs[0]] = parameters.words[pairs[0] + 1] = F32
    unsaid = [i for i in range(first) if list(parameters.words[i : i + 4]) == [AUTO] * 4]
    if len(unsaid) == 1:
        parameters.words[unsaid[0] + 3] = OFF


def _serve(path: str) -> None:
    found = library()
    assert found is not None
    lib = ctypes.CDLL(str(found))
    pointer = ctypes.c_void_p
    for name, result, arguments in (
        ("llama_model_default_params", _Parameters, []),
        ("llama_context_default_params", _Parameters, []),
        ("llama_model_load_from_file", pointer, [ctypes.c_char_p, _Parameters]),
        ("llama_init_from_model", pointer, [pointer, _Parameters]),
        ("llama_set_n_threads", None, [pointer, ctypes.c_int32, ctypes.c_int32]),
        ("llama_batch_init", _Batch, [ctypes.c_int32] * 3),
        ("llama_decode", ctypes.c_int32, [pointer, _Batch]),
        ("llama_get_logits", ctypes.POINTER(ctypes.c_float), [pointer]),
        ("llama_get_memory", pointer, [pointer]),
        ("llama_memory_clear", None, [pointer, ctypes.c_bool]),
        ("llama_model_get_vocab", pointer, [pointer]),
        ("llama_vocab_n_tokens", ctypes.c_int32, [pointer]),
        ("llama_tokenize", ctypes.c_int32, [pointer, ctypes.c_char_p, ctypes.c_int32, ctypes.POINTER(ctypes.c_int32), ctypes.c_int32, ctypes.c_bool, ctypes.c_bool]),
    ):  # fmt: skip
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    lib.llama_backend_init()
    model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
    if not model:
        sys.exit(3)
    parameters = lib.llama_context_default_params()
    _exact(parameters)
    context = lib.llama_init_from_model(model, parameters)
    if not context:
        sys.exit(4)
    lib.llama_set_n_threads(context, 1, 1)
    vocab = lib.llama_model_get_vocab(model)
    size = lib.llama_vocab_n_tokens(vocab)
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        if "text" in asked:
            text = asked["text"].encode()
            room = (ctypes.c_int32 * (len(text) + 16))()
            count = lib.llama_tokenize(vocab, text, len(text), room, len(room), False, False)
            sys.stdout.buffer.write(max(0, count).to_bytes(4, "little") + bytes(room)[: 4 * max(0, count)])
        else:
            ids = asked["ids"]
            batch = lib.llama_batch_init(len(ids), 0, 1)
            batch.n_tokens = len(ids)
            for i, one in enumerate(ids):
                batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = one, i, 1, 1
                batch.seq_id[i][0] = 0
            lib.llama_memory_clear(lib.llama_get_memory(context), True)
            if lib.llama_decode(context, batch) != 0:
                sys.exit(5)
            data = ctypes.string_at(lib.llama_get_logits(context), 4 * len(ids) * size)
            sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _serve(sys.argv[1])
