"""`nas-bo ask` and `nas-bo tell`: a search inside a shell pipeline. JSON, one document a line, on stdin and stdout.

The options of the first `ask` are kept with the study, so that later ones, and every `tell`, need only the storage.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_bo import database_url
from nas_bo.cli import completion
from nas_bo.cli.documents import labelled
from nas_bo.cli.failure import errors
from nas_bo.cli.options import OneStudy, Storage
from nas_bo.cli.output import say
from nas_bo.cli.typed_options import within
from nas_bo.errors import HostError, NasBoError, SearchError

if TYPE_CHECKING:
    from nas_bo.optuna.reading import Study
    from nas_bo.space import Space
    from nas_bo.trial import Trial
    from nas_bo.workflows.ask_tell import Asked, AskTell

KEPT = "asking"  # the attribute of the study that has the words
COMPUTED = ("parameters", "mflops", "kv_cache_bytes")
LONGEST = 16_000_000  # characters of one document
_WANTED = '`nas-bo tell` wants documents such as {"number": 0, "values": {"bits_per_byte": 2.41}} or {"number": 0, "failed": "out of memory"}'
SIDES = {"at_most": "--at-most", "at_least": "--at-least"}
NAMING = {
    "space": "--space",
    "strategy": "--strategy",
    "objectives": "--objective",
    **SIDES,
}  # words that may name a module


@dataclass(frozen=True)
class Asking:
    """The options of `nas-bo ask` that say what is searched, as typed; None is as in the first `ask`."""

    space: str | None = None
    objectives: Sequence[str] | None = None
    at_most: Sequence[str] | None = None
    at_least: Sequence[str] | None = None
    strategy: str | None = None
    vocab_size: int | None = None
    seed: int | None = None


def session(
    storage: str, study: str | None, asking: Asking, *, create: bool = True, allow: Collection[str] = ()
) -> AskTell:
    """The session that the options mean; what they leave out is as in the first `ask`.

    Args:
        allow: modules and files that the study may name; see `_trust`.

    Raises:
        NasBoError: an option means nothing, the study belongs to another space or other objectives, or it names code that is not
            allowed.
    """
    import optuna

    from nas_bo.cli import resolve
    from nas_bo.optuna import studies
    from nas_bo.workflows.ask_tell import AskTell

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    found = _there(storage, study, asking.space)
    if found is None and not create:
        raise SearchError(
            f"{database_url.shown(storage)} holds no study{f' {study!r}' if study else ''} yet; `nas-bo ask` makes it"
        )
    if found is not None and not create and studies.kept(found, "study") is None:
        raise SearchError(
            f"the study {found.study_name!r} in {database_url.shown(storage)} was not made by nas_bo, which has asked for none of "
            "its trials; tell those of a study of `nas-bo ask`"
        )
    words = {} if found is None else studies.kept(found, KEPT) or _of_search(found)
    if found is not None:
        _trust(found.study_name, words, asking, allow)
    words = {**words, **{k: v for k, v in vars(asking).items() if v is not None}}
    words = {"space": "tiny_gpt", "objectives": ["bits_per_byte", "latency_ms"], "vocab_size": 256, "seed": 0} | words
    chosen = resolve.named_space(words["space"])
    bounds = {side: _bounds(words.get(side) or (), option) for side, option in SIDES.items()}
    made = [_objective(text, words, bounds, chosen) for text in words["objectives"]]
    limits = [
        _objective(name, words, bounds, chosen)
        for name in list(dict.fromkeys([*bounds["at_most"], *bounds["at_least"]]))
    ]
    if words.get("strategy") is None:
        words["strategy"] = "auto"
    opened = AskTell(
        chosen,
        made,
        limits=limits,
        strategy=resolve.strategy(words["strategy"], words["seed"]),
        storage=storage,
        study_name=study if found is None else found.study_name,
        seed=words["seed"],
    )
    if studies.kept(opened.study, KEPT) != words:
        studies.keep(opened.study, KEPT, words)
    return opened


def _trust(study: str, words: object, asking: Asking, allow: Collection[str]) -> None:
    """A study may be somebody else's, and importing what it names runs code: only nas_bo's own, what was typed now, and what is
    allowed by name (a module, a package around it, or a file) is imported.

    Raises:
        SearchError: the study names something else, or its words are not what `ask` has written.
    """
    if not isinstance(words, Mapping):
        raise SearchError(
            f"the study {study!r} keeps {words!r:.60} where `nas-bo ask` keeps its options; ask with another study"
        )
    for key, option in NAMING.items():
        if vars(asking)[key] is not None:
            continue
        named = words.get(key) or []
        for word in [named] if isinstance(named, str) else named if isinstance(named, list) else [None]:
            if not isinstance(word, str):
                raise SearchError(
                    f"the study {study!r} keeps {named!r:.60} for {option}, which is not a text; type {option}"
                )
            if module := not_allowed(word, allow):
                raise SearchError(
                    f"the study {study!r} names {word!r} for {option}, and importing it runs its code; if you trust it, allow it by "
                    f"name (--allow {module}), or type it yourself ({option} of `nas-bo ask`)"
                )


def not_allowed(word: str, allow: Collection[str]) -> str:
    """The module that `word` would import where that is neither nas_bo's own nor allowed, else "".

    Args:
        word: a space, a strategy, an objective, or a limit with its bound.
        allow: modules, packages around them, or files.
    """
    module = re.sub(r"^(max|min)(imize)?:", "", word.partition("=")[0]).rpartition(":")[0]
    own = module.partition(".")[0] == "nas_bo" and not module.endswith(".py")
    return "" if own or any(module == one or module.startswith(f"{one}.") for one in allow) else module


def _there(storage: str, study: str | None, space: str | None) -> Study | None:
    """The study that is meant, None where there is none yet."""
    from nas_bo.cli import resolve
    from nas_bo.optuna import studies

    try:
        return studies.load(storage, study)
    except HostError as error:
        text = str(error)
        if "no file" in text or "no study" in text or "holds 0 studies" in text:
            return None
        if study is None and space is not None and "name one with" in text:  # that of the space, as `search` names it
            return _there(storage, resolve.named_space(space).title, space)
        raise


def _of_search(study: Study) -> dict[str, Any]:
    """The words that a study of `nas-bo search` leaves to be known."""
    from nas_bo.optuna import studies
    from nas_bo.search_spaces import NAMED

    about = studies.kept(study, "study")
    if about is None:
        return {}
    names = [name for name, space in NAMED.items() if space.fingerprint() == about["fingerprint"]]
    side = {"minimize": "", "maximize": "max:"}
    return {
        "objectives": [side[c["direction"]] + c["name"] for c in about["columns"]],
        **({"space": names[0]} if names else {}),
    }


def _bounds(texts: Sequence[str], option: str) -> dict[str, float]:
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            raise SearchError(f"{option} {text!r}: write a name and a number, such as {option} latency_ms=25") from None
    return found


def _objective(word: str, words: Mapping[str, Any], bounds: Mapping[str, dict[str, float]], space: type[Space]) -> Any:
    """What can be computed is computed, everything else is reported. Its bounds are taken out of `bounds`."""
    from nas_bo.cli import resolve
    from nas_bo.errors import ObjectiveError
    from nas_bo.objective import Reported
    from nas_bo.objectives import Flops, KVCacheBytes, Parameters

    side, _, rest = word.partition(":")
    direction = {"max": "maximize", "maximize": "maximize", "min": "minimize", "minimize": "minimize"}.get(side)
    name = rest if direction else word
    limits: dict[str, Any] = {s: each.pop(name) for s, each in bounds.items() if name in each}
    if ":" in name:
        return _bounded(resolve.instance(name, ObjectiveError), name, limits)
    vocab = words["vocab_size"]
    if name == "parameters":
        return Parameters(vocab_size=vocab, **limits)
    if name == "mflops":
        return Flops(vocab_size=vocab, **limits)
    if name == "kv_cache_bytes":
        return KVCacheBytes(**limits)
    meant = get_close_matches(name, COMPUTED, 1, 0.8)
    if meant:
        raise ObjectiveError(
            f"--objective {word}: did you mean {meant[0]!r}, which is computed (as are {', '.join(COMPUTED)})? Whatever you tell yourself needs a "
            "name that is not so close to one of them"
        )
    return Reported(name, direction=direction or "minimize", **limits)  # type: ignore[arg-type]


def _bounded(found: object, name: str, limits: Mapping[str, float]) -> object:
    """An objective of the user's own with the limits of the options (raises ObjectiveError)."""
    from nas_bo.errors import ObjectiveError
    from nas_bo.objective import as_objective

    if not limits:
        return found
    made = as_objective(found)  # type: ignore[arg-type]  # which says what is wrong with it
    if not is_dataclass(made):
        option = SIDES[next(iter(limits))]
        raise ObjectiveError(f"{option} {name}: it is an object with limits of its own; set at_most and at_least there")
    return replace(made, **limits)


