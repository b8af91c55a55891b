"""What a process does that is killed while it merges; importable by it."""

from __future__ import annotations


def merge_into(sources: list[str], storage: str) -> None:
    import optuna

    from nas_bo.optuna import merge, studies

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    merge([studies.load(source) for source in sources], storage, "both")
