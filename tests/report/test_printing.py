"""What a user prints of a result is a text to read, not the fields of a dataclass."""

from __future__ import annotations

import pytest

from nas_bo.objectives import extrapolate, learned_growth, noise_of
from nas_bo.objectives.predicted import Estimate
from nas_bo.report import Proxy, trust
from nas_bo.report.gain import gains_of
from nas_bo.report.importance import Importance
from nas_bo.report.ranks import Interval
from nas_bo.search_spaces import TinyGPT
from nas_bo.trial import State, Trial
from nas_bo.workflows.result import Retrained
from tests.report.test_gain import world

ARCH = TinyGPT.sample(0)
GAIN = gains_of(world())[0]
TRUST = trust([Proxy("early", [3.0, 2.0, 2.5, 1.0, 1.5, 0.5])], [3.1, 2.2, 2.1, 1.2, 1.6, 0.4], [1, 2, 3, 4, 5, 6])


@pytest.mark.parametrize(
    "shown, said",
    [
        (GAIN, "Gain: at equal latency 0."),
        (GAIN.better, "0."),
        (Interval(), "not defined"),
        (TRUST.proxies[0], "early: tau 0.87 ("),
        (Trial(ARCH, {"loss": 2.25}, number=4, info={"loss": {"curve": [[1, 9.0]] * 99}}), "trial 4, complete: loss 2.25; Architecture("),
        (Trial(ARCH, state=State.FAILED, reason="it diverged"), "trial, failed; it diverged; "),
        (Estimate(2.0, 1.5, 2.5, 30), "2 (90 % interval 1.5 to 2.5), learned from 30 architectures"),
        (extrapolate([(1, 4.0), (2, 3.0), (4, 2.5)], 8), "2."),
        (noise_of([[1.0, 1.1], [2.0, 2.3], [3.0, 3.0]]), "0."),
        (learned_growth([]), "The correction of losses at 25% is not yet known here (0 finished runs"),
        (Importance("loss", False, 9, 0.5, ("width",), (0.8,), (0.9,), (0.7,), (1.0,), ((0.0,),)), "loss: width 90% (70% to 100%). A Gaussian"),
        (Retrained("abc", {"loss": 2.0}, factor=2.0), "abc at 2 times the budget: loss 2"),
    ],
    ids=lambda one: type(one).__name__,
)  # fmt: skip
def test_it_reads(shown: object, said: str) -> None:
    text = str(shown)
    assert text.startswith(said) and "nan" not in text
    assert f"{type(shown).__name__}(" not in text and len(text) < 700
