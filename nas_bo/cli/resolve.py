"""Words of the command line to spaces, objectives, strategies and stored results."""

from __future__ import annotations

import importlib
import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from nas_bo.architecture import Architecture
from nas_bo.cli.options import Text
from nas_bo.cli.quantities import Costs, Quantities, compressibility
from nas_bo.errors import NasBoError, ObjectiveError, SearchError, SpaceError, near
from nas_bo.foreign_document import text_of
from nas_bo.model.after_training import BITS
from nas_bo.objective import Objective, as_objective
from nas_bo.space import Space
from nas_bo.space.space import is_space
from nas_bo.spelling import BEFORE, NAME, spelled
from nas_bo.workflows.result import Result
from nas_bo.workflows.search_settings import Baseline

if TYPE_CHECKING:
    from nas_bo.pretrained import Parts, Pretrained, SubModelLoss
    from nas_bo.strategies import Strategy

BUDGET = 200_000.0  # training tokens per architecture

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asked:
    """The options of `nas-bo search` that say what is searched, as typed."""

    space: str
    text: Text
    objectives: Sequence[str]
    strategy: str | None
    budget: float | None
    seed: int
    costs: Costs
    source: str | None = None
    teachers: Sequence[str] = ()
    operators: str | None = None
    bits: str | None = None
    device_map: str | None = None
    gpus: int = 1


@dataclass(frozen=True)
class Job:
    space: type[Space]
    objectives: list[Objective]
    limits: list[Objective]
    strategy: Strategy
    proxies: list[Any] = field(default_factory=list)
    whole: Mapping[str, Architecture] | None = None
    """The trained model that is searched in, what its parts are compared with."""

    @property
    def bounds(self) -> list[str]:
        """The objectives that are roofline bounds, and no times."""
        return [o.name for o in self.objectives if o.unit.endswith("roofline bound")]


def job(asked: Asked) -> Job:
    """What the options mean.

    Raises:
        NasBoError: an option means nothing.
    """
    from nas_bo.objectives import ValidationLoss
    from nas_bo.pretrained import Pretrained
    from nas_bo.pretrained.space import whole

    costs = asked.costs.settled()
    text = asked.text
    loss: ValidationLoss | SubModelLoss
    proxies: list[Objective] = []
    reference: dict[str, Architecture] | None = None
    if asked.source is not None:
        if asked.gpus > 1:
            raise SearchError(
                f"--gpus-per-trial {asked.gpus} with --from: the parts of a trained model are judged on one GPU; leave one of them out"
            )
        teacher = Pretrained(asked.source, device_map=asked.device_map)  # type: ignore[arg-type]
        loss = _inside(asked, costs, teacher)
        parts = _parts(asked.operators, asked.bits)
        chosen, vocab, proxies = teacher.space(parts), teacher.vocab_size, [teacher.block_scores(loss, parts=parts)]
        reference = {f"{teacher.name} (whole)": whole(chosen)}
    else:
        if asked.operators is not None:
            raise SearchError(
                f"--operators {asked.operators}: they take the place of attention in a trained model; name it with --from, or leave --operators out"
            )
        if asked.bits is not None:
            raise SearchError(
                f"--bits {asked.bits}: they are those of the layers of a trained model; name it with --from, or make bits a field of the space, "
                "as in bits = choice(8, 4, 3)"
            )
        if asked.device_map is not None:
            raise SearchError(
                f"--device-map {asked.device_map}: that is where the weights of a trained model are; name it with --from, or leave --device-map out"
            )
        chosen = named_space(asked.space)
        taught = tuple(asked.teachers) or None
        loss = ValidationLoss(
            tokens=asked.budget or BUDGET,
            seed=asked.seed,
            device=costs.device,
            teacher=taught,
            gpus_per_trial=asked.gpus,
            **asdict(text),
        )
        vocab = 256 if text.tokenizer is None and loss.unit == "bits/byte" else loss.corpus().vocab_size
    costly = Quantities(costs, vocab)
    words: dict[str, Callable[[], Objective]] = {loss.name: lambda: loss, **costly.words(), **compressibility(loss)}
    if loss.name != NAME and any(":" not in t and re.search(rf"\b{NAME}\b", t) for t in asked.objectives):
        raise ObjectiveError(
            f"--objective {NAME}: {text.data!r} holds tokens, and without their tokenizer nobody knows their bytes; give it with "
            f"--tokenizer, or take {loss.name}, which is in {loss.unit}"
        )
    texts = costly.expanded(asked.objectives or (loss.name, "latency_ms"))
    made = [as_objective(_objective(text, words)) for text in texts]
    limits = costly.limits(made)
    if idle := costly.unused():
        raise SearchError(
            f"nothing is predicted for --target {', '.join(idle)}: add --objective latency_ms, memory, throughput or energy, or a limit "
            "on one of them, or leave the target out"
        )
    word = asked.strategy or ("auto" if asked.source is None else "knapsack")
    return Job(chosen, made, limits, strategy(word, asked.seed), proxies, reference)


