"""Our objectives as a runner and metrics of Ax, for ``Client.run_trials``. Imports ax: loaded on first use only."""

from __future__ import annotations

import multiprocessing
import pickle
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import Any

from ax.api.protocols.metric import IMetric
from ax.api.protocols.runner import IRunner
from ax.core.trial_status import TrialStatus
from ax.storage.json_store.registry import CORE_DECODER_REGISTRY, CORE_ENCODER_REGISTRY

from nas_bo import measurement_lock
from nas_bo.ax import packing
from nas_bo.ax.elsewhere import begin, evaluate
from nas_bo.ax.lowering import architecture
from nas_bo.errors import HostError
from nas_bo.objectives.measuring import make_ready, silent
from nas_bo.problem import Problem
from nas_bo.spelling import spelled
from nas_bo.trial import PREFIX, State, Trial

VALUES = f"{PREFIX}values"  # in a trial's run metadata: what the metrics fetch
STATE = f"{PREFIX}state"
PARAMETERS = f"{PREFIX}parameters"  # what it was asked for, to be evaluated again where a process died
STATUS = {
    State.COMPLETE: TrialStatus.COMPLETED,
    State.INFEASIBLE: TrialStatus.ABANDONED,  # Ax suggests it no more
    State.FAILED: TrialStatus.FAILED,
    State.STOPPED: TrialStatus.EARLY_STOPPED,
}
ATTEMPTS = 2  # of an evaluation whose process died


class Runner(IRunner):  # type: ignore[misc]
    """Evaluates the objectives and limits of a problem, cheap ones first (`Problem.evaluate`).

    Outcomes are kept in the run metadata of the trials, with reasons and how numbers were obtained. A trial that was
    running when its process died is evaluated again by whoever goes on. Infeasible trials are abandoned, and Ax counts
    those as failed: ``run_trials(tolerated_trial_failure_rate=0.9)`` where limits are tight.

    Args:
        problem: space, objectives and limits; or the text that `state` gave.
        workers: local processes; 1 evaluates in this one, where ``run_trials(parallelism=...)`` has no effect. Space and
            objectives must then be importable.
    """

    def __init__(self, problem: Problem | str, workers: int = 1) -> None:
        if isinstance(problem, str):
            known = packing.from_text(problem)
            problem = Problem(known["space"], known["objectives"], known["limits"])
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise HostError(f"Runner(workers={workers!r}): it must be a whole number of at least 1")
        self._problem, self.workers = problem, workers
        self._pool: ProcessPoolExecutor | None = None
        self._gate: tempfile.TemporaryDirectory[str] | None = None
        self._is_ready = False
        self._running: dict[int, tuple[Future[Trial], int]] = {}

    @property
    def problem(self) -> str:
        """The problem as text: what Ax's storages keep of a runner (raises HostError where it cannot be found again)."""
        own = self._problem
        return packing.to_text({"space": own.space, "objectives": own.objectives, "limits": own.limits})

    def run_trial(self, trial_index: int, parameterization: Mapping[str, Any]) -> dict[str, Any]:
        asked = {PARAMETERS: dict(parameterization)}
        if not self._is_ready:
            make_ready(self._problem.space, self._problem.evaluated(), None, silent)
            self._is_ready = True
        if self.workers == 1:
            return asked | _told(self._problem.evaluate(architecture(self._problem.space, parameterization)))
        self._submit(trial_index, asked, 1)
        return asked

    def poll_trial_status(self, trials: Iterable[Any]) -> dict[TrialStatus, set[int]]:
        """What Ax calls: trials that run though nobody ran them, since a process died in between, are evaluated as well."""
        listed = list(trials)
        for trial in listed:
            trial.run_metadata.setdefault(PARAMETERS, dict(trial.arm.parameters))
        found: dict[TrialStatus, set[int]] = super().poll_trial_status(listed)
        return found

    def poll_trial(self, trial_index: int, trial_metadata: Mapping[str, Any]) -> TrialStatus:
        if STATE not in trial_metadata:
            outcome = self._outcome(trial_index, trial_metadata)
            if outcome is None:
                return TrialStatus.RUNNING
            assert isinstance(trial_metadata, dict)  # Ax passes the trial's own
            trial_metadata.update(_told(outcome))
        return STATUS[State(trial_metadata[STATE])]

    def stop_trial(self, trial_index: int, trial_metadata: Mapping[str, Any]) -> dict[str, Any]:
        found = self._running.pop(trial_index, None)
        if found is not None:
            found[0].cancel()
        return {}

    def close(self) -> None:
        """End the processes, whatever they are doing."""
        if self._pool is not None:
            processes = list((self._pool._processes or {}).values())
            self._pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()
            self._pool = None
        if self._gate is not None:
            measurement_lock.leave()
            self._gate.cleanup()
            self._gate = None
        self._running.clear()

    def _outcome(self, index: int, metadata: Mapping[str, Any]) -> Trial | None:
        if index not in self._running:  # begun by a process that is gone
            if self.workers == 1:
                return self._problem.evaluate(architecture(self._problem.space, metadata[PARAMETERS]))
            self._submit(index, metadata, 1)
        future, attempt = self._running[index]
        if not future.done():
            return None
        del self._running[index]
        try:
            return future.result()
        except BrokenProcessPool:
            self._pool = None
            if attempt < ATTEMPTS:
                self._submit(index, metadata, attempt + 1)
                return None
            reason = "its process died twice: it ran out of memory, or was killed from outside"
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
        return Trial(architecture(self._problem.space, metadata[PARAMETERS]), state=State.FAILED, reason=reason)

    def _submit(self, index: int, metadata: Mapping[str, Any], attempt: int) -> None:
        if self._pool is None:  # spawn: torch's threads and CUDA do not survive a fork
            if self._gate is None:
                self._gate = tempfile.TemporaryDirectory(prefix="nas-bo-quiet-", ignore_cleanup_errors=True)
                measurement_lock.join(self._gate.name)  # nor does Ax's own thread fit a model while somebody measures
            self._pool = ProcessPoolExecutor(
                self.workers, multiprocessing.get_context("spawn"), begin, (self._gate.name,)
            )
        arch = architecture(self._problem.space, metadata[PARAMETERS])
        try:
            future = self._pool.submit(evaluate, pickle.dumps(self._problem), arch)
        except BrokenProcessPool as broken:
            future = Future()
            future.set_exception(broken)
        self._running[index] = future, attempt


