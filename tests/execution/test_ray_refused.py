"""What is said where there is no Ray; none is started here."""

from __future__ import annotations

import os
import socket

from tests.processes import python

CODE = """
import sys
{before}
from nas_bo import search
from nas_bo.errors import NasBoError
from nas_bo.execution import Ray
from tests.problems import Toy, loss
try:
    search(Toy, [loss], executor=Ray({arguments}), trials=1)
except NasBoError as error:
    print(type(error).__name__, error)
"""


def said(arguments: str = "", before: str = "") -> str:
    """In a process of its own, which has not joined a cluster; in a new interpreter where it begins by hiding a package."""
    code = CODE.format(arguments=arguments, before=before)
    new = {"PYTHONHASHSEED": "0"} if before else {}
    ran = python("-c", code, env={**os.environ, "PYTHONPATH": os.getcwd(), **new})
    assert ran.stdout.count("\n") == 1, ran.stdout + ran.stderr
    return ran.stdout


def test_it_is_not_installed():
    hidden = "import importlib.util as u; find = u.find_spec; u.find_spec = lambda name, *a: None if name == 'ray' else find(name, *a)"
    text = said(before=hidden)
    assert text.startswith("MissingExtra") and "pip install " in text and "[ray]'" in text


def test_nobody_answers_at_the_address():
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{some.getsockname()[1]}"
        text = said(f"{address!r}")
    assert text.startswith("SearchError") and address in text and "nobody answers" in text
