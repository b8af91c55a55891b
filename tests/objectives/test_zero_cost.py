"""Zero-cost scores: right against plain computations, repeatable, defined for every block, refusing what says nothing."""

from __future__ import annotations

import math
import pickle
import random
from dataclasses import dataclass, replace

import pytest
import torch

from nas_bo.errors import DataError, ObjectiveError
from nas_bo.model import build, load_corpus, parameters
from nas_bo.objectives.cost import Parameters
from nas_bo.objectives.zero_cost import (
    DecoderParameters,
    GradientNorm,
    Grasp,
    InitialLoss,
    JacobianCovariance,
    Naswot,
    Snip,
    Synflow,
    ZenScore,
    ZeroCostScore,
    quantile_limit,
)
from nas_bo.objectives.zero_cost.naswot import _distinct
from nas_bo.problem import ORDER, Problem, as_objective
from nas_bo.search_spaces import TinyGPT
from nas_bo.trial import State
from tests.model.architectures import (
    CONV,
    DENSE,
    GATED,
    LINEAR,
    LONG_CONV,
    MIXERS,
    MOE,
    SKIP,
    WINDOW,
    decoder,
    layer,
)

SCORES = [Synflow, Snip, Grasp, GradientNorm, Naswot, JacobianCovariance, ZenScore, InitialLoss]
ARCHS = [TinyGPT.sample(seed) for seed in range(4)]
EVERYTHING = decoder(
    layer(WINDOW, GATED), layer(LINEAR, MOE), layer(LONG_CONV, DENSE), layer(SKIP, MOE), layer(CONV, SKIP)
)


def batch(rows=16, sequence=64):
    """The mini-batch that scores use, and the network of seed 0."""
    window = torch.from_numpy(load_corpus().batches(0, 1, rows, sequence)[0].astype("int64"))
    return window[:, :-1], window[:, 1:]


