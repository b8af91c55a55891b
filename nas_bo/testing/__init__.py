"""Shipped conformance suites: what a part of your own must do to work everywhere, as tests to inherit from.

    class TestPool(BlockTests):
        block = Pool()
        examples = ({"window": 2}, {"window": 7})

pytest runs it. A failure says which promise of the contract does not hold.
"""

from nas_bo.testing.blocks import BlockTests
from nas_bo.testing.executors import ExecutorTests
from nas_bo.testing.objectives import ObjectiveTests
from nas_bo.testing.spaces import SpaceTests
from nas_bo.testing.strategies import StrategyTests

__all__ = ["BlockTests", "ExecutorTests", "ObjectiveTests", "SpaceTests", "StrategyTests"]
