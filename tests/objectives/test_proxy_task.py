"""Proxy tasks: sequences that are what they say, answers that follow from them, and objectives that learn them."""

from __future__ import annotations

import math
import pickle
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from nas_bo.errors import ObjectiveError, TrainingDiverged
from nas_bo.objectives.proxy_task import (
    AssociativeRecall,
    InductionHeads,
    MarkovSource,
    Memorisation,
    ProxyTask,
    SelectiveCopying,
    Task,
    TaskSuite,
)
from nas_bo.objectives.proxy_task.learning import HELD_OUT, TRAIN
from nas_bo.objectives.proxy_task.task import IGNORED, stream
from nas_bo.problem import Problem, as_objective
from nas_bo.search_spaces import TinyGPT
from nas_bo.trial import State
from tests.model.architectures import ATTENTION, CONV, DENSE, GATED, LINEAR, MOE, SKIP, decoder, layer

TASKS = [
    AssociativeRecall(),
    AssociativeRecall(pairs=3, keys=4, key_length=2, values=8),
    InductionHeads(),
    SelectiveCopying(),
    Memorisation(),
    MarkovSource(),
    MarkovSource(tokens=8, order=1, far=3),
]
ids = [f"{task.name}-{i}" for i, task in enumerate(TASKS)]


def sequence(inputs, targets):
    """The whole row that inputs and targets were cut from, where every last token is an answer."""
    return np.concatenate((inputs, targets[:, -1:]), 1)


@pytest.mark.parametrize("task", TASKS, ids=ids)
def test_batches_are_well_formed_and_follow_from_the_generator(task):
    assert isinstance(task, Task)
    inputs, targets = task.batch(stream(0, TRAIN, 3), 5)
    assert inputs.shape == targets.shape and inputs.shape[0] == 5
    assert inputs.dtype == targets.dtype == np.int64
    assert inputs.min() >= 0 and inputs.max() < task.vocab_size
    scored = targets != IGNORED
    assert scored.any(1).all() and targets[scored].max() < task.vocab_size and 1 < task.options <= task.vocab_size
    inside = scored[:, :-1]  # a target is the token that follows
    assert (targets[:, :-1][inside] == inputs[:, 1:][inside]).all()
    again = task.batch(stream(0, TRAIN, 3), 5)
    assert (again[0] == inputs).all() and (again[1] == targets).all()
    for other in (stream(0, TRAIN, 4), stream(1, TRAIN, 3), stream(0, HELD_OUT, 3)):
        assert (task.batch(other, 5)[0] != inputs).any()


@pytest.mark.parametrize("task", TASKS, ids=ids)
def test_answers_are_spread_so_that_guessing_gets_what_it_should(task):
    _, targets = task.batch(stream(0, TRAIN, 0), 400)
    counts = np.unique(targets[targets != IGNORED], return_counts=True)[1]
    assert len(counts) <= task.options and counts.max() / counts.sum() < 2.5 / task.options


def test_recall_asks_every_key_once_for_the_value_it_was_given():
    task = AssociativeRecall(pairs=5, keys=9, values=4)
    rows = sequence(*task.batch(stream(0, TRAIN, 0), 20)).reshape(20, 2, 5, 2)
    for told, asked in rows:
        assert len(set(told[:, 0])) == 5 and set(told[:, 0]) <= set(range(9))
        assert dict(told.tolist()) == dict(asked.tolist())
    assert len({tuple(row[:, 0]) for row in rows[:, 1]}) > 10  # the order of the questions differs


def test_long_keys_are_told_apart_as_a_whole():
    task = AssociativeRecall(pairs=6, keys=3, values=4, key_length=2)
    inputs, targets = task.batch(stream(0, TRAIN, 0), 20)
    assert (targets[0] != IGNORED).sum() == 6
    for told, asked in sequence(inputs, targets).reshape(20, 2, 6, 3):
        known = {tuple(row[:2]): row[2] for row in told.tolist()}
        assert len(known) == 6 and known == {tuple(row[:2]): row[2] for row in asked.tolist()}


