"""Quality by weight sharing: one supernet is trained, and every architecture is scored with the weights it inherits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from filelock import FileLock

from nas_bo import elsewhere, temporary
from nas_bo.architecture import Architecture
from nas_bo.cache_folder import cache_folder
from nas_bo.errors import ObjectiveError
from nas_bo.model.spec import check
from nas_bo.objective import Value
from nas_bo.objectives.text import BITS_PER_BYTE, BITS_PER_TOKEN, OnText, options_of, unit_of
from nas_bo.objectives.validation_loss import ValidationLoss
from nas_bo.seeds import settle
from nas_bo.space.space import Space, is_space
from nas_bo.study_name import file_name
from nas_bo.trial import Direction
from nas_bo.validated import check_fields, checked, number

if TYPE_CHECKING:
    from nas_bo.supernet.weights import Supernet

SUPERNET = "supernet"


@dataclass(frozen=True)
class SharedWeightLoss(OnText):
    """Bits per byte on held-out text with the weights of a supernet, at once or after a short fine-tune.

    The supernet is trained when the first architecture is asked for: by the process that comes first, while the others
    wait at a lock next to the file. Every process reads it once.

    Args:
        space: the space that the supernet covers.
        tokens: the budget of the supernet, over all architectures that take turns in it. None only reads `checkpoint`.
        checkpoint: the file. None is a name in the working directory made from the space, the text and the settings.
        fine_tune: share of `reference_tokens` for which the inherited network is trained on before it is scored.
        reference_tokens: the budget of one architecture trained alone: what the estimate stands for.
        held_out_tokens: how much held-out text an architecture is scored on.
        data, tokenizer: as in `nas_bo.model.load_corpus`.
        seed: of the supernet's first weights and of all draws.
        sampling: who is trained when (`nas_bo.supernet.sampling`); None is the default of `train_supernet`.
        distill: as in `train_supernet`.
        apart: as in `Supernet`.
        fine_tune_lr: learning rate of the fine-tune, which falls linearly to zero.
        device: a torch device; None is CUDA where there is one, else the CPU.
        at_most, at_least: hard limits in bits per byte.
        ignore: top-level fields of the space that are the user's own.
        vocab_size, token_dtype, text_key: as vocab_size, dtype and text_key in `nas_bo.model.load_corpus`.
    """

    space: type[Space]
    tokens: float | None = checked(None, number(above=0).or_none())
    checkpoint: str | None = None
    fine_tune: float = checked(
        0.0, number(at_least=0).advise("it is a share of reference_tokens; 0.05 is five percent")
    )
    reference_tokens: float = checked(200_000, number(above=0))
    held_out_tokens: int = checked(16_384, number(above=0))
    data: str | None = None
    tokenizer: str | None = None
    seed: int = 0
    sampling: Any = None
    distill: float = 0.0
    apart: tuple[str, ...] = ()
    fine_tune_lr: float = checked(1e-3, number(above=0))
    device: str | None = None
    at_most: float | None = None
    at_least: float | None = None
    ignore: tuple[str, ...] = ()
    name: str = "shared_loss"
    unit: str = BITS_PER_BYTE
    direction: Direction = "minimize"
    cost: Literal["trained"] = field(default="trained")
    vocab_size: int | None = field(default=None, kw_only=True)
    token_dtype: str | None = field(default=None, kw_only=True)
    text_key: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        settle(self, ObjectiveError)
        check_fields(self, ObjectiveError)
        if self.unit in (BITS_PER_BYTE, BITS_PER_TOKEN):
            object.__setattr__(self, "unit", unit_of(self))
        if not is_space(self.space):
            raise ObjectiveError(
                f"SharedWeightLoss(space={self.space!r}): it must be a search space, as in space=TinyGPT"
            )
        if self.tokens is None and self.checkpoint is None:
            raise ObjectiveError(
                "SharedWeightLoss: neither tokens nor checkpoint is given; give tokens=, the budget with which the "
                "supernet is to be trained (ten times that of one architecture is a start), or the file of a trained one"
            )

    def path(self) -> Path:
        """Where the supernet is, or will be; where another machine has sent it and there is none, a copy in the user's cache folder."""
        path = self._named()
        sent = elsewhere.given((SUPERNET, str(path)))
        if path.exists() or not isinstance(sent, np.ndarray):
            return path
        copy = cache_folder() / f"supernet-{hashlib.sha256(sent.data).hexdigest()[:16]}.pt"
        if not copy.exists():
            with temporary.whole(copy) as draft:
                sent.tofile(draft)
        return copy

    def carried(self) -> dict[Hashable, object]:
        """The text, and the file of a supernet that is there already."""
        path = self._named()
        there = path.is_file() and path.stat().st_size <= elsewhere.MOST_CARRIED
        return super().carried() | ({(SUPERNET, str(path)): np.fromfile(path, np.uint8)} if there else {})

    def _named(self) -> Path:
        if self.checkpoint is not None:
            return Path(self.checkpoint)
        further = {k: v for k, v in options_of(self).items() if k not in ("data", "tokenizer")}
        known = [self._recipe(), self.data, self.tokenizer, *([further] if further else [])]
        key = hashlib.sha256(json.dumps(known).encode()).hexdigest()[:12]
        return Path(file_name(f"nas-bo-supernet-{self.space.title.lower()}-{key}.pt"))

    def conditions(self) -> dict[str, object]:
        """Also asks whether the space can be covered and the file fits (raises ModelError, CheckpointError)."""
        from nas_bo.supernet.coverage import Extent

        corpus = self.corpus()
        said = {"corpus": corpus.name, "sha256": corpus.fingerprint, "held_out_tokens": self.held_out_tokens}
        if self.fine_tune:
            said |= {"fine_tune_tokens": int(self.fine_tune * self.reference_tokens), "fine_tune_lr": self.fine_tune_lr}
        if self.tokens is None:
            from nas_bo.supernet.file import read

            read(self.path(), self.space, corpus.fingerprint)
            return {**said, "supernet": hashlib.sha256(self.path().read_bytes()).hexdigest()[:16]}
        Extent(self.space, self.ignore)
        return {**said, **self._recipe()}

    def larger(self, factor: float) -> ValidationLoss:
        """Training alone, at `factor` times `reference_tokens`: what the shared weights only stand in for."""
        return ValidationLoss(
            tokens=self.reference_tokens * factor,
            **options_of(self),
            seed=self.seed + 1,
            device=self.device,
            ignore=self.ignore,
            name=self.name,
        )

    def supernet(self) -> Supernet:
        """The supernet: read once per process, trained first if it has to be.

        Raises:
            ModelError, DataError, CheckpointError: the space cannot be covered, the text or the file does not fit.
            SupernetDiverged: it could not be trained.
        """
        path = self.path()
        if self.tokens is not None:
            self._train(path)
        stamp = path.stat().st_mtime_ns if path.exists() else 0
        key = (str(path), stamp, self.space.fingerprint(), self.ignore, self.device)
        if key not in _LOADED:
            import torch

            from nas_bo.supernet.weights import Supernet

            device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
            net = Supernet.load(path, self.space, self.ignore, corpus=self.corpus().fingerprint, device=device)
            while len(_LOADED) > 1:
                del _LOADED[next(iter(_LOADED))]
            _LOADED[key] = net
        return _LOADED[key]

    def check_architecture(self, arch: Architecture) -> None:
        """Raise ModelError where the decoder cannot be built."""
        check(arch, self.ignore)

    def __call__(self, arch: Architecture, /) -> Value:
        from nas_bo.model.inference import evaluate, torch_threads
        from nas_bo.model.training import train

        net = self.supernet()
        with torch_threads(1):
            model = net.extract(arch)
            if self.fine_tune:
                budget = self.fine_tune * self.reference_tokens
                train(
                    model, self.corpus(), budget, self.seed, lr=self.fine_tune_lr, warmup=0.0, decay=1.0,
                )  # fmt: skip
            value = evaluate(model, self.corpus(), self.held_out_tokens)
        return Value(
            value,
            how="inherited" if not self.fine_tune else "inherited and fine-tuned",
            tokens=int(self.fine_tune * self.reference_tokens),
            supernet_tokens=None if self.tokens is None else int(self.tokens),
            held_out_tokens=self.held_out_tokens,
            seed=self.seed,
        )

    # ---- the supernet ---------------------------------------------------------------------------------------------

    def _recipe(self) -> dict[str, object]:
        return {
            "space": self.space.fingerprint(),
            "supernet_tokens": None if self.tokens is None else int(self.tokens),
            "seed": self.seed,
            "sampling": repr(self.sampling),
            "distill": self.distill,
            "apart": sorted(self.apart),
        }

    def _train(self, path: Path) -> None:
        key = (str(path), json.dumps(self._recipe()))
        if key in _TRAINED and path.exists():
            return
        import torch

        from nas_bo.supernet.training import train_supernet
        from nas_bo.supernet.weights import Supernet

        assert self.tokens is not None
        corpus = self.corpus()
        with locked(path):
            generator = torch.Generator().manual_seed(self.seed % (1 << 63))
            net = Supernet(self.space, corpus.vocab_size, self.ignore, apart=self.apart, generator=generator)
            device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
            train_supernet(
                net.to(device),
                corpus,
                self.tokens,
                self.seed,
                sampling=self.sampling,
                distill=self.distill,
                checkpoint=path,
            )
        _TRAINED.add(key)


_TRAINED: set[tuple[str, str]] = set()  # files that this process has seen finished


_LOADED: dict[tuple[object, ...], Supernet] = {}  # the last two


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock next to a file: one process at a time, the others wait. It goes when its process ends, however.

    Raises:
        ObjectiveError: the folder cannot be written to.
    """
    lock = path.with_name(f"{path.name}.lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock).acquire()
    except OSError as error:
        raise ObjectiveError(
            f"the lock {str(lock)!r} cannot be written ({error.strerror or error}); give a checkpoint in a folder that "
            "can be written to"
        ) from None
    with held:
        yield
