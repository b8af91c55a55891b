"""What may be given as a seed, everywhere: a whole number, or a generator of numpy or Python, which gives one.

A generator is asked once, so that the whole number can be stored, compared and described; its own state moves on as with
any other draw. A `SeedSequence` has no state, and gives the same number again.
"""

from __future__ import annotations

import operator
import random
import secrets
from typing import TYPE_CHECKING, TypeAlias, Union

from nas_bo.errors import NasBoError, SearchError

if TYPE_CHECKING:
    import numpy as np

Seed: TypeAlias = Union[
    int,
    "np.integer",
    random.Random,
    "np.random.Generator",
    "np.random.RandomState",
    "np.random.BitGenerator",
    "np.random.SeedSequence",
    None,
]
BITS = 31  # of a seed that a generator gives: storages and other libraries take it as it is


def whole_seed(seed: Seed, where: str, kind: type[NasBoError] = SearchError, name: str = "seed") -> int:
    """`seed` as a whole number of at least 0; None is a random one.

    Args:
        where: what the user wrote it in, such as "search"; for the message.
        kind: the error to raise.
        name: of the argument.

    Raises:
        NasBoError: a negative number, a bool, a float, text, or whatever else is not a seed.
    """
    if seed is None:
        return secrets.randbits(BITS)
    if isinstance(seed, random.Random):
        return seed.getrandbits(BITS)
    number = seed if type(seed) is int else _of_numpy(seed)
    if number is None or number < 0:
        raise kind(
            f"{where}({name}={seed!r:.80}): the seed must be a whole number of at least 0, the same one for the same result, or a "
            "generator: numpy.random.Generator, RandomState, SeedSequence, random.Random; None takes a random one"
        )
    return number


def _of_numpy(seed: object) -> int | None:
    """The whole number of a generator or an integer of numpy; None for anything else."""
    import numpy as np

    if isinstance(seed, np.random.SeedSequence):
        return int(seed.generate_state(1)[0]) >> (32 - BITS)
    if isinstance(seed, np.random.BitGenerator):
        seed = np.random.Generator(seed)
    if isinstance(seed, np.random.Generator):
        return int(seed.integers(1 << BITS))
    if isinstance(seed, np.random.RandomState):
        return int(seed.randint(1 << BITS, dtype=np.int64))
    if isinstance(seed, (bool, np.bool_)):
        return None
    try:
        return operator.index(seed)  # type: ignore[arg-type]
    except TypeError:
        return None


def settle(owner: object, kind: type[NasBoError] = SearchError, field: str = "seed") -> None:
    """Replace the seed of a frozen dataclass by its whole number, for ``__post_init__``.

    Raises:
        NasBoError: see `whole_seed`.
    """
    object.__setattr__(owner, field, whole_seed(getattr(owner, field), type(owner).__name__, kind, field))


def generator_of(seed: Seed, where: str, kind: type[NasBoError] = SearchError) -> random.Random:
    """A `random.Random`: the one that is given, or a new one from a seed or another generator.

    Raises:
        NasBoError: see `whole_seed`.
    """
    return seed if isinstance(seed, random.Random) else random.Random(whole_seed(seed, where, kind))
