"""What is kept of this machine between runs: small JSON files in the user's cache folder. Loads no torch.

A file that is gone, cannot be read or cannot be written costs a measurement, never a search.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import logging
import os
import platform
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from nas_bo import temporary
from nas_bo.cache_folder import cache_folder as cache_folder

_log = logging.getLogger(__name__)


def usable() -> None:
    """Where nothing can be kept in the cache folder, take a temporary one that the processes started from here share: what
    several workers measure is then still on one scale, if only until the end."""
    folder = cache_folder()
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return
    made = temporary.made("cache")
    os.environ["NAS_BO_CACHE"] = made.name
    atexit.register(made.cleanup)
    _log.warning(
        "what is measured of this machine cannot be kept in %s, so the next search will measure it again; set NAS_BO_CACHE to a "
        "folder that can be written",
        folder,
    )


def machine_facts(device: str) -> dict[str, object]:
    """On what times depend that is not a setting: the machine, the device behind a torch device, the versions."""
    import torch

    from nas_bo.model.device import named

    return {
        "machine": platform.node(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "device": f"{device.partition(':')[0]} {named(device)}",
        "torch": torch.__version__,
    }


def digest(data: object) -> str:
    """16 digits of plain data."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()[:16]


def path_of(kind: str, facts: Mapping[str, object]) -> Path:
    """The file of a kind, such as "anchors", for these facts."""
    return cache_folder() / f"{kind}-{digest(facts)}.json"


def read(path: Path) -> dict[str, Any]:
    """What was kept; nothing where there is no such file or it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write(path: Path, data: Mapping[str, object]) -> bool:
    """Keep it, whole or not at all; whether it could be."""
    try:
        with temporary.whole(path) as draft:
            draft.write_text(json.dumps(data, indent=1), encoding="utf-8")
    except OSError:
        return False
    return True
