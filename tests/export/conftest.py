"""What the tests of exports share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from nas_bo.export import onnx
from nas_bo.export.check import HeldOut
from nas_bo.export.folder import TrainedModel

TRANSLATED: dict[str, dict[str, bytes]] = {}


@pytest.fixture
def held_out() -> HeldOut:
    """Token ids of a vocabulary of bytes."""
    return HeldOut(np.random.default_rng(0).integers(32, 127, (4, 33)), 1.0, "a sample")


@pytest.fixture(scope="module", autouse=True)
def translated_once() -> Iterator[None]:
    """What torch makes of one model as ONNX is made once, not for each export of it."""
    make = onnx.translated

    def files_of(trained: TrainedModel) -> dict[str, bytes]:
        weights = {name: weight.sum().item() for name, weight in trained.model.state_dict().items()}
        key = repr((trained.architecture, weights))
        if key not in TRANSLATED:
            TRANSLATED[key] = make(trained)
        return dict(TRANSLATED[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx, "translated", files_of)
        yield
