"""How the layers of an architecture are arranged, as numbers: what means over layers do not tell.

In lists of records with an unordered decision (which mixer, MLP or none) the order and the company of the options matter
in addition to their shares: a layer that looks far may need one that looks near before it. Columns, for every such decision and every
option: whether it occurs, how often, where it occurs first; for every two options: how evenly they are mixed, and how often
the one follows the other directly. Of any space, since only its decisions are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, permutations

import numpy as np

from nas_bo.architecture import Architecture
from nas_bo.space import Space
from nas_bo.surrogate.genomes import Genomes, genomes_of

MOST_OPTIONS = 6  # of a decision; with more there are too many pairs to learn from


class Structure:
    """The arrangement of the layers of a space's architectures.

    Attributes:
        names: the column names; none where no list of the space has an unordered decision.
    """

    def __init__(self, space: type[Space]) -> None:
        self.genomes: Genomes = genomes_of(space)
        self._families: list[np.ndarray] = []
        self.names: list[str] = []
        for records in self.genomes.lists:
            for rows in records.genes.T:
                i = int(rows[0])
                number = int(self.genomes.size[i])
                if self.genomes.ordered[i] or not 2 <= number <= MOST_OPTIONS:
                    continue
                self._families.append(rows)
                of = self.genomes.paths[i]
                options = [f"{of}={value}" for value in self.genomes.domains[i].values]
                for word in ("any", "number of", "first"):
                    self.names += [f"{word} {option}" for option in options]
                self.names += [f"mix of {a} and {b}" for a, b in combinations(options, 2)]
                self.names += [f"{a} then {b}" for a, b in permutations(options, 2)]

    def __call__(self, archs: Sequence[Architecture]) -> np.ndarray:
        """(n, columns) of architectures; see `of`."""
        return self.of(self.genomes.encode(archs))

    def of(self, genomes: np.ndarray) -> np.ndarray:
        """(n, columns) of genomes (n, genes), all in [0, 1]: `number of` as a share of the longest list, `first` as a share
        of the records there are (1 where the option does not occur), `mix` 1 where both options fill half of the list."""
        found = [np.zeros((len(genomes), 0))]
        for rows in self._families:
            code = genomes[:, rows]  # (n, records)
            active = code >= 0
            longest = code.shape[1]
            here = code[:, :, None] == np.arange(int(self.genomes.size[rows[0]]))  # (n, records, options)
            records = np.maximum(active.sum(1), 1)[:, None]
            occurs = here.any(1)
            number = here.sum(1)
            first = np.where(occurs, here.argmax(1) / np.maximum(records - 1, 1), 1.0)
            share = number / records
            options = range(here.shape[2])
            follows = np.einsum("nla,nlb->nab", here[:, :-1].astype(float), here[:, 1:].astype(float))
            found += [occurs.astype(float), number / longest, np.minimum(first, 1.0)]
            found += [4 * share[:, [a]] * share[:, [b]] for a, b in combinations(options, 2)]
            steps = np.maximum(records - 1, 1)
            found += [follows[:, a, [b]] / steps for a, b in permutations(options, 2)]
        return np.concatenate(found, axis=1)


def structure_of(space: type[Space]) -> Structure:
    """The `Structure` of a space, made once and kept by the space."""
    if "structure" not in space._cache:
        space._cache["structure"] = Structure(space)
    found: Structure = space._cache["structure"]
    return found