def document(session: AskTell, asked: Asked) -> str:
    """One asked trial as a line of JSON; `tell` reads it with "values" (or "failed") added."""
    names = {"study": session.study.study_name, "tell": session.reported}
    return json.dumps(labelled("asked", {**asked.to_dict(), **names}), separators=(", ", ": "))


def read(stream: Iterable[str] | None = None) -> Iterator[Mapping[str, Any] | SearchError]:
    """The documents on stdin, each as soon as it is there: one a line, one over several lines, or lists of them.

    In place of a line that is not JSON there is an error.

    Raises:
        SearchError: nothing is on stdin, or it ends within a document.
    """
    decoder, text, count = json.JSONDecoder(), "", 0
    for line in _lines() if stream is None else stream:
        text = (text + line).lstrip()
        if len(text) > LONGEST:
            raise SearchError(f"a document on stdin has more than {LONGEST:,} characters and no end; {_WANTED}")
        while text:
            try:
                data, end = decoder.raw_decode(text)
            except RecursionError:
                count += 1
                yield SearchError(f"a document on stdin is nested too deeply: {text[:40]!r}...; {_WANTED}")
                text = ""
                break
            except json.JSONDecodeError:
                if text[0] in "{[":
                    break  # it may continue in the next line
                count += 1
                yield _no_json(text)  # a warning, say, that a program has printed; what follows is reported anyway
                text = ""
                break
            text = text[end:].lstrip()
            for each in data if isinstance(data, list) else [data]:
                count += 1
                yield each
    if text:
        raise _no_json(text)
    if not count:
        raise SearchError("there is nothing on stdin to report; pipe JSON documents into `nas-bo tell`")


