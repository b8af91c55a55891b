"""Spaces in which some decisions are settled."""

from __future__ import annotations

import sys
import threading
import time

import pytest

from nas_bo.space import Space, choice, integer, repeat
from nas_bo.space import steer as module
from nas_bo.space.steer import KEPT, steered


class Deep(Space):
    depth = integer(1, 4)
    width = choice(8, 16, 24)
    layers = repeat(depth, heads=choice(1, 2, 4))


def test_what_is_settled_holds_wherever_the_decision_exists() -> None:
    space = steered(Deep, {"depth": (2, 4), "layers.1.heads": (4,)})
    found = [space.sample(seed) for seed in range(40)]
    assert {arch.depth for arch in found} == {2, 4}
    assert {arch.layers[1].heads for arch in found} == {4}
    assert {arch.width for arch in found} == {8, 16, 24}
    assert all(Deep.contains(arch) for arch in found)
    assert steered(Deep, {}) is Deep


def test_threads_get_the_same_space(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strategies remember by space: two for the same decisions would be learned about twice."""
    build = module._build

    def slowly(space, allowed):
        time.sleep(0.01)
        return build(space, allowed)

    monkeypatch.setattr(module, "_build", slowly)
    barrier, found = threading.Barrier(8), []

    def ask() -> None:
        barrier.wait()
        found.append(steered(Deep, {"depth": (3,), "width": (16,)}))

    workers = [threading.Thread(target=ask) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 8 and len(set(found)) == 1


def test_threads_that_push_each_others_spaces_out() -> None:
    class Wide(Space):
        number = integer(0, 20 * KEPT)

    errors: list[BaseException] = []

    def ask(start: int) -> None:
        try:
            for i in range(2 * KEPT):
                (value,) = steered(Wide, {"number": (start + i,)})._settled["number"]
                assert value == start + i
        except BaseException as error:
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        workers = [threading.Thread(target=ask, args=(3 * KEPT * k,)) for k in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        sys.setswitchinterval(interval)
    assert not errors
    assert len(module._made) <= KEPT
