"""The executor on a real Ray cluster: two raylets of this machine, started once for this file."""

from __future__ import annotations

import json
import logging
import os
import pickle
import platform
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from nas_bo import elsewhere, process, profile, search
from nas_bo.cli.app import app
from nas_bo.errors import DataError, ObjectiveError, SearchError
from nas_bo.execution import Ray
from nas_bo.execution.selection import executor_of
from nas_bo.hardware.workload import Setting
from nas_bo.objective import Value
from nas_bo.objectives import InitialLoss, Latency, ValidationLoss
from nas_bo.problem import Problem
from nas_bo.search_spaces import TinyGPT
from nas_bo.strategies import Random
from nas_bo.testing import ExecutorTests
from nas_bo.testing.evaluations import Small, at, loss, size, sleeps
from nas_bo.trial import State
from nas_bo.workflows.compare_standard import compare_standard
from nas_bo.workflows.validate import validate
from tests.execution.preempted import STEPS
from tests.execution.test_outcome_spool import run as killed
from tests.execution.test_preemption import continued
from tests.problems import Retrainable, Toy, cost
from tests.workflows.test_standard import Costs, Grown

ray = pytest.importorskip("ray", reason="the extra ray is not installed")

from nas_bo.execution import ray_cluster  # noqa: E402
from nas_bo.execution.ray_worker import Evaluator  # noqa: E402
from tests.execution.ray_here import raylets  # noqa: E402

pytestmark = [
    pytest.mark.slow,  # two minutes on two cores, most of them in Ray's own processes
    pytest.mark.skipif(sys.platform != "linux", reason="several raylets of one machine: Linux only"),
]


@pytest.fixture(scope="module")
def cluster():
    with raylets() as made:
        made.add(2, place=1)
        ray.init(made.address, logging_level=logging.WARNING, log_to_driver=False)
        try:
            yield made
        finally:
            ray.shutdown()


@dataclass(frozen=True)
class Logged:
    """Leaves a line with architecture and process for each evaluation, then waits until a file is there."""

    folder: str
    name: str = "loss"
    unit: str = ""
    direction: str = "minimize"
    cost: str = "trained"

    def __call__(self, arch):
        with open(f"{self.folder}/log", "a") as log:
            log.write(f"{arch.id} {os.getpid()}\n")
        while not os.path.exists(f"{self.folder}/go"):
            time.sleep(0.02)
        return loss(arch)

    def begun(self) -> list[list[str]]:
        log = Path(self.folder, "log")
        return [line.split() for line in log.read_text().splitlines()] if log.exists() else []

    def wait_for(self, count: int) -> list[list[str]]:
        until = time.monotonic() + 600
        while len(found := self.begun()) < count:
            assert time.monotonic() < until
            time.sleep(0.02)
        return found

    def go(self) -> None:
        Path(self.folder, "go").touch()


def where_it_ran(arch):
    return float(os.getpid())


@dataclass(frozen=True)
class Somewhere:
    """Says which process measured, and which one asked for it."""

    on: str
    name: str = "where"
    unit: str = ""
    direction: str = "minimize"
    cost: str = "measured"

    def __call__(self, arch):
        return Value(1.0, process=elsewhere.call(self.on, os.getpid), worker=os.getpid())


@pytest.fixture
def logged(tmp_path):
    return Logged(str(tmp_path))


@pytest.fixture(scope="module")
def team(cluster):
    """The same two workers for many tests: to start one takes seconds."""
    made = Ray(workers=2)
    yield made
    made.close()


@pytest.fixture
def two(team):
    yield team
    team.limit(None)


@pytest.fixture
def free(team):
    """Whatever the tests before have left has ended."""
    team.close()
    until = time.monotonic() + 600
    while ray.available_resources().get("CPU") != 2:
        assert time.monotonic() < until
        time.sleep(0.1)


def test_as_many_workers_as_find_room(free):
    assert Ray().workers == 2 and Ray(num_cpus=2).workers == 1 and Ray(num_cpus=0.5).workers == 4
    assert Ray(resources={"place": 0.25}).workers == 2


def test_a_worker_that_is_killed_costs_its_siblings_nothing(two, logged, caplog):
    problem = Problem(Small, [logged])
    for key in range(4):
        two.submit(key, problem, Small.sample(key))
    (first, pid), *_ = logged.wait_for(2)
    os.kill(int(pid), signal.SIGKILL)
    logged.wait_for(3)
    logged.go()
    with caplog.at_level(logging.WARNING):
        found = dict(two.take() for _ in range(4))
    assert {trial.state for trial in found.values()} == {State.COMPLETE}
    begun = [arch for arch, _ in logged.begun()]
    assert begun.count(first) == 2 and len(begun) == 5
    assert "it is evaluated once more" in caplog.text


