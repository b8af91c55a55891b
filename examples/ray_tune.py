"""Ray Tune over a space of nas_bo: `OptunaSearch` takes the space as a function and the strategy as a sampler.

Needs the extra `ray`. Tune's own AxSearch fails with Ax 1.3 (it asks for an attribute that Ax has removed); to use
Ax, ask an Ax client in the driver and evaluate in Ray tasks, as examples/ray_tasks.py does with Optuna.
"""

import os

import optuna
import ray
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from nas_bo import Reported
from nas_bo.model import label, load_corpus, train
from nas_bo.objectives import Parameters
from nas_bo.optuna import Sampler, architecture, suggest
from nas_bo.search_spaces import TinyGPT
from nas_bo.strategies import Bayes


def space(trial) -> None:
    suggest(trial, TinyGPT)  # every choice becomes an entry of the config
    trial.suggest_float("lr", 1e-3, 1e-2, log=True)  # yours, searched with them


def trainable(config: dict) -> dict:
    arch = architecture(TinyGPT, config)
    loss = train(arch, load_corpus(), tokens=5_000, lr=config["lr"]).bits_per_byte
    return {"bits_per_byte": loss, "parameters": Parameters()(arch)}


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # what can be computed is known to the strategy from the start; bits_per_byte it learns from the trials
    sampler = Sampler(
        TinyGPT, Bayes(seed=0, startup=4), objectives=[Reported("bits_per_byte"), Parameters(at_most=150_000)]
    )
    search = OptunaSearch(
        space,
        metric=["bits_per_byte", "parameters"],
        mode=["min", "min"],
        sampler=sampler,
        study_name="ray-tune",
        storage=optuna.storages.RDBStorage("sqlite:///ray_tune.db"),  # browse it, or continue it without Ray
    )
    config = tune.TuneConfig(search_alg=search, num_samples=6, max_concurrent_trials=2)
    run = tune.RunConfig(storage_path=os.path.abspath("ray_tune_results"), verbose=0)
    results = tune.Tuner(tune.with_resources(trainable, {"cpu": 1}), tune_config=config, run_config=run).fit()
    ray.shutdown()

    assert not results.errors and len(results) == 6
    study = optuna.load_study(study_name="ray-tune", storage="sqlite:///ray_tune.db")
    for best in study.best_trials:
        print(label(architecture(TinyGPT, best.params)), [round(v, 3) for v in best.values], best.params["lr"])
