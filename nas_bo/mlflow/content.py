"""What one trial is in MLflow: names, units, limits. Pure functions; nothing here talks to a server.

MLflow cuts long values with no more than a warning and stores infinities as 1.8e308. So lengths are kept here, what
does not fit goes whole into the artifact ``trial.json``, and what is not finite is left out (the state tag says it).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar

from nas_bo.architecture import Architecture
from nas_bo.foreign_document import text_of
from nas_bo.hardware.measuring.scale import NOTED
from nas_bo.mlflow import records
from nas_bo.report import Summary, drawing, figure, vocabulary
from nas_bo.report.ranks import Interval
from nas_bo.study import Further, StudyRecord, TrialRecord
from nas_bo.trial import ObjectiveSpec, State, Trial
from nas_bo.validated import is_number

T = TypeVar("T")
KEY_LENGTH, PARAM_LENGTH, TAG_LENGTH = 250, 6000, 8000  # MLflow's limits, in characters
MOST_PARAMS = 100  # what one request takes
MOST_LAYER_PARAMS = 40  # per-layer choices above this are in arch.json only: the UI draws an axis for each
MOST_POINTS = 200  # of a curve
MOST_SAMPLES = 64  # of a measurement that are logged one by one; more go into trial.json
NOTE = "mlflow.note.content"  # the description, as the UI shows it
STATUS = {"complete": "FINISHED", "pruned": "KILLED", "abandoned": "KILLED", "failed": "FAILED"}  # by how it ended


@dataclass
class Content:
    """A run to be; plain data, so that it can be kept in a file and logged by a process that has no study.

    Attributes:
        metrics: (name, value, step).
        files: artifact name -> text; see `uploads`.
        spilled: what MLflow would have cut; it goes into the file ``trial.json``.
        number: of the trial in its study; -1 for anything that is not a trial.
        start, end: milliseconds since 1970; None where it is not known.
        point: the values of a feasible trial in the order of the objectives, turned so that less is better; None else.
    """

    name: str
    status: str
    metrics: list[tuple[str, float, int]] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    spilled: dict[str, Any] = field(default_factory=dict)
    number: int = -1
    start: int | None = None
    end: int | None = None
    point: list[float] | None = None

    @property
    def uploads(self) -> dict[str, str]:
        """The files as they are written: at most two, since on a server every one costs a request.

        What is too long for MLflow (``trial.json``) is under the key ``trial`` of ``arch.json`` where there is one.
        """
        made = dict(self.files)
        if "arch.json" in made and "trial.json" in made:
            whole = {**json.loads(made["arch.json"]), "trial": json.loads(made.pop("trial.json"))}
            made["arch.json"] = json.dumps(whole, indent=1)
        return made

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "spilled"}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Content:
        """The inverse of `to_dict`; what later versions added is skipped."""
        known = {f.name for f in fields(cls)}
        made = cls(**{k: v for k, v in data.items() if k in known})
        made.metrics = [(str(n), float(v), int(s)) for n, v, s in made.metrics]
        return made

    def metric(self, name: str, value: object, step: int = 0) -> None:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            self.metrics.append((clean(name), float(value), step))

    def param(self, name: str, value: object) -> None:
        text = str(value)
        if len(text) > PARAM_LENGTH or len(self.params) >= MOST_PARAMS:
            self.spilled.setdefault("params", {})[name] = value
        else:
            self.params[clean(name)] = text

    def tag(self, name: str, value: object) -> None:
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        if len(text) > TAG_LENGTH:
            self.spilled.setdefault("tags", {})[name] = value
        else:
            self.tags[clean(name)] = text


def point(metrics: Mapping[str, float], tags: Mapping[str, str], cols: Sequence[ObjectiveSpec]) -> list[float] | None:
    """`Content.point` of a run that is there already."""
    found = [metrics.get(clean(f"obj/{c.name}")) for c in cols]
    if tags.get("nas.state") != "complete" or any(value is None for value in found):
        return None
    return [c.sign * float(value) for c, value in zip(cols, found, strict=True) if value is not None]


@lru_cache(maxsize=4096)  # a curve asks for its name at every point
def clean(name: str) -> str:
    """A name that MLflow accepts; one that had to be changed ends in digits of the original, so that two never meet.

    ``latency_ms<=25`` becomes ``latency_ms at most 25`` without digits, since nothing is lost.
    """
    text = name.replace("<=", " at most ").replace(">=", " at least ")
    text = re.sub(r"[^/\w.\- :]", "_", text, flags=re.ASCII)
    text = "/".join(part for part in text.split("/") if part.strip(". ")) or "_"
    legal = text == name.replace("<=", " at most ").replace(">=", " at least ")
    if not legal or len(text) > KEY_LENGTH:
        text = f"{text[: KEY_LENGTH - 7]}_{hashlib.sha256(name.encode()).hexdigest()[:6]}"
    return text


def thin(curve: Sequence[T], most: int = MOST_POINTS) -> list[T]:
    """At most `most` points of a curve, the first and the last among them, denser at the start."""
    n = len(curve)
    if n <= most:
        return list(curve)
    kept, at = {0, n - 1}, 0
    for i in range(1, most - 1):
        at = max(at + 1, round(n ** (i / (most - 1))) - 1)
        if at < n:
            kept.add(at)
    return [curve[i] for i in sorted(kept)]


def of_trial(study: StudyRecord, one: TrialRecord) -> Content:
    """Everything of a finished trial.

    Args:
        study: what it is of, without trials; of a study that nas_bo did not make nothing is left out for being the
            architecture's.
    """
    one = records.of(study, one)
    own, cols, ours, label = study.space, study.columns, bool(study.about), one.label
    trial = one.of(own)
    known = own.domains() if own is not None else {}
    number = f"{one.number:03d}"
    made = Content(" ".join([number, label or _short(one.params)]).strip()[:120], STATUS[one.ended])
    made.number = one.number
    made.start, made.end = milliseconds(one.started), milliseconds(one.finished)
    if trial.feasible and all(c.name in trial.values for c in cols):
        made.point = [c.sign * trial.values[c.name] for c in cols]
    objective_metrics(made, trial, cols)
    made.metric("cost/seconds", round(trial.seconds, 3))
    numbers(made, trial)
    _constraints(made, trial, ours)
    _reported(made, one, trial)
    _params(made, one.params, frozenset(known) & frozenset(one.params), label)
    _tags(made, one, trial, cols)
    described(made, trial, cols)
    if ours:
        made.files |= architecture_files(trial.architecture, label, vocabulary(study.about))
    if made.tags["nas.state"] in ("fail", "oom"):  # the reason is looked for here, the drawing is not
        made.files.pop("arch.svg", None)
        if trial.reason:
            made.files["error.txt"] = error_text(trial)
    if made.spilled:
        made.spilled |= {"info": dict(trial.info), "violations": dict(trial.violations), "reason": trial.reason}
        made.files["trial.json"] = json.dumps(made.spilled, indent=1, default=str)
    if one.rest is not None:
        with suppress(OSError, ValueError):  # the file may have been moved away since
            made.files["info.json"] = text_of(one.rest, follow=False)
    if one.further is not None:
        _further(made, one.further, {c.name for c in cols})
    return made


def _further(made: Content, more: Further, objectives: Collection[str]) -> None:
    """What an Ax experiment has of a trial in addition to its objectives."""
    for name, curve in more.curves.items():
        for step, value in curve:
            made.metric(f"train/{name}", value, step)
    for name, value in more.metrics.items():
        if name not in objectives:
            made.metric(f"metric/{name}", value)
    for name, value in more.errors.items():
        made.metric(f"sem/{name}", value)
    for name, value in more.seconds.items():
        made.metric(f"cost/{name}.seconds", value)
    for name, text in more.notes.items():
        made.tag(name, text)
    if more.arms:
        made.files["arms.json"] = json.dumps(more.arms, indent=1, default=str)


def _short(params: Mapping[str, object]) -> str:
    """A name from the first few parameters: ``lr=0.003 depth=4``."""
    return " ".join(
        f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in list(_counted(params).items())[:3]
    )


def _counted(params: Mapping[str, object]) -> dict[str, object]:
    """Parameters in which a chain of booleans of Ax (``depth.above_1``) is the count of a repeat that it encodes."""
    found: dict[str, object] = {}
    for name, value in params.items():
        path, above, count = name.rpartition(".above_")
        if not (above and isinstance(value, bool)):
            found[name] = value
        elif value:
            found[path] = f"more than {count}"
        elif not str(found.get(path, "")).isdigit():
            found[path] = count
    return found


def objective_metrics(made: Content, trial: Trial, cols: Sequence[ObjectiveSpec]) -> None:
    """The objectives first: the UI shows the first metrics."""
    for c in cols:
        made.metric(f"obj/{c.name}", trial.values.get(c.name))
    for c in cols:
        if log_axis(c) and trial.values.get(c.name, 0.0) > 0:
            made.metric(f"log10/{c.name}", math.log10(trial.values[c.name]))


def log_axis(c: ObjectiveSpec) -> bool:
    """Whether the logarithm of an objective is logged too: MLflow's scatter plot has no logarithmic axis."""
    return c.direction == "minimize" and (c.cost == "measured" or c.unit in ("s", "ms", "us"))


