"""The default space with every way that a token can see those before it: softmax, latent and linear attention, the gated delta rule,
a state space, and short convolutions with one gate or two."""

from nas_bo.model import attention, conv, dense, gated_delta, latent_attention, linear_attention, skip, ssm
from nas_bo.space import Space, choice, integer, repeat


class Mixers(Space):
    """One to five layers as in `TinyGPT`, with six kinds of mixers."""

    depth = integer(1, 5)
    width = choice(32, 48, 64, 96)
    layers = repeat(
        depth,
        mixer=choice(
            attention(heads=choice(2, 4), kv_group=choice(1, 2)),
            latent_attention(heads=choice(2, 4), latent=choice(8, 16)),
            linear_attention(heads=choice(2, 4)),
            gated_delta(heads=choice(2, 4)),
            ssm(heads=choice(2, 4), state=choice(8, 16)),
            conv(kernel=choice(4, 8), gates=choice("silu", "linear2")),
        ),
        mlp=choice(dense(ratio=choice(1, 2, 3), gated=True), skip()),
    )
