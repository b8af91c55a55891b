"""With one worker: what ends its process is evaluated in a process of its own when the search continues, and fails alone."""

from __future__ import annotations

import os
import signal

import optuna
import pytest

from tests.processes import python

CODE = """
import sys
from nas_bo import search
from nas_bo.strategies import Random
from tests.problems import *
LOCAL = {"local": lambda arch: crashes(arch)}

class Local:
    name, unit, direction, cost = "local", "", "minimize", "trained"
    def __init__(self):
        self.function = lambda arch: crashes(arch)
    def __call__(self, arch):
        return self.function(arch)

def toy(depth):
    layer = {"mixer": {"kind": "attention", "heads": 1}}
    return Toy.architecture({"depth": depth, "width": 8, "layers": [layer] * depth})

if __name__ == "__main__":
    what, path = sys.argv[1:]
    more = {"trials": 4, "retrain": 0, "storage": path, "strategy": Random(seed=0)}
    if what == "trial":
        search(Toy, [crashes, cost], enqueue=[toy(1), toy(2)], **more)
    elif what == "unsendable":
        search(Toy, [Local(), cost], enqueue=[toy(1), toy(2)], **more)
    elif what == "baseline":
        search(Toy, [crashes, cost], enqueue=[toy(1)], baseline=[toy(2)], **more | {"trials": 1})
    elif what == "retrain":
        search(Toy, [CrashesLarger(), cost], enqueue=[toy(2)], **more | {"retrain": 2, "trials": 1})
"""


def run(tmp_path, what: str, crash: object = "exit"):
    script = tmp_path / "job.py"
    script.write_text(CODE)
    env = {
        **os.environ,
        "NAS_BO_TEST_LOG": str(tmp_path / "log"),
        "NAS_BO_TEST_CRASH": str(crash),
        "PYTHONPATH": os.getcwd(),
    }
    return python(script, what, tmp_path / "s.db", env=env, timeout=300)


def trials(tmp_path):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.load_study(study_name="Toy", storage=f"sqlite:///{tmp_path / 's.db'}").trials


@pytest.mark.parametrize("crash", ["exit", int(signal.SIGSEGV)])
def test_a_trial_that_ends_its_process_fails_when_the_search_continues(crash, tmp_path):
    first = run(tmp_path, "trial", crash)
    assert first.returncode in (9, -signal.SIGSEGV) and len(trials(tmp_path)) == 2
    again = run(tmp_path, "trial", crash)
    assert again.returncode == 0, again.stderr
    assert "trial 1 was being evaluated when the process of its search died" in again.stderr
    found = trials(tmp_path)
    assert [t.state.name for t in found[:2]] == ["COMPLETE", "FAIL"] and len(found) == 4
    assert "died twice" in found[1].user_attrs["nas_bo:reason"]
    evaluated = [line.split()[0] for line in (tmp_path / "log").read_text().splitlines()]
    assert evaluated.count(evaluated[1]) == 2 and evaluated.count(evaluated[0]) == 1


def test_what_cannot_be_evaluated_elsewhere_is_given_up_after_two_deaths(tmp_path):
    for _ in range(2):
        assert run(tmp_path, "unsendable").returncode == 9
    last = run(tmp_path, "unsendable")
    assert last.returncode == 0, last.stderr
    found = trials(tmp_path)
    assert (
        found[1].state.name == "FAIL" and "2 processes that evaluated it died" in found[1].user_attrs["nas_bo:reason"]
    )


@pytest.mark.parametrize("what", ["baseline", "retrain"])
def test_baselines_and_re_trainings_do_not_end_the_search_again_and_again(what, tmp_path):
    assert run(tmp_path, what).returncode == 9
    again = run(tmp_path, what)
    assert again.returncode == 0, again.stderr
    assert "it is evaluated in a process of its own" in again.stderr
    assert [t.state.name for t in trials(tmp_path)] == ["COMPLETE"]
