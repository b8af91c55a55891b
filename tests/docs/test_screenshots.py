"""The screenshots of MLflow and of optuna-dashboard in the docs: a real search in a real browser.

NAS_BO_SHOTS=docs/pictures pytest -n 0 -m slow tests/docs/test_screenshots.py
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from nas_bo import search
from nas_bo.cli.dashboard import opened
from nas_bo.mlflow import open_ui
from nas_bo.mlflow.server import _free_port
from nas_bo.objectives import Parameters, ValidationLoss
from nas_bo.optuna.dashboard import serve
from nas_bo.search_spaces import TinyGPT
from nas_bo.strategies import Random
from tests.doors.test_mlflow_server import browser, wait_for

__all__ = ["browser"]  # a fixture
ROOT = Path(__file__).parents[2]
SHOTS = ("mlflow-front.png", "mlflow-trial.png", "dashboard-study.png")
CLOSE = "button[aria-label='Close']"


@pytest.mark.slow
@pytest.mark.browser
def test_what_a_user_sees_of_a_search(browser, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("NAS_BO_SPOOL", str(tmp_path / "spool"))
    folder = Path(os.environ.get("NAS_BO_SHOTS", tmp_path)).resolve()
    storage, store = str(tmp_path / "study.db"), f"sqlite:///{tmp_path}/mlflow.db"
    objectives = [ValidationLoss(tokens=4_000, evaluation_tokens=4_096), Parameters()]
    found = search(TinyGPT, objectives, strategy=Random(seed=0), trials=24, storage=storage, track=store, retrain=0)
    front = [trial.number for trial in found.front]
    assert 2 <= len(front) < 24

    def text() -> str:
        return browser.find_element("tag name", "body").text

    browser.set_window_size(1500, 900)
    with open_ui(store, _free_port()) as ui:
        browser.get(ui.front("TinyGPT"))
        points = ".js-plotly-plot .scatterlayer .point, .js-plotly-plot .scatterlayer path.point"
        wait_for(lambda: len(browser.find_elements("css selector", points)) >= 24)
        for button in browser.find_elements(
            "css selector", CLOSE
        ):  # the assistant of MLflow, which hides a third of the page
            button.click()
        fills = {dot.value_of_css_property("fill") for dot in browser.find_elements("css selector", points)}
        assert len(fills) >= 2  # the front is told from the rest
        browser.save_screenshot(str(folder / SHOTS[0]))
        best = min(front)
        link = wait_for(
            lambda: [a for a in browser.find_elements("tag name", "a") if a.text.startswith(f"{best:03d} ")]
        )[0]
        link.click()
        wait_for(lambda: "obj/bits_per_byte" in text() or "obj/val_loss" in text())
        browser.save_screenshot(str(folder / SHOTS[1]))
    browser.set_window_size(1500, 1300)
    with serve(*opened(storage), tmp_path / "artifacts", 0) as address:
        browser.get(address + "studies/1")
        wait_for(lambda: "Pareto Front" in text() and "parameters" in text())
        wait_for(lambda: len(browser.find_elements("css selector", ".js-plotly-plot .scatterlayer path.point")) >= 24)
        time.sleep(2)  # it is laid out, wider than the window where a learning curve is among the charts
        browser.execute_script("document.documentElement.style.overflow = 'hidden'")
        browser.save_screenshot(str(folder / SHOTS[2]))


@pytest.mark.parametrize("name", SHOTS)
def test_the_docs_show_them(name: str) -> None:
    picture = ROOT / "docs" / "pictures" / name
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert any(f"pictures/{name}" in page.read_text() for page in (ROOT / "docs").rglob("*.md"))