def _parts(operators: str | None, bits: str | None) -> Parts:
    """What `--operators linear_attention,gated_delta,window=128` and `--bits 8,4,3` add to what may be smaller (raises SpaceError)."""
    from nas_bo.pretrained import Parts

    names: list[str] = []
    windows: list[int] = []
    for word in operators.split(",") if operators is not None else ():
        name, given, size = word.strip().partition("=")
        names.append(name)
        if given:
            if name != "window" or not size.isdecimal() or int(size) < 1:
                raise SpaceError(
                    f"--operators {operators}: {word.strip()!r} cannot be read; a window may have a number of tokens (window=128), the others no number"
                )
            windows.append(int(size))
    widths = [word.strip() for word in bits.split(",")] if bits is not None else []
    if not all(word.isdecimal() and int(word) in BITS for word in widths):
        raise SpaceError(f"--bits {bits}: give some of {', '.join(map(str, BITS))} with commas, as in 8,4,3")
    return Parts(
        operators=tuple(dict.fromkeys(names)),
        windows=tuple(sorted(set(windows), reverse=True)),
        bits=tuple(dict.fromkeys(map(int, widths))),
    )


def _inside(asked: Asked, costs: Costs, teacher: Pretrained) -> SubModelLoss:
    """The loss that `--from` means (raises NasBoError)."""
    text = asked.text
    if asked.space != "tiny_gpt":
        raise SearchError(
            f"--space {asked.space}: with --from the space is that of the parts of the trained model; leave --space out"
        )
    if text.tokenizer is not None or text.vocab_size is not None:
        raise SearchError(
            "--from takes the tokenizer and the vocabulary of the trained model; leave --tokenizer and --vocab-size out"
        )
    if asked.teachers:
        raise SearchError(
            "--teacher with --from: parts of a trained model inherit its weights and need no teacher to be compared; leave --teacher out"
        )
    said = {"data": text.data, "text_key": text.text_key, "token_dtype": text.token_dtype}
    loss = teacher.loss(tokens=asked.budget or 0.0, seed=asked.seed, device=costs.device, **said)
    loss.conditions()  # the text and its tokenizer are looked at before anything is measured
    return loss


@runtime_checkable
class OfVocabulary(Protocol):
    """An objective that counts for a vocabulary; None where its text decides."""

    @property
    def vocab_size(self) -> int | None: ...


def servable(words: Sequence[str], made: Job) -> list[Objective]:
    """The limits that `--servable` means (raises ObjectiveError)."""
    from nas_bo.objectives import Servable

    vocab = next(
        (o.vocab_size for o in (*made.objectives, *made.limits) if isinstance(o, OfVocabulary) and o.vocab_size), 256
    )
    return [Servable(word, vocab_size=vocab) for word in dict.fromkeys(words)]


def named_space(word: str) -> type[Space]:
    """A named space, ``module:Class`` or ``file.py:Class`` (raises SpaceError)."""
    from nas_bo.search_spaces import NAMED

    named: dict[str, type[Space]] = NAMED
    if word in named:
        return named[word]
    if ":" in word:
        found = imported(word, SpaceError)
        if not is_space(found):
            raise SpaceError(f"--space {word}: that is {found!r}, not a class that derives from nas_bo.Space")
        own: type[Space] = found
        return own
    raise SpaceError(
        f"there is no space {word!r}{near(word, NAMED)}; there are {', '.join(NAMED)}, or give your own as module:Class or file.py:Class"
    )


def compared(words: Sequence[str], made: Job, nothing: bool = False) -> list[Baseline] | str | None:
    """What the search is compared with: what was asked for, by default the standard design, and inside a trained model the whole of it as well;
    None for nothing (raises NasBoError)."""
    if "none" in words and (others := [word for word in words if word != "none"]):
        raise SearchError(f"--baseline {others[0]} with --baseline none: leave one of them out")
    if nothing or "none" in words:
        if words and nothing:
            raise SearchError(f"--baseline {words[0]} with --no-baseline: leave one of them out")
        return None
    if not words:
        return "standard"
    return [*baselines(words), *([made.whole] if made.whole else [])]


def baselines(words: Sequence[str]) -> list[Baseline]:
    """``standard``, ``largest``, ``smallest`` or the file of an architecture (raises SearchError)."""
    found: list[Baseline] = []
    for word in words:
        if word in ("standard", "largest", "smallest"):
            found.append(word)
            continue
        try:
            found.append(Architecture.from_json(text_of(Path(word), 2**20)))
        except SpaceError as cause:
            raise SearchError(f"--baseline {word}: that file holds no architecture ({cause})") from cause
        except ValueError as cause:
            raise SearchError(
                f"--baseline {word}: that file does not hold the text of an architecture ({cause})"
            ) from cause
        except OSError as cause:
            raise SearchError(
                f"--baseline {word}: it is neither 'standard', 'largest' nor 'smallest', nor a file that can be read ({cause.strerror})"
            ) from cause
    return found


