"""Details of a decoder that models of other people have and those of nas_bo do not need: where norms are, how positions turn, caps and
scales. All are fields at the top level of an architecture; so are `position` and `norm`.

========================= ==========================================================================================
``norm_eps``              what is added under the root of norms; None: 1e-6 for "rms", 1e-5 for "layer"
``norm_bias``             biases of "layer" norms; None: as ``bias``
``norm_place``            "pre": before each block; "post": on what each block gives, as in OLMo 2 (OLMo team 2025, arXiv
                          2501.00656); "sandwich": both, as in Gemma 2 (Gemma team 2024, arXiv 2408.00118)
``parallel_norms``        with ``parallel``: 1, one norm for mixer and mlp (GPT-J); 2, one each (GPT-NeoX: Black et al. 2022,
                          arXiv 2204.06745)
``rope_theta``            the base of rotary frequencies
``rope_scaling``          None, "linear" (Chen et al. 2023, arXiv 2306.15595), "llama3" (Llama team 2024, arXiv 2407.21783) or
                          "yarn" (Peng et al. 2023, arXiv 2309.00071), with ``rope_factor``; the last two with
                          ``rope_length``, the tokens of the first training, and the turns within them below which a frequency
                          is scaled (``rope_low``, 1) and above which it is kept (``rope_high``, 4 of llama3, 32 of yarn)
``embedding_scale``       a factor on token embeddings, or "sqrt_width" as in Gemma
``max_length``            of position="learned": the number of positions with a vector
``logit_cap``             cap * tanh(logits / cap), as in Gemma 2
``tie_layers``            so many successive layers have one set of weights (`nas_bo.model.connections`)
``long_skips``            from layers of the first half to those of the second (`nas_bo.model.connections`)
========================= ==========================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from types import EllipsisType
from typing import Any, NamedTuple, TypeAlias

from nas_bo.architecture import Primitive
from nas_bo.errors import ModelError, near

Default: TypeAlias = Primitive | EllipsisType
"""Of a field of a block; `...` for one that must be given."""


class Details(NamedTuple):
    """The values, checked; those at their default are not in the id of an architecture (`nas_bo.architecture.UNSAID`)."""

    norm_eps: float | None = None
    norm_bias: bool | None = None
    norm_place: str = "pre"
    parallel_norms: int = 1
    rope_theta: float = 10000.0
    rope_scaling: str | None = None
    rope_factor: float | None = None
    rope_length: int | None = None
    rope_low: float | None = None
    rope_high: float | None = None
    embedding_scale: float | str | None = None
    max_length: int | None = None
    logit_cap: float | None = None
    tie_layers: int = 1
    long_skips: bool = False


PLAIN = Details()
UNSAID = PLAIN._asdict()

_ONE_OF: Mapping[str, tuple[object, ...]] = {
    "norm_bias": (None, False, True),
    "norm_place": ("pre", "post", "sandwich"),
    "parallel_norms": (1, 2),
    "long_skips": (False, True),
    "rope_scaling": (None, "linear", "llama3", "yarn"),
}
_COUNTS = ("rope_length", "max_length", "tie_layers")
_ABOVE = {"rope_theta": 1.0}  # other numbers must be above 0
_TURNS = {"llama3": (1.0, 4.0), "yarn": (1.0, 32.0)}


def details(fields: Mapping[str, Any], norm: str, position: str, parallel: bool, ignore: Collection[str]) -> Details:
    """The details among the top-level fields of an architecture, without those in `ignore`.

    Raises:
        ModelError: a value that is none, or values that do not fit together.
    """
    given = {name: fields[name] for name in Details._fields if name in fields and name not in ignore}
    found = PLAIN._replace(**{name: _value(name, value) for name, value in given.items()})
    if found.norm_bias and norm != "layer":
        raise ModelError('norm_bias=True needs norm="layer": an rms norm has no bias; leave norm_bias out')
    if parallel and found.norm_place != "pre":
        raise ModelError(
            f'norm_place={found.norm_place!r} does not go with parallel=True, whose blocks read one norm; use norm_place="pre", or '
            "parallel=False"
        )
    if found.parallel_norms == 2 and not parallel:
        raise ModelError("parallel_norms=2 needs parallel=True: blocks in turn have a norm each already; leave it out")
    if (found.max_length is None) != (position != "learned"):
        raise ModelError(
            'position="learned" needs max_length, the number of positions with a vector, such as max_length=1024'
            if position == "learned"
            else f'max_length={found.max_length} is for position="learned" and the architecture has position={position!r}; leave '
            "max_length out"
        )
    turning = [name for name in given if name.startswith("rope_") and found._asdict()[name] != UNSAID[name]]
    if turning and position != "rotary":
        raise ModelError(
            f'{turning[0]}={given[turning[0]]!r} needs position="rotary" and the architecture has position={position!r}; leave '
            f"{turning[0]} out"
        )
    return _scaled(found)


def _value(name: str, value: object) -> Any:
    if name in _ONE_OF:
        allowed = _ONE_OF[name]
        if not any(value.__class__ is one.__class__ and value == one for one in allowed):
            meant = near(value, [one for one in allowed if isinstance(one, str)])
            raise ModelError(f"{name}={value!r} is unknown{meant}; it is one of {', '.join(map(repr, allowed))}")
        return value
    if value is None and UNSAID[name] is None:
        return None
    if name in _COUNTS:
        if value.__class__ is not int or value < 1:
            raise ModelError(f"{name}={value!r} must be an integer of at least 1")
        return value
    if name == "embedding_scale" and value == "sqrt_width":
        return value
    least = _ABOVE.get(name, 0.0)
    if value.__class__ not in (int, float) or not least < value < math.inf:
        also = ', or "sqrt_width"' if name == "embedding_scale" else ""
        raise ModelError(f"{name}={value!r} must be a number above {least:g}{also}")
    return float(value)


def _scaled(found: Details) -> Details:
    """With the turns that `rope_scaling` begins with (raises ModelError where a number of it lacks, or is for another kind)."""
    kind = found.rope_scaling
    needed = {None: (), "linear": ("rope_factor",)}.get(kind, ("rope_factor", "rope_length"))
    may = (*needed, "rope_low", "rope_high") if kind in _TURNS else needed
    for name in ("rope_factor", "rope_length", "rope_low", "rope_high"):
        value = found._asdict()[name]
        if value is None and name in needed:
            raise ModelError(f"rope_scaling={kind!r} needs {name}; write what the model's configuration says")
        if value is not None and name not in may:
            said = "which is not given" if kind is None else f"and {kind!r} has no such number"
            raise ModelError(
                f"{name}={value!r} is a number of rope_scaling, {said}; leave {name} out, or choose another scaling"
            )
    if kind not in _TURNS:
        return found
    low, high = (
        a if a is not None else b for a, b in zip((found.rope_low, found.rope_high), _TURNS[kind], strict=True)
    )
    if low >= high:
        raise ModelError(f"rope_low={low:g} must be below rope_high={high:g}")
    return found._replace(rope_low=low, rope_high=high)


def check_length(found: Details, tokens: int) -> None:
    """Raises ModelError where there are learned positions for fewer tokens."""
    if found.max_length is not None and tokens > found.max_length:
        raise ModelError(
            f"{tokens} tokens are more than the max_length={found.max_length} positions that this architecture has learned vectors for; "
            "use at most so many, or choose a larger max_length"
        )
