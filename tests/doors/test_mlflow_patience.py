"""An MLflow server that answers the check and fails later: the end does not wait for it, and says what is kept and what logs it."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from nas_bo import search
from nas_bo.errors import HostError
from nas_bo.mlflow import Tracker
from nas_bo.strategies import Random
from tests.problems import Toy, cost, loss


class Server(ThreadingHTTPServer):
    """Answers the first request as MLflow does, all others in a way of its own."""

    daemon_threads = True

    def __init__(self, way: str) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.way, self.requests, self.over = way, 0, threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests += 1
        if self.server.requests == 1:
            self._say(200, "application/json", b'{"experiments": []}')
        elif self.server.way == "silent":
            self.server.over.wait(600)
        elif self.server.way == "html":
            self._say(200, "text/html", b"<html>Sign in to continue</html>")
        else:
            self._say(int(self.server.way), "application/json", b'{"error_code": "INTERNAL_ERROR", "message": "no"}')

    do_GET = do_PATCH = do_POST

    def _say(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(request):
    made = Server(request.param)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.over.set()
    made.shutdown()
    made.server_close()


@pytest.mark.parametrize("server", ["500", "401", "html", "silent"], indirect=True)
def test_the_end_of_a_search_does_not_wait_for_a_server_that_fails(server, tmp_path, caplog):
    tracker = Tracker(uri=server.address, spool=tmp_path / "spool", timeout=600, patience=1.0)
    found = search(
        Toy, [loss, cost], trials=4, retrain=0, strategy=Random(seed=0), storage=str(tmp_path / "s.db"), track=tracker
    )
    assert len(found.trials) == 4
    behind = tracker.behind()
    assert behind is not None and behind.trials == 4 and behind.report and behind.why
    assert len(list((tmp_path / "spool").rglob("[0-9]*.json"))) == 4
    said = [r.getMessage() for r in caplog.records]
    assert any("4 trials could not be logged" in text and "nas-bo mlflow sync" in text for text in said), said


@pytest.mark.parametrize("patience", [0, -1, float("nan"), "30s"])
def test_patience_is_a_number_of_seconds(patience, tmp_path):
    with pytest.raises(HostError, match="patience must be a number above 0"):
        Tracker(uri=str(tmp_path / "m.db"), patience=patience)
