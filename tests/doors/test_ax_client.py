"""The factory of Ax clients, runner and metrics of our objectives, and what of them survives saving and killing."""

import multiprocessing
import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("ax")
pytest.importorskip("tabulate")

from ax.api.client import Client

from nas_bo import ax as nas_ax
from nas_bo.errors import HostError, SearchError
from nas_bo.strategies import NSGA2, Random
from nas_bo.study import from_attributes
from tests.doors.ax_problem import Cost, Deep, Flat, Slow, begin, depth, loss, wide


def run(client, trials, **more):
    client.run_trials(max_trials=trials, tolerated_trial_failure_rate=0.99, initial_seconds_between_polls=0, **more)


def statuses(client):
    return [t.status.name for t in client._experiment.trials.values()]


def values(client, name):
    frame = client._experiment.lookup_data().df
    return {int(i): v for i, m, v in zip(frame.trial_index, frame.metric_name, frame["mean"], strict=True) if m == name}


def arms(client):
    return [dict(t.arm.parameters) for t in client._experiment.trials.values()]


def test_objectives_and_limits_are_evaluated_and_every_end_is_told_to_ax():
    client = nas_ax.client(Deep, [loss, Cost()], limits=[depth], strategy=Random(seed=1))
    run(client, 12)
    told = statuses(client)
    assert len(told) == 12 and set(told) == {"COMPLETED", "ABANDONED", "FAILED"}
    for index, trial in client._experiment.trials.items():
        arch = nas_ax.architecture(Deep, trial.arm.parameters)
        assert arch.width * arch.n <= 28  # analytic: obeyed before anything is spent
        expected = "FAILED" if arch.width == 7 else "ABANDONED" if arch.n > 3 else "COMPLETED"
        # depth is measured before the loss, so that too deep ones never fail in it
        assert told[index] == ("ABANDONED" if arch.n > 3 else expected)
        if told[index] == "COMPLETED":
            assert values(client, "loss")[index] == pytest.approx(loss(arch))
            assert values(client, "cost")[index] == arch.width * arch.n
            assert values(client, "depth")[index] == arch.n
        else:
            reason = from_attributes(trial.run_metadata)["reason"]
            assert ("sevens fail" if told[index] == "FAILED" else "depth") in reason


def test_the_front_of_ax_is_ours():
    client = nas_ax.client(Flat, [wide, Cost()], strategy=NSGA2(seed=0, population=4), thresholds={"wide": 6.5})
    thresholds = [str(t) for t in client._experiment.optimization_config.objective_thresholds]
    assert len(thresholds) == 2 and "cost <= 28" in "".join(thresholds)
    run(client, 8)
    points = {i: (v, values(client, "cost")[i]) for i, v in values(client, "wide").items()}
    near = [p for p in points.values() if p[0] <= 6.5]
    best = {
        i for i, p in points.items() if p in near and not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in near)
    }
    assert best and {index for _, _, index, _ in client.get_pareto_frontier(use_model_predictions=False)} == best


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"objectives": ["loss", depth]}, "loss has none: add thresholds={'loss'"),
        ({"objectives": [loss, Cost(None)], "thresholds": {"loss": 3.0}}, "cost has none"),
        ({"objectives": [loss, Cost()], "thresholds": {"los": 3.0}}, "'los' is not an objective"),
        ({"objectives": [loss, Cost()], "thresholds": {"loss": float("nan")}}, "finite"),
        ({"objectives": [depth]}, "neither a bound nor a threshold on its only objective 'depth'"),
        ({"objectives": "loss"}, "must be a list"),
        ({"objectives": ["loss"], "workers": 2}, "are not evaluated by run_trials"),
        ({"objectives": ["a-loss", "cost"]}, "another name"),
    ],
)
def test_what_ax_cannot_hold_is_refused_with_a_remedy(arguments, message):
    with pytest.raises(HostError, match=message.replace("{", "\\{")):
        nas_ax.client(Flat, **arguments)


def test_bounds_of_analytic_objectives_need_no_threshold():
    for objectives in ([loss, Cost()], [Cost()]):
        config = nas_ax.client(Flat, objectives, strategy=Random(seed=0))._experiment.optimization_config
        assert not config.all_constraints


def test_objectives_by_name_are_yours_to_complete():
    client = nas_ax.client(Deep, ["loss", Cost()], strategy=Random(seed=0))
    for _ in range(4):
        for index, params in client.get_next_trials(1).items():
            arch = nas_ax.architecture(Deep, params)
            client.complete_trial(index, raw_data={"loss": float(8 - arch.width), "cost": float(Cost()(arch))})
    assert statuses(client) == ["COMPLETED"] * 4
    assert all(cost <= 28 for cost in values(client, "cost").values())


def test_a_client_from_json_goes_on_as_it_would_have(tmp_path):
    client = nas_ax.client(Deep, [loss, Cost()], limits=[depth], strategy=NSGA2(seed=0, population=4))
    run(client, 6)
    client.save_to_json_file(str(tmp_path / "client.json"))
    again = Client.load_from_json_file(str(tmp_path / "client.json"))
    for one in (client, again):
        run(one, 4)
    assert arms(again) == arms(client) and statuses(again) == statuses(client) and len(arms(again)) == 10
    assert values(again, "loss") == values(client, "loss")


