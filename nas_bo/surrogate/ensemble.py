"""Several small networks, differently initialised and each on its own weighting of the examples (Lakshminarayanan, Pritzel
and Blundell, 2017, arXiv 1612.01474, "Simple and scalable predictive uncertainty estimation using deep ensembles"; weights
after Rubin, 1981, Annals of Statistics 9(1), "The Bayesian bootstrap").

All members are trained at once as batched products, on the CPU: tens of examples fill no accelerator.

Notation: M members, n examples, d columns, H hidden units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nas_bo.errors import ObjectiveError
from nas_bo.surrogate.regressor import Blocks, Standard
from nas_bo.surrogate.ridge import Ridge
from nas_bo.validated import check_fields, checked, number, whole_number

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class MLPEnsemble:
    """Networks of one hidden layer next to a linear path, on as many blocks of columns as `Ridge` finds best. The global random state of torch is neither read nor changed.

    Args:
        members: how many networks.
        hidden: units of the hidden layer.
        steps: of AdamW on all examples at once.
        decay: weight decay.

    Raises:
        ObjectiveError: fewer than two members, or another setting that is not above 0.
    """

    members: int = checked(5, whole_number(2).advise("one alone cannot disagree"))
    hidden: int = checked(32, whole_number(1))
    steps: int = checked(200, whole_number(1))
    rate: float = checked(1e-2, number(above=0))
    decay: float = checked(0.1, number(above=0))
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self, ObjectiveError)

    def fit(self, inputs: np.ndarray, targets: np.ndarray, blocks: Blocks) -> FittedNetworks:
        return FittedNetworks(self, inputs, targets, blocks)


class FittedNetworks:
    def __init__(self, settings: MLPEnsemble, inputs: np.ndarray, targets: np.ndarray, blocks: Blocks) -> None:
        import torch

        self._columns = Ridge().fit(inputs, targets, blocks).columns
        inputs = inputs[:, : self._columns]
        self._standard = Standard(inputs)
        self._mean, spread = float(targets.mean()), float(targets.std())
        self._scale = spread if spread > 1e-12 else 1.0
        x = torch.from_numpy(self._standard(inputs)).float()
        y = torch.from_numpy((targets - self._mean) / self._scale).float()
        n, d = x.shape
        m, h = settings.members, settings.hidden
        rng = torch.Generator().manual_seed(settings.seed)
        first = torch.randn(m, d, h, generator=rng) * (2 / max(1, d)) ** 0.5  # ~ normal (He et al., 2015)
        second = torch.randn(m, h, 1, generator=rng) * 0.1 / h**0.5  # ~ normal, small: training begins near linear
        bias, linear, offset = torch.zeros(m, 1, h), torch.zeros(m, d, 1), torch.zeros(m, 1, 1)
        weights = -torch.log(torch.rand(m, n, generator=rng).clamp_min(1e-6))  # ~ exponential: eq. 2.1 of Rubin
        weights = weights / weights.mean(1, keepdim=True)
        self._network = [first, bias, second, linear, offset]
        for tensor in self._network:
            tensor.requires_grad_(True)
        with torch.enable_grad():
            optimiser = torch.optim.AdamW(self._network, lr=settings.rate, weight_decay=settings.decay)
            for step in range(settings.steps):
                for group in optimiser.param_groups:
                    group["lr"] = settings.rate * (1 - step / settings.steps)
                error = self._forward(x) - y
                loss = (weights * error**2).mean(1).sum()
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
        self._network = [tensor.detach() for tensor in self._network]

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, d) -> (M, n)."""
        import torch

        first, bias, second, linear, offset = self._network
        wide = x.expand(len(first), *x.shape)
        hidden = torch.nn.functional.silu(wide @ first + bias)
        found: torch.Tensor = (hidden @ second + wide @ linear + offset).squeeze(-1)
        return found

    def predict(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (m,) over the members."""
        import torch

        with torch.no_grad():
            found = self._forward(torch.from_numpy(self._standard(inputs[:, : self._columns])).float()).double().numpy()
        return self._mean + self._scale * found.mean(0), self._scale * np.maximum(found.std(0), 1e-3)
