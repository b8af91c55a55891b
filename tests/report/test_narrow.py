"""The pages in a real browser whose window is 400 pixels wide: nothing is wider than the window."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from nas_bo.report import Proxy, page, trust
from nas_bo.report.trust_page import trust_page
from nas_bo.trial import ObjectiveSpec
from tests.report.test_report import LATENCY, LOSS, SIZE, summary
from tests.report.test_trust import world

WIDTH = 400
LONG = "a_label_without_any_place_to_break_" * 4
COLUMN = ObjectiveSpec("speed", "tokens_per_second_and_watt_on_a_small_board", "maximize", "measured")


@pytest.fixture(scope="module")
def browser():
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (binary and driver):
        pytest.skip("needs Chromium and ChromeDriver (Debian: apt-get install chromium chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(word)
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    narrow = {"width": WIDTH, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", narrow)
    yield chrome
    chrome.quit()


def report():
    rng, size, _, truth, reference = world()
    proxies = [
        Proxy(f"ValidationLoss(tokens=1e5, {LONG})", truth + rng.normal(0, 0.02, 24), share=0.25),
        Proxy("noise", rng.normal(size=24), share=0.01),
    ]
    return trust(proxies, reference, size, size * 2)


def whole_page() -> str:
    baselines = [{"label": f"baseline {LONG}", "values": {"val_loss": 3.0, "latency_ms": 9.0, "parameters": 5e5}}]
    s = summary((LOSS, LATENCY, SIZE, COLUMN), trust=report(), validation=report(), baselines=baselines)
    labels = {key: f"{LONG}{i}" for i, key in enumerate(s.labels)}
    return page(replace(s, title=f"A search {LONG}", labels=labels, notes=[f"kept in /{LONG}.db"], facts={LONG: LONG}))


PAGES = {
    "whole": whole_page,
    "plain": lambda: page(summary(trust=report())),
    "trust": lambda: trust_page(report(), LONG),
}

# elements that reach beyond the window and are not in a box that scrolls or cuts
_WIDER = """
const wide = document.documentElement.clientWidth, found = [];
for (const e of document.body.querySelectorAll("*")) {
  const r = e.getBoundingClientRect();
  if (r.width === 0 || r.right <= wide + 1) continue;
  let p = e.parentElement;
  while (p && getComputedStyle(p).overflowX === "visible") p = p.parentElement;
  if (!p) found.push(e.tagName + " " + e.getAttribute("class") + " " + r.right + " " + e.textContent.slice(0, 40));
}
return [document.scrollingElement.scrollWidth, found];
"""


@pytest.mark.browser
@pytest.mark.parametrize("which", PAGES)
def test_nothing_is_wider_than_a_window_of_400_pixels(browser, tmp_path, which):
    file = tmp_path / "page.html"
    file.write_text(PAGES[which](), encoding="utf-8")
    browser.get(file.as_uri())
    assert browser.execute_script("return window.innerWidth") == WIDTH
    dots = browser.find_elements("css selector", ".dot")
    for dot in (dots[0], dots[-1]) if dots else ():
        browser.execute_script("arguments[0].dispatchEvent(new MouseEvent('mouseenter'))", dot)
        scrolled, wider = browser.execute_script(_WIDER)
        assert scrolled <= WIDTH and not wider
    scrolled, wider = browser.execute_script(_WIDER)
    if "NAS_BO_SHOTS" in os.environ:
        high = browser.execute_script("return Math.min(6000, document.scrollingElement.scrollHeight)")
        shot = {"width": WIDTH, "height": high, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", shot)
        browser.save_screenshot(str(Path(os.environ["NAS_BO_SHOTS"]) / f"narrow-{which}.png"))
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {**shot, "height": 900})
    assert scrolled <= WIDTH and not wider