def architecture_files(arch: Architecture, label: str, vocab_size: int = 256) -> dict[str, str]:
    """``arch.json``, from which it can be built again, and ``arch.svg``, its drawing."""
    return {
        "arch.json": json.dumps(arch.to_dict(), indent=1),
        "arch.svg": drawing(arch, vocab_size=vocab_size, title=label),
    }


def error_text(trial: Trial) -> str:
    """Why a trial failed, and what was known about it until then."""
    known = [f"{name} = {value}" for name, value in trial.values.items()]
    broken = [f"{name} violated by {v:g}" for name, v in trial.violations.items() if v > 0]
    lines = [trial.reason, "", *known, *broken, f"after {trial.seconds:.3g} s"]
    return "\n".join([*lines, "", "architecture:", *(f"{k} = {v}" for k, v in trial.architecture.flat.items())]) + "\n"


def described(made: Content, trial: Trial, cols: Sequence[ObjectiveSpec]) -> None:
    """The description of a run: what was found, and how."""
    ways = {c.name: how(trial.info.get(c.name, {})) or (c.usual_way if c.name in trial.values else "") for c in cols}
    rows = [f"| {escaped(c.title)} | {figure(trial.values.get(c.name))} | {escaped(ways[c.name])} |" for c in cols]
    lead = escaped(trial.reason) if trial.reason else ""
    table = "\n".join(["| objective | value | how |", "|---|---:|---|", *rows])
    made.tag(NOTE, "\n\n".join(filter(None, [lead, table])))


