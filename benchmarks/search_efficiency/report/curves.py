"""The lines of the raw file as regret curves: one matrix per problem and arm."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.search_efficiency.problems import NAMES, SYNTHETIC, synthetic

LABELS = {
    "Bayes:door": "Bayes without a space, through Optuna",
    "optuna-random": "Optuna RandomSampler",
    "optuna-nsga2": "Optuna NSGAIISampler",
    "optuna-tpe": "Optuna TPESampler",
    "optuna-gp": "Optuna GPSampler",
    "optuna-botorch": "BoTorchSampler",
    "ax": "Ax default",
    "pymoo-nsga2": "pymoo NSGA-II",
}
TITLES = {
    "hwgpt-h100": "HW-GPT-Bench s, h100: perplexity, latency",
    "hwgpt-a100": "HW-GPT-Bench s, a100: perplexity, latency",
    "hwgpt-h100-3": "HW-GPT-Bench s, h100: perplexity, latency, parameters",
    "nb201-fpga": "NAS-Bench-201, FPGA: error, latency",
    "nb201-pixel3": "NAS-Bench-201, Pixel 3: error, latency",
    "nb201-fpga-fields": "NAS-Bench-201, FPGA, six fields: error, latency",
    "nb201-pixel3-fields": "NAS-Bench-201, Pixel 3, six fields: error, latency",
    "nb201-error": "NAS-Bench-201: error",
    "nb201-error-fields": "NAS-Bench-201, six fields: error",
    "mixed": "mixed: loss of three kinds of boosters with parameters of their own",
    "pipeline": "pipeline: error of three kinds of models, conditional on two levels",
    "deep": "deep: loss, latency",
    "deep-noisy": "deep, noisy loss: loss, latency",
    "limits": "limits: loss, latency, parameters; latency and memory limited",
}


@dataclass(frozen=True)
class Curves:
    """The runs of one arm on one problem.

    Attributes:
        regret: (seeds, evaluations), NaN where a run was not that long.
        cpu: n -> processor seconds of a question there, mean over the seeds.
    """

    arm: str
    ours: bool
    regret: np.ndarray
    cpu: Mapping[int, float]
    notes: tuple[str, ...] = ()

    @property
    def seeds(self) -> int:
        return len(self.regret)

    @property
    def group(self) -> str:
        if not self.ours:
            return "peer"
        return "blackbox" if self.arm.endswith(":blackbox") else "ours"

    @property
    def label(self) -> str:
        return LABELS.get(self.arm, self.arm.replace(":blackbox", ", black box"))

    def at(self, n: int) -> tuple[float, float, int]:
        """Mean, standard error (NaN for one seed) and number of the runs that are `n` evaluations long."""
        column = self.regret[:, n - 1] if n <= self.regret.shape[1] else np.empty(0)
        column = column[~np.isnan(column)]
        error = float(column.std(ddof=1) / math.sqrt(len(column))) if len(column) > 1 else math.nan
        return (float(column.mean()) if len(column) else math.nan), error, len(column)

    def mean(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard error (evaluations,), NaN where fewer than half of the runs are that long."""
        enough = (~np.isnan(self.regret)).sum(0) >= max(1, self.seeds / 2)
        both = np.array([self.at(n + 1)[:2] if fine else (math.nan, math.nan) for n, fine in enumerate(enough)])
        return both[:, 0], both[:, 1]

    def reaches(self, level: float) -> int | None:
        """The first n at which the mean regret is at most `level`."""
        mean = self.mean()[0]
        below = np.flatnonzero(mean <= level)
        return int(below[0]) + 1 if len(below) else None


def collect(lines: Iterable[dict[str, Any]]) -> dict[str, list[Curves]]:
    """Problem -> its arms. Of several lines of the same run the last counts, or the longest where all were interrupted."""
    runs: dict[tuple[str, str, int], dict[str, Any]] = {}
    for line in lines:
        if line["kind"] == "curve":
            key = line["problem"], line["arm"], line["seed"]
            old = runs.get(key)
            partial = line["stopped"] == "interrupted"
            if old is None or not partial or (old["stopped"] == "interrupted" and line["trials"] > old["trials"]):
                runs[key] = line
    found: dict[str, list[Curves]] = {}
    for problem in [p for p in NAMES if any(key[0] == p for key in runs)]:
        reference = synthetic(problem).hv if problem in SYNTHETIC else math.nan
        for arm in dict.fromkeys(key[1] for key in runs if key[0] == problem):
            mine = [runs[key] for key in sorted(runs) if key[:2] == (problem, arm) and runs[key]["trials"]]
            if mine:
                found.setdefault(problem, []).append(_curves(arm, mine, reference))
    return found


def _curves(arm: str, runs: list[dict[str, Any]], reference: float) -> Curves:
    longest = max(run["trials"] for run in runs)
    regret = np.full((len(runs), longest), np.nan)
    for row, run in zip(regret, runs, strict=True):
        hv = reference if math.isfinite(reference) else run["reference"] or math.nan
        volume = np.zeros(run["trials"])
        for n, value in run["hypervolume"]:
            volume[int(n) - 1 :] = value
        row[: run["trials"]] = 1.0 - volume / hv
    notes = []
    for what in ("fingerprint", "source", "versions", "machine"):
        kinds = {str(run[what]) for run in runs}
        if len(kinds) > 1:
            notes.append(f"runs of {len(kinds)} different {what}{'s' * (what[-1] != 's')}")
    for reason in dict.fromkeys(run["stopped"] for run in runs if run["stopped"]):
        notes.append(f"{sum(run['stopped'] == reason for run in runs)} of {len(runs)} ended early: {reason}")
    if (regret < -1e-6).any():  # not the rounding of stored volumes
        notes.append("exceeds the reference front")
    at: dict[int, list[float]] = {}
    for run in runs:
        for n, seconds in run["cpu_s"]["at"].items():
            at.setdefault(int(n), []).append(seconds)
    return Curves(arm, runs[0]["ours"], regret, {n: float(np.mean(s)) for n, s in at.items()}, tuple(notes))
