"""What a study says about itself from its first trial on: what is searched for, under which conditions, by whom and where."""

from __future__ import annotations

import platform
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from nas_bo import chance, provenance, redaction, serialization
from nas_bo.problem import Problem, column


def about(problem: Problem, strategy: object, seed: int) -> dict[str, Any]:
    """The meta-data of a study, JSON-safe, without logins: it goes into the study, into MLflow and into reports."""
    conditions = problem.conditions()
    evaluated = {"objectives": problem.objectives, "limits": problem.limits}
    rebuilt = {name: [serialization.describe(o) for o in some] for name, some in evaluated.items()}
    said: dict[str, Any] = redaction.nested(
        {
            "space": problem.space.to_dict(),
            "fingerprint": problem.space.fingerprint(),
            "columns": [asdict(c) for c in problem.columns],
            "constraints": list(problem.constraint_names),
            "conditions": conditions,
            **({"remarks": remarks} if (remarks := problem.remarks()) else {}),
            "recipe": rebuilt,
            "chance": chance.stated(problem.objectives),
            **({"proxies": [asdict(column(p)) for p in problem.proxies]} if problem.proxies else {}),
            "strategy": repr(strategy),
            "seed": seed,
            "versions": provenance.versions(),
            "machine": platform.machine(),
            "device": provenance.device(conditions),
            "git": provenance.git(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )
    return said