def test_a_node_that_dies_is_nobodys_fault(cluster, free, tmp_path, caplog):
    """Even a second time: what it evaluated is evaluated elsewhere."""
    logged, problem = Logged(str(tmp_path)), None
    node = cluster.add(1, place=1)
    executor = Ray(workers=2, num_cpus=0, resources={"place": 1})  # one on each node
    try:
        problem = Problem(Small, [logged])
        for key in range(3):
            executor.submit(key, problem, Small.sample(key))
        there = {pid for _, pid in logged.wait_for(2)}
        cluster.kill(node)
        while all(psutil.pid_exists(int(pid)) for pid in there):  # the worker ends when it finds its raylet gone
            time.sleep(0.05)
        logged.go()
        with caplog.at_level(logging.WARNING):
            found = dict(executor.take() for _ in range(3))
        assert {trial.state for trial in found.values()} == {State.COMPLETE}
        assert len(logged.begun()) == 4 and len({pid for _, pid in logged.begun()} & there) == 2
        assert "the machine that evaluated" in caplog.text and "evaluated elsewhere" in caplog.text
    finally:
        executor.close()


CHILDREN = """
import subprocess, sys
nap = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
print(subprocess.Popen(nap, stdout=-3, stderr=-3).pid)
"""


@dataclass(frozen=True)
class Starts:
    """Starts a process, one that leaves the group of its parent, and one whose parent ends; then sleeps."""

    folder: str
    name: str = "loss"
    unit: str = ""
    direction: str = "minimize"
    cost: str = "trained"

    def __call__(self, arch):
        nap = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
        found = [os.getpid(), subprocess.Popen(nap).pid, subprocess.Popen(nap, start_new_session=True).pid]
        found.append(int(subprocess.run([sys.executable, "-c", CHILDREN], capture_output=True, check=True).stdout))
        Path(self.folder, "draft").write_text(" ".join(map(str, found)))
        Path(self.folder, "draft").rename(Path(self.folder, "started"))
        return sleeps(arch)


@pytest.mark.parametrize("how", ["cancelled", "killed"])
def test_what_an_evaluation_has_started_ends_with_it(two, tmp_path, how):
    started = tmp_path / "started"
    two.submit("late", Problem(Small, [Starts(str(tmp_path))]), at(1))
    until = time.monotonic() + 600
    while not started.exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    pids = [int(pid) for pid in started.read_text().split()]
    if how == "cancelled":
        two.cancel("late")
    else:
        os.kill(pids[0], signal.SIGKILL)
        os.kill(pids.pop(2), signal.SIGKILL)  # nobody knows of one that has left the group
        two.cancel("late")
    there = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    _, alive = psutil.wait_procs(there, timeout=120)
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []


def test_one_that_is_late_is_ended(two):
    two.limit(0.5)
    two.submit("late", Problem(Small, [sleeps]), at(1))
    key, trial = two.take()
    assert key == "late" and trial.state is State.FAILED and trial.seconds == 0.5
    assert "took longer than the 0.5 s that an evaluation may take (timeout)" in trial.reason


# ---- searches --------------------------------------------------------------------------------------------------------


def test_searches_and_validations_give_what_local_processes_give(cluster, free):
    asked = {
        "strategy": Random(seed=3),
        "trials": 6,
        "retrain": 2,
        "baseline": {"known": Small.sample(9)},
        "timeout": 600,
    }
    wanted = [Retrainable(), size]
    here = search(Small, wanted, workers=2, **asked)
    there = search(Small, wanted, executor=Ray(workers=2), **asked)
    assert [(t.architecture.id, dict(t.values)) for t in here.trials] == [
        (t.architecture.id, dict(t.values)) for t in there.trials
    ]
    assert here.baselines[0]["values"] == there.baselines[0]["values"]
    assert [(one.id, one.values) for one in here.retrained] == [(one.id, one.values) for one in there.retrained]
    assert ray.is_initialized(), "a driver that was one before stays one"
    asked = {"architectures": 4, "seeds": 1}
    here, there = (
        validate(Small, [size], Retrainable(), **asked, **where) for where in ({}, {"executor": Ray(workers=1)})
    )
    assert str([(j.name, j.n, j.tau) for j in here.judged]) == str([(j.name, j.n, j.tau) for j in there.judged])


