"""A hundred trials of NSGA-II on NAS-Bench-201 with the latency of an FPGA, against the exact front: `python example.py nb201.parquet`."""

import sys

import optuna

import optunahub


def main(path: str, n_trials: int = 100) -> optuna.Study:
    nas = optunahub.load_module("benchmarks/nas_problems")
    problem = nas.NASBench201(path, device="fpga")
    study = optuna.create_study(directions=problem.directions, sampler=optuna.samplers.NSGAIISampler(seed=0))
    study.optimize(problem, n_trials=n_trials)
    exact = set(problem.front())
    print(
        f"{sum(tuple(t.values) in exact for t in study.best_trials)} of {len(exact)} cells of the exact front were found"
    )
    return study


if __name__ == "__main__":
    main(*sys.argv[1:2])
