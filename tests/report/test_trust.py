"""The trust report on numbers made by hand: what it says first, and that it says no more than it may."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser

import numpy as np
import pytest

from nas_bo.errors import SearchError
from nas_bo.report import Proxy, Summary, TrustReport, page, trust
from nas_bo.report.trust_page import section, trust_page
from nas_bo.report.trust_picture import trust_picture
from nas_bo.trial import ObjectiveSpec


def world(n: int = 24, seeds: int = 2, noise: float = 0.02, own: float = 0.2):
    """Sizes, FLOPs and a reference that falls with log(size) and with something of the architecture's own."""
    rng = np.random.default_rng(0)
    size = np.exp(rng.uniform(9, 13, n))
    beyond = rng.normal(0, own, n)
    truth = 4 - 0.15 * np.log(size) + beyond
    reference = truth[:, None] + rng.normal(0, noise, (n, seeds))
    return rng, size, beyond, truth, reference


def test_a_good_proxy_a_mere_size_and_noise_are_told_apart():
    rng, size, _, truth, reference = world()
    proxies = [
        Proxy("good", truth + rng.normal(0, 0.02, 24), share=0.25),
        Proxy("size", np.log(size), "maximize", 0.0),
        Proxy("noise", rng.normal(size=24), share=0.01),
    ]
    report = trust(proxies, reference, size, size * 2)
    good, mere, noise = report.proxies
    assert good.beats_size and good.beyond_size and good.tau.value > 0.85
    assert not mere.beats_size and not mere.size_removed.known and mere.against_size.value == pytest.approx(0)
    assert not noise.beats_size and not noise.beyond_size and noise.regret > good.regret
    assert report.parameters.tau.value == pytest.approx(mere.tau.value) and report.flops.tau.value == mere.tau.value
    assert report.ceiling.tau.value > 0.8 and report.noise == pytest.approx(0.02, rel=0.5)
    line = report.first_line
    assert line.startswith("size and noise do no better than counting parameters (tau ")
    assert line.index("noise") < line.index("good orders better than counting parameters")
    assert report.text().startswith(line) and "Steer by good" in report.recommendation()


def test_no_better_than_parameters_is_the_first_thing_said_and_something_is_recommended():
    rng, size, _, _, reference = world(own=0.02)
    report = trust([Proxy("short", -np.log(size) + rng.normal(0, 0.8, 24), share=0.1)], reference, size)
    assert report.text().splitlines()[0].startswith("short ") and "counting parameters (tau" in report.first_line
    told = report.recommendation()
    assert "choose by parameters" in told and "raise the budget of the search (now 10% of the reference)" in told
    assert "fine-tuned" in told and "Steer by" not in told


def test_what_orders_beyond_size_but_not_better_is_to_be_combined():
    rng, size, beyond, _, reference = world(own=0.12)
    report = trust([Proxy("residue", beyond + rng.normal(0, 0.05, 24))], reference, size)
    found = report.proxies[0]
    assert found.beyond_size and not found.beats_size
    assert found.combined.value > report.parameters.tau.value and found.combined_gain.low > 0
    assert "combine them. A straight line in residue and log(parameters)" in report.recommendation()


def test_a_prefix_is_judged_against_the_other_seeds():
    """Values that are the reference itself, run by run: against its own run tau would be 1."""
    _, size, _, _, reference = world(noise=0.3)
    report = trust([Proxy("itself", reference, same_run=True)], reference, size)
    assert report.proxies[0].tau == report.ceiling.tau and report.ceiling.tau.value < 0.9
    alone = trust([Proxy("itself", reference[:, :1], same_run=True)], reference[:, :1], size)
    assert alone.ceiling is None and math.isnan(alone.noise) and "looks better than it is" in alone.text()


def test_the_ceiling_and_the_noise_are_what_they_are_called():
    reference = [[1.0, 1.2], [2.0, 2.2], [3.0, 3.2], [4.0, 4.2], [5.0, 5.2]]
    report = trust([], reference, [5, 4, 3, 2, 1])
    assert report.noise == pytest.approx(math.sqrt(0.02)) and report.ceiling.tau.value == 1
    assert (
        report.spread == pytest.approx(np.std([1, 2, 3, 4, 5], ddof=1)) and "No proxy was judged" in report.first_line
    )


def test_directions():
    _, size, _, truth, reference = world()
    report = trust(
        [Proxy("a", -truth, "maximize"), Proxy("b", truth, "maximize")], -reference, size, direction="maximize"
    )
    assert report.proxies[0].tau.value > 0.8 and report.proxies[1].tau.value < -0.8
    report = trust([Proxy("a", -truth, "maximize")], -reference, size, direction="maximize")
    lower = trust([Proxy("a", truth)], reference, size)
    assert report.proxies[0].tau == lower.proxies[0].tau and report.proxies[0].regret == lower.proxies[0].regret


