"""What a search, or a validation, tells while it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nas_bo.trial import Trial
from nas_bo.workflows.nodes import Node


@dataclass(frozen=True)
class Progress:
    """Where a search is; `on_progress` is called with one after every trial.

    Attributes:
        phase: "profile" (of this machine), "block scores" (of a trained model), "baseline", "search", "retrain", "measure" (the front, side by side), "validate", or "ladder".
        done, total: trials (or re-trainings) ended, and wanted.
        seconds_left: estimate from what the others took, of all that is still to be evaluated, re-trainings and baselines included; None before the first.
        trial: the one that just ended; None at the start of a phase.
        label: its short name.
        front: the front so far.
        counts: how many trials of the study have "ended", "failed", are "running", "queued", "waiting" and "lost"; empty where nothing is searched.
        nodes: of a cluster, and what this search has evaluated there; empty elsewhere.
    """

    phase: str
    done: int
    total: int
    seconds_left: float | None
    trial: Trial | None = None
    label: str = ""
    front: Sequence[Trial] = field(default_factory=list)
    counts: Mapping[str, int] = field(default_factory=dict)
    nodes: Sequence[Node] = ()
