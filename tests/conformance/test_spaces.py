"""The shipped suite on every named space, and on one that is not of our decoder."""

from __future__ import annotations

from nas_bo.search_spaces import NAMED
from nas_bo.testing import SpaceTests
from nas_bo.testing.histories import Ruled

for key, space in NAMED.items():
    name = f"Test_{key}"
    globals()[name] = type(name, (SpaceTests,), {"space": space, "__module__": __name__})


class TestRuled(SpaceTests):
    space = Ruled
    decoder = False
