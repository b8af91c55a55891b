"""ROOM 3, the supernet: one set of weights for every architecture of a space. Names are resolved when first used."""

from nas_bo.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
