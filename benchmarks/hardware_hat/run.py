"""How many measurements a latency model needs on the published latencies of HAT (Wang et al., 2020, arXiv 2005.14187).

    python -m benchmarks.hardware_hat.run --published FOLDER [--draws 10] [--network-draws 1]

FOLDER holds `hat_latency.parquet`: 2,000 encoder-decoder transformers for each of eight pairs of a task and a device, known
by ten features (averages over layers). 400 rows of each pair are held out, budgets are drawn from the other 1,600. The
published features know no layers, so `Learned` cannot be used: here a Gaussian process of `nas_bo.surrogate` corrects a
calibrated roofline-like sum of work, as `Learned` does; five folds of the budget choose between both ("chosen"). Beside it a
network of the published shape (three hidden layers of 400 behind a first one) on standardised features and logarithms, by Adam at
1e-3; one draw, since it is slow. Writes
benchmarks/results/hardware_hat.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import RESULTS, envelope, spread, write
from nas_bo.hardware.latency.quality import scored
from nas_bo.surrogate.process import GaussianProcess

HELD = 400
FITTED = 150  # rows that hyperparameters are fitted to
BUDGETS = (50, 100, 200, 400, 500, 1600)
QUARTERS = ((50, 200), (100, 400), (400, 1600))
FEATURES = (
    "encoder_embed_dim", "encoder_layer_num", "encoder_ffn_embed_dim_avg", "encoder_self_attention_heads_avg",
    "decoder_embed_dim", "decoder_layer_num", "decoder_ffn_embed_dim_avg", "decoder_self_attention_heads_avg",
    "decoder_ende_attention_heads_avg", "decoder_arbitrary_ende_attn_avg",
)  # fmt: skip
HEAD = 512  # queries, keys and values are this wide whatever the number of heads
Predict = Callable[[np.ndarray], np.ndarray]


def work(x: np.ndarray) -> np.ndarray:
    """(n, 5) millions of multiplications per token: encoder; decoder projections, feed-forward; its layers; fixed."""
    encoder, depth, hidden, _, width, layers, inner, _, _, seen = x.T
    ours = layers * 4 * width * HEAD  # self attention
    theirs = layers * 2 * HEAD * (width + encoder * seen)  # attention to the encoder
    return np.column_stack([
        depth * (4 * encoder * HEAD + 2 * encoder * hidden) / 1e6, (ours + theirs) / 1e6, layers * 2 * width * inner / 1e6,
        layers, np.ones(len(x)),
    ])  # fmt: skip


def columns(x: np.ndarray) -> np.ndarray:
    """Inputs of the process: the features as they are, and logarithms of work."""
    some = work(x)[:, :3]
    varied = np.delete(x, 1, axis=1)  # all encoders have six layers
    return np.column_stack([varied, np.log(some)])


def gp(x: np.ndarray, y: np.ndarray, seed: int) -> Predict:
    """Residuals are cut at three robust deviations first: some published rows are half as slow again as their like."""
    base = _base(x, y)
    rest = np.log(y / base(x))
    middle = float(np.median(rest))
    reach = 3 * 1.4826 * float(np.median(np.abs(rest - middle)))
    inputs = columns(x)
    low, wide = inputs.min(0), np.ptp(inputs, axis=0)
    keep = wide > 0
    made = GaussianProcess(
        ((inputs - low) / np.where(keep, wide, 1.0))[:, keep], np.clip(rest, middle - reach, middle + reach),
        int(keep.sum()), fitted=FITTED,
    )  # fmt: skip
    return lambda other: (
        base(other) * np.exp(made.expect(((columns(other) - low) / np.where(keep, wide, 1.0))[:, keep]))
    )


def _base(x: np.ndarray, y: np.ndarray) -> Predict:
    """Coefficients of at least 0 with the least absolute relative error, by repeated weighting."""
    from scipy.optimize import nnls

    shares, weights = work(x) / y[:, None], np.ones(len(y))
    for _ in range(20):
        found, _ = nnls(shares * weights[:, None], weights)
        weights = 1 / np.sqrt(np.maximum(np.abs(shares @ found - 1), 1e-3))
    return lambda other: np.maximum(work(other) @ found, 1e-3)


def roofline(x: np.ndarray, y: np.ndarray, seed: int) -> Predict:
    return _base(x, y)


def chosen(x: np.ndarray, y: np.ndarray, seed: int) -> Predict:
    """Corrected or not, as five folds of what was measured say."""
    fold = np.random.default_rng(seed).permutation(len(y)) % 5

    def error(fit: Callable[[np.ndarray, np.ndarray, int], Predict]) -> float:
        left = [np.abs(fit(x[fold != k], y[fold != k], seed)(x[fold == k]) / y[fold == k] - 1) for k in range(5)]
        return float(np.concatenate(left).mean())

    return gp(x, y, seed) if error(gp) < error(roofline) else roofline(x, y, seed)


def better(x: np.ndarray, y: np.ndarray, seed: int) -> Predict:
    """The published network; 600 steps, of which the one is taken that is best on a tenth of the budget."""
    import torch

    torch.manual_seed(seed)
    net, rng = _net(x.shape[1]), np.random.default_rng(seed)
    middle, spread = x.mean(0), np.maximum(x.std(0), 1e-9)
    spread[x.std(0) == 0] = 1.0
    start, wide = float(np.log(y).mean()), float(np.log(y).std())
    adam = torch.optim.Adam(net.parameters(), lr=1e-3)
    inputs = torch.tensor((x - middle) / spread).float()
    targets = torch.tensor((np.log(y) - start) / wide).float()
    order = rng.permutation(len(y))
    checked, taught = order[: len(y) // 10], order[len(y) // 10 :]
    best: tuple[float, Any] = (float("inf"), None)
    for step in range(600):
        some = torch.from_numpy(rng.choice(taught, min(128, len(taught)), replace=False))
        loss = (net(inputs[some]).squeeze(1) - targets[some]).abs().mean()
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        if step % 25 == 24:
            with torch.no_grad():
                error = float((net(inputs[checked]).squeeze(1) - targets[checked]).abs().mean())
            if error < best[0]:
                best = error, {k: v.clone() for k, v in net.state_dict().items()}
    net.load_state_dict(best[1])
    return lambda other: np.exp(start + wide * _ask(net, (other - middle) / spread))


def _net(width: int) -> Any:
    from torch.nn import Linear, ReLU, Sequential

    hidden = [layer for _ in range(3) for layer in (Linear(400, 400), ReLU())]
    return Sequential(Linear(width, 400), ReLU(), *hidden, Linear(400, 1))


def _ask(net: Any, x: np.ndarray) -> np.ndarray:
    import torch

    with torch.no_grad():
        found: np.ndarray = net(torch.tensor(x).float()).squeeze(1).double().numpy()
    return found


MODELS: dict[str, Callable[[np.ndarray, np.ndarray, int], Predict]] = {
    "chosen": chosen,
    "gp": gp,
    "roofline": roofline,
    "mlp": better,
}
NETWORKS = {"mlp": (200, 400, 1600)}  # the budgets that they are trained at: they are slow


def measured(
    folder: Path, draws: int, networks: int, budgets: tuple[int, ...], models: list[str]
) -> list[dict[str, Any]]:
    import pandas as pd

    table = pd.read_parquet(folder / "hat_latency.parquet")
    found = []
    for (task, device), rows in table.groupby(["task", "device"]):
        x, y = rows[list(FEATURES)].to_numpy(float), rows["latency_mean_total"].to_numpy(float)
        for budget in budgets:
            row: dict[str, Any] = {"device": device, "task": task, "measured": budget}
            for name in models:
                if budget not in NETWORKS.get(name, budgets):
                    continue
                scores, seconds = [], 0.0
                for draw in range(networks if name in NETWORKS else draws):
                    order = np.random.default_rng(draw).permutation(len(y))
                    asked, taught = order[:HELD], order[HELD : HELD + budget]
                    begun = time.process_time()
                    predict = MODELS[name](x[taught], y[taught], draw)
                    seconds += time.process_time() - begun
                    scores.append(scored(predict(x[asked]), y[asked]))
                row[name] = {
                    "mape_percent": spread([s[0] for s in scores]),
                    "tau": round(statistics.mean(s[1] for s in scores), 4),
                    "fit_cpu_s": round(seconds / len(scores), 2),
                    "draws": len(scores),
                }
            found.append(row)
            sys.stderr.write(json.dumps(row) + "\n")
    return found


def quarters(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is chosen at a budget against a network at four times as many."""
    at = {(r["task"], r["device"], r["measured"]): r for r in rows}
    found = []
    for task, device in dict.fromkeys((r["task"], r["device"]) for r in rows):
        for few, many in QUARTERS:
            if "chosen" not in at.get((task, device, few), {}) or (task, device, many) not in at:
                continue
            ours = at[task, device, few]["chosen"]["mape_percent"]["mean"]
            row: dict[str, Any] = {"device": device, "task": task, "measured": few, "ours": ours, "mlp_measured": many}
            if "mlp" in at[task, device, many]:
                row["mlp"] = at[task, device, many]["mlp"]["mape_percent"]["mean"]
                row["at_least_as_good"] = ours <= row["mlp"]
            found.append(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--published", type=Path, required=True, help="folder with hat_latency.parquet")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--network-draws", type=int, default=1)
    parser.add_argument("--budget", type=int, action="append", help="repeatable; default: all")
    parser.add_argument(
        "--model", action="append", choices=list(MODELS), help="repeatable, the others stay in the file; default: all"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "hardware_hat.json")
    asked = parser.parse_args()
    before = json.loads(asked.out.read_text())["published"] if asked.model and asked.out.exists() else []
    kept = {(r["task"], r["device"], r["measured"]): r for r in before}
    budgets, models = tuple(asked.budget or BUDGETS), asked.model or list(MODELS)
    for row in measured(asked.published, asked.draws, asked.network_draws, budgets, models):
        kept.setdefault((row["task"], row["device"], row["measured"]), {}).update(row)
    rows = list(kept.values())
    what = (
        f"latency predicted from the published features of HAT, {HELD} of 2,000 rows held out per pair; MAPE in percent"
    )
    found = {"published": rows, "a_quarter": quarters(rows)}
    write(envelope(what, "numpy", repeats=asked.draws, **found), asked.out.absolute())


if __name__ == "__main__":
    main()
