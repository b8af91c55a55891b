"""Objectives as JSON and back: equal, without pickle, and refused where that cannot be."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import pytest

from nas_bo.errors import NasBoError, SearchError
from nas_bo.objectives import Flops, KVCacheBytes, Latency, Parameters, ValidationLoss, Weighted
from nas_bo.problem import as_objective
from nas_bo.serialization import describe, rebuild, unknown
from tests.problems import loss

OBJECTIVES = [
    ValidationLoss(tokens=5_000, seed=3, at_most=4.5),
    ValidationLoss.quick(tokens=200_000, cost=0.1),
    Latency("decode", at_most=25, precision=0.1),
    Parameters(at_most=1e6),
    Flops(),
    KVCacheBytes(),
    Weighted([(1.0, ValidationLoss(tokens=5_000)), (0.1, Latency())]),
]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: o.name)
def test_what_was_described_is_built_again(objective):
    text = json.dumps(describe(objective))
    assert rebuild(json.loads(text)) == objective and unknown(json.loads(text)) == []


def test_plain_data_survives():
    for value in (None, True, 3, 2.5, "x", [1, (2, "y")], {"a": (1.5, None), 3: []}, math.inf):
        assert rebuild(json.loads(json.dumps(describe(value)))) == value


def test_an_own_function_needs_leave_to_be_imported():
    data = json.loads(json.dumps(describe(as_objective(loss))))
    with pytest.raises(SearchError, match=r"--allow tests"):
        rebuild(data)
    assert rebuild(data, ["tests"]).function is loss


@pytest.mark.parametrize("name", ["nas_bo.provenance:os.system", "nas_bo.provenance:subprocess.run"])
def test_what_nas_bo_imports_is_not_within_reach(name):
    with pytest.raises(SearchError, match="not part of nas_bo"):
        rebuild({"name": name})
    with pytest.raises(SearchError, match="neither a function nor a class"):
        rebuild({"name": "nas_bo.provenance:os"})


@dataclass
class Here:
    x: int = 1


def test_what_cannot_be_imported_is_named():
    @dataclass
    class Inside:
        x: int = 1

    assert "Inside is defined in a function" in unknown(describe(Inside()))[0]
    assert (
        unknown(describe([Here(), lambda: 1, object()])) and len(unknown(describe([Here(), lambda: 1, object()]))) == 2
    )
    with pytest.raises(SearchError, match="cannot be built again"):
        rebuild(describe(Inside()))


def test_what_changed_since_is_said():
    data = describe(Parameters())
    data["fields"]["gone"] = 1
    with pytest.raises(SearchError, match="has no field 'gone'"):
        rebuild(data)
    with pytest.raises(SearchError, match="cannot be imported"):
        rebuild({"type": "nas_bo.objectives:Nothing", "fields": {}})
    with pytest.raises(SearchError, match="is not a dataclass"):
        rebuild({"type": "nas_bo.space:Space", "fields": {}})
    with pytest.raises(SearchError, match="not a description"):
        rebuild({"os": "system"})
    with pytest.raises(SearchError, match="not part of nas_bo"):
        rebuild({"name": "os:system"})


def test_a_name_too_long_for_a_file_is_an_error_of_ours():
    described = describe(Latency(target="pi5"))
    described["fields"]["target"] = "a" * 5_000
    with pytest.raises(NasBoError):
        rebuild(described)
