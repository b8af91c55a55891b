"""Does the correction of early losses hold on other spaces and texts, and does it adapt?

    python -m benchmarks.fidelity.other_spaces [--cells attention/code ...] [--report]

Spaces: `tiny_gpt`, `mixers` (six kinds of mixers), and decoders of attention alone. Texts: the source of the standard library, and the English of
its manual, which Python ships as `pydoc_data.topics` (0.47 MB). Each cell trains 24 architectures drawn at random for 100,000 tokens, one seed,
and keeps the held-out loss after 10 and 25 % and at the end; of `tiny_gpt` on code there are also 32 for 500,000 tokens, on which no estimate was chosen.

Asked: from how many full runs on does what `Growth.learned` makes of them order the others better than the correction that was fitted elsewhere?
Kendall's tau on those left out, 20 random halves each, overall, with size removed, and within 10 % of parameters. Finished trainings are lines of the raw
file, so it may be stopped and started again. Writes benchmarks/results/fidelity_spaces.json and fidelity_spaces_raw.jsonl.
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

from benchmarks.common import RESULTS
from nas_bo.architecture import Architecture
from nas_bo.model import Corpus, attention, dense, load_corpus, train
from nas_bo.search_spaces import Mixers, TinyGPT
from nas_bo.space import Space, choice, integer, repeat

RAW = RESULTS / "fidelity_spaces_raw.jsonl"
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
    **{f"{space}/{text}": (24, 100_000) for text in ("prose", "code") for space in ("attention", "mixers", "tiny_gpt")},
    "tiny_gpt/code/long": (32, 500_000),
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=CELLS)
    parser.add_argument("--report", action="store_true", help="train nothing")
    given = parser.parse_args()
    for cell in () if given.report else given.cells:
        measure(cell)


if __name__ == "__main__":
    main()
