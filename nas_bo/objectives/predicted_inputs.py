"""What a predictor sees of an architecture: what it costs, how its layers are arranged, what was chosen, what was measured.

Costs come first, since size explains most: few examples should not have to find it in a list of choices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.errors import ModelError, ObjectiveError
from nas_bo.model.blocks.skip import SKIP, absent
from nas_bo.model.connections import skips
from nas_bo.model.counts import flops, kv_cache_bytes, parameters, steps
from nas_bo.model.spec import DecoderSpec, check
from nas_bo.objective import Objective, value_of
from nas_bo.space import Space
from nas_bo.spelling import spelled
from nas_bo.surrogate.features import features_of
from nas_bo.surrogate.profile import profile_of
from nas_bo.surrogate.structure import structure_of
from nas_bo.trial import Trial
from nas_bo.validated import check_fields, must, number

TOKENS = 128  # that FLOPs and caches are counted for
KINDS = (
    "attention", "linear_attention", "conv", "dense", "moe",
)  # with a column in every predictor; others where they occur  # fmt: skip
COSTS = ("log parameters", "log parameters of layers", "log flops", "log cache", "log width", "log layers")
SAME_SHARE = 0.01  # a rung counts as the one that is asked for when its share of the budget is as near as this


@dataclass(frozen=True)
class Rung:
    """A proxy that trials hold already: what the objective `of` was after `share` of its budget (see `Trial.rungs`)."""

    of: str
    share: float = field(metadata=must(number(above=0, below=1)))

    def __post_init__(self) -> None:
        check_fields(self, ObjectiveError)

    @property
    def name(self) -> str:
        return f"{self.of}@{self.share:g}"

    def read(self, trial: Trial) -> float | None:
        near = [(abs(at - self.share), value) for at, value in trial.rungs(self.of).items()]
        gap, value = min(near, default=(1.0, 0.0))
        return value if gap <= SAME_SHARE else None


Proxy = str | Rung | Objective


def proxy_name(proxy: Proxy) -> str:
    return proxy if isinstance(proxy, str) else proxy.name


def read_proxy(proxy: Proxy, trial: Trial) -> float | None:
    """The proxy's number in a trial: an objective's value, what a proxy of the problem said, or a rung; None without one."""
    if isinstance(proxy, Rung):
        return proxy.read(trial)
    name = proxy_name(proxy)
    found = trial.values.get(spelled(name, trial.values))
    if found is None:
        found = trial.info.get(spelled(name, trial.info), {}).get("value")
    if found is None or isinstance(found, (bool, str)):
        return None
    return float(found)


class Inputs:
    """The columns of architectures of one space.

    Args:
        vocab_size: that parameters and FLOPs are counted for.
        ignore: top-level fields that are not part of the network.
        known: further analytic objectives; logarithms are taken where all examples are positive. The first is the size
            where `nas_bo.model` does not know the space's blocks.
        profile: whether places in depth are columns; without them every single choice is one, as in predictors of 0.1.

    Attributes:
        names: the column names.
        blocks: where costs, arrangement, each kind of `nas_bo.surrogate.profile` and summaries end (see `nas_bo.surrogate.regressor`); without
            a profile costs, arrangement, summaries and single choices.
        sized: whether the first column is the logarithm of a size.
    """

    def __init__(
        self,
        space: type[Space],
        examples: Sequence[Architecture],
        vocab_size: int = 256,
        ignore: tuple[str, ...] = (),
        known: tuple[Objective, ...] = (),
        profile: bool = True,
    ) -> None:
        self.space, self.vocab_size, self.ignore, self.known = space, vocab_size, tuple(ignore), tuple(known)
        self._features, self._structure = features_of(space), structure_of(space)
        self._profile = profile_of(space) if profile else None
        try:
            specs = [check(arch, self.ignore) for arch in examples]
            self._decoder = all(steps(spec) for spec in specs)
            met = {one.kind for spec in specs for layer in spec.layers for one in layer if not absent(one)}
            self._kinds = (*KINDS, *sorted(met.difference(KINDS)))
        except ModelError:  # not a decoder of nas_bo
            self._decoder = False
        told = self._told(examples)
        self._log = np.atleast_1d((told > 0).all(0))
        shares = [f"share of parameters in {kind}" for kind in self._kinds] if self._decoder else []
        costs = [*(COSTS if self._decoder else ()), *shares, *(o.name for o in self.known)]
        self.sized = self._decoder or bool(len(self._log) and self._log[0])
        arranged = len(costs) + len(self._structure.names)
        if self._profile is None:
            self.names = [*costs, *self._structure.names, *self._features.names]
            self.blocks: tuple[int, ...] = (len(costs), arranged, arranged + self._features.width, len(self.names))
        else:
            summaries = self._features.names[: self._features.width]
            self.names = [*costs, *self._structure.names, *self._profile.names, *summaries]
            self.blocks = (len(costs), arranged, *(arranged + end for end in self._profile.ends), len(self.names))

    def __call__(self, archs: Sequence[Architecture]) -> np.ndarray:
        """(n, columns).

        Raises:
            ModelError: the decoder cannot be built from an architecture, though it can from the examples.
        """
        told = self._told(archs)
        told = np.where(self._log, np.log(np.where(self._log, np.maximum(told, 1e-300), 1.0)), told)
        costs = [self._costs(arch) for arch in archs] if self._decoder else []
        genomes = self._features.genomes.encode(archs)
        arranged, features = self._structure.of(genomes), self._features.of(genomes)
        if self._profile is not None:
            arranged = np.concatenate([arranged, self._profile.of(genomes)], axis=1)
            features = features[:, : self._features.width]
        return np.concatenate([np.array(costs).reshape(len(archs), -1), told, arranged, features], axis=1)

    @property
    def profile(self) -> bool:
        """Whether places in depth are columns."""
        return self._profile is not None

    def _told(self, archs: Sequence[Architecture]) -> np.ndarray:
        return np.array([[float(value_of(o, arch)) for o in self.known] for arch in archs], dtype=float).reshape(
            len(archs), len(self.known)
        )

    def _costs(self, arch: Architecture) -> list[float]:
        spec = check(arch, self.ignore)
        vocab = self.vocab_size
        total, bare = parameters(spec, vocab), parameters(spec._replace(layers=()), vocab)
        links = len(skips(len(spec.layers), spec.details))
        shares = [self._within(spec, kind) - bare - links for kind in self._kinds]
        within = max(1, sum(shares))
        return [
            math.log(total),
            math.log(max(1, total - bare)),
            math.log(flops(spec, vocab, TOKENS)),
            math.log(1 + kv_cache_bytes(spec, TOKENS)),
            math.log(spec.width),
            math.log(1 + len(spec.layers)),
            *(share / within for share in shares),
        ]

    def _within(self, spec: DecoderSpec, kind: str) -> int:
        """Parameters of the same decoder with no other blocks than these."""
        layers = tuple(
            layer._replace(
                mixer=layer.mixer if layer.mixer.kind == kind else SKIP,
                mlp=layer.mlp if layer.mlp.kind == kind else SKIP,
            )
            for layer in spec.layers
        )
        return parameters(spec._replace(layers=layers), self.vocab_size)
