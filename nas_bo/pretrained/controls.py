"""What a search inside a trained model is to be compared with: the same model made smaller by rule, alike everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from nas_bo.architecture import Architecture, Primitive
from nas_bo.model.blocks.skip import SKIP
from nas_bo.pretrained.block_scores import Assignment, changed, options_of
from nas_bo.pretrained.space import whole
from nas_bo.space.space import Space

WIDTHS = (2 / 3, 1 / 3)
"""Shares of the hidden units of every MLP that stay."""
DEPTHS = (3 / 4, 1 / 2)
"""Shares of the layers that stay."""


def controls(
    space: type[Space], influence: Sequence[float], fits: Callable[[Architecture], bool] = lambda arch: True
) -> dict[str, Architecture]:
    """Label -> architecture: "uniform width 67%" has MLPs of about two thirds of their hidden units in every layer, the most important ones
    (Minitron: Muralidharan et al. 2024, arXiv 2407.14679); "uniform depth 75%" is without the quarter of the layers that turn the stream
    least (ShortGPT: Men et al. 2024, arXiv 2403.03853). What the space does not let go stays, and two that are alike are one.

    Args:
        space: around a trained model (`nas_bo.pretrained.Pretrained.space`).
        influence: of each layer, as `nas_bo.compress.importances` says.
        fits: what is compared with. Where none of `WIDTHS` or of `DEPTHS` does, the largest of that kind that does takes their place.
    """
    options = options_of(space)
    most = whole(space)
    mlps = {
        group: (_ratio(ways[0]), [one for one in ways if _ratio(one)])
        for group, ways in options.items()
        if group.endswith(".mlp") and _ratio(ways[0])
    }
    order = sorted(range(len(influence)), key=lambda layer: influence[layer])
    able = [
        layer for layer in order if all(_may_go(options.get(f"layers.{layer}.{part}")) for part in ("mixer", "mlp"))
    ]

    def narrow(share: float) -> Architecture:
        decisions: dict[str, Primitive] = {}
        for full, sizes in mlps.values():
            decisions |= dict(min(sizes, key=partial(_apart, full * share)))
        return changed(space, most, decisions)

    def shallow(share: float) -> Architecture:
        gone = able[: round((1 - share) * len(influence))]
        left = {f"layers.{layer}.{part}": SKIP.kind for layer in gone for part in ("mixer", "mlp")}
        return changed(space, most, left)

    widths = {_ratio(one) / full for full, sizes in mlps.values() for one in sizes}
    depths = {1 - gone / len(influence) for gone in range(1, len(able) + 1)} if influence else set()
    different = {most.id}
    kept: dict[str, Architecture] = {}
    for kind, make, usual, others in (
        ("width", narrow, WIDTHS, widths),
        ("depth", shallow, DEPTHS, depths),
    ):
        before = len(kept)
        for shares in (usual, sorted(others, reverse=True)):
            for share in shares if len(kept) == before else ():
                arch = make(share)
                if arch.id not in different and not space.violations(arch) and fits(arch):
                    kept[f"uniform {kind} {share:.0%}"] = arch
                    different.add(arch.id)
                    if shares is not usual:
                        break
    return kept


def _apart(wanted: float, one: Assignment) -> float:
    return abs(_ratio(one) - wanted)


def _ratio(one: Assignment) -> float:
    """The size of an MLP in widths; 0 of what has none."""
    return next(
        (float(value) for path, value in one if path.endswith(".ratio") and isinstance(value, (int, float))), 0.0
    )


def _may_go(ways: Sequence[Assignment] | None) -> bool:
    return ways is not None and any(len(one) == 1 and one[0][1] == SKIP.kind for one in ways)
