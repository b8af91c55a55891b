"""The mixers of 2024 and later against their papers' formulas, written out token by token, and against transformers where it has
them."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from nas_bo.errors import ModelError
from nas_bo.model import build, check, conv, skip, train_many
from nas_bo.model.layers.gated_delta import delta, unit
from nas_bo.model.layers.linear_attention import scan
from nas_bo.space import Space, repeat
from tests.model.architectures import SKIP, block, decoder, layer


def test_the_delta_rule_is_the_recurrence_of_the_paper() -> None:
    g = torch.Generator().manual_seed(3)
    q, k, v = torch.randn(3, 1, 2, 130, 4, generator=g, dtype=torch.float64)
    k = unit(k)
    decay = -torch.rand(1, 2, 130, generator=g, dtype=torch.float64)
    write = torch.rand(1, 2, 130, generator=g, dtype=torch.float64)
    state = torch.zeros(1, 2, 4, 4, dtype=torch.float64)
    expected = []
    for t in range(130):
        state = state * decay[:, :, t, None, None].exp()
        there = (k[:, :, t, None] @ state).squeeze(2)
        state = state + k[:, :, t, :, None] * (write[:, :, t, None] * (v[:, :, t] - there))[:, :, None, :]
        expected.append((q[:, :, t, None] @ state).squeeze(2))
    pieces, carried = [], None
    for at in (slice(0, 64), slice(64, 128), slice(128, 130)):
        y, carried = delta(q[:, :, at], k[:, :, at], v[:, :, at], decay[:, :, at], write[:, :, at], carried, True)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, 2), torch.stack(expected, 2))
    torch.testing.assert_close(carried, state)


def test_heads_that_share_their_vectors_scan_as_the_recurrence() -> None:
    g = torch.Generator().manual_seed(3)
    c, b = torch.randn(2, 1, 1, 70, 5, generator=g, dtype=torch.float64)
    v = torch.randn(1, 2, 70, 3, generator=g, dtype=torch.float64)
    decay = -torch.rand(1, 2, 70, generator=g, dtype=torch.float64)
    state = torch.zeros(1, 2, 5, 3, dtype=torch.float64)
    expected = []
    for t in range(70):
        state = state * decay[:, :, t, None, None].exp() + b[:, :, t, :, None] * v[:, :, t, None, :]
        expected.append((c[:, :, t, None] @ state).squeeze(2))
    first, carried = scan(c[:, :, :64], b[:, :, :64], v[:, :, :64], decay[:, :, :64], None, True)
    second, last = scan(c[:, :, 64:], b[:, :, 64:], v[:, :, 64:], decay[:, :, 64:], carried, True)
    torch.testing.assert_close(torch.cat((first, second), 2), torch.stack(expected, 2))
    torch.testing.assert_close(last, state)


def _only(mixer, width=16, **fields):
    return build(decoder(layer(mixer, SKIP), width=width, **fields), 11, dtype=torch.float64).layers[0].mixer


def test_linear_gates_are_the_convolution_of_lfm2() -> None:
    pytest.importorskip("transformers")
    from transformers import Lfm2Config
    from transformers.models.lfm2.modeling_lfm2 import Lfm2ShortConv

    config = Lfm2Config(hidden_size=16, conv_L_cache=3, conv_bias=False)
    theirs = Lfm2ShortConv(config, 0).double()
    ours = _only(block("conv", kernel=3, gates="linear2"))
    theirs.in_proj.weight.data = ours.proj.weight.data
    theirs.conv.weight.data = ours.taps.data.unsqueeze(1)
    theirs.out_proj.weight.data = ours.out.weight.data
    x = torch.randn(2, 9, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(x, None)[0], theirs(x))


def test_the_state_space_is_that_of_mamba_2() -> None:
    pytest.importorskip("transformers")
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    config = Mamba2Config(hidden_size=16, num_heads=4, head_dim=8, state_size=6, n_groups=1, conv_kernel=4, expand=2,
                          use_bias=False, use_conv_bias=False, chunk_size=8, layer_norm_epsilon=1e-6,
                          time_step_limit=(0.0, float("inf")))  # fmt: skip
    theirs = Mamba2Mixer(config, 0)
    ours = _only(block("ssm", heads=4, head_dim=8, state=6)).float()
    with torch.no_grad():
        for one in (ours.log_decay, ours.step_bias, ours.through, ours.gain):
            one.copy_(torch.randn(one.shape, generator=torch.Generator().manual_seed(1)))
        theirs.in_proj.weight.copy_(ours.proj.weight)
        theirs.conv1d.weight.copy_(ours.taps.unsqueeze(1))
        theirs.A_log.copy_(ours.log_decay)
        theirs.dt_bias.copy_(ours.step_bias)
        theirs.D.copy_(ours.through)
        theirs.norm.weight.copy_(ours.gain)
        theirs.out_proj.weight.copy_(ours.out.weight)
        x = torch.randn(2, 21, 16, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(ours(x, None)[0], theirs(x), rtol=1e-3, atol=1e-4)


def test_latent_attention_is_attention_with_made_keys() -> None:
    mixer = _only(block("latent_attention", heads=2, latent=5, head_dim=4), position="none")
    x = torch.randn(1, 7, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    q, latent = (x @ mixer.qc.weight.t()).split((8, 5), -1)
    latent = F.rms_norm(latent, (5,), eps=1e-6)
    k, v = (latent @ mixer.up.weight.t()).split(8, -1)
    q, k, v = (one.view(1, 7, 2, 4).transpose(1, 2) for one in (q, k, v))
    scores = (q @ k.transpose(2, 3) / math.sqrt(4)).masked_fill(torch.ones(7, 7, dtype=torch.bool).triu(1), -math.inf)
    expected = (scores.softmax(-1) @ v).transpose(1, 2).reshape(1, 7, 8) @ mixer.out.weight.t()

    class Context:
        start = 0

        def mask(self, keys, window):
            return None

    torch.testing.assert_close(mixer(x, Context())[0], expected)


def test_the_cache_of_latents_is_smaller() -> None:
    from nas_bo.model import kv_cache_bytes

    latents = decoder(layer(block("latent_attention", heads=4, latent=8), SKIP), width=64)
    keys = decoder(layer(block("attention", heads=4), SKIP), width=64)
    assert kv_cache_bytes(latents, 100) == 100 * (8 + 8) * 2 and kv_cache_bytes(keys, 100) == 100 * 128 * 2


def test_gates_are_checked_and_stay_out_of_old_ids() -> None:
    with pytest.raises(ModelError, match=r"gates='linear'.*did you mean 'linear2'.*one of silu, linear2"):
        check(decoder(layer(block("conv", kernel=3, gates="linear"), SKIP)))

    class Old(Space):
        width = 16
        layers = repeat(1, mixer=conv(kernel=3), mlp=skip())

    class New(Space):
        width = 16
        layers = repeat(1, mixer=conv(kernel=3, gates="silu"), mlp=skip())

    assert Old.sample(0).id == New.sample(0).id


@pytest.mark.parametrize(
    "fields, why",
    [
        (block("latent_attention", heads=2, latent=0), "latent=0"),
        (block("latent_attention", heads=2, latent=4, turned=3), "turned=3.*even"),
        (block("latent_attention", heads=3, latent=4), "heads=3 does not divide"),
        (block("gated_delta", heads=2, kernel=0), "kernel=0"),
        (block("gated_delta", heads=3), "heads=3 does not divide"),
        (block("ssm", heads=3), r"heads=3 does not divide 2 \* width=64"),
        (block("ssm", heads=2, state=1.5), "state=1.5"),
    ],
)
def test_bad_values_are_refused(fields, why) -> None:
    with pytest.raises(ModelError, match=why):
        check(decoder(layer(fields, SKIP)))


@pytest.mark.parametrize("kind", ["gated_delta", "ssm", "latent_attention"])
def test_runs_of_one_shape_are_stacked(kind, tmp_path) -> None:
    from nas_bo.model import load_corpus
    from tests.compatibility.spaces import text

    corpus = load_corpus(text(tmp_path / "words.txt"))
    mixer = block(kind, heads=2, **({"latent": 4} if kind == "latent_attention" else {}))
    arch = decoder(layer(mixer, SKIP), width=16)
    alone = train_many([arch, arch], corpus, 4096, [0, 1], together=1, evaluation_tokens=2048)
    stacked = train_many([arch, arch], corpus, 4096, [0, 1], together=2, evaluation_tokens=2048)
    for one, two in zip(alone, stacked, strict=True):
        assert one.bits_per_byte == pytest.approx(two.bits_per_byte, rel=1e-3)