def escaped(text: str) -> str:
    """As Markdown shows it, on one line."""
    return " ".join(re.sub(r"([\\`*_|<>\[\]])", r"\\\1", text).split())


def of_trust(summary: Summary) -> Content:
    """The figures of a study's trust reports: ``trust/NAME.tau`` and so on, those of a validation ``validation/NAME.tau``."""
    made = Content("", "")
    for group, report in (("trust", summary.trust), ("validation", summary.validation)):
        if report is None:
            continue
        made.metric(f"{group}/architectures", report.n)
        made.metric(f"{group}/noise_sd", report.noise)
        for j in report.judged:
            name = j.name.replace("@", " at ").replace("%", " percent")  # which MLflow does not take
            for what, figure_ in (
                ("tau", j.tau),
                ("tau_size_removed", j.size_removed),
                ("tau_equal_size", j.equal_size),
                ("tau_with_parameters", j.combined),
                ("spearman", j.spearman),
            ):
                made.metric(f"{group}/{name}.{what}", figure_.value)
                made.metric(f"{group}/{name}.{what}_low", figure_.low)
                made.metric(f"{group}/{name}.{what}_high", figure_.high)
            for what, number in (("recall", j.recall), ("regret", j.regret), ("cost_share", j.share)):
                made.metric(f"{group}/{name}.{what}", number)
            made.metric(f"{group}/{name}.pairs_equal_size", j.pairs)
        made.tag(f"nas.{group}", report.first_line)
    return made


