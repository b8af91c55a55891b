"""Is the gain of the default `nas-bo search` positive whatever the seed?

    python -m benchmarks.default_search.gain [--seeds 1 2] [--work FOLDER]

Runs the default job once for each seed, as a newcomer does but for `--seed`, and keeps what it says of its gain over the plain decoder, with the
load of the machine before. Seed 0 is that of `benchmarks.default_search.run`, read from its file. About five minutes a seed on two quiet cores. Seeds that were
measured before are kept; a search that was interrupted continues where FOLDER is the same. Writes benchmarks/results/default_search_gain.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, envelope, spread, write
from benchmarks.default_search.run import run_search

FILE = "default_search_gain.json"
KEPT = ("sentence", "better", "factor", "shown", "noise", "members")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--work", type=Path, help="a folder for the searches; default a temporary one")
    given = parser.parse_args()
    first = json.loads((RESULTS / "default_search.json").read_text())
    found: dict[str, Any] = {}
    if (RESULTS / FILE).exists():
        found = json.loads((RESULTS / FILE).read_text())["seeds"]
    load, processor = first["figures"]["search"]["load_before"], first["machine"]["processor"]
    found["0"] = {**_kept(first["gain"]), "agreement": first["agreement"], "load_before": load, "processor": processor}
    for seed in given.seeds:
        folder = (given.work or Path(tempfile.mkdtemp(prefix="gain-"))) / str(seed)
        folder.mkdir(parents=True, exist_ok=True)
        run = run_search(folder, ["--seed", str(seed)])
        told = run["told"]
        found[str(seed)] = {**_kept(told["gain"]), "agreement": told["agreement"], "load_before": run["load_before"]}
        gains = [one["better"]["value"] for one in found.values()]
        document = envelope(
            "bits per byte by which the front of the default search is better than plain decoders at equal latency, by seed; 95 % intervals",
            "torch",
            repeats=len(found),
            asked="positive, with the interval above zero, in every seed",
            above_zero=sum(bool(one["shown"]) for one in found.values()),
            spread=spread(gains),
            seeds=dict(sorted(found.items())),
        )
        write(document, FILE)


def _kept(gain: dict[str, Any]) -> dict[str, Any]:
    return {name: gain[name] for name in KEPT}


if __name__ == "__main__":
    main()
