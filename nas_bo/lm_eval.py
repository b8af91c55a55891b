"""DOOR: lm-evaluation-harness (Gao et al., package `lm-eval`). A decoder as its language model, and the few-shot score
of a trained architecture as an objective. The only file that imports `lm_eval`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import torch

from nas_bo.architecture import Architecture
from nas_bo.errors import MissingExtra, ObjectiveError
from nas_bo.model import Decoder
from nas_bo.model.inference import torch_threads
from nas_bo.model.own_model import CachedDecoder
from nas_bo.model.tokenizer import fast_tokenizer
from nas_bo.objective import Value
from nas_bo.objectives import ValidationLoss
from nas_bo.pretrained import SubModelLoss
from nas_bo.trial import Direction

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

try:
    from lm_eval import simple_evaluate
    from lm_eval.api.model import LM
    from lm_eval.tasks import TaskManager
except ImportError:
    raise MissingExtra("lm-eval", "lm-eval") from None

MAX_NEW_TOKENS = 256  # of a generation whose task names no bound


class Tokenizer(Protocol):
    """Text to token ids and back; the one that the model was trained with."""

    def encode(self, text: str) -> list[int]: ...
    def decode(self, ids: Sequence[int]) -> str: ...


class Bytes:
    """UTF-8 bytes as tokens, as `load_corpus` reads text without a tokenizer."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(i for i in ids if i < 256).decode(errors="replace")


class JsonTokenizer:
    """A JSON file of the package `tokenizers`.

    Raises:
        MissingExtra: the package is not installed.
        DataError: there is no such file, or it is not a tokenizer.
    """

    def __init__(self, path: str | Path) -> None:
        self._fast = fast_tokenizer(path)

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._fast.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self._fast.decode(list(ids), skip_special_tokens=False)
        return text