def test_a_profile_of_a_node(cluster, free, tmp_path):
    """Its worker measures in a process of its own; the file and the models on it are made here."""
    short = Setting(context=16)
    found = profile(
        TinyGPT, tmp_path / "pi5.json", (short,), executor=Ray(workers=1), on="place", architectures=5, max_seconds=0.1
    )
    assert len(found.records) == 5 and found.about["versions"]["torch"] and not ray.util.list_named_actors()
    with pytest.raises(SearchError, match="was started with the resource 'pi5'"):
        profile(TinyGPT, tmp_path / "no.json", (short,), executor=Ray(workers=1), on="pi5")
    assert not (tmp_path / "no.json.part").exists()


def test_the_standard_design_is_trained_there(cluster, free, monkeypatch):
    """`validate --baseline standard` of a search that had none."""
    found = search(Toy, [Grown(), Costs()], strategy=Random(seed=0), trials=6, retrain=0, baseline=None)
    submitted = []
    submit = Ray.submit
    monkeypatch.setattr(Ray, "submit", lambda self, key, *more: submitted.append(key) or submit(self, key, *more))
    there = compare_standard(found.study, Toy, executor=Ray(workers=1), allow=("tests",))
    assert there.gain is not None and {one.id for one in there.retrained} <= set(submitted)


def test_a_client_of_ax_evaluates_there(cluster, free):
    from nas_bo import ax as nas_ax

    client = nas_ax.client(Toy, [where_it_ran, cost], strategy=Random(seed=0), executor=Ray(workers=2))
    client.run_trials(max_trials=4, parallelism=2)
    client._experiment.runner.close()
    pids = set(client._experiment.lookup_data().df.query("metric_name == 'where_it_ran'")["mean"])
    assert len(pids) in (1, 2) and float(os.getpid()) not in pids


def test_what_is_about_a_device_is_measured_there(cluster, free):
    """Wherever the trial runs, and in the end too; the name of the column says so."""
    here = Somewhere("place")
    assert Latency(on="pi5").name == "latency_ms@pi5" and Latency(on="pi5").conditions()["on"] == "pi5"
    found = search(Small, [here, size], executor=Ray(workers=1), strategy=Random(seed=2), trials=3, retrain=0)
    processes = {t.info["where"]["process"] for t in found.trials}
    assert len(processes) == 1 and processes != {os.getpid()}
    assert {t.info["where"]["worker"] for t in found.trials}.isdisjoint(processes)
    assert "was started with the resource 'pi5'" in refused(Ray(workers=1), Somewhere("pi5"))
    with pytest.raises(ObjectiveError, match="does not run on a cluster"):
        here(at(1))


DRIVER = """
import sys
from nas_bo import elsewhere, search
from nas_bo.execution import Ray
from nas_bo.strategies import Random
from tests.execution.test_ray import Logged, Small
if __name__ == "__main__":
    search(Small, [Logged(sys.argv[2])], executor=Ray(sys.argv[1], workers=2), strategy=Random(seed=1), trials=4, retrain=0,
           storage=sys.argv[3])
"""


def test_a_driver_that_is_killed_loses_nothing(cluster, free, logged, tmp_path):
    script, storage = tmp_path / "driver.py", str(tmp_path / "study.db")
    script.write_text(DRIVER)
    env = {**os.environ, "PYTHONPATH": os.getcwd()}
    driver = subprocess.Popen([sys.executable, str(script), cluster.address, logged.folder, storage], env=env)
    try:
        logged.wait_for(2)
    finally:
        driver.kill()
        driver.wait()
    before = logged.begun()
    there = [psutil.Process(int(pid)) for _, pid in before if psutil.pid_exists(int(pid))]
    psutil.wait_procs(there, timeout=120)  # what comes to its end before that is kept
    logged.go()
    found = search(
        Small, [logged], executor=Ray(workers=2), strategy=Random(seed=1), trials=4, retrain=0, storage=storage
    )
    assert [t.state for t in found.trials] == [State.COMPLETE] * 4
    again = [arch for arch, _ in logged.begun()[len(before) :]]
    assert sorted(again) == sorted({t.architecture.id for t in found.trials})


