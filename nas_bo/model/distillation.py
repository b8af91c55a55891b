"""Distillation (Hinton, Vinyals and Dean 2015, arXiv 1503.02531): training on what a larger model predicts, in addition to the text itself.

Here are the settings and which teachers there are; `nas_bo.model.teacher` runs them. Loads no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

from nas_bo.errors import ModelError
from nas_bo.foreign_document import WRONG, regular, text_of
from nas_bo.validated import check_fields, checked, number, one_of, whole_number

LOSSES = ("mixed", "forward_kl", "reverse_kl")
OURS, THEIRS = "model.json", "config.json"  # of a folder of `nas-bo train`, and of Hugging Face
PADDING = (
    0.01  # of a teacher's vocabulary: rows of an embedding that no token has, which many published models end with
)

Teacher: TypeAlias = str | Path | Callable[..., object]
"""A folder, or a torch module from tokens (B, T) to logits (B, T, V)."""


@dataclass(frozen=True)
class Distillation:
    """What a student learns from, in addition to the text.

    Args:
        teacher: the folder of a trained model, of ``nas-bo train`` or of a Hugging Face causal language model with the same
            vocabulary; a torch module from tokens to logits, such as a `Decoder`; or several of them, whose probabilities
            are averaged. The student may be of any architecture.
        loss: "mixed", half the Kullback-Leibler divergence from the teacher and half the cross-entropy of the text, which was
            the best of those measured (`benchmarks/compression`); "forward_kl", KL(teacher, student) alone; "reverse_kl",
            KL(student, teacher) alone (Gu et al. 2023, arXiv 2306.08543).
        temperature: both distributions are softened by it; the divergence is multiplied by its square.
        top_k: keep only so many of the teacher's probabilities per token, and the rest as one. It makes what is kept on disk
            smaller; on 256 symbols it costs some of the gain.
        cache_bytes: what the teacher says about the batches is computed once, in bfloat16, and kept in the user's cache folder for
            all students that see the same batches (all candidates of a search do). So much is kept at most, the least
            recently used goes first; a run whose part alone is larger computes it as it goes. 0 keeps nothing.

    Raises:
        ModelError: a setting is out of range, or no teacher.
    """

    teacher: Teacher | Sequence[Teacher]
    loss: Literal["mixed", "forward_kl", "reverse_kl"] = checked("mixed", one_of(*LOSSES))
    temperature: float = checked(1.0, number(above=0, at_most=100))
    top_k: int | None = checked(None, whole_number(1).or_none())
    cache_bytes: float = checked(4e9, number(at_least=0).advise("it is a number of bytes"))

    def __post_init__(self) -> None:
        given = self.teacher
        several: tuple[object, ...] = tuple(given) if isinstance(given, (list, tuple)) else (given,)
        if not several:
            raise ModelError("Distillation(teacher=[]): give a folder, a torch module, or some of them")
        for one in several:
            if not isinstance(one, (str, Path)) and (isinstance(one, type) or not callable(one)):
                raise ModelError(
                    f"Distillation(teacher={one!r:.60}): a teacher is the folder of a trained model, or a torch module from tokens to "
                    "logits"
                )
        told = tuple(str(one) if isinstance(one, Path) else one for one in several)
        object.__setattr__(self, "teacher", told if isinstance(given, (list, tuple)) else told[0])
        check_fields(self, ModelError)

    @property
    def teachers(self) -> tuple[Any, ...]:
        """All of them: names of folders and modules."""
        return self.teacher if isinstance(self.teacher, tuple) else (self.teacher,)

    def conditions(self) -> dict[str, object]:
        """What a student's loss depends on, JSON-safe; the weights of teachers by their digest.

        Raises:
            ModelError: a teacher's folder is not there, or holds no model.
        """
        said: dict[str, object] = {"teacher": [fingerprint(one) for one in self.teachers], "loss": self.loss}
        if self.temperature != 1:
            said["temperature"] = self.temperature
        return said if self.top_k is None else {**said, "top_k": self.top_k}

    @property
    def key(self) -> str:
        """12 hexadecimal digits of `conditions` (raises ModelError)."""
        return hashlib.sha256(json.dumps(self.conditions(), sort_keys=True).encode()).hexdigest()[:12]

    def called(self) -> str:
        """The teachers in a few words."""
        return " + ".join(one if isinstance(one, str) else type(one).__name__ for one in self.teachers)

    def check_vocabulary(self, vocab_size: int, corpus: str, tokenizer: str = "") -> None:
        """Compare what the folders of the teachers say with the text that is trained on; nothing is loaded.

        Args:
            vocab_size: of the text.
            corpus, tokenizer: its name and that of its tokenizer, for the message; "bytes" where bytes are the tokens.

        Raises:
            ModelError: a folder is not there, or a teacher has another vocabulary.
        """
        for one in self.teachers:
            if not isinstance(one, str):
                continue
            said = described(one)
            check_size(one, said.get("vocab_size"), vocab_size, corpus)
            theirs = said.get("tokenizer")
            if isinstance(theirs, str) and tokenizer and (theirs == "bytes") != (tokenizer == "bytes"):
                raise ModelError(
                    f"the teacher {one!r} was trained on the tokens of {theirs!r} and the corpus {corpus!r} is read as "
                    f"{tokenizer!r}: equal ids mean other text; give a teacher with the tokenizer of the corpus"
                )


Teaching: TypeAlias = Distillation | Teacher | Sequence[Teacher]


def as_distillation(given: Teaching | None) -> Distillation | None:
    """What was given as ``teacher=``: settings, or a teacher with the default ones (raises ModelError)."""
    return given if given is None or isinstance(given, Distillation) else Distillation(given)


def check_size(name: str, theirs: object, vocab_size: int, corpus: str) -> None:
    """Raise ModelError where a teacher has not the vocabulary of the text, `PADDING` aside."""
    if not isinstance(theirs, int) or not vocab_size <= theirs <= vocab_size * (1 + PADDING):
        raise ModelError(
            f"the teacher {name!r} has a vocabulary of {theirs} token ids and the corpus {corpus!r} one of {vocab_size}; a student "
            "learns from probabilities of the same tokens, so give a teacher with the tokenizer of the corpus, or the corpus that of "
            "the teacher (tokenizer=)"
        )


def described(folder: str) -> dict[str, Any]:
    """What ``model.json`` or ``config.json`` in the folder of a teacher says (raises ModelError)."""
    path = Path(folder)
    name = next((name for name in (OURS, THEIRS) if (path / name).is_file()), None)
    if name is None:
        what = f"holds neither {OURS} nor {THEIRS}" if path.is_dir() else "is not there"
        raise ModelError(
            f"the folder {folder!r} of the teacher {what}; give one that `nas-bo train` wrote, or that of a Hugging Face model with "
            "its config.json and weights in safetensors"
        )
    try:
        said = json.loads(text_of(path / name))
    except (*WRONG, OSError) as error:
        raise ModelError(f"{name} in the folder {folder!r} of the teacher cannot be read ({error})") from None
    if not isinstance(said, dict):
        raise ModelError(f"{name} in the folder {folder!r} of the teacher is not a description of a model")
    inner = said.get("text_config")  # of models that also see pictures
    return {**inner, **said} if isinstance(inner, Mapping) else said


def fingerprint(teacher: object) -> str:
    """16 hexadecimal digits of a teacher's weights and configuration (raises ModelError where a folder has none)."""
    if not isinstance(teacher, str):
        from nas_bo.model.teacher import digest

        return digest(teacher)
    described(teacher)
    files = sorted(p for p in Path(teacher).iterdir() if p.suffix == ".safetensors" or p.name in ("arch.json", THEIRS))
    if not any(path.suffix == ".safetensors" for path in files):
        raise ModelError(f"the folder {teacher!r} of the teacher holds no weights (*.safetensors)")
    try:
        for path in files:
            regular(path)
        return _digest(tuple((str(path.resolve()), path.stat().st_mtime_ns, path.stat().st_size) for path in files))
    except OSError as error:
        raise ModelError(f"the teacher in {teacher!r} cannot be read ({error.strerror or error})") from None


@lru_cache(maxsize=64)
def _digest(files: tuple[tuple[str, int, int], ...]) -> str:
    total = hashlib.sha256()
    for path, _, _ in files:
        with open(path, "rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:16]
