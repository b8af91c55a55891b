"""How the process of a command ends."""

from tests.processes import python

MAKING = """
import sys, tempfile, threading, time, weakref
from pathlib import Path
from nas_bo.cli.failure import end

class Thing: pass

sys.setswitchinterval(1e-6)
kept, folder = [], tempfile.TemporaryDirectory(dir=sys.argv[1])
for _ in range(20_000):
    kept.append(Thing())
    weakref.finalize(kept[-1], int).atexit = True

def make():
    while len(kept) < 200_000:
        kept.append(Thing())
        weakref.finalize(kept[-1], int)
        time.sleep(1e-5)

threading.Thread(target=make, daemon=True).start()
end(3)
"""


def test_what_a_thread_registers_while_the_process_ends_is_no_error(tmp_path):
    for _ in range(3):
        done = python("-c", MAKING, str(tmp_path), cwd=tmp_path)
        assert done.returncode == 3 and done.stderr == "", done.stderr
        assert not list(tmp_path.iterdir()), "temporary folders are removed"