def of_gain(summary: Summary) -> Content:
    """What a study gained over its baselines: ``gain/bits_per_byte.at_equal_latency_ms`` in the unit of the quality,
    ``gain/latency_ms.times_less`` at equal quality, each with its interval; the sentence as a tag."""
    made = Content("", "")
    for one in summary.gains:
        if not one.known or (one.standard and any(not other.standard and other.known for other in summary.gains)):
            continue  # of several kinds of baselines the one that the report begins with
        where = "" if one.cost is None else f"at_equal_{one.cost.name}"
        _interval(made, f"gain/{one.quality.name}.{where or 'at_the_limits'}", one.better)
        if one.cost is not None:
            what = "times_less" if one.cost.direction == "minimize" else "times_more"
            _interval(made, f"gain/{one.cost.name}.{what}", one.factor)
    if summary.opening:
        made.tag("nas.gain", summary.opening[0])
    return made


def _interval(made: Content, name: str, figure_: Interval) -> None:
    made.metric(name, figure_.value)
    made.metric(f"{name}_low", figure_.low)
    made.metric(f"{name}_high", figure_.high)


def state(one: TrialRecord) -> str:
    """complete, infeasible, stopped, pruned, abandoned, oom or fail: what the two red crosses of the UI do not tell apart."""
    if one.state is State.FAILED:
        return "oom" if re.search(r"out of memory|\bOOM\b", one.reason, re.IGNORECASE) else "fail"
    if any(v > 0 for v in one.violations.values()):
        return "infeasible"
    return "stopped" if one.state is State.STOPPED else one.ended


def how(info: Mapping[str, object]) -> str:
    """How a number was obtained, on one line: ``measured; device cpu; repeats 9; spread 0.03``."""
    skip = ("how", "curve", "curve_name", "seconds", "cpu_seconds", "parameters")
    rest = [f"{k} {figure(v) if isinstance(v, float) else v}" for k, v in info.items() if k not in skip and _scalar(v)]
    return "; ".join(([str(info["how"])] if "how" in info else []) + rest)


def hows(made: Content, trial: Trial, cols: Sequence[ObjectiveSpec]) -> None:
    """A tag for each objective: how its number was obtained."""
    usual = {c.name: c.usual_way for c in cols}
    for objective, info in trial.info.items():
        made.tag(f"nas.how.{objective}", how(info) or usual.get(objective) or "not noted")


def numbers(made: Content, trial: Trial) -> None:
    """Curves, times, spreads and sizes that the objectives noted of their values."""
    taken: set[str] = set()
    for objective, info in trial.info.items():
        made.metric(f"cost/{objective}.seconds", info.get("seconds"))
        made.metric(f"cost/{objective}.cpu_seconds", info.get("cpu_seconds"))
        for end in ("spread", "low", "high"):
            made.metric(f"hw/{objective}.{end}", info.get(end))
        if "parameters" in info:
            taken.add("parameters")
            if "arch_stat/parameters" not in {name for name, _, _ in made.metrics}:
                made.metric("arch_stat/parameters", info["parameters"])
        curve = info.get("curve")
        if isinstance(curve, list) and curve:
            name = f"train/{info.get('curve_name') or 'loss'}"
            name = f"train/{objective}" if name in taken else name
            taken.add(name)
            points = [p for p in curve if isinstance(p, (list, tuple)) and len(p) == 2]
            for step, value in thin(points):
                made.metric(name, value, int(step))
            if len(points) > MOST_POINTS:
                made.spilled.setdefault("curves", {})[objective] = curve
        for key, value in info.items():
            if (
                key not in ("curve", NOTED)
                and isinstance(value, (list, tuple, dict))
                and not _series(made, objective, key, value)
            ):
                made.spilled.setdefault("samples", []).append(objective)  # the whole info goes into trial.json


