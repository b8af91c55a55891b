"""The data set published with LLMForge (arXiv 2605.17653, MIT): decoders of width 768 that were trained one by one, 1 to 39 layers of attention
with head counts and widths of their own, or without attention. From a folder that holds `llmforge_seen.parquet`.

Losses have a heavy tail, and parameters hardly order them: Kendall's tau .15.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.space import Space, choice, integer, option, repeat

FILE = "llmforge_seen.parquet"
HEADS, WIDTHS = (1, 2, 3, 4, 6, 8, 12, 16), tuple(range(64, 513, 32))


class LLMForge(Space):
    """What the rows of the table are made of."""

    layers = repeat(
        integer(1, 39),
        mixer=choice(
            option("none"),
            option(
                "attention",
                n_head=choice(*HEADS),
                n_kv_group=choice(*HEADS),
                qk_dim=choice(*WIDTHS),
                v_dim=choice(*WIDTHS),
            ),
        ),
        mlp_size=integer(512, 4096, step=256),
    )


@dataclass(frozen=True)
class Table:
    """Architectures, once each, with the means of their rows.

    Attributes:
        loss: validation loss in nats, (n,).
        params_m, kv_cache_mb: (n,).
    """

    archs: tuple[Architecture, ...]
    loss: np.ndarray
    params_m: np.ndarray
    kv_cache_mb: np.ndarray


@cache
def read(folder: Path) -> Table:
    """The table.

    Raises:
        FileNotFoundError: `folder` does not hold it.
    """
    import pandas

    path = folder / FILE
    if not path.exists():
        raise FileNotFoundError(f"{folder} holds no {FILE}; --data names the folder of the published tables")
    rows = pandas.read_parquet(path)
    rows["arch"] = rows["arch"].map(lambda text: json.dumps(json.loads(text)))
    rows = rows.groupby("arch", sort=False)[["val_loss", "params_m", "kv_cache_mb"]].mean()
    archs = tuple(
        LLMForge.architecture({"layers": [_layer(layer) for layer in json.loads(text)]}) for text in rows.index
    )
    return Table(archs, *(rows[name].to_numpy() for name in ("val_loss", "params_m", "kv_cache_mb")))


def _layer(told: dict[str, int]) -> dict[str, Any]:
    if "n_head" not in told:
        return {"mixer": "none", "mlp_size": told["mlp_size"]}
    mixer = {
        "kind": "attention",
        "n_head": told["n_head"],
        "n_kv_group": told["n_kv_group"],
        "qk_dim": told["n_qk_head_dim"],
        "v_dim": told["n_v_head_dim"],
    }
    return {"mixer": mixer, "mlp_size": told["mlp_size"]}
