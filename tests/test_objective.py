"""What an objective may offer: each contract is recognised in a user's own object, in a function, and through what wraps either."""

from __future__ import annotations

import pickle

import pytest

from nas_bo.objective import OFFERS, Function, Objective, as_objective, info_of, spec_of, with_parts
from nas_bo.objectives import Parameters, ValidationLoss, Weighted
from nas_bo.problem import Problem
from nas_bo.space.extend import Projected
from tests.problems import Few

pytestmark = pytest.mark.quick


class Everything:
    """An objective with all that one may offer; `__getattr__` makes nothing."""

    name, unit, direction, cost = "all", "ms", "minimize", "measured"
    at_most, at_least, fidelity, checkpoints = 3.0, 1.0, 0.5, None
    parts = ()

    def __call__(self, arch):
        return 2.0

    predict = __call__

    def conditions(self):
        return {"x": 1}

    remarks = conditions

    def check_architecture(self, arch):
        return None

    check_space = check_architecture

    def larger(self, factor):
        return self

    def steer(self, arch, info):
        return 1.0

    def stages(self, arch):
        yield 0.5, 2.0

    def corpus(self):
        return None

    trained = check_architecture

    def chance(self):
        return 9.0

    def check_source(self):
        return None

    def ready(self, space, profile, say):
        return None

    def remeasure(self, archs, say):
        return []

    def terms(self, space):
        return {}


class Least:
    name, unit, direction, cost = "least", "", "minimize", "trained"
    predict = None  # says that there is none

    def __call__(self, arch):
        return 1.0


@pytest.mark.parametrize("name", OFFERS)
def test_each_contract_is_recognised_and_passed_on(name):
    contract = OFFERS[name]
    assert isinstance(Everything(), contract)
    assert not isinstance(Least(), contract)
    for wrapped in (Projected(Everything(), same), pickle.loads(pickle.dumps(Projected(Everything(), same)))):
        assert name in vars(wrapped) and isinstance(wrapped, contract)  # there, not made by __getattr__
    assert not isinstance(Projected(Least(), same), contract)
    function = as_objective(_with_attributes())
    assert isinstance(function, Function) and isinstance(function, contract)
    if name not in ("at_most", "at_least"):
        assert not isinstance(as_objective(plain), contract)


def same(arch):
    return arch


def plain(arch):
    return 1.0


def _with_attributes():
    def mine(arch):
        return 1.0

    for name in OFFERS:
        setattr(mine, name, getattr(Everything(), name))
    return mine


def marked(arch):
    return 1.0


marked.predict = lambda arch: 0.5
marked.cost = "measured"


def test_a_function_with_attributes_goes_to_other_processes():
    made = as_objective(marked)
    again = pickle.loads(pickle.dumps(made))  # though the lambda among its attributes cannot
    assert again == made and again.predict(None) == 0.5


def test_what_is_known_of_an_objective():
    total = Weighted([(1.0, Parameters(at_most=1e5)), (0.5, ValidationLoss(tokens=2000))])
    assert [o.name for o in with_parts([total])] == ["weighted", "parameters", "bits_per_byte"]
    assert spec_of(Parameters(at_most=3)).limits() == {"parameters<=3": (1.0, 3)}
    assert spec_of(Least()).limits() == {} and isinstance(Least(), Objective)
    assert info_of(1.0) == {}
    assert Problem(Few, [plain, marked]).every == Problem(Few, [plain, marked]).objectives
