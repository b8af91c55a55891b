"""Does the correction of early losses hold on other spaces and texts, and does it adapt?

    python -m benchmarks.fidelity.other_spaces [--cells attention/code ...] [--report]

Spaces: `tiny_gpt`, `mixers` (six kinds of mixers), and decoders of attention alone. Texts: the source of the standard library, and the English of
its manual, which Python ships as `pydoc_data.topics` (0.47 MB). Each cell trains architectures drawn at random for 100,000 tokens, one seed, and keeps
the held-out loss after 10 and 25 % and at the end; `tiny_gpt` on code for 500,000 tokens is taken from the runs of `benchmarks.fidelity.run`, by
which the correction was fitted.

Asked: from how many finished runs on does what `learned_growth` makes of them order the others better than the correction that was fitted elsewhere?
Kendall's tau on those left out, mean of 40 random splits: overall, with size removed, and within 10 % of parameters. Finished trainings are lines of the
raw file, so it may be stopped and started again; a cell that is not there is left out. Writes benchmarks/results/fidelity_spaces.json and
fidelity_spaces_raw.jsonl.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: one thread, so that processor time can be compared

import argparse
import json
import tempfile
import time
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.common import RESULTS, envelope, write
from benchmarks.fidelity import arms
from nas_bo.architecture import Architecture
from nas_bo.model import Corpus, attention, dense, load_corpus, parameters, train
from nas_bo.objectives.growth import Growth
from nas_bo.objectives.learned_correction import Run, learned_growth
from nas_bo.report.ranks import point, tau, tau_size_removed, tau_within
from nas_bo.search_spaces import Mixers, TinyGPT
from nas_bo.space import Space, choice, integer, repeat

RAW = RESULTS / "fidelity_spaces_raw.jsonl"
FITTED = "tiny_gpt/code, by which it was fitted"
SPLITS, TAUGHT = 40, (0, 6, 12)
FEWEST = 16  # finished trainings of a cell that is reported
STATISTICS = {"tau": tau, "tau_size_removed": tau_size_removed, "tau_within_10_percent": tau_within}
SHARES = (0.1, 0.25)
FIRST_SEED = 2_000  # of architectures, none of which was seen by an estimate


class Attention(Space):
    """The sizes of `tiny_gpt` without its convolutions and without layers that lack an MLP."""

    depth = integer(1, 5)
    width = choice(32, 48, 64, 96)
    layers = repeat(
        depth,
        mixer=attention(heads=choice(2, 4), kv_group=choice(1, 2)),
        mlp=dense(ratio=choice(1, 2, 3, 4), gated=choice(True, False)),
    )


SPACES: dict[str, type[Space]] = {"tiny_gpt": TinyGPT, "mixers": Mixers, "attention": Attention}
CELLS: dict[str, tuple[int, int]] = {  # space/text -> architectures, tokens
    f"{space}/{text}": (24, 100_000) for text in ("prose", "code") for space in ("attention", "mixers", "tiny_gpt")
}


@cache
def corpus(text: str) -> Corpus:
    if text == "code":
        return load_corpus()
    from pydoc_data import topics

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "topics.txt"
        path.write_text("\n\n".join(topics.topics[name] for name in sorted(topics.topics)))
        return load_corpus(path)


def architectures(cell: str) -> list[Architecture]:
    """Distinct ones of the cell's space, by the seeds from `FIRST_SEED` on."""
    space, found, seed = SPACES[cell.split("/")[0]], dict[str, Architecture](), FIRST_SEED
    while len(found) < CELLS[cell][0]:
        arch = space.sample(seed)
        found.setdefault(arch.id, arch)
        seed += 1
    return list(found.values())


def lines() -> list[dict[str, object]]:
    return [json.loads(line) for line in RAW.read_text().splitlines()] if RAW.exists() else []


def measure(cell: str) -> None:
    done = {line["index"] for line in lines() if line["cell"] == cell}
    text, tokens = cell.split("/")[1], CELLS[cell][1]
    for index, arch in enumerate(architectures(cell)):
        if index in done:
            continue
        began = time.process_time()
        result = train(arch, corpus(text), tokens=tokens, seed=0, validate_at=SHARES, evaluation_tokens=32_768)
        line = {
            "cell": cell,
            "index": index,
            "cpu": round(time.process_time() - began, 2),
            "value": round(result.bits_per_byte, 5),
            "validation": result.validation,
        }
        with RAW.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(line, flush=True)


def runs_of(cell: str) -> dict[float, list[Run]]:
    """The finished runs of a cell, by the share at which they were looked at."""
    if cell == FITTED:
        archs, kept = arms.architectures(), (RESULTS / "fidelity_raw.jsonl").read_text().splitlines()
        told = [line for line in map(json.loads, kept) if line["arm"] == "reference" and line["seed"] == 0]
    else:
        archs, told = architectures(cell), [line for line in lines() if line["cell"] == cell]
    found: dict[float, list[Run]] = {}
    for line in told:
        *way, (end, _) = line["validation"]
        for share in SHARES:
            at, early = min(way, key=lambda pair: abs(pair[0] / end - share))
            found.setdefault(share, []).append(Run(archs[line["index"]], at / end, early, line["value"]))
    return found


def compared(runs: list[Run]) -> dict[str, dict[str, dict[str, float]]]:
    """By how many runs taught it and by what is compared: the taus on the others, means over splits, with the sd of learned - fitted."""
    share, final = runs[0].share, np.array([run.final for run in runs])
    early = np.array([run.early for run in runs])
    size = np.array([parameters(run.architecture, 256) for run in runs], dtype=float)
    fitted = early - np.array([Growth()(run.architecture, share, 256) for run in runs])
    found: dict[str, dict[str, dict[str, float]]] = {}
    for n in TAUGHT:
        taus: dict[str, dict[str, list[float]]] = {}
        for split in range(SPLITS if n else 1):
            order = np.random.default_rng(split).permutation(len(runs))  # ~ uniform
            rest = order[n:]
            guesses = {"as it is": early, "fitted elsewhere": fitted}
            if n:
                taught = learned_growth([runs[i] for i in order[:n]])
                guesses["learned"] = early - np.array([taught(run.architecture, share) for run in runs])
            for name, guess in guesses.items():
                for figure, statistic in STATISTICS.items():
                    value = point(statistic, [(guess[rest], final[rest])], size[rest])
                    taus.setdefault(name, {}).setdefault(figure, []).append(value)
        found[str(n)] = {
            name: {figure: round(float(np.nanmean(values)), 3) for figure, values in figures.items()}
            for name, figures in taus.items()
        }
    return found


def report() -> None:
    cells = {}
    for cell in (FITTED, *CELLS):
        runs = runs_of(cell)
        if runs and len(runs[SHARES[0]]) >= FEWEST:
            every = learned_growth([run for each in runs.values() for run in each])
            cells[cell] = {
                "runs": len(runs[SHARES[0]]),
                **{f"{share:.0%}": {"taus": compared(each), "learned_of_all": every.sentence(each[0].share)} for share, each in runs.items()},
            }  # fmt: skip
    what = "Kendall's tau of early losses with losses at the end: as they are, corrected as fitted elsewhere, corrected as learned from 6 or 12 others"
    write(envelope(what, "torch", "numpy", repeats=SPLITS, seeds=1, cells=cells), "fidelity_spaces.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=CELLS)
    parser.add_argument("--report", action="store_true", help="train nothing")
    given = parser.parse_args()
    for cell in () if given.report else given.cells:
        measure(cell)
    report()


if __name__ == "__main__":
    main()
