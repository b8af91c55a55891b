"""The OptunaHub package: loaded from its folder as optunahub does it, and its example and README run."""

from __future__ import annotations

import importlib.util
import re
import sys
import types
from pathlib import Path

import optuna
import pytest

ROOT = Path(__file__).parents[2] / "optunahub" / "package"
FOLDER = ROOT / "samplers" / "nas_bo"
optuna.logging.set_verbosity(optuna.logging.ERROR)


def load_local_module(package: str, registry_root: Path = ROOT) -> types.ModuleType:
    """What `optunahub.load_local_module` does: the folder under a name below `optunahub_registry`."""
    name = f"optunahub_registry.package.{package.replace('/', '.')}"
    spec = importlib.util.spec_from_file_location(name, registry_root / package / "__init__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def hub(monkeypatch):
    module = types.ModuleType("optunahub")
    module.load_module = load_local_module
    monkeypatch.setitem(sys.modules, "optunahub", module)


def test_the_package_names_the_samplers():
    from nas_bo.optuna import Sampler

    package = load_local_module("samplers/nas_bo")
    assert package.Sampler is Sampler
    assert all(hasattr(package, name) for name in package.__all__)


def test_the_example_runs(hub):
    spec = importlib.util.spec_from_file_location("example", FOLDER / "example.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    study = example.main(n_trials=14)
    assert len(study.trials) == 14 and all(t.state.name == "COMPLETE" for t in study.trials)


def test_the_readme_is_what_the_hub_wants(hub):
    text = (FOLDER / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    keys = [line.split(":")[0] for line in front.splitlines() if line]
    assert keys == ["author", "title", "description", "tags", "optuna_versions", "license"]
    assert re.findall("^## (.*)$", body, re.M) == ["Abstract", "APIs", "Installation", "Example", "Others"]
    (code,) = re.findall("```python\n(.*?)```", body, re.S)
    done: dict = {}
    exec(code.replace("n_trials=30", "n_trials=12"), done)
    assert len(done["study"].trials) == 12


def test_the_licence_is_that_of_the_repository():
    assert (FOLDER / "LICENSE").read_text() == (ROOT.parents[1] / "LICENSE").read_text()
    assert (FOLDER / "requirements.txt").read_text().startswith("nas_bo")
