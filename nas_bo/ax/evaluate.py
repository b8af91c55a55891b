"""Our objectives as a runner and metrics of Ax, for ``Client.run_trials``. Imports ax: loaded on first use only."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from contextlib import ExitStack, suppress
from typing import Any

from ax.api.protocols.metric import IMetric
from ax.api.protocols.runner import IRunner
from ax.core.trial import Trial as AxTrial
from ax.core.trial_status import TrialStatus
from ax.storage.json_store.registry import CORE_DECODER_REGISTRY, CORE_ENCODER_REGISTRY

from nas_bo.architecture import Primitive
from nas_bo.ax import packing
from nas_bo.ax.lowering import architecture
from nas_bo.errors import HostError
from nas_bo.execution.executor import Executor, Polled, gate_of
from nas_bo.execution.selection import check_executor, executor_of
from nas_bo.objectives.measuring import make_ready, silent
from nas_bo.problem import Problem
from nas_bo.spelling import spelled
from nas_bo.study import PARAMETERS, STATE, VALUES, attributes
from nas_bo.trial import State, Trial
from nas_bo.validated import check_values, number, whole_number

STATUS = {
    State.COMPLETE: TrialStatus.COMPLETED,
    State.INFEASIBLE: TrialStatus.ABANDONED,  # Ax suggests it no more
    State.FAILED: TrialStatus.FAILED,
    State.STOPPED: TrialStatus.EARLY_STOPPED,
}


class Runner(IRunner):  # type: ignore[misc]
    """Evaluates the objectives and limits of a problem, cheap ones first (`Problem.evaluate`).

    Outcomes are kept in the run metadata of the trials, with reasons and how numbers were obtained. A trial that was
    running when its process died is evaluated again by whoever continues. Infeasible trials are abandoned, and Ax counts
    those as failed: ``run_trials(tolerated_trial_failure_rate=0.9)`` where limits are tight.

    Args:
        problem: space, objectives and limits; or the text that `state` gave.
        workers: local processes; 1 evaluates in this one, where ``run_trials(parallelism=...)`` has no effect. Space and
            objectives must then be importable.
        timeout: seconds that one evaluation may take, as in `nas_bo.search`: a trial that takes longer fails, and its process is ended
            with all that it has started. Evaluations then run in other processes, with one worker too.
        executor: where evaluations run instead (`nas_bo.execution.Executor`); with one that is `Polled`, as those of nas_bo with workers,
            ``run_trials(parallelism=...)`` is how many at a time. Ax stores a runner without it: set the attribute after loading a client.
    """

    def __init__(
        self,
        problem: Problem | str,
        workers: int = 1,
        timeout: float | None = None,
        executor: Executor | None = None,
    ) -> None:
        if isinstance(problem, str):
            known = packing.from_text(problem)
            problem = Problem(known["space"], known["objectives"], known["limits"])
        check_values("Runner", HostError, whole_number(1), workers=workers)
        check_values("Runner", HostError, number(above=0).or_none(), timeout=timeout)
        check_executor(executor, workers, "Runner")
        self._problem, self.workers, self.timeout, self.executor = problem, workers, timeout, executor
        self._opened: Executor | None = None
        self._gate = ExitStack()
        self._running: set[Hashable] = set()
        self._outcomes: dict[Hashable, Trial] = {}

    @property
    def problem(self) -> str:
        """The problem as text: what Ax's storages keep of a runner (raises HostError where it cannot be found again)."""
        own = self._problem
        return packing.to_text({"space": own.space, "objectives": own.objectives, "limits": own.limits})

    def run_trial(self, trial_index: int, parameterization: Mapping[str, Primitive]) -> dict[str, object]:
        asked: dict[str, object] = {PARAMETERS: dict(parameterization)}
        outcome = self._outcome(trial_index, asked)
        return asked if outcome is None else asked | _told(outcome)

    def poll_trial_status(self, trials: Iterable[AxTrial]) -> dict[TrialStatus, set[int]]:
        """What Ax calls: trials that run though nobody ran them, since a process died in between, are evaluated as well."""
        listed = list(trials)
        for trial in listed:
            trial.run_metadata.setdefault(PARAMETERS, dict(trial.arm.parameters))
        found: dict[TrialStatus, set[int]] = super().poll_trial_status(listed)
        return found

    def poll_trial(self, trial_index: int, trial_metadata: Mapping[str, object]) -> TrialStatus:
        if STATE not in trial_metadata:
            outcome = self._outcome(trial_index, trial_metadata)
            if outcome is None:
                return TrialStatus.RUNNING
            assert isinstance(trial_metadata, dict)  # Ax passes the trial's own
            trial_metadata.update(_told(outcome))
        return STATUS[State(trial_metadata[STATE])]

    def stop_trial(self, trial_index: int, trial_metadata: Mapping[str, object]) -> dict[str, object]:
        self._outcomes.pop(trial_index, None)
        if trial_index in self._running and isinstance(self._opened, Polled):
            self._running.remove(trial_index)
            self._opened.cancel(trial_index)
        return {}

    def close(self) -> None:
        """End the processes, whatever they are doing."""
        if self._opened is not None:
            self._opened.close()
        self._gate.close()
        self._opened = None
        self._running.clear()
        self._outcomes.clear()

    def _outcome(self, index: int, metadata: Mapping[str, Any]) -> Trial | None:
        """What came of a trial, None while it runs. One that nobody of this process has begun is begun."""
        executor = self._begun()
        if index not in self._running and index not in self._outcomes:
            executor.submit(index, self._problem, architecture(self._problem.space, metadata[PARAMETERS]))
            self._running.add(index)
        for key, outcome in executor.ended() if isinstance(executor, Polled) else [executor.take()]:
            self._outcomes[key] = outcome
        self._running -= self._outcomes.keys()
        return self._outcomes.pop(index, None)

    def _begun(self) -> Executor:
        if self._opened is None:
            self._opened = executor_of(self.executor, self.workers, self._problem, "Runner", self.timeout)
            make_ready(
                self._problem.space, self._problem.evaluated(), None, silent
            )  # perhaps on a machine that it reaches
            if isinstance(self._opened, Polled):  # nor does Ax's own thread fit a model while somebody measures
                self._gate.enter_context(gate_of(self._opened))
        return self._opened


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


def _told(outcome: Trial) -> dict[str, object]:
    values = dict(outcome.values)
    for name, info in outcome.info.items():  # limits and parts
        with suppress(TypeError, ValueError, KeyError):
            values.setdefault(name, float(info["value"]))
    return {**attributes(outcome), VALUES: values, STATE: outcome.state.value}


def _runner_to_json(runner: Runner) -> dict[str, object]:
    own = {"problem": runner.problem, "workers": runner.workers, "timeout": runner.timeout}
    return {"__type": "NasBoRunner", **own}


def _runner_from_json(problem: str, workers: int = 1, timeout: float | None = None, **_: object) -> Runner:
    return Runner(problem, workers, timeout)


def _metric_to_json(metric: Metric) -> dict[str, object]:
    return {"__type": "NasBoMetric", "name": metric.name}


def _metric_from_json(name: str, **_: object) -> Metric:
    return Metric(name)


CORE_ENCODER_REGISTRY[Runner] = _runner_to_json
CORE_ENCODER_REGISTRY[Metric] = _metric_to_json
CORE_DECODER_REGISTRY["NasBoRunner"] = _runner_from_json
CORE_DECODER_REGISTRY["NasBoMetric"] = _metric_from_json
