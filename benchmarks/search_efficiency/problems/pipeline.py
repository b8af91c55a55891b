"""`pipeline`: a synthetic choice among models, conditional on two levels: a support vector machine with one of three kernels, nearest
neighbours, or a network of one to four layers, each with parameters of their own, and an error that is lowest in the branch that looks worst at first.

The best of nearest neighbours is soon found and polished (0.2); well-tuned support vector machines reach 0.12, well-tuned networks `LEAST`.
"""

from __future__ import annotations

import math
from itertools import pairwise

from nas_bo.architecture import Architecture
from nas_bo.space import Space, choice, integer, option, real, repeat

LEAST = 0.1
POINT = 0.4


class Pipeline(Space):
    scaler = choice("none", "standard", "robust")
    model = choice(
        option(
            "svm",
            kernel=choice(
                option("rbf", gamma=real(1e-5, 1e2, log=True)),
                option("poly", degree=integer(2, 5), coef=real(0.0, 3.0)),
                option("linear"),
            ),
            c=real(1e-3, 1e3, log=True),
        ),
        option("knn", k=integer(1, 100, log=True), metric=choice("l1", "l2", "cosine"), weighted=choice(True, False)),
        option(
            "net",
            layers=repeat(integer(1, 4), units=integer(8, 512, log=True), act=choice("relu", "tanh", "gelu")),
            lr=real(1e-5, 1.0, log=True),
            decay=real(1e-7, 1e-1, log=True),
            dropout=real(0.0, 0.7),
        ),
    )


def error(arch: Architecture) -> float:
    """A validation error; `LEAST` at the best, 0.2 to 0.6 for most architectures."""
    model = arch.model
    unscaled = {"none": 0.06, "standard": 0.0, "robust": 0.015}[arch.scaler]
    if model.kind == "svm":
        return _svm(model) + 2.0 * unscaled
    if model.kind == "knn":
        metric = {"l1": 0.02, "l2": 0.01, "cosine": 0.0}[model.metric]
        near = 0.2 + 0.04 * (math.log(model.k / 9.0) / 2.0) ** 2 + metric
        return near + (0.0 if model.weighted else 0.012) + 1.5 * unscaled
    number = len(model.layers)
    units = [math.log2(layer.units) for layer in model.layers]
    worse = 0.05 * min(4.0, (math.log10(model.lr) + 2.6 + 0.15 * number) ** 2) + 0.01 * (number - 3) ** 2
    worse += 0.01 * sum((u - 7.5) ** 2 for u in units) / number + 0.012 * sum(a < b for a, b in pairwise(units))
    worse += 0.01 * sum({"relu": 0.5, "tanh": 1.0, "gelu": 0.0}[layer.act] for layer in model.layers) / number
    worse += 0.3 * (model.dropout - 0.2) ** 2 + 0.004 * (math.log10(model.decay) + 4.0) ** 2
    return min(0.9, LEAST + worse) + unscaled


def _svm(model: Architecture) -> float:
    kernel, c = model.kernel, math.log10(model.c)
    if kernel.kind == "rbf":
        gamma = math.log10(kernel.gamma)
        far = (c - 1.0) ** 2 + (gamma + 2.0) ** 2
        return (
            0.12 + 0.05 * (1 - math.exp(-(far + 0.8 * (c - 1.0) * (gamma + 2.0)) / 3)) + 0.12 * (1 - math.exp(-far / 8))
        )
    if kernel.kind == "poly":
        return 0.17 + 0.03 * abs(kernel.degree - 3) + 0.02 * abs(kernel.coef - 1.0) + 0.015 * abs(c)
    return 0.22 + 0.01 * abs(c + 1.0)
