"""Which operations the front has in common that the trials have not: one sentence, or none.

A property of all n members that a share p of the trials has is there by chance with p**n; that has to be below `CHANCE`. The trials of a
search that steers are nearer to the front than random ones, so p is too large rather than too small.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas_bo.architecture import Primitive
from nas_bo.space.domain import Choice
from nas_bo.space.neighbours import pattern
from nas_bo.trial import State, Trial
from nas_bo.wording import counted

if TYPE_CHECKING:
    from nas_bo.report.summary import Summary

FEWEST = 3  # members of a front that have something in common
CHANCE = 0.02
WORDS = {
    "conv": "a convolution", "attention": "attention", "linear_attention": "linear attention", "latent_attention": "latent attention",
    "gated_delta": "the gated delta rule", "ssm": "a state space", "dense": "an MLP", "moe": "a mixture of experts", "skip": "nothing",
}  # fmt: skip


@dataclass(frozen=True)
class _Property:
    """What an architecture may have: true for all members of a front, and for a share of the trials."""

    text: str
    holds: Callable[[Sequence[Primitive]], bool]  # of the kinds in one slot of its layers, from the first to the last


def finding(summary: Summary) -> str:
    """Such as "All 9 members of the front have a convolution as the mixer of the first layer (45 % of the trials do)."; "" where the space has
    no choice of operations, or where nothing is shown."""
    if summary.space is None:
        return ""
    members = [t.architecture for t in (summary.final.members or summary.front())]
    tried = {t.architecture.id: t for t in summary.trials if t.state in (State.COMPLETE, State.STOPPED)}
    if len(members) < FEWEST or len(tried) <= len(members):
        return ""
    best, words, least = "", "", math.log(CHANCE)
    for slot, kinds in _slots(summary):
        ours = [_kinds(Trial(arch), slot) for arch in members]
        theirs = [_kinds(t, slot) for t in tried.values()]
        for one in _properties(slot, kinds):
            if not all(row and one.holds(row) for row in ours):
                continue
            have = sum(bool(row) and one.holds(row) for row in theirs)
            share = (have + 1) / (len(theirs) + 2)  # Laplace: the trials are a sample
            if len(members) * math.log(share) < least - 1e-9:
                best, words, least = one.text, f"{have / len(theirs):.0%}", len(members) * math.log(share)
    return (
        f"All {counted(len(members), 'member')} of the front {best} ({words.rstrip('%')} % of the trials do)."
        if best
        else ""
    )


def _slots(summary: Summary) -> Iterator[tuple[str, list[str]]]:
    """Patterns of the decisions between operations, with the names of these."""
    found: dict[str, list[str]] = {}
    for path, domain in summary.space.domains().items() if summary.space is not None else ():
        if isinstance(domain, Choice) and len(domain.options) > 1 and ".*." in pattern(path):
            known = found.setdefault(pattern(path), [])
            known += [str(v) for v in domain.values if str(v) not in known]
    yield from found.items()


def _kinds(trial: Trial, slot: str) -> list[Primitive]:
    """What is in one slot of every layer, from the first to the last."""
    rows = []
    for path, value in trial.architecture.flat.items():
        if pattern(path) == slot:
            rows.append(([int(n) for n in re.findall(r"\.(\d+)\.", path)], value))
    return [value for _, value in sorted(rows, key=lambda row: row[0])]


def _properties(slot: str, kinds: Sequence[str]) -> Iterator[_Property]:
    """What is looked for, the plainest first: of equally unlikely ones the first is taken."""
    part = slot.rpartition(".")[2]
    for kind in kinds:
        name = WORDS.get(kind, kind)
        yield _Property(f"have {name} as the {part} of the first layer", lambda row, kind=kind: row[0] == kind)  # type: ignore[misc]
        yield _Property(f"have {name} as the {part} of every layer", lambda row, kind=kind: set(row) == {kind})  # type: ignore[misc]
        yield _Property(f"have {name} as the {part} of some layer", lambda row, kind=kind: kind in row)  # type: ignore[misc]
        yield _Property(f"have {name} as the {part} of no layer", lambda row, kind=kind: kind not in row)  # type: ignore[misc]