def _series(made: Content, objective: str, key: str, value: Any) -> bool:
    """Log a short series as a metric over steps: samples, pairs of a step and a value, named parts. False for all else."""
    if isinstance(value, dict):
        if not value or len(value) > MOST_SAMPLES or not all(is_number(v) for v in value.values()):
            return False
        for name, part in value.items():
            made.metric(f"part/{objective}.{name}", part)
        return True
    if not value:
        return True
    if len(value) <= MOST_SAMPLES and all(is_number(v) for v in value):
        for step, sample in enumerate(value):
            made.metric(f"hw/{objective}.{key}", sample, step)
        return True
    pairs = [p for p in value if isinstance(p, (list, tuple)) and len(p) == 2 and is_number(p[0]) and is_number(p[1])]
    if len(pairs) < len(value) or len(pairs) > MOST_POINTS or any(p[0] < 0 for p in pairs):
        return False
    small = max(p[0] for p in pairs) <= 1  # shares of a budget: steps are whole numbers
    for at, seen in pairs:
        made.metric(f"val/{objective}" if key == "validation" else f"val/{objective}.{key}", seen, round(at * 100) if small else int(at))  # fmt: skip
    return True


def _reported(made: Content, one: TrialRecord, trial: Trial) -> None:
    """Intermediate values; where a study of several objectives has none, what each was at its rungs, in percent."""
    reported = {"": one.reported}
    if not one.reported:
        rungs = {name: {round(100 * share): v for share, v in trial.rungs(name).items()} for name in trial.info}
        found = {name: points for name, points in rungs.items() if points}
        first = next(iter(found), "")
        reported = {"" if name == first else f".{name}": points for name, points in found.items()}
    for name, points in reported.items():
        for step, value in thin(sorted(points.items())):
            made.metric(f"train/reported{name}", value, int(step))


def _constraints(made: Content, trial: Trial, ours: bool) -> None:
    if trial.violations:
        made.metric("constraint/violated", sum(v > 0 for v in trial.violations.values()))
    for name, amount in trial.violations.items():
        if amount > 0 or not ours:  # in our studies most are zero, and every name is a chart
            made.metric(f"constraint/{name}", amount)


def _params(made: Content, params: Mapping[str, object], in_space: frozenset[str], label: str) -> None:
    layered = [name for name in params if re.search(r"\.\d+(\.|$)", name)]
    hidden = set(layered) if len(layered) > MOST_LAYER_PARAMS else set()
    if label and in_space:
        made.param("arch/code", label)
    for name, value in params.items():
        if name not in hidden:
            made.param(f"arch/{name}" if name in in_space else name, value)
        if name in in_space and "." not in name and isinstance(value, (int, float)) and not isinstance(value, bool):
            made.metric(f"arch_stat/{name}", value)  # params cannot be filtered by <, metrics can
    if hidden:
        made.spilled.setdefault("params", {}).update({name: params[name] for name in layered})


def _tags(made: Content, one: TrialRecord, trial: Trial, cols: Sequence[ObjectiveSpec]) -> None:
    made.tag("nas.kind", "trial")
    made.tag("nas.trial", f"{one.number:03d}")
    made.tag("nas.state", state(one))
    made.tag("nas.arch", one.arch_id or trial.architecture.id)
    if one.label:
        made.tag("nas.label", one.label)
    if trial.reason:
        made.tag("nas.error", trial.reason.splitlines()[0][:500])
        if len(trial.reason) > 500 or "\n" in trial.reason:
            made.spilled["reason"] = trial.reason
    hows(made, trial, cols)
    lost = [c for c, v in trial.values.items() if not math.isfinite(v)]
    if lost:
        made.tag("nas.not_finite", ", ".join(f"{c} = {trial.values[c]}" for c in lost))
    for name, value in one.attributes.items():
        made.tag(name if not name.startswith("mlflow.") else f"optuna.{name}", value)


def milliseconds(moment: datetime | None) -> int | None:
    return int(moment.timestamp() * 1000) if moment is not None else None


def _scalar(value: object) -> bool:
    return isinstance(value, (str, int, float, bool)) and len(str(value)) <= 200