def test_what_had_ended_when_its_driver_was_killed_is_not_evaluated_again(cluster, free, tmp_path):
    assert len(killed(tmp_path, cluster.address, 1)) == 4
    assert set(killed(tmp_path, cluster.address).values()) == {1}
    ran = CliRunner().invoke(app, ["status", str(tmp_path / "s.db"), "--json"])
    (node,) = json.loads(ran.output)["studies"][0]["nodes"]
    alive = next(one for one in ray.nodes() if one["Alive"])
    assert (node["id"], node["host"], node["address"]) == (
        alive["NodeID"],
        platform.node(),
        alive["NodeManagerAddress"],
    )
    assert (node["ended"], node["failed"], node["running"], node["lost"]) == (4, 0, 0, 0) and node["workers"] in (1, 2)


def test_a_worker_ends_with_its_driver_before_ray_notices(cluster, free, tmp_path):
    """Its job, which is that of this process, goes on: it is not Ray that ends it."""
    script = "from nas_bo import process; print(process.owner(), flush=True); input()"
    driver = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        worker = ray.remote(Evaluator).remote(driver.stdout.readline().strip(), str(tmp_path), "token")
        assert psutil.pid_exists(process.parted(ray.get(worker.about.remote(), timeout=120)[0])[1])
        driver.kill()
        driver.wait()
        with pytest.raises(ray.exceptions.RayActorError):
            ray.get(worker.call.remote(pickle.dumps((time.sleep, (600,)))), timeout=120)
    finally:
        driver.kill()
        driver.wait()


def test_a_driver_that_is_asked_to_end_leaves_trainings_that_go_on(cluster, free, tmp_path):
    """SIGTERM reaches it although `ray.init()` has set a handler, and its worker writes a checkpoint first."""
    (tmp_path / "kept").mkdir()
    first, _ = continued(tmp_path, str(tmp_path / "kept"), executor=Ray(workers=1))
    assert 512 <= first.info["loss"]["resumed"] < STEPS * 512


@dataclass(frozen=True)
class Continued(Logged):
    """What waits for it is a checkpoint, as far as an executor can know."""

    checkpoints: str = "kept"


def test_a_worker_that_is_asked_to_end_is_not_waited_for_when_it_has_ended_the_evaluation(
    cluster, free, tmp_path, monkeypatch
):
    """Ray raises SystemExit in it, which is an evaluation that failed: the process itself would go on for the whole time it is given."""
    monkeypatch.setattr("nas_bo.execution.team.GRACE_S", 3600.0)
    executor, logged = Ray(workers=1), Continued(str(tmp_path))
    executor.submit(0, Problem(Small, [logged]), at(1))
    ((_, pid),) = logged.wait_for(1)
    executor.close()
    psutil.wait_procs([psutil.Process(int(pid))] if psutil.pid_exists(int(pid)) else [], timeout=120)
    assert not psutil.pid_exists(int(pid)) and not (tmp_path / "go").exists()


