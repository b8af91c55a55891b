"""Small hybrids that stock tools load: every architecture is a plain LFM2 (Liquid AI 2025, arXiv 2511.23404) in transformers and in
llama.cpp."""

from nas_bo.model import attention, conv, dense
from nas_bo.space import Space, choice, integer, repeat, require


class Lfm2Tiny(Space):
    """Two to eight layers, each of attention with normed queries and keys or of a convolution with two linear gates."""

    depth = integer(2, 8)
    width = choice(32, 48, 64, 96)
    layers = repeat(
        depth,
        mixer=choice(attention(heads=4, kv_group=2, qk_norm="head"), conv(kernel=3, gates="linear2")),
        mlp=dense(ratio=2, activation="silu", gated=True),
    )

    @require
    def some_layer_has_attention(arch):
        return any("heads" in layer.mixer for layer in arch.layers)
