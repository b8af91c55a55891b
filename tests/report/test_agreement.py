from __future__ import annotations

import math

import pytest

from nas_bo.errors import SearchError
from nas_bo.report import Summary, agreement
from nas_bo.report.trust import kendall

pytestmark = pytest.mark.filterwarnings("ignore:nas_bo.report.agreement is:DeprecationWarning")


def test_equal_orders_agree_and_reversed_ones_disagree():
    losses = [float(i) for i in range(12)]
    same = agreement(losses, [x + 5 for x in losses], list(range(12)))
    assert same.tau == pytest.approx(1) and same.size_tau == pytest.approx(-1) and same.recall == 1 and same.k == 4
    assert 0.8 < same.low < 0.9 and same.high == 1 and same.size_recall == 0
    assert "agrees well" in same.text() and "said more than size does" in same.text()
    assert "disagrees" in agreement(losses, losses[::-1]).text()


def test_counting_parameters_as_well_or_better_is_said():
    losses = [float(i) for i in range(12)]
    swapped = [1.0, 0.0, 3.0, 2.0, *losses[4:]]
    assert "added nothing" in agreement(swapped, losses, [-x for x in losses]).text()
    assert "not clearly worse" in agreement(losses, losses, [-x for x in swapped]).text()
    assert "No parameter counts" in agreement(losses, losses).text()


@pytest.mark.parametrize(("n", "says"), [(0, "unknown"), (1, "unknown"), (3, "anecdote")])
def test_too_few_are_called_too_few(n, says):
    found = agreement([1.0, 2.0, 3.0][:n], [1.0, 2.0, 3.0][:n], [1, 2, 3][:n])
    assert says in found.text() and found.n == n and math.isnan(found.low)


def test_equal_losses_and_diverged_ones():
    assert math.isnan(agreement([1, 2, 3], [5, 5, 5]).tau) and "no order" in agreement([1, 2, 3], [5, 5, 5]).text()
    assert agreement([1, math.nan, 3, 4], [1, 2, math.inf, 4]).n == 2


def test_it_says_that_the_trust_report_has_replaced_it():
    with pytest.warns(DeprecationWarning, match=r"is nas_bo\.report\.trust since version 0\.2.*ends with version 0\.3"):
        found = agreement([1, 2, 3], [1, 2, 3])
    with pytest.warns(DeprecationWarning, match=r"Summary\(trust="):
        told = Summary("x", [], [], agreement=found, notes=["A note."])
    assert told.notes == ["A note.", found.text()]


def test_it_says_what_the_trust_report_says():
    """One rule for tau and its interval, also where version 0.1 had two: of four architectures."""
    for a, b in (([1, 2, 3, 4], [1, 2, 4, 3]), ([1, 2, 3, 4, 5, 6, 7], [2, 1, 3, 5, 4, 6, 7])):
        told, figures = agreement(a, b), kendall(a, b, draws=1000)
        assert (told.tau, told.low, told.high) == pytest.approx((figures.value, figures.low, figures.high), nan_ok=True)


def test_lengths_must_fit():
    with pytest.raises(SearchError, match="one of each per"):
        agreement([1.0], [1.0, 2.0])
