"""One dialect of checks: beside fields and for arguments, with what, the value, the bound and what to do."""

from __future__ import annotations

import math
import pickle
from dataclasses import dataclass, field, replace

import pytest

from nas_bo.errors import ModelError, NasBoError, ObjectiveError
from nas_bo.objectives import Servable
from nas_bo.space import real
from nas_bo.validated import check_fields, check_values, checked, each, is_number, must, number, one_of, whole_number

pytestmark = pytest.mark.quick


@dataclass(frozen=True)
class Settings:
    name: str
    tokens: float = checked(200_000, number(above=0))
    batch: int | None = checked(None, whole_number(1).or_none())
    share: float = checked(1.0, number(above=0, at_most=1).advise("1 is the whole text"))
    phase: str = checked("prefill", one_of("prefill", "decode"))
    penalties: tuple[float, ...] = checked((1.0,), each(number(above=0)))
    dtype: str = field(default="float32", kw_only=True, metadata=must(one_of("a", "b", "c", "float32")))

    def __post_init__(self) -> None:
        check_fields(self, ObjectiveError)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tokens": 0}, "Settings(tokens=0): tokens must be a number above 0"),
        ({"tokens": math.inf}, "Settings(tokens=inf): tokens must be a number above 0"),
        ({"tokens": math.nan}, "Settings(tokens=nan): tokens must be a number above 0"),
        ({"tokens": True}, "Settings(tokens=True): tokens must be a number above 0"),
        ({"tokens": "5"}, "Settings(tokens='5'): tokens must be a number above 0"),
        ({"batch": 0}, "Settings(batch=0): batch must be an integer of at least 1, or None"),
        ({"batch": 2.0}, "Settings(batch=2.0): batch must be an integer of at least 1, or None"),
        ({"share": 1.5}, "Settings(share=1.5): share must be a number above 0 and at most 1; 1 is the whole text"),
        ({"phase": "train"}, "Settings(phase='train'): phase must be 'prefill' or 'decode'"),
        ({"phase": ["decode"]}, "Settings(phase=['decode']): phase must be 'prefill' or 'decode'"),
        ({"dtype": "d"}, "Settings(dtype='d'): dtype must be one of 'a', 'b', 'c', 'float32'"),
        ({"penalties": (1, 0)}, "at least 1 value, of which each is a number above 0"),
        ({"penalties": ()}, "at least 1 value"),
        ({"penalties": 3}, "at least 1 value"),
    ],
)
def test_a_field_that_is_not_what_it_must_be(given, message):
    with pytest.raises(ObjectiveError) as caught:
        Settings("x", **given)
    assert message in str(caught.value)
    with pytest.raises(ObjectiveError):
        replace(Settings("x"), **given)


def test_good_values_stay_as_they_are():
    made = Settings("x", 10**400, 3, 0.5, "decode", [2, 3.0], dtype="a")
    assert pickle.loads(pickle.dumps(made)) == made
    assert Settings("x") == Settings("x", 200_000, None, 1.0, "prefill", (1.0,))


def test_arguments_of_a_function():
    check_values("train_many", ModelError, whole_number(1, 9), together=3, seeds=9)
    with pytest.raises(ModelError, match=r"train_many\(seeds=10\): seeds must be an integer from 1 to 9"):
        check_values("train_many", ModelError, whole_number(1, 9), together=3, seeds=10)
    with pytest.raises(ModelError, match="must be a finite number"):
        check_values("f", ModelError, number(), x=math.nan)
    with pytest.raises(ModelError, match="True"):
        check_values("f", ModelError, one_of(0, 1), x=True)


@pytest.mark.parametrize("value", [True, "3", None, float("nan"), float("inf"), 1j])
def test_what_is_not_a_finite_number_is_refused_in_one_sentence_wherever_it_is_given(value):
    for call, named in ((lambda: real(value, 1), "low"), (lambda: Servable(padding=value), "padding")):
        with pytest.raises(NasBoError, match=rf"{named} must be a (finite )?number"):
            call()
    assert not is_number(value) and is_number(10**400) and is_number(0.5)
