"""Block scores, and the integer program on them."""

import itertools

import pytest

from nas_bo import search
from nas_bo.errors import ObjectiveError, SearchError
from nas_bo.objectives import Parameters
from nas_bo.pretrained import Parts
from nas_bo.pretrained.block_scores import changed, options_of
from nas_bo.pretrained.space import whole
from nas_bo.problem import Problem
from nas_bo.strategies import Knapsack


@pytest.fixture
def teacher(small):
    return small


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_BO_CACHE", str(tmp_path / "cache"))


def test_they_are_measured_once_and_add_up(teacher, loss, tmp_path):
    space = teacher.space(mlp=(8, 16, 32))
    scores = teacher.block_scores(loss, parts=Parts(mlp=(8, 16, 32)))
    said = []
    terms = scores.terms(space, lambda *told: said.append(told))
    assert said
    (whole_model,) = terms.pop("")
    assert whole_model.added == pytest.approx(scores.terms(space)[""][0].added) and 0 < whole_model.added < 8
    assert set(terms) == {f"layers.{i}.{part}" for i in range(2) for part in ("mixer", "mlp")}
    assert [*map(len, terms.values())] == [3, 4, 3, 5]  # 2 groups or none; 48, 32, 16, 8, or none but for the first MLP
    assert all(kind[0].added == 0 for kind in terms.values())
    assert sum(not term.measured for kind in terms.values() for term in kind) == 2
    arch = space.sample(3)
    chosen = {term.choice: term.added for kind in terms.values() for term in kind}
    parts = [v for k, v in chosen.items() if all(arch.flat.get(path) == value for path, value in k)]
    assert float(scores(arch)) == pytest.approx(whole_model.added + sum(parts))
    files = [*(tmp_path / "cache").glob("blocks-*.json")]
    assert len(files) == 1


@pytest.mark.parametrize("most", [3, 5, 8])
def test_no_more_is_evaluated_than_asked_for_and_every_block_has_its_scores(teacher, loss, most):
    space = teacher.space(mlp=(8, 16, 32))
    few = teacher.block_scores(loss, parts=Parts(mlp=(8, 16, 32)), evaluations=most)
    assert few.looks(space) <= most
    terms = dict(few.terms(space))
    terms.pop("")
    assert [*map(len, terms.values())] == [3, 4, 3, 5]
    assert all(term.added > 0 for kind in terms.values() for term in kind[1:] if not term.measured)


def test_a_single_smaller_block_costs_what_its_score_says(teacher, loss):
    """On the very text of the scores, the loss of a model with one smaller block is that score."""
    space = teacher.space(mlp=(16,))
    scores = teacher.block_scores(loss, parts=Parts(mlp=(16,)))
    terms = dict(scores.terms(space))
    (whole_model,) = terms.pop("")
    assert len({round(term.added, 9) for kind in terms.values() for term in kind}) > 4
    one = terms["layers.1.mlp"][-1]
    assert float(scores(changed(space, whole(space), dict(one.choice)))) == pytest.approx(whole_model.added + one.added)


def test_the_program_finds_what_looking_at_all_finds(teacher, loss):
    space = teacher.space(mlp=(16,))
    scores = teacher.block_scores(loss, parts=Parts(mlp=(16,)))
    most = Parameters(vocab_size=256)
    sizes = {}
    for chosen in itertools.product(*options_of(space).values()):
        arch = changed(space, whole(space), {path: value for one in chosen for path, value in one})
        if not space.violations(arch):
            sizes[arch] = float(most(arch))
    for share in (0.9, 0.7, 0.55):
        bound = share * max(sizes.values())
        problem = Problem(space, [loss], [Parameters(vocab_size=256, at_most=bound)], [scores])
        (found,) = Knapsack().suggest(problem, [], 1)
        best = min((arch for arch, size in sizes.items() if size <= bound), key=lambda arch: float(scores(arch)))
        assert float(scores(found)) == pytest.approx(float(scores(best)), abs=1e-9)
        assert sizes[found] <= bound


def test_a_search_inside_a_trained_model_has_a_front(teacher, loss):
    space = teacher.space(mlp=(8, 16, 32))
    result = search(
        space,
        [loss, Parameters(vocab_size=256)],
        proxies=[teacher.block_scores(loss, parts=Parts(mlp=(8, 16, 32)))],
        strategy=Knapsack(),
        trials=8,
        retrain=0,
    )
    assert all(trial.state.name == "COMPLETE" for trial in result.trials)
    assert len({trial.architecture.id for trial in result.trials}) == 8
    assert len(result.front) > 2


class Slow(Parameters):
    """Measured as three times what it predicts."""

    def predict(self, arch):
        return float(Parameters.__call__(self, arch))

    def __call__(self, arch):
        return 3 * self.predict(arch)


def test_a_limit_on_what_is_measured_is_brought_to_the_scale_of_its_estimate(teacher, loss):
    space = teacher.space(mlp=(16,))
    whole_size = float(Parameters(vocab_size=256)(whole(space)))
    limit = Slow(vocab_size=256, name="ms", cost="measured", at_most=3 * 0.75 * whole_size)
    problem = Problem(space, [loss], [limit], [teacher.block_scores(loss, parts=Parts(mlp=(16,)))])
    (first,) = Knapsack().suggest(problem, [], 1)
    assert limit(first) > limit.at_most  # nothing is known of the scale yet
    trial = problem.evaluate(first)
    assert not trial.feasible
    (second,) = Knapsack().suggest(problem, [trial], 1)
    assert limit(second) <= limit.at_most


def test_without_block_scores_it_says_what_it_needs(teacher, loss):
    with pytest.raises(SearchError, match="block_scores"):
        Knapsack().suggest(Problem(teacher.space(), [loss]), [], 1)
    with pytest.raises(ObjectiveError, match="another space"):
        Problem(teacher.space(mlp=(16,)), [loss], proxies=[teacher.block_scores(loss)])
