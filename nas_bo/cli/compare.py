"""`nas-bo compare`: the fronts of several studies side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from nas_bo import database_url
from nas_bo.cli.documents import print_document
from nas_bo.cli.failure import errors
from nas_bo.cli.options import Json
from nas_bo.cli.output import say
from nas_bo.errors import SearchError

if TYPE_CHECKING:
    from nas_bo.workflows.comparison import Comparison
    from nas_bo.workflows.result import Result


def compare(
    storages: Annotated[
        list[str],
        typer.Argument(help="Two or more storages with one study each, or STORAGE::STUDY where there are several."),
    ],
    as_json: Json = False,
) -> None:
    """Compare the fronts of studies with the same objectives, also of different spaces: hypervolumes with one reference point, and who dominates whom."""
    with errors():
        from nas_bo.cli import resolve
        from nas_bo.workflows.comparison import compare as compared

        pairs = [storage.partition("::") for storage in storages]
        results = [resolve.stored(storage, name or None) for storage, _, name in pairs]
        _different(pairs, results)
        found = compared(results)
        if as_json:
            print_document("comparison", document(found, storages))
        else:
            say(text(found, storages))


def _different(pairs: Sequence[tuple[str, str, str]], results: Sequence[Result]) -> None:
    """Raise SearchError where one study is given twice, by whatever paths."""
    seen: dict[tuple[str, str], str] = {}
    for (storage, _, _), result in zip(pairs, results, strict=True):
        file = database_url.file_of(storage)
        key = storage if file is None else str(file.resolve()), result.title
        if key in seen:
            raise SearchError(
                f"the study {result.title!r} would be compared with itself: {database_url.shown(seen[key])} and "
                f"{database_url.shown(storage)} are the same; give the storage of another study, or STORAGE::STUDY where one has several"
            )
        seen[key] = storage


def document(found: Comparison, storages: Sequence[str]) -> dict[str, object]:
    """The comparison as JSON-safe data."""
    studies = []
    for result, front, storage, covered in zip(found.results, found.fronts, storages, found.covered, strict=True):
        members = [
            {
                "trial": t.number,
                "id": t.architecture.id,
                "label": result.label(t),
                "values": dict(t.values),
                "on_common_front": common,
                "dominated_by": None if by is None else {"study": by[0], "trial": by[1].number},
            }
            for t, common, by in zip(front.members, front.common, front.dominated_by, strict=True)
        ]
        studies.append(
            {
                "storage": storage,
                "study": result.title,
                "trials": len(result.trials),
                "hypervolume": front.hypervolume,
                "on_common_front": sum(front.common),
                "dominates": covered,
                "front": members,
            }
        )
    objectives = [{"name": c.name, "unit": c.unit, "direction": c.direction} for c in found.columns]
    values = "re-trained" if found.again else "search"
    said = {"objectives": objectives, "values": values, "reference": found.reference, "studies": studies}
    return {**said, "notes": list(found.notes)}


def text(found: Comparison, storages: Sequence[str]) -> str:
    """The comparison in lines: a row per study, the front of all, and who dominates whom."""
    from nas_bo.report.digits import figure, known
    from nas_bo.report.notation import bounds

    marks = [chr(ord("a") + i) if i < 26 else f"s{i}" for i in range(len(storages))]
    when = "after re-training" if found.again else "of the search"
    lines = [f"Values {when}. Objectives: {', '.join(c.title for c in found.columns)}."]
    if found.reference is not None:
        lines.append(f"Reference point: {', '.join(f'{n} {figure(v)}' for n, v in found.reference.items())}.")
    rows = [["", "study", "trials", "front", "on the common front", "dominated", "hypervolume"]]
    for mark, result, front, storage in zip(marks, found.results, found.fronts, storages, strict=True):
        beaten = sum(by is not None for by in front.dominated_by)
        sizes = [len(result.trials), len(front.members), sum(front.common), beaten]
        rows.append(
            [mark, f"{result.title} ({storage.partition('::')[0]})", *map(str, sizes), figure(front.hypervolume) or "-"]
        )
    lines += ["", *_table(rows)]
    rows = [["", "trial", "architecture", *(c.title for c in found.columns), "dominated by"]]
    every = [
        (found.columns[0].sign * t.values[found.columns[0].name], mark, result, t, by)
        for mark, result, front in zip(marks, found.results, found.fronts, strict=True)
        for t, by in zip(front.members, front.dominated_by, strict=True)
    ]
    for _, mark, result, t, by in sorted(every, key=lambda row: row[:2]):
        shown = [known(t.values[c.name], t.info.get(c.name)) for c in found.columns]
        rows.append(
            [mark, str(t.number), result.label(t), *shown, "" if by is None else f"{marks[by[0]]} {by[1].number}"]
        )
    lines += ["", *_table(rows), ""]
    for i, one in enumerate(marks):
        for j, other in enumerate(marks):
            if i != j:
                lines.append(f"{one} dominates {found.covered[i][j]:.0%} of the front of {other}.")
    lines += [f"\n{told[0].upper()}{told[1:]}." for told in [bounds(found.columns)] if told]
    lines += [f"\n{note}" for note in found.notes]
    return "\n".join(lines)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    left = ("", "study", "architecture", "dominated by")
    from nas_bo.report.digits import aligned

    return aligned(rows, right=[i for i, head in enumerate(rows[0]) if head not in left])
