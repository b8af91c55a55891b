"""What is secret in an address is printed nowhere: not as an address, and not in what other packages say of it."""

from __future__ import annotations

import json
import sqlite3
from urllib.parse import quote

import pytest

from nas_bo import database_url, redaction
from nas_bo.mlflow import tracking_uri
from tests.command import mine, nas_bo
from tests.doors.postgres import database, server  # noqa: F401

PASSWORDS = ["hunter22", "a/b:c?d", "with space", 'it\'s "quoted"', "at@sign@twice", "p%40ss", "ü-ber", "a#b&c=d"]


@pytest.mark.parametrize("write", [str, quote, lambda text: quote(text, safe="")])
@pytest.mark.parametrize("password", PASSWORDS)
def test_no_address_shows_its_password(password, write):
    for url in (
        f"postgresql://me:{write(password)}@db.example:5432/nas",
        f"http://me:{write(password)}@tracking.example/path",
    ):
        for shown in (database_url.shown(url), tracking_uri.redact(url), tracking_uri.public(url)):
            assert password not in shown and write(password) not in shown and "example" in shown and "me:" not in shown
        message = f"could not connect to {url}: password {password!r} of me is wrong, {write(password)} too"
        assert password not in redaction.redacted(message) and write(password) not in redaction.redacted(message)


@pytest.mark.parametrize(
    "option", ["password", "PASSWORD", "passwd", "pwd", "sslpassword", "token", "api_key", "secret"]
)
def test_no_option_shows_its_secret(option):
    url = f"mysql+pymysql://db.example/nas?charset=utf8&{option}=hunter22&x=1"
    for shown in (database_url.shown(url), tracking_uri.redact(url), redaction.redacted(f"no: {url}")):
        assert "hunter22" not in shown and "charset=utf8" in shown and "x=1" in shown


def test_what_is_not_secret_stays():
    for text in (
        "sqlite:////data/a@b.db",
        "study.db",
        "/data/me@work/study.db",
        "3 trials @ 2 ms",
        "journal.log",
        "a//b: c",
    ):
        assert redaction.redacted(text) == database_url.shown(text) == text
        assert redaction.redacted(f"the storage {text!r} is read") == f"the storage {text!r} is read"


def test_a_password_that_is_an_ordinary_word_garbles_no_message():
    for url in ("postgresql://postgres:postgres@db.example/nas", "postgresql://me:test@db.example/nas"):
        assert database_url.shown(url) == "postgresql://***@db.example/nas"
    said = "psycopg is missing: pip install 'nas_bo[postgres]'; the latest of postgresql was tested"
    assert redaction.redacted(said) == said


def test_secrets_of_the_environment_are_hidden(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "of-the-environment")
    assert redaction.redacted("401 for of-the-environment") == "401 for ***"


def test_a_search_with_secrets_writes_them_nowhere(database, tmp_path):  # noqa: F811
    """Terminal, files, study and MLflow, when it works and when it fails."""
    secret = "a/b hunter22"
    rest = database.partition("@")[2]
    storage = f"postgresql://postgres:{quote(secret, safe='')}@{rest}?application_name=x"
    mine(tmp_path)
    spelled = (secret, quote(secret, safe=""), quote(secret), "hunter22")

    def run(*args):
        done = nas_bo(*args, cwd=tmp_path)
        said = done.stdout + done.stderr
        assert not [each for each in spelled if each in said], said
        return done

    quick = [
        "--space", "mine.py:Mine", "--objective", "mine.py:height", "--workers", "1", "--retrain", "0", "--trials",
        "2",
    ]  # fmt: skip
    done = run("search", *quick, "--storage", storage, "--mlflow", "mlflow.db")
    assert done.returncode == 0, done.stderr
    assert run("status", storage).returncode == 0
    assert run("report", storage, "--json").returncode == 0
    for broken in (
        storage.replace(rest, "127.0.0.1:1/no"),
        storage.replace("?", "?nonsense=1&"),
        storage.replace(":", ": ", 1),
    ):
        assert run("search", *quick, "--storage", broken, "--mlflow", "none").returncode == 2
    assert (
        run("search", *quick, "--storage", "s.db", "--mlflow", storage.replace(rest, "127.0.0.1:1/no")).returncode == 2
    )
    for path in tmp_path.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [each for each in spelled if each.encode() in content], path
    with sqlite3.connect(tmp_path / "mlflow.db") as kept:
        assert "hunter22" not in json.dumps([str(line) for line in kept.iterdump()])

    import psycopg

    with psycopg.connect(database) as connection:
        for table in ("study_user_attributes", "study_system_attributes", "trial_user_attributes", "studies"):
            assert "hunter22" not in str(connection.execute(f"select * from {table}").fetchall())


@pytest.mark.parametrize(
    "name", ["MLFLOW_TRACKING_TOKEN", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "OPENAI_API_KEY", "MY_SECRET"]
)
@pytest.mark.parametrize("secret", [*PASSWORDS, "tab\there", "πßw0rd"])
def test_what_the_environment_keeps_secret_is_said_nowhere(name, secret, monkeypatch):
    monkeypatch.setenv(name, secret)
    for text in (
        f"401 for {secret}",
        f"got {secret!r}",
        json.dumps({"said": f"no: {secret}"}),
        f"x?y={quote(secret)}&z",
    ):
        assert secret not in redaction.redacted(text) and quote(secret, safe="") not in redaction.redacted(text)
    assert redaction.redacted("study.db has 3 trials, in /home/me") == "study.db has 3 trials, in /home/me"


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Basic bWU6aHVudGVyMjI=",
        "{'Authorization': 'Bearer bWU6aHVudGVyMjI='}",
        '"authorization": "token bWU6aHVudGVyMjI="',
        "headers={'authorization':'Basic bWU6aHVudGVyMjI='}",
    ],
)
def test_no_header_shows_its_login(text):
    assert "bWU6" not in redaction.redacted(text) and "***" in redaction.redacted(text)


@pytest.mark.parametrize("password", PASSWORDS)
def test_the_reason_of_a_trial_has_no_secret(password, monkeypatch):
    """What an objective raises goes into the study, MLflow, tables and logs."""
    from nas_bo import safe_text

    url = f"postgresql://me:{quote(password, safe='')}@db.example/nas"
    error = OSError(f"cannot reach {url}")
    assert password not in safe_text.told(error) and quote(password, safe="") not in safe_text.told(error)
    assert "db.example" in safe_text.told(error)


def test_what_a_study_says_of_itself_has_no_login():
    said = {"recipe": [{"url": "http://me:hunter22@h/x?token=abc1&y=2"}], "n": 3, "strategy": "Own(x='a@b')"}
    kept = redaction.nested(said)
    assert (
        "hunter22" not in str(kept)
        and "abc1" not in str(kept)
        and kept["n"] == 3
        and kept["strategy"] == said["strategy"]
    )
    assert redaction.nested(kept) == kept


@pytest.mark.parametrize("text", ["ftp://me:hunter22@h/x", "http://:hunter22@", "sqlite://me:hunter22@h"])
def test_a_tracking_uri_that_is_refused_shows_no_password(text):
    from nas_bo.errors import HostError

    with pytest.raises(HostError) as said:
        tracking_uri.resolve(text)
    assert "hunter22" not in str(said.value)
