"""The trust report as HTML: a section of the page of a search, or a page of its own. No script, no network."""

from __future__ import annotations

from html import escape
from importlib.resources import files

from nas_bo.report.ranks import Interval
from nas_bo.report.trust import Judged, TrustReport
from nas_bo.report.verdict import HEAD, cells, footing, ranked

WIDE, HIGH = 110, 16  # of the little drawing of an interval, in pixels
LEFT, RIGHT = -1.0, 1.0  # taus at its ends


def section(report: TrustReport) -> str:
    """First line, table with drawn intervals, what the figures are based on, what to do; the first and the last alone where there is no ranking."""
    said = f"<p><b>{escape(report.first_line)}</b></p><p>{escape(report.recommendation())}</p>"
    if not ranked(report):
        return said + "".join(f"<p class=note>{escape(note)}</p>" for note in report.notes)
    head = "".join(f"<th>{escape(word)}" for word in HEAD)
    rows = "".join(_row(j, report) for j in report.judged)
    return (
        f"{said}<div class=scroll><table class='cards trust'><thead><tr>{head}</thead><tbody>{rows}</tbody></table></div>"
        f"<p class=note>{escape(footing(report))}</p>"
    )


def trust_page(report: TrustReport, title: str) -> str:
    """The section as a page of its own."""
    style = files("nas_bo.report").joinpath("page.css").read_text(encoding="utf-8")
    return (
        f"<!doctype html>\n<html lang=en><head><meta charset=utf-8><title>{escape(title)}</title>"
        f'<meta name=viewport content="width=device-width,initial-scale=1"><style>{style}</style></head><body>\n'
        f"<header><h1>{escape(title)}</h1></header><section>{section(report)}</section>\n</body></html>\n"
    )


def _row(j: Judged, report: TrustReport) -> str:
    """A row; every cell has the head of its column, which a narrow screen shows before the value."""
    name, tau, removed, *rest = (escape(cell) for cell in cells(j, report))
    shown = [name, _drawn(j.tau) + tau, _drawn(j.size_removed) + removed, *rest]
    marks = [f' data-h="{escape(word)}"' for word in HEAD]
    return "<tr>" + "".join(
        f"<td{' class=n' if i else ''}{mark}>{cell}" for i, (mark, cell) in enumerate(zip(marks, shown, strict=True))
    )


def _drawn(figure: Interval) -> str:
    """A line from the low to the high end and a dot at the value, on a scale from -1 to 1."""
    if not figure.known:
        return ""
    middle = HIGH / 2
    line = ""
    if figure.bounded:
        line = f'<line x1="{_at(figure.low)}" x2="{_at(figure.high)}" y1="{middle}" y2="{middle}" class="bar"/>'
    return (
        f'<svg class=tau width={WIDE} height={HIGH} viewBox="0 0 {WIDE} {HIGH}" aria-hidden=true>'
        f'<line x1="{_at(0)}" x2="{_at(0)}" y1="2" y2="{HIGH - 2}" class="zero"/>{line}'
        f'<circle cx="{_at(figure.value)}" cy="{middle}" r="4"/></svg><br>'
    )


def _at(value: float) -> str:
    return f"{5 + (WIDE - 10) * (min(max(value, LEFT), RIGHT) - LEFT) / (RIGHT - LEFT):.1f}"