class DecoderLM(LM):  # type: ignore[misc]
    """A `Decoder` as lm-eval's language model: pass it as ``model`` to `lm_eval.simple_evaluate`.

    Args:
        model: trained.
        tokenizer: the one that it was trained with.
        context: tokens that it is shown at most; the oldest ones are cut. A model that was trained on windows of 64
            tokens can do little with more.
        prefix: text before an empty context, since the first token has to be predicted from something.
        batch: sequences per call.
    """

    def __init__(
        self,
        model: Decoder,
        tokenizer: Tokenizer | None = None,
        context: int = 256,
        prefix: str = "\n",
        batch: int = 16,
    ) -> None:
        super().__init__()
        self.decoder = model.eval()
        self.tokenizer: Tokenizer = tokenizer or Bytes()
        self.prefix = self.tokenizer.encode(prefix)
        if context < 2 or batch < 1 or not self.prefix:
            raise ObjectiveError(
                f"DecoderLM(context={context}, prefix={prefix!r}, batch={batch}): context is at least 2, batch at least "
                "1, and the prefix at least one token"
            )
        self.context, self.batch = context, batch
        self._device = model.embedding.weight.device

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """(natural log-probability of the continuation, whether it is what greedy decoding gives) per request."""
        pairs = [self._pair(*request.args) for request in requests]
        return self._scores([self._window(before, after) for before, after in pairs])

    def loglikelihood_rolling(self, requests: Sequence[Instance]) -> list[float]:
        """Log-probability of whole texts; those longer than `context` in windows that overlap by half."""
        totals = []
        for request in requests:
            ids = self.tokenizer.encode(request.args[0])
            windows = list(self._rolling(ids))
            totals.append(math.fsum(value for value, _ in self._scores(windows)))
        return totals

    @torch.inference_mode()
    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """Greedy continuations, each cut before the first of its stop texts."""
        found = []
        for request in requests:
            text, settings = request.args
            stops = settings.get("until") or []
            stops = [stops] if isinstance(stops, str) else list(stops)
            room = int(settings.get("max_gen_toks", MAX_NEW_TOKENS))
            ids = (self.tokenizer.encode(text) or self.prefix)[-self.context :]
            new: list[int] = []
            text = ""
            for token in self._greedy(ids, room):
                new.append(token)
                text = self.tokenizer.decode(new)
                if any(stop in text for stop in stops if stop):
                    break
            for stop in stops:
                text = text.split(stop)[0] if stop else text
            found.append(text)
        return found

    def _greedy(self, ids: list[int], room: int) -> Iterator[int]:
        """The most probable continuation, token by token; a model without a cache reads all of it again each time."""
        step = torch.tensor([ids], device=self._device)
        given = {"cache": self.decoder.new_cache(1, len(ids) + room)} if isinstance(self.decoder, CachedDecoder) else {}
        for _ in range(room):
            new = self.decoder(step, **given)[:, -1:].argmax(-1)
            yield int(new)
            step = new if given else torch.cat([step, new], 1)

    def _pair(self, before: str, after: str) -> tuple[list[int], list[int]]:
        """A tokenizer may join the end of the context with the continuation: the whole is encoded, then cut."""
        spaces = len(before) - len(before.rstrip())
        if spaces:
            before, after = before[:-spaces], before[-spaces:] + after
        if not before:
            return self.prefix, self.tokenizer.encode(after)
        start = len(self.tokenizer.encode(before))
        whole = self.tokenizer.encode(before + after)
        return whole[:start], whole[start:]

    def _window(self, before: list[int], after: list[int]) -> tuple[list[int], int]:
        """(tokens, how many of the last ones count), at most `context` inputs."""
        return (before + after)[-self.context - 1 :], min(len(after), self.context)

    def _rolling(self, ids: list[int]) -> Iterator[tuple[list[int], int]]:
        ids, done = self.prefix[-1:] + ids, 1
        while done < len(ids):
            end = min(len(ids), (done - 1 if done == 1 else done - self.context // 2 - 1) + self.context + 1)
            yield ids[max(0, end - self.context - 1) : end], end - done
            done = end

    @torch.inference_mode()
    def _scores(self, windows: Sequence[tuple[list[int], int]]) -> list[tuple[float, bool]]:
        found: list[tuple[float, bool]] = [(0.0, True)] * len(windows)
        order = sorted((i for i, (_, count) in enumerate(windows) if count), key=lambda i: len(windows[i][0]))
        with torch_threads(1):
            for start in range(0, len(order), self.batch):
                chosen = order[start : start + self.batch]
                longest = max(len(windows[i][0]) for i in chosen)
                rows = torch.tensor([windows[i][0] + [0] * (longest - len(windows[i][0])) for i in chosen])
                rows = rows.to(self._device)  # padded behind, where a causal model does not look
                logs = self.decoder(rows[:, :-1]).float().log_softmax(-1)
                picked = logs.gather(-1, rows[:, 1:, None])[..., 0].double().cpu()
                greedy = (logs.argmax(-1) == rows[:, 1:]).cpu()
                for row, i in enumerate(chosen):
                    last = len(windows[i][0]) - 1
                    part = slice(last - windows[i][1], last)
                    found[i] = float(picked[row, part].sum()), bool(greedy[row, part].all())
        return found


def few_shot(
    model: LM,
    tasks: Sequence[str | Mapping[str, object]],
    shots: int = 0,
    limit: int | None = None,
    folder: str | None = None,
) -> dict[str, dict[str, float]]:
    """Every numeric result of lm-eval, by task and metric: ``{"lambada": {"acc": 0.4, "acc_stderr": ...}}``.

    Args:
        model: a `DecoderLM`, or any other model of lm-eval.
        tasks: names that lm-eval knows (it downloads their data), or of tasks in `folder`, or tasks as dictionaries.
        shots: solved examples shown before each question.
        limit: questions per task; None is all of them.
        folder: of your own task files (YAML); names are then looked up there only.

    Raises:
        ObjectiveError: a task that lm-eval does not know, or no results.
    """
    quiet = logging.getLogger("lm_eval")
    level = quiet.level
    standard = folder is None and any(isinstance(task, str) for task in tasks)  # an index of thousands of files
    quiet.setLevel(logging.ERROR)
    try:
        got = simple_evaluate(
            model=model,
            tasks=[task if isinstance(task, str) else dict(task) for task in tasks],
            num_fewshot=shots,
            limit=limit,
            bootstrap_iters=0,
            log_samples=False,
            random_seed=None,  # the process's generators are the caller's; examples have a generator of their own
            numpy_random_seed=None,
            torch_random_seed=None,
            task_manager=TaskManager(include_path=folder, include_defaults=standard),
        )
    except KeyError as error:
        raise ObjectiveError(
            f"lm-eval knows no task {error}; `lm-eval ls tasks` lists them, and folder= takes your own"
        ) from None
    finally:
        quiet.setLevel(level)
    found: dict[str, dict[str, float]] = {}
    for task, metrics in ((got or {}).get("results") or {}).items():
        values = {key.partition(",")[0]: float(v) for key, v in metrics.items() if isinstance(v, (int, float))}
        found[task] = {key: v for key, v in values.items() if key != "sample_len"}
    if not found:
        raise ObjectiveError(f"lm-eval returned no results for {tasks!r}; run `lm-eval` on them by hand")
    return found


@dataclass(frozen=True)
class FewShot:
    """The mean of a metric over lm-eval tasks, after training as `quality` says; of a part of a trained model as it is, repaired, where that is a
    `SubModelLoss` without training.

    Small networks answer by chance: look at `ValidationLoss` and proxy tasks first. The network is trained here; to
    score one that is already trained use `few_shot(DecoderLM(model), tasks)`.

    Args:
        tasks, shots, limit, folder: as in `few_shot`.
        metric: its name, without the filter, as "acc" or "perplexity".
        quality: how the network is trained, with all dials (`fidelity`, `probe`, `data_share`, `build`, ...): it is the one
            whose loss `quality` gives.
        context: as in `DecoderLM`.
        direction: "minimize" for metrics such as perplexity.

    Raises:
        ObjectiveError: no task; (when called) a task unknown to lm-eval, or one without the metric.
    """

    tasks: Sequence[str | Mapping[str, object]]
    shots: int = 0
    metric: str = "acc"
    limit: int | None = None
    folder: str | None = None
    quality: ValidationLoss | SubModelLoss = field(default_factory=ValidationLoss)
    context: int = 256
    at_most: float | None = None
    at_least: float | None = None
    name: str = "few_shot"
    unit: str = ""
    direction: Direction = "maximize"
    cost: Literal["trained"] = "trained"

    def __post_init__(self) -> None:
        if isinstance(self.tasks, (str, Mapping)) or not self.tasks:
            raise ObjectiveError(f"FewShot(tasks={self.tasks!r}): a list of at least one task of lm-eval")

    def conditions(self) -> dict[str, object]:
        tasks = [task if isinstance(task, str) else str(task.get("task")) for task in self.tasks]
        return {"tasks": tasks, "shots": self.shots, "metric": self.metric, "limit": self.limit,
                "training": self.quality.conditions()}  # fmt: skip

    def check_architecture(self, arch: Architecture) -> None:
        """Raise ModelError where the model cannot be built."""
        self.quality.check_architecture(arch)

    def __call__(self, arch: Architecture, /) -> Value:
        model, about = self._model(arch)
        tokenizer = Bytes() if self.quality.tokenizer is None else JsonTokenizer(self.quality.tokenizer)
        found = few_shot(DecoderLM(model, tokenizer, self.context), self.tasks, self.shots, self.limit, self.folder)
        for task, metrics in found.items():
            if self.metric not in metrics:
                raise ObjectiveError(
                    f"FewShot(metric={self.metric!r}): the task {task!r} has {', '.join(sorted(metrics))}"
                )
        values = {task: metrics[self.metric] for task, metrics in found.items()}
        return Value(sum(values.values()) / len(values), how="few-shot", tasks=values, shots=self.shots, **about)

    def _model(self, arch: Architecture) -> tuple[Decoder, dict[str, object]]:
        """The model that is scored, and what the value says about it."""
        quality = self.quality
        if isinstance(quality, SubModelLoss) and not quality.tokens:
            return quality.sub_model(arch), {"tokens": 0}
        trained = quality.trained(arch)
        about: dict[str, object] = {"tokens": trained.tokens, "fidelity": trained.share}
        if isinstance(quality, ValidationLoss):
            about["fidelity"] = quality.fidelity
        return trained.model, {**about, "bits_per_byte": trained.bits_per_byte}
