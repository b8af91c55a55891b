"""DOOR to Ax: a space as Ax parameters and back, and our strategies inside an Ax client.

    from nas_bo import ax as nas_ax

    client = Client()
    client.configure_experiment(parameters=nas_ax.parameters(Tiny), parameter_constraints=nas_ax.constraints(Tiny))
    client.configure_optimization(objective="-bits_per_byte, -latency_ms")
    client.set_generation_strategy(nas_ax.generation(Tiny, NSGA2(seed=0)))      # leave out to let Ax choose
    for index, params in client.get_next_trials(4).items():
        arch = nas_ax.architecture(Tiny, params)
        ...

A client that is ready to run, evaluation included:

    client = nas_ax.client(Tiny, [ValidationLoss(tokens=1e6), Parameters(at_most=1e6)], strategy=NSGA2(seed=0))
    client.run_trials(max_trials=20)

On an experiment with parameters of your own only: ``generation(None, Bayes(seed=0))``.

Importing this package does not import ax; calling its functions does.
"""

from typing import TYPE_CHECKING

from nas_bo.ax.client import client, storage
from nas_bo.ax.experiment import generation, modular_botorch, register, tell
from nas_bo.ax.lowering import architecture, constraints, parameters, params

if TYPE_CHECKING:
    from nas_bo.ax.evaluate import Metric, Runner

__all__ = [
    "Metric", "Runner", "architecture", "client", "constraints", "generation", "modular_botorch", "parameters",
    "params", "register", "storage", "tell",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name in ("Metric", "Runner"):  # they derive from classes of ax
        register()
        from nas_bo.ax.evaluate import Metric, Runner

        return Metric if name == "Metric" else Runner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
