"""Studies behind Optuna's gRPC proxy, of a server of this process; what is said where nobody answers."""

from __future__ import annotations

import logging
import socket
import sys
import warnings

import optuna
import pytest
from optuna.storages._grpc.server import make_server

from nas_bo import search
from nas_bo.errors import HostError, MissingExtra, StorageUnavailable
from nas_bo.optuna import proxy, storages, studies
from nas_bo.strategies import Random
from nas_bo.workflows.ask_tell import AskTell
from tests.problems import Toy, cost, loss


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def served(tmp_path):
    """The address of a proxy of a file, and what ends and starts it."""
    pytest.importorskip("grpc", reason="grpcio is not installed")
    port, made = free_port(), []

    def start():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made.append(make_server(storages.backend(str(tmp_path / "study.db")), "127.0.0.1", port))
        made[-1].start()

    def stop():
        made[-1].stop(0).wait()

    start()
    yield f"grpc://127.0.0.1:{port}", stop, start
    stop()


def test_a_search_behind_a_proxy_is_what_it_is_in_memory(served):
    url, _, _ = served
    asked = {"strategy": Random(seed=1), "retrain": 0, "baseline": None}
    here = search(Toy, [loss, cost], trials=5, **asked)
    search(Toy, [loss, cost], trials=3, storage=url, **asked)
    there = search(Toy, [loss, cost], trials=5, storage=url, **asked)
    assert [(t.architecture.id, dict(t.values)) for t in there.trials] == [
        (t.architecture.id, dict(t.values)) for t in here.trials
    ]
    assert studies.names(url) == ["Toy"]
    session = AskTell(Toy, ["loss"], storage=url, study_name="asked")
    trial = session.ask()
    session.tell(trial.number, {"loss": 1.0})
    assert [t.state.name for t in optuna.load_study(study_name="asked", storage=storages.backend(url)).trials] == [
        "COMPLETE"
    ]


def test_a_proxy_that_is_away_is_waited_for(served, caplog):
    url, stop, start = served

    class Starts(logging.Handler):
        said = ""

        def emit(self, record):
            if not self.said and "is tried again" in record.getMessage():
                self.said = record.getMessage()
                start()

    def progress(state):
        if state.done == 2 and not heard.said:
            stop()

    logging.getLogger("nas_bo.patience").addHandler(heard := Starts())
    try:
        found = search(
            Toy,
            [loss, cost],
            strategy=Random(seed=1),
            trials=4,
            retrain=0,
            baseline=None,
            storage=url,
            on_progress=progress,
        )
    finally:
        logging.getLogger("nas_bo.patience").removeHandler(heard)
    assert len(found.trials) == 4 and url in heard.said and "RPC that terminated" not in heard.said


def test_where_nobody_answers(monkeypatch):
    monkeypatch.setattr(proxy, "READY_S", 0.2)
    for url in ("grpc://host", "grpc://host:99999", "grpc://host:1/name", "grpc://me:secret@host:1"):
        with pytest.raises(HostError, match="grpc://host:port") as caught:
            storages.backend(url)
        assert "secret" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "grpc", None)
    monkeypatch.setattr(proxy, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"pip install .*\[grpc\]"):
        storages.backend("grpc://127.0.0.1:1")


def test_a_search_says_where_nobody_answers(monkeypatch):
    pytest.importorskip("grpc", reason="grpcio is not installed")
    monkeypatch.setattr(proxy, "READY_S", 0.2)
    with pytest.raises((HostError, StorageUnavailable), match="nobody answers at grpc://127.0.0.1:1; start a proxy"):
        search(Toy, [loss, cost], trials=1, storage="grpc://127.0.0.1:1")
