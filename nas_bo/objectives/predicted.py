"""An objective's value predicted from trials of it, with an interval that was checked on architectures held out."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Unpack

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.errors import ObjectiveError
from nas_bo.objective import ORDER, Conditioned, Objective, Retrainable, Value, value_of
from nas_bo.objectives import predicted_file
from nas_bo.objectives.predicted_card import Card
from nas_bo.objectives.predicted_fit import Example, FitOptions, FitSettings, Fitted, Learned, Trials, fitted
from nas_bo.objectives.predicted_inputs import Proxy, Rung, proxy_name
from nas_bo.problem import column
from nas_bo.settings import settings_of, takes
from nas_bo.surrogate.regressor import Regressor
from nas_bo.trial import Direction, ObjectiveSpec
from nas_bo.wording import counted

if TYPE_CHECKING:
    from nas_bo.space import Space

LEVEL = 0.9  # of the intervals


@dataclass(frozen=True)
class Estimate:
    """What is expected of one architecture.

    Attributes:
        low, high: ends of the 90 % interval of a new measurement.
        n: architectures it was learned from.
        proxies: the measured columns that were used; none where one was missing.
    """

    value: float
    low: float
    high: float
    n: int
    proxies: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.value:.4g} (90 % interval {self.low:.4g} to {self.high:.4g}), learned from {counted(self.n, 'architecture')}"


@dataclass(frozen=True)
class Predicted:
    """Made by `Predicted.fit` or `Predicted.load`.

    It is evaluated before anything is trained, and counts as measured, not as analytic: an analytic limit rejects a
    candidate before anything is spent and without being questioned, which an estimate must not do. Without proxies it
    offers `predict`, so strategies know its value on as many candidates as they like, as an objective of its own or as a
    hint at the more expensive one that it estimates. With proxies it must measure them, so it offers none.

    `larger` (of a target that was given as an objective) trains: winners are checked by the real thing.

    Attributes:
        card: what it is worth; of the model with proxies where there are proxies.
        base_card: of the model without them.
        examples: what it was fitted to.
        earlier: the predictor of an earlier study, given to `fit`, used or not.
        at_most, at_least: limits; set them with `dataclasses.replace`.
    """

    name: str
    unit: str
    direction: Direction
    card: Card
    base_card: Card
    space: type[Space] = field(repr=False)
    base: Learned = field(repr=False)
    full: Learned | None = field(repr=False)
    model: Regressor
    examples: Sequence[Example] = field(repr=False)
    earlier: Predicted | None = field(default=None, repr=False)
    proxies: tuple[Proxy, ...] = ()
    truth: Objective | None = field(default=None, repr=False)
    at_most: float | None = None
    at_least: float | None = None

    @staticmethod
    @takes(FitSettings)
    def fit(
        trials: Trials,
        target: str | Objective | ObjectiveSpec = "bits_per_byte",
        *,
        space: type[Space],
        **options: Unpack[FitOptions],
    ) -> Predicted:
        """Learn from trials.

        Args:
            trials: `Trial`s, a `Result`, or a list of these. (Of an Optuna study: `nas_bo.optuna.history`.) Values of the
                same architecture are averaged; trials without the target are left out.
            target: the objective, or its name; a name alone is minimised unless a `Result` says otherwise.
            model: Committee(), GP(), Ridge(), RandomTrees(), GradientBoosting() or MLPEnsemble() of `nas_bo.surrogate`, or your own;
                None is Committee(), a Gaussian process and randomised trees that are averaged.
            proxies: columns measured in trials: names of objectives or of proxies of the problem, `Rung`s, or
                objectives, which are then evaluated for architectures that are not known. Trials may lack them.
            earlier: trials of an earlier study with the same space (another corpus, device or budget), or a `Predicted`
                of one, whose target may have another name: what it predicts is where this one starts from, if that is
                no worse in cross-validation.
            known: further analytic objectives as columns.
            vocab_size, ignore: as in `nas_bo.objectives.Parameters`.
            about: facts for the card, JSON-safe: corpus, budget, device.

        Raises:
            ObjectiveError: too few architectures, a target that is the same for all, a proxy that is not finite, that is
                constant, or that too few trials have.
        """
        settings = settings_of(FitSettings, "Predicted.fit", options)
        before: object = settings.earlier
        if before is not None and not isinstance(before, Predicted):
            alike = replace(settings, proxies=(), earlier=None, about=None)
            before = Predicted._of(fitted(before, target, space, alike, None))
        return Predicted._of(fitted(trials, target, space, settings, before))

    @staticmethod
    def _of(made: Fitted) -> Predicted:
        settings = made.settings
        return Predicted(
            f"predicted_{made.target.name}", made.target.unit, made.target.direction, made.card, made.base_card, made.space,
            made.base, made.full, settings.regressor, made.examples, made.earlier, settings.proxies, made.truth,
        )  # fmt: skip

    @property
    def cost(self) -> Literal["analytic", "measured", "trained"]:
        """That of the most expensive proxy that it measures itself, at least "measured"."""
        costs = ["measured", *(column(p).cost for p in self.measures)]
        return max(costs, key=ORDER.index)

    @property
    def measures(self) -> tuple[Objective, ...]:
        """The proxies that it can evaluate for an architecture."""
        return tuple(p for p in self.proxies if not isinstance(p, (str, Rung)))

    def __post_init__(self) -> None:
        if not self.proxies:  # `Predicting`: the value alone, in a millisecond
            object.__setattr__(self, "predict", self._value)
        if isinstance(self.truth, Retrainable):  # not where the target was given by name
            object.__setattr__(self, "larger", self._larger)

    def _value(self, arch: Architecture) -> float:
        return float(self.base.values([arch])[0])

    def _larger(self, factor: float) -> Objective | None:
        """The real objective at a larger budget, under this name."""
        grown = self.truth.larger(factor) if isinstance(self.truth, Retrainable) else None
        return None if grown is None else Renamed(grown, self.name)

    def estimate(
        self, archs: Sequence[Architecture], proxies: Sequence[Mapping[str, float]] | None = None
    ) -> list[Estimate]:
        """What is expected of architectures.

        Args:
            proxies: for every architecture what was measured, by name (`Rung("bits_per_byte", 0.25).name` is
                ``bits_per_byte@0.25``). Where one is missing the model without proxies answers.

        Raises:
            ObjectiveError: a proxy is not a finite number, or there are not as many as architectures.
        """
        given = [{} for _ in archs] if proxies is None else [dict(p) for p in proxies]
        if len(given) != len(archs):
            raise ObjectiveError(f"{self.name}: {counted(len(archs), 'architecture')} but proxies of {len(given)}")
        names = tuple(proxy_name(p) for p in self.proxies)
        for row in given:
            for name in names:
                if name in row and not math.isfinite(row[name]):
                    raise ObjectiveError(
                        f"{self.name}: the proxy {name!r} is {row[name]}; leave it out where it failed"
                    )
        found: dict[int, Estimate] = {}
        complete = [i for i, row in enumerate(given) if self.full is not None and all(n in row for n in names)]
        others = sorted(set(range(len(archs))) - set(complete))
        for rows, learned, used in ((complete, self.full, names), (others, self.base, ())):
            if rows and learned is not None:
                measured = np.array([[given[i][n] for n in used] for i in rows]).reshape(len(rows), len(used))
                of = [archs[i] for i in rows]
                ends = zip(*learned.intervals(of, measured, LEVEL), strict=True)
                for i, (value, low, high) in zip(rows, ends, strict=True):
                    found[i] = Estimate(float(value), float(low), float(high), learned.n, used)
        return [found[i] for i in range(len(archs))]

    def __call__(self, arch: Architecture, /) -> Value:
        measured = {p.name: float(value_of(p, arch)) for p in self.measures}
        usable = {name: number for name, number in measured.items() if math.isfinite(number)}
        got = self.estimate([arch], [usable])[0]
        return Value(
            got.value,
            how="predicted",
            low=got.low,
            high=got.high,
            level=LEVEL,
            n=got.n,
            model=self.card.model,
            target=self.card.target,
            proxies={name: usable[name] for name in got.proxies if name in usable},
        )

    def conditions(self) -> dict[str, object]:
        """A study continues only with the very same predictor."""
        return {"target": self.card.target, "n": self.card.n, "model": self.card.model, "data": self.fingerprint()}

    def fingerprint(self) -> str:
        """16 hexadecimal digits that differ when the examples, the model or the proxies differ."""
        text = json.dumps(self._data(), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _data(self) -> dict[str, object]:
        return predicted_file.data(self)

    def save(self, path: str | Path) -> Path:
        """Write it as JSON: the examples, the settings, the card, and a few predictions to check a later `load` by.

        Raises:
            ObjectiveError: the file cannot be written.
        """
        return predicted_file.save(self, path)

    @staticmethod
    def load(
        path: str | Path,
        space: type[Space],
        *,
        model: Regressor | None = None,
        proxies: Sequence[Objective] = (),
        known: Sequence[Objective] = (),
        refit: bool = False,
    ) -> Predicted:
        """Read what `save` wrote. The model is fitted again from the examples in the file, and must say what it said.

        Args:
            model: needed for a model of your own, which the file names but does not hold.
            proxies, known: the objectives that were given to `fit`; a proxy that is not given is not measured.
            refit: take whatever the versions installed here make of the examples, and write a new card.

        Raises:
            ObjectiveError: not such a file, one of another space or of a newer version, or other predictions than then.
        """
        given = predicted_file.Given(model, {proxy.name: proxy for proxy in proxies}, tuple(known))
        return predicted_file.load(path, space, Predicted._of, given, refit=refit)


@dataclass(frozen=True)
class Renamed:
    """An objective under another name, so that a predicted value and its check share a column."""

    of: Objective
    name: str

    @property
    def unit(self) -> str:
        return self.of.unit

    @property
    def direction(self) -> Direction:
        return self.of.direction

    @property
    def cost(self) -> Literal["analytic", "measured", "trained"]:
        return self.of.cost

    def conditions(self) -> dict[str, object]:
        return dict(self.of.conditions()) if isinstance(self.of, Conditioned) else {}

    def __call__(self, arch: Architecture, /) -> float:
        return self.of(arch)
