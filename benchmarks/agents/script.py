"""The fixed training script: one decoder in plain torch, fourteen settings, an equal amount of computing for each.

It stands for the `train.py` that an agent edits: nothing of nas_bo is in it. A run has a budget of floating-point operations, so a larger model
makes fewer steps; the value is bits per byte on held-out bytes. A run whose peak memory is beyond the limit ends at once and has no value. Memory is
counted, not measured: weights, gradients, the two moments of AdamW, and activations that are kept for the backward pass.
"""

from __future__ import annotations

import math
import sysconfig
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

Settings = dict[str, int | float | str]
BASELINE: Settings = {
    "depth": 3, "width": 64, "heads": 4, "ratio": 4, "activation": "gelu", "norm": "rms", "tied": "yes", "position": "rope",
    "sequence": 64, "batch": 16, "lr": 1e-3, "warmup": 0.1, "decay": 0.1, "beta2": 0.95,
}  # fmt: skip
HELD_OUT, VOCAB = 8192, 256


class OutOfMemory(RuntimeError):
    """The run would need more memory than there is."""


def weights(s: Settings) -> int:
    d, gated = int(s["width"]), s["activation"] == "silu"
    layer = 4 * d * d + (3 if gated else 2) * int(s["ratio"]) * d * d + 2 * d
    positions = int(s["sequence"]) * d if s["position"] == "learned" else 0
    return int(s["depth"]) * layer + (1 if s["tied"] == "yes" else 2) * VOCAB * d + d + positions


def peak_mb(s: Settings) -> float:
    """MB at the peak of a training step: float32, 16 bytes a weight, and what the backward pass keeps."""
    d, tokens = int(s["width"]), int(s["batch"]) * int(s["sequence"])
    gated = s["activation"] == "silu"
    kept = int(s["depth"]) * (8 * d + (3 if gated else 2) * int(s["ratio"]) * d) + 2 * d + 2 * VOCAB
    scores = int(s["depth"]) * int(s["batch"]) * int(s["heads"]) * int(s["sequence"]) ** 2
    return (16 * weights(s) + 4 * (tokens * kept + 2 * scores)) / 1e6


class Block(nn.Module):
    def __init__(self, s: Settings) -> None:
        super().__init__()
        d, self.heads, self.rope = int(s["width"]), int(s["heads"]), s["position"] == "rope"
        hidden = int(s["ratio"]) * d
        self.norm1, self.norm2 = (nn.RMSNorm(d) if s["norm"] == "rms" else nn.LayerNorm(d) for _ in range(2))
        self.qkv, self.out = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
        self.gate = nn.Linear(d, hidden, bias=False) if s["activation"] == "silu" else None
        self.up, self.down = nn.Linear(d, hidden, bias=False), nn.Linear(hidden, d, bias=False)
        self.activation = s["activation"]

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (batch, time, width)
        b, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        if self.rope:
            q, k = turned(q), turned(k)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, d))
        h = self.norm2(x)
        if self.gate is not None:
            return x + self.down(F.silu(self.gate(h)) * self.up(h))
        h = self.up(h)
        return x + self.down(F.gelu(h) if self.activation == "gelu" else F.relu(h).square())


def turned(x: torch.Tensor) -> torch.Tensor:
    """Rotary positions; x is (batch, heads, time, size)."""
    half = x.shape[-1] // 2
    rates = 10_000.0 ** (-torch.arange(half) / half)
    angle = torch.arange(x.shape[-2])[:, None] * rates
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)


class Decoder(nn.Module):
    def __init__(self, s: Settings) -> None:
        super().__init__()
        d = int(s["width"])
        self.embed = nn.Embedding(VOCAB, d)
        self.places = nn.Parameter(torch.zeros(int(s["sequence"]), d)) if s["position"] == "learned" else None
        self.blocks = nn.ModuleList(Block(s) for _ in range(int(s["depth"])))
        self.norm, self.head = nn.RMSNorm(d), nn.Linear(d, VOCAB, bias=False)
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.02 if p is self.embed.weight else p.shape[-1] ** -0.5)
        if s["tied"] == "yes":
            self.head.weight = self.embed.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        x = x if self.places is None else x + self.places[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


@lru_cache
def text() -> tuple[torch.Tensor, torch.Tensor]:
    """(bytes to train on, held-out bytes): modules of Python's standard library."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    data = torch.frombuffer(bytearray(b"".join(p.read_bytes() for p in files[:60])), dtype=torch.uint8).long()
    return data[:-HELD_OUT], data[-HELD_OUT:]


def train(s: Settings, flops: float, limit_mb: float, seed: int = 0) -> float:
    """Bits per byte after a training of `flops` operations (raises OutOfMemory; inf where it diverged)."""
    if peak_mb(s) > limit_mb:
        raise OutOfMemory(f"{peak_mb(s):.0f} MB are needed and there are {limit_mb:.0f}")
    torch.manual_seed(seed)
    model, (train_on, held_out) = Decoder(s), text()
    t, b = int(s["sequence"]), int(s["batch"])
    steps = max(4, int(flops / (6 * weights(s) * b * t)))
    optimizer = torch.optim.AdamW(
        model.parameters(), float(s["lr"]), betas=(0.9, float(s["beta2"])), weight_decay=float(s["decay"])
    )
    warm = max(1, int(float(s["warmup"]) * steps))
    for step in range(steps):
        scale = min(1.0, (step + 1) / warm) * (1.0 - max(0, step - warm) / steps)
        for group in optimizer.param_groups:
            group["lr"] = float(s["lr"]) * scale
        at = torch.randint(len(train_on) - t - 1, (b,))
        pieces = torch.stack([train_on[i : i + t + 1] for i in at.tolist()])
        loss = F.cross_entropy(model(pieces[:, :-1]).flatten(0, 1), pieces[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    with torch.no_grad():
        rows = held_out[: (HELD_OUT - 1) // t * t + 1]
        logits = model(rows[:-1].view(-1, t))
        nats = F.cross_entropy(logits.flatten(0, 1), rows[1:]).item()
    return nats / math.log(2) if math.isfinite(nats) else math.inf
