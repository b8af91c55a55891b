"""Hybrids: full, windowed or linear attention, or convolution, chosen for each layer."""

from nas_bo.model import attention, conv, dense, linear_attention
from nas_bo.space import Space, choice, integer, repeat


class Hybrid(Space):
    """Six to twenty layers; where long contexts are served, each layer's state is what costs."""

    depth = integer(6, 20, step=2)
    width = choice(256, 384, 512, 768)
    layers = repeat(
        depth,
        mixer=choice(
            attention(heads=choice(4, 8), kv_group=choice(1, 2, 4), head_dim=64, window=choice(None, 256, 1024)),
            linear_attention(heads=choice(4, 8), head_dim=64),
            conv(kernel=choice(4, 8, 16)),
        ),
        mlp=dense(ratio=choice(1.5, 2, 3, 4), activation=choice("gelu", "silu", "relu2"), gated=True),
    )
