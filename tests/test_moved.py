"""Names of version 0.1: each still works, and says its new name and the version in which it ends."""

from __future__ import annotations

import importlib
import sys
import warnings

import pytest

from nas_bo import moved
from nas_bo.serialization import rebuild


@pytest.mark.parametrize("old", sorted(moved.MODULES))
def test_every_old_module_is_the_new_one(old):
    for name in [m for m in sys.modules if moved.current(m) != m]:
        del sys.modules[name]
    with pytest.warns(DeprecationWarning, match=f"nas_bo.{old} is nas_bo.{moved.MODULES[old]} since version 0.2.*0.3"):
        found = importlib.import_module(f"nas_bo.{old}")
    assert found is importlib.import_module(f"nas_bo.{moved.MODULES[old]}")


@pytest.mark.parametrize("old", sorted(moved.NAMES))
def test_every_old_name_is_the_new_one(old):
    package, _, name = old.rpartition(".")
    home, _, new = moved.NAMES[old].partition(":")
    with pytest.warns(DeprecationWarning, match=rf"nas_bo.{old} is nas_bo.{home}.{new or name} since"):
        found = getattr(importlib.import_module(f"nas_bo.{package}"), name)
    assert found is getattr(importlib.import_module(f"nas_bo.{home}"), new or name)


def test_what_is_not_there_is_not_there():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("nas_bo.command.nonsense")
    with pytest.raises(AttributeError, match="nonsense"):
        _ = importlib.import_module("nas_bo.strategies").nonsense


def test_what_was_stored_under_an_old_name_is_built_again_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = rebuild({"type": "nas_bo.objectives.low_fidelity:ValidationLoss", "fields": {"tokens": 1000}})
    assert type(found).__module__ == "nas_bo.objectives.validation_loss"


def test_old_words_in_a_users_module_are_reported_by_the_command(tmp_path, monkeypatch, caplog):
    from nas_bo.cli.resolve import imported, named_space
    from nas_bo.errors import SpaceError

    monkeypatch.setattr(sys, "path", [*sys.path])
    sys.modules.pop("nas_bo.hardware.device", None)
    body = "from nas_bo.model import attention, dense\nfrom nas_bo.space import Space, choice, repeat\n\n\nclass S(Space):\n    width = choice(16, 32)\n    layers = repeat(2, mixer=attention(heads=2), mlp=dense(ratio=1))\n"
    (tmp_path / "old_space.py").write_text("from nas_bo.hardware.device import Device\n" + body)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert named_space(f"{tmp_path}/old_space.py:S").sample(0).width in (16, 32)
    assert "old_space.py:S: nas_bo.hardware.device is nas_bo.hardware.devices.device since version 0.2" in caplog.text
    (tmp_path / "gone_space.py").write_text("from nas_bo.objectives import Latencey\n")
    with pytest.raises(SpaceError, match=r"cannot import name 'Latencey'.*did you mean 'Latency'"):
        imported(f"{tmp_path}/gone_space.py:S", SpaceError)
    with pytest.raises(SpaceError, match=r"has no 'Small' .did you mean 'Small_'"):
        (tmp_path / "other_space.py").write_text("Small_ = 1\n")
        imported(f"{tmp_path}/other_space.py:Small", SpaceError)


def test_an_option_names_a_message_only_where_its_value_is_quoted_there():
    from nas_bo.cli.typed_options import by_option, remembered

    with remembered(
        {"trials": ("--trials", 2), "objective": ("--objective", ["parameters"]), "space": ("--space", "s.py:S")}
    ):
        for same in ("the block returned (2, 16, 4)", "the block L has no parameters()", "the study has 2 values"):
            assert by_option(same) == same
        assert by_option("there is no objective 'parameters'").startswith("--objective parameters: ")
        assert by_option("search(trials=2): no").startswith("--trials 2: ")
        assert by_option("cannot read s.py:S here").startswith("--space s.py:S: ")
