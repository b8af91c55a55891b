"""What the tests of exports share."""

from __future__ import annotations

import numpy as np
import pytest

from nas_bo.export.check import HeldOut


@pytest.fixture
def held_out() -> HeldOut:
    """Token ids of a vocabulary of bytes."""
    return HeldOut(np.random.default_rng(0).integers(32, 127, (4, 33)), 1.0, "a sample")


@pytest.fixture(scope="session")
def translated():
    """What torch makes of one model as ONNX, made once for all that export it."""
    from nas_bo.export import onnx

    make, made = onnx.translated, {}

    def files_of(trained):
        weights = {name: weight.sum().item() for name, weight in trained.model.state_dict().items()}
        key = repr((trained.architecture.id, weights))
        if key not in made:
            made[key] = make(trained)
        return dict(made[key])

    return files_of
