"""Texts without secrets: user names and passwords of addresses are hidden here and nowhere else.

Two rules work together. The address itself is recognised by its form. What other packages say about it may have lost that form (a
driver prints the password alone), so the passwords of all addresses that this process has seen are hidden wherever they occur.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote, quote_plus, unquote, unquote_plus

HIDDEN = "***"
SHORTEST = 4  # characters of a password that is hidden wherever it occurs; a shorter one is part of ordinary words
OPEN = {
    "postgres", "postgresql", "psycopg", "mysql", "sqlite", "mlflow", "optuna", "password", "nas_bo", "true",
    "false", "none",
}  # words of messages  # fmt: skip
_ENVIRONMENT = re.compile(
    r"(PASSWORD|PASSWD|PASSPHRASE|_PWD|TOKEN|SECRET|API_?KEY|ACCESS_KEY|SECRET_KEY)$", re.IGNORECASE
)
_NAMES = r"password|passwd|passphrase|pass|pwd|sslpassword|token|access_token|secret|api_?key|access_?key"
_OPTION = re.compile(rf"([?&;\s](?:{_NAMES})=)([^&;\s'\"]*)", re.IGNORECASE)
# to the last @: a password may have a / in it; without a colon before it where the address was typed wrongly
_USER = re.compile(r"([\w+.-]*)(:|(?<![:\w]))//(?:(?<=://)|(?=[^\s/@]*:))[^\s'\"]*@")
_HEADER = re.compile(r"(authorization['\"]?\s*[:=]\s*['\"]?(?:basic|bearer|token)\s+)[^\s'\",]+", re.IGNORECASE)
_FILES = ("sqlite", "file")  # what has no user: an @ is part of a path
_SPELLINGS: tuple[Callable[[str], str], ...] = (
    str, repr, json.dumps, *(partial(quote, safe=safe, errors="replace") for safe in ("/", "")), partial(quote_plus, errors="replace"),
)  # fmt: skip
_seen: set[str] = set()


def address(url: object) -> str:
    """One address as it may be printed: without user name, password and secret options."""
    text = str(url)
    _remember(text)
    return _options(text if _is_file(text) else re.sub(r"://.*@", f"://{HIDDEN}@", text, flags=re.DOTALL))


def redacted(text: object) -> str:
    """Any text, such as a message of another package, without what is secret in it."""
    found = str(text)
    for name, value in os.environ.items():
        if _ENVIRONMENT.search(name):
            _keep(value)
    for secret in sorted(_seen, key=len, reverse=True):
        if secret in found:  # as a word of its own, not as a part of another one
            found = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", HIDDEN, found)
    return without_logins(found)


def without_logins(text: str) -> str:
    """A text without what has the form of a login: the same in every process, whatever that has seen. For what is stored and compared."""
    return _HEADER.sub(rf"\1{HIDDEN}", _options(_USER.sub(_without_user, text)))


def nested(data: object) -> Any:
    """The same of all texts in JSON-safe data."""
    if isinstance(data, str):
        return without_logins(data)
    if isinstance(data, Mapping):
        return {key: nested(value) for key, value in data.items()}
    return [nested(value) for value in data] if isinstance(data, (list, tuple)) else data


def _without_user(address: re.Match[str]) -> str:
    return address[0] if _is_file(address[0]) else f"{address[1]}{address[2]}//{HIDDEN}@"


def _is_file(url: str) -> bool:
    """Whether an address has no server in it."""
    return url.startswith(_FILES) and not re.match(r"[\w+.-]+://[^/]", url)


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
    spelled = {spell(each) for each in plain for spell in _SPELLINGS} | plain
    bare = {each.strip("'\"") for each in spelled} | plain
    _seen.update(each for each in bare if len(each) >= SHORTEST and each.lower() not in OPEN)
