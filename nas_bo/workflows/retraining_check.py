"""What the end of a search says about its own estimates: which of them were seen to hold at the re-training."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nas_bo import wording
from nas_bo.architecture import Architecture
from nas_bo.errors import NasBoError
from nas_bo.knee import recommended
from nas_bo.objectives.learned_correction import LEAST as FEWEST_RUNS
from nas_bo.objectives.learned_correction import SAME, Run, learned_growth, runs_of
from nas_bo.report import Proxy, TrustReport, trust
from nas_bo.report.ranks import about_equal
from nas_bo.report.spread import across
from nas_bo.trial import ObjectiveSpec, State, Trial
from nas_bo.validated import is_number

FLOPS_TOKENS = 128  # over which FLOPs are counted, as the objective does


MAX_RETRAINED = 12  # of the front; a larger one is thinned evenly
LEAST = 8  # trials from which estimates are judged by them
WITH_STANDARD = 10  # of the front where plain decoders are trained with it
MAX_CHECKED = 14  # re-trained in all, those off the front included; the knee and the ends come on top where they must


def of_front(
    best: Sequence[Trial],
    columns: Sequence[ObjectiveSpec],
    most: int = MAX_RETRAINED,
    baselines: Sequence[Mapping[str, object]] = (),
    levels: Mapping[str, object] | None = None,
) -> list[Trial]:
    """What of a front is re-trained: the knee, the best in every objective, then others spread evenly up to `most`.

    Args:
        best: the front, best in the first objective first.
        baselines, levels: see `nas_bo.trial.knee`.
    """
    middle = recommended(best, columns, baselines, levels)
    ends = [min(best, key=lambda t: c.sign * t.values[c.name]) for c in columns] if best else []
    chosen = list({id(t): t for t in [middle, *ends] if t is not None}.values())
    rest = [t for t in best if all(t is not c for c in chosen)]
    return [*chosen, *thin(rest, most - len(chosen))]


def thin(trials: Sequence[Trial], most: int) -> list[Trial]:
    """At most `most` of `trials`, evenly spaced, first and last among them."""
    if len(trials) <= most:
        return list(trials)
    if most < 2:
        return [trials[len(trials) // 2]] * max(0, most)
    return [trials[round(i * (len(trials) - 1) / (most - 1))] for i in range(most)]


def others(
    trials: Sequence[Trial], front: Sequence[Trial], column: ObjectiveSpec, n: int, beside: Sequence[Trial] = ()
) -> list[Trial]:
    """At most `n` trials off the front, spread over size and over what the search thought of them.

    Agreement among winners says little about the space, and agreement among different sizes little more than that larger ones are better. So
    those come first that have about the size of an architecture in `beside`, which is trained again as well. No more than a tenth of the
    trials, so that a short search does not spend more on checking than on searching.
    """
    known = [t for t in trials if t.state is State.COMPLETE and math.isfinite(t.values.get(column.name, math.nan))]
    best = {t.architecture.id for t in front}
    known = list({t.architecture.id: t for t in reversed(known)}.values())[::-1]
    sizes = [math.nan if (s := size_of(t)) is None else s for t in known]
    taken = [i for i, t in enumerate(known) if t.architecture.id in best]
    scores = [column.sign * t.values[column.name] for t in known]
    n = min(n, len(trials) // 10)
    near = [size for t in beside if (size := size_of(t)) is not None]
    partners = [i for i, size in enumerate(sizes) if i not in taken and any(about_equal(size, other) for other in near)]
    picked = [partners[i] for i in across([sizes[i] for i in partners], [scores[i] for i in partners], n)]
    picked += across(sizes, scores, n - len(picked), taken=[*taken, *picked])
    return [known[i] for i in sorted(picked)]


def of_search(
    trials: Sequence[Trial],
    columns: Sequence[ObjectiveSpec],
    front: Sequence[Trial],
    again: Mapping[str, Mapping[str, Any]],
    factor: float,
    proxies: Sequence[ObjectiveSpec] = (),
) -> TrustReport | None:
    """The trust report of a search from what it re-trained; None when nothing was.

    Judged are the searched value of the first re-trained objective, what it was at the rungs of its training and, of a part of a trained
    model, before it, and the proxies of the search.

    Args:
        again: architecture id -> ``{"values": ..., "info": ...}`` at `factor` times the budget.
        proxies: the cheap objectives whose values are in the trials' `info`.
    """
    by_id = {t.architecture.id: t for t in reversed(trials) if t.architecture.id in again}
    found = [t for t in trials if by_id.get(t.architecture.id) is t]
    first = next((c for c in columns if any(c.name in again[t.architecture.id]["values"] for t in found)), None)
    if first is None:
        return None
    known = [t for t in found if first.name in again[t.architecture.id]["values"] and first.name in t.values]
    values = [float(again[t.architecture.id]["values"][first.name]) for t in known]
    dear = [again[t.architecture.id].get("info", {}).get(first.name, {}) for t in known]
    share = _share([t.info.get(first.name, {}) for t in known], dear, 1 / factor)
    judged = [Proxy(first.name, [t.values[first.name] for t in known], first.direction, share)]
    for rung in sorted({s for t in known for s in t.rungs(first.name)}):
        seen = [t.rungs(first.name).get(rung, math.nan) for t in known]
        judged.append(Proxy(f"{first.name}@{rung:.0%}", seen, first.direction, share * rung))
    corrected, told = _corrected(trials, known, values, first, factor)
    judged += [replace(one, share=share * one.share) for one in corrected]
    before = [t.info.get(first.name, {}) for t in known]
    if any("as_is" in info for info in before):  # a part of a trained model, before it recovered
        took = [{"cpu_seconds": info.get("as_is_cpu_seconds")} for info in before]
        seen = [float(info.get("as_is", math.nan)) for info in before]
        judged.append(Proxy(f"{first.name} as it is", seen, first.direction, _share(took, dear, math.nan)))
    judged += _estimates(known, proxies, dear)
    best = {t.architecture.id for t in front}
    winners = sum(t.architecture.id in best for t in known)
    chosen = _chosen(winners, len(known) - winners, factor)
    return _report(known, judged, values, first, f"re-trained {first.name}", chosen, told)


def _estimates(
    known: Sequence[Trial], proxies: Sequence[ObjectiveSpec], dear: Sequence[Mapping[str, object]]
) -> list[Proxy]:
    """The proxies of a search, whose values are in the trials' `info`; `dear` is that of what they stand for."""
    judged = []
    for c in proxies:
        infos = [t.info.get(c.name, {}) for t in known]
        seen = [float(i["value"]) if "value" in i else math.nan for i in infos]
        judged.append(Proxy(c.name, seen, c.direction, _share(infos, dear, math.nan)))
    return judged


