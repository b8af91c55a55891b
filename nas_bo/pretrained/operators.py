"""Other operators in place of attention in a trained model: windowed attention, linear attention, the gated delta rule. Which layers may have
them, and how such a block is made from the trained one. Loads no torch.

After PostNAS (Gu et al. 2025, arXiv 2508.15884) and KL-guided layer selection (arXiv 2512.20569): each block alone takes the place of the
trained one, inherits what weights fit, learns shortly, and what it costs then says in which layers it may be. The blocks are kept
(`nas_bo.pretrained.block_library`), and sub-models are put together from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeAlias

from nas_bo.architecture import Primitive
from nas_bo.errors import ModelError, SpaceError, near
from nas_bo.model.blocks.attention import AttentionSpec
from nas_bo.model.blocks.block import Replaceable, Succeeding
from nas_bo.model.blocks.gated_delta import GatedDeltaSpec
from nas_bo.model.blocks.linear_attention import LinearAttentionSpec
from nas_bo.model.blocks.table import block_of, offered
from nas_bo.model.connections import connected
from nas_bo.model.spec import DecoderSpec
from nas_bo.validated import check_fields, checked, number, whole_number

WINDOW = "window"
KINDS = ("linear_attention", "gated_delta")
OPERATORS = (WINDOW, *KINDS)
"""What `Parts.operators` may name."""

Operator: TypeAlias = AttentionSpec | LinearAttentionSpec | GatedDeltaSpec
"""A block that may take the place of attention, after checking."""

DEFAULT_WINDOW = 128  # tokens, where "window" is asked for without sizes


@dataclass(frozen=True)
class BlockDistillation:
    """How a block learns that takes the place of a trained one, all other weights being as they were.

    It begins with the weights of queries, keys, values and output that fit, and with the output matrix that gives the nearest output on some
    text in the sense of least squares. Then it learns the output of the trained block (as hidden-state alignment in RADLADS: Goldstein et al.
    2025, arXiv 2505.03005), and at last the predictions of the whole model (the Kullback-Leibler divergence at its logits).

    Args:
        tokens: of training text for each block; 0 takes over the weights alone.
        output: the share of them in which it learns the output of the block.
        lr: at a fan-in of 128; it falls linearly to zero.
        batch: sequences per step.
        sequence: tokens of each.
        seed: of the batches, and of weights that the trained block has not.
        folder: where finished blocks are kept; None is "blocks" in the user's cache folder.

    Raises:
        ModelError: a setting is out of range.
    """

    tokens: int = checked(32_768, whole_number(0))
    output: float = checked(0.5, number(at_least=0, at_most=1))
    lr: float = checked(3e-3, number(above=0))
    batch: int = checked(8, whole_number(1))
    sequence: int = checked(128, whole_number(8))
    seed: int = 0
    folder: str | None = None

    def __post_init__(self) -> None:
        check_fields(self, ModelError)

    @property
    def steps(self) -> int:
        return -(-self.tokens // (self.batch * self.sequence))

    def conditions(self) -> dict[str, object]:
        """What a block depends on, JSON-safe."""
        return {name: value for name, value in asdict(self).items() if name != "folder"}


def check_operators(operators: Sequence[str]) -> None:
    """Raise SpaceError for a name that is none of `OPERATORS`."""
    for name in operators:
        if name not in OPERATORS:
            raise SpaceError(
                f"operators={tuple(operators)}: {name!r} cannot take the place of attention{near(name, OPERATORS)}; there are "
                f"{', '.join(OPERATORS)}"
            )


def replaceable(spec: DecoderSpec, index: int) -> bool:
    """Whether another operator can take the place of the mixer of a layer: it is attention whose keys and values no other layer reads."""
    replaced = offered(block_of(spec.layers[index].mixer), Replaceable)
    return replaced is not None and not connected(spec.layers, spec.details)


def replacement(kind: str, trained: object) -> Mapping[str, Primitive]:
    """The fields of a block of that kind with the heads of a trained mixer that is `replaceable`."""
    fields: Mapping[str, Primitive] = offered(block_of(trained), Replaceable).successor(trained)
    return fields


def replacing(small: object, trained: object) -> Operator | None:
    """The whole block that a mixer of a sub-model is, or is a part of, where that is another operator than the trained attention; None where
    it is a part of the trained mixer, or absent."""
    block = offered(block_of(small), Succeeding)
    found: Operator | None = None if block is None else block.succeeds(small, trained)
    return found
