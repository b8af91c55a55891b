import gc
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.testing
from _pytest.assertion import rewrite
from hypothesis import HealthCheck, settings

from tests import fork_server, nightly
from tests.processes import for_a_shell

# What a shell starts in the background ignores Ctrl-C, and tests that interrupt a search would wait for its end in vain.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Models here are tiny: a second torch thread only waits for the first, and stalls for minutes on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Databases of tests wait for the disk at every commit, and nobody needs them when the machine fails: in memory where there
# is room for them. `TMPDIR` says another place, and is kept.
MEMORY, ROOM_BYTES = "/dev/shm", 4e9
if "TMPDIR" not in os.environ and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM_BYTES:
    os.environ["TMPDIR"], tempfile.tempdir = MEMORY, None

# What is kept of this machine between runs belongs to the user, not to tests; processes that tests start share the folder.
os.environ.setdefault("NAS_BO_CACHE", tempfile.mkdtemp(prefix="nas-bo-tests-"))

# No test asks a hub, and code of exported models is not left in the user's folder. Said here since libraries read it once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_MODULES_CACHE", f"{os.environ['NAS_BO_CACHE']}/modules")

# Programs and workers that tests start are forked from one process that has the large libraries loaded.
os.environ.setdefault(fork_server.PLACE, f"{tempfile.mkdtemp(prefix='nas-bo-fork-')}/server.{os.getpid()}")
if os.environ[fork_server.PLACE]:
    os.environ[fork_server.RUN] = f"{os.environ[fork_server.PLACE]}.{os.getpid()}.cpu"  # their processor time
    fork_server.quick_spawn()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: Sequence[Any]) -> None:
    """The processes of this run come from there too, and need not load the libraries each."""
    if os.environ[fork_server.PLACE]:
        fork_server.start(os.environ[fork_server.PLACE])
        for spec in specs:
            spec.python = for_a_shell()
    rewrite_assertions(config)


def rewrite_assertions(config: pytest.Config) -> None:
    """Once, while that process loads the libraries, for files that are new: each process of the run would do it again."""
    state = config.stash[rewrite.assertstate_key]
    for argument in [] if sys.dont_write_bytecode else config.args:
        path = config.rootpath / argument.partition("::")[0]
        for file in [path] if path.is_file() else path.rglob("test_*.py"):
            compiled = rewrite.get_cache_dir(file) / f"{file.stem}{rewrite.PYC_TAIL}"
            if pytest_ignore_collect(file, config) or rewrite._read_pyc(file, compiled) is not None:
                continue
            if rewrite.try_makedirs(compiled.parent):
                stat, code = rewrite._rewrite_test(file, config)
                rewrite._write_pyc(state, code, stat, compiled)


fork_server.collect_seldom()

# The options of all commands are read out of their functions once, not for each command that a test runs in this process.
typer.testing._get_command = cache(typer.testing._get_command)

# Timing of a single example says nothing on a shared machine; random spaces are slow to write by nature.
settings.register_profile("ci", deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
settings.load_profile("ci")

pytest.register_assert_rewrite("optuna.testing.pytest_samplers")

# What a change of a few lines is checked with (`pytest -m quick`): folders and files that need neither training nor a database
# server nor a browser. A test keeps that no room is forgotten.
QUICK = (
    "space", "surrogate", "stopping", "execution", "fuzz",
    "test_pareto.py", "test_trial.py", "test_validated.py", "test_serialization.py", "test_objective.py", "test_imports.py",
    "test_lazy.py", "test_moved.py", "test_english.py", "conformance/test_one_file.py", "conformance/test_spaces.py",
    "model/test_counts.py", "model/test_training_settings.py", "supernet/test_weights.py", "compress/test_sparsity.py", "pretrained/test_parts.py",
    "hardware/test_device.py", "hardware/test_workload.py", "hardware/test_latency_models.py",
    "hardware/test_roofline_bound.py", "objectives/test_own_limits.py",
    "strategies/test_variation.py", "strategies/test_fidelity.py", "report/test_table.py", "report/test_ranks.py",
    "report/test_labels.py", "doors/test_optuna_fixed.py",
    "doors/test_study_record.py", "doors/test_ax_parts.py", "doors/test_mlflow_content.py", "workflows/test_pick.py",
    "workflows/test_retraining_check.py", "cli/test_help.py", "cli/test_progress_display.py", "compatibility", "docs/test_architecture.py",
    "export/test_own_parts.py", "foreign/test_weights.py",
)  # fmt: skip

# Files that take minutes begin first, then the folders in which commands and searches run: so no process works on one file
# alone at the end.
LONGEST = (
    "docs/test_pages.py", "export/test_onnx.py", "workflows/test_search.py", "cli/test_command.py", "conformance/test_blocks.py",
    "strategies/test_strategies.py", "docs/test_tutorials.py", "conformance/test_own_blocks.py", "hardware/test_runtimes.py",
    "workflows/test_validate.py", "doors/test_mlflow_rerun.py", "export/test_export.py", "export/test_huggingface.py",
    "doors/test_optuna_dashboard.py", "strategies/test_progress.py", "doors/test_ax_client.py", "test_readme.py",
)  # fmt: skip
LONG_FIRST = (
    "workflows", "doors", "docs", "cli", "", "conformance", "strategies", "model", "export", "pretrained", "objectives",
)  # fmt: skip


# Files that one process runs, since it makes once what all of them need: syntax trees; what torch loads for its first graph.
TOGETHER = {
    f"tests/{file}": name
    for name, files in {
        "laws": ("test_types.py", "test_imports.py", "test_wording.py", "conformance/test_one_file.py"),
        "graphs": ("export/test_onnx.py", "export/test_openvino.py", "export/test_export.py"),
    }.items()
    for file in files
}


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return TOGETHER.get(file, file)

    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """`-m quick` does not even import other files."""
    tests = config.rootpath / "tests"
    asked = config.getoption("markexpr") == "quick" and collection_path.suffix == ".py"
    left_out = asked and collection_path.is_relative_to(tests) and not is_quick(collection_path.relative_to(tests))
    return True if left_out else None


def is_quick(path: Path) -> bool:
    return path.parts[0] in QUICK or str(path) in QUICK


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: place for place, name in enumerate([*LONGEST, *LONG_FIRST])}

    def place(item: pytest.Item) -> int:
        path = item.path.relative_to(item.config.rootpath / "tests")
        return rank.get(str(path), rank.get(path.parts[0] if len(path.parts) > 1 else "", len(rank)))

    nightly.mark(items)
    for item in items:
        if is_quick(item.path.relative_to(item.config.rootpath / "tests")) and item.get_closest_marker("slow") is None:
            item.add_marker("quick")
    items.sort(key=place)  # stable: files stay whole


