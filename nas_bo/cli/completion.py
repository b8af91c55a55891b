"""What a shell completes after an option: names of spaces, studies, picks, strategies, devices, formats.

A completion runs at each press of a key: nothing here imports Optuna, torch or a device, and whatever goes wrong completes nothing. The
names of studies are read from the file of the storage; a server is not asked.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path

import typer

JOURNAL_BYTES = 4_000_000  # of a journal that are read
OBJECTIVES = (
    "bits_per_byte", "latency_ms", "decode_ms", "throughput", "energy", "memory", "parameters", "active_parameters", "mflops",
    "kv_cache_bytes", "weight_bytes", "quantization_gap_2", "quantization_gap_3", "quantization_gap_4", "layer_sensitivity",
    "activation_sparsity", "outlier_score",
)  # fmt: skip
STRATEGIES = ("auto", "bayes", "nsga2", "regularizedevolution", "localsearch", "reinforce", "random", "knapsack")


def spaces(incomplete: str) -> list[str]:
    """The named spaces."""
    from nas_bo.search_spaces import NAMED

    return _begins(NAMED, incomplete)


def spaces_or_inspect(incomplete: str) -> list[str]:
    """The named spaces, and the word that looks into one."""
    return [*_begins(["inspect"], incomplete), *spaces(incomplete)]


def targets(incomplete: str) -> list[str]:
    """The devices whose figures are known; files are completed by the shell where none begins like this."""
    folder = Path(__file__).parents[1] / "hardware" / "devices"
    return _begins(["here", *sorted(path.stem for path in folder.glob("*.toml"))], incomplete)


def devices(incomplete: str) -> list[str]:
    """The same without this machine."""
    return [name for name in targets(incomplete) if name != "here"]


def strategies(incomplete: str) -> list[str]:
    """The strategies that have a word."""
    return _begins(STRATEGIES, incomplete)


def objectives(incomplete: str) -> list[str]:
    """The objectives of `nas-bo search`."""
    return _begins(OBJECTIVES, incomplete)


def formats(incomplete: str) -> list[str]:
    """The formats of `nas-bo export`."""
    return _begins(("huggingface", "gguf", "onnx", "openvino", "folder"), incomplete)


def extras(incomplete: str) -> list[str]:
    """The extras of nas_bo."""
    from nas_bo.workflows.installation import extras_there

    return _begins(extras_there(), incomplete)


def studies(ctx: typer.Context, incomplete: str) -> list[str]:
    """The studies in the storage that is typed, or in that of the default."""
    return _begins(_kept(_storage(ctx)), incomplete)


def picks(ctx: typer.Context, incomplete: str) -> list[str]:
    """`knee`, and the best in each objective of the studies in the storage."""
    from nas_bo.study import PREFIX, STUDY, read_attributes

    names: dict[str, None] = {}
    for attributes in _kept(_storage(ctx)).values():
        about = read_attributes(attributes, PREFIX + STUDY) or {}
        names |= dict.fromkeys(str(column["name"]) for column in about.get("columns", ()))
    return _begins(["knee", *(f"best:{name}" for name in names)], incomplete)


def _begins(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _storage(ctx: typer.Context) -> str:
    """What is typed as the storage. An option without its value, which is what is completed, leaves arguments unread."""
    option = next((p for p in ctx.command.params if p.name == "storage"), None)
    if option is not None and option.param_type_name == "argument" and ctx.args:
        return ctx.args[0]
    return str(ctx.params.get("storage") or "nas-bo.db")


def _kept(storage: str) -> dict[str, dict[str, object]]:
    """Study -> its attributes, of a file; nothing of anything else."""
    if storage.startswith("sqlite:///"):
        storage = storage.removeprefix("sqlite:///").partition("?")[0]
    path = Path(storage)
    with suppress(OSError, ValueError, TypeError, KeyError, sqlite3.Error):
        if path.is_file():
            return _of_journal(path) if path.suffix == ".log" else _of_database(path)
    return {}


def _of_database(path: Path) -> dict[str, dict[str, object]]:
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=0.2)) as database:
        names = dict(database.execute("SELECT study_id, study_name FROM studies ORDER BY study_id LIMIT 1000"))
        found: dict[str, dict[str, object]] = {str(name): {} for name in names.values()}
        for number, key, text in database.execute("SELECT study_id, key, value_json FROM study_user_attributes"):
            if number in names:
                found[str(names[number])][str(key)] = json.loads(text)
    return found


def _of_journal(path: Path) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = {}
    with path.open("rb") as file:
        for line in file.read(JOURNAL_BYTES).splitlines():
            if b'"study_name"' in line:  # of the record that makes a study, whose number is its place among these
                found.setdefault(str(json.loads(line)["study_name"]), {})
            elif b'"user_attr"' in line and b'"study_id"' in line and b'"trial_id"' not in line:
                record = json.loads(line)
                list(found.values())[record["study_id"]].update(record["user_attr"])
    return found
