"""From nothing: search the default space on the source of Python's standard library, and look at the front.

A budget of 20,000 tokens keeps this example below a minute; `nas-bo search` uses 200,000.
"""

from nas_bo import search
from nas_bo.objectives import Latency, Parameters, ValidationLoss
from nas_bo.search_spaces import TinyGPT
from nas_bo.strategies import NSGA2


def main() -> None:
    result = search(
        TinyGPT,
        objectives=[ValidationLoss(tokens=20_000), Latency(at_most=25), Parameters()],
        strategy=NSGA2(seed=0, population=6),
        trials=10,
        retrain=2,
        storage="quick_start.db",
    )
    print(result)
    knee = result.knee()
    print(
        f"\nknee: {result.label(knee)}, {knee.values['bits_per_byte']:.3f} bits/byte in {knee.values['latency_ms']:.2f} ms"
    )
    print(result.frame()[["number", "bits_per_byte", "latency_ms", "parameters"]].head())
    (picture, *_) = result.save("quick_start")
    print(f"picture: {picture}")


if __name__ == "__main__":
    main()
