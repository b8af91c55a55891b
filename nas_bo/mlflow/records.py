"""Records of studies (`nas_bo.study`) as MLflow shows them: what the values are called, and a summary for the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nas_bo.errors import HostError
from nas_bo.report import Summary, vocabulary
from nas_bo.report.labels import labels_of
from nas_bo.study import StudyRecord, TrialRecord
from nas_bo.wording import counted


def title(study: StudyRecord) -> str:
    """What an experiment is called when nobody names it."""
    own_name = study.name if not study.name.startswith("no-name-") else "optuna"
    return (study.about.get("space") or {}).get("title") or own_name


def checked_names(names: Sequence[str] | None) -> tuple[str, ...]:
    """Names for the values of a study (raises HostError unless they are different texts)."""
    found = () if names is None else (names,) if isinstance(names, str) else tuple(names)
    if not all(isinstance(name, str) and name.strip() for name in found) or len(set(found)) < len(found):
        raise HostError(f"metric_names={names!r} must be different names, one for each value of a trial")
    return found


def named(study: StudyRecord, names: Sequence[str]) -> StudyRecord:
    """The study with `names` for its values, if they have none of their own.

    Raises:
        HostError: there are more or fewer values than names.
    """
    unnamed = {"value", *(f"value_{i}" for i in range(len(study.columns)))}
    if not names or study.about or not {c.name for c in study.columns} <= unnamed:
        return study
    if len(names) != len(study.columns):
        raise HostError(
            f"the study {study.name!r} has {counted(len(study.columns), 'value')} per trial, and {counted(len(names), 'metric name was', 'metric names were')} given "
            f"({', '.join(names)}); give one for each, in the order of the values"
        )
    return replace(study, columns=tuple(replace(c, name=n) for c, n in zip(study.columns, names, strict=True)))


def of(study: StudyRecord, trial: TrialRecord) -> TrialRecord:
    """The trial with its values by the names that they have in `study`."""
    names = [c.name for c in study.columns]
    if len(names) != len(trial.values) or set(names) == set(trial.values):
        return trial
    return replace(trial, values=dict(zip(names, trial.values.values(), strict=True)))


def summary(study: StudyRecord, ended: Sequence[TrialRecord], title: str) -> Summary:
    """What the study itself says, for a report."""
    own, those = study.space, [of(study, one) for one in ended]
    trials = [one.of(own) for one in those]
    named = {t.architecture.id: one.label for t, one in zip(trials, those, strict=True)}
    labels = {key: named[key] or found for key, found in labels_of(trials, own).items()}
    facts = {k: v for k, v in study.about.items() if k not in ("space", "columns", "recipe")}
    return Summary(
        title,
        study.columns,
        trials,
        labels,
        facts=facts or ({"generator": study.sampler} if study.sampler else {}),
        baselines=study.baselines,
        space=own,
        vocab_size=vocabulary(study.about),
    )
