"""How fast architectures are drawn, encoded and varied: per second of processor time, median of seven repeats.

    python -m benchmarks.sampling.run

Writes benchmarks/results/sampling.json.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.common import envelope, write
from nas_bo.search_spaces import NAMED

REPEATS = 7


def rate(work: Callable[[], Any], count: int) -> dict[str, float]:
    per_second = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        per_second.append(count / (time.process_time() - start))
    return {
        "median": round(statistics.median(per_second)),
        "min": round(min(per_second)),
        "max": round(max(per_second)),
    }


def main() -> None:
    figures: dict[str, Any] = {}
    for name in ("tiny_gpt", "llama", "hybrid"):
        space, rng = NAMED[name], random.Random(0)
        archs = [space.sample(rng) for _ in range(1000)]
        figures[name] = {
            "sample": rate(lambda space=space, rng=rng: [space.sample(rng) for _ in range(1000)], 1000),
            "sample_uniform": rate(lambda space=space, rng=rng: [space.sample_uniform(rng) for _ in range(1000)], 1000),
            "from_flat": rate(lambda space=space, archs=archs: [space.architecture(a.flat) for a in archs], 1000),
            "encode": rate(lambda space=space, archs=archs: space.encode(archs), 1000),
        }
    what = "architectures per second of processor time"
    write(envelope(what, "numpy", repeats=REPEATS, figures=figures), "sampling.json")


if __name__ == "__main__":
    main()
