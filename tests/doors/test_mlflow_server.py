"""A real MLflow server on loopback, and a real browser in front of it."""

from __future__ import annotations

import math
import os
import shutil
import socket
import time
from pathlib import Path

import pytest

from nas_bo.errors import HostError
from nas_bo.mlflow import Tracker, open_ui
from nas_bo.mlflow.server import _free_port
from nas_bo.report import Summary, page
from nas_bo.trial import ObjectiveSpec
from tests.doors.test_mlflow import Store, ours
from tests.doors.test_mlflow_content import add, our_study
from tests.report.test_importance import Layered, trials
from tests.report.test_report import LATENCY, LOSS, SIZE, summary


@pytest.fixture(scope="module")
def studies():
    """One logged while the server is down, one through it."""
    return ours(6), our_study("through the server")


@pytest.fixture(scope="module")
def ui(studies, tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    folder = tmp_path_factory.mktemp("server")
    patch.setenv("NAS_BO_SPOOL", str(folder / "spool"))  # by default it is in the current folder
    uri, port = f"sqlite:///{folder}/mlflow.db", _free_port()
    waiting = Tracker(uri=f"http://127.0.0.1:{port}", timeout=5)
    for trial in studies[0].trials:
        waiting.log(studies[0], trial)  # nobody answers yet
    assert len(waiting.pending) == 6
    with open_ui(uri, port) as ui:
        waiting.finish(studies[0])
        assert waiting.pending == []
        yield ui
    patch.undo()
    assert ui.process.poll() is not None
    with socket.socket() as probe:  # its workers have ended as well
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_what_waited_for_the_server_is_there_once(ui, studies):
    store = Store(ui.base)
    assert [r.data.tags["nas.trial"] for r in store.runs("Tiny", "trial")] == [f"{i:03d}" for i in range(6)]
    tracker = Tracker(uri=ui.base)
    tracker.check()
    assert tracker.log_study(studies[0]) == 0
    assert "arch.json" in store.files(store.runs("Tiny", "trial")[0])
    parent = store.runs("Tiny", "study")[0]
    assert "report/pareto.html" in store.files(parent, "report") and parent.info.status == "FINISHED"


def test_a_trial_takes_six_requests_and_prints_nothing(ui, studies, monkeypatch, capsys):
    import mlflow.utils.rest_utils as rest

    tracker, study = Tracker(uri=ui.base, experiment="Requests"), studies[1]
    add(study, 1, 2.5)
    tracker.log(study, study.trials[-1])  # makes experiment, parent and view
    assert tracker.flush()
    calls: list[str] = []
    real = rest._get_http_response_with_retries
    monkeypatch.setattr(rest, "_get_http_response_with_retries", lambda *a, **k: calls.append(a[1]) or real(*a, **k))
    add(study, 2, 2.4)
    tracker.log(study, study.trials[-1])
    assert tracker.flush() and tracker.pending == [] and 0 < len(calls) <= 6, calls
    calls.clear()
    add(study, 3, 2.3, curve=[[k, 5.0] for k in range(1000)])  # more than MLflow takes of a curve
    tracker.log(study, study.trials[-1])
    assert tracker.flush() and tracker.pending == [] and 0 < len(calls) <= 6, calls
    assert capsys.readouterr().out == ""


def test_the_ui_says_where_its_front_is(ui, studies):
    front = ui.front("Tiny")
    assert front.startswith(ui.base) and front == Tracker(uri=ui.base).url(studies[0])
    assert ui.front("no such experiment") == ui.base


def test_a_port_in_use_and_a_store_that_cannot_be_are_said(ui, tmp_path):
    with pytest.raises(HostError, match="is in use"):
        open_ui(tmp_path / "mlflow.db", int(ui.base.rsplit(":", 1)[1]))
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError, match="cannot be written"):
        open_ui(tmp_path / "file" / "mlflow.db", 0)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (binary and driver):
        pytest.skip("needs Chromium and ChromeDriver (Debian: apt-get install chromium chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"]
    profile = tmp_path_factory.mktemp("profile")
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", *quiet, "--window-size=1600,1000"):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={profile}")
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


@pytest.fixture
def shot(browser, request, tmp_path):
    """Saves what the browser shows; to the folder NAS_BO_SHOTS if that is set."""
    folder = Path(os.environ.get("NAS_BO_SHOTS", tmp_path))
    yield lambda name: browser.save_screenshot(str(folder / f"{name}.png"))