def test_induction_goes_on_as_before():
    task = InductionHeads(tokens=12, length=9, repeated=4)
    inputs, targets = task.batch(stream(0, TRAIN, 0), 30)
    for row, answers in zip(sequence(inputs, targets).tolist(), targets, strict=True):
        first, again = row[:9], row[9:]
        start = first.index(again[0])
        assert len(set(first)) == 9 and again == first[start : start + 4]
        assert (answers != IGNORED).tolist() == [False] * 9 + [True] * 3


def test_copying_keeps_the_order_and_drops_the_blanks():
    task = SelectiveCopying(tokens=5, length=10, copied=4)
    for row in sequence(*task.batch(stream(0, TRAIN, 0), 30)).tolist():
        assert row[10] == 6 and [token for token in row[:10] if token != 5] == row[11:]


def test_facts_hold_in_training_and_held_out_sequences_and_change_with_the_table():
    def facts(task, part):
        rows = sequence(*task.batch(stream(0, part, 0), 60)).reshape(-1, 3).tolist()
        known = {(a, b): c for a, b, c in rows}
        assert all(known[a, b] == c for a, b, c in rows)
        return known

    train, held_out = facts(Memorisation(), TRAIN), facts(Memorisation(), HELD_OUT)
    shared = train.keys() & held_out.keys()
    assert len(shared) > 50 and all(train[k] == held_out[k] for k in shared)
    other = facts(Memorisation(table_seed=1), TRAIN)
    assert any(other[k] != train[k] for k in other.keys() & train.keys())


@pytest.mark.parametrize("far", [0, 3])
def test_a_markov_source_allows_so_many_successors_with_its_entropy(far):
    task = MarkovSource(tokens=6, order=2, branching=3, far=far)
    rows = sequence(*task.batch(stream(0, TRAIN, 0), 300))
    after: dict[tuple[int, ...], list[int]] = {}
    for row in rows.tolist():
        for at in range(2 + far, len(row)):
            after.setdefault((row[at - far - 2], row[at - far - 1]), []).append(row[at])
    assert len(after) == 36 and all(len(set(found)) == 3 for found in after.values())
    shares = np.mean([sorted(np.unique(f, return_counts=True)[1] / len(f), reverse=True) for f in after.values()], 0)
    assert shares == pytest.approx([6 / 11, 3 / 11, 2 / 11], abs=0.03)
    assert task.entropy_bits == pytest.approx(-sum(p * math.log2(p) for p in (6 / 11, 3 / 11, 2 / 11)))


# ---- objectives ---------------------------------------------------------------------------------------------------

ONE_FACT = Memorisation(keys=2, values=8, facts=4)


def test_a_proxy_task_learns_says_how_and_repeats_to_the_bit():
    objective = ProxyTask(ONE_FACT, steps=60, rows=8, seeds=2, held_out=32)
    arch = decoder(layer(CONV, DENSE))
    value = objective(arch)
    assert as_objective(objective) is objective and objective.cost == "trained" and objective.name == "memorisation"
    assert value < 0.3 and value.info["accuracy"] > 0.95 and value.info["guessing"] == 1 / 8
    assert value.info["score"] == pytest.approx(1 - value / 3, abs=1e-4)
    assert value.info["how"] == "proxy-task" and value.info["seeds"] == 2 and value.info["spread"] > 0
    assert value.info["tokens"] == 2 * 60 * 8 * 11
    assert float(pickle.loads(pickle.dumps(objective))(arch)) == float(value)
    one, two = (float(replace(objective, seeds=1, first_seed=seed)(arch)) for seed in (0, 1))
    assert float(value) == pytest.approx((one + two) / 2)
    untrained = ProxyTask(ONE_FACT, steps=1, lr=1e-9)(arch)
    assert untrained > 3 and abs(untrained.info["accuracy"] - 1 / 8) < 0.15
    more = objective.larger(2)
    assert more.steps == 120 and more.first_seed == 2 and objective.conditions()["task"]["keys"] == 2


def test_a_task_separates_networks_that_can_from_those_that_cannot():
    """The chain needs the last two tokens: a convolution of two sees them, a network without a mixer does not."""
    objective = ProxyTask(MarkovSource(tokens=8, branching=2, length=24), steps=150, rows=8)
    can, cannot = (objective(decoder(layer(mixer, GATED))) for mixer in (CONV, SKIP))
    assert can < 1.6 < 2.2 < cannot
    assert can > objective.task.entropy_bits  # nothing is better than the source allows


