"""A spool, and an MLflow store, that somebody else has made: what they name is neither written, nor opened, nor given a login."""

from __future__ import annotations

import json
import os
import shutil
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import ClassVar

import pytest

from nas_bo.errors import HostError
from nas_bo.mlflow import artifacts, spool
from nas_bo.mlflow.spool import Spool
from nas_bo.mlflow.sync import sync
from tests.doors.test_mlflow import Store, empty_store, ours, uri  # noqa: F401
from tests.doors.test_mlflow_spool import a_record


@pytest.fixture
def stranger(empty_store, tmp_path):  # noqa: F811
    """A folder with a spool and a tracker, as it may be unpacked from an archive, and beside it what is not theirs."""
    folder = tmp_path / "stranger"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    (tmp_path / "mine.txt").write_text("mine")
    record = a_record(ours(1), uri=f"sqlite:///{folder}/mlflow.db")
    return folder, Spool(folder / spool.FOLDER).put(record)


def changed(path, *keys, value) -> None:
    data = json.loads(path.read_text())
    inside = data
    for key in keys[:-1]:
        inside = inside[key]
    inside[keys[-1]] = value
    path.write_text(json.dumps(data))


def test_an_honest_spool_beside_its_tracker_is_logged(stranger):
    folder, _ = stranger
    assert sync(folder).logged == 1 and len(Store(f"sqlite:///{folder}/mlflow.db").runs("Tiny", "trial")) == 1


@pytest.mark.parametrize(
    "name",
    ["{mine}", "../../../../mine.txt", "a/b.txt", "..", ".bashrc", "", "x\0y", "con", "a\\..\\b", "x\ny", "x" * 300],
)
def test_files_are_named_by_names(name, stranger, tmp_path):
    folder, path = stranger
    changed(path, "trial", "files", value={name.replace("{mine}", str(tmp_path / "mine.txt")): "theirs"})
    before = sorted(tmp_path.rglob("*"))
    found = sync(folder)
    assert found.logged == 0 and "is not a record" in found.left[0][2] and path.exists()
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("trial", "files"), {"arch.json": {"a": 1}}),
        (("trial", "status"), "RUNNING"),
        (("trial", "number"), -1),
        (("trial", "number"), 1.5),
        (("trial", "number"), 10**400),
        (("trial", "metrics"), [["x", 1.0, 1e999]]),
        (("trial", "point"), [1.0]),
        (("trial", "start"), "yesterday"),
        (("trial", "tags"), [["nas.kind", "study"]]),
        (("subject", "key"), "x' OR '1'='1"),
        (("subject", "key"), "../../../../tmp/x"),
        (("subject", "columns"), [{"name": ["x"]}]),
        (("subject", "columns"), 7),
        (("target", "tags"), {"mlflow.parentRunId": "0" * 32}),
        (("target", "parent"), "../x"),
        (("target", "experiment"), None),
        (("target", "nothing"), 1),
        (("version",), [1]),
        (("trial",), None),
    ],
)
def test_what_is_in_a_record_has_its_form(keys, value, stranger):
    folder, path = stranger
    changed(path, *keys, value=value)
    found = sync(folder)
    assert found.logged == 0 and len(found.left) == 1
    assert Store(f"sqlite:///{folder}/mlflow.db").client.search_experiments(filter_string="name = 'Tiny'") == []


@pytest.mark.parametrize("text", ["[" * 100_000, "\xff\xfe", "", "null", "[]", '{"version": 1}'])
def test_what_is_no_record_is_one_line(text, stranger):
    folder, path = stranger
    path.write_bytes(text.encode("latin-1"))
    assert "is not a record" in sync(folder).left[0][2]


def test_a_record_lies_in_the_folder_of_its_target(stranger):
    folder, path = stranger
    changed(path, "target", "experiment", value="Other")
    assert "for another place" in sync(folder).left[0][2]
    changed(path, "target", "experiment", value="Tiny")
    other = path.rename(path.with_name("000007.json"))
    assert "for another place" in sync(folder).left[0][2]
    path = other.rename(path)
    path.parent.rename(path.parent.with_name("abc-def"))
    found = sync(folder)
    assert found.logged == 0 and "for another place" in found.left[0][2]


@pytest.mark.skipif(os.name != "posix", reason="links and pipes")
@pytest.mark.parametrize("kind", ["link", "pipe", "zero", "long"])
def test_a_record_is_a_file_of_a_bounded_size(kind, stranger, tmp_path, monkeypatch):
    folder, path = stranger
    content = path.read_bytes()
    path.unlink()
    if kind == "link":
        (tmp_path / "elsewhere.json").write_bytes(content)
        path.symlink_to(tmp_path / "elsewhere.json")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "zero":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(2**40)
    found = sync(folder)
    assert found.logged == 0 and len(found.left) == 1
    why = {"link": "symbolic link", "zero": "symbolic link", "pipe": "not a regular file", "long": "longer than"}[kind]
    assert why in found.left[0][2] and (kind != "link" or (tmp_path / "elsewhere.json").exists())


