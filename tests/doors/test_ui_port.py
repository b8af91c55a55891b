"""The address that is printed for the UI: of a port that is free, or where the study is shown already; and silence of Optuna."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import optuna
import pytest

from nas_bo import search
from nas_bo.cli.tracking import Tracking
from nas_bo.mlflow import presentation, server
from nas_bo.mlflow.server import _free_port
from nas_bo.strategies import Random
from nas_bo.workflows.result import Result
from tests.problems import Toy


class Shows(BaseHTTPRequestHandler):
    """Answers as MLflow does, for one experiment."""

    def do_POST(self):
        found = [{"experiment_id": "7", "name": "Toy", "tags": [{"key": presentation.LAST, "value": "key"}]}]
        body = json.dumps({"experiments": found}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_the_port_is_one_that_can_be_had(monkeypatch):
    with HTTPServer(("127.0.0.1", 0), Shows) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        try:
            port = made.server_port
            monkeypatch.setattr(server, "FIRST_PORT", port)
            assert server.port_of("7", "key") == port  # it is shown there
            other = server.port_of("7", "another")
            assert port < other < port + 20
        finally:
            made.shutdown()


def test_a_port_held_by_something_else_is_passed_over(monkeypatch):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()  # and says nothing
        port = other.getsockname()[1]
        monkeypatch.setattr(server, "FIRST_PORT", port)
        assert port < server.port_of("7", "key") < port + 20
    monkeypatch.setattr(server, "FIRST_PORT", free := _free_port())
    assert server.port_of("7", "key") == free


@pytest.mark.parametrize(
    ("word", "url", "told"),
    [
        ("my runs.db", "http://127.0.0.1:5001/#/x", "my runs.db   (nas-bo ui --mlflow 'my runs.db' --port 5001)"),
        ("m.db", "http://127.0.0.1:5000/#/x", "m.db   (nas-bo ui --mlflow m.db)"),
        ("https://runs.example.org", "https://runs.example.org/#/x", "https://runs.example.org/#/x"),
    ],
)  # fmt: skip
def test_what_is_printed(word, url, told):
    assert Tracking(word, "s.db", None).address(Result("s", [], [], url=url)) == told


def test_search_prints_nothing_of_optuna(tmp_path, capfd):
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.INFO)  # its own default
    try:
        for storage in (None, str(tmp_path / "s.db"), str(tmp_path / "s.log")):
            search(Toy, [depth], trials=2, storage=storage, strategy=Random(seed=0), retrain=0)
        assert optuna.logging.get_verbosity() == optuna.logging.INFO
    finally:
        optuna.logging.set_verbosity(before)
    out, err = capfd.readouterr()
    assert not out and not err


def depth(arch):
    return float(arch.depth)
