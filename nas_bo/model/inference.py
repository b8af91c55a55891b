"""Using a trained decoder: bits per byte on held-out text, and generation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_bo import measurement_lock
from nas_bo.errors import DataError, ModelError
from nas_bo.model.data import Corpus
from nas_bo.model.decoder import Decoder
from nas_bo.model.schedule import EVALUATION_TOKENS

LOGITS = 1 << 26  # of one pass that looks at all of them


def rows_of_pass(sequence: int, vocab_size: int) -> int:
    """Windows that are read at once: 4,096 tokens, fewer where their logits would take more than 256 MB."""
    return max(1, min(4096, LOGITS // vocab_size) // sequence)


@torch.inference_mode()
def evaluate(
    model: Decoder,
    corpus: Corpus,
    tokens: int = EVALUATION_TOKENS,
    sequence: int = 64,
    *,
    bf16: bool = False,
    threads: int | None = 1,
) -> float:
    """Bits per byte of held-out text: on about `tokens` tokens in windows of `sequence` tokens, evenly spaced and the
    same for every model. Each window starts without a past. Bits per token are divided by the corpus's mean bytes per
    token.

    Raises:
        DataError: the validation text is shorter than one window, or its vocabulary larger than the model's.
    """
    device = model.embedding.weight.device
    total = torch.zeros((), dtype=torch.float64, device=device)

    def look(batch: Tensor) -> None:
        _, nll = model.loss(batch[:, :-1], batch[:, 1:])
        total.add_(nll.double() * len(batch))

    check_vocabulary(model, corpus)
    windows = corpus.held_out(tokens, sequence)
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        _read(model, windows, threads, look)
    return float(total) / len(windows) / math.log(2) / corpus.bytes_per_token


def _read(model: Decoder, windows: NDArray[np.integer], threads: int | None, look: Callable[[Tensor], object]) -> None:
    """Show windows (W, T + 1) to `look`, some at a time, with the model in evaluation mode."""
    device, rows = model.embedding.weight.device, rows_of_pass(windows.shape[1] - 1, model.vocab_size)
    with evaluating(model), torch_threads(threads), measurement_lock.working() as step:
        for start in range(0, len(windows), rows):
            step()
            look(as_tensor(windows[start : start + rows], device))


def window_losses(model: Decoder, corpus: Corpus, tokens: int, sequence: int = 64, threads: int | None = 1) -> Tensor:
    """Bits per byte of each window of about `tokens` tokens of held-out text, (windows,) in float64: to compare two models window by
    window.

    Raises:
        DataError: as `evaluate`.
    """
    check_vocabulary(model, corpus)
    return losses(model, corpus.held_out(tokens, sequence), corpus, threads)


@torch.inference_mode()
def losses(model: Decoder, windows: NDArray[np.integer], corpus: Corpus, threads: int | None = 1) -> Tensor:
    """(W, T + 1) token ids -> (W,) bits per byte of each window, in float64; `corpus` says what a token stands for."""
    found: list[Tensor] = []

    def each(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        nats = F.cross_entropy(logits.float(), targets, reduction="none")
        found.append(nats.view(-1, windows.shape[1] - 1).double().mean(1))
        return nats.mean(), nats.mean()

    _read(model, windows, threads, lambda batch: model.loss(batch[:, :-1], batch[:, 1:], each))
    return torch.cat(found).cpu() / math.log(2) / corpus.bytes_per_token


@torch.inference_mode()
def generate(
    model: Decoder,
    prompt: Tensor,
    n: int,
    *,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Continue `prompt` (B, T >= 1) by `n` tokens: (B, T + n), one cached call per token.

    `temperature` 0 takes the most probable token. `generator` (on the model's device) draws; None is torch's own.

    Raises:
        ModelError: the prompt is empty, or n is negative.
    """
    if prompt.dim() != 2 or prompt.shape[1] < 1 or n < 0:
        raise ModelError(
            f"generate got a prompt of shape {tuple(prompt.shape)} and n={n}; it needs (batch, at least 1) and n >= 0"
        )
    cache = model.new_cache(prompt.shape[0], prompt.shape[1] + n)
    tokens, pieces = prompt, [prompt]
    for _ in range(n):
        logits = model(tokens, cache=cache)[:, -1].float()
        if temperature == 0:
            tokens = logits.argmax(-1, keepdim=True)
        else:
            tokens = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)
        pieces.append(tokens)
    return torch.cat(pieces, 1)


def as_tensor(tokens: NDArray[np.integer], device: torch.device) -> Tensor:
    # One copy of narrow integers, widened where they are used.
    narrow = tokens if tokens.dtype.name in ("uint8", "int32", "int64") else tokens.astype("int32")
    found = torch.from_numpy(narrow)
    if device.type == "cuda":
        found = found.pin_memory()  # else the copy waits for all that the device has to do
    return found.to(device, non_blocking=True).long()


def check_vocabulary(model: Decoder, corpus: Corpus) -> None:
    if model.vocab_size < corpus.vocab_size:
        raise DataError(
            f"the corpus {corpus.name!r} has {corpus.vocab_size} token ids and the model only {model.vocab_size}; "
            "build the model with the vocab_size of the corpus"
        )


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model is in evaluation mode inside, and afterwards as it was."""
    was = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was)


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        if count is not None:
            torch.set_num_threads(before)
