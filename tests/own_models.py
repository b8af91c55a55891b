"""A space and torch modules that nas_bo knows nothing of, as a user writes them."""

import torch
from torch import nn

from nas_bo import Space, choice, integer, option, repeat


class Stacks(Space):
    width = choice(16, 32)
    depth = integer(1, 2)
    layers = repeat(depth, cell=choice(option("gru"), option("mlp", ratio=choice(1, 2))))


class Stack(nn.Module):
    """Tied head; returns logits as a tensor."""

    def __init__(self, arch) -> None:
        super().__init__()
        width = arch.width
        self.embed, self.head = nn.Embedding(256, width), nn.Linear(width, 256, bias=False)
        self.head.weight = self.embed.weight
        self.cells = nn.ModuleList(self.cell(layer.cell, width) for layer in arch.layers)

    @staticmethod
    def cell(cell, width):
        if cell.kind == "gru":
            return nn.GRU(width, width, batch_first=True)
        return nn.Sequential(nn.Linear(width, cell.ratio * width), nn.GELU(), nn.Linear(cell.ratio * width, width))

    def forward(self, tokens):
        x = self.embed(tokens)
        for cell in self.cells:
            out = cell(x)
            x = x + (out[0] if isinstance(out, tuple) else out)
        return self.head(x)


class Attention(nn.Module):
    """One layer of attention with a cache; returns (logits, None) as many scripts do."""

    def __init__(self, arch) -> None:
        super().__init__()
        self.embed, self.qkv = nn.Embedding(256, arch.width), nn.Linear(arch.width, 3 * arch.width)
        self.head = nn.Linear(arch.width, 256)

    def new_cache(self, batch, length):
        return {"past": None, "seen": 0}

    def forward(self, tokens, cache=None):
        x = self.embed(tokens)
        q, k, v = self.qkv(x)[:, None].chunk(3, -1)
        if cache is not None:
            if cache["past"] is not None:
                k, v = torch.cat((cache["past"][0], k), 2), torch.cat((cache["past"][1], v), 2)
            cache["past"], cache["seen"] = (k, v), k.shape[2]
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=q.shape[2] > 1)
        return self.head(x + y[:, 0]), None


class OnlyNumbers(Attention):
    """Cannot run on the meta device: it looks at the numbers of its tokens."""

    def forward(self, tokens, cache=None):
        if int(tokens.max()) > 255:
            raise ValueError("no such token")
        return super().forward(tokens, cache)


def broken(arch):
    raise KeyError("no_such_field")


def no_module(arch):
    return "a model"


def huggingface(arch):
    from transformers import LlamaConfig, LlamaForCausalLM

    small = {"hidden_size": arch.width, "intermediate_size": 2 * arch.width, "num_hidden_layers": arch.depth}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64}
    return LlamaForCausalLM(LlamaConfig(vocab_size=256, tie_word_embeddings=True, **small, **heads))
