"""A trained model at many mixtures of bits: each matrix is quantized once for each width, and every mixture is put together from these.

GPTQ (see `nas_bo.compress.quantization`) usually calibrates a layer on what the quantized layers before it give, so a mixture would have to be
calibrated as a whole. Here every matrix is calibrated on what the trained model gives it (as in Frantar et al. 2022, arXiv 2210.17323,
before layers are chained), which loses little and makes a setting cost no more than its evaluation. So it stands for what
`nas_bo.compress.quantize` with ``method="gptq"`` gives, or for a little less.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from nas_bo.compress.calibration import EMBEDDINGS, Calibration, Moments, hessians, matrices, windows
from nas_bo.compress.quantization import GROUP, Bits, assigned, one_matrix
from nas_bo.model.decoder import Decoder
from nas_bo.model.packed import INTEGERS

FINE = 8  # bits from which on error feedback changes nothing that can be measured


class Levels:
    """The weights of a trained decoder in few bits, made when they are first asked for.

    Args:
        calibration: a corpus, or windows (B, T + 1) of token ids; looked at when weights of fewer than 8 bits are asked for.
        group: columns that share a scale.

    Raises:
        CompressError: the calibration is too short, or has other tokens.
    """

    def __init__(self, model: Decoder, calibration: Calibration, group: int = GROUP) -> None:
        self.model, self.group = model, group
        self._tokens = windows(model, calibration, "Levels")
        self._matrices = matrices(model)
        self._moments: Moments = {}
        self._made: dict[tuple[str, int], Tensor] = {}

    def weight(self, name: str, bits: int, plain: bool = False) -> Tensor:
        """A weight as the few bits say it, in float32.

        Args:
            plain: rounded to the nearest, so that zeros stay zeros.
        """
        weight = self.model.get_parameter(name).detach()
        if bits not in INTEGERS:
            return weight.bfloat16().to(weight.dtype) if bits == 16 else weight
        seen = None
        if not plain and bits < FINE and name in self._matrices and name not in EMBEDDINGS:
            if not self._moments:
                self._moments = hessians(self.model, self._tokens, self._matrices)
            seen = self._moments[name]
        key = (name, bits) if seen is not None else (f"{name} to the nearest", bits)
        if key not in self._made:
            self._made[key] = one_matrix(weight, bits, self.group, seen)
        return self._made[key]

    @torch.no_grad()
    def at(self, bits: Bits, plain: Collection[str] = ()) -> Decoder:
        """The decoder with these bits, as in `nas_bo.compress.quantize`.

        Args:
            plain: beginnings of the names of weights that are rounded to the nearest.

        Raises:
            CompressError: bits that there are not, or a layer that there is not.
        """
        with torch.device(self.model.embedding.weight.device):
            made = Decoder(self.model.spec, self.model.vocab_size)
        weights: Mapping[str, Tensor] = self.model.state_dict()
        asked = assigned(self.model, bits)
        begin = tuple(plain)
        made.load_state_dict(
            {
                name: self.weight(name, asked[name], name.startswith(begin) if begin else False)
                if name in asked
                else weight
                for name, weight in weights.items()
            }
        )
        return made.eval()


__all__ = ["Levels"]
