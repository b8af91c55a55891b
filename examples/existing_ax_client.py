"""An Ax client of your own, with your evaluation: nas_bo supplies the space, the costs and the strategy.

    python examples/existing_ax_client.py

Your parameters (here the learning rate) stay next to the architecture in the same experiment and are searched with it;
fixed_parameters holds some of them still for a while. Drop the line with `set_generation_strategy` to let Ax choose:
the space is an Ax space.
"""

import logging

from ax.api.client import Client
from ax.api.configs import RangeParameterConfig

from nas_bo import ax as nas_ax
from nas_bo.model import label, load_corpus, parameters, train
from nas_bo.objectives import Parameters
from nas_bo.search_spaces import TinyGPT
from nas_bo.space import require
from nas_bo.strategies import NSGA2
from nas_bo.trial import ObjectiveSpec, Trial, front


class Mine(TinyGPT):
    @require
    def deep_ones_are_slim(arch):  # a rule of yours: Ax cannot be given it, the strategy obeys it
        return arch.width * len(arch.layers) <= 256


corpus = load_corpus()  # the source of Python's standard library, as bytes


def evaluate(arch, lr):  # your training and your measurements go here
    trained = train(arch, corpus, tokens=10_000, lr=lr)
    return {"bits_per_byte": trained.bits_per_byte, "parameters": parameters(arch, vocab_size=256)}


logging.disable(logging.WARNING)  # Ax reports every trial
client = Client()
learning_rate = RangeParameterConfig("lr", (1e-3, 1e-2), "float", scaling="log")
client.configure_experiment(
    parameters=[*nas_ax.parameters(Mine), learning_rate], parameter_constraints=nas_ax.constraints(Mine)
)
client.configure_optimization(objective="-bits_per_byte, -parameters", outcome_constraints=["parameters <= 150000"])

cost = Parameters()  # exact before anything is trained, so nothing above the limit is ever proposed
client.set_generation_strategy(nas_ax.generation(Mine, NSGA2(seed=0, population=6), objectives=[cost]))

trials = []
for number in range(10):
    fixed = {"lr": 3e-3} if number < 4 else None  # first architectures only, then all together
    for index, params in client.get_next_trials(1, fixed_parameters=fixed).items():
        arch = nas_ax.architecture(Mine, params)
        trials.append(Trial(arch, evaluate(arch, params["lr"]), number=index))
        nas_ax.tell(client, index, trials[-1])

for best in front(trials, [ObjectiveSpec("bits_per_byte"), ObjectiveSpec("parameters")]):
    print(f"trial {best.number}: {label(best.architecture)}, {dict(best.values)}")
