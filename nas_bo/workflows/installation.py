"""What of an installation works: versions, extras, devices, meters of energy, the cache folder, a storage, a tracker.

    from nas_bo.workflows.installation import examine
    report = examine(extras=["onnx"], storage="nas-bo.db")
    print(report, report.ok)

Nothing is changed and nothing is installed. What is missing has the line that installs it. `nas-bo doctor` is this for shells.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import psutil

import nas_bo
from nas_bo import database_url
from nas_bo.cache_folder import cache_folder
from nas_bo.errors import MissingExtra, NasBoError, SearchError, near
from nas_bo.install_line import HERE, clone, install_line
from nas_bo.wording import counted

if TYPE_CHECKING:
    from packaging.requirements import Requirement

PYTHON = ((3, 11), (3, 14))  # from, and below
TIMEOUT_S = 5.0  # of a server of MLflow
DEVELOPERS = ("test", "docs", "benchmark")  # extras that only a clone of the repository needs
PURPOSES: Mapping[str, Mapping[str, str]] = {
    "export, and search inside trained models": {
        "transformers": "folders of Hugging Face, read and written",
        "packed": "weights of few bits in folders of Hugging Face",
        "gguf": "files for llama.cpp",
        "llamacpp": "llama.cpp itself, to run and to quantize them",
        "onnx": "files for ONNX Runtime",
        "openvino": "files for OpenVINO",
        "nncf": "the same with weights of few bits",
    },
    "other hosts": {
        "ax": "searches in an Ax client",
        "ray": "searches on a cluster",
        "dashboard": "studies in Optuna's dashboard",
        "agents": "the server for coding agents",
        "lightning": "trainings by Lightning",
    },
    "shared storages": {"postgres": "studies in PostgreSQL", "grpc": "studies behind Optuna's proxy"},
    "measuring": {
        "energy": "meters of energy",
        "lm-eval": "tasks of the LM evaluation harness",
        "predict": "boosted trees as a surrogate",
    },
    "work on nas_bo itself": {"test": "the tests", "docs": "the site", "benchmark": "the benchmarks"},
}
"""What extras are for: purpose -> extra -> what it adds."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

