"""One small trained model for all tests of this folder."""

import pytest

from nas_bo.pretrained import CalibrationText, Pretrained
from tests.pretrained.models import trained


@pytest.fixture(scope="session")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "t.txt"
    path.write_text("".join(f"def f{i}(x):\n    return x + {i * 7 % 13}\n" for i in range(3000)))
    return str(path)


@pytest.fixture(scope="session")
def small(tmp_path_factory, text):
    """Two layers of attention and MLP, trained on `text`."""
    return Pretrained(str(trained(tmp_path_factory.mktemp("m") / "small", text)))


@pytest.fixture(scope="session")
def loss(small, text):
    few = CalibrationText(batches=1, sequences=32, sequence=32)
    return small.loss(data=text, calibration=few, held_out_tokens=512, sequence=32, device="cpu")