@pytest.fixture(autouse=True)
def nobody_writes_after_a_test() -> Iterator[None]:
    """The threads of trackers, which wait for more trials for half a minute, and for a dead server without end."""
    if "nas_bo.mlflow.tracker" in sys.modules:
        from nas_bo.mlflow.tracker import Tracker

        Tracker.flush.__defaults__ = (600.0,)  # not a minute: a busy machine may need several
    yield
    if "nas_bo.mlflow.writer" not in sys.modules:
        return
    from nas_bo.mlflow import writer

    idle, writer.IDLE = writer.IDLE, -1.0
    try:
        for thread in threading.enumerate():
            if thread.name == "nas_bo.mlflow":
                own = getattr(getattr(thread, "_target", None), "__self__", None)
                if isinstance(own, writer.Writer):
                    with own._state:
                        own._queue.clear()
                        own.open.clear()
                        own._state.notify_all()
                thread.join(600)
                assert not thread.is_alive(), "a tracker of this test still writes to MLflow"
    finally:
        writer.IDLE = idle


@pytest.fixture(autouse=True, scope="module")
def figures_and_pictures_are_made_where_they_are_looked_at(request: pytest.FixtureRequest) -> Iterator[None]:
    """In the tests of the hardware and of the report. Elsewhere latencies are measured briefly, and pictures are a few of the
    files that a study leaves."""
    ends = []
    if request.path.parent.name in ("doors", "workflows", "cli", "objectives"):
        ends += [fork_server.do_not_render()] if "matplotlib" in sys.modules else []
        ends += [fork_server.measure_briefly()] if "torch" in sys.modules else []
    yield
    for end in ends:
        end()


# ---- processor time per folder --------------------------------------------------------------------------------------


def cpu_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    used = sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, kinds))
    with suppress(OSError), open(os.environ.get(fork_server.RUN, "/nowhere")) as forked:
        forked.seek(FORKED[0])  # only what is new: this is asked three times a test
        FORKED[1] += sum(map(float, forked.read().split()))
        FORKED[0] = forked.tell()
    return used + FORKED[1]


FORKED = [0, 0.0]  # bytes of the file that were read, and their sum


def pytest_collection_finish(session: pytest.Session) -> None:
    if "optuna" in sys.modules:
        fork_server.remember_migrations()
    gc.collect()
    gc.freeze()  # libraries and tests are there to the end: no collection looks through them again
    session.config.stash[BEFORE] = session.config.stash[SPENT] = cpu_seconds()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    now, stash = cpu_seconds(), item.config.stash
    report.cpu_seconds, stash[SPENT] = now - stash[SPENT], now
    report.before, stash[BEFORE] = stash[BEFORE], 0.0
    return report


SPENT, BEFORE = pytest.StashKey[float](), pytest.StashKey[float]()  # until the last test, and until the first


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A line per folder, and with `--durations=N` for the N files and the N tests that take longest."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0])
    for report in (r for reports in terminalreporter.stats.values() for r in reports if hasattr(r, "cpu_seconds")):
        sums["(imports and collection)"][0] += report.before
        name = report.nodeid.partition("::")[0]
        for key in (os.path.dirname(name), name, report.nodeid, "together"):
            row = sums[key]
            row[:] = row[0] + report.cpu_seconds, row[1] + report.duration, row[2] + (report.when == "call")
    longest, most = sorted(sums, key=lambda key: -sums[key][0]), terminalreporter.config.getoption("durations") or 0
    tests, files = [key for key in longest if "::" in key], [key for key in longest if key.endswith(".py")]
    folders = sorted(set(sums) - {*tests, *files})
    terminalreporter.section("processor seconds, seconds, tests")
    for key in [*folders, *files[:most], *tests[:most]]:
        terminalreporter.line("{:9.1f} {:8.1f} {:6.0f}  {}".format(*sums[key], key))
