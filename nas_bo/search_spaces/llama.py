"""Llama-like decoders of about 50 to 300 million parameters (with a vocabulary of 32k): grouped queries, gated MLPs."""

from nas_bo.model import attention, dense
from nas_bo.space import Space, choice, integer, repeat


class Llama(Space):
    """Depth, width, and per layer the query heads (of 64 values), the key/value group and the MLP ratio."""

    depth = integer(8, 24, step=2)
    width = choice(512, 640, 768, 1024)
    tied = True
    layers = repeat(
        depth,
        mixer=attention(heads=choice(8, 12, 16), kv_group=choice(1, 2, 4), head_dim=64),
        mlp=dense(ratio=choice(2, 2.5, 3, 3.5, 4), activation="silu", gated=True),
    )


class LlamaUniform(Space):
    """The same with all layers alike, as stock classes have them: every architecture is a plain Llama, in transformers and in llama.cpp."""

    depth = integer(8, 24, step=2)
    width = choice(512, 640, 768, 1024)
    tied = True
    mixer = attention(heads=choice(8, 12, 16), kv_group=choice(1, 2, 4), head_dim=64)
    mlp = dense(ratio=choice(2, 2.5, 3, 3.5, 4), activation="silu", gated=True)
