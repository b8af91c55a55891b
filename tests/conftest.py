import os
import resource
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import fork_server

# Models here are tiny: a second torch thread only waits for the first, and stalls for minutes on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Databases of tests wait for the disk at every commit, and nobody needs them when the machine fails: in memory where there
# is room for them. `TMPDIR` says another place, and is kept.
MEMORY, ROOM_BYTES = "/dev/shm", 4e9
if "TMPDIR" not in os.environ and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM_BYTES:
    os.environ["TMPDIR"], tempfile.tempdir = MEMORY, None

# What is kept of this machine between runs belongs to the user, not to tests; processes that tests start share the folder.
os.environ.setdefault("NAS_BO_CACHE", tempfile.mkdtemp(prefix="nas-bo-tests-"))

# Programs and workers that tests start are forked from one process that has the large libraries loaded.
os.environ.setdefault(fork_server.PLACE, f"{tempfile.mkdtemp(prefix='nas-bo-fork-')}/server.{os.getpid()}")
if os.environ[fork_server.PLACE]:
    os.environ[fork_server.RUN] = f"{os.environ[fork_server.PLACE]}.{os.getpid()}.cpu"  # their processor time
    fork_server.quick_spawn()

# Timing of a single example says nothing on a shared machine; random spaces are slow to write by nature.
settings.register_profile("ci", deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
settings.load_profile("ci")

pytest.register_assert_rewrite("optuna.testing.pytest_samplers")

# Pure functions, spaces, strategies and reports: what a change of a few lines is checked with (`pytest -m quick`).
QUICK = ("space", "report", "surrogate")

# Whole searches and commands take minutes a file: they begin first, so that no process works on one alone at the end.
LONG_FIRST = ("", "doors", "docs", "strategies", "objectives", "model")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def room(item: pytest.Item) -> str:
        parts = item.path.relative_to(item.config.rootpath / "tests").parts
        return parts[0] if len(parts) > 1 else ""

    for item in items:
        if room(item) in QUICK:
            item.add_marker("quick")
    rank = {name: place for place, name in enumerate(LONG_FIRST)}
    items.sort(key=lambda item: rank.get(room(item), len(rank)))  # stable: files stay whole


# ---- processor time per folder --------------------------------------------------------------------------------------


def cpu_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    used = sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, kinds))
    forked = Path(os.environ.get(fork_server.RUN, "/nowhere"))
    return used + (sum(map(float, forked.read_text().split())) if forked.exists() else 0.0)


def pytest_collection_finish(session: pytest.Session) -> None:
    if "alembic" in sys.modules:
        fork_server.remember_migrations()
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
    """A line per folder, and with `--durations=N` for the N files that take longest."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0])
    for report in (r for reports in terminalreporter.stats.values() for r in reports if hasattr(r, "cpu_seconds")):
        sums["(imports and collection)"][0] += report.before
        name = report.nodeid.partition("::")[0]
        for key in (os.path.dirname(name), name, "together"):
            row = sums[key]
            row[:] = row[0] + report.cpu_seconds, row[1] + report.duration, row[2] + (report.when == "call")
    folders = sorted(key for key in sums if not key.endswith(".py"))
    files = sorted((key for key in sums if key.endswith(".py")), key=lambda key: -sums[key][0])
    terminalreporter.section("processor seconds, seconds, tests")
    for key in [*folders, *files[: terminalreporter.config.getoption("durations") or 0]]:
        terminalreporter.line("{:9.1f} {:8.1f} {:6.0f}  {}".format(*sums[key], key))
