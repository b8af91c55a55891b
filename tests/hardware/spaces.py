"""A space with every block of the vocabulary, for the tests of this room."""

from nas_bo.model import attention, conv, dense, linear_attention, moe, skip
from nas_bo.space import Space, choice, integer, repeat


class Everything(Space):
    depth = integer(1, 4)
    width = choice(32, 64, 128)
    norm = choice("rms", "layer")
    position = choice("rotary", "none")
    tied = choice(True, False)
    parallel = choice(False, True)
    bias = choice(False, True)
    layers = repeat(
        depth,
        mixer=choice(
            attention(heads=choice(2, 4), kv_group=choice(1, 2), window=choice(None, 16)),
            linear_attention(heads=choice(2, 4)),
            conv(kernel=choice(4, 16)),
            skip(),
        ),
        mlp=choice(
            dense(ratio=choice(1, 2, 4), gated=choice(True, False), activation=choice("gelu", "relu2")),
            moe(experts=choice(2, 4), top_k=choice(1, 2)),
            skip(),
        ),
    )
