"""What architectures are called in tables, progress, trackers and reports.

A space may say it: a function ``label(arch) -> str`` in its class body. Else our decoder's own short name (`nas_bo.model.label`);
else the fields that differ among the architectures that are shown together: ``width=64 layers=gru,2*mlp4``.
"""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Protocol, runtime_checkable

from nas_bo.architecture import Architecture, Primitive
from nas_bo.errors import NasBoError, SpaceError
from nas_bo.space import Space
from nas_bo.trial import Trial

_log = logging.getLogger(__name__)

MOST = 60  # characters, as many as a label of our decoder has
_INDEX = re.compile(r"^(.*?)\.(\d+)\.(.+)$")  # layers.3.mixer -> layers, 3, mixer
_failed: set[str] = set()


def labels_of(shown: Iterable[Architecture | Trial], space: type[Space] | None = None) -> dict[str, str]:
    """Labels by the id of the architecture. Those made of fields are all different.

    Args:
        shown: what is shown together; labels of fields name those that differ among them.
        space: theirs, where it is known.
    """
    archs = {one.id: one for one in (t.architecture if isinstance(t, Trial) else t for t in shown)}
    found = {key: _own(arch, space) or _decoder(arch) for key, arch in archs.items()}
    differ = _differing([archs[key].flat for key, name in found.items() if name is None])
    labels = {key: name or _of_fields(archs[key].flat, archs[key].counts, differ) for key, name in found.items()}
    often = Counter(labels.values())
    alike = {key for key, name in labels.items() if found[key] is None and often[name] > 1}
    return {key: f"{name} #{key[:4]}" if key in alike else name for key, name in labels.items()}


def label_of(arch: Architecture, space: type[Space] | None = None) -> str:
    """The label of one architecture alone: with all of its fields where neither the space nor our decoder has a name."""
    return _own(arch, space) or _decoder(arch) or _of_fields(arch.flat, arch.counts, None)


def check_label(space: type[Space], arch: Architecture) -> None:
    """Raise SpaceError where the `label` of a space raises or gives no text."""
    hook = _hook(space)
    if hook is None:
        return
    try:
        said = hook(arch)
    except Exception as error:
        raise SpaceError(
            f"{space.title}.label raised {type(error).__name__}: {error}, for the architecture {dict(arch.flat)}; it must return a "
            "short text for every architecture of its space"
        ) from error
    if not isinstance(said, str) or not said.strip():
        raise SpaceError(
            f"{space.title}.label returned {said!r:.60}; it must return a short text such as 'w64 gru mlp2'"
        )


@runtime_checkable
class Labelling(Protocol):
    """A space that says what its architectures are called."""

    def label(self, arch: Architecture, /) -> str: ...


def _hook(space: type[Space] | None) -> Callable[[Architecture], object] | None:
    """The function `label` of a space; a field of that name is none."""
    if space is None or "label" in space._fields or not isinstance(space, Labelling):
        return None
    return space.label


def _own(arch: Architecture, space: type[Space] | None) -> str | None:
    hook = _hook(space)
    if hook is None or space is None:
        return None
    try:
        check_label(space, arch)
        return " ".join(str(hook(arch)).split())[:MOST]
    except SpaceError as error:  # a name costs no trial
        if space.title not in _failed:
            _failed.add(space.title)
            _log.warning("%s; other names are shown", error)
        return None


def _decoder(arch: Architecture) -> str | None:
    from nas_bo.model import label

    try:
        return label(arch)
    except NasBoError:
        return None


# ---- fields -----------------------------------------------------------------------------------------------------------


def _differing(flats: list[Mapping[str, Primitive]]) -> frozenset[str] | None:
    """The paths that differ; None, for all of them, where nothing does."""
    missing = object()
    paths = dict.fromkeys(path for flat in flats for path in flat)
    differ = frozenset(p for p in paths if len({repr(flat.get(p, missing)) for flat in flats}) > 1)
    return differ or None


def _of_fields(flat: Mapping[str, Primitive], counts: Iterable[str], differ: frozenset[str] | None) -> str:
    inside = None if differ is None else {(m[1], m[3]) for p in differ if (m := _INDEX.match(p))}
    plain: dict[str, Primitive] = {}
    layers: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path, value in flat.items():
        at = _INDEX.match(path)
        if at is None:
            if differ is None or path in differ:
                plain[path] = value
        elif inside is None or (at[1], at[3]) in inside:
            layers[at[1]][int(at[2])].append(_said(value))
    if layers:  # their number is seen
        plain = {path: value for path, value in plain.items() if path not in counts}
    last = Counter(path.rpartition(".")[2] for path in plain)
    words = [
        f"{path if last[path.rpartition('.')[2]] > 1 else path.rpartition('.')[2]}={_said(value)}"
        for path, value in plain.items()
    ]
    words += [f"{name}={_runs([_joined(found[i]) for i in sorted(found)])}" for name, found in layers.items()]
    text = " ".join(words) or "no fields"
    return text if len(text) <= MOST else f"{text[: MOST - 2].rstrip()} …"


def _said(value: Primitive) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _joined(values: list[str]) -> str:
    """``gru``, ``mlp4``, ``attention4/2``: names run together with the first of their numbers."""
    text = values[0]
    for before, value in pairwise(values):
        text += value if before[-1:].isalpha() and value[:1].isdigit() else f"/{value}"
    return text


def _runs(words: list[str]) -> str:
    runs: list[tuple[str, int]] = []
    for word in words:
        if runs and runs[-1][0] == word:
            runs[-1] = word, runs[-1][1] + 1
        else:
            runs.append((word, 1))
    return ",".join(word if n == 1 else f"{n}*{word}" for word, n in runs)
