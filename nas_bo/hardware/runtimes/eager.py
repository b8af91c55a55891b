"""PyTorch as it is, on a CPU or on CUDA, there also as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nas_bo.errors import ObjectiveError, Unsupported
from nas_bo.hardware.runtimes.interface import BOUND, DECODED, agree
from nas_bo.hardware.workload import Setting, specified
from nas_bo.model.blocks.details import check_length
from nas_bo.model.counts import Arch
from nas_bo.model.device import dtype_of, pick_device
from nas_bo.validated import check_fields, checked, whole_number
from nas_bo.wording import plural

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nas_bo.model.decoder import Decoder

DTYPES = ("float64", "float32", "float16", "bfloat16")
SEED = 0  # of weights and tokens: every runtime builds the same model


@dataclass(frozen=True)
class Eager:
    """Args:
    device: a torch device; None is CUDA where there is one, else the CPU.
    threads: of the CPU. One is the default: it repeats best, and small models gain little from more.
    graphs: on CUDA, replay a captured graph instead of starting kernels one by one.
    """

    device: str | None = None
    threads: int = checked(1, whole_number(1))
    graphs: bool = False
    name: str = "eager"
    inside: bool = False

    def __post_init__(self) -> None:
        check_fields(self, ObjectiveError)
        object.__setattr__(self, "device", pick_device(self.device))
        if self.graphs and not str(self.device).startswith("cuda"):
            raise ObjectiveError(f"CUDA graphs need a CUDA device, this is {self.device!r}; take the runtime 'eager'")
        if self.graphs and self.name == "eager":
            object.__setattr__(self, "name", "cuda-graphs")

    def conditions(self) -> dict[str, object]:
        import torch

        return {"torch": torch.__version__, "threads": self.threads, "graphs": self.graphs}

    @contextmanager
    def running(self) -> Iterator[None]:
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            with torch.inference_mode():
                yield
        finally:
            torch.set_num_threads(before)

    def prepare(self, arch: Arch, setting: Setting) -> InTorch:
        import torch

        model, tokens = built(arch, setting, str(self.device))
        with torch.inference_mode():
            return InTorch(model, tokens, setting, self.graphs)


def built(arch: Arch, setting: Setting, device: str = "cpu", name: str = "eager") -> tuple[Decoder, Tensor]:
    """The model, and tokens (batch, context + 8) of dtype long.

    Raises:
        ModelError: the architecture cannot be built.
        Unsupported: the data type is none of torch's for whole models, or there is not enough memory.
    """
    import torch

    from nas_bo.model.decoder import build

    if setting.dtype not in DTYPES:
        raise Unsupported(f"{name} runs models in {', '.join(DTYPES)}, not in {setting.dtype}")
    draws = torch.Generator().manual_seed(SEED)
    spec = specified(arch, setting)
    check_length(spec.details, setting.context)
    if spec.details.max_length is not None:  # the tokens that are timed come after the context
        spec = spec._replace(finer=spec.details._replace(max_length=spec.details.max_length + DECODED))
    try:
        model = build(spec, setting.vocab_size, setting.ignore, device, dtype_of(setting.dtype), draws)
    except torch.OutOfMemoryError as error:
        raise Unsupported(f"the weights do not fit into the memory that is free on {device}") from error
    shape = (setting.batch, setting.context + DECODED)
    tokens = torch.randint(setting.vocab_size, shape, generator=torch.Generator().manual_seed(SEED)).to(device)
    return model.eval(), tokens


class InTorch:
    """A torch model with the call to be timed: (batch, context) tokens, or 8 more after as many cached ones."""

    def __init__(self, model: Any, tokens: Tensor, setting: Setting, graphs: bool = False) -> None:
        import torch

        from nas_bo.model.decoder import Decoder

        self._model, self._tokens, self._context = model, tokens, setting.context
        self._ends = {"last": True} if setting.logits == "last" and isinstance(model, Decoder) else {}
        self.steps = DECODED if setting.phase == "decode" else 1
        self.held_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
        self._graph: torch.cuda.CUDAGraph | None = None
        try:
            if setting.phase == "decode":
                self._cache = model.new_cache(setting.batch, setting.context + DECODED)
                model(tokens[:, : setting.context], cache=self._cache)
                # states beyond full attention are replaced, not written to: the saved list is the state to go back to
                self._states = list(self._cache.states)
            self._run: Callable[[], Tensor] = self._decode if setting.phase == "decode" else self._prefill
            if graphs:
                with torch.cuda.device(tokens.device):
                    self._graph = self._capture(setting)
            elif tokens.is_cuda:
                self._run()  # what does not fit is known here
        except torch.OutOfMemoryError as error:
            raise Unsupported(
                f"{setting.phase} of {setting.batch} x {setting.context} {plural(setting.context, 'token')} does not fit into the memory that is free"
            ) from error

    def ready(self) -> Callable[[], object]:
        if self._graph is not None:
            return self._graph.replay
        if self.steps > 1:
            self._cache.states, self._cache.position = list(self._states), self._context
        return self._run

    def _prefill(self) -> Tensor:
        logits: Tensor = self._model(self._tokens[:, : self._context], **self._ends)
        return logits

    def _decode(self) -> Tensor:
        logits = self._tokens
        for at in range(self._context, self._context + DECODED):
            logits = self._model(self._tokens[:, at : at + 1], cache=self._cache)
        return logits

    def _capture(self, setting: Setting) -> torch.cuda.CUDAGraph:
        import torch

        def once() -> Tensor:
            if self.steps > 1:
                self._cache.states, self._cache.position = list(self._states), self._context
            return self._run()

        cuda: Any = torch.cuda  # its streams are untyped in torch
        stream = cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            expected = once()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                got = once()
        except RuntimeError as error:
            raise Unsupported(
                f"it cannot be captured as a CUDA graph ({str(error).splitlines()[0]}); mixtures of experts ask the device "
                "for sizes; take the runtime 'eager'"
            ) from error
        graph.replay()
        agree("cuda-graphs", got.float().cpu().numpy(), expected.float().cpu().numpy(), BOUND[setting.dtype])
        return graph
