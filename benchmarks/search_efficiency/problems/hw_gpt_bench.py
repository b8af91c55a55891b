"""HW-GPT-Bench (Sukthanker et al., NeurIPS 2024 Datasets and Benchmarks, arXiv 2405.10299), scale s, from a folder.

The folder is not part of this project. It holds `hwgpt.py` (the published perplexity network and fits of the published
latencies), its data `hwgpt_s.npz`, and `reference.json` (reference points and hypervolumes).
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from benchmarks.search_efficiency.problems.case import Case
from nas_bo.architecture import Architecture
from nas_bo.space import Space, choice, integer, repeat

CASES = {
    "hwgpt-h100": ("h100", ("perplexity", "latency_ms")),
    "hwgpt-a100": ("a100", ("perplexity", "latency_ms")),
    "hwgpt-h100-3": ("h100", ("perplexity", "latency_ms", "params_m")),
}


class GPTS(Space):
    """GPT-S: 1.9e12 architectures, named and typed as the benchmark's own example for Optuna does it."""

    embed_dim = choice(192, 384, 768)
    n_layer = integer(10, 12)
    bias = choice(True, False)
    layers = repeat(n_layer, mlp_ratio=integer(2, 4), n_head=choice(4, 8, 12))


def case(name: str, folder: Path) -> Case:
    """One of `CASES`.

    Raises:
        FileNotFoundError: `folder` does not hold the benchmark.
    """
    device, objectives = CASES[name]
    entry = json.loads((folder / "reference.json").read_text())[f"s/{device}/{','.join(objectives)}"]
    bench = _module(folder).HWGPT("s", device, folder)

    def perplexity(arch: Architecture) -> float:
        return float(bench.evaluate(_plain(arch))["perplexity"])

    def linear(weights: str, unit: float) -> Any:  # without the perplexity network: searchers ask for it very often
        return lambda arch: float((bench._features([_plain(arch)]) @ bench._w[weights])[0]) / unit

    every = {
        "perplexity": perplexity,
        "latency_ms": linear(f"lin_lat_{device}_ms", 1.0),
        "params_m": linear("lin_params", 1e6),
    }
    return Case(
        name,
        GPTS,
        {n: every[n] for n in objectives},
        objectives,
        tuple(entry["point"]),
        entry["hv"],
        known=objectives[1:],
        best={int(n): regret for n, regret in entry.get("limit", {}).items()},
        flat=True,
    )


def _plain(arch: Architecture) -> dict[str, Any]:
    return {
        "embed_dim": arch.embed_dim,
        "n_layer": arch.n_layer,
        "bias": arch.bias,
        "mlp_ratio": [layer.mlp_ratio for layer in arch.layers],
        "n_head": [layer.n_head for layer in arch.layers],
    }


def _module(folder: Path) -> Any:
    spec = importlib.util.spec_from_file_location("hwgpt", folder / "hwgpt.py")
    if spec is None or spec.loader is None or not (folder / "hwgpt.py").exists():
        raise FileNotFoundError(f"{folder} holds no hwgpt.py; --data names the folder of HW-GPT-Bench")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
