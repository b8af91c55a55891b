"""What an executor must do, as tests to inherit from."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from nas_bo.execution.executor import Concurrent, Executor, Polled, workers_of
from nas_bo.problem import Problem
from nas_bo.testing.evaluations import Small, Staged, at, dies, half, leaves, loss, raises, size, sleeps
from nas_bo.trial import State, Trial


class ExecutorTests:
    """All that an executor must do. Give it in `executor`, a new one for every call.

        class TestRay(ExecutorTests):
            survives = True
            def executor(self): return Ray("auto")

    Attributes:
        survives: an evaluation that ends its process must cost nothing but itself.
    """

    survives: bool = False

    def executor(self) -> Executor:
        raise NotImplementedError("give your executor in executor(self)")

    @contextmanager
    def opened(self) -> Iterator[Executor]:
        executor = self.executor()
        try:
            yield executor
        finally:
            executor.close()

    # ---- what is tested -------------------------------------------------------------------------------------------

    def test_it_is_an_executor(self) -> None:
        with self.opened() as executor:
            assert isinstance(executor, Executor)
            assert not isinstance(executor, Concurrent) or executor.workers >= 1

    def test_outcomes_are_those_of_the_problem(self) -> None:
        problem = Problem(Small, [loss, size])
        with self.opened() as executor:
            archs = {key: Small.sample(seed) for seed, key in enumerate([0, 7, "baseline", ("retrained", 2.0), None])}
            for key, arch in archs.items():
                executor.submit(key, problem, arch)
            found = dict(executor.take() for _ in archs)
            assert found.keys() == archs.keys(), "every key that was submitted is taken once"
            for key, arch in archs.items():
                assert plain(found[key]) == plain(problem.evaluate(arch))
            self.nothing_is_left(executor)

    def test_problems_and_judges_may_differ(self) -> None:
        with self.opened() as executor:
            executor.submit("judged", Problem(Small, [Staged()]), at(1), half)
            executor.submit("whole", Problem(Small, [size]), at(2))
            found = dict(executor.take() for _ in range(2))
            assert found["judged"].state is State.STOPPED and found["judged"].rungs("loss") == {
                0.25: 4 * loss(at(1)),
                0.5: 3 * loss(at(1)),
            }
            assert found["whole"].values == {"size": 16.0}

    def test_what_goes_wrong_is_a_failed_trial_with_its_reason(self) -> None:
        with self.opened() as executor:
            for objective, reason in ((raises, "no such width today"), (leaves, "SystemExit")):
                executor.submit(reason, Problem(Small, [objective]), at(1))
                key, trial = executor.take()
                assert key == reason and trial.state is State.FAILED and reason in trial.reason, trial

    def test_an_evaluation_that_ends_its_process_costs_no_other(self) -> None:
        if not self.survives:
            return
        problem = Problem(Small, [dies])
        with self.opened() as executor:
            archs = [at(1, heads=1), at(2), at(1, heads=2), at(1, width=16), at(2, width=16)]
            for key, arch in enumerate(archs):
                executor.submit(key, problem, arch)
            found = dict(executor.take() for _ in archs)
            for key, arch in enumerate(archs):
                assert found[key].state is (State.FAILED if arch.depth == 2 else State.COMPLETE), (
                    key,
                    found[key].reason,
                )
                assert found[key].reason or arch.depth == 1
            executor.submit("later", problem, at(1))
            assert executor.take()[1].state is State.COMPLETE

    def test_close_ends_what_runs(self) -> None:
        executor, problem = self.executor(), Problem(Small, [sleeps])
        for key in range(2 * workers_of(executor)):
            executor.submit(key, problem, Small.sample(key))
        closing = threading.Thread(target=executor.close, daemon=True)
        closing.start()
        closing.join(60)
        assert not closing.is_alive(), "close() waits for what runs"
        executor.close()

    def test_a_driver_that_polls_never_waits(self) -> None:
        with self.opened() as executor:
            if not isinstance(executor, Polled):
                return
            assert executor.ended() == []
            for key in range(workers_of(executor)):
                executor.submit(key, Problem(Small, [sleeps]), Small.sample(key))
            assert executor.ended() == []
            for key in range(workers_of(executor)):
                executor.cancel(key)
            executor.cancel("nobody")
            executor.submit("next", Problem(Small, [size]), at(1))
            taken, trial = executor.take()
            assert taken == "next" and trial.values == {"size": 8.0}
            assert executor.ended() == []

    def test_a_search_with_it_is_repeatable(self) -> None:
        from nas_bo import search
        from nas_bo.strategies import Random

        seen = []
        for _ in range(2):
            found = search(Small, [loss, size], executor=self.executor(), strategy=Random(seed=3), trials=5, retrain=0)
            assert {t.state for t in found.trials} == {State.COMPLETE}
            seen.append([t.architecture.id for t in found.trials])
        assert seen[0] == seen[1]

    def nothing_is_left(self, executor: Executor) -> None:
        import pytest

        with pytest.raises(LookupError):
            executor.take()


def plain(trial: Trial) -> Trial:
    """What does not differ from one evaluation to the next."""
    info = {name: {k: v for k, v in noted.items() if k != "seconds"} for name, noted in trial.info.items()}
    return replace(trial, seconds=0.0, info=info)
