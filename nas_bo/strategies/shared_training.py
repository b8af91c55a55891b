"""One training, many settings: architectures that differ from a trained one only in what is done after training
(`nas_bo.architecture.AFTER`) cost a forward pass or two, so a search chooses trainings first and then what is done to them.

What a setting changes is a sum over the layers to good accuracy (Frantar and Alistarh 2022, "SPDY and Optimal Brain Compression", arXiv
2208.11580, section 3). So the value of a training t at the setting s is modelled as

    y = T_t + sum over fields n and their values v of c_nv f_nv + sum over layers l of e_tl

where f_nv is the share of the layers that have the value v at s, c_nv is about what was measured elsewhere (`EXPECTED`) times what this study says,
in part for each training, and e_tl is what is special about the value of a layer. All of it is Gaussian, so it is regression in closed form.
Settings are proposed by their expected gain in hypervolume, which trainings get as long as it is worth anything.
Trainings are proposed as in any other search, at one setting for all, where the model above says what those of the history have.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np

from nas_bo.architecture import Architecture, Primitive, names_after
from nas_bo.pareto import reference_point
from nas_bo.problem import Problem
from nas_bo.strategies import acquisition
from nas_bo.strategies.cheap_objectives import known_of
from nas_bo.strategies.history import Scale, undominated
from nas_bo.strategies.nsga2 import best_trials
from nas_bo.strategies.scores import MANY
from nas_bo.strategies.strategy import generator, guide
from nas_bo.surrogate.genomes import genomes_of
from nas_bo.trial import State, Trial

EXPECTED: Mapping[str, Mapping[float, float]] = {
    "bits": {32: 0.0, 16: 0.0, 8: 0.0003, 4: 0.003, 3: 0.012, 2: 0.05},
    "kv_bits": {32: 0.0, 16: 0.0, 8: 0.0003, 4: 0.003, 3: 0.012, 2: 0.05},
}
"""What a value costs in bits per byte, in all layers; of a share of zeros or of channels `OF_SHARE` times its square."""
OF_SHARE = 0.2
COMMON, OF_VALUE, OF_TRAINING, OF_LAYER = 0.5, 0.5, 0.5, 1.0
"""Standard deviations as shares of what is expected: of all values together, of one, of one in a training, of one in a layer."""
NOISE = 5e-4  # standard deviation of what is on the same windows, in the unit of the loss
LEVEL = 3.0  # and of the values of trainings around their mean
TRAININGS = 16  # whose settings are looked at, the best first
UNIFORM = 64  # settings with one value for all layers, at most
WORTH = 2e-4
"""Of the volume that the front spans: expected gains below it are not worth a forward pass."""

REMEMBERED = 50_000  # architectures kept per problem

Values = np.ndarray

_built: WeakKeyDictionary[Problem, dict[tuple[str, tuple[object, ...]], Architecture]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Setting:
    """What is done after training: the values of the decisions about it.

    Attributes:
        at: flat name -> value.
    """

    at: Mapping[str, Primitive]

    def of(self, problem: Problem, arch: Architecture) -> Architecture:
        """The architecture with this setting, where it has such decisions."""
        return problem.space.architecture({**arch.flat, **{p: v for p, v in self.at.items() if p in arch.flat}})


def decisions_after(problem: Problem) -> list[str]:
    """The flat names of decisions about what is done after training."""
    return [path for path in problem.space.decisions() if names_after(path)]


def field_of(path: str) -> str:
    return path.rpartition(".")[2]


class SharedTrainings:
    """What a history says about trainings and settings.

    Attributes:
        trainings: training id -> the trials of it that have values, the oldest first.
        looked: how many architectures were looked at, those that are pending too.
        begun: how many trainings they have, likewise.
    """

    def __init__(self, problem: Problem, trials: Sequence[Trial]) -> None:
        self.problem, self.trials = problem, trials
        self.paths = decisions_after(problem)
        self.known = known_of(problem)
        self.unknown = [j for j in range(len(problem.columns)) if j not in self.known.positions]
        self.trainings: dict[str, list[Trial]] = {}
        for trial in trials:
            if trial.feasible and guide(problem, trial) is not None:
                self.trainings.setdefault(trial.architecture.training_id, []).append(trial)
        there = {t.architecture.id: t.architecture for t in trials if t.state is not State.FAILED}
        self.looked, self.begun = len(there), len({arch.training_id for arch in there.values()})
        self._models = {j: _Additive(self, j) for j in self.unknown} if self.trainings else {}

    # ---- values -------------------------------------------------------------------------------------------------------

    def predict(self, archs: Sequence[Architecture]) -> tuple[Values, Values, Values]:
        """Of settings of trainings that are there: means (n, m) and standard deviations (n, m), minimised, and whether each is admissible."""
        mean, sd = np.zeros((len(archs), len(self.problem.columns))), np.zeros((len(archs), len(self.problem.columns)))
        exact = [self.known.exact(self.problem, arch) for arch in archs]
        mean[:, self.known.positions] = np.array([values for values, _ in exact]).reshape(len(archs), -1)
        rows = [(arch.training_id, _after(arch)) for arch in archs]
        for j, model in self._models.items():
            mean[:, j], sd[:, j] = model.predict(rows)
        usable = np.array([ok for _, ok in exact], dtype=bool) & np.isfinite(mean).all(1)
        return mean, sd, usable

    def value(self, trial: Trial, j: int) -> float:
        """Objective j of a trial that has values, minimised."""
        found = guide(self.problem, trial)
        return math.nan if found is None else float(found[j])

    def points(self) -> Values:
        """(n, m) of all trials that have values, minimised."""
        rows = [guide(self.problem, trial) for each in self.trainings.values() for trial in each]
        return np.array(rows, dtype=float).reshape(len(rows), len(self.problem.columns))

    def _with(self, arch: Architecture, at: Mapping[str, Primitive]) -> Architecture:
        """The architecture with these decisions, built once."""
        key = (arch.training_id, tuple(at.get(path, arch.flat.get(path)) for path in self.paths))
        made = _built.setdefault(self.problem, {})
        if len(made) >= REMEMBERED:
            made.clear()
        if key not in made:
            made[key] = self.problem.space.architecture(
                {**arch.flat, **{p: v for p, v in at.items() if p in arch.flat}}
            )
        return made[key]

    # ---- which setting next -------------------------------------------------------------------------------------------

    def best_setting(self, seen: set[str], seed: int) -> Architecture | None:
        """The unseen setting of a training that is there with the highest expected gain; None where none is worth a look."""
        if not self.trainings:
            return None
        found: dict[str, Architecture] = {}
        best: dict[str, Architecture] = {}
        for arch in best_trials(self.problem, list(self.trials), len(self.trials)):
            if arch.training_id in self.trainings and len(best) < TRAININGS:
                best.setdefault(arch.training_id, arch)
        for arch in best.values():
            for made in self._candidates(arch, seed):
                if made.id not in seen and made.training_id == arch.training_id:
                    found[made.id] = made
        archs = list(found.values())
        if not archs:
            return None
        mean, sd, usable = self.predict(archs)
        gain = np.where(usable, self._gain(np.nan_to_num(mean), sd, seed), -np.inf)
        at = int(np.argmax(gain))
        return archs[at] if gain[at] > WORTH else None

    def _gain(self, mean: Values, sd: Values, seed: int) -> Values:
        """(n,) as a share of what the front spans; logarithms of known objectives where they span a decade."""
        points = self.points()
        front = points[undominated(points)]
        if points.shape[1] == 1:
            span = max(float(np.ptp(points)), 1e-9)
            found: Values = (
                np.exp(acquisition.log_ei(mean[:, 0], np.maximum(sd[:, 0], 1e-9), float(front.min()))) / span
            )
            return found
        scale = Scale(front)
        scale.log = scale.log & np.isin(np.arange(points.shape[1]), self.known.positions)
        scale.span = np.where(
            np.ptp(scale(front) * scale.span, axis=0) > 0, np.ptp(scale(front) * scale.span, axis=0), 1.0
        )
        points, mean, sd = scale(points), scale(mean), sd / scale.span
        front = points[undominated(points)]
        if points.shape[1] > MANY:
            rng = np.random.default_rng(generator("after training", seed, len(self.trials)).getrandbits(63))
            weights, normal = rng.dirichlet(np.ones(points.shape[1])), rng.standard_normal((16, 1, points.shape[1]))
            many: Values = np.exp(acquisition.log_chebyshev_ei(mean + sd * normal, points, weights))
            return many
        lower, upper = acquisition.boxes(front, reference_point(points))
        return acquisition.ehvi(mean, sd, lower, upper)

    def _candidates(self, arch: Architecture, seed: int) -> Iterable[Architecture]:
        """Settings of a training: one value for all layers, one layer otherwise than the best ones seen, and between two values for all
        layers those that give the most for what they cost, layer after layer."""
        there = [path for path in self.paths if path in arch.flat]
        uniform = list(uniform_settings(self.problem, there))
        rng = generator("settings", seed, arch.training_id)
        for at in uniform if len(uniform) <= UNIFORM else rng.sample(uniform, UNIFORM):
            yield self._with(arch, at)
        domains = self.problem.space.domains()
        for path in there:
            for value in domains[path].values:
                if value != arch.flat[path]:
                    yield self._with(arch, {path: value})
        for name in dict.fromkeys(map(field_of, there)):
            layers = [path for path in there if field_of(path) == name]
            values = _by_cost(name, domains[layers[0]].values)
            for costly, cheaper in itertools.pairwise(values) if len(layers) > 2 else ():
                yield from self._between(arch, layers, costly, cheaper)

    def _between(
        self, arch: Architecture, layers: Sequence[str], costly: Primitive, cheaper: Primitive
    ) -> Iterable[Architecture]:
        """From all layers at the value that costs less loss to all at the next: the layer first that saves most for its loss (the greedy
        solution of a knapsack, all of whose sizes are on the way)."""
        at = dict.fromkeys(layers, costly)
        steps = [self._with(arch, at), *(self._with(arch, {**at, path: cheaper}) for path in layers)]
        mean, _, _ = self.predict(steps)
        change = mean[1:] - mean[0]
        loses = change[:, self.unknown].sum(1)
        saves = -np.nan_to_num(change[:, self.known.positions] / np.abs(mean[0, self.known.positions] + 1e-30)).sum(1)
        order = np.argsort(np.maximum(loses, 1e-6) / np.maximum(saves, 1e-9), kind="stable")
        for index in order[:-1]:
            at = {**at, layers[int(index)]: cheaper}
            yield self._with(arch, at)

    # ---- which training next -------------------------------------------------------------------------------------------

    def pinned(self) -> Setting:
        """The setting at which trainings are compared: of each field the value that most layers of the front have; where there is no
        front, one in the middle. Where the space has limits, neighbouring values have their turn as well."""
        points = self.points()
        trials = [trial for each in self.trainings.values() for trial in each]
        front = [trial for trial, on in zip(trials, undominated(points), strict=True) if on]
        domains = self.problem.space.domains()
        at: dict[str, Primitive] = {}
        for name in dict.fromkeys(map(field_of, self.paths)):
            values = _by_cost(name, domains[next(p for p in self.paths if field_of(p) == name)].values)
            counts = Counter(
                t.architecture.flat[p]
                for t in front
                for p in self.paths
                if field_of(p) == name and p in t.architecture.flat
            )
            level = max(range(len(values)), key=lambda i: (counts[values[i]], i)) if counts else _start(name, values)
            if self.problem.bounds():
                level += (0, 1, 0, -1)[self.begun % 4]
            value = values[min(max(level, 0), len(values) - 1)]
            at |= {path: value for path in self.paths if field_of(path) == name and value in domains[path].values}
        return Setting(at)

    def compared(self, setting: Setting) -> list[Trial]:
        """The history as trials of that setting, one for each training; of one that may not have it, its best. Failed and infeasible
        ones as they are."""
        chosen = []
        for each in self.trainings.values():
            arch = self._with(each[0].architecture, setting.at)
            mean, _, usable = self.predict([arch])
            if not usable[0]:
                best = best_trials(self.problem, each, 1)[0]
                chosen.append(next(trial for trial in each if trial.architecture.id == best.id))
                continue
            values = {c.name: c.sign * float(mean[0, j]) for j, c in enumerate(self.problem.columns)}
            chosen.append(replace(each[0], architecture=arch, values={**each[0].values, **values}))
        rest = [
            trial
            for trial in self.trials
            if trial.architecture.training_id not in self.trainings
            and not (trial.feasible and trial.state is State.COMPLETE)
        ]
        pinned = [
            replace(t, architecture=setting.of(self.problem, t.architecture)) if t.state is State.RUNNING else t
            for t in rest
        ]
        return [*chosen, *pinned]


def uniform_settings(problem: Problem, paths: Sequence[str]) -> Iterable[dict[str, Primitive]]:
    """Each field with one value for all layers: flat name -> value."""
    domains = problem.space.domains()
    names = {name: [p for p in paths if field_of(p) == name] for name in dict.fromkeys(map(field_of, paths))}
    levels = [domains[there[0]].values for there in names.values()]
    for values in itertools.product(*levels):
        yield {p: value for value, there in zip(values, names.values(), strict=True) for p in there}


def pin(problem: Problem, setting: Setting, genomes: Values) -> Values:
    """Genomes (n, genes) with that setting."""
    if not setting.at:
        return genomes
    space = genomes_of(problem.space)
    made = genomes.copy()
    for i, (path, domain) in enumerate(zip(space.paths, space.domains, strict=True)):
        if path in setting.at:
            code = float(list(domain.values).index(setting.at[path]))
            made[:, i] = np.where(made[:, i] >= 0, code, made[:, i])
    return made


def _expected(name: str, value: Primitive) -> float:
    """What a value costs in all layers."""
    table = EXPECTED.get(name)
    number = float(value)  # type: ignore[arg-type]  # of these fields all values are numbers
    return OF_SHARE * number**2 if table is None else table[number]


def _by_cost(name: str, values: Iterable[Primitive]) -> list[Primitive]:
    return sorted(values, key=lambda value: _expected(name, value))


def _start(name: str, values: Sequence[Primitive]) -> int:
    """Of values by their cost: the last that costs little."""
    return max([i for i, value in enumerate(values) if _expected(name, value) <= 0.02], default=0)


Row = tuple[str, Mapping[str, Primitive]]
"""A training and what is done after it."""


class _Additive:
    """The model of one objective, see above. Where trials say what the training itself gave, it counts as a setting that costs nothing."""

    def __init__(self, shared: SharedTrainings, j: int) -> None:
        domains = shared.problem.space.domains()
        self._numbers = {key: i for i, key in enumerate(shared.trainings)}
        fields = [(path, field_of(path), value) for path in shared.paths for value in domains[path].values]
        self._layers = {(path, value): i for i, (path, _, value) in enumerate(fields)}
        shares = list(dict.fromkeys((name, value) for _, name, value in fields))
        self._share = np.array([[float(one == (name, value)) for one in shares] for _, name, value in fields])
        column = shared.problem.columns[j]
        rows: list[Row] = []
        values, noise = [], []
        for key, each in shared.trainings.items():
            for trial in each:
                info = trial.info.get(column.name, {})
                rows.append((key, _after(trial.architecture)))
                values.append(shared.value(trial, j))
                noise.append(max(NOISE, float(info.get("gap_sd") or 0.0) / 2))
            trained = each[0].info.get(column.name, {}).get("trained")
            if isinstance(trained, (int, float)) and math.isfinite(trained):
                rows.append((key, {}))
                values.append(column.sign * float(trained))
                noise.append(NOISE)
        self._of, self._costs = self._read(rows)
        y = np.array(values)
        self._center = float(np.median(y))
        self._matrix = self._kernel(self._of, self._costs) + np.diag(np.square(noise))
        self._weights = np.linalg.solve(self._matrix, y - self._center - self._costs.sum(1))

    def _read(self, rows: Sequence[Row]) -> tuple[Values, Values]:
        """(n,) the number of each training, and (n, layers x values) what is expected of each value in its layer."""
        costs = np.zeros((len(rows), len(self._layers)))
        for i, (_, setting) in enumerate(rows):
            counts = Counter(map(field_of, setting))
            for path, value in setting.items():
                costs[i, self._layers[path, value]] = _expected(field_of(path), value) / counts[field_of(path)]
        return np.array([self._numbers[key] for key, _ in rows], dtype=int), costs

    def _kernel(self, of: Values, costs: Values) -> Values:
        """(n, k) covariances with the rows of the history."""
        same = of[:, None] == self._of
        ours, theirs = costs @ self._share, self._costs @ self._share
        found = COMMON**2 * np.outer(costs.sum(1), self._costs.sum(1)) + OF_VALUE**2 * ours @ theirs.T
        alone = LEVEL**2 + OF_TRAINING**2 * ours @ theirs.T + OF_LAYER**2 * costs @ self._costs.T
        return np.asarray(found + same * alone)

    def predict(self, rows: Sequence[Row]) -> tuple[Values, Values]:
        """(n,), (n,): means and standard deviations."""
        of, costs = self._read(rows)
        cross, ours = self._kernel(of, costs), costs @ self._share
        own = COMMON**2 * costs.sum(1) ** 2 + (OF_VALUE**2 + OF_TRAINING**2) * np.square(ours).sum(1)
        own += LEVEL**2 + OF_LAYER**2 * np.square(costs).sum(1)
        left = own - np.einsum("ij,ji->i", cross, np.linalg.solve(self._matrix, cross.T))
        return self._center + costs.sum(1) + cross @ self._weights, np.sqrt(np.maximum(left, 0.0))


def _after(arch: Architecture) -> dict[str, Primitive]:
    return {path: value for path, value in arch.flat.items() if names_after(path)}


__all__ = ["Setting", "SharedTrainings", "decisions_after", "pin", "uniform_settings"]
