"""A trained model at many mixtures of bits: each matrix is quantized once for each width, and every mixture is put together from these.

GPTQ (see `nas_bo.compress.quantization`) usually calibrates a layer on what the quantized layers before it give, so a mixture would have to be
calibrated as a whole. Here every matrix is calibrated on what the trained model gives it (as in Frantar et al. 2022, arXiv 2210.17323,
before layers are chained), which loses little and makes a setting cost no more than its evaluation. So it stands for what
`nas_bo.compress.quantize` with ``method="gptq"`` gives, or for a little less.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import torch
from torch import Tensor

from nas_bo.compress.calibration import EMBEDDINGS, Calibration, Moments, hessians, matrices, windows
from nas_bo.compress.quantization import GROUP, Bits, assigned, nearest
from nas_bo.compress.stacked_feedback import MOST_NUMBERS, Inputs, Job, settled_together
from nas_bo.model.decoder import Decoder
from nas_bo.model.packed import INTEGERS

FINE = 8  # bits from which on error feedback changes nothing that can be measured


class Source(Protocol):
    """What is known about the matrices of a model that is part of another one.

    Attributes:
        count: of the tokens that the moments are of.
    """

    @property
    def count(self) -> int: ...

    def moments(self, name: str) -> Tensor:
        """The second moments (C, C) of what a matrix is given, of experts (E, C, C)."""

    def made(self, name: str, bits: int) -> Tensor | None:
        """A matrix in few bits; None where it is to be quantized."""


class Levels:
    """The weights of a trained decoder in few bits, made when they are first asked for.

    Args:
        calibration: a corpus, or windows (B, T + 1) of token ids; looked at when weights of fewer than 8 bits are asked for.
        group: columns that share a scale.
        source: what is known, instead of what the calibration says.

    Attributes:
        small: whether all matrices are made at once, which then takes hardly longer than a few.

    Raises:
        CompressError: the calibration is too short, or has other tokens.
    """

    def __init__(
        self, model: Decoder, calibration: Calibration, group: int = GROUP, source: Source | None = None
    ) -> None:
        self.model, self.group, self._source = model, group, source
        self._tokens = windows(model, calibration, "Levels")
        self._matrices = matrices(model)
        self.small = source is None and sum(weight.numel() for weight in self._matrices.values()) <= MOST_NUMBERS
        self._seen: Moments = {}
        self._inputs: dict[str, tuple[Inputs | None, ...]] = {}  # of each matrix; of experts one for each
        self._made: dict[tuple[str, int], Tensor] = {}

    def weight(self, name: str, bits: int, plain: bool = False) -> Tensor:
        """A weight as the few bits say it, in float32.

        Args:
            plain: rounded to the nearest, so that zeros stay zeros.
        """
        weight = self.model.get_parameter(name).detach()
        if bits not in INTEGERS:
            return weight.bfloat16().to(weight.dtype) if bits == 16 else weight
        calibrated = not plain and self._calibrates(name, bits)
        key = (name, bits) if calibrated else (f"{name} to the nearest", bits)
        if key not in self._made:
            if calibrated:
                self._calibrate([name], bits)
            else:
                ready = None if self._source is None or plain else self._source.made(name, bits)
                self._made[key] = nearest(weight, bits, self.group) if ready is None else ready
        return self._made[key]

    def _calibrates(self, name: str, bits: int) -> bool:
        return bits in INTEGERS and bits < FINE and name in self._matrices and name not in EMBEDDINGS

    @property
    def count(self) -> int:
        """Tokens that the moments are of."""
        rows, length = self._tokens.shape
        return rows * (length - 1) if self._source is None else self._source.count

    def moments(self, name: str) -> Tensor:
        """The second moments (C, C) of what a matrix is given, of experts (E, C, C), in float64."""
        if self._source is not None:
            return self._source.moments(name)
        if not self._seen:
            self._seen = hessians(self.model, self._tokens, self._matrices)
        return self._seen[name]

    def _given(self, name: str) -> tuple[Inputs | None, ...]:
        if name not in self._inputs:
            seen = self.moments(name)
            each = seen.unbind(0) if self._matrices[name].dim() == 3 else (seen,)
            self._inputs[name] = tuple(Inputs.of(one, self.count) for one in each)
        return self._inputs[name]

    def _calibrate(self, names: Collection[str], bits: int) -> None:
        """Make these matrices at a width; of a small model all, because that takes hardly longer than a few."""
        jobs: list[Job] = []
        places: list[tuple[str, int]] = []
        made: dict[str, list[Tensor]] = {}
        for name in self._matrices if self.small else names:
            if (name, bits) in self._made or not self._calibrates(name, bits):
                continue
            ready = None if self._source is None else self._source.made(name, bits)
            if ready is not None:
                self._made[name, bits] = ready
                continue
            weight = self._matrices[name].detach()
            made[name] = list(weight.unbind(0) if weight.dim() == 3 else (weight,))
            for index, (one, inputs) in enumerate(zip(made[name], self._given(name), strict=True)):
                if inputs is None:  # the text gave it nothing
                    made[name][index] = nearest(one, bits, self.group)
                else:
                    jobs.append(Job(one, inputs, bits))
                    places.append((name, index))
        for (name, index), settled in zip(places, settled_together(jobs, self.group), strict=True):
            made[name][index] = settled.weight(self.group)
        for name, parts in made.items():
            whole = torch.stack(parts) if self._matrices[name].dim() == 3 else parts[0]
            self._made[name, bits] = whole.to(self._matrices[name].dtype)

    def at(self, bits: Bits, plain: Collection[str] = ()) -> Decoder:
        """The decoder with these bits, as in `nas_bo.compress.quantize`.

        Args:
            plain: beginnings of the names of weights that are rounded to the nearest.

        Raises:
            CompressError: bits that there are not, or a layer that there is not.
        """
        with torch.device(self.model.embedding.weight.device):
            made = Decoder(self.model.spec, self.model.vocab_size)
        made.load_state_dict(self.model.state_dict())
        self.put(made, bits, plain)
        for weight in made.parameters():
            weight.data = weight.data.clone()
        return made.eval()

    @torch.no_grad()
    def put(self, made: Decoder, bits: Bits, plain: Collection[str] = ()) -> None:
        """As `at`, into a decoder of that spec that has the weights of this one or of another mixture, for reading only: it gets the
        weights themselves, not copies of them."""
        asked, begin = assigned(self.model, bits), tuple(plain)
        for width in sorted(set(asked.values())):
            exact = [name for name, b in asked.items() if b == width and not (begin and name.startswith(begin))]
            if any(self._calibrates(name, width) and (name, width) not in self._made for name in exact):
                self._calibrate(exact, width)
        places = dict(made.named_parameters())
        for name, width in asked.items():
            places[name].data = self.weight(name, width, name.startswith(begin) if begin else False)
