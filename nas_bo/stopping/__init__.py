"""ROOM 11, stopping rules: when an evaluation ends early. Names are resolved when first used."""

from nas_bo.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
