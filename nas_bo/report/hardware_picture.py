"""Hardware as PNGs: predicted against measured, where the time of an architecture goes, and where it lies under the roofline.

Roofline plot after Williams, Waterman and Patterson, CACM 2009, figure 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from nas_bo.hardware.latency.profile_file import described
from nas_bo.hardware.latency.roofline import Roofline
from nas_bo.hardware.workload import Setting, Work, parts, specified, workload, works
from nas_bo.report.canvas import canvas_of, plain_ticks, png
from nas_bo.report.drawing import EDGE
from nas_bo.report.picture import INK, calm
from nas_bo.wording import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nas_bo.hardware.devices.device import Device
    from nas_bo.hardware.latency.profile import Profile
    from nas_bo.model.counts import Arch

PREDICTED, LINE = "#1f5fbf", "#c9ced6"
GROUPS = ("embedding and head", "mixer", "MLP", "norms and residuals")
SHADES = (EDGE, "#1f5fbf", "#d9480f", "#b4bcc7")
MOST_LAYERS = 48


class Timed(Protocol):
    """Milliseconds of operations: a roofline, fitted or not, or a learned model."""

    def operations_ms(self, found: Sequence[Work]) -> np.ndarray: ...


def predicted_picture(profile: Profile, kind: str = "learned", *, seed: int = 0, dpi: int = 120) -> bytes | None:
    """PNG bytes: architectures that a model was not fitted to, predicted against measured, both with intervals; one panel
    per setting. None where nothing was measured often enough to be held out."""
    from nas_bo.hardware.latency.quality import held_out, scored

    panels = []
    for at, setting in enumerate(profile.settings):
        found = held_out(profile, at, seed).get(kind)
        if found is not None:
            rows = [r.measurement for r in profile.records if r.setting == at]
            panels.append((setting, rows, *found))
    if not panels:
        return None

    def draw(figure: Figure) -> None:
        for axes, (setting, rows, mean, half) in zip(_panels(figure, len(panels)), panels, strict=True):
            truth = np.array([m.median_ms for m in rows])
            error, tau = scored(mean, truth)
            low = np.array([max(m.low_ms, 1e-3 * m.median_ms) for m in rows])
            high = np.array([m.high_ms if math.isfinite(m.high_ms) else m.median_ms for m in rows])
            ends = [float(min(truth.min(), mean.min())) * 0.85, float(max(truth.max(), mean.max())) * 1.18]
            axes.plot(ends, ends, color=LINE, linewidth=1.2, zorder=1)
            wide = np.where(np.isfinite(half), np.minimum(half, 0.95 * mean), 0.0)
            axes.errorbar(
                truth, mean, yerr=wide, xerr=(truth - np.minimum(low, truth), np.maximum(high, truth) - truth), fmt="o",
                color=PREDICTED, markersize=5, markeredgecolor="white", elinewidth=1.0, ecolor="#9db7de", zorder=3,
            )  # fmt: skip
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xlim(ends[0], ends[1])
            axes.set_ylim(ends[0], ends[1])
            for axis in (axes.xaxis, axes.yaxis):
                plain_ticks(axis, "{:g}".format)
            inside = float(np.mean(np.abs(truth - mean) <= half)) if np.isfinite(half).all() else None
            said = "" if inside is None else f", {inside:.0%} in 90 % intervals"
            axes.set_title(
                f"{described(setting)}\n{len(rows)} held out: error {error:.1f} %, tau {tau:.2f}{said}",
                fontsize=9, color=INK, loc="left",
            )  # fmt: skip
            axes.set_xlabel("measured, ms (bar: 95 % interval of the median)", fontsize=9, color=INK)
            axes.set_ylabel("predicted, ms (bar: 90 % interval)", fontsize=9, color=INK)
            calm(axes, 8)

    title = f"{profile.device.title or profile.device.name}, {profile.runtime}: {kind} model, five folds"
    return _drawn(draw, title, (max(5.0, 4.6 * min(3, len(panels))), 4.7 * math.ceil(len(panels) / 3) + 0.3), dpi)


def breakdown_picture(arch: Arch, model: Timed, setting: Setting, *, title: str = "", dpi: int = 120) -> bytes:
    """PNG bytes: modelled milliseconds of every layer, by what they are spent on.

    Raises:
        ModelError: the architecture cannot be built.
    """
    names, rows = [], []
    for number, part in enumerate(parts(specified(arch, setting))):
        found = works(part, setting)
        spent = model.operations_ms(found)
        groups = [_group(work) for work in found]
        names.append("embedding, head" if number == 0 else f"layer {number - 1}")
        rows.append([sum(float(t) for t, g in zip(spent, groups, strict=True) if g == k) for k in range(len(GROUPS))])
    table, total = np.array(rows), float(np.sum(rows))
    if len(names) > MOST_LAYERS + 1:  # the rest as one bar
        names = [*names[: MOST_LAYERS + 1], f"{counted(len(names) - MOST_LAYERS - 1, 'more layer')}"]
        table = np.vstack([table[: MOST_LAYERS + 1], table[MOST_LAYERS + 1 :].sum(0)])

    def draw(figure: Figure) -> None:
        (axes,) = _panels(figure, 1)
        where, left = np.arange(len(names))[::-1], np.zeros(len(names))
        for k, (name, shade) in enumerate(zip(GROUPS, SHADES, strict=True)):
            if table[:, k].any():
                label = f"{name}: {table[:, k].sum():.3g} ms, {table[:, k].sum() / total:.0%}"
                axes.barh(where, table[:, k], left=left, height=0.72, color=shade, alpha=0.88, label=label)
                left = left + table[:, k]
        axes.set_yticks(where, names)
        axes.set_ylim(-0.7, len(names) - 0.3)
        axes.set_xlabel(f"modelled time, ms; {total:.3g} ms in all", fontsize=9, color=INK)
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, frameon=False, fontsize=8)
        calm(axes, 8)
        axes.grid(False, axis="y")

    return _drawn(draw, title or f"where the time goes: {described(setting)}", (7.6, 1.9 + 0.27 * len(names)), dpi)


def roofline_picture(arch: Arch, device: Device, setting: Setting, *, title: str = "", dpi: int = 120) -> bytes:
    """PNG bytes: the roof of a device, and every kind of operation of an architecture below it, as large as its share of
    the modelled time; the cost of starting kernels is what keeps a dot below the roof.

    Raises:
        ModelError: the architecture cannot be built.
        DeviceError: the device lacks a figure for the data type of the setting.
    """
    roof = Roofline.of(device, setting.dtype)
    found = [w for w in workload(arch, setting.phase, setting.batch, setting.context, setting.dtype,
                                 setting.vocab_size, setting.ignore).operations if w.flops and w.moved_bytes]  # fmt: skip
    spent = roof.operations_ms(found)
    kinds = list(dict.fromkeys(w.kind for w in found))
    dots = []
    for kind in kinds:
        own = [i for i, w in enumerate(found) if w.kind == kind]
        flops, moved = sum(found[i].flops for i in own), sum(found[i].moved_bytes for i in own)
        ms = float(spent[own].sum())
        dots.append((kind, flops / moved, flops / ms * 1e-6, ms, _group(found[own[0]])))
    total = sum(d[3] for d in dots)
    whole = sum(w.flops for w in found) / sum(w.moved_bytes for w in found)
    attained = sum(w.flops for w in found) / total * 1e-6

    def draw(figure: Figure) -> None:
        (axes,) = _panels(figure, 1)
        ridge = roof.gflops / roof.gbytes
        low = min(*(d[1] for d in dots), ridge) / 5
        high = max(*(d[1] for d in dots), ridge) * 4
        x = np.geomspace(low, high, 200)
        axes.plot(x, np.minimum(roof.gflops, x * roof.gbytes), color=INK, linewidth=1.6, zorder=2)
        axes.axvline(ridge, color=LINE, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
        for group, (name, shade) in enumerate(zip(GROUPS, SHADES, strict=True)):
            own = [d for d in dots if d[4] == group]
            if own:
                axes.scatter(
                    [d[1] for d in own], [d[2] for d in own], s=[25 + 500 * d[3] / total for d in own], color=shade,
                    alpha=0.75, edgecolors="white", linewidths=0.8, zorder=3,
                )  # fmt: skip
                share = sum(d[3] for d in own) / total
                axes.scatter([], [], s=45, color=shade, alpha=0.75, label=f"{name}, {share:.0%} of the modelled time")
        axes.scatter([whole], [attained], marker="*", s=150, color="#d6336c", edgecolors="white", zorder=4,
                     label=f"all of it: {attained:,.3g} GFLOP/s")  # fmt: skip
        placed: list[tuple[float, float]] = []
        for kind, at, speed, *_ in sorted(sorted(dots, key=lambda d: -d[3])[:6], key=lambda d: -d[2]):
            near = sum(abs(math.log10(at / x)) < 0.35 and abs(math.log10(speed / y)) < 0.6 for x, y in placed)
            placed.append((at, speed))
            axes.annotate(  # those that lie close together have their names on a stair
                kind, (at, speed), xytext=(-10, -16 - 13 * near), textcoords="offset points", fontsize=7.5, color=INK,
                ha="right", arrowprops={"arrowstyle": "-", "color": "#9aa4b1", "linewidth": 0.7, "shrinkB": 3},
            )  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(min(d[2] for d in dots) / 12, roof.gflops * 2.5)
        axes.set_xlim(low, high)
        axes.set_xlabel(f"arithmetic intensity, FLOP/byte (the roof bends at {ridge:.3g})", fontsize=9, color=INK)
        axes.set_ylabel(f"modelled speed, GFLOP/s ({setting.dtype})", fontsize=9, color=INK)
        axes.set_title(
            f"{device.title or device.name}: {roof.gflops:,.4g} GFLOP/s, {roof.gbytes:,.4g} GB/s, "
            + (f"{roof.overhead_us:.3g} us per kernel" if roof.overhead_us else "no figure for starting a kernel"), fontsize=9, color=INK, loc="left",
        )  # fmt: skip
        axes.legend(loc="lower right", frameon=False, fontsize=8)
        calm(axes, 8)

    return _drawn(draw, title or f"{described(setting)}, {total:.3g} ms modelled", (7.6, 5.0), dpi)


def _group(work: Work) -> int:
    """Its place in `GROUPS`."""
    if "norm" in work.kind or work.kind.endswith(".add"):
        return 3
    return 1 if work.kind.startswith("mixer.") else 2 if work.kind.startswith("mlp.") else 0


def _panels(figure: Figure, number: int) -> list[Axes]:
    across = min(3, number)
    grid = figure.add_gridspec(math.ceil(number / across), across)
    return [figure.add_subplot(grid[i // across, i % across]) for i in range(number)]


def _drawn(draw: Callable[[Figure], None], title: str, size: tuple[float, float], dpi: int) -> bytes:
    canvas = canvas_of(*size, dpi, layout="constrained")
    figure = canvas.figure
    draw(figure)
    figure.suptitle(title.replace("$", r"\$"), fontsize=11, color=INK, x=0.01, ha="left")
    return png(canvas)
