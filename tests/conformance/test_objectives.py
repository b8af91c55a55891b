"""The shipped suite on objectives of ours, one of each kind, and on one by somebody who read only the contract."""

from __future__ import annotations

from nas_bo.objectives import Latency, Parameters, QuantizationGap, ValidationLoss, Weighted
from nas_bo.search_spaces import TinyGPT
from nas_bo.testing import ObjectiveTests
from nas_bo.testing.evaluations import Small, Staged


class TestMinimal(ObjectiveTests):
    objective, space = Staged(), Small


class TestParameters(ObjectiveTests):
    objective, space = Parameters(at_most=10_000_000), TinyGPT


class TestWeighted(ObjectiveTests):
    objective, space = Weighted([(1.0, Parameters())]), TinyGPT


class TestRoofline(ObjectiveTests):
    objective, space = Latency(target="pi5"), TinyGPT


class TestTrained(ObjectiveTests):
    objective, space, architectures = ValidationLoss(tokens=8192, evaluation_tokens=2048, device="cpu"), TinyGPT, 1


class TestCompressibility(ObjectiveTests):
    objective = QuantizationGap(quality=ValidationLoss(tokens=4096, evaluation_tokens=1024, device="cpu"))
    space, architectures = TinyGPT, 1
