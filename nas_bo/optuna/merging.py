"""Studies of several teams as one: same space, same objectives, same conditions, or a clear refusal."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas_bo import spelling, study_name
from nas_bo.errors import HostError
from nas_bo.optuna import studies
from nas_bo.study import MERGED, STUDY, TRIAL, columns_of, from_attributes, plain, read_attributes, write_attributes

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True)
class Merged:
    """What `merge` did, in trials.

    Attributes:
        study: the one that has them all now.
        added: copied now.
        known: there already, from an earlier merge or since the studies have them in common.
        left: not finished, and so left where they are.
    """

    study: Study
    added: int
    known: int
    left: int


def merge(
    others: Sequence[Study], storage: str | optuna.storages.BaseStorage | None = None, name: str | None = None
) -> Merged:
    """Copy the finished trials of `others` into the study `name` of `storage`, which is made where it is not there.

    Only what compares is put together: the space's schema, objectives, rules, limits and the conditions under which values
    were obtained must be the same. Each copy says where it is from (`origin`). A trial is never copied twice, also when
    `others` have grown since, were merged with each other before, or the merging process was killed: call it again. (Not
    from two processes at once.) `search` and `AskTell` continue with the study, and strategies learn from all of its trials.

    Args:
        storage, name: as for `search`; by default a study in memory, of the name of the first.

    Raises:
        HostError: they do not belong together, one was not made by nas_bo, or a storage cannot be opened.
    """
    if isinstance(others, Study) or not others:
        raise HostError("merge(others=...): it must be a list of at least one study, such as optuna.load_study gives")
    first = others[0].study_name
    name = first if name is None else study_name.check(name)
    into = _there(storage, name)
    abouts = [_about(study) for study in others]
    loss = spelling.began(abouts[0] if into is None else _about(into))
    names = [loss if spelling.began(about) else None for about in abouts]  # whatever the others call it
    abouts = [spelling.translated(about, called) for about, called in zip(abouts, names, strict=True)]
    for study, about in zip(others[1:], abouts[1:], strict=True):
        _check(first, abouts[0], study.study_name, about)
    columns = columns_of(abouts[0])
    if into is None:
        into = studies.open_study(storage, name, columns, abouts[0])
    else:
        _check(name, _about(into), first, abouts[0])
    seen = {identity(trial) for trial in into.get_trials(deepcopy=False)}
    added = known = left = 0
    for study, called in zip(others, names, strict=True):
        for trial in study.get_trials(deepcopy=False):
            key = identity(trial)
            if trial.state not in FINISHED:
                left += 1
            elif key in seen:
                known += 1
            else:
                into.add_trial(_copy(trial, study.study_name, key, called))
                seen.add(key)
                added += 1
    return Merged(into, added, known, left)


def identity(trial: FrozenTrial) -> str:
    """The same for a trial and all of its copies: when it began, and with what."""
    origin = read_attributes(trial.user_attrs, MERGED)
    if origin is not None:
        return str(origin["key"])
    began = None if trial.datetime_start is None else trial.datetime_start.isoformat()
    parts = [trial.number, began, sorted(trial.params.items())]
    return hashlib.sha256(json.dumps(parts, default=plain).encode()).hexdigest()[:20]


def origin(trial: FrozenTrial | optuna.Trial) -> dict[str, Any] | None:
    """Where a copied trial is from: ``{"study": ..., "number": ..., "key": ...}``; None for one of the study's own."""
    found = read_attributes(trial.user_attrs, MERGED)
    return found if isinstance(found, dict) else None


def _copy(trial: FrozenTrial, study: str, key: str, loss: str | None) -> FrozenTrial:
    copied = copy.deepcopy(trial)
    attributes = copied.user_attrs
    own = from_attributes(attributes)
    if (renamed := spelling.translated(own, loss)) != own:
        attributes |= write_attributes(TRIAL, renamed)
        copied.system_attrs = spelling.translated(copied.system_attrs, loss)  # where Optuna keeps constraints
    if origin(trial) is None:
        attributes |= write_attributes(MERGED, {"study": study, "number": trial.number, "key": key})
    copied.user_attrs = attributes
    return copied


def _about(study: Study) -> Mapping[str, object]:
    about: Mapping[str, Any] | None = studies.kept(study, STUDY)
    if about is None:
        raise HostError(
            f"the study {study.study_name!r} was not made by nas_bo, so that nobody knows its space and under which conditions "
            "its values were obtained; where they are the same, copy with study.add_trials(other.trials)"
        )
    return about


def _there(storage: str | optuna.storages.BaseStorage | None, name: str) -> Study | None:
    if storage is None:
        return None
    try:
        return studies.load(storage, name)
    except HostError:  # none yet; a storage that cannot be opened says so when the study is made
        return None


def _check(name: str, began: Mapping[str, object], other: str, about: Mapping[str, object]) -> None:
    """Both ways: a condition that only one of them has is a difference as well."""
    remedy = "They are not one study; leave them apart, or compare their fronts by hand"
    studies.check_same(name, began, about, f"the study {other!r} to be merged", remedy)
    studies.check_same(other, about, began, f"the study {name!r} to be merged", remedy)
