"""Mixtures of experts: which layers route, among how many experts, and how many of them see each token."""

from nas_bo.model import attention, dense, moe
from nas_bo.space import Space, choice, integer, repeat


class MoE(Space):
    """Dense and mixture layers side by side, under attention with grouped queries."""

    depth = integer(4, 16, step=2)
    width = choice(256, 384, 512, 768)
    layers = repeat(
        depth,
        mixer=attention(heads=choice(4, 8), kv_group=choice(1, 2, 4), head_dim=64),
        mlp=choice(
            dense(ratio=choice(2, 3, 4), activation="silu", gated=True),
            moe(experts=choice(4, 8, 16), top_k=choice(1, 2), ratio=choice(0.5, 1, 2), activation="silu", gated=True),
        ),
    )