@pytest.mark.parametrize("mixer", [ATTENTION, LINEAR, CONV])
def test_mixtures_and_all_mixers_can_be_trained_on_masked_targets(mixer):
    arch = decoder(layer(mixer, MOE), layer(mixer, DENSE), tied=False, parallel=True)
    value = ProxyTask(SelectiveCopying(length=6, copied=2), steps=4, rows=4, held_out=16)(arch)
    assert math.isfinite(value) and value.info["score"] < 0.9


def test_the_global_generator_and_threads_are_left_alone():
    torch.manual_seed(3)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    ProxyTask(InductionHeads(), steps=2, rows=2, held_out=4)(TinyGPT.sample(0))
    assert torch.equal(torch.get_rng_state(), before) and torch.get_num_threads() == threads


def test_a_suite_is_the_mean_of_scores_against_chance():
    suite = TaskSuite([ProxyTask(ONE_FACT, steps=60), ProxyTask(SelectiveCopying(length=4, copied=2), steps=5)])
    value = suite(TinyGPT.sample(1))
    assert suite.direction == "maximize" and set(value.info["scores"]) == {"memorisation", "selective_copying"}
    assert value == pytest.approx(sum(value.info["scores"].values()) / 2)
    part = value.info["of"]["memorisation"]
    assert part["score"] == pytest.approx(1 - part["value"] / 3, abs=1e-4) and part["accuracy"] > 0.8
    assert suite.larger(2).tasks[0].steps == 120
    trial = Problem(TinyGPT, [suite]).evaluate(TinyGPT.sample(1))
    assert trial.state is State.COMPLETE and trial.values == {"task_suite": float(value)}


@dataclass(frozen=True)
class Parity:
    """A task of one's own: no base class."""

    name: str = "parity"
    vocab_size: int = 4
    options: int = 2

    def batch(self, rng, rows):
        bits = rng.integers(2, size=(rows, 6))
        targets = np.full((rows, 6), IGNORED)
        targets[:, -1] = 2 + bits.sum(1) % 2
        return bits, targets


def test_a_task_of_ones_own_needs_no_base_class():
    value = ProxyTask(Parity(), steps=3)(TinyGPT.sample(0))
    assert math.isfinite(value) and value.info["guessing"] == 0.5


def test_divergence_fails_the_trial_with_what_to_do():
    wild = ProxyTask(Memorisation(facts=2), steps=6, rows=2, lr=1e25, held_out=4)
    with pytest.raises(TrainingDiverged, match="use a lower lr"):
        wild(TinyGPT.sample(1))
    assert Problem(TinyGPT, [wild]).evaluate(TinyGPT.sample(1)).state is State.FAILED


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: AssociativeRecall(pairs=0), "pairs must be an integer of at least 1"),
        (lambda: AssociativeRecall(pairs=20), "only 16 different keys"),
        (lambda: AssociativeRecall(keys=64, key_length=3), "more than 65,536"),
        (lambda: InductionHeads(tokens=8), "at most"),
        (lambda: InductionHeads(repeated=17), "repeated at most length"),
        (lambda: SelectiveCopying(copied=25), "do not fit"),
        (lambda: MarkovSource(tokens=64, order=3), "fewer tokens or a lower order"),
        (lambda: MarkovSource(branching=17), "branching is at most"),
        (lambda: MarkovSource(length=4, far=4), "above order"),
        (lambda: Memorisation(keys=True), "keys must be an integer"),
        (lambda: ProxyTask(AssociativeRecall), "this is not a task"),
        (lambda: ProxyTask("recall"), "this is not a task"),
        (lambda: ProxyTask(Memorisation(), steps=0), "steps must be"),
        (lambda: ProxyTask(Memorisation(), lr=0), "lr must be a number above 0"),
        (lambda: ProxyTask(Memorisation(), decay=2), "from 0 to 1"),
        (lambda: TaskSuite([]), "at least one ProxyTask"),
        (lambda: TaskSuite(ProxyTask(Memorisation())), "a list"),
        (lambda: TaskSuite([Memorisation()]), "is not a ProxyTask"),
        (lambda: TaskSuite([ProxyTask(Memorisation())] * 2), "two tasks are named"),
    ],
)
def test_refusals(make, says):
    with pytest.raises(ObjectiveError, match=says):
        make()
