"""How far a space reaches: every layer that it can have, and its largest and smallest architectures."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator
from functools import cached_property

from nas_bo.architecture import Architecture
from nas_bo.errors import ModelError
from nas_bo.model.counts import flops, parameters
from nas_bo.model.spec import HYPERPARAMETERS, DecoderSpec, check, read
from nas_bo.space.domain import Choice, Domain, Real
from nas_bo.space.space import Space

MOST = 20_000
"""Combinations of the choices of one block and the top level that are walked through; a block with more is not shared."""

TRIES = 64  # draws among which an extreme is looked for where rules forbid the extreme itself


class Extent:
    """The decoders of a space, as far as sharing weights needs to know them.

    Args:
        space: a subclass of `Space`.
        ignore: top-level fields that are the user's own.

    Raises:
        ModelError: the space has choices that no decoder understands, or that shared weights cannot serve.
    """

    def __init__(self, space: type[Space], ignore: Collection[str] = ()) -> None:
        self.space, self.ignore = space, tuple(ignore)
        self.domains = space.domains()
        for name, domain in self.domains.items():
            if name in HYPERPARAMETERS and name not in self.ignore and domain.size != 1:
                raise ModelError(
                    f"{space.title}: the choice {name!r} is about training, and shared weights are trained once for all "
                    f"architectures; fix it, or pass ignore=({name!r},)"
                )
        read(space.decide(lambda _path, domain: _first(domain)), self.ignore)  # unknown fields: said here, once

    def specs(self, depths: bool = False) -> Iterator[DecoderSpec]:
        """Decoders in which every block that any layer can have is met at every width, and every depth at every width.
        Sizes outside of what the rules of the space allow may be among them.

        Args:
            depths: every block at every depth as well.

        Raises:
            ModelError: a block has no combination of values that can be built, or too many combinations.
        """
        top = [path for path in self.domains if "." not in path and path not in self.ignore]
        groups: dict[str, list[str]] = {"": []}
        for path in self.domains:
            parts = path.split(".")
            if path not in top:
                groups.setdefault(".".join(parts[: 3 if len(parts) > 2 and parts[1].isdecimal() else 1]), []).append(
                    path
                )
        deepest = self._pick_deepest
        for group, paths in groups.items():
            free = {path for path in (*top, *paths) if not group or depths or path not in self.counts}
            yield from self._walk(free, deepest, group)

    @cached_property
    def counts(self) -> frozenset[str]:
        return frozenset(path for path, slot in self.space.decisions().items() if slot.is_count)

    def _pick_deepest(self, path: str, domain: Domain) -> object:
        return max(domain.values) if path in self.counts else _first(domain)  # type: ignore[type-var]

    def _walk(
        self, free: Collection[str], otherwise: Callable[[str, Domain], object], group: str
    ) -> Iterator[DecoderSpec]:
        """All combinations of the decisions in `free`, as `Space.enumerate` walks them."""
        script: list[int] = []
        built, why = 0, ""
        for _ in range(MOST):
            widths: list[int] = []

            def pick(path: str, domain: Domain, widths: list[int] = widths) -> object:
                if path not in free:
                    return otherwise(path, domain)
                values = (domain.low, domain.high) if isinstance(domain, Real) else domain.values
                if len(widths) == len(script):
                    script.append(0)
                widths.append(len(values))
                return values[script[len(widths) - 1]]

            try:
                yield read(self.space.decide(pick), self.ignore)
                built += 1
            except ModelError as error:
                why = str(error)
            while script and script[-1] + 1 == widths[len(script) - 1]:
                script.pop()
            if not script:
                break
            script[-1] += 1
        else:
            raise ModelError(
                f"{self.space.title}: {group or 'the top level'} has more than {MOST:,} combinations of values, too many "
                "to give weights to; use coarser choices there"
            )
        if not built:
            raise ModelError(f"{self.space.title}: no value of {group or 'the top level'} can be built: {why}")

    # ---- extremes -------------------------------------------------------------------------------------------------

    def largest(self, like: Architecture | None = None) -> Architecture:
        """The architecture with most parameters (at equal number, most FLOPs). With `like`: among those with its
        operations, where the layers that `like` does not have get operations of its layers in turn."""
        return self._extreme(self._table(1), 1, like)

    def smallest(self, like: Architecture | None = None) -> Architecture:
        """As `largest`, with fewest."""
        return self._extreme(self._table(-1), -1, like)

    def size(self, arch: Architecture) -> tuple[int, int]:
        """(parameters, FLOPs of 64 tokens) at a vocabulary of 256."""
        spec = check(arch, self.ignore)
        return parameters(spec, 256), flops(spec, 256, 64)

    def _extreme(self, table: dict[str, object], sign: int, like: Architecture | None) -> Architecture:
        operations = {} if like is None else self._operations(like)

        def pick(path: str, domain: Domain) -> object:
            return operations.get(path, table.get(path, _first(domain)))

        arch = self._valid(pick)
        if arch is not None:
            return arch
        rng = random.Random(0)
        drawn = [self.space.sample(rng) for _ in range(TRIES)]
        drawn = [one for one in drawn if self._builds(one)] or drawn
        return max(drawn, key=lambda one: tuple(sign * number for number in self.size(one)))

    def _valid(self, pick: Callable[[str, Domain], object]) -> Architecture | None:
        arch = self.space.decide(pick)
        return arch if not self.space.violations(arch) and self._builds(arch) else None

    def _builds(self, arch: Architecture) -> bool:
        try:
            check(arch, self.ignore)
        except ModelError:
            return False
        return True

    def _operations(self, like: Architecture) -> dict[str, object]:
        """The chosen options of `like` by path; records that it lacks take those of its records in turn."""
        found: dict[str, object] = {}
        depths: dict[str, int] = {}
        for path in like.flat:
            parts = path.split(".")
            if len(parts) > 1 and parts[1].isdecimal():
                depths[parts[0]] = max(depths.get(parts[0], 0), int(parts[1]) + 1)
        for path, domain in self.domains.items():
            if not (isinstance(domain, Choice) and domain.options):
                continue
            parts = path.split(".")
            if len(parts) > 1 and parts[1].isdecimal() and depths.get(parts[0]):
                parts[1] = str(int(parts[1]) % depths[parts[0]])
            value = like.flat.get(".".join(parts))
            if value in domain.values:
                found[path] = value
        return found

    def _table(self, sign: int) -> dict[str, object]:
        """The value of every decision that makes an architecture largest (sign 1) or smallest, children first."""
        known: dict[int, dict[str, object]] = self.__dict__.setdefault("_tables", {})
        if sign in known:
            return known[sign]
        table: dict[str, object] = {}
        above = self.space.decisions()
        for path in reversed(list(self.domains)):
            domain = self.domains[path]
            forced: dict[str, object] = {}
            slot = above[path]
            while slot.parent is not None:
                parent = above[slot.parent]
                if slot.value is not None:
                    forced[slot.parent] = slot.value
                elif slot.index is not None:
                    forced[slot.parent] = min(int(v) for v in parent.domain.values if int(v) > slot.index)  # type: ignore[arg-type]
                elif slot.values is not None:
                    forced[slot.parent] = next(v for v in parent.domain.values if v in slot.values)
                slot = parent
            best: tuple[int, int] | None = None
            for value in (domain.low, domain.high) if isinstance(domain, Real) else domain.values:

                def pick(
                    at: str, one: Domain, forced: dict[str, object] = forced, path: str = path, v: object = value
                ) -> object:
                    return v if at == path else forced.get(at, table.get(at, _first(one)))

                try:
                    size = self.size(self.space.decide(pick))
                except ModelError:
                    continue
                key = (sign * size[0], sign * size[1])
                if best is None or key > best:
                    best, table[path] = key, value
        known[sign] = table
        return table


def _first(domain: Domain) -> object:
    return domain.at(0.5) if isinstance(domain, Real) else domain.values[0]
