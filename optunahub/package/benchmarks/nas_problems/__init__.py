"""Published benchmarks of neural architecture search as Optuna problems: NAS-Bench-201 with latencies, HW-GPT-Bench, and the table of LLMForge.

Every value was measured or published by others; a problem reads it from a file that you name, in microseconds. Nothing is trained or downloaded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd

import optunahub

MINIMIZE = optuna.study.StudyDirection.MINIMIZE


class NASBench201(optunahub.benchmarks.BaseProblem):
    """All 15,625 cells of NAS-Bench-201: the error in points, and the latency on a device. The front is exact.

    Args:
        path: a .parquet or .csv file with the columns op0 to op5, a column of accuracies in points, and `latency_DEVICE_ms`.
        device: such as "fpga" or "pixel3"; None for the error alone.
        accuracy: the column of the accuracies. That of 12 epochs and that of 200 do not compare.

    Raises:
        ValueError: there is no such column, or the table is not complete.
    """

    OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")

    def __init__(
        self, path: str | Path, device: str | None = "fpga", accuracy: str = "cifar10_val_accuracy_12_epochs"
    ) -> None:
        rows = _table(path)
        names = [f"op{i}" for i in range(6)]
        values = [accuracy] + ([] if device is None else [f"latency_{device}_ms"])
        _has(rows, [*names, *values], path)
        keys = zip(*(rows[name].astype(str) for name in names), strict=True)
        figures = rows[values].to_numpy(dtype=float).tolist()
        self._rows = {key: (100.0 - row[0], *row[1:]) for key, row in zip(keys, figures, strict=True)}
        if len(self._rows) != len(self.OPERATIONS) ** 6:
            raise ValueError(
                f"{path} holds {len(self._rows):,} of the {len(self.OPERATIONS) ** 6:,} cells of NAS-Bench-201"
            )
        self._device = device

    @property
    def search_space(self) -> dict[str, optuna.distributions.BaseDistribution]:
        """The six operations; their choices have no order."""
        return {f"op{i}": optuna.distributions.CategoricalDistribution(self.OPERATIONS) for i in range(6)}

    @property
    def directions(self) -> list[optuna.study.StudyDirection]:
        return [MINIMIZE] * (1 if self._device is None else 2)

    def evaluate(self, params: dict[str, Any]) -> float | Sequence[float]:
        """The error in points, or (error, latency in ms)."""
        found = self._rows[tuple(params[f"op{i}"] for i in range(6))]
        return found[0] if self._device is None else found

    def front(self) -> list[tuple[float, ...]]:
        """The values that no cell dominates, lowest error first."""
        return _front(list(self._rows.values()))


class HWGPTBench(optunahub.benchmarks.BaseProblem):
    """HW-GPT-Bench, GPT-S: 1.9e12 decoders; perplexity by the benchmark's own published network, latency and parameters by fits of its measurements.

    `mlp_ratio_i` and `n_head_i` exist only for the layers that exist: calling the problem suggests them while it goes, `search_space` lists
    those of all twelve layers.

    Args:
        path: `hwgpt_s.npz`: fc1 to fc5 of the network, `lin_lat_DEVICE_ms` and `lin_params`.
        device: "h100" or "a100".
        objectives: of "perplexity", "latency_ms", "params_m".

    Raises:
        ValueError: the file lacks an array, or there is no such objective.
    """

    WIDTHS, DEPTHS, RATIOS, HEADS = (192, 384, 768), (10, 11, 12), (2, 3, 4), (4, 8, 12)
    OBJECTIVES = ("perplexity", "latency_ms", "params_m")

    def __init__(
        self, path: str | Path, device: str = "h100", objectives: Sequence[str] = ("perplexity", "latency_ms")
    ) -> None:
        unknown = [name for name in objectives if name not in self.OBJECTIVES]
        if unknown or not objectives:
            raise ValueError(f"objectives {list(objectives)}: take some of {', '.join(self.OBJECTIVES)}")
        with np.load(path) as data:
            self._arrays = {name: data[name] for name in data.files}
        self._objectives, self._latency = tuple(objectives), f"lin_lat_{device}_ms"
        needed = [f"fc{i}.{part}" for i in range(1, 6) for part in ("weight", "bias")]
        lacking = [name for name in (*needed, self._latency, "lin_params") if name not in self._arrays]
        if lacking:
            raise ValueError(f"{path} has no {lacking[0]}; it has {', '.join(sorted(self._arrays))}")

    @property
    def search_space(self) -> dict[str, optuna.distributions.BaseDistribution]:
        categorical, whole = optuna.distributions.CategoricalDistribution, optuna.distributions.IntDistribution
        layers = range(self.DEPTHS[-1])
        return {
            "embed_dim": categorical(self.WIDTHS),
            "n_layer": whole(self.DEPTHS[0], self.DEPTHS[-1]),
            "bias": categorical((True, False)),
            **{f"mlp_ratio_{i}": whole(self.RATIOS[0], self.RATIOS[-1]) for i in layers},
            **{f"n_head_{i}": categorical(self.HEADS) for i in layers},
        }

    @property
    def directions(self) -> list[optuna.study.StudyDirection]:
        return [MINIMIZE] * len(self._objectives)

    def __call__(self, trial: optuna.Trial) -> float | Sequence[float]:
        params: dict[str, Any] = {
            "embed_dim": trial.suggest_categorical("embed_dim", self.WIDTHS),
            "n_layer": trial.suggest_int("n_layer", self.DEPTHS[0], self.DEPTHS[-1]),
            "bias": trial.suggest_categorical("bias", (True, False)),
        }
        for i in range(params["n_layer"]):
            params[f"mlp_ratio_{i}"] = trial.suggest_int(f"mlp_ratio_{i}", self.RATIOS[0], self.RATIOS[-1])
            params[f"n_head_{i}"] = trial.suggest_categorical(f"n_head_{i}", self.HEADS)
        return self.evaluate(params)

    def evaluate(self, params: dict[str, Any]) -> float | Sequence[float]:
        """The objectives; parameters of layers that do not exist are ignored."""
        depth = params["n_layer"]
        ratios = [params[f"mlp_ratio_{i}"] for i in range(depth)]
        heads = [params[f"n_head_{i}"] for i in range(depth)]
        linear = self._linear(params["embed_dim"], depth, params["bias"], ratios, heads)
        values = {
            "latency_ms": lambda: float(linear @ self._arrays[self._latency]),
            "params_m": lambda: float(linear @ self._arrays["lin_params"]) / 1e6,
            "perplexity": lambda: self._perplexity(params["embed_dim"], depth, params["bias"], ratios, heads),
        }
        found = tuple(values[name]() for name in self._objectives)
        return found[0] if len(found) == 1 else found

    def _linear(self, width: int, depth: int, bias: bool, ratios: list[int], heads: list[int]) -> np.ndarray:
        """(18,): six features for each width."""
        row, at = np.zeros(18), 6 * self.WIDTHS.index(width)
        counts = [sum(h == self.HEADS[k] for h in heads) for k in (1, 2)]
        row[at : at + 6] = [1, depth, bias, sum(ratios), *counts]
        return row

    def _perplexity(self, width: int, depth: int, bias: bool, ratios: list[int], heads: list[int]) -> float:
        most = self.DEPTHS[-1]
        row = np.zeros(8 + 6 * most, np.float32)
        row[self.WIDTHS.index(width)] = row[3 + self.DEPTHS.index(depth)] = 1
        for i, (ratio, head) in enumerate(zip(ratios, heads, strict=True)):
            row[6 + 3 * i + self.RATIOS.index(ratio)] = 1
            row[6 + 3 * most + 3 * i + self.HEADS.index(head)] = 1
        row[6 + 6 * most + (0 if bias else 1)] = 1
        for i in range(1, 5):
            row = np.maximum(row @ self._arrays[f"fc{i}.weight"].T + self._arrays[f"fc{i}.bias"], 0.0)
        return float((row @ self._arrays["fc5.weight"].T + self._arrays["fc5.bias"])[0])


class LLMForgeTable(optunahub.benchmarks.BaseProblem):
    """Decoders of 43 to 389 million parameters that were trained one by one (LLMForge): held-out loss, and a cost.

    The table is a sample of a space that is far larger, so a trial asks for a description (depth, attention layers, sizes) and gets the row
    that is nearest to it; its number is kept as the user attribute "row". Parameter count hardly orders these losses, which is what makes the problem hard.

    Args:
        path: a .parquet or .csv file with the columns arch (a JSON list of layers), depth, attention_layers, val_loss and the cost.
        cost: "params_m", "mflops" or "kv_cache_mb"; None for the loss alone.

    Raises:
        ValueError: there is no such column, or a row cannot be read.
    """

    FEATURES = ("depth", "attention_layers", "mlp_size", "n_head", "head_dim")

    def __init__(self, path: str | Path, cost: str | None = "params_m") -> None:
        rows = _table(path)
        values = ["val_loss"] + ([] if cost is None else [cost])
        _has(rows, ["arch", "depth", "attention_layers", *values], path)
        self._values = [tuple(row) for row in rows[values].to_numpy(dtype=float).tolist()]
        features = [self._described(text, at, path) for at, text in enumerate(rows["arch"])]
        self._low, high = np.min(features, axis=0), np.max(features, axis=0)
        self._range = np.where(high > self._low, high - self._low, 1.0)
        self._features = (np.array(features) - self._low) / self._range
        self._high, self._cost = high, cost

    @classmethod
    def _described(cls, text: str, at: int, path: str | Path) -> list[float]:
        """The features of one row: counts, and means over the layers that have a size (raises ValueError)."""
        try:
            layers = json.loads(text)
            attention = [layer for layer in layers if "n_head" in layer]
            sizes = [layer.get("mlp_size", 0) for layer in layers]
            means = [
                float(np.mean([layer[name] for layer in attention])) if attention else 0.0
                for name in ("n_head", "n_qk_head_dim")
            ]
            return [float(len(layers)), float(len(attention)), float(np.mean(sizes)), *means]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"row {at} of {path} has no architecture that can be read: {error!r}") from error

    @property
    def search_space(self) -> dict[str, optuna.distributions.BaseDistribution]:
        """A description of a decoder, within the bounds of the table."""
        whole, real = optuna.distributions.IntDistribution, optuna.distributions.FloatDistribution
        space: dict[str, optuna.distributions.BaseDistribution] = {}
        for name, low, high in zip(self.FEATURES, self._low, self._high, strict=True):
            counts = name in ("depth", "attention_layers")
            space[name] = whole(int(low), int(high)) if counts else real(float(low), float(high))
        return space

    @property
    def directions(self) -> list[optuna.study.StudyDirection]:
        return [MINIMIZE] * (1 if self._cost is None else 2)

    def __call__(self, trial: optuna.Trial) -> float | Sequence[float]:
        found = super().__call__(trial)
        trial.set_user_attr("row", self.row(trial.params))
        return found

    def row(self, params: dict[str, Any]) -> int:
        """The number of the row that is nearest; of equally near ones the first."""
        asked = (np.array([params[name] for name in self.FEATURES], float) - self._low) / self._range
        return int(np.argmin(((self._features - asked) ** 2).sum(axis=1)))

    def evaluate(self, params: dict[str, Any]) -> float | Sequence[float]:
        """The loss in nats, or (loss, cost), of the nearest row."""
        found = self._values[self.row(params)]
        return found[0] if self._cost is None else found

    def front(self) -> list[tuple[float, ...]]:
        """The values that no row dominates, lowest loss first."""
        return _front(self._values)


def _table(path: str | Path) -> pd.DataFrame:
    return pd.read_csv(path) if Path(path).suffix == ".csv" else pd.read_parquet(path)


def _has(rows: pd.DataFrame, columns: Sequence[str], path: str | Path) -> None:
    lacking = [name for name in columns if name not in rows]
    if lacking:
        raise ValueError(f"{path} has no column {lacking[0]}; it has {', '.join(map(str, rows.columns))}")


def _front(values: Sequence[tuple[float, ...]]) -> list[tuple[float, ...]]:
    found: list[tuple[float, ...]] = []
    for row in sorted(set(values)):
        if all(math.isfinite(v) for v in row) and (not found or (len(row) > 1 and row[1] < found[-1][1])):
            found.append(row)
    return found


__all__ = ["HWGPTBench", "LLMForgeTable", "NASBench201"]