def wait_for(test, seconds: float = 240.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if found := test():
                return found
        except Exception:  # the page is being drawn again
            pass
        time.sleep(0.3)
    raise AssertionError("the page did not show what was waited for")


@pytest.mark.browser
def test_the_link_opens_on_the_front(ui, browser, shot):
    browser.get(ui.front("Tiny"))
    points = ".js-plotly-plot .scatterlayer .point, .js-plotly-plot .scatterlayer path.point"
    wait_for(lambda: len(browser.find_elements("css selector", points)) >= 6)
    wait_for(lambda: "005 d" in browser.find_element("tag name", "body").text)
    text = browser.find_element("tag name", "body").text
    shot("shared_view")
    assert "Pareto front" in text and "6 matching runs" in text and "obj/latency_ms" in text


@pytest.mark.browser
def test_the_parent_shows_the_result_and_the_report(ui, browser, shot):
    store = Store(ui.base)
    parent = store.runs("Tiny", "study")[0]
    base = f"{ui.base}/#/experiments/{parent.info.experiment_id}/runs/{parent.info.run_id}"
    browser.get(base)
    wait_for(lambda: "6 Pareto points of 6 trials" in browser.find_element("tag name", "body").text)
    shot("parent")
    browser.get(f"{base}/artifacts/report/pareto.html")
    wait_for(lambda: browser.find_elements("css selector", "iframe"))
    time.sleep(2)
    browser.switch_to.frame(browser.find_element("css selector", "iframe"))
    try:
        wait_for(lambda: len(browser.find_elements("css selector", "[data-dot]")) == 6)
    finally:
        browser.switch_to.default_content()
    shot("artifact")


@pytest.mark.browser
def test_the_report_draws_hovers_highlights_and_sorts(browser, shot, tmp_path):
    from selenium.webdriver.common.action_chains import ActionChains

    s = summary((LOSS, LATENCY, SIZE))
    again = [{"id": t.architecture.id, "values": {"val_loss": t.values["val_loss"] - 0.1}} for t in s.front()]
    baselines = [{"label": "plain GPT", "values": {"val_loss": 3.5, "latency_ms": 12.0, "parameters": 1e6}}]
    file = tmp_path / "report.html"
    file.write_text(page(Summary(s.title, s.columns, s.trials, s.labels, again, baselines=baselines)), encoding="utf-8")
    browser.get(file.as_uri())

    def find(query: str) -> list:
        return browser.find_elements("css selector", query)

    assert len(find("[data-dot]")) == 20 and len(find(".dot.knee[data-dot]")) == 1 and len(find(".limit")) == 1
    dot = find(".dot.front[data-dot]")[0]
    ActionChains(browser).move_to_element(dot).perform()
    tip = find(".tip")[0]
    assert tip.is_displayed() and "trial" in tip.text and "val_loss [nats]" in tip.text and "parameters" in tip.text
    row = find("tr[data-i]")[1]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", row)
    row.click()
    assert [d.get_attribute("data-dot") for d in find(".dot.on")] == [row.get_attribute("data-i")]
    table = find("section:nth-of-type(2) table")[0]
    head = table.find_elements("css selector", "th")[3]
    head.click()
    shown = [c.get_attribute("data-v") for c in table.find_elements("css selector", "tbody td:nth-child(4)")]
    assert [float(v) for v in shown] == sorted(float(v) for v in shown)
    select = find(".pick select")[0]
    browser.execute_script("arguments[0].value = '2'; arguments[0].dispatchEvent(new Event('change'))", select)
    assert "parameters" in find("#plot > svg")[0].text
    browser.execute_script("scrollTo(0, 0)")
    shot("report")
    errors = [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert [text for text in errors if "report.html" in text] == []


@pytest.mark.browser
def test_a_trial_of_the_front_opens_with_its_drawing_how_it_was_measured_and_its_curve(ui, browser, shot):
    store = Store(ui.base)
    trial = store.runs("Tiny", "trial")[5]
    assert trial.data.tags["nas.pareto"] == "true"
    base = f"{ui.base}/#/experiments/{trial.info.experiment_id}/runs/{trial.info.run_id}"
    browser.get(base)
    wait_for(lambda: "measured; device cpu; repeats 9" in browser.find_element("tag name", "body").text)
    shot("trial")
    browser.get(f"{base}/artifacts/arch.svg")
    drawn = "return [...document.querySelectorAll('img')].filter(i => i.naturalWidth > 500).map(i => i.naturalWidth)"
    assert set(wait_for(lambda: browser.execute_script(drawn))) == {860}
    shot("drawing")
    browser.get(f"{base}/model-metrics")
    search = wait_for(lambda: browser.find_elements("css selector", "input[placeholder='Search metric charts']"))[0]
    search.send_keys("train/loss")
    line = ".js-plotly-plot .scatterlayer path.js-line"
    curve = wait_for(lambda: browser.find_elements("css selector", line))[0]
    points = [tuple(map(float, p.split(","))) for p in curve.get_attribute("d").lstrip("M").split("L")]
    assert points[-1][0] - points[0][0] > 100 and points[-1][1] - points[0][1] > 50  # it falls from 5.0 to 2.1
    shot("curve")


@pytest.mark.browser
def test_the_report_has_drawings_importance_and_lines_that_lead_to_their_trial(browser, shot, tmp_path):
    history = trials(Layered, lambda a: -math.log(a.width) - 0.1 * a.depth, 40, noise=0.01)
    columns = [ObjectiveSpec("loss", "nats"), ObjectiveSpec("cost", "ms")]
    baselines = [{"label": "plain GPT", "values": {"loss": -3.0, "cost": 9.0}}]
    s = Summary("Importance", columns, history, space=Layered, baselines=baselines)
    file = tmp_path / "importance.html"
    file.write_text(page(s), encoding="utf-8")
    browser.get(file.as_uri())

    def find(query: str) -> list:
        return browser.find_elements("css selector", query)

    assert len(find("[data-wire]")) == 40 and len(find(".dot.base")) == 2  # in the picture and in its key
    opened = [d for d in find("details") if d.get_attribute("open")]
    assert len(opened) == 1 and opened[0].find_element("css selector", "svg").size["width"] > 500
    folded = next(d for d in find("details") if not d.get_attribute("open"))
    folded.find_element("css selector", "summary").click()
    assert folded.find_element("css selector", "svg").is_displayed()
    bars = find("rect.alone")
    assert bars and max(b.size["width"] for b in bars) > 200
    wire = find("[data-wire]")[-1]
    browser.execute_script("arguments[0].dispatchEvent(new MouseEvent('click', {bubbles: true}))", wire)
    (row,) = {r.get_attribute("data-i") for r in find("tr.on")}
    assert row == wire.get_attribute("data-wire") and find(".dot.on")
    browser.execute_script("document.querySelector('[data-wire]').scrollIntoView({block: 'center'})")
    shot("importance")
    errors = [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert [text for text in errors if "importance.html" in text] == []
