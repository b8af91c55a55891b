"""Fuzzers for as long as there is time: `python -m tests.fuzz.run [--minutes 2] [--seed 0] [--kinds weights gguf ...]`.

Two minutes before a release, an hour (`--minutes 60`) after a change of something that reads files. Prints the seed of each fault;
`--seed N --count 1 --kinds K` tries that one again. The exit code is 1 where there was one. Documents and studies have tests of their own,
of which `NAS_BO_FUZZ=100000 pytest tests/fuzz` tries more.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.files import targets, tried


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0, help="the first")
    parser.add_argument("--count", type=int, default=sys.maxsize, help="of each kind, at most")
    parser.add_argument("--kinds", nargs="*", default=None)
    asked = parser.parse_args(arguments)
    until, tries, faults = time.monotonic() + 60 * asked.minutes, Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        before = os.getcwd()
        os.chdir(folder)
        kinds = targets(Path(folder))
        chosen = [kind for kind in kinds if asked.kinds is None or kind in asked.kinds]
        seed = asked.seed
        while time.monotonic() < until and seed < asked.seed + asked.count:
            for kind in chosen:
                tries[kind] += 1
                if why := tried(kinds[kind], seed):
                    faults[kind] += 1
                    print(f"{kind}, seed {seed}: {why}", flush=True)
            seed += 1
        os.chdir(before)
    for kind in chosen:
        print(f"{kind:<12} {tries[kind]:>8} tries {faults[kind]:>6} faults")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