def _lines() -> Iterator[str]:
    """What is on stdin; bytes that are not UTF-8 are replaced, so that the line is refused and the next one is read."""
    yield from (line.decode("utf-8", "replace") for line in sys.stdin.buffer)


def _no_json(text: str) -> SearchError:
    return SearchError(f"this on stdin is not JSON: {text.rstrip()[:80]!r}; {_WANTED}")


def keep(session: AskTell, data: Mapping[str, object] | SearchError) -> str:
    """Tell one document, and what the study then holds as a line of JSON (raises NasBoError)."""
    if isinstance(data, SearchError):
        raise data
    if not isinstance(data, dict) or "number" not in data:
        raise SearchError(f"{json.dumps(data)[:80]} has no number of a trial; add what `nas-bo ask` printed")
    number = data["number"]
    values, failed = data.get("values"), data.get("failed")
    if values is not None and not isinstance(values, dict):
        raise SearchError(f'trial {number}: "values" is {values!r}; write names and numbers, {{"bits_per_byte": 2.41}}')
    if failed is not None and not isinstance(failed, str):
        raise SearchError(f'trial {number}: "failed" is {failed!r}; write the reason, a text')
    if "id" in data and not isinstance(number, bool) and isinstance(number, int):
        open_ = {a.number: a.architecture.id for a in session.open}
        if open_.get(number, data["id"]) != data["id"]:
            raise SearchError(
                f"trial {number} of this study is the architecture {open_[number]}, not {data['id']}; is this another "
                "study, or another storage?"
            )
    info = data.get("info")
    trial = session.tell(number, values, failed=failed, info=info if isinstance(info, dict) else None)
    return json.dumps(labelled("outcome", outcome(trial)))


