"""A transformer whose layers have parameters of their own: they exist only for the layers that exist."""

import math

import optuna

import optunahub


def objective(trial: optuna.Trial) -> tuple[float, float]:
    """Stands for training and timing a model; both values are to be small."""
    width = trial.suggest_categorical("width", [128, 256, 512])
    n_layer = trial.suggest_int("n_layer", 2, 8)
    quality, cost = math.log(width), 0.0
    for i in range(n_layer):
        mixer = trial.suggest_categorical(f"layers.{i}.mixer", ["attention", "conv"])
        if mixer == "attention":
            heads = trial.suggest_categorical(f"layers.{i}.heads", [2, 4, 8])
            quality += 1.0 - 0.1 * abs(math.log2(heads) - 2)
            cost += width / 64
        else:
            kernel = trial.suggest_int(f"layers.{i}.kernel", 3, 9, step=2)
            quality += 0.7 - 0.02 * abs(kernel - 5)
            cost += width / 256
    rate = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
    return 10 - quality + 0.2 * (math.log10(rate) + 2.5) ** 2, cost


def main(n_trials: int = 60) -> optuna.Study:
    package = optunahub.load_module("samplers/nas_bo")
    sampler = package.Sampler(strategy=package.NSGA2(seed=0, population=10))
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    study.optimize(objective, n_trials=n_trials)
    return study


if __name__ == "__main__":
    for best in main().best_trials:
        print(best.number, best.values, best.params)