def _objective(text: str, words: dict[str, Callable[[], Objective]]) -> Any:
    typed = text
    if ":" not in text:
        text = re.sub(rf"\b({NAME}|{BEFORE})\b", lambda found: spelled(found[0], words), text)
    if text in words:
        return words[text]()
    if ":" in text:
        return instance(text, ObjectiveError)
    if "+" in text or "*" in text:
        from nas_bo.objectives import Weighted

        return Weighted([_term(part, typed, words) for part in text.split("+")])
    raise ObjectiveError(
        f"there is no objective {typed!r}{near(text, words)}; there are {', '.join(words)}, sums such as 'bits_per_byte+0.1*latency_ms', "
        "or your own as module:name"
    )


def _term(part: str, text: str, words: dict[str, Callable[[], Objective]]) -> tuple[float, Objective]:
    match = re.fullmatch(r"\s*(?:([0-9.eE+-]+)\s*\*)?\s*([\w@./-]+)\s*", part)
    if match is None or match[2] not in words:
        raise ObjectiveError(
            f"--objective {text!r}: cannot read {part.strip()!r}; a sum is made of 'name' and 'weight*name', with the names {', '.join(words)}"
        )
    try:
        weight = float(match[1] or 1.0)
    except ValueError:
        raise ObjectiveError(f"--objective {text!r}: the weight {match[1]!r} is not a number") from None
    return weight, words[match[2]]()


def strategy(word: str, seed: int) -> Strategy:
    """A strategy of nas_bo by its class in small letters, or ``module:name`` (raises SearchError)."""
    from nas_bo import strategies
    from nas_bo.strategies import Strategy

    kinds = {name: getattr(strategies, name) for name in strategies.__all__ if name not in ("Strategy", "Successive")}
    own = {name.lower(): name for name, kind in kinds.items() if isinstance(kind, Strategy)}
    if word.lower() in own:
        made: Strategy = kinds[own[word.lower()]](seed=seed)
        return made
    if ":" in word:
        own_strategy: Strategy = instance(word, SearchError)
        return own_strategy
    raise SearchError(
        f"there is no strategy {word!r}{near(word, own)}; there are {', '.join(own)}, or your own as module:name"
    )


def imported(word: str, error: type[NasBoError]) -> Any:
    """What ``module:name`` or ``file.py:name`` names."""
    module, _, attribute = word.rpartition(":")
    if module.endswith(".py"):
        path = Path(module)
        if not path.exists():
            raise error(f"{word}: there is no file {module!r}")
        sys.path.insert(0, str(path.resolve().parent))  # worker processes inherit the path and import it again
        module = path.stem
    elif "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        with _old_names_said(word):
            found = importlib.import_module(module)
    except NasBoError:
        raise
    except Exception as cause:
        said = f"{type(cause).__name__}: {cause}{_meant(cause)}"
        raise error(f"{word}: the module {module!r} cannot be imported ({said})") from cause
    try:
        return getattr(found, attribute)
    except AttributeError:
        names = [name for name in vars(found) if not name.startswith("_")]
        raise error(f"{word}: the module {module!r} has no {attribute!r}{near(attribute, names)}") from None


@contextmanager
def _old_names_said(word: str) -> Iterator[None]:
    """Names of nas_bo's version 0.1 that a user's module uses still work, and are reported: Python shows such warnings to nobody."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DeprecationWarning)
        yield
    for one in caught:
        if issubclass(one.category, DeprecationWarning) and str(one.message).startswith("nas_bo."):
            _log.warning("%s: %s", word, one.message)
        elif not issubclass(one.category, DeprecationWarning):
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def _meant(cause: Exception) -> str:
    """Of a name that a package of nas_bo has not: the one that was meant, or where it is."""
    match = re.match(r"cannot import name '(\w+)' from '(nas_bo[\w.]*)'", str(cause))
    if match is None:
        return ""
    name, package = match.groups()
    return near(name, [one for one in dir(importlib.import_module(package)) if not one.startswith("_")])


def instance(word: str, error: type[NasBoError]) -> Any:
    """What ``module:name`` names; of a class, one that is made without arguments."""
    found = imported(word, error)
    return found() if isinstance(found, type) else found


def writable(folder: Path) -> None:
    """See that `folder` can be made and written to, before anything is spent (raises SearchError). Nothing is left behind."""
    absent = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".nas-bo-write-test"
        probe.touch()
        probe.unlink()
        for one in absent:
            one.rmdir()
    except OSError as cause:
        raise SearchError(
            f"the folder {str(folder)!r} for the report cannot be written ({cause.strerror}); choose another with --out"
        ) from cause


def stored(storage: str, study: str | None, space: str | None = None) -> Result:
    """The result of a study in a storage, of nas_bo or of anybody else (raises HostError).

    Args:
        space: as `--space` has it, for a study that nas_bo did not make.
    """
    from nas_bo.optuna import studies
    from nas_bo.workflows.search import load_result

    chosen = None if space is None else named_space(space)
    return load_result(studies.load(storage, study, reading=True), chosen)
