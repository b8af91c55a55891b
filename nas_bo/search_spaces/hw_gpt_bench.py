"""The published spaces of HW-GPT-Bench (Sukthanker et al., NeurIPS 2024 Datasets and Benchmarks, arXiv 2405.10299).

GPT-2-like decoders at three scales: width, depth and bias for the whole model, heads and MLP ratio per layer. The
choices are the published ones. The head dimension is our reading: 64, that of the largest network, since the published
head counts do not divide every published width.
"""

from nas_bo.model import attention, dense
from nas_bo.space import Space, choice, integer, repeat
from nas_bo.space.domain import Choice, Integer, Repeat


def _layers(depth: Integer, heads: Choice) -> Repeat:
    return repeat(depth, mixer=attention(heads=heads, head_dim=64), mlp=dense(ratio=choice(2, 3, 4)))


class HWGPTBenchS(Space):
    """GPT-S: 1.9e12 architectures."""

    width = choice(192, 384, 768)
    depth = integer(10, 12)
    bias = choice(True, False)
    norm = "layer"
    tied = False
    layers = _layers(depth, choice(4, 8, 12))


class HWGPTBenchM(Space):
    """GPT-M."""

    width = choice(256, 512, 1024)
    depth = integer(22, 24)
    bias = choice(True, False)
    norm = "layer"
    tied = False
    layers = _layers(depth, choice(8, 12, 16))


class HWGPTBenchL(Space):
    """GPT-L."""

    width = choice(320, 640, 1280)
    depth = integer(34, 36)
    bias = choice(True, False)
    norm = "layer"
    tied = False
    layers = _layers(depth, choice(8, 16, 20))
