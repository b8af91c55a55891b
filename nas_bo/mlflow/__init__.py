"""DOOR to MLflow (>= 3.11): every trial of a study as a run that people can browse, compare and filter.

`Tracker` is a callback for Optuna studies and what `search(track=...)` uses; `open_ui` starts the UI on this machine.
Only `MlflowClient` with explicit run ids is used: the fluent API, its active run and its global tracking URI stay
the user's. mlflow itself is imported when the first trial is logged.
"""

from nas_bo.mlflow.registry import Registered, load_model
from nas_bo.mlflow.server import UI, open_ui
from nas_bo.mlflow.spool import beside
from nas_bo.mlflow.tracker import Tracker
from nas_bo.mlflow.training import TrainingRun

__all__ = [
    "UI", "Registered", "Tracker", "TrainingRun", "beside", "load_model", "open_ui",
]  # fmt: skip
