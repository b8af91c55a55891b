"""What a coding agent does overnight, scripted: it edits the settings of a training script within limits, runs it, and reports what came out.

The scripted agent uses `nas-bo ask`, `tell` and `report` and nothing else; the training script, `agent_train.py`, does not use
nas_bo at all. Memory is computed before anything is run, so no run is lost to it. See docs/agents.md.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("agent_train.py").read_text()

SPACE = '''
from nas_bo import Space, choice, integer, real

class Settings(Space):
    depth = integer(1, 4)
    width = choice(32, 64, 128, 256)
    batch = choice(4, 8, 16, 32)
    lr = real(1e-4, 1e-1, log=True)

def peak_mb(settings):
    """Weights, gradients and two moments of AdamW, and activations."""
    weights = 512 * settings.width + settings.depth * settings.width**2
    return (16 * weights + 4 * settings.batch * 32 * (2 * settings.depth * settings.width + 512)) / 1e6

peak_mb.cost, peak_mb.unit = "analytic", "MB"
'''

PYTHON = os.environ.get("PYTHON", sys.executable)  # runs the script
FIRST = ["--space", "space.py:Settings", "--objective", "val_bpb", "--at-most", "space.py:peak_mb=4"]
ALLOWED = ["--allow", "space.py"]  # the study names it; whoever opens the study says that it may be imported


def nas_bo(*words: str, stdin: str = "") -> list[dict]:
    """The documents that a command prints."""
    done = subprocess.run(["nas-bo", *words, "--json"], input=stdin, capture_output=True, text=True, check=True)
    return (
        [json.loads(done.stdout)] if words[0] == "report" else [json.loads(line) for line in done.stdout.splitlines()]
    )


def edited(script: str, settings: dict) -> str:
    """The script with these settings in its first lines; nothing else may be changed."""
    for name, value in settings.items():
        script, count = re.subn(rf"^{name.upper()} = .*$", f"{name.upper()} = {value!r}", script, count=1, flags=re.M)
        assert count == 1, name
    return script


def run(settings: dict) -> dict:
    """What one run gave: the value that it printed, or why there is none."""
    Path("train.py").write_text(edited(SCRIPT, settings))
    done = subprocess.run([PYTHON, "train.py"], capture_output=True, text=True, timeout=300)
    found = re.search(r"^val_bpb: ([\d.]+)$", done.stdout, re.M)
    if found is None:
        return {"failed": (done.stderr.strip().splitlines() or ["it printed no val_bpb"])[-1]}
    return {"values": {"val_bpb": float(found[1])}}


Path("space.py").write_text(SPACE)
for begin in (FIRST, ALLOWED):
    outcomes = []
    for asked in nas_bo("ask", "--storage", "agent.db", *begin, "--count", "3"):
        outcomes.append({**asked, **run(asked["architecture"]["flat"])})
        print(asked["number"], asked["architecture"]["flat"], asked["known"], outcomes[-1].get("values"), flush=True)
    nas_bo("tell", "--storage", "agent.db", *ALLOWED, stdin="\n".join(map(json.dumps, outcomes)))
(found,) = nas_bo("report", "agent.db")
best = next(one for one in found["front"] if one["trial"] == found["knee"])
assert found["trials"] == 6 and found["failed"] == found["infeasible"] == 0
print("best", best["values"], best["architecture"])
Path("train.py").write_text(edited(SCRIPT, best["architecture"]))
