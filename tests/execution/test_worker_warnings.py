"""Warnings of workers are warned of where the search runs; those of another machine say which it is."""

from __future__ import annotations

import logging
import pickle
import platform
import warnings

import pytest

from nas_bo.execution.worker_warnings import Ear, hearing, repeat, sendable


def test_a_warning_of_another_machine_names_it(monkeypatch, caplog) -> None:
    class Own(UserWarning):
        """One that no other process can import."""

    def heard() -> bytes:
        with warnings.catch_warnings(), hearing(ear := Ear()):
            warnings.simplefilter("always")
            logging.getLogger("nas_bo.hardware").warning("this machine now takes 1.8 times as long")
            warnings.warn("old data", Own, stacklevel=1)
        return pickle.dumps(sendable(ear.heard))

    here = heard()
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(platform, "node", lambda: "pi5")
        there = heard()
    for sent, before in ((here, ""), (there, "on pi5: ")):
        caplog.clear()
        with pytest.warns(UserWarning) as python:
            repeat(pickle.loads(sent))
        assert caplog.messages == [f"{before}this machine now takes 1.8 times as long"]
        assert [str(one.message) for one in python] == [f"{before}old data"]