def outcome(trial: Trial) -> dict[str, object]:
    """What the study holds of a trial that has ended, as JSON-safe data."""
    found: dict[str, object] = {"number": trial.number, "state": trial.state.value, "values": dict(trial.values)}
    broken = {name: amount for name, amount in trial.violations.items() if amount > 0}
    why: dict[str, object] = {"reason": trial.reason} if trial.reason else {}
    return {**found, **why, **({"violated": broken} if broken else {})}


Allowed = Annotated[
    list[str] | None,
    typer.Option(
        "--allow",
        help="A module or file that the study names and that may be imported, repeatable. nas_bo's own always may.",
    ),
]

JsonLines = Annotated[bool, typer.Option("--json", help="Print JSON, a line each, which this command always does.")]


def ask(
    storage: Storage = "nas-bo.db",
    study: Annotated[
        str | None,
        typer.Option(
            help="Name of the study. By default the only one in the storage. A new one is named after the space.",
            autocompletion=completion.studies,
        ),
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(
            help="A named space, module:Class or file.py:Class, as in `nas-bo search`. By default tiny_gpt.",
            autocompletion=completion.spaces,
        ),
    ] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            help="What is optimised, repeatable: parameters, mflops, kv_cache_bytes and module:name are computed. Any other name is a value that you tell: smaller is better, or larger with max:NAME. By default bits_per_byte and latency_ms."
        ),
    ] = None,
    at_most: Annotated[
        list[str] | None, typer.Option(help="A hard limit from above, repeatable: latency_ms=25.")
    ] = None,
    at_least: Annotated[
        list[str] | None, typer.Option(help="A hard limit from below, repeatable: throughput=500.")
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            help="What proposes, as in `nas-bo search`. By default auto.", autocompletion=completion.strategies
        ),
    ] = None,
    vocab_size: Annotated[
        int | None,
        typer.Option(help="Vocabulary size for what is computed. By default 256, that of bytes.", callback=within(2)),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="The same seed proposes the same architectures. By default 0.", callback=within(0)),
    ] = None,
    count: Annotated[int, typer.Option(help="Number of architectures.", callback=within(1))] = 1,
    waiting: Annotated[
        bool,
        typer.Option(
            "--open", help="Print the architectures that were asked for and not reported yet, instead of a new one."
        ),
    ] = False,
    allow: Allowed = None,
    as_json: JsonLines = True,
) -> None:
    """Print the next architecture to evaluate, as a line of JSON; options are needed the first time only."""
    with errors():
        asking = Asking(space, objective or None, at_most or None, at_least or None, strategy, vocab_size, seed)
        opened = session(storage, study, asking, create=not waiting, allow=allow or ())
        for asked in opened.open if waiting else (opened.ask() for _ in range(count)):
            say(document(opened, asked))


def tell(
    storage: Storage = "nas-bo.db", study: OneStudy = None, allow: Allowed = None, as_json: JsonLines = True
) -> None:
    """Read the results of asked architectures from stdin, as JSON: {"number": 0, "values": {"bits_per_byte": 2.4}}, or "failed": "why"."""
    with errors():
        opened, refused = None, False
        for data in read():  # the study may be made by the `ask` at the other end of the pipe
            opened = opened or session(storage, study, Asking(), create=False, allow=allow or ())
            try:
                say(keep(opened, data))
            except NasBoError as error:  # the others are reported anyway
                say(f"nas-bo: {error}", err=True)
                refused = True
    if refused:
        raise typer.Exit(2)
