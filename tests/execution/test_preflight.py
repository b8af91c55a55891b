"""What is wrong with every architecture is said once before the first trial; what is wrong with some is a warning."""

import logging

import optuna
import pytest

from nas_bo import AskTell, Problem, Space, choice, repeat, require, search
from nas_bo.errors import ModelError, NasBoError, ObjectiveError, SpaceError
from nas_bo.execution import preflight
from nas_bo.model import attention, dense
from nas_bo.objectives import Latency, Memory, Parameters, Throughput, ValidationLoss
from nas_bo.optuna import Sampler
from nas_bo.strategies import Random
from nas_bo.workflows.validate import validate
from tests.own_models import Attention, Stack, Stacks, broken


class Unknown(Space):
    """A field that our decoder does not know."""

    width = choice(32, 64)
    dropout = choice(0.0, 0.1)
    layers = repeat(2, mixer=attention(heads=2), mlp=dense(ratio=2))


class Divide(Space):
    """Some heads do not divide the width."""

    width = choice(32, 64)
    layers = repeat(1, mixer=attention(heads=choice(2, 3)), mlp=dense(ratio=2))


class Ruled(Space):
    width = choice(16, 32)

    @require
    def known(arch):
        return arch.height > 3


class Called(Space):
    width = choice(16, 32)

    def label(arch):
        return arch.width


class Plain(Space):
    width = choice(16, 32, 48)


def never(arch) -> float:
    raise AssertionError("an expensive objective was called")


never.cost = "trained"


def heads(arch) -> float:
    return float(arch.heads)


heads.cost = "analytic"


def odd(arch) -> float:
    return 1.0 / (arch.width - 32)


odd.cost = "analytic"


def finite(arch) -> float:
    return float("nan")


finite.cost = "analytic"

WRONG = [
    (
        Unknown,
        [never, Latency()],
        ModelError,
        "'latency_ms' cannot be built for all of 12 random architectures of Unknown",
    ),
    (Unknown, [ValidationLoss()], ModelError, "'dropout'"),
    (Unknown, [never, Throughput()], ModelError, "'dropout'"),
    (Unknown, [never, Parameters()], ModelError, "the analytic objective 'parameters' fails for all"),
    (Unknown, [never, Memory()], ModelError, "'dropout'"),
    (Plain, [never, heads], ObjectiveError, "'heads' fails for all .* no field 'heads' here; there are: width"),
    (Plain, [never, finite], ObjectiveError, "it is nan, not a finite number"),
    (Ruled, [never], SpaceError, "the rule 'known' fails for all .* no field 'height'"),
    (Called, [never], SpaceError, "Called.label returned"),
    (Stacks, [never, Latency(build=broken)], ModelError, "broken raised KeyError"),
    (Stacks, [never, Parameters(build=broken)], ModelError, "broken raised KeyError"),
    (Stacks, [never, Latency("decode", build=Stack)], ObjectiveError, "Stack has none: give it new_cache"),
]


@pytest.mark.parametrize(("space", "objectives", "kind", "says"), WRONG)
def test_what_is_wrong_with_all_is_one_error_before_any_trial(space, objectives, kind, says) -> None:
    told = []
    with pytest.raises(kind, match=says) as raised:
        search(space, objectives, strategy=Random(), trials=9, on_progress=told.append)
    assert not told and "\n" not in str(raised.value) and str(raised.value).startswith("search: ")


def test_limits_and_parts_are_tried_as_well() -> None:
    with pytest.raises(ModelError, match="'dropout'"):
        search(Unknown, [never], limits=[Parameters(at_most=1e9)], strategy=Random(), trials=2)


def test_what_is_wrong_with_some_is_a_warning_with_their_share(caplog) -> None:
    with caplog.at_level(logging.WARNING):
        found = search(Divide, [Parameters(), lambda_free], strategy=Random(), trials=4, retrain=0)
    said = [r.getMessage() for r in caplog.records if "random architectures of Divide" in r.getMessage()]
    assert len(said) == 1 and " of 12 random architectures" in said[0] and "@require" in said[0]
    assert len(found.trials) == 4


def lambda_free(arch) -> float:
    return float(arch.width)


def test_everybody_who_starts_trials_asks(tmp_path) -> None:
    from nas_bo.workflows.profile import profile

    with pytest.raises(ObjectiveError, match="^AskTell: the analytic objective 'heads' fails for all"):
        AskTell(Plain, ["loss", heads])
    with pytest.raises(ObjectiveError, match="^Sampler: "):
        Sampler(Plain, Random(), objectives=[never, heads])
    with pytest.raises(ModelError, match="^profile: the model cannot be built for all"):
        profile(Unknown, tmp_path / "p.json")
    with pytest.raises(ModelError, match="^validate: "):
        validate(Unknown, [Latency()], architectures=8)
    assert not list(tmp_path.iterdir())


def test_an_ax_client_asks() -> None:
    pytest.importorskip("ax")
    from nas_bo import ax as nas_ax

    with pytest.raises(ObjectiveError, match="^client: the analytic objective 'heads' fails"):
        nas_ax.client(Plain, ["loss", heads])


def test_a_plain_optuna_study_is_warned_once(caplog) -> None:
    with caplog.at_level(logging.WARNING):
        preflight._said.clear()
        sampler = Sampler(Plain, Random(), objectives=[odd, never])
        Sampler(Plain, Random(), objectives=[odd, never])
        optuna.create_study(directions=["minimize"] * 2, sampler=sampler)
    said = [r.getMessage() for r in caplog.records if "'odd' fails for" in r.getMessage()]
    assert len(said) == 1 and "ZeroDivisionError" in said[0]


def test_an_estimate_that_fails_is_no_error() -> None:
    class Guided:
        name, unit, direction, cost = "guided", "", "minimize", "measured"

        def predict(self, arch):
            raise ValueError("no guide")

        def __call__(self, arch) -> float:
            return float(arch.width)

    assert len(search(Plain, [Guided()], strategy=Random(), trials=3).trials) == 3


def test_it_draws_no_random_number_that_a_search_uses_and_is_cheap(monkeypatch) -> None:
    asked = [Parameters(build=Attention), Latency(build=Attention, context=16, max_seconds=0.05)]
    monkeypatch.setattr(preflight, "check", lambda *_, **__: None)
    without = search(Stacks, [Parameters(build=Attention)], strategy=Random(seed=3), trials=4)
    monkeypatch.undo()
    with_it = search(Stacks, [Parameters(build=Attention)], strategy=Random(seed=3), trials=4)
    assert [t.architecture.id for t in without.trials] == [t.architecture.id for t in with_it.trials]
    preflight.check(Problem(Stacks, asked), "search")


def test_dear_objectives_see_fewer(monkeypatch) -> None:
    monkeypatch.setattr(preflight, "SECONDS", 0.0)
    seen = []

    def counted(arch) -> float:
        seen.append(arch.id)
        return 1.0

    counted.cost = "analytic"

    class Wide(Space):
        width = choice(*range(1, 500))

    preflight.check(Problem(Wide, [counted]), "search")
    assert len(seen) == preflight.LEAST


def test_errors_are_ours() -> None:
    assert issubclass(SpaceError, NasBoError) and issubclass(ObjectiveError, NasBoError)
