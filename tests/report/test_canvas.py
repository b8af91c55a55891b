"""The pictures of every search are laid out by a rule of our own, which measures once: nothing is cut off or covered."""

from __future__ import annotations

import importlib
from itertools import combinations

import pytest
from matplotlib.transforms import Bbox

from nas_bo.report import pictures as all_pictures
from nas_bo.report.canvas import canvas_of
from nas_bo.report.pictures import parallel_picture, progress_picture
from nas_bo.trial import ObjectiveSpec
from tests.report.test_report import LATENCY, LOSS, SIZE, SPEED, summary

LONG = ObjectiveSpec("val_loss", "nats per token of a corpus with a long name")
front_picture = importlib.import_module("nas_bo.report.picture")
others = importlib.import_module("nas_bo.report.pictures")
DRAWN = {
    "one objective": (front_picture.picture, (LOSS,), {}),
    "two": (front_picture.picture, (LONG, LATENCY), {}),
    "two, low": (front_picture.picture, (LOSS, LATENCY), {"height": 2.6}),
    "three": (front_picture.picture, (LOSS, LATENCY, SIZE), {}),
    "four": (front_picture.picture, (LONG, LATENCY, SIZE, SPEED), {"dpi": 60}),
    "progress": (progress_picture, (LOSS, LATENCY), {}),
    "progress of one": (progress_picture, (LONG,), {}),
    "parallel": (parallel_picture, (LOSS, LATENCY, SIZE, SPEED), {}),
}


@pytest.mark.parametrize("name", DRAWN)
def test_nothing_is_cut_off_or_covered(name, monkeypatch):
    draw, columns, more = DRAWN[name]
    for module in (front_picture, others):
        monkeypatch.setattr(module, "png", lambda canvas: canvas)
    canvas = draw(summary(columns), **more)
    canvas.draw()
    renderer, whole = canvas.get_renderer(), canvas.figure.bbox
    boxes = [axes.get_tightbbox(renderer, for_layout_only=True) for axes in canvas.figure.axes]
    places = [axes.get_subplotspec() for axes in canvas.figure.axes]
    boxes += [legend.get_window_extent(renderer) for legend in canvas.figure.legends]
    for box in boxes:
        assert whole.x0 <= box.x0 and box.x1 <= whole.x1 and whole.y0 <= box.y0 and box.y1 <= whole.y1, (box, whole)
    for (i, a), (j, b) in combinations(enumerate(boxes), 2):
        twins = max(i, j) < len(places) and places[i] == places[j]
        both = Bbox.intersection(a, b)
        assert twins or both is None or min(both.width, both.height) < 1, (a, b)


def test_where_there_is_no_room_there_is_still_a_picture():
    assert front_picture.picture(summary(), width=0.4, height=0.3)[:4] == b"\x89PNG"


def test_pictures_of_a_report_are_laid_out_without_an_engine(monkeypatch):
    """An engine measures twice what is measured once here, in every command that ends with a picture."""
    made = []

    def kept(*size, **more):
        made.append(canvas_of(*size, **more))
        return made[-1]

    monkeypatch.setattr(front_picture, "canvas_of", kept)
    monkeypatch.setattr(others, "canvas_of", kept)
    shown = summary()
    front_picture.picture(shown), all_pictures(shown)
    assert len(made) == 3 and all(canvas.figure.get_layout_engine() is None for canvas in made)
