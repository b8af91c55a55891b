"""The default space: decoders of 10k to 500k parameters that train in seconds, with a choice of operations per layer."""

from nas_bo.model import attention, conv, dense, skip
from nas_bo.space import Space, choice, integer, repeat


class TinyGPT(Space):
    """One to five layers, each of attention or gated causal convolution, with an MLP or without."""

    depth = integer(1, 5)
    width = choice(32, 48, 64, 96)
    layers = repeat(
        depth,
        mixer=choice(attention(heads=choice(2, 4), kv_group=choice(1, 2)), conv(kernel=choice(4, 8))),
        mlp=choice(dense(ratio=choice(1, 2, 3), gated=True), skip()),
    )
