"""ROOM 2, the decoder: the vocabulary of blocks, what they cost, how they are built and trained.

Names are resolved when first used, so that writing a search space or counting parameters loads no torch.
"""

from nas_bo.lazy import attach
from nas_bo.model.blocks.table import OURS

_find, __dir__, __all__ = attach(__name__, __file__)


def __getattr__(name: str) -> object:
    """A public name, or the word of a block of your own."""
    if name in OURS and name not in __all__:  # without a word of its own in the vocabulary
        from nas_bo.model import vocabulary

        return getattr(vocabulary, name)
    return _find(name)
