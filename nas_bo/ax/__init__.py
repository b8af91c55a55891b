"""DOOR to Ax: a space as Ax parameters and back, and our strategies inside an Ax client.

    from nas_bo import ax as nas_ax

    client = Client()
    client.configure_experiment(parameters=nas_ax.parameters(Tiny), parameter_constraints=nas_ax.constraints(Tiny))
    client.configure_optimization(objective="-val_loss, -latency_ms")
    client.set_generation_strategy(nas_ax.generation(Tiny, NSGA2(seed=0)))      # leave out to let Ax choose
    for index, params in client.get_next_trials(4).items():
        arch = nas_ax.architecture(Tiny, params)
        ...

On an experiment with parameters of your own only: ``generation(None, Bayes(seed=0))``.

Importing this package does not import ax; calling its functions does.
"""

from nas_bo.ax.experiment import generation, modular_botorch, register, tell
from nas_bo.ax.lowering import architecture, constraints, parameters, params

__all__ = [
    "architecture",
    "constraints",
    "generation",
    "modular_botorch",
    "parameters",
    "params",
    "register",
    "tell",
]
