"""Names of version 0.1 that are elsewhere now: each still works, says its new name, and ends with version 0.3."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

ENDS = "0.3"  # the first version without them

MODULES = {  # under `nas_bo`
    "again": "workflows.rerun",
    "ask_tell": "workflows.ask_tell",
    "ax.fields": "ax.inferred.fields",
    "ax.view": "ax.inferred.study_space",
    "ax.wanted": "ax.problem",
    "baseline": "workflows.baselines",
    "checked": "workflows.retraining_check",
    "chosen": "workflows.register",
    "command": "cli",
    "command.again": "cli.rerun",
    "command.asking": "cli.ask",
    "command.ending": "cli.ending",
    "command.merging": "cli.merge",
    "command.moment": "cli.ending",
    "command.typed": "cli.typed_options",
    "command.validation": "cli.validation_words",
    "command.warned": "cli.warnings_shown",
    "comparison": "workflows.comparison",
    "hardware.additive": "hardware.latency.additive",
    "hardware.anchors": "hardware.measuring.anchors",
    "hardware.bench": "hardware.measuring.bench",
    "hardware.benchmark": "hardware.devices.benchmark",
    "hardware.calibration": "hardware.latency.calibration",
    "hardware.clock": "hardware.measuring.clock",
    "hardware.contract": "hardware.latency.model",
    "hardware.design": "hardware.latency.profile_design",
    "hardware.device": "hardware.devices.device",
    "hardware.drift": "hardware.measuring.drift",
    "hardware.learned": "hardware.latency.learned",
    "hardware.lookup": "hardware.latency.lookup",
    "hardware.machine": "hardware.measuring.machine",
    "hardware.machine_profile": "hardware.latency.machine_profile",
    "hardware.measure": "hardware.measuring.measure",
    "hardware.measured": "hardware.latency.measured",
    "hardware.measurement": "hardware.measuring.measurement",
    "hardware.memory_measure": "hardware.measuring.memory_measure",
    "hardware.meters": "hardware.measuring.meters",
    "hardware.parts_index": "hardware.latency.parts_index",
    "hardware.profile": "hardware.latency.profile",
    "hardware.profile_file": "hardware.latency.profile_file",
    "hardware.quality": "hardware.latency.quality",
    "hardware.recorder": "hardware.measuring.recorder",
    "hardware.roofline": "hardware.latency.roofline",
    "hardware.roofline_model": "hardware.latency.roofline_model",
    "hardware.session": "hardware.measuring.session",
    "heard": "execution.worker_warnings",
    "kept": "workflows.evaluation_store",
    "loading": "workflows.stored_result",
    "loop": "workflows.search",
    "measuring_session": "workflows.final_measurement",
    "mlflow.process": "process",
    "mlflow.store": "mlflow.tracking_uri",
    "mlflow.view": "mlflow.presentation",
    "model.extent": "supernet.coverage",
    "model.many": "model.stacked_training",
    "model.mixed": "supernet.mixture",
    "model.own": "model.own_model",
    "model.quiet": "measurement_lock",
    "model.sampling": "supernet.sampling",
    "model.slicing": "supernet.slicing",
    "model.supernet": "supernet.weights",
    "model.supernet_file": "supernet.file",
    "model.supernet_training": "supernet.training",
    "model.swaps": "supernet.swaps",
    "model.transformer": "model.decoder",
    "objectives.low_fidelity": "objectives.validation_loss",
    "optuna.branches": "optuna.inferred.branches",
    "optuna.conditions": "optuna.inferred.conditions",
    "optuna.derived": "optuna.inferred.study_space",
    "optuna.records": "optuna.inferred.record_lists",
    "optuna.view": "optuna.inferred.study_space",
    "pick": "workflows.pick",
    "preflight": "execution.preflight",
    "profiling": "workflows.profile",
    "recipe": "serialization",
    "result": "workflows.result",
    "signals": "execution.interrupts",
    "strategies.alternation": "strategies.one_shot.alternation",
    "strategies.belief": "strategies.objective_models",
    "strategies.collapse": "strategies.one_shot.collapse",
    "strategies.darts": "strategies.one_shot.darts",
    "strategies.design": "strategies.initial_design",
    "strategies.gdas": "strategies.one_shot.gdas",
    "strategies.gradient": "strategies.one_shot.gradient",
    "strategies.halving": "stopping.successive_halving",
    "strategies.known": "strategies.cheap_objectives",
    "strategies.pareto": "pareto",
    "strategies.past": "strategies.history",
    "strategies.proxyless": "strategies.one_shot.proxyless",
    "strategies.relaxation": "strategies.one_shot.relaxation",
    "strategies.reservation": "stopping.reservation",
    "strategies.store": "strategies.one_shot.result_store",
    "validation": "workflows.validate",
    "workers": "execution.processes",
    "workflows.foreign_recipe": "foreign_recipe",
}

NAMES = {  # under `nas_bo`; with a colon also what it is called there
    "model.Balanced": "supernet",
    "model.Fair": "supernet",
    "model.Sampling": "supernet",
    "model.Sandwich": "supernet",
    "model.Uniform": "supernet",
    "model.Supernet": "supernet",
    "model.SupernetDiverged": "supernet",
    "model.SupernetResult": "supernet",
    "model.train_supernet": "supernet",
    "optuna.bridge.EvaluationFailed": "optuna.writing",
    "optuna.bridge.columns": "optuna.reading",
    "optuna.bridge.from_frozen": "optuna.reading",
    "optuna.bridge.history": "optuna.reading",
    "optuna.bridge.record": "optuna.writing",
    "strategies.Reservation": "stopping",
    "strategies.Stopping": "stopping",
    "strategies.SuccessiveHalving": "stopping",
    "trial.ATTRIBUTE_WIDTH": "study",
    "trial.Column": "trial:ObjectiveSpec",
    "trial.PREFIX": "study",
    "trial.attributes": "study",
    "trial.from_attributes": "study",
    "trial.plain": "study",
    "trial.read_attributes": "study",
    "trial.write_attributes": "study",
}


def current(name: str) -> str:
    """The name of today of the module `name`, or of a module inside one that was moved."""
    parts = name.split(".")
    for end in range(len(parts), 1, -1):
        if parts[0] == "nas_bo" and (new := MODULES.get(".".join(parts[1:end]))):
            return ".".join(["nas_bo", new, *parts[end:]])
    return name


def value(package: str, name: str) -> Any:
    """What `package` had under `name` in version 0.1.

    Raises:
        AttributeError: it had no such name.
    """
    home = NAMES.get(f"{package.removeprefix('nas_bo.')}.{name}")
    if home is None:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    home, _, new = home.partition(":")
    warn(f"{package}.{name}", f"nas_bo.{home}.{new or name}", 4)
    return getattr(import_module(f"nas_bo.{home}"), new or name)


def install() -> None:
    """Let modules be imported under their names of version 0.1."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())  # first: a moved package has a path, in which its parts would be found twice


class _Finder(MetaPathFinder, Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith("nas_bo.") or current(fullname) == fullname:
            return None
        return ModuleSpec(fullname, self)

    def exec_module(self, module: ModuleType) -> None:
        new = current(module.__name__)
        warn(module.__name__, new, 3)
        sys.modules[module.__name__] = import_module(new)


def warn(old: str, new: str, level: int = 3) -> None:
    """Say at the line that is `level` calls away that `old` is called `new` now."""
    warnings.warn(
        f"{old} is {new} since version 0.2; the old name ends with version {ENDS}",
        DeprecationWarning,
        stacklevel=level,
    )