def test_a_killed_run_in_a_database_goes_on_and_loses_no_trial(tmp_path):
    url, log = f"sqlite:///{tmp_path}/ax.db", tmp_path / "begun"
    log.touch()
    process = multiprocessing.get_context("spawn").Process(target=begin, args=(url, str(log), 9))
    process.start()
    try:
        until = time.monotonic() + 300
        while len(log.read_text().splitlines()) < 4:
            assert process.is_alive() and time.monotonic() < until
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.join()
    client = Client.load_from_database("Deep", storage_config=nas_ax.storage(url))
    before = arms(client)
    assert len(before) in (3, 4)  # the fourth was being evaluated; Ax saves a trial before or after, by its version
    assert statuses(client)[:3] == ["COMPLETED"] * 3
    run(client, 6 - len(before))
    assert arms(client)[: len(before)] == before
    assert set(statuses(client)) == {"COMPLETED"} and len(arms(client)) == 6
    begun = [line.split()[0] for line in log.read_text().splitlines()]
    ids = [nas_ax.architecture(Deep, arm).id for arm in arms(client)]
    assert sorted(begun) == sorted([*ids, begun[3]])  # only what was killed was evaluated twice
    read = Client.load_from_database("Deep", storage_config=nas_ax.storage(url))
    assert arms(read) == arms(client) and values(read, "loss") == values(client, "loss")


def test_a_worker_that_is_killed_costs_no_trial(tmp_path):
    log = tmp_path / "begun"
    client = nas_ax.client(Deep, [Slow(str(log), seconds=0.2), Cost()], strategy=Random(seed=0), workers=2)
    killed = []

    def kill():
        until = time.monotonic() + 300
        while time.monotonic() < until and not killed:
            lines = log.read_text().splitlines() if log.exists() else []
            if len(lines) >= 2:
                killed.append(int(lines[1].split()[1]))
                os.kill(killed[0], signal.SIGKILL)
            time.sleep(0.01)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        run(client, 5, parallelism=2)
    finally:
        thread.join()
        client._experiment.runner.close()
    assert killed and statuses(client) == ["COMPLETED"] * 5 and len(values(client, "loss")) == 5
    workers = {line.split()[1] for line in log.read_text().splitlines()}
    assert str(os.getpid()) not in workers and len(workers) >= 2


def test_fronts_in_documents_are_observed_and_not_predicted():
    """Ax's default is what a model predicts: values of trials that nobody has measured."""
    root = Path(__file__).parents[2]
    pages = [
        root / "README.md",
        *root.glob("docs/**/*.md"),
        *root.glob("examples/**/*.py"),
        *root.glob("nas_bo/ax/*.py"),
    ]
    calls = [
        c
        for page in pages
        for c in re.findall(r"\.get_(?:pareto_frontier|best_parameterization)\(([^)]*)\)", page.read_text())
    ]
    assert calls and all("use_model_predictions=False" in c for c in calls)


def test_a_runner_takes_an_executor_of_ones_own(tmp_path):
    from nas_bo.execution import InProcess

    class Counting(InProcess):
        taken = 0

        def take(self):
            self.taken += 1
            return super().take()

    counting = Counting()
    client = nas_ax.client(Deep, [loss, Cost()], strategy=Random(seed=0), executor=counting)
    run(client, 3)
    assert counting.taken == 3 and statuses(client) == ["COMPLETED"] * 3
    for wrong, said in (
        ({"executor": 4}, "it is an object with submit"),
        ({"executor": counting, "workers": 2}, "give one of them"),
    ):
        with pytest.raises(SearchError, match=said):
            nas_ax.client(Deep, [loss], **wrong)
    with pytest.raises(HostError, match="that you report are not evaluated"):
        nas_ax.client(Deep, ["loss"], executor=counting)


# ---- names of the loss ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wanted", "given"), [("bits_per_byte", "val_loss"), ("val_loss", "bits_per_byte")])
def test_the_other_name_of_the_loss_is_refused_before_the_trial_ends(wanted, given):
    client = nas_ax.client(Deep, [wanted, "size"], strategy=Random(seed=1))
    (index,) = client.get_next_trials(1)
    for report in (client.complete_trial, client.attach_data):
        with pytest.raises(HostError, match=f"given '{given}', and the metric is '{wanted}'.*complete_trial") as caught:
            report(index, raw_data={given: 2.0, "size": 3.0})
        assert "\n" not in str(caught.value)
    assert statuses(client) == ["RUNNING"] and not values(client, "size")
    client.complete_trial(index, raw_data={wanted: 2.0, "size": 3.0})
    assert statuses(client) == ["COMPLETED"] and values(client, wanted) == {0: 2.0}
    (index,) = client.get_next_trials(1)
    client.complete_trial(index, raw_data={wanted: 2.0, given: 9.0, "size": 3.0})  # a number of the user's own
    assert values(client, given) == {1: 9.0}


def test_a_tracked_metric_of_that_name_is_the_users_own():
    client = nas_ax.client(Deep, ["bits_per_byte"], strategy=Random(seed=1))
    client.configure_tracking_metrics(["val_loss"])
    (index,) = client.get_next_trials(1)
    client.attach_data(index, {"val_loss": 1.0})
    client.complete_trial(index, {"bits_per_byte": 2.0})
    assert values(client, "val_loss") == {0: 1.0} and statuses(client) == ["COMPLETED"]


def test_a_client_that_looks_at_no_names_is_told_at_the_next_trial():
    client = Client()
    client.configure_experiment(parameters=nas_ax.parameters(Deep), parameter_constraints=nas_ax.constraints(Deep))
    client.configure_optimization(objective="-bits_per_byte")
    client.set_generation_strategy(nas_ax.generation(Deep, Random(seed=1)))
    (index,) = client.get_next_trials(1)
    client.complete_trial(index, {"val_loss": 2.0})
    with pytest.raises(HostError, match=r"trial 0 .*given 'val_loss', and the metric is 'bits_per_byte'"):
        client.get_next_trials(1)
    client.attach_data(0, {"bits_per_byte": 2.0})
    assert len(client.get_next_trials(1)) == 1
