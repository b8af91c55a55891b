"""A new objective: any callable with a name. Attributes say its unit, its direction and when it is evaluated."""

from dataclasses import dataclass

from nas_bo import search
from nas_bo.model import active_parameters
from nas_bo.objectives import ValidationLoss
from nas_bo.search_spaces import TinyGPT


def attention_layers(arch) -> float:
    """The shortest form: a function. Minimised; here evaluated before anything is trained."""
    return float(sum(layer.mixer.kind == "attention" for layer in arch.layers))


attention_layers.cost = "analytic"
attention_layers.unit = "layers"


@dataclass(frozen=True)
class PhoneMemory:
    """The long form: an object with settings, a unit and a limit. Frozen, so that it can go to other processes."""

    bits: int = 8
    at_most: float | None = None
    name: str = "weights_kb"
    unit: str = "kB"
    direction: str = "minimize"
    cost: str = "analytic"

    def __call__(self, arch) -> float:
        return active_parameters(arch, vocab_size=256) * self.bits / 8 / 1000


if __name__ == "__main__":
    objectives = [ValidationLoss(tokens=20_000), PhoneMemory(bits=4, at_most=100), attention_layers]
    result = search(TinyGPT, objectives, trials=8, retrain=0)
    print(result)
    assert all(t.values["weights_kb"] <= 100 for t in result.trials)  # the others were never trained
