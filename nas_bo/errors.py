"""Every error that nas_bo raises on purpose. A message says what, the value, the bound, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class NasBoError(Exception):
    """Base of all errors raised by nas_bo for a reason that the user can act on. Its message is one line, whatever the message of
    another library that is quoted in it looks like."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(_one_line(one) for one in arguments))


def _one_line(argument: object) -> object:
    return " ".join(argument.split()) if isinstance(argument, str) and len(argument.splitlines()) > 1 else argument


class SpaceError(NasBoError, ValueError):
    """A search space is written wrongly, or an architecture does not belong to it."""


class ModelError(NasBoError, ValueError):
    """An architecture names a block, an option or a size that the decoder cannot build."""


class DataError(NasBoError, ValueError):
    """A corpus is missing, empty, too short, not text, or not the one that a study began with."""


class ObjectiveError(NasBoError, ValueError):
    """An objective is configured wrongly or returned something that is not a finite number."""


class Unsupported(NasBoError, ValueError):
    """An architecture that a device or a runtime cannot run. Raised by an objective it makes the trial infeasible, with
    the reason; it is not a failure."""


class ProfileError(NasBoError, ValueError):
    """A device profile is unreadable, or made for another space, runtime, data type, setting or version."""


class DeviceError(NasBoError, ValueError):
    """A device, or a file that describes one, is wrong, unknown, or lacks a figure that a model of it needs."""


class HostError(NasBoError, ValueError):
    """Optuna, Ax or MLflow cannot express or reach what was asked; the message gives the way round."""


class StorageUnavailable(HostError):
    """The storage of a study failed in the middle, for longer than it was waited for; what it holds is kept."""


class SearchError(NasBoError, RuntimeError):
    """The search as a whole cannot start or continue (for example, every trial failed)."""


class EverythingFailed(SearchError):
    """The search was stopped because every trial failed; the message has the reason of the last one."""


class ReportError(SearchError):
    """What was found is kept in the study, but the report of it cannot be written."""


class TrainingDiverged(NasBoError, RuntimeError):
    """A training run produced NaN or exploded; the trial fails, the search continues."""


class CheckpointError(NasBoError, ValueError):
    """A checkpoint is unreadable, or belongs to another architecture, corpus, space or run."""


class ExportError(NasBoError, ValueError):
    """A trained model cannot be read or written, or a format cannot hold it."""


class CompressError(NasBoError, ValueError):
    """A trained model cannot be quantized or pruned as asked."""


class MissingExtra(NasBoError, ImportError):
    """A package is not installed; the message has the pip line that installs it, as nas_bo was installed."""

    def __init__(self, package: str, extra: str) -> None:
        from nas_bo.install_line import install_line

        super().__init__(
            f"this needs the package {package!r}, which is not installed; install it with: {install_line(extra)}"
        )


def near(word: object, known: Iterable[object], most: int = 1, cutoff: float = 0.6) -> str:
    """`` (did you mean 'bayes'?)`` for a word that resembles a known one, else nothing."""
    close = get_close_matches(str(word), [str(one) for one in known], most, cutoff)
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""
