"""Ctrl-C at every moment: what is said, what is kept, and exit code 130. Real processes, real signals, whole groups."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.command import QUICK, environment, mine, nas_bo
from tests.processes import Python

# A function of nas_bo that says by a file that it has begun, and takes long then: no signal can be timed otherwise.
HELD = """
import sys, time
import {module} as module
def held(*args, **more):
    open("reached", "w").close()
    time.sleep(600)
{target} = held
from nas_bo.cli.app import main
sys.argv = ["nas-bo", *sys.argv[1:]]
if __name__ == "__main__":
    main()
"""


def begun(folder: Path, *args: str, held: tuple[str, str] | None = None) -> subprocess.Popen[str]:
    command = ["-m", "nas_bo"]
    if held is not None:
        (folder / "held.py").write_text(HELD.format(module=held[0], target=held[1]))
        command = ["held.py"]
    return Python(
        *command, *args, cwd=folder, env=environment(), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_for(folder: Path, pattern: str, process: subprocess.Popen[str]) -> None:
    deadline = time.time() + 300
    while not list(folder.glob(pattern)):
        assert process.poll() is None and time.time() < deadline, process.communicate()
        time.sleep(0.02)


def interrupted(process: subprocess.Popen[str]) -> tuple[str, str]:
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130, (process.returncode, out, err)
    assert "Traceback" not in err and "Aborted" not in err, err
    return out, err


def test_before_the_search_began(tmp_path):
    (tmp_path / "late.py").write_text("import time\nopen('reached', 'w').close()\ntime.sleep(600)\n")
    process = begun(tmp_path, "search", "--space", "late.py:Late", "--mlflow", "none")
    wait_for(tmp_path, "reached", process)
    _, err = interrupted(process)
    assert err == "nas-bo: interrupted before the search began; the same command starts it\n"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_once_while_it_searches_is_a_report(workers, tmp_path):
    mine(tmp_path)
    args = ["search", *QUICK[:2], "--objective", "mine.py:slow", "--workers", workers, "--retrain", "0", "--trials"]
    assert nas_bo(*args, "3", "--mlflow", "none", cwd=tmp_path).returncode == 0
    (tmp_path / "slow").touch()
    for file in tmp_path.glob("began-*"):
        file.unlink()
    process = begun(tmp_path, *args, "6", "--mlflow", "none")
    wait_for(tmp_path, "began-*", process)
    out, err = interrupted(process)
    assert "The search was interrupted; the same call continues it." in out and "before the search began" not in err
    assert (tmp_path / "nas-bo-out" / "Mine" / "front.html").exists()


def test_while_workers_start_none_of_them_prints_a_traceback(tmp_path):
    mine(tmp_path)
    process = begun(tmp_path, "search", *QUICK, "--workers", "2", "--trials", "400", "--mlflow", "none")
    assert process.stderr is not None
    assert process.stderr.readline().startswith("searching Mine with 2 workers")
    interrupted(process)


@pytest.mark.parametrize(
    ("held", "tracked"),
    [
        (("nas_bo.workflows.result", "module.Result.save"), False),
        (("nas_bo.workflows.search", "module.load_result"), False),
        (("nas_bo.mlflow.tracker", "module.Tracker.finish"), True),
    ],
)
def test_while_the_report_is_made_says_what_is_kept(held, tracked, tmp_path):
    mine(tmp_path)
    more = ["--mlflow", "mlflow.db" if tracked else "none", "--trials", "3", "--study", "it"]
    process = begun(tmp_path, "search", *QUICK, *more, held=held)
    wait_for(tmp_path, "reached", process)
    _, err = interrupted(process)
    assert "before the search began" not in err
    assert "every trial that ended is kept in nas-bo.db" in err and "`nas-bo report nas-bo.db --study it`" in err
    made = nas_bo("report", "nas-bo.db", "--study", "it", cwd=tmp_path)
    assert made.returncode == 0 and "height" in made.stdout


def test_twice_says_what_is_kept(tmp_path):
    """The first one while it searches, the second one while the report of that is made."""
    mine(tmp_path)
    (tmp_path / "slow").touch()
    args = ["search", *QUICK[:2], "--objective", "mine.py:slow", "--workers", "1", "--trials", "6", "--mlflow", "none"]
    process = begun(tmp_path, *args, held=("nas_bo.workflows.result", "module.Result.save"))
    wait_for(tmp_path, "began-*", process)
    os.killpg(process.pid, signal.SIGINT)
    wait_for(tmp_path, "reached", process)
    _, err = interrupted(process)
    assert "before the search began" not in err and "every trial that ended is kept in nas-bo.db" in err


def test_while_a_report_is_written_again(tmp_path):
    assert nas_bo("search", *QUICK, "--trials", "3", "--mlflow", "none", cwd=mine(tmp_path)).returncode == 0
    process = begun(tmp_path, "report", held=("nas_bo.workflows.result", "module.Result.save"))
    wait_for(tmp_path, "reached", process)
    assert "the same command writes it again" in interrupted(process)[1]


def test_while_tell_waits_for_its_input(tmp_path):
    asked = nas_bo("ask", "--objective", "height", cwd=tmp_path)
    assert asked.returncode == 0
    process = begun(tmp_path, "tell")
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write('{"number": 0, "values": {"height": 2}}\n')
    process.stdin.flush()
    assert '"complete"' in process.stdout.readline()
    assert interrupted(process)[1] == "nas-bo: interrupted\n"


def test_before_and_while_it_validates(tmp_path):
    (tmp_path / "late.py").write_text("import time\nopen('reached', 'w').close()\ntime.sleep(600)\n")
    process = begun(tmp_path, "validate", "--space", "late.py:Late")
    wait_for(tmp_path, "reached", process)
    assert "before the validation began" in interrupted(process)[1]
    (tmp_path / "reached").unlink()
    process = begun(tmp_path, "validate", held=("nas_bo.workflows.validate", "module._evaluate"))
    wait_for(tmp_path, "reached", process)
    assert "what was evaluated is kept, and the same command continues" in interrupted(process)[1]


def test_while_the_process_ends(tmp_path):
    """Nothing but waiting for MLflow is left then."""
    mine(tmp_path)
    (tmp_path / "mine.py").write_text((tmp_path / "mine.py").read_text() + (
        "\nimport atexit, multiprocessing\n"
        "def ending():\n    open('reached', 'w').close()\n    time.sleep(600)\n"
        "atexit.register(ending)\n"
    ))  # fmt: skip
    process = begun(tmp_path, "search", *QUICK, "--trials", "3", "--mlflow", "none")
    wait_for(tmp_path, "reached", process)
    out, _ = interrupted(process)
    assert "height" in out
