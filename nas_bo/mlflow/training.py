"""A training to the end as a run next to the trial whose architecture it is: its loss step by step, its settings, and how it ended.

A store that fails costs the run some of its numbers, never the training.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_bo.mlflow import content, lineage
from nas_bo.mlflow import tags as names
from nas_bo.mlflow import tracking_uri as store
from nas_bo.mlflow.exported import linked_run, newest_trial
from nas_bo.process import owner

if TYPE_CHECKING:
    from nas_bo.model.training_loop import Progress

EXPERIMENT = "nas_bo trainings"  # where the trial is in no experiment of the store
LOSS = "train/bits_per_token"
EVERY_S = 10.0  # one request with all points since the last
MOST_POINTS = 200  # of the curve
SHOWN = ("README.md", "architecture.svg", "arch.json")


class TrainingRun:
    """`progress` of `nas_bo.workflows.train.train` that tracks the training in MLflow.

    A training that was killed and is started again continues in its run.

    Args:
        track: a tracking URI or a file; default as for `Tracker`.
        then: called as well with (step, steps, nats per token).

    Attributes:
        run_id: of the run; None before it began, and where the store failed.
        of: the run of the trial; None where the store has none of the architecture.

    Raises:
        HostError: there is no such store.
    """

    def __init__(self, track: str | Path | None = None, then: Progress | None = None) -> None:
        self.uri = store.resolve(track)
        store.check(self.uri, 5)
        self.run_id: str | None = None
        self.of: str | None = None
        self._then, self._client = then, store.connect(self.uri)
        self._points: list[tuple[int, float]] = []
        self._noted: set[int] = set()  # steps of this process that are points
        self._seen = -1  # the last step of which the run has a point, or will have
        self._flushed = time.monotonic()
        self._told = self._ended = False

    def began(self, about: Mapping[str, object]) -> None:
        """The training begins or continues; `about` is what is known about it before (`nas_bo.export.folder`)."""
        self._safely(lambda: self._begin(about))

    def __call__(self, step: int, steps: int, nats: float) -> None:
        if math.isfinite(nats) and step >= self._seen + max(1, steps // MOST_POINTS):
            self._points.append((step, nats / math.log(2)))
            self._noted.add(step)
            self._seen = step
        if time.monotonic() - self._flushed >= EVERY_S:
            self._safely(self._flush)
        if self._then is not None:
            self._then(step, steps, nats)

    def ended(self, folder: Path, about: Mapping[str, object]) -> None:
        """The model is in the folder, and `about` says how good it is."""
        self._safely(lambda: self._end(folder, about))

    def failed(self, error: BaseException) -> None:
        """It was interrupted, or cannot continue."""
        interrupted = isinstance(error, KeyboardInterrupt)
        self._safely(
            lambda: self._fail("KILLED" if interrupted else "FAILED", "interrupted" if interrupted else str(error))
        )

    def _begin(self, about: Mapping[str, Any]) -> None:
        client = self._client
        of = newest_trial(client, str(about["architecture"]), str(about.get("study", "")))
        self.of = None if of is None else str(of.info.run_id)
        uid = "/".join(str(about.get(name, "")) for name in ("study", "architecture", "tokens", "seed"))
        uid = f"training/{content.clean(uid)}"
        every = [one.experiment_id for one in client.search_experiments()]
        query = f"tags.`nas.arch` = '{content.clean(str(about['architecture']))}' AND tags.`nas.kind` = 'training'"
        before = (
            [
                one
                for one in client.search_runs(every, query, max_results=100)
                if names.value(one.data.tags, names.UID) == uid
            ]
            if every
            else []
        )
        if before:
            self.run_id, self._ended = str(before[0].info.run_id), before[0].info.status == "FINISHED"
            if not self._ended:
                self._seen = max((one.step for one in client.get_metric_history(self.run_id, LOSS)), default=-1)
                client.update_run(self.run_id, status="RUNNING")
                client.set_tag(self.run_id, names.WRITER, owner())
            return
        tags = {"nas.kind": "training", "nas.arch": str(about["architecture"]), names.UID: uid}
        run = linked_run(client, self.uri, of, EXPERIMENT, "training", tags)
        self.run_id = str(run.info.run_id)
        params = {
            "arch/code": about.get("searched", {}).get("label", ""),
            "train/tokens": about.get("tokens"),
            "train/seed": about.get("seed"),
        }
        params |= {"train/corpus": about.get("corpus", {}).get("name"), "train/tokenizer": about.get("tokenizer")}
        self._batch([], {name: value for name, value in params.items() if value not in (None, "")})

    def _flush(self) -> None:
        if self.run_id is None or self._ended:
            return
        self._flushed = time.monotonic()
        points = self._points
        if points:
            self._batch([(LOSS, value, step) for step, value in points], {})
            self._points = self._points[len(points) :]

    def _end(self, folder: Path, about: Mapping[str, Any]) -> None:
        if self.run_id is None or self._ended:
            return
        client, steps, tokens = self._client, int(about.get("steps", 0)), int(about.get("tokens", 0))
        if len(self._noted) < 2 and steps:  # too short for anybody to look more than once while it ran
            curve = [(round(at * steps / max(1, tokens)), float(bits)) for at, bits in about.get("curve", ())]
            self._points = sorted([*self._points, *(one for one in curve if one[0] not in self._noted)])
        self._flush()
        numbers = {f"obj/{content.clean(str(name))}": value for name, value in about.get("values", {}).items()}
        numbers |= {
            "train/steps": steps,
            "train/parameters": about.get("parameters"),
            "cost/cpu_seconds": about.get("cpu_seconds"),
        }
        settings = {f"train/{name}": value for name, value in about.get("settings", {}).items()}
        self._batch([(name, float(value), 0) for name, value in numbers.items() if value is not None], settings)
        for name in SHOWN:
            if (folder / name).is_file():
                client.log_artifact(self.run_id, str(folder / name))
        client.set_terminated(self.run_id)
        self._ended = True
        if self.of is not None:
            values = ", ".join(f"{name} {value:.4f}" for name, value in about.get("values", {}).items())
            experiment = client.get_run(self.run_id).info.experiment_id
            sentence = f"[Trained to the end]({lineage.link(experiment, self.run_id)}), {tokens:,} tokens: {content.escaped(values)}"
            lineage.attach(client, self.of, "nas.training", self.run_id, sentence)

    def _fail(self, status: str, reason: str) -> None:
        if self.run_id is None or self._ended:
            return
        self._flush()
        self._client.set_tag(self.run_id, "nas.error", " ".join(reason.split())[:500] or status)
        self._client.set_terminated(self.run_id, status=status)

    def _batch(self, metrics: list[tuple[str, float, int]], params: Mapping[str, object]) -> None:
        from mlflow.entities import Metric, Param

        assert self.run_id is not None  # it began
        now = int(time.time() * 1000)
        given = [Metric(name, value, now, step) for name, value, step in metrics if math.isfinite(value)]
        said = [Param(name, str(value)[: content.PARAM_LENGTH]) for name, value in params.items()]
        for at in range(0, max(1, len(given)), 500):
            self._client.log_batch(self.run_id, metrics=given[at : at + 500], params=said if at == 0 else [])

    def _safely(self, action: Callable[[], None]) -> None:
        """A store that fails is named once."""
        try:
            with store.patience(self.uri, 10), store.quietly():
                action()
        except Exception as error:  # of MLflow, of its database, of the network
            if not self._told:
                self._told = True
                said = " ".join(store.redact(str(error)).split())[:300]
                warnings.warn(
                    f"MLflow at {store.redact(self.uri)} does not take the training ({type(error).__name__}: {said}); it continues, and its run there "
                    "may be incomplete",
                    stacklevel=2,
                )
