"""What a search warns of is seen: at once, short, on stderr, and at the end in a list; what is not in MLflow is an exit code."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import subprocess
import sys

import pytest

from nas_bo.cli.warnings_shown import Warned
from nas_bo.execution.worker_warnings import Heard
from tests.command import QUICK, environment, mine, nas_bo
from tests.processes import Python

SEEN = ("the battery of board ", "the sensor was read ", "my own logger complains")
COMPLAINING = ["--space", "mine.py:Mine", "--objective", "mine.py:complaining", "--retrain", "0", "--mlflow", "none"]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_warnings_of_objectives_come_once_and_again_at_the_end(workers, tmp_path):
    done = nas_bo("search", *COMPLAINING, "--workers", workers, "--trials", "4", cwd=mine(tmp_path))
    assert done.returncode == 0, done.stderr
    at_once, _, listed = done.stderr.partition("3 warnings:\n")
    for text in SEEN:
        assert at_once.count(text) == 1 and f"nas-bo: warning: {text}" in at_once, done.stderr
        assert listed.count(f"* {text}") == 1 and "(and 3 more like this)" in listed
    assert "nobody wants" not in done.stderr and "battery" not in done.stdout and "mine.py:" not in done.stderr


@pytest.mark.parametrize("terminal", [False, True])
def test_only_a_terminal_where_something_is_drawn_gets_the_beginning_of_a_long_warning(terminal, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    made = Warned()
    made.listed = True
    made.take(Heard("a sensor " * 30 + "at the end", "mine.py", 1))
    at_once = capsys.readouterr().err.strip()
    assert at_once.endswith("…" if terminal else "at the end")
    made.say_again()
    assert capsys.readouterr().err.strip().endswith("at the end")


def test_warnings_are_a_key_of_the_json(tmp_path):
    done = nas_bo("search", *COMPLAINING, "--workers", "2", "--trials", "4", "--json", cwd=mine(tmp_path))
    told = json.loads(done.stdout)["warnings"]
    assert len(told) == 3 and all(any(w.startswith(s) for w in told) for s in SEEN)
    assert all(f"nas-bo: warning: {text}" in done.stderr for text in SEEN)
    again = nas_bo("report", "nas-bo.db", "--json", cwd=tmp_path)
    assert json.loads(again.stdout)["warnings"] == [] and "warning" not in again.stderr


def test_the_end_of_a_space_is_said(tmp_path):
    done = nas_bo("search", *QUICK, "--trials", "30", "--mlflow", "none", cwd=mine(tmp_path))
    assert "nas-bo: warning: the space is exhausted after 9 trials" in done.stderr


def test_warnings_stand_above_the_live_display(tmp_path):
    leader, follower = pty.openpty()
    args = ["search", *COMPLAINING, "--workers", "2", "--trials", "4"]
    process = Python(
        "-m", "nas_bo", *args, cwd=mine(tmp_path), stdout=subprocess.PIPE, stderr=follower,
        env=environment(TERM="xterm", COLUMNS="200"),
    )  # fmt: skip
    os.close(follower)
    shown = b""
    while True:
        try:
            read = os.read(leader, 65536)
        except OSError:  # the other end is closed
            break
        if not read:
            break
        shown += read
    assert process.wait() == 0
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode()).replace("\r", "\n").splitlines()
    for text in SEEN:  # each on a line of its own: the display has made room for it
        assert sum(line.startswith(f"nas-bo: warning: {text}") for line in lines) == 1, lines
        assert sum(line.startswith(f"* {text}") for line in lines) == 1, lines


def test_what_is_not_in_mlflow_is_said_with_the_command_that_mends_it(tmp_path):
    from mlflow.tracking import MlflowClient

    mine(tmp_path)
    assert nas_bo("search", *QUICK, "--trials", "3", cwd=tmp_path).returncode == 0
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "Mine"]
    client.delete_experiment(experiment.experiment_id)
    done = nas_bo("search", *QUICK, "--trials", "5", cwd=tmp_path)
    mend = "nas-bo mlflow sync nas-bo.db --mlflow mlflow.db"
    assert done.returncode == 4, (done.stdout, done.stderr)
    assert f"logs them: {mend}" in done.stdout and "2 trials and the report are not in MLflow" in done.stdout
    assert "nas-bo ui" not in done.stdout and "http://127.0.0.1" not in done.stdout
    assert "nas-bo: warning: MLflow at" in done.stderr and "deleted" in done.stderr and mend in done.stderr
    told = json.loads(nas_bo("search", *QUICK, "--trials", "5", "--json", cwd=tmp_path).stdout)
    assert told["not_tracked"]["command"] == mend and told["warnings"]

    client.restore_experiment(experiment.experiment_id)
    mended = nas_bo(*shlex.split(mend)[1:], cwd=tmp_path)
    assert mended.returncode == 0, mended.stderr
    runs = client.search_runs([experiment.experiment_id], "tags.`nas.kind` = 'trial'")
    assert len(runs) == 5
    assert nas_bo("search", *QUICK, "--trials", "5", cwd=tmp_path).returncode == 0


def test_a_spool_that_cannot_be_written_is_said(tmp_path):
    done = nas_bo("search", *QUICK, "--trials", "3", cwd=mine(tmp_path), NAS_BO_SPOOL="/proc/nowhere")
    assert done.returncode == 0 and "trials cannot be kept in /proc/nowhere" in done.stderr, done.stderr


def test_warnings_of_one_kind_count_as_one_also_from_threads():
    import logging
    from threading import Thread

    from nas_bo.cli.warnings_shown import collecting

    with collecting() as warned:
        threads = [
            Thread(target=logging.getLogger("nas_bo.x").warning, args=("no surrogate at trial %d", n))
            for n in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(warned.texts) == 1 and warned.texts[0].endswith("(and 19 more like this)")
