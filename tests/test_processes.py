"""A forked Python behaves as one that was started: arguments, folder, environment, streams, exit codes, signals."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.processes import Python, python


def test_it_has_its_arguments_folder_environment_and_streams(tmp_path):
    code = "import os, sys; print(sys.argv[1:], os.getcwd(), os.environ['A'], sys.path[1], input()); sys.exit(3)"
    done = python("-c", code, "x", 7, cwd=tmp_path, env={"A": "b", "PYTHONPATH": "/u"}, input="hello\n")
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout == f"['x', '7'] {tmp_path} b /u hello\n"


@pytest.mark.parametrize("env", [None, {"PYTHONHASHSEED": "1"}])
def test_its_end_is_that_of_an_interpreter(env, tmp_path):
    (tmp_path / "script.py").write_text("import atexit; atexit.register(print, 'ended'); raise ValueError(__file__)")
    done = python("script.py", cwd=tmp_path, env=env)
    assert (
        done.returncode == 1
        and done.stdout == "ended\n"
        and "ValueError: script.py" in done.stderr.replace(f"{tmp_path}/", "")
    )
    assert python("-c", "raise SystemExit('why')", env=env).stderr == "why\n"
    with pytest.raises(subprocess.CalledProcessError):
        python("-c", "1 / 0", env=env, check=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_signals_reach_its_group(number):
    code = "import time; print('ready', flush=True); time.sleep(600)"
    with Python("-c", code, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout.readline() == "ready\n" and process.poll() is None
        os.killpg(process.pid, number)
    assert process.returncode == -number
