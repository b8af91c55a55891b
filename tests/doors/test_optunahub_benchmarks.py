"""The benchmark package for OptunaHub: loaded as the hub does it, on small files with the columns of the published ones."""

from __future__ import annotations

import itertools
import json
import re
import sys
import types
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest

optunahub = pytest.importorskip("optunahub")
ROOT = Path(__file__).parents[2] / "optunahub" / "package"
FOLDER = ROOT / "benchmarks" / "nas_problems"
optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture(scope="module")
def nas() -> types.ModuleType:
    return optunahub.load_local_module("benchmarks/nas_problems", registry_root=str(ROOT))


@pytest.fixture(scope="module")
def cells(tmp_path_factory, nas) -> Path:
    every = list(itertools.product(nas.NASBench201.OPERATIONS, repeat=6))
    rows = pd.DataFrame(every, columns=[f"op{i}" for i in range(6)])
    convolutions = (rows == "nor_conv_3x3").sum(axis=1)
    rows["cifar10_val_accuracy_12_epochs"] = 50.0 + 5.0 * convolutions + (rows["op0"] == "skip_connect")
    rows["latency_fpga_ms"] = 1.0 + 2.0 * convolutions
    path = tmp_path_factory.mktemp("nas") / "cells.parquet"
    rows.to_parquet(path)
    return path


def test_the_complete_table_of_cells(nas, cells, tmp_path):
    problem = nas.NASBench201(cells)
    study = optuna.create_study(directions=problem.directions, sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(problem, n_trials=5)
    assert set(study.trials[0].params) == set(problem.search_space)
    best = {f"op{i}": "nor_conv_3x3" for i in range(6)}
    assert problem.evaluate(best) == (20.0, 13.0)
    assert problem.front()[0] == (20.0, 13.0) and problem.front()[-1] == (49.0, 1.0) and len(problem.front()) == 7
    alone = nas.NASBench201(cells, device=None)
    assert alone.evaluate(best) == 20.0 and alone.directions == [optuna.study.StudyDirection.MINIMIZE]
    with pytest.raises(ValueError, match="no column latency_phone_ms; it has op0"):
        nas.NASBench201(cells, device="phone")
    pd.read_parquet(cells).head(100).to_csv(tmp_path / "few.csv", index=False)
    with pytest.raises(ValueError, match="100 of the 15,625 cells"):
        nas.NASBench201(tmp_path / "few.csv")


def test_a_conditional_space_of_decoders(nas, tmp_path):
    rng, sizes = np.random.default_rng(0), [80, 16, 16, 16, 16, 1]
    arrays = {f"fc{i + 1}.weight": rng.normal(size=(sizes[i + 1], sizes[i])).astype("float32") for i in range(5)}
    arrays |= {f"fc{i + 1}.bias": rng.normal(size=sizes[i + 1]).astype("float32") for i in range(5)}
    arrays |= {"lin_lat_h100_ms": np.arange(18.0), "lin_params": np.full(18, 1e6)}
    np.savez(tmp_path / "weights.npz", **arrays)
    problem = nas.HWGPTBench(tmp_path / "weights.npz", objectives=("perplexity", "latency_ms", "params_m"))
    study = optuna.create_study(directions=problem.directions, sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(problem, n_trials=12)
    for trial in study.trials:
        depth = trial.params["n_layer"]
        assert len(trial.params) == 3 + 2 * depth and trial.params.keys() <= problem.search_space.keys()
        assert problem.evaluate(trial.params) == tuple(trial.values)
    whole = {"embed_dim": 384, "n_layer": 10, "bias": True, **{f"mlp_ratio_{i}": 2 for i in range(12)}}
    whole |= {f"n_head_{i}": 12 for i in range(12)}
    assert problem.evaluate(whole)[1] == 6 + 7 * 10 + 8 + 9 * 20 + 11 * 10  # what is beyond the depth is ignored
    with pytest.raises(ValueError, match="no lin_lat_a100_ms"):
        nas.HWGPTBench(tmp_path / "weights.npz", device="a100")
    with pytest.raises(ValueError, match="take some of perplexity"):
        nas.HWGPTBench(tmp_path / "weights.npz", objectives=("loss",))


def test_a_table_is_answered_by_its_nearest_row(nas, tmp_path):
    layer = {"n_head": 12, "n_kv_group": 6, "n_qk_head_dim": 64, "n_v_head_dim": 64}
    archs = [[{"mlp_size": 512}] * n + [{**layer, "mlp_size": 1024}] * 2 for n in (1, 4, 9)]
    rows = pd.DataFrame(
        {
            "arch": [json.dumps(a) for a in archs], "depth": [3, 6, 11], "attention_layers": [2, 2, 2],
            "val_loss": [3.2, 2.9, 3.0], "params_m": [10.0, 20.0, 40.0],
        }
    )  # fmt: skip
    rows.to_csv(tmp_path / "table.csv", index=False)
    problem = nas.LLMForgeTable(tmp_path / "table.csv")
    study = optuna.create_study(directions=problem.directions, sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(problem, n_trials=10)
    for trial in study.trials:
        assert tuple(trial.values) == tuple(rows.loc[trial.user_attrs["row"], ["val_loss", "params_m"]])
    assert problem.front() == [(2.9, 20.0), (3.2, 10.0)]
    rows.assign(arch="[1, 2").to_csv(tmp_path / "cut.csv", index=False)
    with pytest.raises(ValueError, match="row 0 of .* has no architecture"):
        nas.LLMForgeTable(tmp_path / "cut.csv")


def test_example_and_readme_are_what_the_hub_wants(nas, cells, tmp_path, monkeypatch):
    monkeypatch.setattr(
        optunahub, "load_module", lambda package: optunahub.load_local_module(package, registry_root=str(ROOT))
    )
    text = (FOLDER / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    keys = [line.split(":")[0] for line in front.splitlines() if line]
    assert keys == ["author", "title", "description", "tags", "optuna_versions", "license"]
    assert re.findall("^## (.*)$", body, re.M) == ["Abstract", "APIs", "Installation", "Example", "Others"]
    (code,) = re.findall("```python\n(.*?)```", body, re.S)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nb201.parquet").write_bytes(cells.read_bytes())
    done: dict = {}
    exec(code.replace("n_trials=100", "n_trials=6"), done)
    assert len(done["study"].trials) == 6
    example: dict = {"__name__": "example"}
    exec((FOLDER / "example.py").read_text(), example)
    assert len(example["main"](str(cells), n_trials=6).trials) == 6
    assert (FOLDER / "LICENSE").read_text() == (ROOT.parents[1] / "LICENSE").read_text()
    assert "nas_bo" not in sys.modules["optunahub_registry.package.benchmarks.nas_problems"].__dict__


def test_the_samplers_are_loaded_by_the_hub_itself():
    package = optunahub.load_local_module("samplers/nas_bo", registry_root=str(ROOT))
    study = optuna.create_study(sampler=package.Sampler(strategy=package.LocalSearch(seed=0)))
    study.optimize(lambda trial: trial.suggest_int("x", 0, 9) ** 2, n_trials=5)
    assert len(study.trials) == 5 and issubclass(package.Sampler, optuna.samplers.BaseSampler)