def _report(
    known: Sequence[Trial],
    judged: Sequence[Proxy],
    values: Sequence[float],
    column: ObjectiveSpec,
    name: str,
    chosen: str,
    notes: Sequence[str] = (),
) -> TrustReport:
    return trust(
        judged,
        values,
        sizes(known),
        flops([t.architecture for t in known]),
        name=name,
        unit=column.unit,
        direction=column.direction,
        ids=[t.architecture.id for t in known],
        labels=[t.architecture.id[:8] if t.number is None else f"trial {t.number}" for t in known],
        chosen=chosen,
        notes=notes,
    )


def _corrected(
    trials: Sequence[Trial], known: Sequence[Trial], values: Sequence[float], column: ObjectiveSpec, factor: float
) -> tuple[list[Proxy], list[str]]:
    """What early losses say with the correction that this study teaches, each run left out; and what is known about it.

    Rungs are corrected by the whole runs of all trials. A loss that was corrected already (`ValidationLoss.quick`) is corrected by what the
    re-training, at `factor` times the budget, brought; `values` are those of `known`. `Proxy.share` is that of the run.
    """
    if column.unit != "bits/byte":
        return [], []
    runs = runs_of(trials, column.name)
    for trial, final in zip(known, values, strict=True):
        info = trial.info.get(column.name, {})
        if is_number(info.get("growth")) and is_number(info.get("measured")) and is_number(info.get("fidelity")):
            share = float(info["fidelity"]) / factor
            runs.append(Run(trial.architecture, share, float(info["measured"]), final))
    try:
        learned = learned_growth(runs)
    except NasBoError:  # not of our decoders
        return [], []
    found = []
    for share, fit in sorted(learned.fits.items()):
        if fit.runs >= FEWEST_RUNS:
            ids = [run.architecture.id for run in runs if abs(run.share - share) <= SAME]
            expected = dict(zip(ids, fit.left_out.tolist(), strict=True))
            seen = [expected.get(t.architecture.id, math.nan) for t in known]
            found.append(Proxy(f"{column.name}@{share:.0%} corrected", seen, column.direction, share))
    return found, [learned.sentence(share) for share in sorted(learned.fits)]


