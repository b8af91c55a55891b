"""What a search with several workers knows when it proposes, in order and asynchronously."""

from __future__ import annotations

import pytest

from nas_bo.strategies import Random
from nas_bo.trial import State
from tests.workflows.test_search import run


class LastFirst:
    """Four workers, of which the one that began last ends first."""

    workers = 4

    def __init__(self):
        self.held, self.most = [], 0

    def submit(self, key, problem, arch, judge=None):
        self.held.append((key, problem, arch))
        self.most = max(self.most, len(self.held))

    def take(self):
        key, problem, arch = self.held.pop()
        return key, problem.evaluate(arch)

    def close(self):
        self.held.clear()


class Watches:
    """A random strategy that notes which trials had ended when it was asked."""

    def __init__(self):
        self.strategy, self.seen = Random(seed=1), []

    def suggest(self, problem, trials, n):
        self.seen.append([t.number for t in trials if t.state is not State.RUNNING])
        return self.strategy.suggest(problem, trials, n)


@pytest.mark.parametrize(("asynchronous", "most", "sixth"), [(True, 4, [3, 4]), (False, 8, [])])
def test_an_asynchronous_search_knows_all_that_has_ended(asynchronous, most, sixth):
    executor, strategy = LastFirst(), Watches()
    result = run(executor=executor, strategy=strategy, asynchronous=asynchronous, trials=10)
    assert sorted(t.number for t in result.trials) == list(range(10))
    assert executor.most == most and strategy.seen[5] == sixth
    ended = [len(seen) for seen in strategy.seen]
    assert ended == ([0] * 4 + list(range(1, 7)) if asynchronous else [0] * 8 + [1, 2])
