"""Documents that were damaged or made up: each is read, or refused by an error of ours, and nothing else happens.

NAS_BO_FUZZ=100000 tries that many instead of a few hundred of each kind.
"""

from __future__ import annotations

import json
import os
import random

import numpy as np
import pytest

from nas_bo import Architecture, Space, choice, integer, option, real, repeat
from nas_bo.errors import DeviceError, NasBoError, ObjectiveError, ProfileError, SearchError, SpaceError
from nas_bo.hardware.devices.device import Device
from nas_bo.hardware.latency.profile import Profile
from nas_bo.objectives.predicted_card import Card
from nas_bo.report.trust import Proxy, TrustReport, trust
from nas_bo.search_spaces import NAMED
from tests.fuzz.mutations import damaged

COUNT = int(os.environ.get("NAS_BO_FUZZ", 300))


class Varied(Space):
    a = choice(1, 2)
    b = integer(1, 8, log=True)
    c = real(1e-4, 1.0, log=True)
    depth = integer(1, 4)
    layers = repeat(depth, m=choice(option("x", k=choice(1, 2)), option("y")))


SPACES = [space for space in (*NAMED.values(), Varied) if not any(rule.test for rule in space.rules())]


def _profile():
    h100 = Device.named("h100").to_dict()
    return {"profile": 1, "device": h100, "runtime": "eager", "space": {"title": "A", "mark": "0"}, "settings": [],
            "architectures": {"a": Varied.sample(0).to_dict()}, "measured": [], "tables": {}, "quality": []}  # fmt: skip


def _trust():
    rng = np.random.default_rng(0)
    size, truth = np.exp(rng.uniform(9, 13, 12)), rng.normal(0, 1, (12, 2))
    return json.loads(json.dumps(trust([Proxy("p", truth[:, 0], share=0.1)], truth, size).to_dict()))


def _card():
    numbers = dict.fromkeys(
        ("rmse", "rmse_of_mean", "rmse_of_size", "tau", "tau_of_size", "tau_size_removed", "coverage"), 0.5
    )
    words = dict.fromkeys(("target", "unit", "model", "made"), "a")
    return {
        **numbers,
        **words,
        "n": 3,
        "logarithm": True,
        "proxies": ["p"],
        "earlier": {},
        "columns": ["c"],
        "versions": {},
    }


KINDS = {
    "space": ([json.loads(s.to_json()) for s in SPACES], Space.from_dict, SpaceError),
    "architecture": (
        [s.sample(i).to_dict() for s in SPACES for i in range(3)],
        Architecture.from_dict,
        SpaceError,
    ),
    "device": ([Device.named(name).to_dict() for name in ("h100", "pi5", "m2-gpu")], Device.from_dict, DeviceError),
    "profile": ([_profile()], Profile.from_dict, ProfileError),
    "trust": ([_trust()], TrustReport.from_dict, SearchError),
    "card": ([_card()], Card.from_dict, ObjectiveError),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_document_is_read_or_refused(kind):
    documents, read, error = KINDS[kind]
    for document in documents:
        read(document)
    refused = 0
    for seed in range(COUNT):
        rng = random.Random(seed)
        made = damaged(rng.choice(documents), rng)
        try:
            read(made)
        except error as said:
            refused += 1
            assert str(said)
    assert refused > COUNT / 10


TEXTS = [
    "",
    "{",
    "[" * 100_000,
    '{"a":' * 100_000,
    "null",
    "3",
    '"x"',
    "[]",
    "\x00",
    "\ufeff{}",
    "NaN",
    '{"schema": 1}',
]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:12])
def test_a_text_that_is_no_document_is_refused(text, tmp_path):
    for read in (Architecture.from_json, Space.from_json):
        with pytest.raises(SpaceError):
            read(text)
    path = tmp_path / "it.json"
    path.write_text(text, encoding="utf-8")
    for read in (Device.load, Profile.load):
        with pytest.raises(NasBoError):
            read(path)


@pytest.mark.parametrize(
    "layers",
    [
        lambda: repeat(integer(1, 10**12), a=choice(1, 2)),
        lambda: repeat(10**9, a=choice(1, 2)),
        lambda: repeat(10**3, a=repeat(10**3, b=1)),
        lambda: repeat(choice(1, 10**7), a=choice(option("x", k=choice(1, 2)), "y")),
    ],
)
def test_a_space_too_large_to_be_made_is_refused_at_once(layers):
    with pytest.raises(SpaceError, match="100,000 is the most"):
        Space.of("Huge", layers=layers())


def test_a_space_just_small_enough_is_made():
    assert Space.of("Large", layers=repeat(integer(1, 3000), a=choice(1, 2))).sample(0).layers
