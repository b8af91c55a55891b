"""Results of searches by gradients, so that a strategy trains once: in memory, and in a file that processes share."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from nas_bo import temporary
from nas_bo.architecture import Architecture
from nas_bo.errors import CheckpointError, NasBoError
from nas_bo.foreign_document import text_of
from nas_bo.objective import Composed, Objective, Predicting, ReadsText
from nas_bo.problem import Problem
from nas_bo.strategies.one_shot.gradient_result import DartsResult, Look
from nas_bo.strategies.one_shot.gradient_settings import GradientSettings, price_of

if TYPE_CHECKING:
    from nas_bo.model.data import Corpus

FORMAT = 1
REMEMBERED = 8  # results kept in memory
PROBES = 8  # architectures whose costs tell one cost from another
NO_SETTINGS = (
    "cost", "data", "tokenizer", "vocab_size", "token_dtype", "text_key", "device", "checkpoint",
)  # what is not itself part of what a result is of  # fmt: skip

logger = logging.getLogger(__name__)

_lock = threading.Lock()
_memory: OrderedDict[str, DartsResult] = OrderedDict()
_found: WeakKeyDictionary[Problem, list[tuple[GradientSettings, DartsResult]]] = WeakKeyDictionary()


def result_of(search: GradientSettings, problem: Problem) -> DartsResult:
    """The result of a search for a problem: from memory, from the file `checkpoint`, or made now.

    Raises:
        NasBoError: the search cannot begin, or the file is of another search.
    """
    with _lock:
        for one, result in _found.get(problem, ()):
            if one == search:
                return result
        result = _result(search, problem)
        _found.setdefault(problem, []).append((search, result))
        return result


def _result(search: GradientSettings, problem: Problem) -> DartsResult:
    cost = search.cost if search.cost is not None else _cheap(problem.objectives)
    if cost is None and search.lambdas != (0.0,):
        logger.warning(
            "%s: no objective is analytic or has predict, so the search is for quality alone", type(search).__name__
        )
        search = replace(search, lambdas=(0.0,))
    corpus = None if search.data or search.tokenizer else _text(problem.objectives)
    corpus = search.text() if corpus is None else corpus
    about = _about(search, problem, corpus, cost)
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    if key in _memory:
        _memory.move_to_end(key)
        return _memory[key]
    if search.checkpoint is None:
        found = search.search(problem.space, corpus, cost)
    else:
        found = _shared(search, problem, corpus, cost, Path(search.checkpoint), about)
    _memory[key] = found
    if len(_memory) > REMEMBERED:
        _memory.popitem(last=False)
    return found


def _shared(
    search: GradientSettings,
    problem: Problem,
    corpus: Corpus,
    cost: Objective | None,
    path: Path,
    about: dict[str, object],
) -> DartsResult:
    from nas_bo.objectives.shared_weights import locked

    with locked(path):  # whoever comes second waits, and reads
        found = _read(path, about)
        if found is None:
            found = search.search(problem.space, corpus, cost)
            _write(path, about, found)
        return found


def _about(search: GradientSettings, problem: Problem, corpus: Corpus, cost: Objective | None) -> dict[str, object]:
    """What a result is a result of, as plain data."""
    price = price_of(cost)
    return {
        "method": type(search).__name__,
        "settings": {f.name: vars(search)[f.name] for f in fields(search) if f.name not in NO_SETTINGS},
        "space": problem.space.fingerprint(),
        "corpus": corpus.fingerprint,
        "cost": None if price is None else [price(problem.space.sample(seed)) for seed in range(PROBES)],
    }


def _each(objectives: Iterable[object]) -> Iterator[Any]:
    for objective in objectives:
        yield objective
        yield from _each(objective.parts if isinstance(objective, Composed) else ())


def _cheap(objectives: Iterable[Objective]) -> Objective | None:
    """The first objective with values that cost nothing."""
    found: Iterator[Objective] = (o for o in _each(objectives) if o.cost == "analytic" or isinstance(o, Predicting))
    return next(found, None)


def _text(objectives: Iterable[Objective]) -> Corpus | None:
    """The text of the first objective that has one."""
    for objective in _each(objectives):
        if isinstance(objective, ReadsText):
            found: Corpus = objective.corpus()
            return found
    return None


# ---- files --------------------------------------------------------------------------------------------------------


def _write(path: Path, about: dict[str, object], result: DartsResult) -> None:
    content = {
        "format": FORMAT,
        "about": about,
        "result": {
            "lambdas": result.lambdas,
            "logits": result.logits,
            "front": [arch.to_dict() for arch in result.front],
            "history": [asdict(look) for look in result.history],
            "stopped_because": result.stopped_because,
            "tokens": result.tokens,
            "seconds": result.seconds,
            "cpu_seconds": result.cpu_seconds,
        },
    }
    try:
        with temporary.whole(path) as draft:
            draft.write_text(json.dumps(content))
    except OSError as error:
        raise CheckpointError(
            f"the search cannot be kept in {str(path)!r} ({error.strerror or error}); give a file in a folder that can be "
            "written to and has space left"
        ) from None


def _read(path: Path, about: dict[str, object]) -> DartsResult | None:
    """The result in a file; None when there is none (raises CheckpointError)."""
    if not path.exists():
        return None
    try:
        content = json.loads(text_of(path))
        there, kept, form = content["about"], content["result"], content["format"]
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(
            f"{str(path)!r} holds no search by gradients; give another file, or delete it to search again"
        ) from None
    if form != FORMAT:
        raise CheckpointError(
            f"{str(path)!r} has format {form!r} and this version of nas_bo reads {FORMAT}; upgrade nas_bo, or delete the "
            "file to search again"
        )
    here = json.loads(json.dumps(about))
    if there != here:
        names = [name for name in here if there.get(name) != here[name]]
        if names == ["settings"]:
            names = [f"the setting {n}" for n, v in here["settings"].items() if there["settings"].get(n) != v]
        raise CheckpointError(
            f"{str(path)!r} is of another search: {', '.join(names)} differ; give this one a file of its own, or delete "
            "that one to search again"
        )
    try:
        return DartsResult(
            tuple(kept["lambdas"]),
            tuple(tuple(one) for one in kept["logits"]),
            tuple(Architecture.from_dict(one) for one in kept["front"]),
            tuple(Look(**one) for one in kept["history"]),
            tuple(kept["stopped_because"]),
            (kept["tokens"][0], kept["tokens"][1]),
            kept["seconds"],
            kept["cpu_seconds"],
        )
    except (KeyError, TypeError, NasBoError) as error:
        raise CheckpointError(f"{str(path)!r} is damaged ({error}); delete it to search again") from None