State = Literal["ok", "missing", "unavailable", "broken"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        group: "packages", "extras", "devices", "energy", "browser" or "places".
        state: "ok"; "missing", which can be installed or made; "unavailable", which this machine does not have; "broken".
        found: what is there, or why it does not work.
        fix: what to do about it: for what is not installed the line that installs it.
        asked: whether the caller named it, or nas_bo cannot work without it.
    """

    group: str
    name: str
    state: State
    found: str = ""
    fix: str = ""
    asked: bool = False


@dataclass(frozen=True)
class Examined:
    """The checks in their order."""

    checks: Sequence[Check]

    @property
    def failed(self) -> list[Check]:
        """What was asked for and does not work."""
        return [one for one in self.checks if one.asked and one.state != "ok"]

    @property
    def ok(self) -> bool:
        """Whether all that was asked for works."""
        return not self.failed

    def __str__(self) -> str:
        wide = min(28, max(len(one.name) for one in self.checks))
        lines, group = [f"nas-bo {nas_bo.__version__}"], ""
        titles = {"extras": f"Extras, all optional; one is installed with: {install_line('NAME')}"}
        for one in self.checks:
            if one.group != group:
                group = one.group
                lines += ["", titles.get(group, group.capitalize())]
            if one.group != "extras":
                lines.append(_line(one, wide, one.found, one.fix))
            elif one.name == _first_extra(self.checks):
                lines += self._extras(wide)
        if not any(
            one.asked and one.group != "packages" and one.name not in ("cpu", "cache folder") for one in self.checks
        ):
            end = "nas-bo works here. What is optional is not needed for a search."
        else:
            end = "All that was asked for works."
        if self.failed:
            end = f"Not all that was asked for works: {', '.join(one.name for one in self.failed)}."
        return "\n".join([*lines, "", end])

    def _extras(self, wide: int) -> Iterator[str]:
        """The extras by what they are for: those that are there, then those that are not."""
        known = {one.name: one for one in self.checks if one.group == "extras"}
        named = {name for those in PURPOSES.values() for name in those}
        for purpose, those in {**PURPOSES, "others": dict.fromkeys(known.keys() - named, "")}.items():
            there = sorted((one for name in those if (one := known.get(name))), key=lambda one: one.state != "ok")
            if there:
                yield f"  {purpose}"
            for one in there:
                broken = one.state != "ok" and (one.asked or "where" in one.found)
                fix = one.fix if one.asked or "(" in one.fix else ""
                yield _line(one, wide, those[one.name], one.found if broken else "", fix if one.state != "ok" else "")


def _first_extra(checks: Sequence[Check]) -> str:
    return next((one.name for one in checks if one.group == "extras"), "")


def _line(one: Check, wide: int, *told: str) -> str:
    state = "optional" if one.state == "missing" and not one.asked else one.state
    return f"  {state:<11} {one.name:<{wide}}  {'; '.join(filter(None, told))}".rstrip()


def examine(
    *,
    extras: Collection[str] = (),
    device: str | None = None,
    storage: str | None = None,
    mlflow: str | None = None,
) -> Examined:
    """Look at this installation.

    Args:
        extras: names of extras that must be there.
        device: a torch device that must be there.
        storage: of studies, that must be reachable.
        mlflow: a tracking URI or a .db file that must be reachable; by default ``MLFLOW_TRACKING_URI``, if that is set.

    Raises:
        SearchError: there is no such extra.
    """
    known = _extras()
    for name in extras:
        if name not in known:
            raise SearchError(f"there is no extra {name!r}{near(name, known)}; there are {', '.join(known)}")
    return Examined(
        [
            *_packages(),
            *(_extra(name, known, name in extras) for name in known if known[name]),
            *_devices(device),
            *_meters(),
            _browser(),
            *_places(storage, mlflow or os.environ.get("MLFLOW_TRACKING_URI") or None),
        ]
    )


# ---- packages --------------------------------------------------------------------------------------------------------


def _requirements() -> tuple[list[Requirement], dict[str, list[Requirement]]]:
    """What nas_bo requires, and what each of its extras does."""
    from packaging.requirements import Requirement

    root = clone()
    if root is not None and root == HERE:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        extras = {name: [Requirement(one) for one in all_] for name, all_ in project["optional-dependencies"].items()}
        return [Requirement(one) for one in project["dependencies"]], extras
    try:
        about = metadata.metadata("nas_bo")
    except metadata.PackageNotFoundError:  # a folder on the path
        return [], {}
    found: dict[str, list[Requirement]] = {name: [] for name in about.get_all("Provides-Extra") or ()}
    always = []
    for one in map(Requirement, metadata.requires("nas_bo") or ()):
        names = [name for name in found if one.marker is not None and one.marker.evaluate({"extra": name})]
        if one.marker is None or one.marker.evaluate({"extra": ""}):
            always.append(one)
        else:
            for name in names:
                found[name].append(one)
    return always, found


def _extras() -> dict[str, list[Requirement]]:
    """Extra -> what it requires, extras in it resolved; those for developers last."""
    _, found = _requirements()

    def flat(name: str, seen: tuple[str, ...] = ()) -> Iterator[Requirement]:
        for one in found.get(name, ()):
            if one.name.replace("-", "_") == "nas_bo":
                for inner in sorted(one.extras):
                    if inner not in seen:
                        yield from flat(inner, (*seen, name))
            else:
                yield one

    return {name: list(flat(name)) for name in sorted(found, key=lambda name: (name in DEVELOPERS, name))}


def extras_there() -> list[str]:
    """The names of the extras that install something."""
    return [name for name, needed in _extras().items() if needed]


def _lacking(one: Requirement) -> str:
    """What is wrong with a required package; "" where it is there."""
    try:
        version = metadata.version(one.name)
    except metadata.PackageNotFoundError:
        return one.name
    fits = one.specifier.contains(version, prereleases=True)
    return "" if fits else f"{one.name} {version}, where {one.specifier} is needed"


def _packages() -> Iterator[Check]:
    version = platform.python_version()
    fits = PYTHON[0] <= sys.version_info[:2] < PYTHON[1]
    bounds = f"Python {PYTHON[0][0]}.{PYTHON[0][1]} to {PYTHON[1][0]}.{PYTHON[1][1] - 1} is needed"
    found = f"{version} on {platform.system()} {platform.machine()}"
    yield Check("packages", "Python", "ok" if fits else "broken", found, "" if fits else bounds, True)
    yield Check("packages", "nas_bo", "ok", f"{nas_bo.__version__} in {Path(nas_bo.__file__).parent}", "", True)
    always, _ = _requirements()
    shown = ("torch", "optuna", "mlflow")
    for one in sorted(always, key=lambda one: (one.name not in shown, one.name)):
        lacking = _lacking(one)
        if not lacking and one.name in shown:
            yield Check("packages", one.name, "ok", metadata.version(one.name), "", True)
        elif lacking:
            state: State = "missing" if lacking == one.name else "broken"
            yield Check("packages", one.name, state, lacking, f"pip install '{one.name}{one.specifier}'", True)
    with suppress(metadata.PackageNotFoundError):  # what is not there is among the extras
        yield Check("packages", "ax", "ok", metadata.version("ax-platform"))


def _extra(name: str, known: dict[str, list[Requirement]], asked: bool) -> Check:
    lacking = list(dict.fromkeys(text for text in map(_lacking, known[name]) if text))
    if not lacking:
        return Check("extras", name, "ok", "", "", asked)
    fix = install_line(name)
    if name == "energy" and not _lacking(known["ray"][0]):
        fix += " (not next to Ray on a machine without ROCm: the amdsmi that it brings then fails when Ray starts)"
    return Check("extras", name, "missing", f"no {', '.join(lacking)}", fix, asked)


# ---- this machine ----------------------------------------------------------------------------------------------------


def _devices(asked: str | None) -> Iterator[Check]:
    try:
        import torch
    except Exception as error:  # a build for another machine, or half of one
        yield Check(
            "devices", "torch", "broken", f"{type(error).__name__}: {error!s:.160}", "install torch again", True
        )
        return
    from nas_bo.model.device import device_name, pick_device

    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    memory = psutil.virtual_memory().total / 1e9
    yield Check("devices", "cpu", "ok", f"{device_name('cpu')}, {counted(cores, 'core')}, {memory:.0f} GB", "", True)
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(index)
            yield Check("devices", f"cuda:{index}", "ok", f"{about.name}, {about.total_memory / 1e9:.0f} GB")
    else:
        why = "this build of torch has no CUDA" if torch.version.cuda is None else "torch finds no GPU"
        yield Check("devices", "cuda", "unavailable", why)
    if asked is not None:
        try:
            pick_device(asked)
            yield Check("devices", f"--device {asked}", "ok", "", "", True)
        except NasBoError as error:
            yield Check("devices", f"--device {asked}", "broken", str(error), "", True)


def _meters() -> Iterator[Check]:
    from nas_bo.hardware.measuring import meters

    for name, meter in (("RAPL (CPU)", meters.RaplMeter), ("NVML (GPU)", meters.NvmlMeter)):
        try:
            yield Check("energy", name, "ok", meter().name)
        except MissingExtra:
            yield Check("energy", name, "missing", "", install_line("energy"))
        except NasBoError as error:
            yield Check("energy", name, "unavailable", str(error).partition("; ")[0])
        except Exception as error:  # a driver that is half there
            yield Check("energy", name, "broken", f"{type(error).__name__}: {error!s:.160}")


def _browser() -> Check:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found:
        return Check("browser", "Chromium", "ok", found)
    return Check(
        "browser", "Chromium", "missing", "any browser shows the pages, only tests need it",
        "apt-get install chromium chromium-driver (Debian)",
    )  # fmt: skip


# ---- places ----------------------------------------------------------------------------------------------------------


def _places(storage: str | None, mlflow: str | None) -> Iterator[Check]:
    yield _cache()
    if storage is not None:
        yield _storage(storage)
    if mlflow is not None:
        yield _tracker(mlflow)


def _cache() -> Check:
    folder, named = cache_folder(), bool(os.environ.get("NAS_BO_CACHE"))
    there = next((one for one in (folder, *folder.parents) if one.exists()), folder)
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        fix = "set NAS_BO_CACHE to a folder that you may write to"
        return Check("places", "cache folder", "broken", f"{folder} ({error.strerror})", fix, named)
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    size = sum(path.stat().st_size for path in files) / 1e6
    return Check("places", "cache folder", "ok", f"{folder}, {size:.1f} MB in {counted(len(files), 'file')}", "", named)


def _storage(storage: str) -> Check:
    from nas_bo.optuna import studies

    shown = f"storage {database_url.shown(storage)}"
    try:
        names = studies.names(storage)
    except NasBoError as error:
        file = database_url.file_of(storage)
        if file is not None and not file.exists():
            fix = "give another path, or begin a search, which makes it"
            return Check("places", shown, "missing", "there is no such file", fix, True)
        return Check("places", shown, "broken", str(error), "", True)
    return Check("places", shown, "ok", counted(len(names), "study", "studies"), "", True)


def _tracker(word: str) -> Check:
    from nas_bo.mlflow import tracking_uri

    shown = f"MLflow {tracking_uri.redact(word)}"
    try:
        uri = tracking_uri.resolve(word)
        tracking_uri.there(uri)
        tracking_uri.check(uri, TIMEOUT_S)
    except NasBoError as error:
        return Check("places", shown, "broken", str(error), "", True)
    return Check("places", shown, "ok", "it answers and can be written", "", True)
