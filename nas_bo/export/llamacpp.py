"""llama.cpp: logits of a GGUF file from a process of its own, which may crash without taking this one with it; and, where times are
measured, in this one.

The library is that of the package xllamacpp, whose shared object has the C functions of llama.cpp. It checks exports, rounds weights
to its types, and is a runtime of `nas_bo.hardware.runtimes`.
Structures of parameters are taken as llama.cpp fills them, whatever is in them, so that their layout need not be known.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from nas_bo.export.check import Logits

PACKAGE, LIBRARY = "xllamacpp", "xllamacpp.abi3.so"
F16, F32 = 1, 0  # of ggml
AUTO, OFF = -1, 0  # kinds of scaling, pooling, attention and, the fourth, of flash attention
LENGTH = 512  # tokens of a sequence, where nobody says more
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
    """A GGUF file in a process of llama.cpp: ``with LlamaCpp(path, vocab) as run: run(ids)``; raises OSError where that ends.

    Without a file it only quantises.
    """

    def __init__(self, path: Path | None, vocab_size: int = 0) -> None:
        self._vocab = vocab_size
        self._process = subprocess.Popen(
            [sys.executable, "-m", "nas_bo.export.llamacpp", *([] if path is None else [str(path)])],
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

    def one_by_one(self, ids: list[int], first: int) -> Logits:
        """The same where the tokens after the `first` ones go in one by one."""
        data = self._asked({"ids": ids, "first": first}, 4 * len(ids) * self._vocab)
        return np.frombuffer(data, np.float32).reshape(len(ids), self._vocab)

    def tokenized(self, text: str) -> list[int]:
        """The token ids that llama.cpp makes of a text."""
        count = int.from_bytes(self._asked({"text": text}, 4), "little")
        return list(np.frombuffer(self._read(4 * count), np.int32).tolist())

    def quantized(self, array: Logits, kind: int, row_bytes: int) -> Logits:
        """(rows, columns) of float32 as (rows, row_bytes) of a type of ggml."""
        rows, columns = array.shape
        data = np.ascontiguousarray(array, np.float32).tobytes()
        found = self._asked({"kind": kind, "rows": rows, "columns": columns}, rows * row_bytes, data)
        return np.frombuffer(found, np.uint8).reshape(rows, row_bytes)

    def _asked(self, what: dict[str, object], size: int, data: bytes = b"") -> bytes:
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(json.dumps(what).encode() + b"\n" + data)
            stdin.flush()
        except BrokenPipeError:
            raise OSError(f"llama.cpp ended with code {self._process.wait()}") from None
        return self._read(size)

    def _read(self, size: int) -> bytes:
        stdout = self._process.stdout
        assert stdout is not None
        data = stdout.read(size)
        if len(data) != size:
            raise OSError(f"llama.cpp ended with code {self._process.wait()}")
        return data


# ---- in the process that runs it ---------------------------------------------------------------------------------------


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


_Said = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_SILENT = _Said(lambda level, text, data: None)  # kept: the library calls it


@cache
def loaded() -> Any:
    """The library with the types of what is used of it, which says nothing (raises OSError where it is not installed)."""
    found = library()
    if found is None:
        raise OSError(f"the package {PACKAGE} is not installed")
    lib = ctypes.CDLL(str(found))
    pointer, whole, long = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
    for name, result, arguments in (
        ("llama_log_set", None, [_Said, pointer]),
        ("llama_backend_init", None, []),
        ("llama_model_default_params", _Parameters, []),
        ("llama_context_default_params", _Parameters, []),
        ("llama_model_load_from_file", pointer, [ctypes.c_char_p, _Parameters]),
        ("llama_model_free", None, [pointer]),
        ("llama_init_from_model", pointer, [pointer, _Parameters]),
        ("llama_free", None, [pointer]),
        ("llama_set_n_threads", None, [pointer, whole, whole]),
        ("llama_batch_init", _Batch, [whole] * 3),
        ("llama_batch_free", None, [_Batch]),
        ("llama_decode", whole, [pointer, _Batch]),
        ("llama_get_logits", ctypes.POINTER(ctypes.c_float), [pointer]),
        ("llama_get_memory", pointer, [pointer]),
        ("llama_memory_clear", None, [pointer, ctypes.c_bool]),
        ("llama_memory_seq_rm", ctypes.c_bool, [pointer, whole, whole, whole]),
        ("llama_model_get_vocab", pointer, [pointer]),
        ("llama_vocab_n_tokens", whole, [pointer]),
        ("llama_tokenize", whole, [pointer, ctypes.c_char_p, whole, ctypes.POINTER(whole), whole, ctypes.c_bool, ctypes.c_bool]),
        ("ggml_row_size", ctypes.c_size_t, [ctypes.c_int, long]),
        ("ggml_quantize_chunk", ctypes.c_size_t, [ctypes.c_int, pointer, pointer, long, long, long, pointer]),
    ):  # fmt: skip
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    lib.llama_log_set(_SILENT, None)
    lib.llama_backend_init()
    return lib


class Loaded:
    """A GGUF file in this process, which a file that llama.cpp cannot read ends.

    Args:
        batch: sequences side by side, of at most `length` tokens each.
        exact: keys and values in float32 instead of the float16 that is llama.cpp's default, and no kernel that rounds them.

    Raises:
        OSError: llama.cpp cannot read the file, or has not enough memory.
    """

    def __init__(self, path: str, batch: int = 1, length: int = LENGTH, threads: int = 1, exact: bool = True) -> None:
        self._context: int | None = None
        self._model: int | None = None
        self._lib = lib = loaded()
        self._model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
        if not self._model:
            raise OSError("llama.cpp cannot read the file")
        parameters = lib.llama_context_default_params()
        _sized(parameters, batch, length)
        if exact:
            _exact(parameters)
        self._context = lib.llama_init_from_model(self._model, parameters)
        if not self._context:
            self.close()
            raise OSError("llama.cpp cannot make room for its context")
        lib.llama_set_n_threads(self._context, threads, threads)
        self._memory = lib.llama_get_memory(self._context)
        self._vocab = lib.llama_model_get_vocab(self._model)
        self.vocab_size: int = lib.llama_vocab_n_tokens(self._vocab)
        self._sequences = batch

    def call(self, tokens: list[list[int]], start: int, last: bool = False) -> Call:
        """A batch of rows of equally many tokens that follow `start` others, ready to be run; with the logits of the `last` of each alone."""
        assert self._context is not None  # it is not closed
        return Call(self._lib, self._context, tokens, start, last)

    def logits(self, count: int) -> bytes:
        """Of all tokens of the last call, float32 as bytes, row after row."""
        return ctypes.string_at(self._lib.llama_get_logits(self._context), 4 * count * self.vocab_size)

    def forget(self, start: int = 0) -> bool:
        """Keep the first `start` tokens; whether it could (states of convolutions cannot be cut: then nothing is kept)."""
        kept = start > 0 and all(
            self._lib.llama_memory_seq_rm(self._memory, one, start, -1) for one in range(self._sequences)
        )
        if not kept:
            self._lib.llama_memory_clear(self._memory, True)
        return kept

    def tokenized(self, text: bytes) -> list[int]:
        room = (ctypes.c_int32 * (len(text) + 16))()
        count = self._lib.llama_tokenize(self._vocab, text, len(text), room, len(room), False, False)
        return list(room[: max(0, count)])

    def close(self) -> None:
        if self._context:
            self._lib.llama_free(self._context)
        if self._model:
            self._lib.llama_model_free(self._model)
        self._context = self._model = None

    def __del__(self) -> None:
        self.close()


class Call:
    """One call of llama.cpp: it decodes the same tokens each time."""

    def __init__(self, lib: Any, context: int, tokens: list[list[int]], start: int, last: bool = False) -> None:
        self._lib, self._context = lib, context
        count = sum(map(len, tokens))
        self._batch = batch = lib.llama_batch_init(count, 0, 1)
        batch.n_tokens = count
        i = 0
        for row, ids in enumerate(tokens):
            for at, one in enumerate(ids, start):
                batch.token[i], batch.pos[i], batch.n_seq_id[i] = one, at, 1
                batch.logits[i] = not last or at == start + len(ids) - 1
                batch.seq_id[i][0] = row
                i += 1

    def __call__(self) -> None:
        code = self._lib.llama_decode(self._context, self._batch)
        if code != 0:
            raise OSError(f"llama.cpp could not decode, with code {code}")

    def __del__(self) -> None:
        self._lib.llama_batch_free(self._batch)


def _sized(parameters: _Parameters, batch: int, length: int) -> None:
    """The first four fields: tokens of all sequences, of a call, of a piece of one, and sequences (raises OSError for other ones)."""
    if list(parameters.words[:4]) != [512, 2048, 512, 1]:
        raise OSError("the parameters of this llama.cpp are not those that are known; please report this")
    tokens = -(-length // 256) * 256 * batch
    parameters.words[0] = tokens
    parameters.words[1] = max(2048, tokens)
    parameters.words[3] = batch


def _exact(parameters: _Parameters) -> None:
    """Both fields are found by what is in them."""
    first = BEFORE_TYPES // 4
    pairs = [i for i in range(first, 60, 2) if list(parameters.words[i : i + 2]) == [F16, F16]]
    if len(pairs) == 1:
        parameters.words[pairs[0]] = parameters.words[pairs[0] + 1] = F32
    unsaid = [i for i in range(first) if list(parameters.words[i : i + 4]) == [AUTO] * 4]
    if len(unsaid) == 1:
        parameters.words[unsaid[0] + 3] = OFF


def quantized(data: bytes, kind: int, rows: int, columns: int) -> bytes:
    """Rows of float32 as a type of ggml."""
    lib = loaded()
    room = ctypes.create_string_buffer(lib.ggml_row_size(kind, columns) * rows)
    size = lib.ggml_quantize_chunk(kind, data, room, 0, rows, columns, None)
    return room.raw[:size]


def _serve(path: str | None) -> None:
    """Answer questions, one JSON line each, until there are no more."""
    model = None if path is None else Loaded(path)
    read, write = sys.stdin.buffer, sys.stdout.buffer
    while line := read.readline():
        asked = json.loads(line)
        if "kind" in asked:
            data = read.read(4 * asked["rows"] * asked["columns"])
            write.write(quantized(data, asked["kind"], asked["rows"], asked["columns"]))
        elif model is not None and "text" in asked:
            ids = model.tokenized(asked["text"].encode())
            write.write(len(ids).to_bytes(4, "little") + (ctypes.c_int32 * len(ids))(*ids))
        elif model is not None:
            ids, first = asked["ids"], asked.get("first", len(asked["ids"]))
            model.forget()
            for start, piece in ((0, ids[:first]), *((first + i, [one]) for i, one in enumerate(ids[first:]))):
                model.call([piece], start)()
                write.write(model.logits(len(piece)))
        write.flush()


if __name__ == "__main__":
    _serve(sys.argv[1] if len(sys.argv) > 1 else None)
