"""The real optuna-dashboard on a study of ours: what its HTTP API says, and what a browser shows."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
import urllib.error
import urllib.request

import optuna
import pytest
from typer.testing import CliRunner

pytest.importorskip("optuna_dashboard")

from nas_bo import search
from nas_bo.cli.app import app
from nas_bo.cli.dashboard import opened
from nas_bo.errors import HostError
from nas_bo.objectives import Parameters
from nas_bo.optuna.dashboard import serve
from nas_bo.search_spaces import TinyGPT
from nas_bo.strategies import Random

optuna.logging.set_verbosity(optuna.logging.ERROR)


def loss(arch) -> float:
    return 4.0 - 0.2 * len(arch.layers) - arch.width / 100


def ms(arch) -> float:
    return 1.0 * len(arch.layers)


ms.at_most = 3.0


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dashboard")
    storage = str(folder / "a.db")
    search(TinyGPT, [loss, ms], strategy=Random(seed=0), trials=8, storage=storage, retrain=0)
    optuna.create_study(study_name="foreign", storage=f"sqlite:///{storage}").optimize(
        lambda trial: trial.suggest_float("x", 0, 1), n_trials=2
    )
    with serve(*opened(storage), folder / "artifacts", 0) as address:
        yield address, storage


def get(url: str):
    with urllib.request.urlopen(url, timeout=120) as answer:
        return answer.read()


def detail(address: str, name: str) -> tuple[int, dict]:
    base = address.removesuffix("/dashboard/")
    summaries = json.loads(get(f"{base}/api/studies"))["study_summaries"]
    (number,) = [s["study_id"] for s in summaries if s["study_name"] == name]
    return number, json.loads(get(f"{base}/api/studies/{number}"))


def test_metric_names_constraints_and_artifacts(served) -> None:
    address, storage = served
    number, told = detail(address, "TinyGPT")
    assert told["objective_names"] == ["loss", "ms"] and told["directions"] == ["minimize", "minimize"]
    study = optuna.load_study(study_name="TinyGPT", storage=f"sqlite:///{storage}")
    names = list(study.trials[0].constraints)
    assert "ms<=3" in names
    broken = 0
    for shown, trial in zip(told["trials"][:8], study.trials[:8], strict=True):
        assert shown["constraints"] == list(trial.constraints.values())
        broken += shown["constraints"][names.index("ms<=3")] > 0
        files = [a["filename"] for a in shown["artifacts"]]
        assert sorted(files) == ["architecture.json", "architecture.svg"]
    assert 0 < broken < 8
    base = address.removesuffix("/dashboard/")
    drawing = shown["artifacts"][files.index("architecture.svg")]
    assert drawing["mimetype"] == "image/svg+xml"
    content = get(f"{base}/artifacts/{number}/{shown['trial_id']}/{drawing['artifact_id']}")
    assert content.startswith(b"<svg")
    files = {a["filename"]: a["artifact_id"] for a in told["artifacts"]}
    assert sorted(files) == ["front.html", "front.png"]
    assert get(f"{base}/artifacts/{number}/{files['front.png']}").startswith(b"\x89PNG")
    for wrong in ("a-1-1-9", "a-99-0", "a-", "0a"):
        with pytest.raises(urllib.error.HTTPError):
            get(f"{base}/artifacts/{number}/{wrong}")


def test_what_a_user_attaches_is_shown_beside_it(served) -> None:
    address, storage = served
    study = optuna.load_study(study_name="TinyGPT", storage=f"sqlite:///{storage}")
    folder = os.path.join(os.path.dirname(storage), "artifacts")
    path = os.path.join(os.path.dirname(storage), "note.txt")
    with open(path, "w") as file:
        file.write("mine")
    store = optuna.artifacts.FileSystemArtifactStore(folder)
    trial = study.ask()
    optuna.artifacts.upload_artifact(artifact_store=store, file_path=path, study_or_trial=trial)
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
    time.sleep(2.1)  # the dashboard remembers trials for two seconds
    number, told = detail(address, "TinyGPT")
    (shown,) = told["trials"][-1]["artifacts"]
    base = address.removesuffix("/dashboard/")
    assert get(f"{base}/artifacts/{number}/{told['trials'][-1]['trial_id']}/{shown['artifact_id']}") == b"mine"


def test_the_study_itself_does_not_change(served) -> None:
    _, storage = served
    study = optuna.load_study(study_name="TinyGPT", storage=f"sqlite:///{storage}")
    assert all("constraints" not in t.system_attrs and "0" not in t.constraints for t in study.trials)


def test_a_foreign_study_is_shown_as_it_is(served) -> None:
    _, told = detail(served[0], "foreign")
    assert len(told["trials"]) == 2 and told["artifacts"] == [] and told["trials"][0]["constraints"] == []


def test_what_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(app, ["dashboard", "none.db"])
    assert refused.exit_code == 2 and "there is no file 'none.db'" in refused.stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        storage = f"sqlite:///{tmp_path}/b.db"
        optuna.create_study(storage=storage)
        port = taken.getsockname()[1]
        with pytest.raises(HostError, match="choose another"), serve(*opened(storage), tmp_path / "a", port):
            pass
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError, match="name another"), serve(*opened(storage), tmp_path / "file" / "inside", 0):
        pass


@pytest.mark.browser
def test_the_pages_in_a_browser(served, tmp_path, monkeypatch) -> None:
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (binary and driver):
        pytest.skip("needs Chromium and ChromeDriver (Debian: apt-get install chromium chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"]
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", *quiet, "--window-size=1500,2200"):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path}/profile")
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        number, _ = detail(served[0], "TinyGPT")
        for page, wanted in (
            (f"studies/{number}", ["Pareto", "loss", "ms"]),
            (f"studies/{number}/trials?numbers=0", ["Trial 0", "architecture.svg", "layers.0.mixer"]),
        ):
            chrome.get(served[0] + page)
            until = time.monotonic() + 300
            while not all(text in (shown := chrome.find_element("tag name", "body").text) for text in wanted):
                assert time.monotonic() < until, shown
                time.sleep(0.3)
            time.sleep(1)
            folder = os.environ.get("NAS_BO_SHOTS", str(tmp_path))
            chrome.save_screenshot(f"{folder}/dashboard-{page.count('/')}.png")
    finally:
        chrome.quit()


def test_drawings_count_with_the_vocabulary_of_the_study(tmp_path):
    storage = str(tmp_path / "a.db")
    found = search(TinyGPT, [Parameters(vocab_size=5000)], strategy=Random(), trials=1, storage=storage, retrain=0)
    _, shown = opened(storage)
    study = found.study
    assert b"vocabulary 5000" in shown.make(study._study_id, study.trials[0]._trial_id, "architecture.svg")


LOCAL = "127.0.0.1"


@pytest.mark.parametrize(
    ("method", "headers", "answer"),
    [
        ("GET", {}, 200),
        ("GET", {"Host": "localhost:8080"}, 200),
        ("GET", {"Host": "[::1]:8080"}, 200),
        ("GET", {"Host": "evil.example"}, 403),
        ("GET", {"Host": "127.0.0.1.evil.example:8080"}, 403),
        ("GET", {"Host": "127.0.0.1@evil.example"}, 403),
        ("GET", {"Host": "[::1"}, 403),
        ("GET", {"Host": ""}, 403),
        ("DELETE", {"Host": "evil.example"}, 403),
        ("DELETE", {"Origin": "http://evil.example"}, 403),
        ("DELETE", {"Origin": "null"}, 403),
        ("DELETE", {"Origin": "http://127.0.0.1:1"}, 403),
        ("DELETE", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("DELETE", {"Sec-Fetch-Site": "same-site"}, 403),
        ("POST", {"Origin": "https://localhost.evil.example"}, 403),
        (
            "DELETE",
            {"Origin": "own", "Sec-Fetch-Site": "same-origin"},
            500,
        ),  # let through: the dashboard has no such study
        ("DELETE", {}, 500),  # not of a browser
    ],
)
def test_only_this_machine_and_only_its_own_pages(served, method, headers, answer) -> None:
    from http.client import HTTPConnection

    port = int(served[0].split(":")[2].partition("/")[0])
    asking = HTTPConnection(LOCAL, port, timeout=300)
    given = {"Host": f"{LOCAL}:{port}", **headers}
    if given.get("Origin") == "own":
        given["Origin"] = f"http://{LOCAL}:{port}"
    asking.putrequest(method, "/api/studies/999" if method != "GET" else "/api/studies", skip_host=True)
    for name, value in given.items():
        asking.putheader(name, value)
    asking.putheader("Content-Length", "0")
    asking.endheaders()
    said = asking.getresponse()
    assert said.status == answer, said.read()
    asking.close()
