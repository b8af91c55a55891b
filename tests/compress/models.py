"""Small decoders for the tests of compression, and one that has learned something."""

from __future__ import annotations

from functools import lru_cache

import torch

from nas_bo.architecture import Architecture, Node
from nas_bo.model import Corpus, build, train
from tests.model.architectures import CONV, SKIP, block, decoder, layer

ATTENTION = block("attention", heads=4, kv_group=2, head_dim=8)
DENSE = block("dense", ratio=2, activation="silu", gated=True)
MOE = block("moe", experts=4, top_k=2, ratio=1, gated=True)
EVERYTHING = decoder(
    layer(ATTENTION, DENSE),
    layer(block("attention", heads=2, qk_norm="whole", sinks=True), MOE),
    layer(block("linear_attention", heads=2), block("dense", ratio=1.5)),
    layer(block("ssm", heads=4, head_dim=8), SKIP),
    layer(block("gated_delta", heads=4), block("moe", experts=3, top_k=1, ratio=1)),
    layer(block("latent_attention", heads=4, latent=12), DENSE),
    layer(CONV, block("dense", ratio=2, activation="relu2")),
    bias=True,
    tied=False,
)
PLAIN = decoder(*[layer(ATTENTION, DENSE)] * 2, norm="rms")


def made(tree: Node, seed: int = 0, vocab_size: int = 64):
    return build(tree, vocab_size, generator=torch.Generator().manual_seed(seed)).eval()


def arch(tree: Node) -> Architecture:
    return Architecture(tree, {})


def tokens(count: int = 40, length: int = 33, vocab_size: int = 64) -> torch.Tensor:
    return torch.randint(0, vocab_size, (count, length), generator=torch.Generator().manual_seed(1))


@lru_cache(1)
def text() -> Corpus:
    """Words of a small language, 64 symbols: learned within seconds."""
    import numpy as np

    rng = np.random.default_rng(0)
    words = [rng.integers(1, 64, rng.integers(2, 7)) for _ in range(40)]
    chosen = [words[i] for i in rng.choice(40, 9000, p=rng.dirichlet(np.full(40, 0.5)))]
    stream = np.concatenate([np.append(word, 0) for word in chosen]).astype(np.uint8)
    cut = len(stream) * 9 // 10
    return Corpus("words", stream[:cut], stream[cut:], 64, cut, len(stream) - cut)


@lru_cache(4)
def learned(tree: Node = PLAIN):
    """A model that was trained on `text`."""
    return train(tree, text(), 60_000, lr=5e-3, batch_size=16, sequence=32, threads=1, evaluation_tokens=2048).model
