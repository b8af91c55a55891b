"""Small decoders whose layers are connected by more than the residual stream: keys and values of earlier layers, weights that two
layers in a row share, skips from the first half to the second."""

from nas_bo.model import attention, connections_fit, conv, dense
from nas_bo.space import Space, choice, repeat, require


class Connections(Space):
    """Two to six layers, each an attention (with keys and values of its own or of the nearest earlier one) or a convolution."""

    depth = choice(2, 4, 6)
    width = choice(32, 48, 64, 96)
    tie_layers = choice(1, 2)
    long_skips = choice(False, True)
    layers = repeat(
        depth,
        mixer=choice(attention(heads=4, kv_group=2, head_dim=16, share_kv=choice(False, True)), conv(kernel=4)),
        mlp=dense(ratio=2, gated=True),
    )

    @require
    def layers_fit_together(arch):
        return connections_fit(arch)
