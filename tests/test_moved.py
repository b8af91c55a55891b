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
