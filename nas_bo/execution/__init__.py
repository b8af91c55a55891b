"""ROOM 13, execution: what is looked at before the first trial, and where evaluations run."""

from nas_bo.execution.executor import Executor
from nas_bo.execution.in_process import InProcess
from nas_bo.execution.processes import Processes
from nas_bo.execution.ray import Ray

__all__ = ["Executor", "InProcess", "Processes", "Ray"]
