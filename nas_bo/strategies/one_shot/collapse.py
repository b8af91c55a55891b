"""Guards against the known failure of differentiable search, a collapse to operations without parameters: early stopping
by the largest eigenvalue of the Hessian of the held-out loss (Zela et al. 2020, arXiv 1909.09656, section 4.3), and by the
share of skips (after Liang et al. 2019, DARTS+, arXiv 1909.06035)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from nas_bo.space.domain import Choice
from nas_bo.strategies.one_shot.relaxation import Relaxation

WINDOW = 3  # looks whose mean is compared with that of as many before (Zela et al. take 5 epochs of 50)
LEAST_RATIO = 0.75  # arXiv 1909.09656, section 4.3: earlier mean over later mean below which a search is stopped
DECIDED = (
    0.9  # entropy (1 is uniform) above which nothing has been decided that could collapse: our choice, for short runs
)
SETTLED = 0.03  # relative change at which the power iteration ends
SURE = 2.0
FINISHED = "finished: all updates were done"


class Guard:
    """Watches every distribution and says when and why one must not be trained further.

    Attributes:
        reasons: one sentence per distribution.
    """

    def __init__(self, relaxation: Relaxation, lambdas: Sequence[float], most_skips: float) -> None:
        self.most_skips = most_skips
        self.reasons = [FINISHED for _ in lambdas]
        self._stopped: set[int] = set()
        self._skip, self._gate = np.zeros(relaxation.size), np.zeros(relaxation.size)
        for path, cells in relaxation.cells.items():
            domain = cells.domain
            if path.rpartition(".")[2] in ("mixer", "mlp") and isinstance(domain, Choice) and "skip" in domain.values:
                at = relaxation.slices[path]
                if domain.size > 1 and cells.exact:
                    self._gate[at] = 1.0
                    self._skip[at.start + domain.index("skip")] = 1.0
        self._eigenvalues: list[list[float]] = [[] for _ in lambdas]
        self._kept: list[list[np.ndarray]] = [[] for _ in lambdas]
        self._pulls: list[list[np.ndarray]] = [[] for _ in lambdas]

    def live(self) -> list[int]:
        """The distributions that are still trained."""
        return [index for index in range(len(self.reasons)) if index not in self._stopped]

    def skips(self, chosen: np.ndarray, active: np.ndarray) -> float:
        """The share of skips among the blocks of these draws that can be one; NaN where none can."""
        gates = float((chosen @ self._gate).sum())
        return float((chosen @ self._skip).sum()) / gates if gates else math.nan

    def look(
        self,
        index: int,
        logits: np.ndarray,
        skips: float,
        gradients: np.ndarray,
        eigenvalue: float | None,
        entropy: float = 0.0,
    ) -> np.ndarray | None:
        """Take note of one distribution; where it must be stopped, the logits (P,) to go back to.

        Args:
            skips: its share of skips.
            gradients: (updates since the last look, P) of its expected held-out loss alone, without the cost.
            eigenvalue: the largest one of the Hessian, or None.
            entropy: of the distribution, 1 when uniform. In the first looks of a short run eigenvalues grow because the
                weights learn; an undecided distribution is therefore not stopped for that.
        """
        kept, pulls = self._kept[index], self._pulls[index]
        kept.append(logits.copy())
        pulls.append(-(gradients @ self._skip))
        if eigenvalue is not None and math.isfinite(eigenvalue):
            self._eigenvalues[index].append(eigenvalue)
        back: np.ndarray | None = None
        values = self._eigenvalues[index]
        if len(values) >= 2 * WINDOW and entropy <= DECIDED:
            before, now = np.mean(values[-2 * WINDOW : -WINDOW]), np.mean(values[-WINDOW:])
            if now > 0 and before > 0 and before / now < LEAST_RATIO:
                back = kept[max(0, len(kept) - 1 - WINDOW)]
                self.reasons[index] = (
                    f"stopped early: the largest eigenvalue of the Hessian of the held-out loss grew from {before:.3g} to "
                    f"{now:.3g} within {WINDOW} looks, which announces a collapse; the distribution before that is kept"
                )
        if (
            back is None
            and skips > self.most_skips
            and len(pulls) >= WINDOW
            and _positive(np.concatenate(pulls[-WINDOW:]))
        ):
            back = kept[max(0, len(kept) - 1 - WINDOW)]
            self.reasons[index] = (
                f"stopped early: {skips:.0%} of the blocks are skips and the loss itself, not the cost, pulls there, a "
                f"collapse to operations without parameters; the distribution of {WINDOW} looks before is kept"
            )
        if back is not None:
            self._stopped.add(index)
        elif skips > self.most_skips:
            self.reasons[index] = f"{FINISHED}; {skips:.0%} of the blocks are skips, which the cost explains"
        else:
            self.reasons[index] = FINISHED
        return back


def _positive(values: np.ndarray) -> bool:
    """Whether the mean is above 0 by more than chance: by `SURE` standard errors."""
    return len(values) > 1 and float(values.mean()) > SURE * float(values.std(ddof=1)) / math.sqrt(len(values))


def largest_eigenvalue(
    gradient: Callable[[np.ndarray], np.ndarray], at: np.ndarray, start: np.ndarray, iterations: int, step: float = 0.05
) -> tuple[float, np.ndarray]:
    """The dominant eigenvalue of the Hessian of a function by power iteration; Hessian-vector products are central
    differences of its gradient.

    Args:
        gradient: (P,) -> (P,), deterministic.
        at: where, (P,).
        start: a first vector, (P,); that of the last look spares iterations.
        iterations: at most; fewer where the value has settled.
        step: length of the differences.

    Returns:
        The Rayleigh quotient, and the vector.
    """
    vector = start / max(1e-12, float(np.linalg.norm(start)))
    value = 0.0
    for _ in range(iterations):
        before = value
        product = (gradient(at + step * vector) - gradient(at - step * vector)) / (2 * step)
        value = float(vector @ product)
        length = float(np.linalg.norm(product))
        if not length > 1e-12:
            return 0.0, vector
        vector = product / length
        if abs(value - before) <= SETTLED * abs(value):
            break
    return value, vector
