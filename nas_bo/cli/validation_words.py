"""What `nas-bo validate` needs in addition to typer: words to proxies, and the files of its report."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nas_bo import foreign_recipe
from nas_bo.cli import resolve
from nas_bo.cli.options import Text
from nas_bo.errors import ObjectiveError, SearchError, near
from nas_bo.foreign_document import reading
from nas_bo.report import TrustReport
from nas_bo.report.trust_page import trust_page
from nas_bo.space import Space
from nas_bo.spelling import NAME, other, spelled
from nas_bo.study_name import file_name
from nas_bo.workflows.evaluation_store import check_made
from nas_bo.workflows.result import trust_files

if TYPE_CHECKING:
    from nas_bo.execution.executor import Executor
    from nas_bo.objective import Objective
    from nas_bo.objectives.validation_loss import ValidationLoss
    from nas_bo.optuna.reading import Study
    from nas_bo.workflows.progress import Progress
    from nas_bo.workflows.result import Result


@dataclass(frozen=True)
class Job:
    """What is validated, and where it is kept: in `study`, or where there is none in the file `keep`."""

    space: type[Space]
    proxies: list[Objective]
    reference: ValidationLoss
    study: Study | None
    keep: Path | None
    out: Path


@dataclass(frozen=True)
class Asked:
    """The options of `nas-bo validate` that say what is validated, as typed."""

    space: str
    text: Text
    proxies: Sequence[str]
    reference_budget: float
    storage: str | None
    study: str | None
    seed: int
    device: str | None
    out: Path


def job(asked: Asked) -> Job:
    """What the options mean.

    Raises:
        NasBoError: an option means nothing.
    """
    from nas_bo.objectives import ValidationLoss

    chosen = resolve.named_space(asked.space)
    # another seed than that of searches and proxies: they must not share the luck of a run
    seed = asked.seed + 1
    reference = ValidationLoss(tokens=asked.reference_budget, seed=seed, device=asked.device, **asdict(asked.text))
    found = None
    if asked.storage is not None:
        from nas_bo.optuna import studies

        found = studies.load(asked.storage, asked.study)
        check_made(found)
    elif asked.study is not None:
        raise SearchError(f"--study {asked.study} needs --storage, where it is kept")
    words = asked.proxies or ([f"{NAME}@25%"] if found is None else [f"{NAME}@25%", NAME])
    made = [_proxy(word, reference, found, asked.seed) for word in words]
    name = found.study_name if found is not None else chosen.title
    folder = asked.out / file_name(name)
    resolve.writable(folder)
    return Job(chosen, made, reference, found, None if found is not None else folder / "validation.jsonl", folder)


def check_baseline(word: str, storage: str | None) -> None:
    """Raise SearchError where `--baseline` cannot be meant."""
    if word != "standard":
        raise SearchError(
            f"--baseline {word}: here it is 'standard', the plain decoder of the space; other baselines are given to `nas-bo search --baseline`"
        )
    if storage is None:
        raise SearchError("--baseline standard compares the front of a search; name its storage with --storage")


def compared(
    storage: str,
    study: str | None,
    space: str,
    workers: int,
    executor: Executor | None,
    timeout: float | None,
    update: Callable[[Progress], object],
) -> Result:
    """The result of the study in `storage` with its standard design trained in addition (raises NasBoError).

    Args:
        space: as typed; its default stands for what the study says.
    """
    from nas_bo.optuna import studies
    from nas_bo.workflows.compare_standard import compare_standard
    from nas_bo.workflows.search import load_result

    found = studies.load(storage, study)
    check_made(found)
    own = load_result(found).space
    given = resolve.named_space(space)
    same = own is None or given.fingerprint() == own.fingerprint() or space != "tiny_gpt"
    return compare_standard(
        found, given if same else None, workers=workers, executor=executor, timeout=timeout, on_progress=update
    )


def write(job: Job, report: TrustReport) -> list[Path]:
    """The report as files; with a study also as a section of its page."""
    stem = "trust" if job.study is None else "validation"  # next to a search, which has a trust report of its own
    files = {
        **trust_files(report, stem),
        f"{stem}.html": trust_page(report, f"Validation of {job.space.title}").encode(),
    }
    if job.study is not None:
        from nas_bo.workflows.search import load_result

        files["front.html"] = load_result(job.study, job.space).files()["front.html"]
    written = []
    for name, content in files.items():
        path = job.out / name
        try:
            path.write_bytes(content)
        except OSError as error:
            raise SearchError(
                f"the report cannot be written to {str(path)!r}: {error.strerror}; choose another --out"
            ) from error
        written.append(path)
    return [*written, *([job.keep] if job.keep is not None else [])]


def _proxy(word: str, reference: ValidationLoss, study: Study | None, seed: int) -> Objective:
    known = other(word)
    if known is not None and known.startswith(NAME):
        word = known
    name = word.replace(NAME, reference.name, 1)  # where it is bits per token it is called so
    share = re.fullmatch(rf"{NAME}@(\d+(?:\.\d+)?)%", word)
    if share is not None:
        part = float(share[1]) / 100
        if not 0 < part < 1:
            raise ObjectiveError(f"--proxy {word}: the share of the reference run must be between 0 and 100 %")
        return replace(reference, fidelity=part, name=name)
    budget = re.fullmatch(rf"{NAME}@(\d+(?:\.\d+)?)([kM]?)", word)
    if budget is not None:
        tokens = float(budget[1]) * {"": 1, "k": 1e3, "M": 1e6}[budget[2]]
        return replace(reference, tokens=tokens, seed=seed, name=name, rungs=())
    if word == NAME:
        return _searched(reference, study)
    if word.count(":"):
        own: Objective = resolve.instance(word, ObjectiveError)
        return own
    return _known(word)


@reading("what a study says about its training", ObjectiveError)
def _searched(reference: ValidationLoss, study: Study | None) -> ValidationLoss:
    """The validation loss that the study trained to (raises ObjectiveError where that is nothing to be trained)."""
    from nas_bo.objectives.validation_loss import dials_of
    from nas_bo.optuna import studies
    from nas_bo.study import STUDY

    about = {} if study is None else studies.kept(study, STUDY) or {}
    conditions = about.get("conditions", {})
    settings = conditions.get(spelled(NAME, conditions), {})
    if "tokens" not in settings:
        raise ObjectiveError(
            f"--proxy {NAME} means the loss that a search trained to, and there is none: name its study with --storage, or "
            f"say {NAME}@25% (of the reference run) or {NAME}@200k (tokens)"
        )
    try:
        foreign_recipe.check(dict(settings), what="the study")
    except SearchError as error:  # it may be somebody else's
        raise ObjectiveError(
            f"{str(error).partition(';')[0]}; say yourself what is trained, such as --proxy {NAME}@200k"
        ) from None
    return replace(
        reference,
        tokens=settings["tokens"],
        seed=settings["seed"],
        name=f"{reference.name} searched",
        rungs=(),
        **dials_of(settings),
    )


def _known(word: str) -> Objective:
    """An objective of nas_bo that needs no settings, by its class in small letters: synflow, parameters, latency."""
    from nas_bo import objectives

    own = {name.lower(): name for name in dir(objectives) if name[0].isupper()}
    own |= {"mflops": "Flops", "kv_cache_bytes": "KVCacheBytes", "latency_ms": "Latency"}
    name = own.get(word.lower()) or own.get(word.lower().replace("_", ""))
    if name is None:
        raise ObjectiveError(
            f"there is no proxy {word!r}{near(word, own)}; there are {NAME}@25%, {NAME}@200k, {NAME}, "
            f"{', '.join(sorted(own))}, or your own as module:name"
        )
    try:
        made: Objective = getattr(objectives, name)()
        return made
    except TypeError as error:
        raise ObjectiveError(
            f"--proxy {word}: {name} needs settings ({error}); make it in a module of your own and give module:name"
        ) from error