def test_a_constant_proxy_and_one_without_numbers_are_useless_not_an_exception():
    _, size, _, truth, reference = world()
    broken = truth.copy()
    broken[:3] = math.nan
    report = trust([Proxy("flat", [1.0] * 24), Proxy("void", [math.nan] * 24), Proxy("holes", broken)], reference, size)
    flat, void, holes = report.proxies
    assert "same value" in flat.useless and "no number" in void.useless and not holes.useless and holes.n == 21
    assert report.first_line.startswith("flat and void are useless here")
    assert "Drop flat, void" in report.recommendation() and "holes: 3 of 24 missing" in report.text()
    assert trust_picture(report).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("n", "says"), [(0, "no architecture has"), (1, "one architecture"), (2, "two architectures"), (4, "anecdote")]
)
def test_too_few_architectures_say_so(n, says):
    values = [3.0, 2.0, 1.0, 0.5][:n]
    report = trust([Proxy("p", values)], values, [1.0, 2.0, 3.0, 4.0][:n])
    assert says in report.first_line
    assert ("at least ten" if n < 3 else "ten are a beginning") in report.text()
    assert not report.proxies[0].tau.bounded and trust_picture(report).startswith(b"\x89PNG")
    assert report.n == n
    for text in (
        report.text(),
        report.markdown(),
        section(report),
    ):  # two architectures make no table of rank correlations
        assert ("Spearman" in text) == (n >= 3) and says in text


def test_architectures_without_a_reference_are_left_out_and_said():
    _, size, _, truth, reference = world()
    reference[2] = math.nan
    reference[3, 1] = math.nan
    report = trust([Proxy("p", truth)], reference, size, labels=[f"a{i}" for i in range(24)])
    assert report.n == 23 and "1 of 24 architectures left out, without a reference value" in report.text()
    assert report.ceiling.n == 22 and "a2" not in [r.label for r in report.rows]


def test_without_sizes_nothing_is_said_of_them():
    _, _, _, truth, reference = world()
    report = trust([Proxy("p", truth)], reference)
    assert report.parameters is None and "cannot be compared with counting parameters" in report.first_line
    assert trust_picture(report).startswith(b"\x89PNG")


def test_a_reference_that_is_noise_is_called_so():
    rng, size, _, truth, _ = world()
    report = trust([Proxy("p", truth)], rng.normal(size=(24, 2)), size)
    assert "hardly agrees with itself" in report.recommendation()


def test_data_and_back():
    _, size, _, truth, reference = world(n=7)
    proxies = [Proxy("p", truth, share=0.25, note="a <b>"), Proxy("flat", [1.0] * 7)]
    report = trust(proxies, reference, size, size * 3, ids=[f"{i}" for i in range(7)], notes=["A note."])
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    again = TrustReport.from_dict(data)
    assert again.text() == report.text() and again.to_dict() == data and again.rows[0].values["p"] == truth[0]
    assert data["first_line"] == report.first_line
    with pytest.raises(SearchError, match="not the data of a trust report"):
        TrustReport.from_dict({"rows": []})


def test_the_same_numbers_give_the_same_report():
    _, size, _, truth, reference = world(n=12)
    assert (
        trust([Proxy("p", truth)], reference, size).to_dict() == trust([Proxy("p", truth)], reference, size).to_dict()
    )


BAD = [
    (lambda v: trust([Proxy("p", v[:3])], v), "shape"),
    (lambda v: trust([Proxy("p", v), Proxy("p", v)], v), "same name"),
    (lambda v: trust([Proxy("p", v)], v, [1.0, 2.0]), "above 0 for each"),
    (lambda v: trust([Proxy("p", ["a"] * 4)], v), "not numbers"),
]


@pytest.mark.parametrize(("call", "says"), BAD)
def test_bad_input_is_refused_with_what_to_do(call, says):
    with pytest.raises(SearchError, match=says):
        call([1.0, 2.0, 3.0, 4.0])


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)
        assert not {name for name, _ in attrs} & {"src", "href", "onclick"}


def test_the_section_stands_in_the_page_and_escapes_names():
    _, size, _, truth, reference = world()
    report = trust([Proxy("<script>", truth)], reference, size)
    text = page(Summary("A search", [ObjectiveSpec("val_loss")], [], trust=report, validation=report))
    assert text.count("&lt;script&gt;") >= 2 and "Validated on its own" in text
    assert text.index("How far to trust") < text.index("size removed") < text.index("All trials")
    tags = Tags(trust_page(report, "A title <b>"))
    assert tags.found.count("svg") == 5 and "script" not in tags.found and "b" in tags.found
