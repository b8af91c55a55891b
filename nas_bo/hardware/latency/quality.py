"""How far latency models can be trusted: each is fitted without some architectures and asked for those."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.hardware.devices.device import Device
from nas_bo.hardware.latency.learned import Learned
from nas_bo.hardware.latency.lookup import Lookup
from nas_bo.hardware.latency.profile import Profile, Quality
from nas_bo.hardware.latency.roofline import Roofline
from nas_bo.hardware.latency.roofline_model import RooflineModel
from nas_bo.hardware.workload import Part, Setting
from nas_bo.model import counts

FOLDS = 5
LEAST = 8  # architectures: below, a fold leaves too few to fit to

Fit = Callable[
    [Sequence[Architecture], Sequence[float]], Callable[[Sequence[Architecture]], tuple[np.ndarray, np.ndarray]]
]
"""Fitted to architectures and milliseconds, it gives milliseconds and half widths (inf for none) of others."""


def fits(base: Device | Roofline, setting: Setting, table: Mapping[Part, float] | None = None) -> dict[str, Fit]:
    """The latency models, and a line on FLOPs and one on parameters, which cost nothing, next to them."""
    made: dict[str, Fit] = {
        "learned": lambda archs, ms: Learned(base, setting, archs, ms).predict_many,
        "roofline": lambda archs, ms: RooflineModel(base, setting).fit(archs, ms).predict_many,
    }
    if table:
        made["lookup"] = lambda archs, ms: Lookup(table, setting).fit(archs, ms).predict_many
    made["flops"] = _line(
        lambda a: (
            counts.flops(a, setting.vocab_size, setting.context, ignore=setting.ignore)
            if setting.phase == "prefill"
            else sum(
                o.flops for o in counts.operations(a, setting.vocab_size, "decode", setting.context, 1, setting.ignore)
            )
        )
    )
    made["parameters"] = _line(lambda a: counts.parameters(a, setting.vocab_size, setting.ignore))
    return made


def scored(predicted: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Mean absolute error in percent, Kendall's tau (0 where all are predicted alike)."""
    from scipy.stats import kendalltau

    tau = float(np.nan_to_num(kendalltau(predicted, truth)[0])) if len(truth) > 1 else float("nan")
    return float(100 * np.mean(np.abs(predicted / truth - 1))), tau


def held_out(profile: Profile, at: int, seed: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Milliseconds and half widths (inf for none) by each model, five folds over what was measured in setting `at`; in the
    order of `Profile.measured`. Empty where there are fewer than 8."""
    setting = profile.settings[at]
    archs, times = profile.measured(setting)
    n = len(archs)
    if n < LEAST:
        return {}
    fold = np.random.default_rng(seed).permutation(n) % FOLDS
    found = {}
    for name, fit in fits(profile._roofline(setting), setting, profile.tables.get(at)).items():
        mean, half = np.zeros(n), np.full(n, np.inf)
        for k in range(FOLDS):
            taught, asked = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
            ask = fit([archs[i] for i in taught], [times[i] for i in taught])
            mean[asked], half[asked] = ask([archs[i] for i in asked])
        found[name] = mean, half
    return found


def cross_validated(profile: Profile, seed: int = 0) -> tuple[Quality, ...]:
    """Five folds over the measured architectures of each setting; nothing where there are fewer than 8."""
    found = []
    for at, setting in enumerate(profile.settings):
        truth = np.array(profile.measured(setting)[1])
        for name, (mean, half) in held_out(profile, at, seed).items():
            inside = float(np.mean(np.abs(truth - mean) <= half)) if np.isfinite(half).all() else None
            error, tau = scored(mean, truth)
            found.append(Quality(at, name, len(truth), round(error, 3), round(tau, 4), inside))
    return tuple(found)


def _line(size: Callable[[Architecture], float]) -> Fit:
    """A straight line between logarithms."""

    def fit(
        archs: Sequence[Architecture], ms: Sequence[float]
    ) -> Callable[[Sequence[Architecture]], tuple[np.ndarray, np.ndarray]]:
        sizes = np.log([size(a) for a in archs])
        slope, start = np.polyfit(sizes, np.log(ms), 1) if np.ptp(sizes) > 0 else (0.0, float(np.mean(np.log(ms))))

        def ask(others: Sequence[Architecture]) -> tuple[np.ndarray, np.ndarray]:
            predicted = np.exp(start + slope * np.log([size(a) for a in others]))
            return predicted, np.full(len(others), np.inf)

        return ask

    return fit
