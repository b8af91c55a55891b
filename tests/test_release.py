"""What a release says about itself in several files is the same everywhere, and comes from `nas_bo.__version__` and pyproject.toml."""

from __future__ import annotations

import re
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import yaml

import nas_bo

ROOT = Path(__file__).parents[1]
ALL = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = ALL["project"]
CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base", "lazy-loader": "lazy_loader"}


def _name(requirement: str) -> str:
    return re.split(r"[\[<>=!~; ]", requirement)[0].lower().replace("_", "-")


def test_the_version_is_the_same_everywhere():
    version = nas_bo.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", version) and PROJECT["dynamic"] == ["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert yaml.safe_load((ROOT / "conda" / "recipe.yaml").read_text())["context"]["version"] == version
    first = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert first is not None and first[1] == version


def test_the_address_is_the_same_everywhere():
    """There is none yet; once there is, in all three."""
    address = PROJECT.get("urls", {}).get("Repository")
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text()).get("repository-code") == address
    assert yaml.safe_load((ROOT / "conda" / "recipe.yaml").read_text())["about"].get("repository") == address
    assert all(url.startswith("https://") for url in PROJECT.get("urls", {}).values())


def test_the_conda_recipe_requires_what_the_package_does():
    run = yaml.safe_load((ROOT / "conda" / "recipe.yaml").read_text())["requirements"]["run"]
    there = {re.sub(r"\s", "", one) for one in run if not one.startswith("python ")}
    wanted = {re.sub(r"^[\w.-]+", lambda found: CONDA.get(found[0], found[0]), one) for one in PROJECT["dependencies"]}
    assert there == wanted


def test_every_python_that_is_promised_is_named_and_tested():
    versions = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))
    assert versions == ["3.11", "3.12", "3.13"] and PROJECT["requires-python"] == ">=3.11,<3.14"
    for name in ("ci.yml", "publish.yml"):
        jobs = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())["jobs"]
        tested = [job["strategy"]["matrix"]["python"] for job in jobs.values() if "strategy" in job]
        assert tested == [versions], name


def test_publishing_needs_no_password():
    text = (ROOT / ".github" / "workflows" / "publish.yml").read_text()
    assert "id-token: write" in text and not re.search(r"password|secrets\.|token:(?! write)", text.split("\non:")[1])


def test_files_that_are_no_python_go_into_the_wheel():
    tracked = subprocess.run(["git", "ls-files", "nas_bo"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    data = ALL["tool"]["setuptools"]["package-data"]
    for path in map(Path, tracked.split()):
        package = ".".join(path.parent.parts)
        patterns = [*data.get("*", ()), *data.get(package, ())]
        assert path.suffix == ".py" or any(fnmatch(path.name, pattern) for pattern in patterns), path


def test_ci_tests_exact_versions_of_what_is_required():
    pinned = {_name(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    everything = [
        *PROJECT["dependencies"],
        *(one for all_ in PROJECT["optional-dependencies"].values() for one in all_),
    ]
    lacking = {_name(one) for one in everything} - pinned - {"nas-bo", "lm-eval"}  # CI does not install the last
    assert not lacking, f"constraints.txt has no {', '.join(sorted(lacking))}"
    assert ".ci/wheel" in (ROOT / ".ci" / "run").read_text()
