"""The six verbs of a search for a program that acts for a user, such as a coding agent: ask, train, tell, status, report, best.

What such a program asks for is not what the user typed: it names no module, opens no file outside of the folder that it works in, and trains
no longer than the user has allowed when the server was started. Each verb returns a document of `nas_bo.cli.documents`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nas_bo import database_url, foreign_recipe
from nas_bo.cli.ask import NAMING, Asking, not_allowed, outcome, session
from nas_bo.cli.documents import labelled
from nas_bo.cli.options import Text
from nas_bo.cli.quantities import Costs
from nas_bo.errors import ObjectiveError, SearchError

if TYPE_CHECKING:
    from nas_bo.workflows.ask_tell import AskTell
    from nas_bo.workflows.result import Result

MOST = 50  # architectures that are asked for at once
TOKENS = 200_000.0  # of one training by default, as in `nas-bo search`


@dataclass(frozen=True)
class Tools:
    """What an agent can do with the studies of a folder.

    Args:
        storage: the storage of calls that name none.
        allowed: modules that may be imported, files outside of the current folder that may be opened, and the most training tokens.
        timeout: seconds of one training.
        device: of trainings and measurements; None for the best one.
    """

    storage: str = "nas-bo.db"
    allowed: foreign_recipe.Allowed = field(default_factory=foreign_recipe.Allowed)
    timeout: float | None = 600.0
    device: str | None = None
    _training: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def ask(
        self,
        study: str | None = None,
        space: str | None = None,
        objectives: Sequence[str] | None = None,
        at_most: Mapping[str, float] | None = None,
        at_least: Mapping[str, float] | None = None,
        strategy: str | None = None,
        vocab_size: int | None = None,
        seed: int | None = None,
        count: int = 1,
        waiting: bool = False,
        storage: str | None = None,
    ) -> dict[str, object]:
        """The next architectures to evaluate (raises NasBoError).

        Args:
            study, space, objectives, strategy, vocab_size, seed: as the options of `nas-bo ask`; needed in the first call only.
            at_most, at_least: limits by name, kept before anything is trained where they can be computed.
            count: how many.
            waiting: those that were asked for and not reported yet, instead of new ones.
        """
        if isinstance(count, bool) or not 1 <= count <= MOST:
            raise SearchError(f"ask: count is {count!r}; it is a whole number from 1 to {MOST}")
        asking = Asking(space, objectives, _bounds(at_most), _bounds(at_least), strategy, vocab_size, seed)
        opened = self._session(storage, study, asking, create=not waiting)
        found = opened.open if waiting else [opened.ask() for _ in range(count)]
        names = {"study": opened.study.study_name, "tell": opened.reported}
        return labelled("proposals", {"asked": [labelled("asked", {**one.to_dict(), **names}) for one in found]})

    def train(
        self,
        number: int,
        tokens: float | None = None,
        data: str | None = None,
        study: str | None = None,
        storage: str | None = None,
        seed: int = 0,
    ) -> dict[str, object]:
        """Train and measure an architecture that was asked for, in a process of its own; nothing is kept (raises NasBoError).

        Args:
            number: of its trial.
            tokens: of the training; by default 200,000, or the most that is allowed.
            data: text or tokens, as `--data` of `nas-bo search`; by default the source of Python's standard library.
        """
        tokens = min(TOKENS, self.allowed.budget) if tokens is None else tokens
        foreign_recipe.check(
            {"tokens": tokens, **({} if data is None else {"data": data})},
            self.allowed.paths, self.allowed.budget, "the call of train", noted=False,
        )  # fmt: skip
        opened = self._session(storage, study, Asking(), create=False)
        asked = {one.number: one for one in opened.open}
        if number not in asked:
            waiting = ", ".join(map(str, sorted(asked))) or "none"
            raise SearchError(f"trial {number} does not wait for a result; those that do: {waiting}")
        from nas_bo.cli import resolve
        from nas_bo.execution import Processes
        from nas_bo.problem import Problem

        settings = resolve.Asked(
            "tiny_gpt", Text(data=data), opened.reported, "random", tokens, seed, Costs(device=self.device)
        )
        try:
            problem = Problem(opened.space, resolve.job(settings).objectives)
        except ObjectiveError as error:
            raise SearchError(
                f"train cannot give all of {', '.join(opened.reported)} ({error}); evaluate trial {number} with a program of your own, and tell the values"
            ) from error
        began = time.monotonic()
        with self._training, closing(Processes(1, timeout=self.timeout)) as executor:
            executor.check_problem(problem)
            executor.submit(number, problem, asked[number].architecture)
            _, trial = executor.take()
        values = {name: float(value) for name, value in trial.values.items()}
        done = {"number": number, "state": trial.state.value, "values": values}
        why = {"reason": trial.reason} if trial.reason else {}
        return labelled("evaluated", {**done, **why, "seconds": round(time.monotonic() - began, 1)})

    def tell(
        self,
        number: int,
        values: Mapping[str, float] | None = None,
        failed: str | None = None,
        study: str | None = None,
        storage: str | None = None,
    ) -> dict[str, object]:
        """Keep what became of an architecture (raises NasBoError).

        Args:
            values: of every name in "tell" of what `ask` gave.
            failed: the reason, where there are none.
        """
        opened = self._session(storage, study, Asking(), create=False)
        return labelled("outcome", outcome(opened.tell(number, values, failed=failed)))

    def status(self, storage: str | None = None) -> dict[str, object]:
        """How many trials have ended, run and wait (raises NasBoError)."""
        import optuna

        from nas_bo.cli.status import described
        from nas_bo.optuna import storages

        place = self._place(storage)
        backend = storages.opened(place, reading=True)
        names = sorted(optuna.get_all_study_names(backend))
        studies = [described(storages.load(backend, name, reading=True)) for name in names]
        return labelled("status", {"storage": database_url.shown(place), "studies": studies})

    def report(self, study: str | None = None, storage: str | None = None) -> dict[str, object]:
        """What was found: the front, what it gained, how far estimates are to be trusted, and the table as text (raises NasBoError)."""
        found = self._result(storage, study)
        return labelled("result", {**found.to_dict(), "files": [], "text": str(found)})

    def best(self, pick: str = "knee", study: str | None = None, storage: str | None = None) -> dict[str, object]:
        """One architecture: `knee`, `best:NAME`, `NAME where OTHER<=X`, or the number of a trial (raises NasBoError)."""
        from nas_bo.workflows.pick import described

        found = self._result(storage, study)
        return labelled("pick", {"study": found.title, "pick": pick, **described(found, found.pick(pick))})

    def _result(self, storage: str | None, study: str | None) -> Result:
        from nas_bo.cli import resolve

        return resolve.stored(self._place(storage), study)

    def _session(self, storage: str | None, study: str | None, asking: Asking, create: bool) -> AskTell:
        for what in NAMING:
            typed = vars(asking)[what] or ()
            for word in (typed,) if isinstance(typed, str) else typed:
                self._check_word(what, word)
        return session(self._place(storage), study, asking, create=create, allow=self.allowed.modules)

    def _check_word(self, what: str, word: str) -> None:
        if module := not_allowed(word, self.allowed.modules):
            raise SearchError(
                f"{what} {word!r}: importing {module!r} runs its code, which whoever started the server has not allowed "
                f"(nas-bo mcp --allow {module}); take a named space or a word, see the description of the tool"
            )

    def _place(self, storage: str | None) -> str:
        """The storage that is meant: that of the server, or a file in the current folder (raises SearchError)."""
        if storage is None or storage == self.storage:
            return self.storage
        place = storage
        if database_url.is_url(storage):
            file = database_url.file_of(storage)
            if file is None:
                raise SearchError(
                    f"storage {database_url.shown(storage)!r}: only the server that `nas-bo mcp --storage` names, and files, may be used"
                )
            place = os.fspath(file)
        asked = {"storage": os.fspath(Path(place))}
        foreign_recipe.check(asked, self.allowed.paths, self.allowed.budget, "the call of the tool", noted=False)
        return storage


def _bounds(limits: Mapping[str, float] | None) -> list[str] | None:
    """As `nas-bo ask --at-most` has them."""
    return None if limits is None else [f"{name}={value!r}" for name, value in limits.items()]
