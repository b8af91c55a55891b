"""A table of measured blocks: every distinct layer is timed once, a model is their sum (Cai, Zhu and Han, 2019,
"ProxylessNAS", arXiv 1812.00332, appendix B; Wu et al., 2019, "FBNet", arXiv 1812.03443, section 3.3).

A block is timed inside the smallest model that holds it: a model without layers is the fixed frame (embedding, last
norm, head), one of `COPIES` equal layers minus the frame is that many layers. The table holds for the minute in which it was measured;
`fit` corrects its scale and the fixed overhead from a few whole models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from nas_bo.errors import ObjectiveError
from nas_bo.hardware.latency.calibration import checked_times
from nas_bo.hardware.latency.weighted_sum import WeightedSum
from nas_bo.hardware.workload import EMPTY, Part, Setting, as_timed, parts
from nas_bo.model.blocks.table import block_of
from nas_bo.model.connections import borrowing, plain
from nas_bo.model.counts import Arch
from nas_bo.model.spec import DecoderSpec, LayerSpec

COPIES = 2  # of a layer in the model that times it
LEAST_SHARE = 0.01  # of its model that a layer takes at least, whatever the noise of the difference says

Timer = Callable[[Sequence[DecoderSpec]], Sequence[float]]
"""Milliseconds of models; all at once, so that they can be measured interleaved. `nas_bo.model.build` builds them."""


class Lookup(WeightedSum):
    """Predicts milliseconds as a sum over a table of measured parts.

    Args:
        table: milliseconds of each part, at least 0.
        setting: in which they were measured.

    Raises:
        ObjectiveError: a time is not a finite number of at least 0.
    """

    how = "lookup"

    def __init__(
        self,
        table: Mapping[Part, float],
        setting: Setting,
        *,
        device: str = "",
        runtime: str = "",
        level: float = 0.9,
    ) -> None:
        for part, milliseconds in table.items():
            if not 0 <= milliseconds < float("inf"):
                raise ObjectiveError(
                    f"the table has {milliseconds!r} ms for {_said(part)}; every time must be a finite number of at least 0"
                )
        self.table, self.setting, self.device, self.runtime, self.level = dict(table), setting, device, runtime, level
        super().__init__((1.0, 0.0), timed=True)

    @classmethod
    def build(
        cls,
        architectures: Iterable[Arch],
        setting: Setting,
        timer: Timer,
        *,
        device: str = "",
        runtime: str = "",
        level: float = 0.9,
    ) -> Lookup:
        """Time every distinct layer of the architectures once, and the frames that they are in.

        Raises:
            ObjectiveError: the timer gives something else than one finite time above 0 for each model.
            ModelError: an architecture cannot be built.
        """
        wanted = list(dict.fromkeys(part for arch in architectures for part in parts(as_timed(arch, setting))))
        models = list(dict.fromkeys(model for part in wanted for model in _timed(part)))
        times = dict(zip(models, checked_times(list(timer(models)), len(models)), strict=True))
        table = {}
        for part in wanted:
            with_it, *without = _timed(part)
            each = (times[with_it] - times[without[0]]) / COPIES if without else times[with_it]
            table[part] = float(max(each, LEAST_SHARE * times[with_it]))
        return cls(table, setting, device=device, runtime=runtime, level=level)

    @property
    def fitted(self) -> dict[str, float]:
        """The two numbers: `scale` and `fixed_ms`."""
        return dict(zip(("scale", "fixed_ms"), self.calibration.weights, strict=True))

    def _row(self, part: Part) -> list[float]:
        if part not in self.table:
            raise ObjectiveError(
                f"the table of {len(self.table)} measured parts has no {_said(part)}; build it from architectures that have "
                "this layer, or use a learned model, which needs no table"
            )
        return [self.table[part]]

    def _again(self) -> Lookup:
        return Lookup(self.table, self.setting, device=self.device, runtime=self.runtime, level=self.level)


def _timed(part: Part) -> list[DecoderSpec]:
    """A model with the part, and one without it: what there are `COPIES` less of."""
    if part.layer is None:
        return [_model(part, ())]
    if part.finer is not None and part.finer.long_skips:
        layers = (EMPTY,) * (2 * COPIES + 1)
        return [_model(part, layers), _model(part._replace(finer=plain(part.finer)), layers)]
    before: tuple[LayerSpec, ...] = ()
    if borrowing(part.layer.mixer):
        lender = block_of(part.layer.mixer).lender(part.layer.mixer)  # type: ignore[attr-defined]
        before = (part.layer._replace(mixer=lender),)
    return [_model(part, before + (part.layer,) * COPIES), _model(part, before)]


def _model(part: Part, layers: tuple[LayerSpec, ...]) -> DecoderSpec:
    return DecoderSpec(part.width, layers, *part[2:-1])


def _said(part: Part) -> str:
    if part.layer is None:
        return f"frame of width {part.width}"
    if part.finer is not None and part.finer.long_skips:
        return f"long skip of width {part.width}"
    return f"layer {tuple(part.layer.mixer)} with {tuple(part.layer.mlp)} at width {part.width}"
