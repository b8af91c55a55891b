"""How well do models order architectures that they have not seen?

    python -m benchmarks.predictors.run --data FOLDER [--tables llmforge ...] [--models Committee ...] [--splits 10] [--sizes 30 100 400]

Tables: `llmforge` (see `llmforge.py`), and random architectures of HW-GPT-Bench (perplexity) and NAS-Bench-201 (error), from the
folder of `benchmarks.search_efficiency`. Models: those of `nas_bo.surrogate` on the columns of `nas_bo.objectives.Predicted`, and on the same columns
what others use (`alternatives.py`); `GP, before` is the process on the columns of version 0.1; `Transformer` reads the layers of
LLMForge themselves. Figures: Kendall's tau on 300 architectures that were held out, overall and among pairs within 10 % of parameters
(LLMForge); mean and standard error over the splits, which are the same for all models; processor seconds of a fit. Finished cells
of the result are kept: start again to continue. Everything takes about 12 minutes of a processor. Writes benchmarks/results/predictors.json.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.common import RESULTS, envelope
from benchmarks.predictors import alternatives, llmforge
from benchmarks.search_efficiency.problems import load
from nas_bo.architecture import Architecture
from nas_bo.objectives.predicted_inputs import Inputs
from nas_bo.space import Space
from nas_bo.surrogate import GP, Committee, GradientBoosting, MLPEnsemble, RandomTrees, Ridge
from nas_bo.surrogate.regressor import Regressor

HELD_OUT, NEAR = 300, 1.1
TABLES = ("llmforge", "hwgpt-h100", "nb201-error", "nb201-error-fields")
BEFORE, TRANSFORMER, SIZE = "GP, before", "Transformer", "parameters"
MODELS: dict[str, Regressor] = {
    "Committee": Committee(),
    "RandomTrees": RandomTrees(),
    "GP": GP(),
    "Ridge": Ridge(),
    "GradientBoosting": GradientBoosting(),
    "MLPEnsemble": MLPEnsemble(),
    "KernelRidge": alternatives.KernelRidge(),
    "RandomForest": alternatives.RandomForest(),
    BEFORE: GP(),
}
STEPS = 300  # of the transformer


class Rows(NamedTuple):
    space: type[Space]
    archs: Sequence[Architecture]
    values: np.ndarray
    sizes: np.ndarray | None


def rows_of(table: str, folder: Path) -> Rows:
    if table == "llmforge":
        found = llmforge.read(folder)
        return Rows(llmforge.LLMForge, found.archs, found.loss, found.params_m)
    (case,) = load([table], folder)
    rng = random.Random(0)
    archs = list({a.id: a for a in (case.space.sample(rng) for _ in range(900))}.values())
    return Rows(case.space, archs, np.array([case.functions[case.objectives[0]](a) for a in archs]), None)


def taus(predicted: np.ndarray, values: np.ndarray, sizes: np.ndarray | None) -> tuple[float, float]:
    """Kendall's tau of all pairs, and of those of about equal size (NaN without sizes)."""
    i, j = np.triu_indices(len(values), 1)
    agree = np.sign(predicted[i] - predicted[j]) * np.sign(values[i] - values[j])
    if sizes is None:
        return float(agree.mean()), float("nan")
    near = np.abs(np.log(sizes[i] / sizes[j])) <= np.log(NEAR)
    return float(agree.mean()), float(agree[near].mean())


def layers_of(archs: Sequence[Architecture]) -> np.ndarray:
    """(n, layers, features) of LLMForge, NaN where there is no layer."""
    found = np.full((len(archs), 39, 6), np.nan)
    for i, arch in enumerate(archs):
        for k, layer in enumerate(arch.layers):
            mixer = layer.mixer
            told = [mixer.n_head, mixer.n_kv_group, mixer.qk_dim, mixer.v_dim] if mixer.kind == "attention" else [0] * 4
            found[i, k] = [float(mixer.kind == "attention"), np.log(layer.mlp_size), *np.log1p(told)]
    return found


def cell(rows: Rows, columns: tuple[np.ndarray, Any], model: str, size: int, splits: int) -> dict[str, Any]:
    """Mean and standard error of the taus, and processor seconds of a fit with its predictions."""
    overall, near, seconds = [], [], []
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(rows.values))  # ~ uniform
        train, test = order[:size], order[-HELD_OUT:]
        began = time.process_time()
        if model == SIZE:
            assert rows.sizes is not None
            predicted = -rows.sizes[test]
        elif model == TRANSFORMER:
            predicted = alternatives.transformer(columns[0], train, rows.values[train], test, STEPS)
        else:
            inputs, blocks = columns
            predicted = MODELS[model].fit(inputs[train], rows.values[train], blocks).predict(inputs[test])[0]
        seconds.append(time.process_time() - began)
        both = taus(predicted, rows.values[test], None if rows.sizes is None else rows.sizes[test])
        overall.append(both[0])
        near.append(both[1])
    told = {"tau": _told(overall), "cpu_s": round(statistics.mean(seconds), 3), "splits": splits}
    return told | ({"tau_of_equal_size": _told(near)} if rows.sizes is not None else {})


def _told(values: list[float]) -> dict[str, float]:
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return {"mean": round(statistics.mean(values), 4), "se": round(error, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the published tables")
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=TABLES)
    parser.add_argument("--models", nargs="+", default=[*MODELS, TRANSFORMER, SIZE])
    parser.add_argument("--sizes", type=int, nargs="+", default=[30, 100, 400])
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--again", action="store_true", help="measure cells anew that are in the result")
    given = parser.parse_args()
    path = RESULTS / "predictors.json"
    before: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    told: dict[str, Any] = before.get("tau", {})
    for table in given.tables:
        rows = rows_of(table, given.data)
        new, old = (Inputs(rows.space, rows.archs, profile=profile) for profile in (True, False))
        columns = {True: (new(rows.archs), new.blocks), False: (old(rows.archs), old.blocks)}
        for model in given.models:
            if table != "llmforge" and model in (TRANSFORMER, SIZE):
                continue
            for size in given.sizes:
                place = told.setdefault(table, {}).setdefault(model, {})
                if str(size) in place and not given.again:
                    continue
                seen = (layers_of(rows.archs), ()) if model == TRANSFORMER else columns[model != BEFORE]
                place[str(size)] = cell(rows, seen, model, size, given.splits)
                print(table, model, size, place[str(size)], flush=True)
                head = envelope("Kendall's tau with held-out architectures", "numpy", "scipy", "scikit-learn", "torch")
                place[str(size)]["processor"] = head["machine"]["processor"]
                head["machine"] = before.get("machine", head["machine"])  # of cells that name no processor
                path.write_text(json.dumps({**head, "held_out": HELD_OUT, "tau": told}, indent=1) + "\n")


if __name__ == "__main__":
    main()
