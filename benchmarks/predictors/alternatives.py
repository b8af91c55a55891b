"""What else people predict architectures with, as `Regressor`s: kernel ridge regression, random forests, and a transformer over layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from nas_bo.surrogate.regressor import Blocks, Standard


@dataclass(frozen=True)
class KernelRidge:
    """Kernel ridge regression of ranks with an RBF kernel, width and penalty chosen by five folds."""

    def fit(self, inputs: np.ndarray, targets: np.ndarray, blocks: Blocks) -> Fitted:
        from sklearn.kernel_ridge import KernelRidge as Kernel
        from sklearn.model_selection import GridSearchCV

        standard = Standard(inputs)
        x = standard(inputs) / max(1, len(standard.kept)) ** 0.5
        grid = {"alpha": [0.03, 0.1, 0.3, 1.0], "gamma": [0.1, 0.3, 1.0]}
        model = GridSearchCV(Kernel(kernel="rbf"), grid, cv=5).fit(x, rankdata(targets) / len(targets) - 0.5)
        return Fitted(lambda rows: model.predict(standard(rows) / max(1, len(standard.kept)) ** 0.5))


@dataclass(frozen=True)
class RandomForest:
    """A random forest of ranks."""

    trees: int = 200

    def fit(self, inputs: np.ndarray, targets: np.ndarray, blocks: Blocks) -> Fitted:
        from sklearn.ensemble import RandomForestRegressor

        model = RandomForestRegressor(self.trees, min_samples_leaf=2, max_features=0.4, random_state=0)
        return Fitted(model.fit(inputs, rankdata(targets)).predict)


class Fitted:
    def __init__(self, predict: Any) -> None:
        self._predict = predict

    def predict(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(self._predict(inputs)), np.ones(len(inputs))


def transformer(layers: np.ndarray, train: np.ndarray, targets: np.ndarray, test: np.ndarray, steps: int) -> np.ndarray:
    """What an encoder over the layers predicts of rows `test`, as ranks: two blocks of width 64 with places, the mean over layers, one output.

    Args:
        layers: (n, layers, features), NaN where there is no layer.
        train, test: row numbers; targets: (train,).
        steps: of AdamW on all examples at once.
    """
    import torch
    from torch import nn

    torch.manual_seed(0)
    there = np.isfinite(layers[:, :, 0])
    known = layers[train][there[train]]
    scaled = np.where(there[:, :, None], (layers - known.mean(0)) / (known.std(0) + 1e-9), 0.0)
    x, mask = torch.tensor(scaled, dtype=torch.float32), torch.tensor(there)
    y = torch.tensor(rankdata(targets) / len(targets) - 0.5, dtype=torch.float32)
    width, (_, most, features) = 64, layers.shape
    block = nn.TransformerEncoderLayer(width, 4, 128, dropout=0.1, batch_first=True, norm_first=True)
    parts = nn.ModuleDict(
        {
            "into": nn.Linear(features, width),
            "body": nn.TransformerEncoder(block, 2, enable_nested_tensor=False),
            "out": nn.Linear(width, 1),
        }
    )
    place = nn.Parameter(0.1 * torch.randn(most, width))

    def forward(rows: np.ndarray) -> Any:
        hidden = parts["body"](parts["into"](x[rows]) + place, src_key_padding_mask=~mask[rows])
        weight = mask[rows].float().unsqueeze(-1)
        return parts["out"]((hidden * weight).sum(1) / weight.sum(1)).squeeze(-1)

    optimiser = torch.optim.AdamW([*parts.parameters(), place], lr=1e-3, weight_decay=0.05)
    rng = np.random.default_rng(0)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * min(1.0, (step + 1) / 20) * (1 - step / steps)
        batch = rng.permutation(len(train))[:64]
        loss = ((forward(train[batch]) - y[batch]) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    parts.eval()
    with torch.no_grad():
        return np.asarray(forward(test).numpy())
