"""What the tests of exports share."""

from __future__ import annotations

import numpy as np
import pytest

from nas_bo.export.check import HeldOut


@pytest.fixture
def held_out() -> HeldOut:
    """Token ids of a vocabulary of bytes."""
    return HeldOut(np.random.default_rng(0).integers(32, 127, (4, 33)), 1.0, "a sample")
