"""The lines of the raw file as a table, a picture and figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.common import envelope
from nas_bo.architecture import Architecture
from nas_bo.model import flops, parameters
from nas_bo.objectives.learned_correction import Run, learned_growth
from nas_bo.report.ranks import Interval, Pair, interval, tau, tau_size_removed, tau_within

DRAWS = 1000
EVALUATION_TOKENS = 65_536  # of one held-out loss; a forward pass costs a third of a training step
TARGETS = {"25 %": (0.88, 0.82, 0.75), "10 %": (0.86, 0.75, 0.65), "supernet of ten trainings": (0.80, 0.75)}
STATISTICS = (tau, tau_size_removed, tau_within)


class Row(NamedTuple):
    """One estimate: how it agrees, over how many architectures and seeds, and its cost as a share of the reference's."""

    name: str
    n: int
    overall: Interval
    removed: Interval
    within: Interval
    share: float
    prepared: float
    fresh: tuple[int, list[Interval]] | None = None


def write(
    lines: Sequence[Mapping[str, Any]], archs: Sequence[Architecture], folder: Path, machine: object = None
) -> None:
    """
    Args:
        machine: on which the lines were measured; None is this one.
    """
    from benchmarks.fidelity import learned
    from benchmarks.fidelity.arms import ARMS, FIRST, TOKENS

    truth = {(line["index"], line["seed"]): line for line in lines if line["arm"] == "reference"}
    seeds = sorted({seed for _, seed in truth})
    indices = [i for i in range(FIRST) if all((i, s) in truth for s in seeds)]
    fresh = [i for i in range(FIRST, len(archs)) if (i, seeds[0]) in truth]
    fresh_final = np.array([truth[i, seeds[0]]["value"] for i in fresh])
    fresh_size = np.array([parameters(archs[i], 256) for i in fresh], dtype=float)
    final = np.array([[truth[i, s]["value"] for s in seeds] for i in indices])  # (n, seeds)
    size = np.array([parameters(archs[i], 256) for i in indices], dtype=float)
    mean = final.mean(1)

    def confirmed(values: Mapping[int, float]) -> tuple[int, list[Interval]] | None:
        there = [k for k, i in enumerate(fresh) if i in values]
        if not there:
            return None
        pairs = [(np.array([values[fresh[k]] for k in there]), fresh_final[there])]
        return len(there), [interval(statistic, pairs, fresh_size[there], DRAWS, 0) for statistic in STATISTICS]

    rows = [
        row("parameters", [(-np.log(size), mean)], size, 0.0)._replace(
            fresh=confirmed({i: -np.log(v) for i, v in zip(fresh, fresh_size, strict=True)})
        ),
        row("FLOPs", [(-np.array([flops(archs[i], 256, 64) for i in indices]), mean)], size, 0.0),
        row("second seed", prefix(final, final), size, 1.0),
    ]
    steps = truth[indices[0], seeds[0]]["validation"]
    for at, (tokens, _) in enumerate(steps[:-1]):
        early = np.array([[truth[i, s]["validation"][at][1] for s in seeds] for i in indices])
        rows.append(row(f"prefix {tokens / steps[-1][0]:.0%}", prefix(early, final), size, tokens / steps[-1][0]))
    for share in (0.1, 0.25):
        at = min(range(len(steps)), key=lambda k: abs(steps[k][0] / steps[-1][0] - share))
        share = steps[at][0] / steps[-1][0]
        early = {i: truth[i, seeds[0]]["validation"][at][1] for i in (*indices, *fresh)}
        runs = {i: Run(archs[i], share, early[i], truth[i, seeds[0]]["value"]) for i in early}
        corrected = {}
        for taught, others in ((indices, fresh), (fresh, indices)):  # each half by what the other half teaches
            taught_by = learned_growth([runs[i] for i in others])
            corrected |= {i: early[i] - taught_by(archs[i], share) for i in taught}
        own = final[:, [seeds.index(s) for s in seeds[1:]]].mean(1)  # of other seeds than the prefix
        pairs = [(np.array([corrected[i] for i in indices]), own)]
        rows.append(
            row(f"prefix {share:.0%}, correction learned", pairs, size, share)._replace(
                fresh=confirmed({i: corrected[i] for i in fresh})
            )
        )
    # a reference run is measured with its held-out losses on the way, which a plain training does not take
    looks = EVALUATION_TOKENS / 3
    plain = (TOKENS + looks) / (TOKENS + len(steps) * looks)
    cpu = plain * float(np.mean([line["cpu"] for (i, _), line in truth.items() if i < FIRST]))
    for arm in ARMS:
        found: dict[int, list[float]] = {}
        kept = [line for line in lines if line["arm"] == arm.name]
        for line in kept:
            found.setdefault(line["index"], []).append(line["value"])
        if arm.name == "reference" or not kept:
            continue
        there = [k for k, i in enumerate(indices) if i in found]
        values = np.array([np.mean(found[indices[k]]) for k in there]) * (-1 if arm.larger_is_better else 1)
        spent = float(np.mean([line["cpu"] for line in kept if line["index"] < FIRST])) * len(arm.seeds)
        prepared = max((line.get("prepared_cpu", 0.0) for line in kept), default=0.0)
        sign = -1 if arm.larger_is_better else 1
        later = {i: sign * float(np.mean(v)) for i, v in found.items() if i >= FIRST}
        rows.append(
            row(arm.name, [(values, mean[there])], size[there], spent / cpu, prepared / cpu)._replace(
                fresh=confirmed(later)
            )
        )
    splits = [line for line in lines if line["arm"] == learned.NAME]
    here = envelope("", "torch")["machine"]
    figures = {
        **envelope(
            "estimates of the loss compared with full trainings: Kendall tau, with size removed, share of a training's time",
            "torch",
        ),
        "machine": here if machine is None else machine,
        "architectures": len(indices),
        "seeds": len(seeds),
        "tokens": steps[-1][0],
        "reference_cpu_s": round(cpu, 2),
        "spread_between_architectures": round(float(mean.std(ddof=1)), 4),
        "spread_between_seeds": round(float(np.sqrt(final.var(1, ddof=1).mean())), 4),
        "targets": TARGETS,
        "estimates": {
            r.name: {
                "n": r.n,
                "tau": three(r.overall),
                "tau_size_removed": three(r.removed),
                "tau_within_10_percent": three(r.within),
                "fresh": None
                if r.fresh is None
                else {"n": r.fresh[0], **dict(zip(FIGURES, map(three, r.fresh[1]), strict=True))},
                "cost_share": round(r.share, 4),
                "prepared_in_reference_runs": round(r.prepared, 2),
            }
            for r in rows
        },
    }
    if splits:
        figures["predictor"] = {
            "trials": learned.TRIALS,
            "splits": len(splits),
            "held_out": splits[0]["held_out"],
            **{
                name: [round(float(f([line[key] for line in splits])), 3) for f in (np.mean, np.std)]
                for name, key in (
                    ("tau", "value"),
                    ("tau_size_removed", "size_removed"),
                    ("coverage_of_90_percent", "covered"),
                )
            },
        }
    (folder / "fidelity.json").write_text(json.dumps(figures, indent=1) + "\n")
    (folder / "fidelity.md").write_text(table(rows, figures))
    picture(rows, folder / "fidelity.png")


