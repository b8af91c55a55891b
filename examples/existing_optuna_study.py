"""Inside an Optuna study that already exists: one new line in the objective; learning rate and loop stay your own.

The study is created, and gets its first trials, before nas_bo is imported.
"""

import optuna

STORAGE = "sqlite:///existing_optuna_study.db"
optuna.logging.set_verbosity(optuna.logging.WARNING)


def yesterday() -> None:
    """What you had: a study over the learning rate and the width of a model of your own."""
    study = optuna.create_study(
        study_name="gpt", storage=STORAGE, directions=["minimize", "minimize"], load_if_exists=True
    )
    study.enqueue_trial({"lr": 3e-3})
    study.enqueue_trial({"lr": 1e-3})


def objective(trial: optuna.Trial) -> tuple[float, float]:
    from nas_bo.model import load_corpus, train
    from nas_bo.objectives import Latency
    from nas_bo.optuna import suggest
    from nas_bo.search_spaces import TinyGPT

    arch = suggest(trial, TinyGPT)  # the new line
    lr = trial.suggest_float("lr", 1e-4, 1e-2, log=True)
    trained = train(
        arch, load_corpus(), tokens=10_000, lr=lr
    )  # or your own loop over nas_bo.model.build(arch, vocab_size)
    return trained.bits_per_byte, Latency(max_seconds=0.2)(arch)


def today() -> optuna.Study:
    from nas_bo.mlflow import Tracker
    from nas_bo.optuna import Sampler
    from nas_bo.search_spaces import TinyGPT
    from nas_bo.strategies import NSGA2

    sampler = Sampler(TinyGPT, NSGA2(seed=0, population=6))  # optional: any Optuna sampler works
    study = optuna.load_study(study_name="gpt", storage=STORAGE, sampler=sampler)
    study.set_metric_names(["bits_per_byte", "latency_ms"])
    study.optimize(
        objective, n_trials=6, callbacks=[Tracker("gpt", uri="sqlite:///existing_optuna_study_mlflow.db")]
    )  # optional
    return study


if __name__ == "__main__":
    yesterday()
    study = today()
    from nas_bo.model import label
    from nas_bo.optuna import architecture
    from nas_bo.search_spaces import TinyGPT

    for best in study.best_trials:
        print(
            best.number,
            label(architecture(TinyGPT, best.params)),
            [round(v, 3) for v in best.values],
            best.params["lr"],
        )