def test_a_profile_by_the_command(cluster, free, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = ["profile", "--phase", "prefill", "--context", "16", "--architectures", "5", "--max-seconds", "0.1"]
    ran = CliRunner().invoke(app, [*asked, "--ray", cluster.address, "--on", "place"])
    assert ran.exit_code == 0 and (tmp_path / "device.json").exists(), ran.output
    for some, said in ((["--ray", cluster.address], "say which by --on"), (["--on", "place"], "give --ray ADDRESS")):
        ran = CliRunner().invoke(app, [*asked, *some])
        assert ran.exit_code == 2 and said in " ".join(ran.output.split())


def test_the_command_takes_it(cluster, free, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = [
        "search",
        "--objective",
        "parameters",
        "--objective",
        "mflops",
        "--strategy",
        "random",
        "--trials",
        "3",
        "--retrain",
        "0",
    ]
    more = ["--ray", cluster.address, "--workers", "1", "--cpus-per-trial", "2", "--mlflow", "none"]
    ran = CliRunner().invoke(app, [*asked, *more])
    assert ran.exit_code == 0, ran.output
    ran = CliRunner().invoke(app, [*asked, "--gpus-per-trial", "1"])
    assert ran.exit_code != 0 and "--gpus-per-trial" in ran.output and "give --ray" in ran.output


# ---- what is wrong is said before the first trial ----------------------------------------------------------------------


def refused(executor, *objectives) -> str:
    with pytest.raises(SearchError) as error:
        executor_of(executor, 1, Problem(Small, list(objectives) or [loss]), "search")
    text = str(error.value)
    assert "\n" not in text
    return text


def test_a_resource_that_no_node_has(cluster):
    said = refused(Ray(num_gpus=1))
    assert "GPU 1" in said and "CPU 2, place 1" in said and "would wait forever" in said
    assert "pi5 1" in refused(Ray(resources={"pi5": 1}))
    assert "give Ray(num_gpus=2)" in refused(Ray(num_gpus=1), ValidationLoss(gpus_per_trial=2))


def test_which_attribute_cannot_be_sent(cluster):
    class Locked:
        name, unit, direction, cost = "locked", "", "minimize", "trained"

        def __init__(self):
            self.settings = {"lock": threading.Lock()}

        def __call__(self, arch):
            return 1.0

    said = refused(Ray(workers=1), Locked())
    assert "the objective 'locked': its attribute settings['lock'], a lock" in said


def test_what_a_script_defines_is_sent_with_its_code(two):
    def own(arch):
        return float(arch.depth)

    executor_of(two, 1, Problem(Small, [own]), "search")
    two.submit("own", Problem(Small, [own]), at(2))
    assert two.take()[1].values == {"own": 2.0}


def test_other_versions_on_a_node(cluster, monkeypatch):
    monkeypatch.setattr(ray_cluster, "versions", lambda _: {"python": "3.8.1", "nas_bo": "0.0.9"})
    said = refused(Ray(workers=1))
    assert "it has python 3." in said and "this machine 3.8.1" in said and "nas_bo" in said and "0.0.9" in said


@dataclass(frozen=True)
class OnlyHere:
    """Reads a text that only the process of the driver has."""

    process: int
    other: bool = False
    name: str = "loss"
    unit: str = ""
    direction: str = "minimize"
    cost: str = "trained"

    def conditions(self):
        if os.getpid() != self.process and not self.other:
            raise DataError("there is no file corpus.txt")
        return {"sha256": "1" if os.getpid() == self.process else "2"}

    def __call__(self, arch):
        return 1.0


def test_a_corpus_that_a_node_cannot_read(cluster):
    said = refused(Ray(workers=1), OnlyHere(os.getpid()))
    assert "cannot be read there (DataError: there is no file corpus.txt)" in said
    there = [(one["NodeID"][:8], one["NodeManagerAddress"]) for one in ray.nodes() if one["Alive"]]
    assert there and all(f"{node} at {address}: " in said for node, address in there), "a host may have several nodes"
    said = refused(Ray(workers=1), OnlyHere(os.getpid(), other=True))
    assert "the text of loss is another one there" in said


def test_a_text_goes_to_nodes_that_have_no_file_of_it(two, tmp_path):
    """It is read here, and taken out of the object store there."""
    text = tmp_path / "only-here.txt"
    text.write_text("".join(f"def f{i}(x):\n    return x + {i * 7 % 13}\n" for i in range(3000)))
    own = ValidationLoss(tokens=2048, data=str(text), evaluation_tokens=512, device="cpu")
    own.corpus()
    text.unlink()
    problem = Problem(TinyGPT, [own, InitialLoss(data=str(text), seeds=1, device="cpu")])
    executor_of(two, 1, problem, "search")
    two.submit("own", problem, TinyGPT.sample(0))
    outcome = two.take()[1]
    assert outcome.state is State.COMPLETE, outcome.reason
    assert outcome.values[own.name] == pytest.approx(own(TinyGPT.sample(0)), rel=1e-6)
    with pytest.raises(DataError):  # a text that is not there either
        executor_of(two, 1, Problem(TinyGPT, [ValidationLoss(tokens=2048, data=str(tmp_path / "none.txt"))]), "search")


def test_a_clock_that_differs(cluster, monkeypatch, caplog):
    monkeypatch.setattr(ray_cluster, "CLOCK_S", -1e9)
    with caplog.at_level(logging.WARNING):
        executor_of(Ray(workers=1), 1, Problem(Small, [loss]), "search")
    assert "the clock of" in caplog.text and "NTP" in caplog.text


def test_values_that_cannot_be():
    with pytest.raises(SearchError, match="num_gpus must be"):
        Ray(num_gpus=-1)
    with pytest.raises(SearchError, match="a worker that needs nothing"):
        Ray(num_cpus=0)
    with pytest.raises(SearchError, match="resources must be"):
        Ray(resources={"pi5": 0})


@pytest.mark.usefixtures("free")
class TestRay(ExecutorTests):
    survives = True

    def executor(self):
        return Ray(workers=1)
