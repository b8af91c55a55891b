"""NAS-Bench-201 (Dong and Yang, 2020, ICLR, arXiv 2001.00326) with latencies (published with HELP, Lee et al., 2021, NeurIPS), from a
folder that holds `nb201.parquet`: all 15,625 cells of six unordered choices, so the fronts are exact.

The same cells as a list of six records and as six fields that do not look like a list; with the latency of two devices, and
the error alone. The reference point is `reference_point` of the whole table, its error at most the median of all cells: beyond it the
fronts hold cells that learn nothing.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.search_efficiency.problems.case import Case
from nas_bo.architecture import Architecture
from nas_bo.pareto import hypervolume, reference_point
from nas_bo.space import Space, choice, repeat

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
ERROR = "cifar10_val_accuracy_12_epochs"
LATENCIES = {"fpga": "latency_fpga_ms", "pixel3": "latency_pixel3_ms"}


class Listed(Space):
    """The six operations as a list."""

    edges = repeat(6, op=choice(*OPERATIONS))


class Named(Space):
    """The six operations as fields whose names do not say that they are alike."""

    from_input = choice(*OPERATIONS)
    second_input = choice(*OPERATIONS)
    second_first = choice(*OPERATIONS)
    output_input = choice(*OPERATIONS)
    output_first = choice(*OPERATIONS)
    output_second = choice(*OPERATIONS)


class _Kind(NamedTuple):
    space: type[Space]
    device: str | None


CASES = {
    "nb201-fpga": _Kind(Listed, "fpga"),
    "nb201-pixel3": _Kind(Listed, "pixel3"),
    "nb201-fpga-fields": _Kind(Named, "fpga"),
    "nb201-pixel3-fields": _Kind(Named, "pixel3"),
    "nb201-error": _Kind(Listed, None),
    "nb201-error-fields": _Kind(Named, None),
}

Table = dict[tuple[str, ...], tuple[float, ...]]


@cache
def _table(path: Path) -> Table:
    """Operations -> error in points, then the latencies in ms in the order of `LATENCIES`."""
    import pandas

    rows = pandas.read_parquet(path)
    operations = zip(*(rows[f"op{i}"] for i in range(6)), strict=True)
    figures = np.column_stack([100 - rows[ERROR], *(rows[column] for column in LATENCIES.values())])
    return dict(zip(operations, map(tuple, figures.tolist()), strict=True))


def case(name: str, folder: Path) -> Case:
    """One of `CASES`.

    Raises:
        FileNotFoundError: `folder` does not hold the table.
    """
    path = folder / "nb201.parquet"
    if not path.exists():
        raise FileNotFoundError(f"{folder} holds no nb201.parquet; --data names the folder of the published tables")
    kind, table = CASES[name], _table(path)

    def value(column: int, arch: Architecture) -> float:
        return table[tuple(str(op) for op in arch.flat.values())][column]

    functions = {"error": lambda arch: value(0, arch)}
    every = np.array(list(table.values()))[:, :1]
    if kind.device is not None:
        column = 1 + list(LATENCIES).index(kind.device)
        functions["latency_ms"] = lambda arch: value(column, arch)
        every = np.array(list(table.values()))[:, [0, column]]
    point = np.array([100.0])
    if kind.device is not None:
        point = reference_point(every)
        point[0] = min(point[0], float(np.median(every[:, 0])))
    return Case(
        name,
        kind.space,
        functions,
        tuple(functions),
        tuple(point.tolist()),
        hypervolume(every, point),
        known=tuple(functions)[1:],
    )
