"""The notebook of the first search runs as a whole in a real kernel, and shows what it should; progress outside of a notebook is lines."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from nas_bo import NotebookProgress
from nas_bo.search_spaces import TinyGPT
from nas_bo.trial import State, Trial
from nas_bo.workflows.progress import Progress
from tests.fork_server import SHORT
from tests.processes import python

NOTEBOOK = Path(__file__).parents[1] / "examples" / "first_search.ipynb"


def test_the_notebook_runs_and_shows_the_front(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient").NotebookClient
    pytest.importorskip("ipykernel")
    made = nbformat.read(NOTEBOOK, 4)
    assert not any(cell.get("outputs") for cell in made.cells), "commit it without outputs"
    path = os.pathsep.join([str(NOTEBOOK.parents[1]), os.environ.get("PYTHONPATH", "")])
    client(made, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute(
        env={**os.environ, "PYTHONPATH": path, "NAS_BO_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    )
    shown = {cell.source.splitlines()[-1]: cell.outputs for cell in made.cells if cell.cell_type == "code"}
    (result,) = shown["result"]
    assert result.data["text/html"].startswith("<svg") and result.data["text/html"].count("<title>trial ") == 10
    progress = [one.data["text/html"] for one in shown[")"] if "text/html" in one.get("data", {})]
    assert "<progress" in progress[-1] and "10 of 10" in progress[-1]
    assert (tmp_path / "first.db").exists() and (tmp_path / "winner" / "model.json").exists()
    assert not any(one.output_type == "error" for outputs in shown.values() for one in outputs)


def test_its_cells_run_as_a_program(tmp_path):
    """Every day; the kernel starts at night (`nightly.py`)."""
    cells = [one["source"] for one in json.loads(NOTEBOOK.read_text())["cells"] if one["cell_type"] == "code"]
    lines = [line for cell in cells for line in [*"".join(cell).splitlines(), ""] if not line.lstrip().startswith("%")]
    shown = 'assert result._repr_html_().startswith("<svg") and result._repr_html_().count("<title>trial ") == 10'
    env = {**os.environ, "PYTHONPATH": str(NOTEBOOK.parents[1]), "OMP_NUM_THREADS": "1", SHORT: "1"}
    done = python("-c", "\n".join([*lines, shown]), cwd=tmp_path, env=env, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "first.db").exists() and (tmp_path / "winner" / "model.json").exists()


def _progress(done: int) -> Progress:
    arch = TinyGPT.sample(0)
    trial = Trial(arch, {"loss": 2.5}, {}, State.COMPLETE, "", {}, 3)
    return Progress("search", done, 10, 61.0, trial, "a=<1>", [trial] * 12)


def test_progress_outside_of_a_notebook_is_a_line_for_each_trial(capsys):
    shown = NotebookProgress()
    shown(_progress(1))
    assert capsys.readouterr().err == "searching: 1 of 10, 1:01 left; last a=<1>; front of 12 architectures\n"


def test_progress_is_written_over_and_has_nothing_of_a_name_as_markup():
    pages: list[str] = []
    shown = NotebookProgress(pages.append)
    for done in range(11):
        shown(_progress(done))
    assert '<progress value="0" max="10"' in pages[0] and '<progress value="10" max="10"' in pages[-1]
    assert "a=&lt;1&gt;" in pages[-1] and "and 4 more" in pages[-1] and len(pages) < 11
