"""Teachers at work: their weights from folders, what they say about the batches of a run, kept on disk for all students, and the losses
of distillation (settings: `nas_bo.model.distillation`).

Notation: B sequences, T tokens, V token ids, k of them kept; a *lesson* is what a teacher says about one batch.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from contextlib import suppress
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock
from torch import Tensor, nn

from nas_bo.cache_folder import cache_folder, make_room, used_now
from nas_bo.errors import MissingExtra, ModelError, NasBoError
from nas_bo.model import own_class, own_model
from nas_bo.model.data import Corpus
from nas_bo.model.decoder import Criterion, cross_entropy
from nas_bo.model.distillation import OURS, Distillation, check_size, described
from nas_bo.model.inference import as_tensor, evaluating
from nas_bo.model.read_folder import read_decoder
from nas_bo.validated import check_values, whole_number
from nas_bo.wording import counted

if TYPE_CHECKING:
    from nas_bo.model.decoder import Decoder

FOLDER = "teachers"  # in the user's cache folder
CHUNK = 1 << 28  # bytes of probabilities that are held at once

logger = logging.getLogger(__name__)


class Lesson(NamedTuple):
    """The logarithms of a teacher's probabilities, bfloat16: (B, T, V); with `top_k` the k largest (B, T, k), and of which ids."""

    logs: Tensor
    ids: Tensor | None = None


