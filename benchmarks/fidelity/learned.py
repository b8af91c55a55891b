"""A predictor trained on 30 of the architectures and judged on the others, over random splits."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.model import parameters
from nas_bo.objectives import Predicted
from nas_bo.report.ranks import point, tau, tau_size_removed
from nas_bo.search_spaces import TinyGPT
from nas_bo.trial import Trial

NAME, TRIALS, SPLITS = "Predicted, 30 trials", 30, 10


def split(archs: Sequence[Architecture], truth: Mapping[int, float], number: int) -> dict[str, Any]:
    """One split: agreement and coverage of the 90 % intervals on what was held out, against the loss of seed 0."""
    order = np.random.default_rng(number).permutation(sorted(truth))
    began = time.process_time()
    trials = [Trial(archs[i], {"bits_per_byte": truth[i]}) for i in order[:TRIALS]]
    model = Predicted.fit(trials, "bits_per_byte", space=TinyGPT)
    rest = order[TRIALS:]
    found = model.estimate([archs[i] for i in rest])
    spent = time.process_time() - began
    values, real = np.array([e.value for e in found]), np.array([truth[i] for i in rest])
    size = np.array([parameters(archs[i], 256) for i in rest], dtype=float)
    return {
        "value": point(tau, [(values, real)]),
        "size_removed": point(tau_size_removed, [(values, real)], size),
        "covered": float(np.mean([e.low <= r <= e.high for e, r in zip(found, real, strict=True)])),
        "held_out": len(rest),
        "cpu": round(spent, 3),
    }