class Listening(BaseHTTPRequestHandler):
    heard: ClassVar[list[dict[str, str]]] = []

    def do_POST(self):
        self.heard.append(dict(self.headers))
        self.send_error(500)

    do_GET = do_PUT = do_POST

    def log_message(self, *_):
        pass


@pytest.fixture
def evil():
    """A server of somebody else, and what it hears."""
    Listening.heard = []
    server = HTTPServer(("127.0.0.1", 0), Listening)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", Listening.heard
    server.shutdown()
    server.server_close()


def test_no_login_goes_to_a_server_that_only_a_file_names(stranger, evil, monkeypatch):
    folder, path = stranger
    address, heard = evil
    shutil.rmtree(path.parents[1])
    Spool(folder / spool.FOLDER).put(a_record(ours(1), uri=address))
    for name, value in (("TOKEN", "secret-token"), ("USERNAME", "me"), ("PASSWORD", "secret-password")):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
    found = sync(folder, timeout=1)
    assert heard == [] and found.logged == 0 and "--mlflow" in found.left[0][2] and address in found.left[0][2]
    assert sync(folder, timeout=1, dry_run=True).left == found.left
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")  # another one
    assert sync(folder, timeout=1).left[0][2] == found.left[0][2] and heard == []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)  # that one, named by the user
    sync(folder, timeout=1)
    assert heard


@pytest.mark.parametrize(
    "address", ["sqlite:///{mine}/other.db", "postgresql://localhost/x", "databricks", "plugin+x://y", "ftp://x/y", ""]
)
def test_no_store_elsewhere_is_opened_for_a_file(address, stranger, tmp_path):
    folder, path = stranger
    shutil.rmtree(path.parents[1])
    Spool(folder / spool.FOLDER).put(a_record(ours(1), uri=address.replace("{mine}", str(tmp_path))))
    found = sync(folder)
    assert found.logged == 0 and "name it" in found.left[0][2]
    assert not (tmp_path / "other.db").exists()


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_a_link_to_a_store_elsewhere_is_no_store_beside_the_spool(stranger, empty_store, tmp_path):  # noqa: F811
    folder, _ = stranger
    shutil.copy(empty_store, tmp_path / "mine.db")
    (folder / "mlflow.db").unlink()
    (folder / "mlflow.db").symlink_to(tmp_path / "mine.db")
    assert "name it" in sync(folder).left[0][2]
    assert sync(folder, uri=folder / "mlflow.db").logged == 1  # the user has named it


# ---- where a store says that files lie --------------------------------------------------------------------------------


RUN = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    "place",
    [
        "http://evil.example/artifacts", "https://evil.example:5000/x", "mlflow-artifacts://evil.example/x",
        "file:///home/me/.ssh", "/home/me/.config", f"/home/me/{RUN}", f"/home/me/../{RUN}/artifacts",
        f"{RUN}/artifacts/../../x",
    ],
)  # fmt: skip
def test_files_of_a_run_are_where_files_of_runs_are(place):
    with pytest.raises(HostError, match=r"another server|no folder of a run"):
        artifacts.check(place, "sqlite:////data/mlflow.db")


def test_places_of_runs_are_taken(tmp_path, monkeypatch):
    for place in (f"file://{tmp_path}/1/{RUN}/artifacts", f"{tmp_path}/a b/{RUN}/artifacts/model", "s3://bucket/x"):
        artifacts.check(place, f"sqlite:///{tmp_path}/mlflow.db")
    for place in ("mlflow-artifacts:/1/x", "mlflow-artifacts://h:5000/x", "http://h:5000/api", "https://s.example/x"):
        own = "https://s.example" if "s.example" in place else "http://h:5000"
        artifacts.check(place, own)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://h:5000")
    artifacts.check("http://h:5000/api", f"sqlite:///{tmp_path}/mlflow.db")


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_a_run_whose_folder_is_a_link_gets_no_files(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / RUN).mkdir()
    (tmp_path / RUN / "artifacts").symlink_to(tmp_path / "home")
    client = SimpleNamespace(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    run = SimpleNamespace(info=SimpleNamespace(artifact_uri=f"{tmp_path}/{RUN}/artifacts", run_id=RUN))
    with pytest.raises(HostError, match="no folder of a run"):
        artifacts.put(client, run, {"arch.json": "{}"})
    assert list((tmp_path / "home").iterdir()) == []
