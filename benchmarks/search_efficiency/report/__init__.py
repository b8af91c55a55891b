"""Tables, picture and figures from the raw lines of `search_efficiency.py`."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.search_efficiency.report.curves import LABELS, TITLES, Curves, collect
from benchmarks.search_efficiency.report.picture import picture

CHECKPOINTS = (10, 25, 50, 100, 200)
JUDGED = 100  # the evaluations at which the best peer is chosen
GROUPS = {"ours": "nas_bo", "blackbox": "nas_bo, nothing known", "peer": "peers"}


def report(lines: Sequence[dict[str, Any]], folder: Path) -> str:
    """Write search_efficiency.json, .md and .png into `folder`; the Markdown is returned."""
    problems = collect(lines)
    best = {line["problem"]: {int(n): r for n, r in line["best"].items()} for line in lines if line.get("best")}
    text = ["# Regret of strategies and samplers over evaluations\n"]
    figures: dict[str, Any] = {}
    for problem, curves in problems.items():
        level, peer = _level(curves)
        text += [f"## {TITLES.get(problem, problem)}\n", *_regrets(curves, best.get(problem, {}))]
        text += ["", *_needed(curves, level, peer), ""]
        figures[problem] = {
            "best_peer_at_100": {"arm": peer and peer.arm, "regret": _rounded(level)},
            "limit": best.get(problem, {}),
            "arms": {c.arm: _figures(c, level) for c in curves},
        }
    costs = [line for line in {(x["problem"], x["arm"], x["n"]): x for x in lines if x["kind"] == "cost"}.values()]
    for problem in dict.fromkeys(line["problem"] for line in costs):
        mine = [line for line in costs if line["problem"] == problem]
        text += [f"## Processor seconds of one question: {TITLES.get(problem, problem)}\n", *_costs(mine), ""]
    document = {
        "what": "regret = 1 - hypervolume of the first n evaluations / hypervolume of the reference front",
        "machine": sorted({line["machine"] for line in lines}),
        "versions": _versions(lines),
        "repeats": {p: {c.arm: c.seeds for c in curves} for p, curves in problems.items()},
        "figures": figures,
        "ask_cpu_s": [
            {k: line[k] for k in ("problem", "arm", "n", "cpu_s", "first_cpu_s", "asks", "skipped") if k in line}
            for line in costs
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    markdown = "\n".join(text) + "\n"
    (folder / "search_efficiency.json").write_text(json.dumps(document, indent=1) + "\n")
    (folder / "search_efficiency.md").write_text(markdown)
    if problems:
        picture(problems, best, folder / "search_efficiency.png")
    return markdown


def _level(curves: Sequence[Curves]) -> tuple[float, Curves | None]:
    """The best mean regret of a peer after `JUDGED` evaluations, and whose it is."""
    peers = [c for c in curves if c.group == "peer" and not math.isnan(c.at(JUDGED)[0])]
    chosen = min(peers, key=lambda c: c.at(JUDGED)[0], default=None)
    return (math.nan if chosen is None else chosen.at(JUDGED)[0]), chosen


def _regrets(curves: Sequence[Curves], best: dict[int, float]) -> list[str]:
    header = "| arm | seeds | " + " | ".join(f"n={n}" for n in CHECKPOINTS) + " | CPU s per ask at 100 |"
    text = [header, "|---" * (len(CHECKPOINTS) + 3) + "|"]
    for group, title in GROUPS.items():
        mine = sorted((c for c in curves if c.group == group), key=_order)
        if mine:
            text.append(f"| *{title}* |" + " |" * (len(CHECKPOINTS) + 2))
        for c in mine:
            cells = [_cell(*c.at(n), of=c.seeds) for n in CHECKPOINTS]
            cpu = next((f"{c.cpu[n]:.2g}" for n in (100, 50, 25, 10) if n in c.cpu), "-")
            text.append(f"| {c.label} | {c.seeds} | {' | '.join(cells)} | {cpu} |")
    if best:
        cells = [f"{best[n]:.4f}" if n in best else "-" for n in CHECKPOINTS]
        text.append(f"| *best n points of the front* | | {' | '.join(cells)} | |")
    notes = [f"{c.label}: {note}." for c in curves for note in c.notes]
    return [*text, *(["", *notes] if notes else [])]


def _order(c: Curves) -> float:
    regret = c.at(JUDGED)[0]
    return math.inf if math.isnan(regret) else regret


def _cell(mean: float, error: float, count: int, of: int) -> str:
    if math.isnan(mean):
        return "-"
    spread = "" if math.isnan(error) else f" ± {error:.4f}"
    return f"{mean:.4f}{spread}" + (f" ({count} seeds)" if count < of else "")


def _needed(curves: Sequence[Curves], level: float, peer: Curves | None) -> list[str]:
    if peer is None:
        return [f"No peer ran for {JUDGED} evaluations here."]
    text = [
        f"Evaluations until the mean regret is that of the best peer at {JUDGED} ({peer.label}, {level:.4f}):\n",
        "| arm | evaluations | share |",
        "|---|---|---|",
    ]
    for c in sorted(curves, key=lambda c: c.reaches(level) or math.inf):
        n = c.reaches(level)
        cells = f"{n} | {n / JUDGED:.2f}" if n else f"more than {c.regret.shape[1]} | -"
        text.append(f"| {c.label} | {cells} |")
    return text


def _costs(lines: Sequence[dict[str, Any]]) -> list[str]:
    lengths = sorted({line["n"] for line in lines})
    text = ["| arm | " + " | ".join(f"n={n}" for n in lengths) + " |", "|---" * (len(lengths) + 1) + "|"]
    by = {(line["arm"], line["n"]): line for line in lines}
    for arm in dict.fromkeys(line["arm"] for line in lines):
        cells = []
        for n in lengths:
            line = by.get((arm, n), {})
            cells.append(f"{line['cpu_s']:.2g}" if "cpu_s" in line else "skipped" if "skipped" in line else "-")
        text.append(f"| {LABELS.get(arm, arm.replace(':blackbox', ', black box'))} | {' | '.join(cells)} |")
    skipped = {f"{LABELS.get(x['arm'], x['arm'])}: {x['skipped']}." for x in lines if "skipped" in x}
    return [*text, *(["", *sorted(skipped)] if skipped else [])]


def _figures(c: Curves, level: float) -> dict[str, Any]:
    at = {n: c.at(n) for n in CHECKPOINTS}
    return {
        "ours": c.ours,
        "regret": {n: {"mean": _rounded(m), "se": _rounded(e), "seeds": k} for n, (m, e, k) in at.items() if k},
        "evaluations_to_best_peer_at_100": c.reaches(level),
        "run_cpu_s_per_ask": {n: float(f"{s:.3g}") for n, s in sorted(c.cpu.items())},
        "notes": list(c.notes),
    }


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 5)


def _versions(lines: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, set[str]] = {}
    for line in lines:
        for package, number in line["versions"].items():
            found.setdefault(package, set()).add(number)
    return {package: sorted(numbers) for package, numbers in sorted(found.items())}


__all__ = ["report"]
