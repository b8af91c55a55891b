"""What a ladder of sizes says: whether the order of small architectures is that of larger ones, and which of them to train next.

Pure data: rungs, architectures, losses; nothing here trains.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from nas_bo.errors import ReportError, SearchError
from nas_bo.foreign_document import reading
from nas_bo.report.decisions import ASKED, ASKED_EQUAL, Accuracy, decision_accuracy
from nas_bo.report.digits import aligned, bare, figure
from nas_bo.report.scaling_law import Law, law

VERSION = 1  # of the data
PLAIN, FRONT, CONTROL = "plain", "front", "control"
MOST, LEAST = 5, 3  # architectures that are promoted, the plain decoder aside
SURE = 2.0  # standard deviations of a difference, within which two losses count as equal


@dataclass(frozen=True)
class Rung:
    """One size of the ladder.

    Attributes:
        factor: times the searched size.
        tokens: of every training.
        repeats: how often these read the text of the corpus.
        least, middle, most: parameters of the smallest, the median and the largest architecture.
        bytes: the most that a training needs, optimiser and activations included.
        seconds: that all trainings of the rung take one after the other; nan where that was not asked for.
        how: "measured", "extrapolated", "spent" (what they took), or "" where it is not known.
    """

    factor: float
    tokens: int
    repeats: float
    least: int
    middle: int
    most: int
    bytes: int
    seconds: float = math.nan
    how: str = ""


@dataclass(frozen=True)
class Climber:
    """One architecture on all rungs.

    Attributes:
        id, label: of the architecture of the search.
        kind: "front", "control" (of the search, off its front) or "plain" (a decoder whose layers are all alike).
        trial: its number in the study, None where it is not a trial.
        ids, sizes, flops: on every rung its id, its parameters, and the FLOPs of a token.
        losses: on every rung one per seed; nan where the training failed.
        reasons: what the last failure on a rung said, "" where there was none.
    """

    id: str
    label: str
    kind: str
    trial: int | None
    ids: tuple[str, ...]
    sizes: tuple[int, ...]
    flops: tuple[float, ...]
    losses: tuple[tuple[float, ...], ...]
    reasons: tuple[str, ...] = ()

    @property
    def plain(self) -> bool:
        return self.kind == PLAIN

    def loss(self, rung: int) -> float:
        """The mean over seeds; nan where one failed."""
        return statistics.fmean(self.losses[rung]) if self.losses[rung] else math.nan


@dataclass(frozen=True)
class Decision:
    """How often a rung decides as the last one does.

    Attributes:
        rung: which, from 0.
        overall, equal: over all pairs, and over those of about equal size on the last rung.
        by_size: of an order by parameters alone (more is better).
    """

    rung: int
    overall: Accuracy
    equal: Accuracy
    by_size: Accuracy


@dataclass(frozen=True)
class Ladder:
    """What came of it. ``print(ladder)`` is the report.

    Attributes:
        title: of the study.
        name, unit: of the loss.
        rungs: the smallest first.
        climbers: the architectures, as they were chosen.
        seeds: trainings of each on each rung.
        recipe: the parametrization of the trainings, and tokens per parameter.
        notes: what a reader should know.
    """

    title: str
    name: str
    unit: str
    rungs: tuple[Rung, ...]
    climbers: tuple[Climber, ...]
    seeds: int
    recipe: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def last(self) -> int:
        return len(self.rungs) - 1

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """One for every rung but the last."""
        truth, sizes = self.losses(self.last), self.sizes(self.last)
        return tuple(
            Decision(
                rung,
                decision_accuracy(self.losses(rung), truth),
                decision_accuracy(self.losses(rung), truth, sizes),
                decision_accuracy([-size for size in self.sizes(rung)], truth),
            )
            for rung in range(self.last)
        )

    @cached_property
    def ceiling(self) -> tuple[Accuracy, Accuracy]:
        """How often one seed of the last rung decides as another does, over all pairs and among equals: no rung can do much better. Without
        a second seed it is not known."""
        if self.seeds < 2:
            return Accuracy(), Accuracy()
        one, other = ([c.losses[-1][seed] for c in self.climbers] for seed in (0, 1))
        return decision_accuracy(one, other), decision_accuracy(one, other, self.sizes(self.last))

    @cached_property
    def noise(self) -> float:
        """The standard deviation of one training between seeds on the last rung; nan with one seed."""
        apart = [
            statistics.variance(c.losses[-1])
            for c in self.climbers
            if len(c.losses[-1]) > 1 and math.isfinite(c.loss(-1))
        ]
        return math.sqrt(statistics.fmean(apart)) if apart else math.nan

    @cached_property
    def law(self) -> Law:
        """A power law of every architecture, judged on the last rung; forecast for as large a step again."""
        step = self.rungs[-1].factor / self.rungs[-2].factor if len(self.rungs) > 1 else 1.0
        rungs = range(len(self.rungs))
        return law([self.sizes(r) for r in rungs], [self.losses(r) for r in rungs], step)

    @cached_property
    def promoted(self) -> tuple[Climber, ...]:
        """Three to five architectures that should be trained at the next size, the best first: those that nothing of the last rung beats both
        in loss and in FLOPs, by more than noise; never the winner alone."""
        done = [c for c in self.climbers if math.isfinite(c.loss(self.last)) and not c.plain]
        slack = 0.0 if math.isnan(self.noise) else SURE * self.noise * math.sqrt(2 / self.seeds)
        ranked = sorted(done, key=lambda c: c.loss(self.last))
        best = [c for c in ranked if not any(self._beats(o, c, slack) for o in ranked)]
        if len(best) > MOST:  # the best, the cheapest, and evenly between them by cost
            by_cost = sorted(best[1:], key=lambda c: c.flops[-1])
            places = {round(i * (len(by_cost) - 1) / (MOST - 2)) for i in range(MOST - 1)}
            best = [best[0], *(by_cost[place] for place in sorted(places))]
        best += [c for c in ranked if c not in best][: max(0, LEAST - len(best))]
        return tuple(sorted(best, key=lambda c: c.loss(self.last)))

    def _beats(self, one: Climber, other: Climber, slack: float) -> bool:
        return one.flops[-1] <= other.flops[-1] and one.loss(self.last) + slack < other.loss(self.last)

    @property
    def control(self) -> Climber | None:
        """The plain decoder that goes with them: the one nearest in size to the middle of those promoted; None where there is none."""
        plain = [c for c in self.climbers if c.plain and math.isfinite(c.loss(self.last))]
        if not plain:
            return None
        middle = statistics.median([c.sizes[-1] for c in self.promoted] or [plain[0].sizes[-1]])
        return min(plain, key=lambda c: abs(math.log(c.sizes[-1] / middle)))

    def losses(self, rung: int) -> list[float]:
        return [c.loss(rung) for c in self.climbers]

    def sizes(self, rung: int) -> list[float]:
        return [float(c.sizes[rung]) for c in self.climbers]

    # ---- as text and data -------------------------------------------------------------------------------------------

    @property
    def first_line(self) -> str:
        """The answer in one sentence or two."""
        if not self.decisions or not self.decisions[0].overall.known:
            return (
                "Too few trainings ended for a decision accuracy: three architectures must have a loss on both rungs."
            )
        first = self.decisions[0]
        lead = (
            f"The order at {figure(self.rungs[0].middle)} parameters decides {first.overall.text()} of all pairs as the one at "
            f"{figure(self.rungs[-1].middle)} does"
        )
        equal = (
            f", and {first.equal.text()} of those of about equal size"
            if first.equal.known
            else "; how it decides pairs of about equal size is not known"
        )
        size = f"; counting parameters decides {first.by_size.value:.2f}" if first.by_size.known else ""
        return f"{lead}{equal}{size}. {self._verdict(first)}"

    def _verdict(self, first: Decision) -> str:
        if first.overall.value >= ASKED and first.equal.known and first.equal.value >= ASKED_EQUAL:
            if first.equal.low > 0.5:
                return "What wins small wins large here."
            return "So few pairs of about equal size do not tell the design from the size: take several up."
        most = self.ceiling[1] if first.overall.value >= ASKED else self.ceiling[0]
        limit = f" (one seed of the last rung decides {most.value:.2f} as the other does)" if most.known else ""
        if first.overall.value >= ASKED:
            return f"Among architectures of about equal size the small rung does not decide reliably{limit}: take several up."
        return f"The small rung does not decide reliably{limit}: take several up."

    def table(self) -> str:
        """Losses of every architecture on every rung, the best of the last one first; then what each rung decides."""
        head = ("architecture", "", *(f"{figure(r.middle)} params" for r in self.rungs), "last size", "")
        goes = dict.fromkeys((c.id for c in self.promoted), "promoted")
        goes |= {self.control.id: "plain control"} if self.control else {}
        ranked = sorted(self.climbers, key=lambda c: (math.isnan(c.loss(self.last)), c.loss(self.last)))
        rows = [
            (
                c.label,
                c.kind if c.trial is None else f"{c.kind}, trial {c.trial}",
                *(figure(c.loss(r)) if math.isfinite(c.loss(r)) else "failed" for r in range(len(self.rungs))),
                figure(c.sizes[-1]),
                goes.get(c.id, ""),
            )
            for c in ranked
        ]
        told = [("rung", "tokens", "decides all pairs", "those of about equal size", "parameters alone")]
        for d in self.decisions:
            rung = self.rungs[d.rung]
            told.append((figure(rung.middle), figure(rung.tokens), d.overall.text(), d.equal.text(), d.by_size.text()))
        right = tuple(range(2, 2 + len(self.rungs) + 1))
        return "\n".join([*aligned([head, *rows], right=right), "", *aligned(told, right=(0, 1))])

    def __str__(self) -> str:
        names = ", ".join(c.label for c in self.promoted)
        control = f" with the plain decoder {self.control.label} as a control" if self.control else ""
        going = f"To be trained at the next size: {names}{control}." if self.promoted else ""
        lines = [self.first_line, "", self.table(), "", going, self.law.text()]
        if self.law.shown:
            ahead = zip(self.climbers, self.law.forecast, self.law.sizes, strict=True)
            best = sorted((one for one in ahead if math.isfinite(one[1])), key=lambda one: one[1])[:MOST]
            lines.append(
                "Forecast: " + ", ".join(f"{c.label} {figure(loss)} at {figure(size)}" for c, loss, size in best) + "."
            )
        if not math.isnan(self.noise):
            lines.append(f"Between seeds one training differs by {self.noise:.4f} {self.unit} (sd, last rung).")
        return "\n".join([*lines, *self.notes])

    def to_dict(self) -> dict[str, object]:
        """JSON-safe data; `from_dict` is its inverse. What is not a number is None."""
        return {
            "version": VERSION,
            "study": self.title,
            "name": self.name,
            "unit": self.unit,
            "seeds": self.seeds,
            "recipe": dict(self.recipe),
            "rungs": [bare(asdict(r)) for r in self.rungs],
            "architectures": [bare(asdict(c)) for c in self.climbers],
            "notes": list(self.notes),
            "first_line": self.first_line,
            "decisions": [
                {
                    "rung": d.rung,
                    **{
                        what: one.to_dict()
                        for what, one in (("overall", d.overall), ("equal", d.equal), ("by_size", d.by_size))
                    },
                }
                for d in self.decisions
            ],
            "ceiling": {"overall": self.ceiling[0].to_dict(), "equal": self.ceiling[1].to_dict()},
            "noise_sd": bare(self.noise),
            "promoted": [c.id for c in self.promoted],
            "control": None if self.control is None else self.control.id,
            "law": {
                "held_out": self.law.held_out.to_dict(),
                "ranking": self.law.ranking.to_dict(),
                "shown": self.law.shown,
                "forecast": bare(self.law.forecast),
                "sizes": bare(self.law.sizes),
            },
        }

    @staticmethod
    @reading("the JSON of a ladder", SearchError)
    def from_dict(data: Mapping[str, Any]) -> Ladder:
        if data.get("version") != VERSION:
            raise SearchError(f"it has version {data.get('version')!r}, and this version of nas_bo reads {VERSION}")
        rungs = [Rung(**{**r, "seconds": math.nan if r["seconds"] is None else r["seconds"]}) for r in data["rungs"]]
        climbers = [
            Climber(
                c["id"], c["label"], c["kind"], c["trial"], tuple(c["ids"]), tuple(c["sizes"]), tuple(c["flops"]),
                tuple(tuple(math.nan if one is None else float(one) for one in row) for row in c["losses"]), tuple(c["reasons"]),
            )
            for c in data["architectures"]
        ]  # fmt: skip
        return Ladder(
            data["study"], data["name"], data["unit"], tuple(rungs), tuple(climbers), int(data["seeds"]), data["recipe"],
            tuple(data["notes"]),
        )  # fmt: skip

    def files(self) -> dict[str, bytes]:
        """The report as files: name -> content."""
        from nas_bo.report.ladder_picture import ladder_picture

        return {
            "ladder.png": ladder_picture(self),
            "ladder.json": json.dumps(self.to_dict(), indent=1).encode(),
            "ladder.txt": f"{self}\n".encode(),
        }

    def save(self, folder: str | Path) -> list[Path]:
        """Write `files` into `folder`, which is created (raises ReportError)."""
        folder, written = Path(folder), []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in self.files().items():
                (folder / name).write_bytes(content)
                written.append(folder / name)
        except (OSError, ValueError) as error:
            said = error.strerror if isinstance(error, OSError) else error
            raise ReportError(
                f"the report cannot be written to {str(folder)!r}: {said}; choose another --out"
            ) from error
        return written