def network(arch, seed=0):
    return build(arch, 256, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("score", SCORES)
def test_a_score_says_how_it_was_obtained_and_repeats_to_the_bit(score):
    objective = score(seeds=2, batch=8)
    value = objective(ARCHS[0])
    assert as_objective(objective) is objective and objective.cost == "measured"
    assert ORDER.index(objective.cost) < ORDER.index("trained")
    assert value.info["how"] == "zero-cost" and value.info["seeds"] == 2 and value.info["seconds"] > 0
    first, second = value.info["values"]
    assert first != second and float(value) == (first + second) / 2
    assert value.info["spread"] == pytest.approx(abs(first - second) / math.sqrt(2))
    again = pickle.loads(pickle.dumps(objective))(ARCHS[0])
    assert float(again) == float(value)
    assert float(replace(objective, seeds=1, first_seed=1)(ARCHS[0])) == second
    assert float(objective(ARCHS[1])) != float(value)
    assert set(objective.conditions()) == {"corpus", "sha256", "seeds", "first_seed", "batch", "sequence"}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """The same in every version of Python: where two tokens have one code, NASWOT is -inf."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_bytes(bytes(random.Random(0).choices(range(97, 117), k=20_000)))
    return str(path)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(
    "arch",
    [
        EVERYTHING,
        decoder(*EVERYTHING.layers, parallel=True, tied=False, norm="layer", bias=True, position="none"),
        *(decoder(layer(mixer, SKIP if mixer is not SKIP else DENSE), width=64) for mixer in MIXERS.values()),
    ],
)
def test_every_block_of_the_vocabulary_has_a_score(score, arch, text):
    assert math.isfinite(score(seeds=1, batch=4, sequence=32, data=text)(arch))


def test_nothing_outside_is_changed():
    torch.manual_seed(3)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    for score in SCORES:
        score(seeds=1, batch=4, sequence=16)(ARCHS[1])
    assert torch.equal(torch.get_rng_state(), before) and torch.get_num_threads() == threads


# ---- against plain computations -----------------------------------------------------------------------------------


def test_gradient_norm_and_snip_are_sums_over_the_gradients_of_backward():
    model = network(ARCHS[0])
    model.loss(*batch())[1].backward()
    pairs = [(p.grad.double(), p.detach().double()) for p in model.parameters()]
    norm = math.sqrt(sum(float((g**2).sum()) for g, _ in pairs))
    assert GradientNorm(seeds=1)(ARCHS[0]) == pytest.approx(math.log(norm), abs=1e-5)
    assert Snip(seeds=1)(ARCHS[0]) == pytest.approx(
        math.log(sum(float((g * w).abs().sum()) for g, w in pairs)), abs=1e-5
    )


def test_initial_loss_is_the_loss_of_the_first_training_step():
    with torch.no_grad():
        nll = float(network(ARCHS[0]).loss(*batch())[1])
    assert InitialLoss(seeds=1)(ARCHS[0]) == pytest.approx(nll / math.log(2), abs=1e-5)
    assert InitialLoss().direction == "minimize"


def test_grasp_is_minus_theta_h_g_by_finite_differences():
    arch = decoder(layer(CONV, DENSE), width=16)
    tokens, targets = batch(4, 16)

    def gradient(model):
        return torch.autograd.grad(model.loss(tokens, targets)[1], list(model.parameters()))

    model = network(arch).double()
    g = gradient(model)
    step = 1e-5
    up, down = network(arch).double(), network(arch).double()
    with torch.no_grad():
        for w, direction in zip(up.parameters(), g, strict=True):
            w += step * direction
        for w, direction in zip(down.parameters(), g, strict=True):
            w -= step * direction
    product = [(a - b) / (2 * step) for a, b in zip(gradient(up), gradient(down), strict=True)]
    expected = -sum(float((h * w.detach()).sum()) for h, w in zip(product, model.parameters(), strict=True))
    assert Grasp(seeds=1, batch=4, sequence=16)(arch) == pytest.approx(math.asinh(expected), rel=1e-3)


def test_synflow_of_a_linear_network_is_a_product_of_absolute_weights():
    """No layers, a tied head: R = sum over positions and vocabulary of |E| |gain| * 1, and both factors carry R."""
    arch = decoder(width=8)
    model = network(arch)
    flow = 64 * float((model.embedding.weight.abs().double() @ model.norm.weight.abs().double()).sum())
    assert Synflow(seeds=1)(arch) == pytest.approx(math.log(2 * flow), rel=1e-5)  # rel: the 1e-6 of the norm


def test_synflow_and_zen_score_see_no_data():
    for score in (Synflow, ZenScore):
        made = score(seeds=1, batch=4)
        model_a, model_b = network(ARCHS[0]), network(ARCHS[0])
        tokens, targets = batch(4)
        assert made.score(model_a, tokens, targets, 0) == made.score(model_b, tokens.flip(0), targets, 0)


def test_jacobian_covariance_of_a_network_without_layers():
    """Each logit then depends on its own token; the score is that of the correlations of plain gradients."""
    arch = decoder(width=8)
    tokens, _ = batch(6, 16)
    model = network(arch)
    rows = []
    for one in tokens:
        x = model.embedding(one).detach().requires_grad_()
        model._logits(x).sum().backward()
        rows.append(x.grad.flatten().double())
    values = torch.linalg.eigvalsh(torch.corrcoef(torch.stack(rows))).clamp_min(0) + 1e-5
    expected = -float((values.log() + 1 / values).sum())
    assert JacobianCovariance(seeds=1, batch=6, sequence=16)(arch) == pytest.approx(expected, rel=1e-3)


def test_naswot_is_the_log_determinant_of_the_kernel_of_active_units():
    """An MLP and nothing else: the code of a token is which of its GELU units are on (Mellor et al., eq. 2)."""
    arch = decoder(layer(SKIP, DENSE))
    tokens, _ = batch()
    model = network(arch)
    with torch.no_grad():
        seen = list(dict.fromkeys(tokens.flatten().tolist()))[:64]
        on = model.layers[0].mlp.up(model.layers[0].mlp_norm(model.embedding(torch.tensor(seen)))) > 0
    same = torch.tensor([[float((a == b).sum()) for b in on] for a in on], dtype=torch.float64)
    assert Naswot(seeds=1)(arch) == pytest.approx(float(torch.logdet(same)), rel=1e-5)


def test_naswot_takes_the_first_place_of_each_token():
    tokens = torch.tensor([[5, 5, 2], [9, 2, 1]])
    assert _distinct(tokens).tolist() == [0, 2, 3, 5]


def test_zen_score_grows_with_what_amplifies_the_input():
    small, large = decoder(layer(CONV, DENSE)), decoder(*[layer(CONV, DENSE)] * 4, width=64)
    assert ZenScore(seeds=1)(small) < ZenScore(seeds=1)(large)


def test_decoder_parameters_leave_the_embeddings_out():
    for arch in ARCHS:
        value = DecoderParameters()(arch)
        assert value == parameters(arch, 256) - 256 * arch.width and value.info["how"] == "zero-cost"
    untied = decoder(layer(CONV, DENSE), tied=False)
    assert DecoderParameters()(untied) == parameters(untied, 256) - 2 * 256 * 32
    assert DecoderParameters().cost == "analytic"


# ---- as filters, and refusals -------------------------------------------------------------------------------------


def test_a_quantile_limit_turns_away_the_asked_share_before_training():
    limit = quantile_limit(Naswot(seeds=1, batch=4), TinyGPT, q=0.5, n=8, seed=1)
    assert limit.at_least is not None and limit.at_most is None
    assert limit == quantile_limit(Naswot(seeds=1, batch=4), TinyGPT, q=0.5, n=8, seed=1)
    trained = []

    def loss(arch):
        trained.append(arch)
        return 1.0

    problem = Problem(TinyGPT, [loss], limits=[limit])
    trials = [problem.evaluate(TinyGPT.sample(seed)) for seed in range(30, 42)]
    kept = [t for t in trials if t.state is State.COMPLETE]
    assert 0 < len(kept) < len(trials) and len(trained) == len(kept)
    assert all(t.state in (State.COMPLETE, State.INFEASIBLE) for t in trials)
    assert all(limit(t.architecture) >= limit.at_least for t in kept)


def test_a_minimised_score_is_bounded_from_above():
    limit = quantile_limit(Parameters(), TinyGPT, q=0.25, n=20)
    assert limit.at_least is None and limit.at_most > 0


@dataclass(frozen=True)
class Broken(ZeroCostScore):
    name: str = "broken"
    answer: float = math.nan

    def score(self, model, tokens, targets, seed):
        return self.answer


def test_nan_is_refused_with_what_to_do_and_fails_the_trial():
    with pytest.raises(ObjectiveError, match=r"broken is nan for the initialisation of seed 0.*another score"):
        Broken()(ARCHS[0])
    trial = Problem(TinyGPT, [Broken(answer=math.inf)]).evaluate(ARCHS[0])
    assert trial.state is State.FAILED and "broken is inf" in trial.reason
    with pytest.raises(ObjectiveError, match="naswot is nan"):  # no layers, so no units
        Naswot(seeds=1)(decoder())


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Synflow(seeds=0), ObjectiveError, "seeds must be an integer of at least 1"),
        (lambda: Snip(batch=2.5), ObjectiveError, "batch must be"),
        (lambda: Snip(name=""), ObjectiveError, "needs a name"),
        (lambda: Snip(data="/no/such/file").conditions(), DataError, "no file or folder"),
        (lambda: quantile_limit(Broken(answer=1.0), TinyGPT, n=4), ObjectiveError, "is 1 for all of 4"),
        (lambda: quantile_limit(Parameters(), TinyGPT, q=1.0), ObjectiveError, "between 0 and 1"),
        (lambda: quantile_limit(Parameters(), TinyGPT, n=2), ObjectiveError, "at least 4"),
        (lambda: quantile_limit(lambda arch: 1.0, TinyGPT), ObjectiveError, "no at_least and at_most"),
    ],
)
def test_refusals(make, error, says):
    with pytest.raises(error, match=says):
        make()