def criterion(how: Distillation, lesson: Lesson) -> Criterion:
    """The loss of one batch of B * T = N tokens."""

    def loss(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        _, nll = cross_entropy(logits, targets)
        apart = divergence(how, logits.to(nll.dtype), lesson)
        return (0.5 * apart + 0.5 * nll if how.loss == "mixed" else apart), nll

    return loss


def divergence(how: Distillation, logits: Tensor, lesson: Lesson) -> Tensor:
    """The mean Kullback-Leibler divergence, in nats, of student and teacher; logits (N, V)."""
    said = lesson.logs.flatten(0, 1).to(logits.device).float()
    if lesson.ids is None:
        heat = how.temperature
        student = (logits[:, : said.shape[1]] / heat).log_softmax(-1)
        teacher = (said / heat).log_softmax(-1)
    else:  # k ids and one for all others
        student, teacher = _with_rest(how, logits, said, lesson.ids.flatten(0, 1).to(logits.device).long())
    one, other = (student, teacher) if how.loss != "reverse_kl" else (teacher, student)
    return F.kl_div(one, other, log_target=True, reduction="batchmean") * how.temperature**2


def _with_rest(how: Distillation, logits: Tensor, said: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Both as (N, k + 1) logarithms of probabilities, the last one that of all other ids."""
    student = (logits / how.temperature).log_softmax(-1).gather(1, ids)
    if how.temperature != 1:  # what the rest would be at another temperature nobody kept: softened among the k alone
        student = student.log_softmax(-1)
        return student, (said / how.temperature).log_softmax(-1)
    return _completed(student), _completed(said)


def _completed(logs: Tensor) -> Tensor:
    rest = (1 - logs.exp().sum(-1, keepdim=True)).clamp_min(1e-6).log()
    return torch.cat((logs, rest), -1).log_softmax(-1)  # rounding aside it is one already


# ---- teachers ---------------------------------------------------------------------------------------------------------


def digest(teacher: object) -> str:
    """16 hexadecimal digits of the weights of a module (raises ModelError where it is none)."""
    if not isinstance(teacher, nn.Module):
        raise ModelError(
            f"the teacher {teacher!r:.60} is not a torch module; give one from tokens to logits, or a folder of a trained model"
        )
    total = hashlib.sha256(type(teacher).__qualname__.encode())
    for name, tensor in teacher.state_dict().items():
        if isinstance(tensor, Tensor):
            total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            total.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data if tensor.numel() else b"")
    return total.hexdigest()[:16]


def loaded(folder: str, device: torch.device) -> nn.Module:
    """The model in the folder of a teacher, in evaluation mode and float32.

    Raises:
        ModelError: it cannot be read.
        MissingExtra: it is of Hugging Face, and transformers is not installed.
    """
    return _loaded(folder, str(device), described(folder).get("vocab_size"), _changed(folder))


def _changed(folder: str) -> tuple[int, ...]:
    return tuple(sorted(path.stat().st_mtime_ns for path in Path(folder).glob("*.safetensors")))


@lru_cache(maxsize=4)
def _loaded(folder: str, device: str, _vocab_size: object, _at: tuple[int, ...]) -> nn.Module:
    path = Path(folder)
    ours = described(folder) if (path / OURS).is_file() else own_class.about(path)
    if ours is None:
        return _of_hugging_face(folder).to(device)
    try:
        return read_decoder(path, ours, device)[1]
    except NasBoError:
        raise
    except Exception as error:  # of JSON, safetensors and torch
        raise ModelError(
            f"the teacher in {folder!r} cannot be read ({type(error).__name__}: {str(error)[:200]}); train it again"
        ) from error


def _of_hugging_face(folder: str) -> nn.Module:
    try:
        import transformers
    except ImportError:
        raise MissingExtra("transformers", "transformers") from None
    try:
        made: nn.Module = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True
        )
    except Exception as error:  # transformers raises a dozen kinds
        raise ModelError(
            f"transformers cannot load the teacher in {folder!r} as a causal language model ({type(error).__name__}: "
            f"{str(error)[:200]})"
        ) from error
    return made.eval()


class Teachers:
    """One or several models that say how probable each next token is; several by the mean of their probabilities.

    Args:
        corpus: its vocabulary is that of the lessons.
        bf16: whether they may compute in bfloat16.

    Raises:
        ModelError: one cannot be read.
    """

    def __init__(self, how: Distillation, corpus: Corpus, device: torch.device, bf16: bool) -> None:
        self._how, self._corpus, self._device, self._bf16 = how, corpus, device, bf16
        self._models: list[nn.Module] = [loaded(one, device) if isinstance(one, str) else one for one in how.teachers]

    @torch.inference_mode()
    def __call__(self, tokens: Tensor) -> Tensor:
        """tokens (B, T) -> logarithms of probabilities (B, T, V), float32."""
        found = []
        for model in self._models:
            where = next(model.parameters()).device
            with evaluating(model), torch.autocast(where.type, torch.bfloat16, enabled=self._bf16):
                logits = own_model.run(model, tokens.to(where))
            if logits.shape[1] != tokens.shape[1]:
                raise ModelError(
                    f"the teacher {type(model).__name__} gives logits of {logits.shape[1]} positions for {tokens.shape[1]} tokens; it "
                    "must give those of every token"
                )
            check_size(type(model).__name__, logits.shape[2], self._corpus.vocab_size, self._corpus.name)
            found.append(logits[..., : self._corpus.vocab_size].float().log_softmax(-1).to(self._device))
        return found[0] if len(found) == 1 else torch.stack(found).logsumexp(0) - math.log(len(found))


# ---- lessons ----------------------------------------------------------------------------------------------------------


class Lessons:
    """What a teacher says about the batches of a run, step by step: read from the user's cache folder, or computed and kept there.

    The file holds one record of equal size per step, in bfloat16, and grows under a lock: students that run at the same time
    wait for one of them to compute what all need. Its name is a digest of the teachers' weights, the text, the order of the
    batches (seed and sizes) and `top_k`. A run sees the same lessons, bit for bit, with and without it.

    Args:
        steps: of the whole run.

    Attributes:
        bytes_each: of the record of a step.
        path: the file; None where nothing is kept.

    Raises:
        ModelError: a teacher has another vocabulary, or predicts the text worse than guessing, as one with other tokens of the
            same number does.
    """

    def __init__(
        self,
        how: Distillation,
        corpus: Corpus,
        shape: tuple[int, int],
        steps: int,
        seed: int,
        device: torch.device,
        bf16: bool = False,
    ) -> None:
        how.check_vocabulary(corpus.vocab_size, corpus.name, corpus.tokenizer)
        if how.top_k is not None:
            most = whole_number(1, corpus.vocab_size - 1).advise("it is a number of token ids, fewer than there are")
            check_values("Distillation", ModelError, most, top_k=how.top_k)
        self.how, self._corpus, self._shape, self._steps, self._seed = how, corpus, shape, steps, seed
        self._device, self._bf16 = device, bf16
        self._kept = corpus.vocab_size if how.top_k is None else how.top_k
        self._narrow = corpus.vocab_size <= 1 << 15  # ids in 16 bits
        each = 2 * self._kept + (0 if how.top_k is None else self._kept * (2 if self._narrow else 4))
        self.bytes_each = shape[0] * shape[1] * each
        self.path: Path | None = None
        said = how.conditions()
        if 0 < steps * self.bytes_each <= how.cache_bytes:
            order = [said["teacher"], corpus.fingerprint, seed, *shape, how.top_k, bf16]
            name = hashlib.sha256(json.dumps(order).encode()).hexdigest()[:24]
            self.path = cache_folder() / FOLDER / f"{name}.lessons"
            with suppress(OSError):
                self.path.parent.mkdir(parents=True, exist_ok=True)
        self._check()

    def describe(self) -> str:
        """One line: of whom, how large, where."""
        whole = self._steps * self.bytes_each / 1e6
        where = f"kept in {self.path}" if self.path is not None else "computed as it is needed"
        return f"lessons of {self.how.called()}: {whole:,.1f} MB for {counted(self._steps, 'step')}, {where}"

    def of(self, first: int, batches: np.ndarray) -> list[Lesson]:
        """The lessons of the steps from `first` on, whose batches are (count, B, T + 1)."""
        count = len(batches)
        if self.path is not None:
            try:
                return self._read(first, count, self._reaching(first, batches))
            except OSError as error:  # a full disk, a folder that cannot be written
                logger.warning(
                    "what the teacher says cannot be kept in %s (%s), so it is computed for each student; set NAS_BO_CACHE to a folder "
                    "with room",
                    self.path,
                    error.strerror or error,
                )
                self.path = None
        return [self._lesson(batch) for batch in batches]

    def _reaching(self, first: int, batches: np.ndarray) -> Path:
        """The file, with all records up to those of `batches`."""
        assert self.path is not None
        end = first + len(batches)
        if _size(self.path) < end * self.bytes_each:
            with FileLock(f"{self.path}.lock"):
                have = _size(self.path) // self.bytes_each
                if have < end:
                    if have == 0:
                        coming = self._steps * self.bytes_each
                        make_room(self.path.parent, self.how.cache_bytes, coming, keep=(self.path,))
                        logger.info("%s", self.describe())
                    with open(self.path, "ab") as file:
                        file.truncate(have * self.bytes_each)  # half a record of a process that was killed
                        step = max(1, CHUNK // (self.bytes_each * 2))
                        for start in range(have, end, step):
                            todo = self._batches(start, min(step, end - start), first, batches)
                            file.write(b"".join(self._record(self._lesson(batch)) for batch in todo))
        used_now(self.path)
        return self.path

    def _batches(self, start: int, count: int, first: int, there: np.ndarray) -> np.ndarray:
        if start >= first:
            return there[start - first : start - first + count]
        return self._corpus.batches(start, count, *self._shape, self._seed)

    def _read(self, first: int, count: int, path: Path) -> list[Lesson]:
        with open(path, "rb") as file:
            raw = np.memmap(file, np.uint8, "r", first * self.bytes_each, (count, self.bytes_each))
            records = np.array(raw)  # a copy: the file may be deleted by then
        split = self._shape[0] * self._shape[1] * self._kept * 2
        form = (count, *self._shape, self._kept)
        logs = torch.from_numpy(records[:, :split].copy().view(np.int16).reshape(form)).view(torch.bfloat16)
        if self.how.top_k is None:
            return [Lesson(one.to(self._device)) for one in logs]
        ids = torch.from_numpy(
            records[:, split:].copy().view(np.int16 if self._narrow else np.int32).reshape(form).astype(np.int32)
        )
        return [Lesson(one.to(self._device), two.to(self._device)) for one, two in zip(logs, ids, strict=True)]

    def _record(self, lesson: Lesson) -> bytes:
        logs = lesson.logs.cpu().contiguous().view(torch.int16).numpy().tobytes()
        if lesson.ids is None:
            return logs
        return logs + lesson.ids.cpu().numpy().astype(np.int16 if self._narrow else np.int32).tobytes()

    @cached_property
    def _teachers(self) -> Teachers:
        return Teachers(self.how, self._corpus, self._device, self._bf16)

    def _lesson(self, batch: np.ndarray) -> Lesson:
        """batch (B, T + 1)."""
        logs = self._teachers(as_tensor(batch[:, :-1], self._device))
        if self.how.top_k is None:
            return Lesson(logs.to(torch.bfloat16))
        found, ids = logs.topk(self.how.top_k, -1)
        return Lesson(found.to(torch.bfloat16), ids.int())

    def _check(self) -> None:
        """Raise ModelError where the teacher does worse on the first batch than guessing."""
        batch = self._corpus.batches(0, 1, *self._shape, self._seed)
        if self.path is not None and _size(self.path) >= self.bytes_each:
            return  # it was good enough for somebody
        logs = self._teachers(as_tensor(batch[0, :, :-1], self._device)).flatten(0, 1)
        nats = float(F.nll_loss(logs, as_tensor(batch[0, :, 1:], self._device).flatten()))
        guessing = math.log(self._corpus.vocab_size)
        if not nats < guessing:
            raise ModelError(
                f"the teacher {self.how.called()} needs {nats:.2f} nats per token of the corpus {self._corpus.name!r}, and guessing "
                f"{guessing:.2f}: it has learned other tokens, or nothing; give a trained teacher with the tokenizer of the corpus"
            )


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def lessons_of(
    how: Distillation | None,
    corpus: Corpus,
    settings: dict[str, float],
    steps: int,
    seed: int,
    model: Decoder,
    bf16: bool,
) -> Lessons | None:
    """The lessons of a run; None without a teacher (raises ModelError)."""
    if how is None:
        return None
    shape = int(settings["batch_size"]), int(settings["sequence"])
    return Lessons(how, corpus, shape, steps, seed, model.embedding.weight.device, bf16)
