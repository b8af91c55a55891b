"""How first weights, learning rates, weight decay and AdamW's epsilon change with width and depth: today's recipe, and CompleteP.

CompleteP (Dey et al. 2025, arXiv 2505.01618, table 1 with alpha = 1) is the maximal-update parametrisation (Yang et al. 2022, arXiv
2203.03466) with residual branches times 1 / depth: what was tuned at a base holds at other widths *and* depths. Notation: m, the width
over the base's width; d, the depth over the base's depth.

========================  ===========  =====================  =============  ==========  ===========
weight (of the paper)     multiplier   standard deviation     learning rate  decay       epsilon
========================  ===========  =====================  =============  ==========  ===========
input: embedding          1            1                      1              0           1 / m
hidden: into a block      1            m^(-1/2)               1 / m          m           1 / (m d)
hidden: out of a block    1 / d        m^(-1/2)               1 / m          m           1 / (m d)
output: head, router      1 / m        1                      1              1           1 / m
vector: gains, biases     1            1                      1              0           1 / (m d)
========================  ===========  =====================  =============  ==========  ===========

The multipliers are not in the forward pass, so counts, exports and other people's code for the model stay as they are. They are in the
weights: for AdamW, c * w with (deviation, rate, decay, epsilon) is w' = c w with (c * deviation, c * rate, decay / c, epsilon / c) (the
symmetry of Yang et al. 2022, lemma J.1). A tied head has no weight of its own: its 1 / m is in the gain of the last norm. On a block
whose result is normed the 1 / d is in the gain of that norm.

At its base CompleteP is today's recipe, bit for bit. Loads no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from nas_bo.errors import ModelError, near
from nas_bo.model.blocks.block import MATRICES, Exact
from nas_bo.model.blocks.skip import absent
from nas_bo.model.blocks.table import block_of
from nas_bo.model.counts import norms_of
from nas_bo.model.spec import DecoderSpec
from nas_bo.validated import check_fields, checked, whole_number

BASE_WIDTH = 128  # the width at which `lr` is meant, of both
BASE_DEPTH = 4
LAST_GAIN = (
    4.0  # the gain of the last norm begins at min(1, LAST_GAIN / sqrt(width)): the logits do not grow with the width
)
OUT = ("out", "out_each")


class Factors(NamedTuple):
    """On what today's recipe says about a weight: its first values, learning rate, weight decay and epsilon."""

    initial: float = 1.0
    rate: float = 1.0
    decay: float = 1.0
    epsilon: float = 1.0


SAME = Factors()


@runtime_checkable
class Parametrization(Protocol):
    """How the numbers of a recipe depend on the sizes of a decoder."""

    def factors(self, name: str, role: str, spec: DecoderSpec, embedding_power: float = 0.0) -> Factors:
        """Of the weight of that name in a `Decoder`, whose role is one of `Decoder.role`."""

    def check(self, spec: DecoderSpec, roles: Mapping[str, str]) -> None:
        """Raise ModelError for a decoder with these weights, name -> role, of which it cannot say."""

    def settings(self) -> dict[str, float]:
        """Its numbers, among the settings of a run; {} of today's recipe, whose runs do not name it."""


@dataclass(frozen=True)
class Standard:
    """Today's recipe (`nas_bo.model.Decoder.initialise` has its table): matrices learn at lr * 128 / fan_in, branches begin small."""

    def factors(self, name: str, role: str, spec: DecoderSpec, embedding_power: float = 0.0) -> Factors:
        return SAME

    def check(self, spec: DecoderSpec, roles: Mapping[str, str]) -> None:
        pass

    def settings(self) -> dict[str, float]:
        return {}


STANDARD = Standard()


