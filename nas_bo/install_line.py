"""The line that installs an extra, as this nas_bo was installed: from a clone, from an address, or from an index."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

HERE = Path(__file__).parents[1]


def clone() -> Path | None:
    """The clone of the repository that this package is in, or was installed from; None where there is none any more."""
    if _is_clone(HERE):
        return HERE
    address = urlsplit(str(_origin().get("url", "")))
    root = Path(unquote(address.path))
    return root if address.scheme == "file" and _is_clone(root) else None


def install_line(extra: str) -> str:
    """The line that installs an extra into this Python."""
    pip = shutil.which("pip")
    own = pip is not None and Path(pip).parent == Path(sys.executable).parent
    python = "" if own else f"{sys.executable} -m "  # the pip that a shell finds may be that of another Python
    return f"{python}pip install {_what(extra)}"


def _what(extra: str) -> str:
    root, origin = clone(), _origin()
    if root is not None and root == Path.cwd():
        return f"-c constraints.txt '.[{extra}]'"
    if root is not None:
        return f"-c {shlex.quote(str(root / 'constraints.txt'))} {shlex.quote(f'{root}[{extra}]')}"
    url, source = str(origin.get("url", "")), origin.get("vcs_info")
    if isinstance(source, dict):
        url = f"{source.get('vcs', 'git')}+{url}" + (f"@{commit}" if (commit := source.get("commit_id")) else "")
    if url and "dir_info" not in origin:
        return shlex.quote(f"nas_bo[{extra}] @ {url}")
    return f"'nas_bo[{extra}]'"


def _is_clone(root: Path) -> bool:
    return (root / "pyproject.toml").is_file() and (root / "nas_bo").is_dir()


def _origin() -> dict[str, object]:
    """What pip noted of where it was installed from (PEP 610); {} where it was an index, or nobody knows."""
    try:
        noted = metadata.distribution("nas_bo").read_text("direct_url.json")
        found = json.loads(noted or "{}")
    except (metadata.PackageNotFoundError, ValueError, OSError):
        return {}
    return found if isinstance(found, dict) else {}
