"""Texts without secrets: user names and passwords of addresses are hidden here and nowhere else.

Two rules work together. The address itself is recognised by its form. What other packages say about it may have lost that form (a
driver prints the password alone), so the passwords of all addresses that this process has seen are hidden wherever they occur.
"""

from __future__ import annotations

import os
import re
from urllib.parse import quote, quote_plus, unquote, unquote_plus

HIDDEN = "***"
SHORTEST = 4  # characters of a password that is hidden wherever it occurs; a shorter one is part of ordinary words
OPEN = {
    "postgres",
    "postgresql",
    "psycopg",
    "mysql",
    "sqlite",
    "mlflow",
    "optuna",
    "password",
    "nas_bo",
}  # words of messages
ENVIRONMENT = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "PGPASSWORD", "MYSQL_PWD")
_NAMES = r"password|passwd|passphrase|pass|pwd|sslpassword|token|access_token|secret|api_?key|access_?key"
_OPTION = re.compile(rf"([?&;\s](?:{_NAMES})=)([^&;\s'\"]*)", re.IGNORECASE)
# to the last @: a password may have a / in it; without a colon before it where the address was typed wrongly
_USER = re.compile(r"([\w+.-]*)(:|(?<![:\w]))//(?:(?<=://)|(?=[^\s/@]*:))[^\s'\"]*@")
_FILES = ("sqlite", "file")  # what has no user: an @ is part of a path
_seen: set[str] = set()


def address(url: object) -> str:
    """One address as it may be printed: without user name, password and secret options."""
    text = str(url)
    _remember(text)
    return _options(text if text.startswith(_FILES) else re.sub(r"://.*@", f"://{HIDDEN}@", text, flags=re.DOTALL))


def redacted(text: object) -> str:
    """Any text, such as a message of another package, without what is secret in it."""
    found = str(text)
    for name in ENVIRONMENT:
        _keep(os.environ.get(name, ""))
    for secret in sorted(_seen, key=len, reverse=True):
        if secret in found:  # as a word of its own, not as a part of another one
            found = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", HIDDEN, found)
    return _options(_USER.sub(_without_user, found))


def _without_user(address: re.Match[str]) -> str:
    return address[0] if address[1].startswith(_FILES) else f"{address[1]}{address[2]}//{HIDDEN}@"


def _options(text: str) -> str:
    return _OPTION.sub(rf"\1{HIDDEN}", text)


def _remember(url: str) -> None:
    inside = re.search(r"://([^:]*):(.*)@", url, flags=re.DOTALL)
    if inside:
        _keep(inside[2])
    for _, value in _OPTION.findall(url):
        _keep(value)


def _keep(secret: str) -> None:
    plain = {secret, unquote(secret), unquote_plus(secret)}
    spelled = {write(each) for each in plain for write in (str, quote, quote_plus, repr)} | plain
    bare = {each.strip("'\"") for each in spelled}
    _seen.update(each for each in bare if len(each) >= SHORTEST and each.lower() not in OPEN)
