import os
import shutil
import tempfile

import pytest
from hypothesis import HealthCheck, settings

# Models here are tiny: a second torch thread only waits for the first, and stalls for minutes on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Databases of tests wait for the disk at every commit, and nobody needs them when the machine fails: in memory where there
# is room for them. `TMPDIR` says another place, and is kept.
MEMORY, ROOM_BYTES = "/dev/shm", 4e9
if "TMPDIR" not in os.environ and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM_BYTES:
    os.environ["TMPDIR"], tempfile.tempdir = MEMORY, None

# What is kept of this machine between runs belongs to the user, not to tests; processes that tests start share the folder.
os.environ.setdefault("NAS_BO_CACHE", tempfile.mkdtemp(prefix="nas-bo-tests-"))

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