class Metric(IMetric):  # type: ignore[misc]
    """What `Runner` found of one objective or limit, by its name."""

    def fetch(self, trial_index: int, trial_metadata: Mapping[str, Any]) -> tuple[int, float]:
        values = trial_metadata.get(VALUES, {})
        name = spelled(self.name, values)
        if name not in values:
            raise HostError(
                f"trial {trial_index} has no value of {self.name!r}: {trial_metadata.get(STATE, 'unknown')}"
            )
        return 0, float(values[name])  # Ax takes floats only, also of what is counted


def _told(outcome: Trial) -> dict[str, Any]:
    values = dict(outcome.values)
    for name, info in outcome.info.items():  # limits and parts
        with suppress(TypeError, ValueError, KeyError):
            values.setdefault(name, float(info["value"]))
    return {**outcome.attributes(), VALUES: values, STATE: outcome.state.value}


def _runner_to_json(runner: Runner) -> dict[str, Any]:
    return {"__type": "NasBoRunner", "problem": runner.problem, "workers": runner.workers}


def _runner_from_json(problem: str, workers: int = 1, **_: Any) -> Runner:
    return Runner(problem, workers)


def _metric_to_json(metric: Metric) -> dict[str, Any]:
    return {"__type": "NasBoMetric", "name": metric.name}


def _metric_from_json(name: str, **_: Any) -> Metric:
    return Metric(name)


CORE_ENCODER_REGISTRY[Runner] = _runner_to_json
CORE_ENCODER_REGISTRY[Metric] = _metric_to_json
CORE_DECODER_REGISTRY["NasBoRunner"] = _runner_from_json
CORE_DECODER_REGISTRY["NasBoMetric"] = _metric_from_json

__all__ = ["Metric", "Runner"]
