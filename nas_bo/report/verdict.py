"""A trust report in words and tables. The words claim no more than the intervals support."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nas_bo.report.digits import aligned
from nas_bo.report.ranks import FEWEST, FEWEST_FOR_INTERVAL, FEWEST_PAIRS, Interval
from nas_bo.wording import counted

if TYPE_CHECKING:
    from nas_bo.report.trust import Judged, TrustReport

ENOUGH = 10  # architectures below which every figure is called an anecdote
WEAK_CEILING = 0.5  # tau between seeds below which the reference itself is mostly noise


def ranked(report: TrustReport) -> bool:
    """Whether there are enough architectures for an order, and so for figures about it."""
    return report.n >= FEWEST


def first_line(report: TrustReport) -> str:
    if not report.proxies:
        return "No proxy was judged; what is below is the reference, the parameter count and the seeds."
    if not ranked(report):
        what = (
            "no architecture has"
            if not report.n
            else "one architecture has"
            if report.n == 1
            else "two architectures have"
        )
        return f"Nothing is known about how far the order can be trusted: only {what} a reference value, and a ranking needs {FEWEST}."
    groups: dict[int, list[Judged]] = {}
    for j in report.proxies:
        groups.setdefault(_verdict(j), []).append(j)
    line = "; ".join(_told(verdict, groups[verdict]) for verdict in ORDER if verdict in groups)
    if report.n < ENOUGH:
        line += f". With {counted(report.n, 'architecture')} this is an anecdote"
    return line + "."


def recommendation(report: TrustReport) -> str:
    """What to do, in a few sentences; the most urgent first."""
    if not ranked(report):
        return "Validate with at least ten architectures and two seeds."
    said = []
    if report.n < ENOUGH:
        said.append(
            f"Validate with more architectures before acting on any of this: {report.n} decide nothing, ten are a beginning."
        )
    ceiling = report.ceiling
    if ceiling is not None and ceiling.tau.known and (ceiling.tau.value < WEAK_CEILING or _includes_zero(ceiling.tau)):
        said.append(
            f"The reference hardly agrees with itself (another seed: tau {ceiling.tau.text()}), and no proxy can be asked for more: "
            "raise its budget or average more seeds before judging anything by it."
        )
    usable = [j for j in report.proxies if not j.useless and j.tau.known and report.n >= ENOUGH]
    good = [j for j in usable if j.beats_size or (j.beats_equal_size and j.against_size.value >= 0)]
    partial = [j for j in usable if j not in good and j.beyond_size]
    if good:
        best = max(good, key=lambda j: (j.size_removed.value if j.size_removed.known else -1.0, j.tau.value))
        said.append(f"Steer by {best.name}; it tells more than size does.")
        if report.ceiling is not None and best.tau.value < report.ceiling.tau.value - 0.1:
            said.append("Its order is not that of the reference: re-train the front before choosing from it.")
    elif partial:
        names = _and([j.name for j in partial])
        said.append(
            f"{names} {'orders' if len(partial) == 1 else 'order'} what size does not, but an overall order better than that by "
            f"size is not shown: {_combine(partial)}"
        )
    elif usable:
        said.append(_raise_budget(report, usable))
    if any(j.useless for j in report.proxies):
        names = ", ".join(j.name for j in report.proxies if j.useless)
        said.append(f"Drop {names}: nothing can be ordered by it.")
    if not said:
        said.append("There is too little to recommend anything.")
    return " ".join(said)


def footing(report: TrustReport) -> str:
    """What the figures are based on: how many architectures and seeds, their spread and noise, and what else to know."""
    noise = (
        f"between seeds {report.noise:.3g}, so the spread is {report.spread / report.noise:.1f} times the noise"
        if report.noise > 0
        else "between seeds not known, with one seed"
        if math.isnan(report.noise)
        else "between seeds nothing"
    )
    seeds = f"{counted(report.seeds, 'seed')}"
    said = [f"{counted(report.n, 'architecture')}, reference {report.reference} with {seeds}."]
    if report.n > 1:
        said.append(
            f"Standard deviation between architectures {report.spread:.3g} {report.unit}, {noise}.".replace("  ", " ")
        )
    if report.chosen:
        said.append(report.chosen)
    if report.n >= FEWEST_FOR_INTERVAL:
        said.append("In brackets: 95 % bootstrap intervals over architectures.")
    else:
        said.append(f"Below {FEWEST_FOR_INTERVAL} architectures there are no intervals.")
    if report.parameters is not None:
        few = max((j.pairs for j in report.judged), default=0)
        what = f"{counted(few, 'pair')} of architectures whose parameters differ by no more than 10 %"
        said.append(
            f"Equal size: among {what}."
            if few >= FEWEST_PAIRS
            else f"Equal size: only {what}, too few to say anything."
        )
    said += [f"{j.name}: {j.note}." for j in report.judged if j.note]
    said += [f"{j.name}: {j.useless}." for j in report.judged if j.useless]
    said += [
        f"{j.name}: {report.n - j.n} of {report.n} missing." for j in report.judged if not j.useless and j.n < report.n
    ]
    return " ".join([*said, *report.notes])


HEAD = (
    "estimate", "tau", "size removed", "equal size", "with parameters", "Spearman", "best found", "regret", "cost",
)  # fmt: skip


def cells(j: Judged, report: TrustReport) -> list[str]:
    """One line of the table, in the order of `HEAD`."""
    if j.useless:
        return [j.name, "useless", "", "", "", "", "", "", share(j.share)]
    by_definition = report.parameters is not None and j is report.parameters
    removed = "0 by definition" if by_definition else j.size_removed.text() if j.size_removed.known else "-"
    found = "" if not j.k or math.isnan(j.recall) else f"{round(j.recall * j.k, 1):g} of {j.k}"
    lost = "" if math.isnan(j.regret) else f"{j.regret:.3g}"
    if lost and report.noise > 0:
        lost += f" ({j.regret / report.noise:.1f} x noise)"
    compared = any(j is other for other in (report.parameters, report.flops, report.ceiling))
    both = "" if compared else j.combined.text() if j.combined.known else "-"
    return [j.name, j.tau.text(), removed, equal(j), both, j.spearman.text(), found, lost, share(j.share)]


def equal(j: Judged) -> str:
    """Tau within 10 % of the parameters, and of how many pairs: ``0.62 (0.31 to 0.84), 14 pairs``."""
    if j.pairs < FEWEST_PAIRS or not j.equal_size.known:
        return f"-, {counted(j.pairs, 'pair')}"
    return f"{j.equal_size.text()}, {counted(j.pairs, 'pair')}"


def share(value: float) -> str:
    if math.isnan(value):
        return ""
    return "none" if value == 0 else f"{value:.0%}" if value >= 0.01 else f"{max(value, 1e-4):.2%}"


def table(report: TrustReport) -> str:
    return "\n".join(aligned([HEAD, *(cells(j, report) for j in report.judged)], rule=True))


def markdown(report: TrustReport) -> str:
    lines = [list(HEAD), ["---"] * len(HEAD), *(cells(j, report) for j in report.judged)]
    body = "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)
    figures = [body, footing(report)] if ranked(report) else list(report.notes)
    return "\n\n".join([f"**{first_line(report)}**", *figures, report.recommendation()])


# what may be claimed about a proxy next to the parameter count, the worst first: one, and several
USELESS, NO_TAU, WORSE, NO_BETTER, NOT_SHOWN, UNKNOWN, EQUAL, BETTER, NO_PAIRS = range(9)
ORDER = (USELESS, NO_TAU, WORSE, NO_BETTER, NOT_SHOWN, NO_PAIRS, UNKNOWN, EQUAL, BETTER)
WORDS = {
    USELESS: ("is useless here", "are useless here"),
    NO_TAU: ("has no tau", "have no tau"),
    WORSE: ("orders worse than counting parameters", "order worse than counting parameters"),
    NO_BETTER: ("does no better than counting parameters", "do no better than counting parameters"),
    NOT_SHOWN: (
        "is not shown to do better than counting parameters",
        "are not shown to do better than counting parameters",
    ),
    UNKNOWN: ("cannot be compared with counting parameters", "cannot be compared with counting parameters"),
    NO_PAIRS: (
        "cannot be distinguished from counting parameters here",
        "cannot be distinguished from counting parameters here",
    ),
    EQUAL: (
        "orders architectures of about equal size, which counting parameters cannot",
        "order architectures of about equal size, which counting parameters cannot",
    ),
    BETTER: ("orders better than counting parameters", "order better than counting parameters"),
}


def _verdict(j: Judged) -> int:
    """One proxy against the parameter count: what the paired interval allows to say."""
    gap = j.against_size
    if j.useless:
        return USELESS
    if not j.tau.known:
        return NO_TAU
    if not gap.bounded:  # equal in every resample: it is the same order
        return NO_BETTER if gap.value == 0 and j.tau.bounded else UNKNOWN
    if gap.high < 0:
        return WORSE
    if gap.low > 0:
        return BETTER
    if j.beats_equal_size:
        return EQUAL
    if j.pairs < FEWEST_PAIRS:
        return NO_PAIRS  # sizes differ so much that an order by size alone is hard to miss
    return NO_BETTER if gap.value <= 0 else NOT_SHOWN


def _told(verdict: int, group: list[Judged]) -> str:
    names = _and([j.name for j in group])
    words = f"{names} {WORDS[verdict][len(group) > 1]}"
    if verdict == USELESS:
        return f"{words} ({_and(list(dict.fromkeys(j.useless for j in group)))})"
    if verdict == NO_TAU:
        return f"{words} ({_and([counted(j.n, 'architecture') for j in group])} with a value, or equal values)"
    taus = _and([f"{j.tau.value:.2f}" for j in group])
    sizes = [j.tau.value - j.against_size.value for j in group if j.against_size.known]
    against = _and(list(dict.fromkeys(f"{size:.2f}" for size in sizes)))
    if not sizes:
        return f"{words} (tau {taus})"
    pairs = _and(list(dict.fromkeys(counted(j.pairs, "pair") for j in group)))
    if all(j.equal_size.known for j in group):
        within = _and([f"{j.equal_size.value:.2f}" for j in group])
        return f"{words} (tau {taus} against {against} overall, {within} in {pairs} within 10 % of size)"
    few = f", only {pairs} within 10 % of size" if verdict == NO_PAIRS else ""
    return f"{words} (tau {taus} against {against}{few})"


def _and(words: list[str]) -> str:
    return "".join(words) if len(words) < 2 else f"{', '.join(words[:-1])} and {words[-1]}"


def _combine(partial: list[Judged]) -> str:
    """Whether to combine with the parameter count, as far as that was tried."""
    tried = [j for j in partial if j.combined.known]
    if not tried:
        return "combine with the parameter count in a model of the loss, rather than ranking by either alone."
    best = max(tried, key=lambda j: j.combined.value)
    found = f"a straight line in {best.name} and log(parameters), each architecture left out in turn, reaches tau {best.combined.text()}"
    if best.combined_gain.bounded and best.combined_gain.low > 0:
        return f"combine them. {found[0].upper()}{found[1:]}, more than parameters alone; a model of the loss on both, as Bayes makes, is the way."
    return f"{found}, which is not shown to be more than parameters alone; raise the budget of the search, and validate again."


def _raise_budget(report: TrustReport, usable: list[Judged]) -> str:
    dearest = max((j.share for j in usable if not math.isnan(j.share)), default=math.nan)
    size = report.parameters
    sorts = size is not None and size.tau.bounded and size.tau.low > 0.3
    ways = []
    if sorts:
        ways.append("choose by parameters alone, the largest within each limit, which costs nothing")
    if math.isnan(dearest) or dearest < 0.5:
        at = "" if math.isnan(dearest) else f" (now {share(dearest)} of the reference)"
        ways.append(f"raise the budget of the search{at}")
    ways.append("score by shared weights that are fine-tuned for a moment")
    ways.append("combine several proxies with the parameter count in a model")
    start = "No proxy here is shown to tell more than the parameter count does"
    if size is None or not size.tau.known:
        start = "No proxy here is shown to tell more than size would"
    return f"{start}: {', or '.join(ways)}; then validate again."


def _includes_zero(figure: Interval) -> bool:
    return figure.bounded and figure.low <= 0