def of_estimates(
    trials: Sequence[Trial], columns: Sequence[ObjectiveSpec], proxies: Sequence[ObjectiveSpec]
) -> TrustReport | None:
    """The trust report of the estimates that a search used, against the losses of its own trials, where nothing was re-trained (the parts of a
    trained model are judged as they are); None where there are fewer than `LEAST` of them, or no estimates or losses."""
    first = next((c for c in columns if c.unit.startswith("bits/")), None)
    if first is None or not proxies:
        return None
    known = [t for t in trials if t.state is State.COMPLETE and first.name in t.values]
    known = list({t.architecture.id: t for t in reversed(known)}.values())[::-1]
    if len(known) < LEAST:
        return None
    judged = _estimates(known, proxies, [t.info.get(first.name, {}) for t in known])
    values = [t.values[first.name] for t in known]
    chosen = f"{wording.counted(len(known), 'trial')}, which the search chose with the help of these estimates; nothing was trained again."
    return _report(known, judged, values, first, f"{first.name} of the trials", chosen)


def _chosen(winners: int, rest: int, factor: float) -> str:
    how = f"trained again at {factor:g} times the budget with another seed"
    if not rest and winners == 1:
        return f"It is of the front, {how}: agreement among winners is not agreement over the space."
    if not rest:
        return f"All {winners} are of the front, {how}: agreement among winners is not agreement over the space."
    return f"{winners} of the front and {wording.counted(rest, 'other')} from across the range, {how}."


def size_of(trial: Trial) -> float | None:
    """The parameter count of a trial: as noted by an objective, else counted; None where it cannot be."""
    for info in trial.info.values():
        noted = info.get("parameters")
        if isinstance(noted, (int, float)) and not isinstance(noted, bool) and noted > 0:
            return float(noted)
    if trial.values.get("parameters", 0) > 0:
        return float(trial.values["parameters"])
    return counted(trial.architecture)


def sizes(trials: Sequence[Trial]) -> list[float] | None:
    """The parameter counts of all, or None when one is not known: counts by different rules do not compare."""
    found = [size_of(t) for t in trials]
    return None if any(s is None for s in found) else [s for s in found if s is not None]


def counted(arch: Architecture, vocab_size: int = 256, ignore: tuple[str, ...] = ()) -> float | None:
    """Parameters of the decoder that `arch` describes; None where it describes none."""
    from nas_bo.model import counts

    try:
        return float(counts.parameters(arch, vocab_size, ignore)) or None
    except NasBoError:
        return None


def flops(archs: Sequence[Architecture], vocab_size: int = 256, ignore: tuple[str, ...] = ()) -> list[float] | None:
    """Floating-point operations of one forward pass of each; None where one is not a decoder."""
    from nas_bo.model import counts

    try:
        return [float(counts.flops(a, vocab_size, FLOPS_TOKENS, ignore=ignore)) for a in archs]
    except NasBoError:
        return None


def seconds_of(info: Mapping[str, object]) -> float:
    """What an evaluation took: processor time where it was noted, else wall time; nan when neither was."""
    for name in ("cpu_seconds", "seconds"):
        value = info.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    return math.nan


def _share(cheap: Sequence[Mapping[str, object]], dear: Sequence[Mapping[str, object]], otherwise: float) -> float:
    """The cost of one as a share of the other's, from their times; `otherwise` where those are not known."""
    pairs = [(seconds_of(a), seconds_of(b)) for a, b in zip(cheap, dear, strict=True)]
    known = [(a, b) for a, b in pairs if math.isfinite(a) and b > 0]
    # the median: the first evaluation of a process also pays for what it loads
    return statistics.median(a / b for a, b in known) if known else otherwise