FIGURES = ("tau", "tau_size_removed", "tau_within_10_percent")


def three(found: Interval) -> list[float | None]:
    return [None if np.isnan(v) else round(v, 3) for v in (found.value, found.low, found.high)]


def prefix(early: np.ndarray, final: np.ndarray) -> list[Pair]:
    """Every seed's early values against the mean of the other seeds' final ones: (n, seeds) twice."""
    others = [[t for t in range(final.shape[1]) if t != s] or [s] for s in range(final.shape[1])]
    return [(early[:, s], final[:, rest].mean(1)) for s, rest in enumerate(others)]


def row(name: str, pairs: Sequence[Pair], size: np.ndarray, share: float, prepared: float = 0.0) -> Row:
    found = [interval(statistic, pairs, size, DRAWS, 0) for statistic in STATISTICS]
    return Row(name, len(size), *found, share, prepared)


def table(rows: Sequence[Row], figures: Mapping[str, Any]) -> str:
    machine = figures["machine"]
    processor = machine if isinstance(machine, str) else machine["processor"]
    said = [
        "# Cheap estimates of quality against full training",
        "",
        f"{figures['architectures']} architectures of `tiny_gpt` drawn at random, reference {figures['tokens']:,} tokens, "
        f"{figures['seeds']} seeds. Spread between architectures {figures['spread_between_architectures']} bits per byte, "
        f"between seeds {figures['spread_between_seeds']}. {processor}, one thread, shared with other work. "
        "95 % intervals by bootstrap over architectures. Estimates were compared and adjusted on these; the fresh ones are 40 others "
        "drawn at random, reference of one seed. Cost: share of a reference run; in brackets what is prepared once "
        "for all architectures, in reference runs. Within 10 %: of the parameters, among pairs (30 and 42 of them). A correction learned: of each group "
        "from the whole runs of the other one, one seed each (`learned_growth`). Made by `benchmarks/fidelity/run.py`.",
        "",
        "| estimate | Kendall's tau | size removed | within 10 % | on fresh ones: tau | size removed | within 10 % | cost |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for r in sorted(rows, key=lambda r: -r.overall.value if r.overall.known else 9):
        once = f" (+ {r.prepared:.1f} once)" if r.prepared else ""
        confirmed = " | ".join(one.text() for one in r.fresh[1]) if r.fresh else "- | - | -"
        said.append(
            f"| {r.name} | {r.overall.text()} | {r.removed.text()} | {r.within.text()} | {confirmed} | {r.share:.1%}{once} |"
        )
    if "predictor" in figures:
        p = figures["predictor"]
        said += [
            "",
            f"`Predicted` from {p['trials']} of all trained architectures (seed 0), judged on the {p['held_out']} others, {p['splits']} random "
            f"splits (mean ± standard deviation over splits): tau {p['tau'][0]:.2f} ± {p['tau'][1]:.2f}, size removed "
            f"{p['tau_size_removed'][0]:.2f} ± {p['tau_size_removed'][1]:.2f}; its 90 % intervals cover {p['coverage_of_90_percent'][0]:.0%}.",
        ]
    return "\n".join(said) + "\n"


def picture(rows: Sequence[Row], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    ordered = sorted(rows, key=lambda r: r.overall.value if r.overall.known else -9)
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.27 * len(ordered)))
    for offset, colour, label, pick in (
        (0.13, "#1b6ca8", "overall", lambda r: r.overall),
        (-0.13, "#d1495b", "size removed", lambda r: r.removed),
    ):
        for y, r in enumerate(ordered):
            found = pick(r)
            if found.known:
                axes.plot([found.low, found.high], [y + offset] * 2, color=colour, linewidth=1.2)
                axes.plot(found.value, y + offset, "o", color=colour, markersize=4, label=label if y == 0 else None)
    axes.set_yticks(range(len(ordered)), [f"{r.name} ({r.share:.0%})" for r in ordered], fontsize=8)
    axes.axvline(0, color="#888", linewidth=0.8)
    axes.set_xlabel("Kendall's tau with the fully trained loss (95 % bootstrap interval)")
    axes.set_ylabel("estimate (cost as a share of full training)")
    axes.legend(
        handles=[
            plt.Line2D([], [], marker="o", color=c, label=w)
            for c, w in (("#1b6ca8", "overall"), ("#d1495b", "size removed"))
        ],
        loc="lower right",
    )
    axes.grid(axis="x", alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