@dataclass(frozen=True)
class CompleteP:
    """CompleteP (arXiv 2505.01618); see the table of the module.

    Args:
        base_width, base_depth: the decoder at which the learning rate and the weight decay are meant: width, and number of layers. There
            it is today's recipe.
    """

    base_width: int = checked(BASE_WIDTH, whole_number(1))
    base_depth: int = checked(BASE_DEPTH, whole_number(1))

    def __post_init__(self) -> None:
        check_fields(self, ModelError)

    def settings(self) -> dict[str, float]:
        return {"base_width": self.base_width, "base_depth": self.base_depth}

    def check(self, spec: DecoderSpec, roles: Mapping[str, str]) -> None:
        if isinstance(spec.details.embedding_scale, str):
            raise ModelError(
                f"embedding_scale={spec.details.embedding_scale!r} with the parametrization completep: both say how the embedding changes with "
                'the width; leave embedding_scale out, give a number, or use parametrization="standard"'
            )
        for index, layer in enumerate(spec.layers[:: spec.details.tie_layers]):
            normed = norms_of(layer, spec.frame)
            for part in ("mixer", "mlp"):
                block, inside = layer.slot(part), f"layers.{index}.{part}."
                own = [role for name, role in roles.items() if name.startswith(inside)]
                if absent(block) or f"{part}_out_norm" in normed or not own or not set(own).isdisjoint(OUT):
                    continue
                raise ModelError(
                    f"the parametrization completep scales what a block adds to the stream by the depth, and the block {block.kind!r} has no "
                    "matrix out of it: call its last matrix `out`, say so in its `initial` (nas_bo.model.blocks.Initialised), or use "
                    'parametrization="standard"'
                )

    def factors(self, name: str, role: str, spec: DecoderSpec, embedding_power: float = 0.0) -> Factors:
        m, d = spec.width / self.base_width, max(1, len(spec.layers)) / self.base_depth
        place, _, inside = name.partition(".")
        if place != "layers":
            return self._outside(name, role, spec, m, embedding_power)
        index, part, inside = inside.split(".", 2)
        layer = spec.layers[int(index) * spec.details.tie_layers]
        if part.endswith("_out_norm"):
            return Factors(1 / d if role == "ones" else 1.0, 1 / d, 1.0, 1 / m)
        if part not in ("mixer", "mlp"):
            return Factors(epsilon=1 / (m * d))
        block, normed = block_of(layer.slot(part)), f"{part}_out_norm" in norms_of(layer, spec.frame)
        if role in OUT and normed:  # what it gives is normed: its size is nothing, and does not change with the depth
            return Factors(math.sqrt(d), 1.0, m, 1 / (m * d))
        if role in OUT:  # of today's 1 / sqrt(depth) is left what CompleteP has beyond it
            return Factors(1 / math.sqrt(d), 1 / d, m * d, 1 / m)
        if (
            role in MATRICES and isinstance(block, Exact) and inside in block.exact
        ):  # a router: few outputs, however wide
            return Factors(1 / math.sqrt(m), 1.0, m, 1 / d)
        if role in MATRICES:
            return Factors(1.0, 1.0, m, 1 / (m * d))
        if role == "zeros" and "out" in inside.replace("_", ".").split(".") and not normed:  # the bias of a matrix out
            return Factors(1.0, 1 / d, 1.0, 1 / m)
        return Factors(epsilon=1 / (m * d))

    def _outside(self, name: str, role: str, spec: DecoderSpec, m: float, embedding_power: float) -> Factors:
        """Of what is before the first layer and after the last."""
        if role == "embedding":
            return Factors(math.sqrt(m), m**embedding_power, 1.0, 1 / m)
        if name == "head.weight":
            return Factors(1 / math.sqrt(m), 1.0, m, 1.0)
        last = 1 / m if spec.tied else 1.0  # the multiplier of a tied head
        if role == "gain":
            begins, at_base = (min(1.0, LAST_GAIN / math.sqrt(width)) for width in (spec.width, self.base_width))
            return Factors(last * at_base / begins, last, 1.0, 1 / m / last)
        if name == "norm.bias":
            return Factors(1.0, last, 1.0, 1 / m / last)
        return Factors(epsilon=1 / m)


NAMED: Mapping[str, Parametrization] = {"standard": STANDARD, "completep": CompleteP()}


def parametrization_of(given: Parametrization | str | None, who: str = "train") -> Parametrization:
    """What `parametrization=` of a call means: a name, an object, or None for today's recipe.

    Raises:
        ModelError: it is neither.
    """
    if given is None:
        return STANDARD
    if isinstance(given, str):
        if given not in NAMED:
            raise ModelError(
                f"{who}(parametrization={given!r:.80}): there is no parametrization of that name{near(given, NAMED)}; there are "
                f"{', '.join(NAMED)}, and CompleteP(base_width, base_depth)"
            )
        return NAMED[given]
    if isinstance(given, type) or not isinstance(given, Parametrization):
        raise ModelError(
            f'{who}(parametrization={given!r:.80}): it must be "standard", "completep" or a CompleteP(base_width, base_depth)'
        )
    return given


def of_settings(settings: Mapping[str, float]) -> Parametrization:
    """The one whose numbers are among the settings of a run."""
    if "base_width" not in settings:
        return STANDARD
    return CompleteP(int(settings["base_width"]), int(settings["base_depth"]))
