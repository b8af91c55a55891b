import os
import tempfile

import pytest
from hypothesis import HealthCheck, settings

# Models here are tiny: a second torch thread only waits for the first, and stalls for minutes on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What is kept of this machine between runs belongs to the user, not to tests; processes that tests start share the folder.
os.environ.setdefault("NAS_BO_CACHE", tempfile.mkdtemp(prefix="nas-bo-tests-"))

# Timing of a single example says nothing on a shared machine; random spaces are slow to write by nature.
settings.register_profile("ci", deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
settings.load_profile("ci")

pytest.register_assert_rewrite("optuna.testing.pytest_samplers")
